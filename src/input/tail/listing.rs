//! What stands beside a path: its rotated generations, by name or by inode. Each directory is listed once in a pass over many
//! paths, so that ten thousand files in one directory cost one listing, not ten thousand.

use std::collections::HashMap;
use std::ffi::OsString;
use std::fs::{self, Metadata};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use super::discover::is_compressed;
use super::file::Identity;

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

impl Sibling {
    /// What stands at `path`: regular, and not named as compressed. Links are not followed: a link beside a path is not one of
    /// its generations.
    pub fn at(path: PathBuf) -> Option<Sibling> {
        if is_compressed(&path) {
            return None;
        }
        let meta = fs::symlink_metadata(&path).ok().filter(Metadata::is_file)?;
        Some(Sibling {
            path,
            identity: Identity::of(&meta),
            modified: meta.modified().ok(),
        })
    }
}

/// Directories as they were listed in this pass.
#[derive(Debug, Default)]
pub struct Listings(HashMap<PathBuf, Listing>);

#[derive(Debug, Default)]
struct Listing {
    /// Sorted.
    names: Vec<OsString>,
    /// Inode to name, once somebody asked.
    inodes: Option<HashMap<u64, usize>>,
    /// The directory's time before it was listed.
    changed: Option<SystemTime>,
}

/// Directory times come from a coarse clock: a change may bear the time of a listing this much older.
const COARSE: Duration = Duration::from_millis(50);

impl Listings {
    /// A new pass begins.
    pub fn forget(&mut self) {
        self.0.clear();
    }

    /// Names beside `path` have changed.
    pub fn forget_beside(&mut self, path: &Path) {
        if let Some(directory) = path.parent() {
            self.0.remove(directory);
        }
    }

    /// The files beside `path` that are named as its rotated generations, oldest first.
    pub fn siblings(&mut self, path: &Path) -> Vec<Sibling> {
        let (Some(directory), Some(base)) = (path.parent(), path.file_name()) else {
            return Vec::new();
        };
        let base = base.as_bytes();
        let names = &self.listing(directory).names;
        let from = names.partition_point(|name| name.as_bytes() < stem(base));
        let near = names[from..]
            .iter()
            .take_while(|name| name.as_bytes().starts_with(stem(base)));
        let mut found: Vec<Sibling> = near
            .filter(|name| is_rotated_name(base, name.as_bytes()))
            .filter_map(|name| Sibling::at(directory.join(name)))
            .collect();
        found.sort_by_key(|sibling| (sibling.identity.born, sibling.modified));
        found
    }

    /// All files beside `path`.
    pub fn neighbours(&mut self, path: &Path) -> Vec<Sibling> {
        let Some(directory) = path.parent() else {
            return Vec::new();
        };
        let names = self.listing(directory).names.iter();
        names
            .filter_map(|name| Sibling::at(directory.join(name)))
            .collect()
    }

    /// The file beside `path` with this inode, whatever its name is now.
    pub fn with_inode(&mut self, path: &Path, inode: u64) -> Option<Sibling> {
        let directory = path.parent()?;
        let listing = self.listing(directory);
        let Listing { names, inodes, .. } = listing;
        let inodes = inodes.get_or_insert_with(|| inodes_of(directory, names));
        let name = &names[*inodes.get(&inode)?];
        Sibling::at(directory.join(name)).filter(|sibling| sibling.identity.inode == inode)
    }

    /// Whether no file beside `path` has this inode, as it was listed.
    pub fn lacks(&mut self, path: &Path, inode: u64) -> bool {
        let Some(directory) = path.parent() else {
            return true;
        };
        let Listing { names, inodes, .. } = self.listing(directory);
        let inodes = inodes.get_or_insert_with(|| inodes_of(directory, names));
        !inodes.contains_key(&inode)
    }

    /// Whether nothing was renamed beside `path` since its directory was listed: what is not in the listing is not there.
    pub fn is_steady(&self, path: &Path) -> bool {
        let listing = path
            .parent()
            .and_then(|directory| Some((directory, self.0.get(directory)?)));
        listing.is_some_and(|(directory, listing)| {
            let now = changed(directory);
            let old = |time: SystemTime| time.elapsed().is_ok_and(|age| age > COARSE);
            now == listing.changed && now.is_some_and(old)
        })
    }

    fn listing(&mut self, directory: &Path) -> &mut Listing {
        self.0
            .entry(directory.to_owned())
            .or_insert_with(|| Listing::of(directory))
    }
}

impl Listing {
    fn of(directory: &Path) -> Listing {
        let changed = changed(directory);
        let listed = fs::read_dir(directory).into_iter().flatten().flatten();
        let mut names: Vec<OsString> = listed.map(|entry| entry.file_name()).collect();
        names.sort_unstable();
        Listing {
            names,
            inodes: None,
            changed,
        }
    }
}

fn changed(directory: &Path) -> Option<SystemTime> {
    fs::metadata(directory)
        .and_then(|meta| meta.modified())
        .ok()
}

/// By `stat`, not as listed: overlays list other numbers.
fn inodes_of(directory: &Path, names: &[OsString]) -> HashMap<u64, usize> {
    let number = |(at, name): (usize, &OsString)| {
        Sibling::at(directory.join(name)).map(|sibling| (sibling.identity.inode, at))
    };
    names.iter().enumerate().filter_map(number).collect()
}

/// What the names of all rotated generations begin with.
fn stem(base: &[u8]) -> &[u8] {
    let dot = base.iter().rposition(|byte| *byte == b'.');
    dot.filter(|dot| *dot > 0).map_or(base, |dot| &base[..dot])
}

/// Whether `name` is what a rotation makes of `base`: a number or a date appended (`app.log.1`, `app.log-20260101`) or put before
/// the extension (`app-20260101.log`), or one of the few words that tools append. Any other neighbour (`app.log.pos`,
/// `app.log-errors.log`) is another program's file, or our own.
pub fn is_rotated_name(base: &[u8], name: &[u8]) -> bool {
    if let Some(rest) = name.strip_prefix(base) {
        let separated = rest.first().is_some_and(|byte| b".-_@".contains(byte));
        return separated && is_number_or_date(rest) || ROTATED_WORDS.contains(&rest);
    }
    let stem = stem(base);
    if stem.len() == base.len() {
        return false;
    }
    name.strip_prefix(stem)
        .and_then(|rest| rest.strip_suffix(&base[stem.len()..]))
        .is_some_and(is_number_or_date)
}

/// Digits and what separates them in a date, begun by a separator or not.
fn is_number_or_date(text: &[u8]) -> bool {
    let fits = |byte: &u8| byte.is_ascii_digit() || b".-_:T+@".contains(byte);
    text.iter().any(u8::is_ascii_digit) && text.iter().all(fits)
}

/// What tools append without a number.
const ROTATED_WORDS: [&[u8]; 4] = [b".old", b".prev", b".previous", b"~"];

#[cfg(test)]
#[path = "listing_tests.rs"]
mod tests;
