//! Which files a source is to read: `path` and `exclude_path` expanded.
//!
//! Text to names is pure; directories are read in [`Targets::find`] only. What stands beside a path is found by `listing.rs`, what is
//! done with a file is decided in `begin.rs`.

use std::collections::HashSet;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use glob::{MatchOptions, Pattern};
use jiff::fmt::strtime::{BrokenDownTime, Config};
use jiff::tz::TimeZone;

use super::params::GlobPolicy;
use super::paths::PathSet;

/// Endings of compressed successors: never log text.
const COMPRESSED: [&str; 8] = ["gz", "bz2", "xz", "zst", "zip", "Z", "lz4", "lzma"];

/// As Ruby's glob: `*` does not cross `/`, and does not match a leading dot.
const MATCHING: MatchOptions = MatchOptions {
    case_sensitive: true,
    require_literal_separator: true,
    require_literal_leading_dot: true,
};

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
    /// Names without a pattern: files that may not exist yet.
    pub fixed: PathSet,
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
        let matches = |pattern: &Pattern| pattern.matches_path_with(path, MATCHING);
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
            found.directories.extend(directories(pattern.as_str()));
            found.globbed.extend(matches(pattern.as_str()));
        }
        found.fixed.extend(&matcher.wanted.fixed);
        for path in found.fixed.iter().chain(found.globbed.iter()) {
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
        found.fixed.retain(|path| matcher.covers(path));
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
                let pattern = one_star_inside(&pattern);
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

/// Ruby reads `**` as `*` unless it is a whole component; the glob crate refuses it there.
fn one_star_inside(pattern: &str) -> String {
    pattern
        .split('/')
        .map(|part| {
            let mut part = part.to_owned();
            while part != "**" && part.contains("**") {
                part = part.replace("**", "*");
            }
            part
        })
        .collect::<Vec<_>>()
        .join("/")
}

fn matches(pattern: &str) -> impl Iterator<Item = PathBuf> {
    glob::glob_with(pattern, MATCHING)
        .into_iter()
        .flat_map(|paths| paths.flatten())
}

/// The directories whose new names a pattern may match: all that its parent matches now, and the last one without a
/// pattern, where a missing one may appear.
fn directories(pattern: &str) -> Vec<PathBuf> {
    let Some(parent) = Path::new(pattern).parent() else {
        return Vec::new();
    };
    let literal = |path: &Path| {
        !path
            .as_os_str()
            .as_bytes()
            .iter()
            .any(|byte| b"*?[".contains(byte))
    };
    if literal(parent) {
        return vec![parent.to_owned()];
    }
    let mut found: Vec<PathBuf> = parent
        .to_str()
        .into_iter()
        .flat_map(matches)
        .filter(|path| path.is_dir())
        .collect();
    found.extend(
        parent
            .ancestors()
            .find(|path| literal(path))
            .map(Path::to_owned),
    );
    found
}

pub(super) fn is_compressed(path: &Path) -> bool {
    path.extension()
        .is_some_and(|ending| COMPRESSED.iter().any(|known| ending == *known))
}

#[cfg(test)]
#[path = "discover_tests.rs"]
mod tests;
