//! `@type multiline`: which lines belong together, and the regexp over the joined text.
//!
//! For the source that drives it: [`Parser::joining`] is `Some` for this parser only. Keep one [`Joiner`] per file and feed it
//! every raw line, its newline included, in order. After each [`Joiner::push`]:
//!
//! * [`Joined::Complete`] carries a text for [`Parser::parse`] (inner newlines kept, the last one removed). It covers everything
//!   before the lines that are held now.
//! * [`Joined::Held`]: nothing to parse yet.
//! * [`Joined::Stray`]: the line came before any first line; it is not held. Fluentd warns, and emits it as unmatched if asked to.
//!
//! Position: the file offset behind the pushed line minus [`Joiner::held_bytes`] is where the held text begins; a position must
//! never pass it. `multiline_flush_interval` is the source's clock: when it is over, and at the end of a file or of the run,
//! call [`Joiner::flush`] and parse what it gives. What is held is bounded: a text that reaches the bound is given out as it is.

use crate::config::{Element, Result};
use crate::event::{Entries, EventTime};

use super::common::Common;
use super::regexp::{Flags, Pattern, RegexpParser};
use super::{Extra, Parsed, Parser, Partly};

/// What may be held while a first line is awaited.
const HELD_BYTES: usize = 8 << 20;

/// What may be held where the whole regexp is tried after each line.
const TRIED_BYTES: usize = 256 << 10;

/// The highest number of a `formatN`.
pub const FORMATS: usize = 20;

/// When lines are a complete text.
#[derive(Debug)]
pub struct Joining {
    when: When,
    bound: usize,
}

#[derive(Debug)]
enum When {
    /// A line that matches begins a new text.
    FirstLine(Pattern),
    /// A text is complete as soon as it matches.
    Match(Pattern),
}

impl Joining {
    /// Whether this raw line begins a new text. Always false without `format_firstline`.
    pub fn begins(&self, line: &[u8]) -> bool {
        match &self.when {
            When::FirstLine(pattern) => pattern.is_match(line),
            When::Match(_) => false,
        }
    }

    /// Whether only a first line ends the text before it.
    pub fn needs_first_line(&self) -> bool {
        matches!(self.when, When::FirstLine(_))
    }

    fn completes(&self, text: &[u8]) -> bool {
        match &self.when {
            When::FirstLine(_) => false,
            When::Match(pattern) => pattern.is_match(text),
        }
    }
}

/// What a pushed line led to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Joined {
    /// It is held until the text is complete.
    Held,
    /// A text is complete. With a first-line pattern it is the text before the pushed line, which is held.
    Complete(Vec<u8>),
    /// It belongs to no text: no first line was seen yet.
    Stray,
}

/// The lines of one file that are held. Pure: the caller owns clock and file.
#[derive(Debug, Default)]
pub struct Joiner {
    held: Vec<u8>,
}

impl Joiner {
    /// Nothing held yet.
    pub fn new() -> Joiner {
        Joiner::default()
    }

    /// Takes the next raw line of the file, with its newline.
    pub fn push(&mut self, line: &[u8], joining: &Joining) -> Joined {
        let begins = joining.begins(line);
        if joining.needs_first_line() && self.held.is_empty() && !begins {
            return Joined::Stray;
        }
        let full = !self.held.is_empty() && self.held.len() + line.len() > joining.bound;
        let before = if begins || full { self.flush() } else { None };
        self.held.extend_from_slice(line);
        if let Some(text) = before {
            return Joined::Complete(text);
        }
        if joining.completes(chomp(&self.held)) {
            return self.flush().map_or(Joined::Held, Joined::Complete);
        }
        Joined::Held
    }

    /// Gives out what is held, complete or not.
    pub fn flush(&mut self) -> Option<Vec<u8>> {
        if self.held.is_empty() {
            return None;
        }
        let mut text = std::mem::take(&mut self.held);
        text.truncate(chomp(&text).len());
        Some(text)
    }

    /// How many raw bytes of the file are held.
    pub fn held_bytes(&self) -> usize {
        self.held.len()
    }
}

fn chomp(text: &[u8]) -> &[u8] {
    let text = text.strip_suffix(b"\n").unwrap_or(text);
    text.strip_suffix(b"\r").unwrap_or(text)
}

/// Parses joined texts.
#[derive(Debug)]
pub struct MultilineParser {
    parser: RegexpParser,
    joining: Joining,
}

