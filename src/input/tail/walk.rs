//! What stands under a pattern: the directories that it names, and the names in them.
//!
//! The glob crate matches texts here and does not walk: its walk passes over names that are not UTF-8, ends the process at one of them
//! where hidden names are to be left out, and its paths are not those that events bring.

use std::ffi::OsStr;
use std::fs::{self, DirEntry};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use glob::{MatchOptions, Pattern};

/// As Ruby's glob: `*` does not cross `/`, and does not match a leading dot.
const MATCHING: MatchOptions = MatchOptions {
    case_sensitive: true,
    require_literal_separator: true,
    require_literal_leading_dot: true,
};

/// Whether a pattern matches a path. What is not UTF-8 in it is one character for each sequence that is not.
pub fn fits(pattern: &Pattern, path: &Path) -> bool {
    pattern.matches_with(&path.to_string_lossy(), MATCHING)
}

/// The directories whose new names a pattern may match: all that its parent matches now, and the last one without a
/// pattern, where a missing one may appear.
pub fn directories(pattern: &str) -> Vec<PathBuf> {
    let Some(parent) = Path::new(pattern).parent() else {
        return Vec::new();
    };
    if is_literal(parent.as_os_str()) {
        return vec![parent.to_owned()];
    }
    let components: Vec<&OsStr> = parent.components().map(|part| part.as_os_str()).collect();
    let mut found = Vec::new();
    walk(PathBuf::new(), &components, &mut found);
    let literal = |path: &&Path| is_literal(path.as_os_str());
    found.extend(parent.ancestors().find(literal).map(Path::to_owned));
    found.sort_unstable();
    found.dedup();
    found
}

/// What a pattern matches in one of its directories.
pub fn names(pattern: &Pattern, directory: &Path) -> Vec<PathBuf> {
    let last = Path::new(pattern.as_str()).file_name().unwrap_or_default();
    if is_literal(last) {
        let path = directory.join(last);
        let stands = fits(pattern, &path) && path.symlink_metadata().is_ok();
        return stands.then_some(path).into_iter().collect();
    }
    let names = entries(directory).map(|entry| directory.join(entry.file_name()));
    names.filter(|path| fits(pattern, path)).collect()
}

/// Adds the directories that these components name below `base`.
fn walk(mut base: PathBuf, components: &[&OsStr], found: &mut Vec<PathBuf>) {
    let plain = components.iter().take_while(|part| is_literal(part));
    let plain = plain.count();
    base.extend(&components[..plain]);
    let rest = &components[plain..];
    let Some((first, behind)) = rest.split_first() else {
        if base.is_dir() {
            found.push(base);
        }
        return;
    };
    if first.as_bytes() == b"**" {
        // As Ruby's: into neither hidden directories nor linked ones.
        let below = entries(&base).filter(|entry| {
            let is_hidden = entry.file_name().as_bytes().starts_with(b".");
            !is_hidden && entry.file_type().is_ok_and(|kind| kind.is_dir())
        });
        below.for_each(|entry| walk(base.join(entry.file_name()), rest, found));
        return walk(base, behind, found);
    }
    let Ok(pattern) = Pattern::new(&first.to_string_lossy()) else {
        return;
    };
    let below = entries(&base).filter(|entry| fits(&pattern, Path::new(&entry.file_name())));
    below
        .map(|entry| base.join(entry.file_name()))
        .filter(|path| path.is_dir())
        .for_each(|path| walk(path, behind, found));
}

/// What is in a directory; nothing where it cannot be listed.
fn entries(directory: &Path) -> impl Iterator<Item = DirEntry> {
    let directory = match directory.as_os_str().is_empty() {
        true => Path::new("."),
        false => directory,
    };
    fs::read_dir(directory).into_iter().flatten().flatten()
}

fn is_literal(text: &OsStr) -> bool {
    !text.as_bytes().iter().any(|byte| b"*?[".contains(byte))
}
