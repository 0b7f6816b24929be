//! One path and the generations of its file, oldest first: what is read, what was read, what stands in the pos_file.
//!
//! The path is a way to find files. Whichever generations are found, each has one reader in the whole source
//! ([`Known::reading`]), and a finished one is remembered, so that it is not read again under its rotated name.

use std::collections::{HashSet, VecDeque};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use tracing::{info, warn};

use super::discover::{Sibling, sibling_with_inode, siblings};
use super::file::{
    Generation, Held, Identity, Look, Opened, Origin, State, judge, open, start_position,
};
use super::group::Quota;
use super::lines::Splitter;
use super::pos_file::Entry;
use super::position::Ledger;
use super::read::READ_SIZE;
use crate::event::Tag;

/// File times come from a coarse clock: a generation may seem this much older than the moment in which it was made.
const CLOCK_SLACK: Duration = Duration::from_millis(50);
/// How long the directory is searched again after a rotation: one listing may miss a name that moves meanwhile.
const SEARCH_AGAIN: Duration = Duration::from_secs(2);
/// How many finished generations are remembered.
const RETIRED: usize = 4096;

/// What all tracks of a source share.
pub struct Known {
    /// Where positions are counted.
    pub ledger: Arc<Ledger>,
    /// Generations that have a reader.
    pub reading: HashSet<Identity>,
    /// Finished generations and how far they were read, oldest first.
    retired: VecDeque<(Identity, u64)>,
    /// Longest line.
    pub max_line_size: u64,
    /// How long a rotated file stays open at least.
    pub rotate_wait: Duration,
}

impl Known {
    /// Nothing is known yet.
    pub fn new(ledger: Arc<Ledger>, max_line_size: u64, rotate_wait: Duration) -> Known {
        Known {
            ledger,
            reading: HashSet::new(),
            retired: VecDeque::new(),
            max_line_size,
            rotate_wait,
        }
    }

    /// How far a finished generation was read.
    pub fn retired(&self, identity: Identity) -> Option<u64> {
        let found = self
            .retired
            .iter()
            .rev()
            .find(|(known, _)| *known == identity);
        found.map(|(_, position)| *position)
    }

    fn is_new(&self, identity: Identity) -> bool {
        !self.reading.contains(&identity) && self.retired(identity).is_none()
    }

    /// Begins to read an opened file; `None` if it has a reader already.
    pub fn begin(&mut self, opened: Opened, origin: Origin, state: State) -> Option<Generation> {
        if !self.reading.insert(opened.identity) {
            return None;
        }
        let origin = self
            .retired(opened.identity)
            .map_or(origin, Origin::Resumed);
        let position = start_position(origin, opened.size);
        Some(Generation {
            account: self.ledger.open_account(position),
            file: opened.file,
            identity: opened.identity,
            position,
            size: opened.size,
            lines: Splitter::new(usize::try_from(self.max_line_size).unwrap_or(usize::MAX)),
            held: Held::default(),
            state,
            read_size: READ_SIZE,
            dirty: true,
            quota: Quota::default(),
        })
    }

    fn retire(&mut self, generation: &Generation) {
        self.reading.remove(&generation.identity);
        self.retired
            .push_back((generation.identity, generation.position));
        if self.retired.len() > RETIRED {
            self.retired.pop_front();
        }
    }
}

/// A search for generations that came and went between two looks.
#[derive(Clone, Copy, Debug)]
struct Search {
    /// Files of this time or younger are generations that we have not seen.
    floor: SystemTime,
    /// Whether `floor` is about the last write instead of the birth: where nothing better is known.
    by_modified: bool,
    until: Instant,
}

/// One path that is asked for.
pub struct Track {
    /// The path.
    pub path: PathBuf,
    /// The tag of its events.
    pub tag: Tag,
    /// Whether the configuration still asks for it.
    pub wanted: bool,
    /// Its generations, oldest first; the last one may stand at the path.
    pub generations: VecDeque<Generation>,
    /// When the path was last looked at.
    seen: SystemTime,
    search: Option<Search>,
    /// A given-up generation with a forgotten batch: the next start begins there.
    unfinished: Option<Entry>,
}

