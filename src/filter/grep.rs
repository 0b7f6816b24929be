//! filter_grep: keeps or drops records by what their fields match.
//!
//! Whatever stands in the file is gathered into four groups, as in Fluentd: all `and` patterns must match, one of the `or`
//! patterns must, a record goes if all `and` exclusions match or any `or` exclusion does. Top-level `<regexp>`s belong to the
//! first group, top-level `<exclude>`s to the last.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::Bytes;
use serde::Deserialize;
use tracing::{debug, warn};

use super::{Filter, Filtered};
use crate::config::types::Regexp;
use crate::config::{ConfigErrors, Element, Result};
use crate::event::accessor::{Accessor, Found};
use crate::event::msgpack::entries;
use crate::event::{Tag, text};
use crate::parse::regexp::{Flags, Pattern};

/// The highest N of the old `regexpN` and `excludeN`.
const OLD_PARAMETERS: usize = 20;

/// The parameters of `<regexp>` and `<exclude>`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
struct RuleParams {
    /// The field: a name, or `$.a.b`.
    key: Option<String>,
    /// What its text has to match.
    pattern: Option<Regexp>,
}

#[derive(Debug)]
struct Rule {
    key: Accessor,
    pattern: Pattern,
}

/// The filter.
#[derive(Debug, Default)]
pub struct Grep {
    and_regexps: Vec<Rule>,
    or_regexps: Vec<Rule>,
    and_excludes: Vec<Rule>,
    or_excludes: Vec<Rule>,
    warned: AtomicBool,
}

/// Reads a `<filter>` section of type grep.
pub fn configure(section: &Element) -> Result<Box<dyn Filter>> {
    let mut errors = ConfigErrors::new();
    let mut grep = Grep::default();
    let add = |group: &mut Vec<Rule>, rules: Result<Vec<Rule>>, errors: &mut ConfigErrors| {
        group.extend(errors.collect(rules).into_iter().flatten());
    };
    add(
        &mut grep.and_regexps,
        old_rules(section, "regexp"),
        &mut errors,
    );
    add(
        &mut grep.or_excludes,
        old_rules(section, "exclude"),
        &mut errors,
    );
    add(&mut grep.and_regexps, rules(section, "regexp"), &mut errors);
    add(
        &mut grep.or_excludes,
        rules(section, "exclude"),
        &mut errors,
    );
    for (name, regexps, excludes) in [
        ("and", &mut grep.and_regexps, &mut grep.and_excludes),
        ("or", &mut grep.or_regexps, &mut grep.or_excludes),
    ] {
        for group in section.sections(name) {
            let both = ["regexp", "exclude"].map(|name| group.sections(name).count());
            match both {
                [0, 0] => errors
                    .push(group.error(format!("<{name}> needs <regexp> or <exclude> sections"))),
                [regexps, excludes] if regexps > 0 && excludes > 0 => errors.push(group.error(
                    format!("<{name}> holds either <regexp> or <exclude> sections, not both"),
                )),
                _ => {}
            }
            add(regexps, rules(group, "regexp"), &mut errors);
            add(excludes, rules(group, "exclude"), &mut errors);
        }
    }
    for group in [
        &grep.and_regexps,
        &grep.or_regexps,
        &grep.and_excludes,
        &grep.or_excludes,
    ] {
        refuse_repeated_keys(section, group, &mut errors);
    }
    errors.into_result()?;
    Ok(Box::new(grep))
}

fn rules(section: &Element, name: &str) -> Result<Vec<Rule>> {
    let mut errors = ConfigErrors::new();
    let mut rules = Vec::new();
    for rule in section.sections(name) {
        rules.extend(errors.collect(read_rule(rule)));
    }
    errors.into_result()?;
    Ok(rules)
}

fn read_rule(section: &Element) -> Result<Rule> {
    let params: RuleParams = section.params()?;
    let key = params.key.ok_or_else(|| section.missing("key"))?;
    let pattern = params.pattern.ok_or_else(|| section.missing("pattern"))?;
    Ok(Rule {
        key: Accessor::parse(&key).map_err(|why| section.error_at("key", why))?,
        pattern: compile(&pattern).map_err(|why| section.error_at("pattern", why))?,
    })
}

