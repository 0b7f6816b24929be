//! What a name that was found becomes: a generation that is read from the right place, or nothing.
//!
//! Where reading begins follows from the pos_file ([`Memory`](super::memory::Memory)), from what this run has read already, and from
//! `read_from_head`. The part of [`Source`] that is not the loop.

use std::collections::HashMap;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use tracing::warn;

use super::absolute;
use super::clock::SWEEP;
use super::discover::Found;
use super::file::{Identity, Opened, Origin, State};
use super::files::Files;
use super::known::Known;
use super::memory::Memory;
use super::params::{Params, tag_for};
use super::paths::PathSet;
use super::position::Ledger;
use super::recalled::Recalled;
use super::source::Source;
use super::state_file::{Kind, Remembered};
use super::store;
use super::track::Track;
use crate::event::Tag;
use crate::input::Surroundings;

/// What is known of a directory while the entries of its files are looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Directory {
    Missing,
    /// Names may have moved while it was listed.
    Moving,
    /// What is not in its listing is not there.
    Steady,
}

impl Directory {
    fn of(files: &mut Files, path: &Path, directory: &Path) -> Directory {
        let listings = &mut files.known.listings;
        listings.forget_beside(path);
        // Listed now.
        listings.lacks(path, 0);
        match directory.exists() {
            false => Directory::Missing,
            true if listings.is_steady(path) => Directory::Steady,
            true => Directory::Moving,
        }
    }
}

/// The pause after an expansion of `path` is at least this many times its cost.
const DISCOVER_SHARE: u32 = 10;

