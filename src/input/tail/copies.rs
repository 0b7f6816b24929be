//! Copies that are made of a file before it is truncated (logrotate's copytruncate): what was written after the last read is in them, and
//! in no other file. A copy is read from where the file was read to, never from its head, also where its name matches `path`.
//!
//! What the application writes between the last byte of the copy and the truncation is in no file: nobody can read it.

use std::collections::HashMap;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime};

use tracing::{info, warn};

use super::discover::Matcher;
use super::evidence::Resume;
use super::file::{Generation, Opened, Origin, State, is_short_of_descriptors, open};
use super::files::Files;
use super::known::Known;
use super::listing::{Sibling, is_rotated_name};
use super::track::Track;
use crate::event::Tag;

/// A new file that begins as another does is not read for so long: it may be a copy, and the other be truncated then.
const HOLD: Duration = Duration::from_secs(5);
/// What stands between the parts of a rotated name.
const SEPARATORS: &[u8] = b".-_@~";

/// New files that may be copies.
#[derive(Debug, Default)]
pub struct Suspects(HashMap<PathBuf, Instant>);

impl Suspects {
    /// Their paths.
    pub fn paths(&self) -> Vec<PathBuf> {
        self.0.keys().cloned().collect()
    }

    /// It is none, or none any more.
    pub fn clear(&mut self, path: &Path) {
        self.0.remove(path);
    }

    fn hold(&mut self, path: &Path, now: Instant) -> bool {
        let until = self.0.entry(path.to_owned()).or_insert(now + HOLD);
        now < *until
    }
}

impl Files {
    /// Whether a new file is left alone for now, because it may be a copy of one that is being read.
    pub fn is_held_as_copy(&mut self, path: &Path, opened: &Opened, now: Instant) -> bool {
        let held = originals(path).iter().any(|original| {
            let track = self.tracks.get_mut(original);
            let original = track.and_then(Track::current);
            original.is_some_and(|original| original.may_begin(opened))
        });
        if held && self.suspects.hold(path, now) {
            return true;
        }
        self.suspects.clear(path);
        false
    }
}

impl Generation {
    /// Whether a file holds all that was read of this one.
    fn is_in(&self, opened: &Opened) -> bool {
        let length = self.overlap.len();
        let mut before = vec![0; length];
        length > 0
            && opened.size >= self.position
            && self.head.mark().fits(&opened.first)
            && opened
                .file
                .read_exact_at(&mut before, self.position - length as u64)
                .is_ok_and(|()| self.overlap.fits(&before))
    }

    /// Whether a file begins as this one did, as far as it goes.
    fn may_begin(&self, opened: &Opened) -> bool {
        let head = self.head.mark();
        if self.position == 0 || head.length == 0 {
            return false;
        }
        if opened.first.len() >= usize::from(head.length) {
            return head.fits(&opened.first);
        }
        // It is still being written.
        let mut first = vec![0; opened.first.len()];
        let read = self
            .file
            .as_ref()
            .map(|file| file.read_exact_at(&mut first, 0));
        matches!(read, Some(Ok(()))) && first == opened.first
    }
}

impl Track {
    /// The file was truncated: its old life ended with what was read, or goes on in a copy of it; the new one begins at 0.
    pub fn truncated(
        &mut self,
        known: &mut Known,
        at: usize,
        flush: impl FnOnce(&mut Generation, &Tag, &Path),
    ) {
        if let Some(copy) = self.copy_of(known, at) {
            let account = known.open_account(self.number, self.generations[at].identity, 0);
            self.generations[at].begin_again(account, known.splitter());
            self.generations.insert(at, copy);
            known.changes += 1;
            return;
        }
        let generation = &mut self.generations[at];
        flush(generation, &self.tag, &self.path);
        let position = generation.position;
        let not_safe = position - known.ledger.committed(generation.account).unwrap_or(0);
        warn!(
            path = %self.path.display(), size = generation.size, position, not_safe,
            "file was truncated, reading it from its head; what was written after the last read is lost"
        );
        known.ledger.close_account(generation.account);
        let account = known.open_account(self.number, generation.identity, 0);
        known.changes += 1;
        generation.begin_again(account, known.splitter());
    }

    /// The copy of a generation that was truncated: a new file beside it, of whatever name, that holds all that was read of it. It takes over
    /// the account: what is in flight is read again from the copy if it is forgotten.
    fn copy_of(&mut self, known: &mut Known, at: usize) -> Option<Generation> {
        known.listings.forget_beside(&self.path);
        for sibling in known.listings.neighbours(&self.path) {
            let generation = &self.generations[at];
            let is_young = sibling.identity.born >= generation.identity.born;
            if !is_young || !known.is_new(sibling.identity) {
                continue;
            }
            let Some(opened) = open(&sibling.path)
                .ok()
                .filter(|opened| generation.is_in(opened))
            else {
                continue;
            };
            let resume = Resume {
                position: generation.position - generation.uncovered(),
                born: opened.identity.born,
                head: Some(generation.head.mark()),
            };
            let unread = opened.size - generation.position;
            let since = Instant::now();
            let state = State::Rotated { since };
            let begun = known.begin(opened, Origin::Resumed(resume), state, self);
            if let Ok(Some(mut copy)) = begun {
                known.ledger.close_account(copy.account);
                copy.account = self.generations[at].account;
                known.identify(copy.account, copy.identity);
                info!(path = %self.path.display(), copy = %sibling.path.display(), unread, "file was truncated, the rest of it is read from its copy");
                return Some(copy);
            }
        }
        None
    }
}

