//! Which files a source is to read: `path` and `exclude_path` expanded, and the rotated generations beside a path.
//!
//! Text to names is pure; the directory is read in [`Targets::find`] and [`siblings`] only. What is done with a file is
//! decided in `mod.rs`.

use std::collections::{BTreeSet, HashSet};
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use glob::MatchOptions;
use jiff::fmt::strtime::{BrokenDownTime, Config};
use jiff::tz::TimeZone;

use super::file::Identity;
use super::params::GlobPolicy;

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
    pub fixed: BTreeSet<PathBuf>,
    /// Files that a pattern matches.
    pub globbed: BTreeSet<PathBuf>,
    /// The directories in which matching names may appear.
    pub directories: HashSet<PathBuf>,
}

impl Targets {
    /// Expands dates, braces and patterns, and takes the excluded names out.
    pub fn find(&self, now: SystemTime) -> Found {
        let mut found = Found::default();
        for pattern in self.expanded(&self.pieces, now) {
            if is_pattern(&pattern, self.glob_policy) {
                found.directories.extend(directories(&pattern));
                found
                    .globbed
                    .extend(matches(&pattern).filter(|path| !is_compressed(path)));
            } else {
                let path = PathBuf::from(pattern);
                found.directories.extend(path.parent().map(Path::to_owned));
                found.fixed.insert(path);
            }
        }
        found.directories.extend(
            found
                .globbed
                .iter()
                .filter_map(|path| path.parent())
                .map(Path::to_owned),
        );
        for pattern in self.expanded(&self.excludes, now) {
            if is_pattern(&pattern, self.glob_policy)
                && let Ok(excluded) = glob::Pattern::new(&pattern)
            {
                let keep = |path: &PathBuf| !excluded.matches_path_with(path, MATCHING);
                found.globbed.retain(keep);
                found.fixed.retain(keep);
            } else {
                found.globbed.remove(Path::new(&pattern));
                found.fixed.remove(Path::new(&pattern));
            }
        }
        found
    }

    /// Whether `path` asks for a file of this name today, there or not.
    pub fn covers(&self, path: &Path) -> bool {
        self.expanded(&self.pieces, SystemTime::now())
            .iter()
            .any(|pattern| {
                if is_pattern(pattern, self.glob_policy) {
                    glob::Pattern::new(pattern)
                        .is_ok_and(|pattern| pattern.matches_path_with(path, MATCHING))
                } else {
                    Path::new(pattern) == path
                }
            })
    }

    fn expanded(&self, pieces: &[String], now: SystemTime) -> Vec<String> {
        pieces
            .iter()
            .flat_map(|piece| {
                let piece = expand_date(piece, now, &self.timezone);
                if is_pattern(&piece, self.glob_policy) {
                    expand_braces(&piece)
                        .iter()
                        .map(|text| one_star_inside(text))
                        .collect()
                } else {
                    vec![piece]
                }
            })
            .collect()
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

fn is_compressed(path: &Path) -> bool {
    path.extension()
        .is_some_and(|ending| COMPRESSED.iter().any(|known| ending == *known))
}

/// Whether `name` is what a rotation makes of `base`: a number or a date appended (`app.log.1`, `app.log-20260101`) or put before
/// the extension (`app-20260101.log`), or one of the few words that tools append. Any other neighbour (`app.log.pos`,
/// `app.log-errors.log`) is another program's file, or our own.
pub fn is_rotated_name(base: &[u8], name: &[u8]) -> bool {
    if let Some(rest) = name.strip_prefix(base) {
        let separated = rest.first().is_some_and(|byte| b".-_@".contains(byte));
        return separated && is_number_or_date(rest) || ROTATED_WORDS.contains(&rest);
    }
    let Some(dot) = base
        .iter()
        .rposition(|byte| *byte == b'.')
        .filter(|dot| *dot > 0)
    else {
        return false;
    };
    name.strip_prefix(&base[..dot])
        .and_then(|rest| rest.strip_suffix(&base[dot..]))
        .is_some_and(is_number_or_date)
}

/// Digits and what separates them in a date, begun by a separator or not.
fn is_number_or_date(text: &[u8]) -> bool {
    let fits = |byte: &u8| byte.is_ascii_digit() || b".-_:T+@".contains(byte);
    text.iter().any(u8::is_ascii_digit) && text.iter().all(fits)
}

/// What tools append without a number.
const ROTATED_WORDS: [&[u8]; 4] = [b".old", b".prev", b".previous", b"~"];

/// A rotated generation that is still linked beside its path.
#[derive(Clone, Debug)]
pub struct Sibling {
    /// Its name now.
    pub path: PathBuf,
    /// Which file it is.
    pub identity: Identity,
    /// When it was last written.
    pub modified: Option<SystemTime>,
}

/// The regular, uncompressed files beside `path` that are named as its rotated generations, oldest first.
pub fn siblings(path: &Path) -> Vec<Sibling> {
    beside(path, is_rotated_name)
}

/// The file beside `path` with this inode, whatever its name is now.
pub fn sibling_with_inode(path: &Path, inode: u64) -> Option<Sibling> {
    let all = beside(path, |_, _| true);
    all.into_iter()
        .find(|sibling| sibling.identity.inode == inode)
}

fn beside(path: &Path, is_wanted: impl Fn(&[u8], &[u8]) -> bool) -> Vec<Sibling> {
    let (Some(directory), Some(base)) = (path.parent(), path.file_name()) else {
        return Vec::new();
    };
    let Ok(listing) = fs::read_dir(directory) else {
        return Vec::new();
    };
    let mut found: Vec<Sibling> = listing
        .flatten()
        .filter(|entry| is_wanted(base.as_bytes(), entry.file_name().as_bytes()))
        .filter(|entry| !is_compressed(&entry.path()))
        .filter_map(|entry| {
            // Not following links: a link beside the path is not one of its generations.
            let meta = entry.metadata().ok().filter(fs::Metadata::is_file)?;
            Some(Sibling {
                path: entry.path(),
                identity: Identity::of(&meta),
                modified: meta.modified().ok(),
            })
        })
        .collect();
    found.sort_by_key(|sibling| (sibling.identity.born, sibling.modified));
    found
}

#[cfg(test)]
#[path = "discover_tests.rs"]
mod tests;
