//! What a name that was found becomes: a generation that is read from the right place, or nothing.
//!
//! Where reading begins follows from the pos_file ([`Memory`]), from what this run has read already, and from
//! `read_from_head`. The part of [`Source`] that is not the loop.

use std::collections::{BTreeSet, HashMap};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime};

use tracing::warn;

use super::discover::Found;
use super::file::{Identity, Origin, State, open};
use super::params::tag_for;
use super::pos_file::Entry;
use super::source::Source;
use super::track::Track;
use crate::event::Tag;

/// The pause after an expansion of `path` is at least this many times its cost.
const DISCOVER_SHARE: u32 = 10;

/// What the pos_file said at start, as far as nobody has taken it up.
#[derive(Default)]
pub struct Memory {
    /// Entries by path.
    pub entries: Vec<Entry>,
    /// When it was last written.
    pub modified: Option<SystemTime>,
    /// No file of this source was ever read: those that stand there are old.
    pub first_start: bool,
    /// The first expansion of `path` is not done yet.
    pub starting: bool,
}

impl Source {
    /// Expands `path` and begins to read what is new.
    pub fn discover(&mut self) {
        let start = Instant::now();
        let mut found = self.targets.find(SystemTime::now());
        if self.watch.set(&found.directories) {
            // Whatever appeared before the watch was on.
            found = self.targets.find(SystemTime::now());
        }
        let Found { fixed, globbed, .. } = found;
        self.aliases.clear();
        for track in self.tracks.values_mut() {
            track.wanted = fixed.contains(&track.path) || globbed.contains(&track.path);
        }
        let new = |path: &&PathBuf| !self.tracks.contains_key(*path);
        let paths: Vec<PathBuf> = fixed
            .iter()
            .chain(globbed.iter().filter(|path| self.is_recent(path)))
            .filter(new)
            .cloned()
            .collect();
        for path in paths {
            self.begin(path);
        }
        self.fixed = fixed;
        self.find_aliases();
        if std::mem::take(&mut self.memory.starting) {
            self.resume_vanished(&globbed);
        }
        let now = Instant::now();
        self.clock.refresh = now
            + self
                .params
                .refresh_interval
                .0
                .max(Duration::from_millis(10));
        self.clock.names = None;
        self.clock.names_allowed = now + (now - start) * DISCOVER_SHARE;
    }

    /// Paths at which a generation stands that is read under another path, from which it was renamed.
    fn find_aliases(&mut self) {
        for track in self.tracks.values_mut().filter(|track| track.wanted) {
            if track.current().is_none()
                && let Ok(meta) = std::fs::metadata(&track.path)
                && self.known.reading.contains(&Identity::of(&meta))
            {
                self.aliases.insert(track.path.clone(), Identity::of(&meta));
            }
        }
    }

    /// `limit_recently_modified`: a file that we know is never too old.
    fn is_recent(&self, path: &Path) -> bool {
        let Some(limit) = self.params.limit_recently_modified else {
            return true;
        };
        let age = std::fs::metadata(path)
            .and_then(|meta| meta.modified())
            .ok()
            .and_then(|modified| modified.elapsed().ok());
        age.is_none_or(|age| age <= limit.0)
            || self.memory.entries.iter().any(|entry| entry.path == path)
    }

