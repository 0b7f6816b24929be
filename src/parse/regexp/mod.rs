//! Ruby's regexps over bytes or characters, and the `regexp` parser that is made of one.
//!
//! An expression is translated (`translate.rs`) and run by PCRE2 with its JIT. Where PCRE2 has no words for it, or gives up on
//! a text (match or stack limit), fancy-regex takes over, compiled on first need. Both have a step limit, so that no text can
//! hold a thread: Fluentd's `timeout` watcher is not needed.

mod class;
mod parser;
mod property;
mod translate;

use std::ops::Range;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};

use pcre2::bytes::{CaptureLocations, Regex, RegexBuilder};

pub use parser::{RegexpParser, configure, configure_text, parser_of};
use property::Unit;
use translate::{Problem, Translated, translate};

use crate::event::Label;

/// What an engine may do for one text before it gives up.
const MATCH_LIMIT: usize = 1_000_000;

/// PCRE2's own default of 32 KiB fails on a user agent of 10 KB.
const JIT_STACK: usize = 1 << 20;

/// The options behind the last slash.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Flags {
    /// `i`: case does not matter (ASCII).
    pub ignore_case: bool,
    /// Ruby's `m`: the dot matches a newline.
    pub multi_line: bool,
    /// Texts are known to be UTF-8: the dot is a character. One that is not valid is matched as bytes, where Ruby raises.
    pub characters: bool,
}

impl Flags {
    fn unit(self) -> Unit {
        if self.characters {
            Unit::Characters
        } else {
            Unit::Bytes
        }
    }
}

/// Why an expression is refused, and where in it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("invalid regular expression: {message}: at character {}: /{before}<-- HERE --{after}/", .before.chars().count() + 1)]
pub struct PatternError {
    /// What is wrong.
    pub message: String,
    /// The expression up to the wrong place.
    pub before: String,
    /// The expression from there on.
    pub after: String,
}

impl PatternError {
    fn at(source: &str, at: usize, message: impl Into<String>) -> PatternError {
        let at = source.floor_char_boundary(at);
        PatternError {
            message: message.into(),
            before: source[..at].to_owned(),
            after: source[at..].to_owned(),
        }
    }
}

/// A compiled regexp. Sharing it between threads is allowed; each thread brings its own [`Captures`].
#[derive(Debug)]
pub struct Pattern {
    source: String,
    flags: Flags,
    names: Vec<GroupName>,
    engine: Option<Regex>,
    fallback: OnceLock<Option<fancy_regex::Regex>>,
    /// The same for bytes, where this one is for characters.
    bytes: Option<Box<Pattern>>,
}

/// A name and the groups that carry it.
#[derive(Clone, Debug)]
struct GroupName {
    name: String,
    groups: Vec<usize>,
}

/// Where a match and its named groups lie. Reused from text to text: matching allocates nothing.
#[derive(Debug, Default)]
pub struct Captures {
    locations: Option<CaptureLocations>,
    whole: Range<usize>,
    named: Vec<Option<Range<usize>>>,
    /// Those of a text that is not valid.
    bytes: Option<Box<Captures>>,
}

impl Captures {
    /// The range of the whole match.
    pub fn whole(&self) -> Range<usize> {
        self.whole.clone()
    }

    /// The range of a named group, by its place in [`Pattern::names`]; `None` where it took no part. Of groups with the same name
    /// the last one that took part counts.
    pub fn get(&self, name: usize) -> Option<Range<usize>> {
        self.named.get(name).cloned().flatten()
    }
}

impl Pattern {
    /// Compiles the body of a Ruby regexp.
    pub fn compile(source: &str, flags: Flags) -> Result<Pattern, PatternError> {
        let mut pattern = match translate(source, flags.unit()) {
            Ok(translated) => {
                let compiled = Pattern::of_translated(source, flags, &translated);
                // Of Unicode's names, each engine knows some that the other does not.
                let other = || Pattern::of_foreign(source, flags, 0, "a name").ok();
                compiled.or_else(|error| other().filter(|_| flags.characters).ok_or(error))
            }
            Err(Problem::Wrong(at, message)) => Err(PatternError::at(source, at, message)),
            Err(Problem::Foreign(at, what)) => Pattern::of_foreign(source, flags, at, what),
        }?;
        if flags.characters {
            let flags = Flags {
                characters: false,
                ..flags
            };
            pattern.bytes = Pattern::compile(source, flags).ok().map(Box::new);
        }
        Ok(pattern)
    }

