//! `<group>`: how many lines the files of a group may give in a period.
//!
//! A path belongs to the group of the first rule that its captures match, the more specific rules first; a group's limit is shared
//! out evenly among its paths. Pure: whoever asks brings the time, and keeps the lines in the file when the answer is to wait.

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde::Deserialize;

use crate::config::types::{Regexp, Time};
use crate::config::{ConfigErrors, Element, Result};
use crate::parse::regexp::{Captures, Flags, Pattern};

/// The names of container logs in Kubernetes.
const KUBERNETES: &str = r"^/var/log/containers/(?<podname>[a-z0-9](?:[-a-z0-9]*[a-z0-9])?(?:/[a-z0-9](?:[-a-z0-9]*[a-z0-9])?)*)_(?<namespace>[^_]+)_(?<container>.+)-(?<docker_id>[a-z0-9]{64})\.log$";

/// What stands between the parts of a group's name.
const JOIN: &str = "_";

/// The parameters of `<group>`.
#[derive(Clone, Debug, Deserialize)]
#[serde(default)]
pub struct Params {
    /// What of a path decides about its group: named captures.
    pub pattern: Regexp,
    /// The period that limits are about.
    pub rate_period: Time,
}

impl Default for Params {
    fn default() -> Params {
        Params {
            pattern: Regexp {
                source: KUBERNETES.to_owned(),
                flags: String::new(),
            },
            rate_period: Time::seconds(5),
        }
    }
}

/// The parameters of `<rule>`.
#[derive(Clone, Debug, Deserialize)]
#[serde(default)]
pub struct RuleParams {
    /// What captures must match, by name; the others may be anything.
    pub r#match: BTreeMap<String, Regexp>,
    /// Lines of the whole group in a period; -1: no limit, 0: none are read.
    pub limit: i64,
}

impl Default for RuleParams {
    fn default() -> RuleParams {
        RuleParams {
            r#match: BTreeMap::new(),
            limit: -1,
        }
    }
}

/// A `<group>` section, checked and compiled.
#[derive(Debug)]
pub struct Rules {
    pattern: Pattern,
    period: Duration,
    /// The most specific first; the last one, without a regexp, is for whatever no other matches.
    rules: Vec<Rule>,
}

#[derive(Debug)]
struct Rule {
    /// What the joined captures match.
    names: Option<Pattern>,
    /// Lines in a period; `None` for no limit.
    limit: Option<u64>,
}

/// Reads the `<group>` section of a source, if it has one.
pub fn configure(source: &Element) -> Result<Option<Arc<Rules>>> {
    let Some(section) = source.section("group")? else {
        return Ok(None);
    };
    let mut errors = ConfigErrors::new();
    let sections: Vec<&Element> = section.sections("rule").collect();
    if sections.is_empty() {
        errors.push(section.error("'<rule>' sections are required"));
    }
    let mut rules = Vec::new();
    for rule in sections {
        rules.extend(
            errors
                .collect(rule.params::<RuleParams>())
                .map(|params| (rule, params)),
        );
    }
    let params = errors.collect(section.params::<Params>());
    let pattern = params.as_ref().and_then(|params| {
        let compiled = compile(&params.pattern);
        let at = |error: String| section.error_at("pattern", error).into();
        errors.collect(compiled.map_err(at))
    });
    let (Some(params), Some(pattern)) = (params, pattern) else {
        return errors.into_result().map(|()| None);
    };
    if params.rate_period.0.is_zero() {
        section.warn_at("rate_period", "a period of no time limits nothing");
    }
    let rules = errors.collect(named(&pattern, rules));
    errors.into_result()?;
    Ok(rules.map(|rules| {
        Arc::new(Rules {
            pattern,
            period: params.rate_period.0,
            rules,
        })
    }))
}

fn compile(regexp: &Regexp) -> std::result::Result<Pattern, String> {
    let flags = Flags {
        ignore_case: regexp.flags.contains('i'),
        multi_line: regexp.flags.contains('m'),
        ..Flags::default()
    };
    Pattern::compile(&regexp.source, flags).map_err(|error| error.to_string())
}