    /// Begins to read the file at `path`, if there is one that nobody reads.
    pub fn begin(&mut self, path: PathBuf) {
        let opened = match open(&path) {
            Ok(opened) => opened,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                return self.begin_missing(path);
            }
            Err(error) => return trouble(&mut self.troubles, &path, &error),
        };
        self.troubles.remove(&path);
        if self.known.reading.contains(&opened.identity) {
            self.aliases.insert(path, opened.identity);
            self.known.ledger.mark_moved();
            return;
        }
        let mut track = Track::new(path.clone(), self.tag(&path));
        let origin = match self.memory.take_inode(&path, opened.identity.inode) {
            Some(entry) => {
                if entry.position > opened.size {
                    warn!(path = %path.display(), position = entry.position, size = opened.size, "file is shorter than its position, reading it from its head");
                }
                Origin::Resumed(entry.position)
            }
            None => match self.memory.take_path(&path) {
                Some(entry) => {
                    self.resume_before(&mut track, entry);
                    Origin::New
                }
                None if self.memory.starting
                    && self.memory.first_start
                    && !self.params.read_from_head =>
                {
                    Origin::Old
                }
                None => {
                    self.search_unseen(&mut track);
                    Origin::New
                }
            },
        };
        // Before the positions are written, which say that everything older is known.
        track.find_between(&mut self.known, Some(opened.identity));
        let current = self.known.begin(opened, origin, State::Current);
        track.add(current);
        self.tracks.insert(path, track);
    }

    /// Nothing stands at the path: what stood there since the last look may stand beside it.
    fn begin_missing(&mut self, path: PathBuf) {
        if self.memory.starting && self.memory.entries.iter().any(|entry| entry.path == path) {
            return;
        }
        let mut track = Track::new(path.clone(), self.tag(&path));
        self.search_unseen(&mut track);
        track.find_between(&mut self.known, None);
        if !track.generations.is_empty() {
            self.tracks.insert(path, track);
        }
    }

    /// Searches generations that came and went since the positions were written, or since the last look.
    fn search_unseen(&self, track: &mut Track) {
        if !self.memory.starting {
            // What is older than the pos_file of the start was finished, however shortly before the last look it was born.
            let known = self.memory.modified.unwrap_or(SystemTime::UNIX_EPOCH);
            track.search_since_look(self.clock.last_sweep, known);
        } else if let Some(modified) = self.memory.modified {
            track.search_since(modified, true);
        }
    }

    /// The pos_file names a generation that is no longer at its path: finish it and those that came after it.
    fn resume_before(&mut self, track: &mut Track, entry: Entry) {
        if !track.resume_rotated(&mut self.known, &entry) {
            warn!(path = %entry.path.display(), inode = entry.inode, position = entry.position,
                "the file that was being read is not there any more; what was unread in it is lost");
            if let Some(modified) = self.memory.modified {
                track.search_since(modified, true);
            }
        }
    }

    /// After the first expansion: entries whose path does not exist now may have been rotated away. Entries of a missing
    /// directory, and of files that cannot be read yet, are kept; the others are dropped, as in Fluentd.
    fn resume_vanished(&mut self, globbed: &BTreeSet<PathBuf>) {
        for entry in std::mem::take(&mut self.memory.entries) {
            let there = entry.path.parent().is_some_and(Path::exists);
            let wanted = self.fixed.contains(&entry.path) || globbed.contains(&entry.path);
            if !there || (wanted && self.troubles.contains_key(&entry.path)) {
                self.memory.entries.push(entry);
            } else if !entry.path.exists() && self.targets.covers(&entry.path) {
                let mut track = Track::new(entry.path.clone(), self.tag(&entry.path));
                if track.resume_rotated(&mut self.known, &entry) {
                    self.tracks.insert(entry.path, track);
                }
            }
        }
    }

    fn tag(&self, path: &Path) -> Tag {
        Tag::new(&tag_for(&self.params.tag, &path.to_string_lossy()))
    }
}

impl Memory {
    /// The position of this inode, if it was known in the directory of `path` under any name.
    fn take_inode(&mut self, path: &Path, inode: u64) -> Option<Entry> {
        let same = |entry: &Entry| entry.inode == inode && entry.path.parent() == path.parent();
        let at = self
            .entries
            .iter()
            .position(|entry| same(entry) && entry.path == path);
        at.or_else(|| self.entries.iter().position(same))
            .map(|at| self.entries.remove(at))
    }

    /// What was read at this path last.
    fn take_path(&mut self, path: &Path) -> Option<Entry> {
        let at = self.entries.iter().rposition(|entry| entry.path == path)?;
        Some(self.entries.remove(at))
    }
}

/// Says once per change what is wrong with a path; it is tried again at every look.
pub(super) fn trouble(
    troubles: &mut HashMap<PathBuf, String>,
    path: &Path,
    error: &std::io::Error,
) {
    let reason = error.to_string();
    if troubles.get(path) != Some(&reason) {
        warn!(path = %path.display(), reason, "cannot read, skipped until that changes");
        troubles.insert(path.to_owned(), reason);
    }
}