    /// Whether the text is none of this pattern's.
    fn is_invalid(&self, text: &[u8]) -> bool {
        self.flags.characters && std::str::from_utf8(text).is_err()
    }

    /// Compiles a regexp value of a configuration: `/body/flags`, or a body alone. As Fluentd reads it: at most two characters
    /// may follow the last slash, and unknown ones are ignored.
    pub fn from_config(value: &str) -> Result<Pattern, PatternError> {
        Pattern::from_config_for(value, Label::Bytes)
    }

    /// The same for texts of this label.
    pub fn from_config_for(value: &str, label: Label) -> Result<Pattern, PatternError> {
        let (body, flags) = split_config(value)?;
        let characters = label == Label::Text;
        Pattern::compile(
            body,
            Flags {
                characters,
                ..flags
            },
        )
    }

    /// The body as written.
    pub fn as_str(&self) -> &str {
        &self.source
    }

    /// The names of the groups, each once, in the order of their first appearance.
    pub fn names(&self) -> impl ExactSizeIterator<Item = &str> {
        self.names.iter().map(|group| group.name.as_str())
    }

    /// Whether the regexp matches anywhere in the text. A text on which both engines give up does not match.
    pub fn is_match(&self, text: &[u8]) -> bool {
        if self.is_invalid(text) {
            return self
                .bytes
                .as_ref()
                .is_some_and(|bytes| bytes.is_match(text));
        }
        if let Some(engine) = &self.engine
            && let Ok(found) = engine.is_match(text)
        {
            return found;
        }
        self.fallback()
            .is_some_and(|regex| regex.is_match(text).unwrap_or(false))
    }

    /// Searches the text and notes where the groups lie. A text on which both engines give up does not match.
    pub fn captures(&self, text: &[u8], captures: &mut Captures) -> bool {
        captures.named.clear();
        if self.is_invalid(text) {
            return self.captures_of_bytes(text, captures);
        }
        let Some(engine) = &self.engine else {
            return self.fallback_captures(text, captures);
        };
        let locations = captures
            .locations
            .get_or_insert_with(|| engine.capture_locations());
        match engine.captures_read(locations, text) {
            Ok(None) => false,
            Ok(Some(whole)) => {
                captures.whole = whole.start()..whole.end();
                for group in &self.names {
                    let last = group.groups.iter().rev().find_map(|at| locations.get(*at));
                    captures.named.push(last.map(|(start, end)| start..end));
                }
                true
            }
            Err(_) => self.fallback_captures(text, captures),
        }
    }

    fn captures_of_bytes(&self, text: &[u8], captures: &mut Captures) -> bool {
        let Some(pattern) = &self.bytes else {
            return false;
        };
        let mut found = captures.bytes.take().unwrap_or_default();
        let matched = pattern.captures(text, &mut found);
        captures.whole = found.whole.clone();
        captures.named.clone_from(&found.named);
        captures.bytes = Some(found);
        matched
    }

    fn fallback_captures(&self, text: &[u8], captures: &mut Captures) -> bool {
        let Some(Ok(Some(found))) = self.fallback().map(|regex| regex.captures(text)) else {
            return false;
        };
        if let Some(whole) = found.get(0) {
            captures.whole = whole.start()..whole.end();
        }
        for group in &self.names {
            let groups = group.groups.iter().rev();
            let last = groups.filter_map(|at| found.get(*at)).next();
            captures
                .named
                .push(last.map(|found| found.start()..found.end()));
        }
        true
    }

    fn of_translated(
        source: &str,
        flags: Flags,
        translated: &Translated,
    ) -> Result<Pattern, PatternError> {
        let head = format!("(*LF)(*LIMIT_MATCH={MATCH_LIMIT})");
        let engine = build(&format!("{head}{}", translated.text), flags).map_err(|error| {
            let at = error.offset().unwrap_or(0).saturating_sub(head.len());
            let message = error.to_string();
            let message = message.rsplit(": ").next().unwrap_or_default();
            PatternError::at(source, translated.original_position(at), message)
        })?;
        Ok(Pattern {
            source: source.to_owned(),
            flags,
            names: grouped(translated.groups.iter().map(Option::as_deref)),
            engine: Some(engine),
            fallback: OnceLock::new(),
            bytes: None,
        })
    }