/// The rules in the order in which they are tried: those with more names to match first, as they stand in the file otherwise.
fn named(pattern: &Pattern, mut sections: Vec<(&Element, RuleParams)>) -> Result<Vec<Rule>> {
    let mut errors = ConfigErrors::new();
    sections.sort_by_key(|(_, params)| std::cmp::Reverse(params.r#match.len()));
    let names: Vec<&str> = pattern.names().collect();
    let (mut rules, mut known) = (Vec::new(), Vec::new());
    let mut others = None;
    for (section, params) in sections {
        for name in params
            .r#match
            .keys()
            .filter(|name| !names.contains(&name.as_str()))
        {
            section.warn_at(
                "match",
                format!("'{name}' is no named capture of the group's pattern: it decides nothing"),
            );
        }
        if params.limit < -1 {
            let message = "must be -1 (no limit), 0 (nothing is read) or a number of lines";
            errors.push(section.error_at("limit", message));
            continue;
        }
        let limit = u64::try_from(params.limit).ok();
        let parts: Vec<String> = names
            .iter()
            .map(|name| params.r#match.get(*name).map_or_else(anything, part))
            .collect();
        let joined = parts.join(JOIN);
        if known.contains(&joined) {
            section.warn("has no effect: a rule that matches the same comes before it");
            continue;
        }
        if parts.iter().all(|part| *part == anything()) {
            others = Some(limit);
        } else {
            match Pattern::compile(&joined, Flags::default()) {
                Ok(names) => rules.push(Rule {
                    names: Some(names),
                    limit,
                }),
                Err(error) => errors.push(section.error_at("match", error.to_string())),
            }
        }
        known.push(joined);
    }
    rules.push(Rule {
        names: None,
        limit: others.flatten(),
    });
    errors.into_result()?;
    Ok(rules)
}

fn anything() -> String {
    "(?-mix:.*)".to_owned()
}

/// A regexp that keeps its own flags within a longer one.
fn part(regexp: &Regexp) -> String {
    let (on, off): (Vec<char>, Vec<char>) = ['m', 'i', 'x']
        .into_iter()
        .partition(|flag| regexp.flags.contains(*flag));
    let text = |flags: Vec<char>| flags.into_iter().collect::<String>();
    format!("(?{}-{}:{})", text(on), text(off), regexp.source)
}

/// So much in a period, counted from the first that was taken. As Fluentd's, the count begins anew only when the limit was
/// reached and the period is over.
#[derive(Clone, Copy, Debug, Default)]
pub struct Quota {
    taken: u64,
    since: Option<Instant>,
}

impl Quota {
    /// How much may be taken now; an error says when it can be asked again.
    pub fn left(
        &mut self,
        limit: u64,
        period: Duration,
        now: Instant,
    ) -> std::result::Result<u64, Instant> {
        if self.taken >= limit {
            let over = self.since.map_or(now, |since| since + period);
            if now < over {
                return Err(over);
            }
            *self = Quota::default();
        }
        Ok(limit - self.taken)
    }

    /// So much was taken.
    pub fn took(&mut self, amount: u64, now: Instant) {
        self.taken += amount;
        if amount > 0 {
            self.since.get_or_insert(now);
        }
    }
}

/// What a path may do now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Allowance {
    /// It has no limit.
    Unlimited,
    /// So many lines, at least one.
    Lines(u64),
    /// Nothing before this time.
    Until(Instant),
    /// Nothing: the limit of its group is 0.
    Nothing,
}

/// The groups of a running source and the paths in them.
#[derive(Debug)]
pub struct Groups {
    rules: Arc<Rules>,
    captures: Captures,
    places: HashMap<PathBuf, Place>,
    /// How many paths each rule's group has.
    sizes: Vec<u64>,
}

#[derive(Debug)]
struct Place {
    rule: usize,
    quota: Quota,
}

impl Groups {
    /// Groups without any path.
    pub fn new(rules: Arc<Rules>) -> Groups {
        Groups {
            captures: Captures::default(),
            places: HashMap::new(),
            sizes: vec![0; rules.rules.len()],
            rules,
        }
    }

    /// How many paths are in a group.
    pub fn len(&self) -> usize {
        self.places.len()
    }

    /// Adds a path to its group, unless it is there. False if the pattern does not match it: it then counts among those that no rule
    /// matches.
    pub fn enter(&mut self, path: &Path) -> bool {
        if self.places.contains_key(path) {
            return true;
        }
        let text = path.as_os_str().as_encoded_bytes();
        let matched = self.rules.pattern.captures(text, &mut self.captures);
        let rule = if matched {
            self.rule_of(text)
        } else {
            self.rules.rules.len() - 1
        };
        self.sizes[rule] += 1;
        let quota = Quota::default();
        self.places.insert(path.to_owned(), Place { rule, quota });
        matched
    }

    fn rule_of(&self, path: &[u8]) -> usize {
        let parts: Vec<&[u8]> = (0..self.rules.pattern.names().len())
            .map(|at| self.captures.get(at).map_or(&b""[..], |part| &path[part]))
            .collect();
        let joined = parts.join(JOIN.as_bytes());
        let matches = |rule: &Rule| {
            let names = rule.names.as_ref();
            names.is_none_or(|names| names.is_match(&joined))
        };
        let found = self.rules.rules.iter().position(matches);
        found.unwrap_or(self.rules.rules.len() - 1)
    }

    /// Takes the paths out that are not to be kept.
    pub fn retain(&mut self, keep: impl Fn(&Path) -> bool) {
        let sizes = &mut self.sizes;
        self.places.retain(|path, place| {
            let keep = keep(path);
            sizes[place.rule] -= u64::from(!keep);
            keep
        });
    }

    /// What a path that is in a group may do now. Where a group has more paths than its limit has lines, each may give one: Fluentd
    /// divides to 0 and then reads none of them.
    pub fn allowance(&mut self, path: &Path, now: Instant) -> Allowance {
        let Some(place) = self.places.get_mut(path) else {
            return Allowance::Unlimited;
        };
        let share = match self.rules.rules[place.rule].limit {
            None => return Allowance::Unlimited,
            Some(0) => return Allowance::Nothing,
            Some(limit) => (limit / self.sizes[place.rule].max(1)).max(1),
        };
        match place.quota.left(share, self.rules.period, now) {
            Ok(lines) => Allowance::Lines(lines),
            Err(until) => Allowance::Until(until),
        }
    }

    /// So many lines of the path were taken.
    pub fn took(&mut self, path: &Path, lines: u64, now: Instant) {
        if let Some(place) = self.places.get_mut(path) {
            place.quota.took(lines, now);
        }
    }
}

#[cfg(test)]
#[path = "group_tests.rs"]
mod tests;
