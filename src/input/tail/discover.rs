//! Which files a source is to read: `path` and `exclude_path` expanded.
//!
//! Text to names is pure; directories are read in `walk.rs`, for [`Targets::find`] only. What stands beside a path is found by
//! `listing.rs`, what is done with a file is decided in `begin.rs`.

use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use glob::Pattern;
use jiff::fmt::strtime::{BrokenDownTime, Config};
use jiff::tz::TimeZone;

use super::params::GlobPolicy;
use super::paths::{PathMap, PathSet};
use super::walk;

/// Endings of compressed successors: never log text.
const COMPRESSED: [&str; 8] = ["gz", "bz2", "xz", "zst", "zip", "Z", "lz4", "lzma"];

/// What `path` and `exclude_path` ask for.
#[derive(Clone, Debug)]
pub struct Targets {
    /// The pieces of `path`.
    pub pieces: Vec<String>,
    /// The pieces of `exclude_path`.
    pub excludes: Vec<String>,
    /// When a piece is a pattern.
    pub glob_policy: GlobPolicy,
    /// `path_timezone`, or the zone of the system.
    pub timezone: TimeZone,
}

/// What stands there now.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Found {
    /// Names without a pattern, as they are written: files that may not exist yet.
    pub fixed: PathMap<PathBuf>,
    /// Files that a pattern matches.
    pub globbed: PathSet,
    /// The directories in which matching names may appear.
    pub directories: HashSet<PathBuf>,
    /// Files that a pattern matches, named as compressed: they are not read. How many, and one of them.
    pub packed: (usize, Option<PathBuf>),
    /// What tells of a new name whether it is asked for.
    pub matcher: Matcher,
}

/// Tells whether a name is asked for, there or not: `path` and `exclude_path` as of one moment.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Matcher {
    wanted: Names,
    excluded: Names,
}

#[derive(Debug, Default, PartialEq, Eq)]
struct Names {
    fixed: HashSet<PathBuf>,
    patterns: Vec<Pattern>,
}

impl Names {
    fn contain(&self, path: &Path) -> bool {
        let matches = |pattern: &Pattern| walk::fits(pattern, path);
        self.fixed.contains(path) || self.patterns.iter().any(matches)
    }
}

impl Matcher {
    /// Whether a file of this name is to be read.
    pub fn covers(&self, path: &Path) -> bool {
        self.wanted.contain(path) && !self.excluded.contain(path) && !self.is_packed(path)
    }

    /// Whether only a pattern asks for it, and it is named as compressed.
    fn is_packed(&self, path: &Path) -> bool {
        is_compressed(path) && !self.wanted.fixed.contains(path)
    }
}

impl Targets {
    /// Expands dates, braces and patterns, and takes the excluded names out.
    pub fn find(&self, now: SystemTime) -> Found {
        let matcher = Matcher {
            wanted: self.names(&self.pieces, now),
            excluded: self.names(&self.excludes, now),
        };
        let mut found = Found::default();
        let mut last = None;
        for pattern in &matcher.wanted.patterns {
            let directories = walk::directories(pattern.as_str());
            let names = directories.iter().map(|at| walk::names(pattern, at));
            found.globbed.extend(names.flatten());
            found.directories.extend(directories);
        }
        for path in &matcher.wanted.fixed {
            found.fixed.insert(path, path.clone());
        }
        for path in found.fixed.keys().chain(found.globbed.iter()) {
            if let Some(parent) = path
                .parent()
                .filter(|parent| last.as_deref() != Some(*parent))
            {
                last = Some(parent.to_owned());
                found.directories.insert(parent.to_owned());
            }
        }
        let mut packed = found.globbed.iter().filter(|path| matcher.is_packed(path));
        let example = packed.next().map(Path::to_owned);
        found.packed = (packed.count() + usize::from(example.is_some()), example);
        found.globbed.retain(|path| matcher.covers(path));
        found.fixed.retain(|path, _| matcher.covers(path));
        found.matcher = matcher;
        found
    }