/// `regexp1 key pattern`, where slashes around the pattern are part of it.
fn old_rules(section: &Element, name: &str) -> Result<Vec<Rule>> {
    let mut errors = ConfigErrors::new();
    let mut rules = Vec::new();
    for n in 1..=OLD_PARAMETERS {
        let parameter = format!("{name}{n}");
        let Some(value) = section.get(&parameter) else {
            continue;
        };
        section.warn_at(
            &parameter,
            format!("'{parameter}' is deprecated: use <{name}>"),
        );
        let (key, pattern) = value.split_once(char::is_whitespace).unwrap_or((value, ""));
        let pattern = pattern.trim_start();
        if pattern.is_empty() {
            errors.push(section.error_at(
                &parameter,
                format!("{parameter} does not contain 2 parameters: key and pattern"),
            ));
            continue;
        }
        let rule = Pattern::compile(pattern, Flags::default())
            .map_err(|error| error.to_string())
            .and_then(|pattern| {
                Ok(Rule {
                    key: Accessor::parse(key)?,
                    pattern,
                })
            });
        rules.extend(errors.collect(rule.map_err(|why| section.error_at(&parameter, why).into())));
    }
    errors.into_result()?;
    Ok(rules)
}

fn refuse_repeated_keys(section: &Element, group: &[Rule], errors: &mut ConfigErrors) {
    let mut seen = BTreeSet::new();
    for rule in group {
        let name = rule.key.to_string();
        if !seen.insert(name.clone()) {
            errors.push(section.error(format!(
                "the key '{name}' stands twice in one group of patterns"
            )));
        }
    }
}

impl Grep {
    fn keeps(&self, record: &[u8], scratch: &mut Vec<u8>) -> std::result::Result<bool, ()> {
        let mut matches = |rule: &Rule| rule.matches(record, scratch);
        for rule in &self.and_regexps {
            if !matches(rule)? {
                return Ok(false);
            }
        }
        if !self.or_regexps.is_empty() && !any(&self.or_regexps, &mut matches)? {
            return Ok(false);
        }
        if !self.and_excludes.is_empty() && all(&self.and_excludes, &mut matches)? {
            return Ok(false);
        }
        Ok(!any(&self.or_excludes, &mut matches)?)
    }
}

type Verdict = std::result::Result<bool, ()>;

fn any(rules: &[Rule], matches: &mut impl FnMut(&Rule) -> Verdict) -> Verdict {
    for rule in rules {
        if matches(rule)? {
            return Ok(true);
        }
    }
    Ok(false)
}

fn all(rules: &[Rule], matches: &mut impl FnMut(&Rule) -> Verdict) -> Verdict {
    any(rules, &mut |rule| matches(rule).map(|matched| !matched)).map(|some_did_not| !some_did_not)
}

impl Rule {
    /// Whether the field's text matches; an error where the path leads through a scalar.
    fn matches(&self, record: &[u8], scratch: &mut Vec<u8>) -> Verdict {
        scratch.clear();
        match self.key.find(record) {
            Found::Value(value) => text::append(value, scratch),
            Found::Missing => {}
            Found::NoParts => return Err(()),
        }
        Ok(is_match(&self.pattern, scratch))
    }
}

fn compile(regexp: &Regexp) -> std::result::Result<Pattern, String> {
    let flags = Flags {
        ignore_case: regexp.flags.contains('i'),
        multi_line: regexp.flags.contains('m'),
        ..Flags::default()
    };
    Pattern::compile(&regexp.source, flags).map_err(|error| error.to_string())
}

/// Whether the pattern matches anywhere. As in Fluentd, bytes that are not UTF-8 count as `?`.
fn is_match(pattern: &Pattern, text: &[u8]) -> bool {
    if std::str::from_utf8(text).is_ok() {
        return pattern.is_match(text);
    }
    let scrubbed = String::from_utf8_lossy(text).replace('\u{fffd}', "?");
    pattern.is_match(scrubbed.as_bytes())
}

impl Filter for Grep {
    fn apply(&self, tag: &Tag, batch: Bytes, count: usize) -> Filtered {
        let mut scratch = Vec::new();
        let mut kept = Vec::new();
        let (mut kept_count, mut seen, mut at, mut run) = (0, 0, 0, 0);
        for entry in entries(&batch).map_while(std::result::Result::ok) {
            let keep = self.keeps(entry.record, &mut scratch).unwrap_or_else(|()| {
                // As in Fluentd: what cannot be judged is kept.
                if !self.warned.swap(true, Ordering::Relaxed) {
                    warn!(%tag, "failed to grep events: a key leads through a value that has no fields, such records are kept");
                }
                debug!(%tag, "failed to grep an event");
                true
            });
            if !keep {
                kept.extend_from_slice(&batch[run..at]);
                run = at + entry.bytes.len();
            }
            kept_count += usize::from(keep);
            seen += 1;
            at += entry.bytes.len();
        }
        // Entries that cannot be read (none of ours) are left for the receiver to judge.
        let unread = count.saturating_sub(seen);
        let entries = if run == 0 {
            batch
        } else {
            kept.extend_from_slice(&batch[run..]);
            Bytes::from(kept)
        };
        Filtered {
            entries,
            count: kept_count + unread,
        }
    }
}

#[cfg(test)]
#[path = "grep_tests.rs"]
mod tests;