impl Source {
    /// Expands `path` and begins to read what is new.
    pub fn discover(&mut self, files: &mut Files) {
        let start = Instant::now();
        files.known.listings.forget();
        let mut found = self.targets.find(SystemTime::now());
        if self.watch.set(&found.directories) {
            // Whatever appeared before the watch was on.
            found = self.targets.find(SystemTime::now());
        }
        let Found {
            fixed,
            globbed,
            matcher,
            packed,
            ..
        } = found;
        self.matcher = matcher;
        if let (count, Some(example)) = packed
            && !std::mem::replace(&mut self.told_packed, true)
        {
            warn!(count, example = %example.display(), "compressed files match 'path': they are not read");
        }
        self.aliases.clear();
        for track in files.tracks.values_mut() {
            track.wanted = fixed.contains_key(&track.path) || globbed.contains(&track.path);
        }
        let new = |path: &&Path| !files.tracks.contains_key(path);
        let mut paths: Vec<PathBuf> = fixed
            .values()
            .map(PathBuf::as_path)
            .chain(globbed.iter().filter(|path| self.is_recent(path)))
            .filter(new)
            .map(Path::to_owned)
            .collect();
        if self.memory.starting {
            // What stands where it stood says which of the others are copies of it.
            paths.sort_by_cached_key(|path| !self.memory.stands(path, inode_at(path)));
        }
        for path in paths {
            self.begin(files, path);
        }
        self.fixed = fixed;
        self.find_aliases(files);
        if std::mem::take(&mut self.memory.starting) {
            self.resume_vanished(files, &globbed);
            files.known.await_no_more();
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
        if std::mem::take(&mut files.known.are_few) {
            // Some may be free then: what has no event is found by its name.
            self.clock.names_allowed = self.clock.names_allowed.max(now + SWEEP);
            self.clock.look_at_names();
        }
    }

    /// Takes up a name that appeared, went or changed. False for one that says nothing about files of ours.
    pub fn look_at_name(&mut self, files: &mut Files, path: &Path) -> bool {
        self.aliases.remove(path);
        files.known.listings.forget_beside(path);
        if files.tracks.contains_key(path) {
            files.look(path);
            self.find_alias(files, path);
            return true;
        }
        let covered = self.matcher.covers(path);
        if covered {
            self.begin(files, self.as_written(path));
        }
        covered
    }

    /// What the configuration calls this path: so it stands in the pos_file and in `path_key`.
    fn as_written(&self, path: &Path) -> PathBuf {
        let written = self.fixed.get(path).map(PathBuf::as_path);
        written.unwrap_or(path).to_owned()
    }

    /// Paths at which a generation stands that is read under another path, from which it was renamed.
    fn find_aliases(&mut self, files: &mut Files) {
        let odd = files.tracks.values().filter(|track| !track.is_plain());
        let paths: Vec<PathBuf> = odd.map(|track| track.path.clone()).collect();
        paths.iter().for_each(|path| self.find_alias(files, path));
    }

    fn find_alias(&mut self, files: &mut Files, path: &Path) {
        let Some(track) = files.tracks.get_mut(path) else {
            return;
        };
        if track.wanted
            && track.current().is_none()
            && let Ok(meta) = std::fs::metadata(path)
            && files.known.reading.contains(&Identity::of(&meta))
        {
            files.known.changes += 1;
            self.aliases.insert(path.to_owned(), Identity::of(&meta));
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
        age.is_none_or(|age| age <= limit.0) || self.memory.knows(path)
    }

    /// Begins to read the file at `path`, if there is one that nobody reads.
    pub fn begin(&mut self, files: &mut Files, path: PathBuf) {
        let opened = match files.open(&path) {
            Ok(opened) => opened,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                files.suspects.clear(&path);
                return self.begin_missing(files, path);
            }
            Err(error) => return files.trouble(&path, &error),
        };
        files.troubles.remove(&path);
        if files.known.reading.contains(&opened.identity) {
            files.suspects.clear(&path);
            self.aliases.insert(path, opened.identity);
            files.known.changes += 1;
            files.known.ledger.mark_moved();
            return;
        }
        let is_new = !self.memory.starting && !self.memory.knows(&path);
        if is_new && !self.at_end && files.is_held_as_copy(&path, &opened, Instant::now()) {
            return;
        }
        let mut track = Track::new(path.clone(), self.tag(&path), &files.known.ledger);
        let origin = self.origin(files, &mut track, &opened).or_else(|_| {
            files.lend();
            self.origin(files, &mut track, &opened)
        });
        let origin = match origin {
            Ok(origin) => origin,
            Err(error) => {
                files.known.ledger.close_path(track.number);
                files.known.are_few = true;
                return files.trouble(&path, &error);
            }
        };
        let known = &mut files.known;
        while let Some(older) = self.memory.take_path(&path) {
            track.resume_rotated(known, older, self.known_since());
        }
        self.go_on_searching(&mut track);
        // Before the positions are written, which say that everything older is known.
        track.find_between(known, Some(opened.identity));
        match known.begin(opened, origin, State::Current, &track) {
            Ok(current) => track.add(current),
            Err(error) => return files.trouble(&path, &error),
        }
        files.add(track);
    }

    /// Where the file that stands at a path begins to be read; what came before it is taken up. An error is about descriptors.
    fn origin(
        &mut self,
        files: &mut Files,
        track: &mut Track,
        opened: &Opened,
    ) -> io::Result<Origin> {
        let (path, known) = (track.path.clone(), &mut files.known);
        let other = match self.memory.take_inode(&path, opened.identity.inode) {
            Some(remembered) if remembered.may_be(opened.identity) => {
                let resume = remembered.resume;
                let Some(since) = self.memory.modified else {
                    return Ok(Origin::Resumed(resume));
                };
                return match track.find_copies(known, resume, opened, (since, &self.matcher)) {
                    Ok(true) => Ok(Origin::New),
                    Ok(false) => Ok(Origin::Resumed(resume)),
                    Err(error) => {
                        self.memory.put_back(&remembered);
                        Err(error)
                    }
                };
            }
            other => other,
        };
        if let Some(mut remembered) = other.or_else(|| self.memory.take_path(&path)) {
            if remembered.path == path {
                // It stood at the path: whoever wrote the entry, its rest is missed.
                remembered.kind = Kind::Owed;
            }
            track.resume_rotated(known, remembered, self.known_since());
            return Ok(Origin::New);
        }
        if self.memory.starting && self.memory.first_start && !self.params.read_from_head {
            return Ok(Origin::Old);
        }
        self.search_unseen(track);
        Ok(Origin::New)
    }

    /// Nothing stands at the path: what stood there since the last look may stand beside it.
    fn begin_missing(&mut self, files: &mut Files, path: PathBuf) {
        if self.memory.starting && self.memory.knows(&path) {
            return;
        }
        let mut track = Track::new(path.clone(), self.tag(&path), &files.known.ledger);
        self.search_unseen(&mut track);
        track.find_between(&mut files.known, None);
        if track.generations.is_empty() {
            files.known.ledger.close_path(track.number);
        } else {
            files.add(track);
        }
    }

    /// A file that nobody has looked at was renamed away from a path that is asked for. False where it was not.
    pub fn begin_renamed(&self, files: &mut Files, from: &Path, to: &Path) -> bool {
        if !self.matcher.covers(from) || self.matcher.covers(to) {
            return false;
        }
        let path = self.as_written(from);
        let mut track = Track::new(path.clone(), self.tag(&path), &files.known.ledger);
        track.follow_rename(&path, to);
        self.search_unseen(&mut track);
        track.find_between(&mut files.known, None);
        track.take_up_again(&mut files.known, to);
        files.add(track);
        true
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

    /// An earlier run that was searching when it ended may have missed names that moved: its search goes on.
    fn go_on_searching(&self, track: &mut Track) {
        if let (true, Some(since)) = (self.memory.starting, self.memory.searching_since) {
            track.search_since(since, true);
        }
    }

    /// Generations that were last written before this are known from earlier runs.
    fn known_since(&self) -> SystemTime {
        self.memory.modified.unwrap_or_else(SystemTime::now)
    }

    /// After the first expansion: entries whose path does not exist now, or names a file that is read under another path, may have
    /// been rotated away. Entries of a missing directory, and of files that cannot be read yet, are kept; the others are
    /// dropped, as in Fluentd.
    fn resume_vanished(&mut self, files: &mut Files, globbed: &PathSet) {
        let mut kept = Vec::new();
        let mut directories: HashMap<PathBuf, Directory> = HashMap::new();
        for remembered in self.memory.take_all() {
            let path = &remembered.path;
            let directory = path.parent().map_or(Directory::Missing, |directory| {
                let known = directories.get(directory).copied();
                known.unwrap_or_else(|| {
                    let found = Directory::of(files, path, directory);
                    directories.insert(directory.to_owned(), found);
                    found
                })
            });
            if directory == Directory::Steady
                && remembered.kind == Kind::Entry
                && !files.troubles.contains_key(path)
                && files.known.listings.lacks(path, remembered.inode)
            {
                // Long gone, as most entries of a pos_file that was never compacted: there may be many.
                continue;
            }
            let wanted = self.fixed.contains_key(path) || globbed.contains(path);
            if directory == Directory::Missing || (wanted && files.troubles.contains_key(path)) {
                kept.push(remembered);
            } else if self.matcher.covers(path) && inode_at(path) != Some(remembered.inode) {
                self.resume_elsewhere(files, remembered);
            }
        }
        self.memory.keep(kept);
    }

    fn resume_elsewhere(&self, files: &mut Files, remembered: Remembered) {
        let path = remembered.path.clone();
        let mut track = match files.tracks.remove(&path) {
            Some(track) => track,
            None => Track::new(path.clone(), self.tag(&path), &files.known.ledger),
        };
        let is_owed = remembered.kind == Kind::Owed;
        track.resume_rotated(&mut files.known, remembered, self.known_since());
        self.go_on_searching(&mut track);
        // Now: before their names change again.
        track.find_between(&mut files.known, None);
        if track.is_empty() && !is_owed {
            files.known.ledger.close_path(track.number);
        } else {
            files.add(track);
        }
    }

    fn tag(&self, path: &Path) -> Tag {
        Tag::new(&tag_for(&self.params.tag, &path.to_string_lossy()))
    }
}

fn inode_at(path: &Path) -> Option<u64> {
    std::fs::metadata(path).ok().map(|meta| meta.ino())
}

/// What is known of files from earlier runs: by position, and by what buffers say.
pub fn remember(
    params: &Params,
    ledger: &Arc<Ledger>,
    surroundings: &Surroundings,
    found: store::Found,
) -> (Known, Memory) {
    let pos_file = params.pos_file.as_deref().map(absolute);
    let recalled = Recalled::new(pos_file.as_deref(), found.modified, &surroundings.recalled);
    let (longest, wait) = (params.line_limit(), params.rotate_wait.0);
    let mut known = Known::new(ledger.clone(), recalled, longest, wait);
    known.finished_earlier(found.finished);
    let awaited = found.remembered.iter();
    known.await_inodes(awaited.map(|entry| (entry.inode, entry.resume.born)));
    let mut memory = Memory::default();
    memory.keep(found.remembered);
    memory.starting = true;
    memory.first_start = found.first_start;
    memory.modified = found.modified;
    memory.searching_since = found.searching_since;
    (known, memory)
}