    fn names(&self, pieces: &[String], now: SystemTime) -> Names {
        let mut names = Names::default();
        for piece in pieces {
            let piece = expand_date(piece, now, &self.timezone);
            if !is_pattern(&piece, self.glob_policy) {
                names.fixed.insert(PathBuf::from(piece));
                continue;
            }
            for pattern in expand_braces(&piece) {
                let pattern = one_star_inside(&plain(&pattern));
                match Pattern::new(&pattern) {
                    Ok(pattern) => names.patterns.push(pattern),
                    // No pattern after all: a name like any other.
                    Err(_) => {
                        names.fixed.insert(PathBuf::from(pattern));
                    }
                }
            }
        }
        names
    }
}

/// Whether Fluentd would glob this piece.
pub fn is_pattern(piece: &str, policy: GlobPolicy) -> bool {
    let star = piece.contains('*');
    let class = piece.contains('?') || (piece.contains('[') && piece.contains(']'));
    match policy {
        GlobPolicy::BackwardCompatible => star,
        GlobPolicy::Extended => star || class,
        GlobPolicy::Always => star || class || (piece.contains('{') && piece.contains('}')),
    }
}

/// Runs strftime over a piece; a conversion that does not exist stays as it is written.
pub fn expand_date(piece: &str, now: SystemTime, timezone: &TimeZone) -> String {
    if !piece.contains('%') {
        return piece.to_owned();
    }
    jiff::Timestamp::try_from(now)
        .map(|now| BrokenDownTime::from(&now.to_zoned(timezone.clone())))
        .and_then(|time| time.to_string_with_config(&Config::new().lenient(true), piece))
        .unwrap_or_else(|_| piece.to_owned())
}

/// `a{b,c{d,e}}` → `ab`, `acd`, `ace`. A brace without a partner is a character like any other.
pub fn expand_braces(pattern: &str) -> Vec<String> {
    let Some((open, close)) = first_group(pattern) else {
        return vec![pattern.to_owned()];
    };
    let (head, tail) = (&pattern[..open], &pattern[close + 1..]);
    let tails = expand_braces(tail);
    alternatives(&pattern[open + 1..close])
        .flat_map(expand_braces)
        .flat_map(|middle| {
            tails
                .iter()
                .map(|tail| format!("{head}{middle}{tail}"))
                .collect::<Vec<_>>()
        })
        .collect()
}

fn first_group(pattern: &str) -> Option<(usize, usize)> {
    let mut open = Vec::new();
    let mut group = None;
    for (at, byte) in pattern.bytes().enumerate() {
        match byte {
            b'{' => open.push(at),
            b'}' => {
                if let Some(start) = open.pop()
                    && group.is_none_or(|(known, _)| start < known)
                {
                    group = Some((start, at));
                }
                if open.is_empty() && group.is_some() {
                    return group;
                }
            }
            _ => {}
        }
    }
    group
}

fn alternatives(inner: &str) -> impl Iterator<Item = &str> {
    let mut depth = 0i32;
    inner.split(move |character| {
        match character {
            '{' => depth += 1,
            '}' => depth -= 1,
            _ => {}
        }
        character == ',' && depth <= 0
    })
}

/// `/var//log/./*.log` is `/var/log/*.log`: in this form names are found and events name them.
fn plain(pattern: &str) -> String {
    let plain: PathBuf = Path::new(pattern).components().collect();
    plain.to_string_lossy().into_owned()
}

/// Ruby reads `**` as `*` unless it is a whole component with others behind it; the glob crate refuses it or crosses directories there.
fn one_star_inside(pattern: &str) -> String {
    let last = pattern.matches('/').count();
    let parts = pattern.split('/').enumerate();
    let one_star = parts.map(|(at, part)| {
        let mut part = part.to_owned();
        while (part != "**" || at == last) && part.contains("**") {
            part = part.replace("**", "*");
        }
        part
    });
    one_star.collect::<Vec<_>>().join("/")
}

pub(super) fn is_compressed(path: &Path) -> bool {
    path.extension()
        .is_some_and(|ending| COMPRESSED.iter().any(|known| ending == *known))
}

#[cfg(test)]
#[path = "discover_tests.rs"]
mod tests;