/// Reads a `<parse>` section with `@type multiline`.
pub fn configure(section: &Element) -> Result<Box<dyn Parser>> {
    configured(section, Flags::default())
}

/// The same for texts that are UTF-8.
pub fn configure_text(section: &Element) -> Result<Box<dyn Parser>> {
    let characters = true;
    configured(
        section,
        Flags {
            characters,
            ..Flags::default()
        },
    )
}

fn configured(section: &Element, flags: Flags) -> Result<Box<dyn Parser>> {
    let common = Common::read(section)?;
    let formats = formats(section)?;
    let first_line = section.get("format_firstline");
    let parser = MultilineParser::new(section, &common, &formats, first_line, flags)?;
    Ok(Box::new(parser))
}

/// The bodies of `format1`, `format2`, …: without gap, each between slashes.
fn formats(section: &Element) -> Result<Vec<String>> {
    let mut bodies = Vec::new();
    for number in 1..=FORMATS {
        let key = format!("format{number}");
        let Some(text) = section.get(&key) else {
            continue;
        };
        if bodies.len() + 1 != number {
            let message = format!(
                "Jump of format index found: format{} is missing",
                bodies.len() + 1
            );
            return Err(section.error_at(&key, message).into());
        }
        match slashed(text) {
            Some(body) => bodies.push(body.to_owned()),
            None => {
                return Err(section
                    .error_at(&key, "Invalid regexp: write it as /.../ without flags")
                    .into());
            }
        }
    }
    for number in [0].into_iter().chain(FORMATS + 1..100) {
        let key = format!("format{number}");
        if section.has(&key) {
            let message = format!("Invalid formatN found: N should be 1 - {FORMATS}");
            return Err(section.error_at(&key, message).into());
        }
    }
    Ok(bodies)
}

fn slashed(text: &str) -> Option<&str> {
    text.strip_prefix('/')?.strip_suffix('/')
}

impl MultilineParser {
    fn new(
        section: &Element,
        common: &Common,
        formats: &[String],
        first_line: Option<&str>,
        flags: Flags,
    ) -> Result<MultilineParser> {
        if formats.is_empty() {
            return Err(section
                .error_at("format1", "'format1' parameter is required")
                .into());
        }
        let whole = || {
            let multi_line = true;
            let flags = Flags {
                multi_line,
                ..flags
            };
            Pattern::compile(&formats.concat(), flags)
                .map_err(|error| section.error_at("format1", error.to_string()))
        };
        let (when, bound) = match first_line {
            Some(text) => {
                let wrong = || {
                    section.error_at(
                        "format_firstline",
                        "Invalid regexp: write it as /.../ without flags",
                    )
                };
                let body = slashed(text).ok_or_else(wrong)?;
                let pattern = Pattern::compile(body, flags)
                    .map_err(|error| section.error_at("format_firstline", error.to_string()))?;
                (When::FirstLine(pattern), HELD_BYTES)
            }
            None => (When::Match(whole()?), TRIED_BYTES),
        };
        Ok(MultilineParser {
            parser: RegexpParser::of(section, common, whole()?, "format1")?,
            joining: Joining { when, bound },
        })
    }
}

impl Parser for MultilineParser {
    /// One text can give several records: what is behind a match is parsed again.
    fn parse(
        &mut self,
        text: &[u8],
        now: EventTime,
        extra: Extra<'_>,
        batch: &mut Entries,
    ) -> Parsed {
        let mut rest = text;
        let mut events = 0;
        loop {
            let (parsed, end) = self.parser.parse_first(rest, now, extra, batch);
            match parsed {
                Parsed::Events(count) => events += count,
                other if events == 0 => return other,
                other => {
                    let invalid = match other {
                        Parsed::Invalid(reason) => Some(reason),
                        _ => None,
                    };
                    return Parsed::Partly(Partly {
                        events,
                        unmatched: usize::from(invalid.is_none()),
                        from: text.len() - rest.len(),
                        invalid,
                    });
                }
            }
            rest = &rest[end..];
            rest = rest.strip_prefix(b"\n").unwrap_or(rest);
            if rest.is_empty() || end == 0 {
                return Parsed::Events(events);
            }
        }
    }

    fn joining(&self) -> Option<&Joining> {
        Some(&self.joining)
    }
}

#[cfg(test)]
#[path = "multiline_tests.rs"]
mod tests;