impl Track {
    /// A path without any generation yet.
    pub fn new(path: PathBuf, tag: Tag) -> Track {
        Track {
            path,
            tag,
            wanted: true,
            generations: VecDeque::new(),
            seen: SystemTime::now(),
            search: None,
            unfinished: None,
        }
    }

    /// The generation that stands at the path.
    pub fn current(&mut self) -> Option<&mut Generation> {
        self.generations
            .back_mut()
            .filter(|last| last.state == State::Current)
    }

    /// Whether nothing is left to do here.
    pub fn is_over(&self) -> bool {
        self.generations.is_empty() && self.search.is_none() && self.unfinished.is_none()
    }

    /// Looks for generations born since `floor` from now on.
    pub fn search_since(&mut self, floor: SystemTime, by_modified: bool) {
        let until = Instant::now() + SEARCH_AGAIN;
        match &mut self.search {
            Some(search) => search.until = until,
            None => {
                self.search = Some(Search {
                    floor,
                    by_modified,
                    until,
                });
            }
        }
    }

    /// Looks for generations born after a look at this time of our clock, and after `known`: everything older is known.
    pub fn search_since_look(&mut self, look: SystemTime, known: SystemTime) {
        let floor = look.checked_sub(CLOCK_SLACK).unwrap_or(look);
        self.search_since(floor.max(known), false);
    }

    /// Compares the open files and the path with what was known, opens what is new. An error is about the path and leaves
    /// everything else as it was. `flush` emits what a truncation would leave without an end.
    pub fn look(
        &mut self,
        known: &mut Known,
        flush: impl FnOnce(&mut Generation, &Tag, &Path),
    ) -> io::Result<()> {
        let now = SystemTime::now();
        let at_path = if self.wanted {
            std::fs::metadata(&self.path).ok()
        } else {
            None
        };
        let at_path = at_path
            .filter(std::fs::Metadata::is_file)
            .map(|meta| Identity::of(&meta));
        for generation in &mut self.generations {
            generation.refresh_size()?;
        }
        let seen = std::mem::replace(&mut self.seen, now);
        if let Some(current) = self.current() {
            match judge(current.identity, current.position, current.size, at_path) {
                Look::Same => {}
                Look::Truncated => self.truncated(known, flush),
                Look::Rotated => self.rotated(known, seen),
            }
        }
        let opened = match at_path {
            Some(identity) if self.current().is_none() && !known.reading.contains(&identity) => {
                Some(open(&self.path)?)
            }
            _ => None,
        };
        // Listed after the path was opened: whatever is renamed from now on is open already.
        self.find_between(known, opened.as_ref().map(|opened| opened.identity));
        if let Some(opened) = opened {
            self.add(known.begin(opened, Origin::New, State::Current));
        }
        Ok(())
    }

    /// Adds the youngest generation.
    pub fn add(&mut self, generation: Option<Generation>) {
        if let Some(generation) = generation {
            if generation.state == State::Current {
                info!(
                    position = generation.position,
                    inode = generation.identity.inode,
                    "following tail of {}",
                    self.path.display()
                );
            }
            self.generations.push_back(generation);
        }
    }

    fn rotated(&mut self, known: &Known, seen: SystemTime) {
        let wait = known.rotate_wait.as_secs_f32();
        let wanted = self.wanted;
        if let Some(current) = self.current() {
            current.state = State::Rotated {
                since: Instant::now(),
            };
            current.dirty = true;
        }
        if wanted {
            info!(
                "detected rotation of {}; waiting {wait} seconds",
                self.path.display()
            );
            self.search_since_look(seen, SystemTime::UNIX_EPOCH);
        }
    }

    /// The file was truncated: its old life ended with what was read, the new one begins at 0.
    fn truncated(&mut self, known: &Known, flush: impl FnOnce(&mut Generation, &Tag, &Path)) {
        let path = self.path.display();
        let Some(current) = self.generations.back_mut() else {
            return;
        };
        flush(current, &self.tag, &self.path);
        let not_safe = current.position - known.ledger.committed(current.account).unwrap_or(0);
        warn!(
            %path, size = current.size, position = current.position, not_safe,
            "file was truncated, reading it from its head; what was written after the last read is lost"
        );
        known.ledger.close_account(current.account);
        current.account = known.ledger.open_account(0);
        current.position = 0;
        current.lines = Splitter::new(usize::try_from(known.max_line_size).unwrap_or(usize::MAX));
        current.held = Held::default();
        current.dirty = true;
    }