    /// An expression that only fancy-regex can run.
    fn of_foreign(
        source: &str,
        flags: Flags,
        at: usize,
        what: &str,
    ) -> Result<Pattern, PatternError> {
        let regex = build_fallback(source, flags).map_err(|error| {
            PatternError::at(
                source,
                at,
                format!("{what} is not supported here ({error})"),
            )
        })?;
        let names = grouped(regex.capture_names().skip(1));
        Ok(Pattern {
            source: source.to_owned(),
            flags,
            names,
            engine: None,
            fallback: OnceLock::from(Some(regex)),
            bytes: None,
        })
    }

    fn fallback(&self) -> Option<&fancy_regex::Regex> {
        let built = self.fallback.get_or_init(|| {
            let regex = build_fallback(&self.source, self.flags).ok()?;
            // The groups must be the same ones, or the names would be mixed up.
            let names = grouped(regex.capture_names().skip(1));
            let same = names.len() == self.names.len()
                && names
                    .iter()
                    .zip(&self.names)
                    .all(|(a, b)| a.name == b.name && a.groups == b.groups);
            same.then_some(regex)
        });
        built.as_ref()
    }
}

/// Body and flags of a regexp value.
fn split_config(value: &str) -> Result<(&str, Flags), PatternError> {
    if !value.starts_with('/') {
        return Ok((value, Flags::default()));
    }
    // The last slash may be the first one: `/x` is an empty body with a flag, which matches everything.
    let (head, flags) = value.rsplit_once('/').unwrap_or_default();
    let body = head.strip_prefix('/').unwrap_or_default();
    if flags.chars().count() > 2 {
        return Err(PatternError::at(value, value.len(), "missing right slash"));
    }
    let flags = Flags {
        ignore_case: flags.contains('i'),
        multi_line: flags.contains('m'),
        characters: false,
    };
    Ok((body, flags))
}

/// Each name with its groups; group numbers begin at 1.
fn grouped<'n>(groups: impl Iterator<Item = Option<&'n str>>) -> Vec<GroupName> {
    let mut names: Vec<GroupName> = Vec::new();
    for (number, name) in (1..).zip(groups) {
        let Some(name) = name else { continue };
        match names.iter_mut().find(|group| group.name == name) {
            Some(group) => group.groups.push(number),
            None => names.push(GroupName {
                name: name.to_owned(),
                groups: vec![number],
            }),
        }
    }
    names
}

fn build(pattern: &str, flags: Flags) -> Result<Regex, pcre2::Error> {
    static WARNED: AtomicBool = AtomicBool::new(false);
    let mut builder = RegexBuilder::new();
    builder
        .multi_line(true)
        .dotall(flags.multi_line)
        .caseless(flags.ignore_case)
        .utf(flags.characters)
        .jit(true)
        .max_jit_stack_size(Some(JIT_STACK));
    let refused = match builder.build(pattern) {
        Err(error) if matches!(error.kind(), pcre2::ErrorKind::JIT) => error,
        built => return built,
    };
    if !WARNED.swap(true, Ordering::Relaxed) {
        tracing::warn!(error = %refused, "the system refuses compiled regexps, matching goes on more slowly (is MemoryDenyWriteExecute set in the unit?)");
    }
    builder.jit(false).max_jit_stack_size(None).build(pattern)
}

fn build_fallback(source: &str, flags: Flags) -> Result<fancy_regex::Regex, fancy_regex::Error> {
    fancy_regex::RegexBuilder::new(source)
        .oniguruma_mode(true)
        .bytes_mode(if flags.characters {
            fancy_regex::BytesMode::Unicode
        } else {
            fancy_regex::BytesMode::Ascii
        })
        .ignore_numbered_groups_when_named_groups_exist(true)
        .multi_line(true)
        .dot_matches_new_line(flags.multi_line)
        .case_insensitive(flags.ignore_case)
        .backtrack_limit(MATCH_LIMIT)
        .build()
}

#[cfg(test)]
mod tests;