impl Track {
    /// At start, of a file that stands where it stood: where what was read of it is not in it any more, it was truncated while nobody looked.
    /// The rest of it is in a copy that was written since `since`, and what was written between two truncations in the copies after that
    /// one. False where `opened` is as it was left, or where no copy holds its rest. An error is about descriptors: nothing was begun.
    pub fn find_copies(
        &mut self,
        known: &mut Known,
        resume: Resume,
        opened: &Opened,
        (since, matcher): (SystemTime, &Matcher),
    ) -> io::Result<bool> {
        let is_unread = resume.position == 0 && resume.head.is_none_or(|head| head.length == 0);
        let start = opened.start(Origin::Resumed(resume));
        let is_cut = start.is_ok_and(|(_, _, doubt)| doubt.is_some());
        if !is_cut && !is_unread {
            return Ok(false);
        }
        let (mut found, mut copies) = (false, Vec::new());
        for sibling in known.listings.siblings(&self.path) {
            let written = sibling.identity.born.max(sibling.modified);
            if written.is_some_and(|at| at < since) || !known.is_new(sibling.identity) {
                continue;
            }
            let copy = match open(&sibling.path) {
                Ok(copy) => copy,
                Err(error) if is_short_of_descriptors(&error) => return Err(error),
                Err(_) => continue,
            };
            let is_old = copy.identity.born.is_some_and(|born| born < since);
            if is_cut && !found && resume.is_in(&copy) {
                found = true;
                copies.push((sibling, copy, true));
                continue;
            }
            // `worker-10.log` beside `worker-1.log` is asked for as itself.
            let is_other =
                matcher.covers(&sibling.path) && !originals(&sibling.path).contains(&self.path);
            if !is_old && !is_other && !copy.is_part_of(opened) {
                copies.push((sibling, copy, false));
            }
        }
        for (sibling, copy, is_rest) in copies {
            let origin = if is_rest {
                let resume = Resume {
                    born: copy.identity.born,
                    ..resume
                };
                let origin = Origin::Resumed(resume);
                known.recalled.take(opened.identity, &copy.first, origin)
            } else {
                Origin::New
            };
            self.begin_copy(known, &sibling, copy, origin);
        }
        Ok(found)
    }

    fn begin_copy(&mut self, known: &mut Known, sibling: &Sibling, copy: Opened, origin: Origin) {
        let since = Instant::now();
        if let Ok(Some(copy)) = known.begin(copy, origin, State::Rotated { since }, self) {
            info!(
                path = %self.path.display(), copy = %sibling.path.display(), position = copy.position,
                "file was truncated while it was not watched, what was written before is read from its copy"
            );
            self.generations.push_back(copy);
        }
    }
}

impl Resume {
    /// Whether a file holds all that was read. Where its first bytes do not prove that alone, a line must end there.
    fn is_in(&self, copy: &Opened) -> bool {
        let head = self.head.filter(|head| head.length > 0);
        let line = Resume {
            position: self.position,
            ..Resume::default()
        };
        let ends_a_line = || {
            let start = copy.start(Origin::Resumed(line));
            start.is_ok_and(|(_, _, doubt)| doubt.is_none())
        };
        match head {
            Some(head) if u64::from(head.length) >= self.position => head.fits(&copy.first),
            Some(head) => head.fits(&copy.first) && ends_a_line(),
            // Of a pos_file of Fluentd nothing else is known.
            None => self.position > 0 && ends_a_line(),
        }
    }
}

impl Opened {
    /// Whether somebody copied the other file as it stands: all of this one is in it, at the same place.
    fn is_part_of(&self, other: &Opened) -> bool {
        let ends = (self.before(self.size), other.before(self.size));
        self.size <= other.size
            && other.first.starts_with(&self.first)
            && matches!(ends, (Ok(one), Ok(other)) if one == other)
    }
}

/// The paths of which this may be a rotated name.
fn originals(path: &Path) -> Vec<PathBuf> {
    let (Some(directory), Some(name)) = (path.parent(), path.file_name()) else {
        return Vec::new();
    };
    let name = name.as_bytes();
    let cuts = (1..name.len()).filter(|at| SEPARATORS.contains(&name[*at]));
    let extension = name
        .iter()
        .rposition(|byte| *byte == b'.')
        .unwrap_or(name.len());
    let bases = cuts.flat_map(|cut| {
        let whole = name[..cut].to_vec();
        let with_extension = [&name[..cut], &name[extension.max(cut)..]].concat();
        [whole, with_extension]
    });
    bases
        .filter(|base| is_rotated_name(base, name))
        .map(|base| directory.join(std::ffi::OsStr::from_bytes(&base)))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_suspect_is_held_for_a_while_and_then_read() {
        let (mut suspects, start) = (Suspects::default(), Instant::now());
        let path = Path::new("/d/a.log.1");
        assert!(suspects.hold(path, start));
        assert!(suspects.hold(path, start + HOLD / 2));
        assert!(!suspects.hold(path, start + HOLD));
        suspects.clear(path);
        assert!(suspects.paths().is_empty());
    }

    #[test]
    fn a_rotated_name_tells_whose_it_may_be() {
        let of = |name: &str| originals(&Path::new("/d").join(name));
        for (name, base) in [
            ("app.log.1", "app.log"),
            ("app.log-20260101", "app.log"),
            ("app.log.2026-01-01_10", "app.log"),
            ("app-20260101.log", "app.log"),
            ("app.log.old", "app.log"),
            ("app.log~", "app.log"),
        ] {
            let found = of(name);
            assert!(
                found.contains(&Path::new("/d").join(base)),
                "{name}: {found:?}"
            );
        }
        assert_eq!(of("app.log"), Vec::<PathBuf>::new());
        assert_eq!(of("other.txt"), Vec::<PathBuf>::new());
    }
}