    /// Begins to read the generations that the search finds; `at_path` is not one of them.
    pub fn find_between(&mut self, known: &mut Known, at_path: Option<Identity>) {
        let Some(search) = self.search else {
            return;
        };
        if search.until < Instant::now() {
            self.search = None;
        }
        for sibling in siblings(&self.path) {
            let age = if search.by_modified {
                sibling.modified
            } else {
                sibling.identity.born.or(sibling.modified)
            };
            let young = age.is_none_or(|age| age >= search.floor);
            if young && Some(sibling.identity) != at_path && known.is_new(sibling.identity) {
                self.add_rotated(known, &sibling, Origin::New);
            }
        }
    }

    /// Searches the generation with this inode beside the path: it was rotated while nobody looked. True if it is there.
    pub fn resume_rotated(&mut self, known: &mut Known, entry: &Entry) -> bool {
        let Some(sibling) = sibling_with_inode(&self.path, entry.inode) else {
            return false;
        };
        if let Some(born) = sibling.identity.born.or(sibling.modified) {
            self.search_since(born, false);
        }
        self.add_rotated(known, &sibling, Origin::Resumed(entry.position))
    }

    fn add_rotated(&mut self, known: &mut Known, sibling: &Sibling, origin: Origin) -> bool {
        // Renamed again meanwhile, or unreadable: the search goes on at the next look.
        let Some(opened) = open(&sibling.path)
            .ok()
            .filter(|opened| opened.identity == sibling.identity)
        else {
            return false;
        };
        let since = Instant::now();
        let Some(generation) = known.begin(opened, origin, State::Rotated { since }) else {
            return false;
        };
        info!(path = %self.path.display(), rotated = %sibling.path.display(), position = generation.position, "reading a generation that was rotated meanwhile");
        // Among the rotated ones by age: the pos_file names the oldest that is not finished.
        let older = |g: &&Generation| {
            g.state != State::Current && g.identity.born <= generation.identity.born
        };
        let at = self.generations.iter().take_while(older).count();
        self.generations.insert(at, generation);
        true
    }

    /// Gives up rotated generations that were read to their end and are safe, when `rotate_wait` has passed. What has an
    /// unfinished line or a held text left then is given to `flush`, which tells whether it could be emitted. True if any
    /// was given up.
    pub fn retire(
        &mut self,
        known: &mut Known,
        mut flush: impl FnMut(&mut Generation, &Tag, &Path) -> bool,
    ) -> bool {
        let before = self.generations.len();
        // In order, so that the pos_file never names one that came before a finished one.
        while let Some(oldest) = self.generations.front_mut() {
            let State::Rotated { since } = oldest.state else {
                break;
            };
            if since.elapsed() < known.rotate_wait || oldest.dirty || !oldest.at_end() {
                break;
            }
            if oldest.uncovered() > 0 && !flush(oldest, &self.tag, &self.path) {
                break;
            }
            let stuck = known.ledger.stuck(oldest.account);
            if !stuck && !known.ledger.settled(oldest.account) {
                break;
            }
            if stuck && self.unfinished.is_none() {
                self.unfinished = known
                    .ledger
                    .committed(oldest.account)
                    .map(|position| Entry {
                        path: self.path.clone(),
                        position,
                        inode: oldest.identity.inode,
                    });
            }
            known.ledger.close_account(oldest.account);
            known.retire(oldest);
            self.generations.pop_front();
        }
        self.generations.len() < before
    }

    /// What the pos_file says about this path: the oldest generation that is not finished, or the youngest.
    pub fn entry(&self, ledger: &Ledger) -> Option<Entry> {
        if self.unfinished.is_some() {
            return self.unfinished.clone();
        }
        let finished = |g: &Generation| {
            g.at_end() && !g.dirty && g.uncovered() == 0 && ledger.settled(g.account)
        };
        let oldest = self
            .generations
            .iter()
            .find(|g| !finished(g))
            .or(self.generations.back())?;
        Some(Entry {
            path: self.path.clone(),
            position: ledger.committed(oldest.account)?,
            inode: oldest.identity.inode,
        })
    }
}
