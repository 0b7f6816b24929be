//! One path and the generations of its file, oldest first: what is read, what was read, what stands in the pos_file.
//!
//! The path is a way to find files. Whichever generations are found, each has one reader in the whole source
//! ([`Known::reading`]), and a finished one is remembered, so that it is not read again under its rotated name.

use std::collections::VecDeque;
use std::fs::Metadata;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime};

use tracing::{info, warn};

use super::clock::CLOCK_SLACK;
use super::evidence::Resume;
use super::file::{
    Generation, Identity, Look, Origin, State, is_short_of_descriptors, judge, open,
};
use super::known::Known;
use super::listing::Sibling;
use super::pos_file::Entry;
use super::position::{Ledger, PathNumber};
use super::state_file::{Kind, Remembered};
use crate::event::Tag;

/// How long the directory is searched again after a rotation: one listing may miss a name that moves meanwhile.
const SEARCH_AGAIN: Duration = Duration::from_secs(2);
/// How often a directory is listed anew at once for a generation that is not found.
const TRIES: usize = 3;

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
    /// Its account in the ledger.
    pub number: PathNumber,
    /// When the path was last looked at.
    seen: SystemTime,
    search: Option<Search>,
    /// Names that files got when they were renamed from this path, or from one of these.
    moved: Vec<PathBuf>,
    /// Generations that an earlier run left unfinished and that were not found yet: names move while a directory is listed.
    missing: Vec<Remembered>,
    /// A given-up generation with a forgotten batch: the next start begins there.
    unfinished: Option<Entry>,
}

impl Track {
    /// A path without any generation yet.
    pub fn new(path: PathBuf, tag: Tag, ledger: &Ledger) -> Track {
        Track {
            path,
            tag,
            number: ledger.open_path(),
            moved: Vec::new(),
            missing: Vec::new(),
            wanted: true,
            // As a rule it has one: room for more would be most of the memory of ten thousand files.
            generations: VecDeque::with_capacity(1),
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

    /// Whether only its file, which stands at its path and is open, has to be looked at.
    pub fn is_plain(&self) -> bool {
        self.wanted
            && self.search.is_none()
            && self.generations.len() == 1
            && self.generations[0].state == State::Current
    }

    /// A file was renamed from the path, or from a name to which it was renamed before: the new name is searched too.
    pub fn follow_rename(&mut self, from: &Path, to: &Path) -> bool {
        let known = self.moved.iter().position(|name| name == from);
        match known {
            Some(at) => self.moved[at] = to.to_owned(),
            None if from == self.path => {
                self.moved.push(to.to_owned());
                if self.current().is_none() {
                    // It came and went since the last look.
                    self.search_since_look(self.seen, SystemTime::UNIX_EPOCH);
                }
            }
            None => return false,
        }
        true
    }

    /// Looks for generations born since `floor` from now on, and for all that a search under way looks for.
    pub fn search_since(&mut self, floor: SystemTime, by_modified: bool) {
        let until = Instant::now() + SEARCH_AGAIN;
        match &mut self.search {
            Some(search) => {
                search.until = until;
                search.floor = search.floor.min(floor);
                // The wider of the two: what was born since then was written to since then.
                search.by_modified |= by_modified;
            }
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
        let stands = if self.wanted {
            std::fs::metadata(&self.path).ok().filter(Metadata::is_file)
        } else {
            None
        };
        let at_path = stands.as_ref().map(Identity::of);
        for generation in &mut self.generations {
            generation.refresh_size(stands.as_ref())?;
        }
        let seen = std::mem::replace(&mut self.seen, now);
        if let Some(current) = self.current() {
            match judge(current.identity, current.position, current.size, at_path) {
                Look::Same => {}
                Look::Truncated => {
                    let last = self.generations.len() - 1;
                    self.truncated(known, last, flush);
                }
                Look::Rotated => self.rotated(known, seen),
            }
        } else if self.wanted && !self.generations.is_empty() {
            // Nothing stood at the path: what came to it since may have gone on.
            self.search_since_look(seen, SystemTime::UNIX_EPOCH);
        }
        let opened = match at_path {
            Some(identity) if self.current().is_none() && !known.reading.contains(&identity) => {
                Some(open(&self.path)?)
            }
            _ => None,
        };
        if opened.is_some() {
            // Listed after the path was opened: whatever is renamed from now on is open already.
            known.listings.forget_beside(&self.path);
        }
        let at_path = opened.as_ref().map(|opened| opened.identity);
        self.find_between(known, at_path);
        if let Some(opened) = opened {
            let current = known.begin(opened, Origin::New, State::Current, self)?;
            self.add(current);
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

    fn rotated(&mut self, known: &mut Known, seen: SystemTime) {
        let wait = known.rotate_wait.as_secs_f32();
        let wanted = self.wanted;
        known.listings.forget_beside(&self.path);
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

    /// Begins to read the generations that the search finds; `at_path` is not one of them.
    pub fn find_between(&mut self, known: &mut Known, at_path: Option<Identity>) {
        let Some(search) = self.search else {
            return;
        };
        let moved = self.moved.iter().cloned().filter_map(Sibling::at);
        let mut candidates: Vec<Sibling> = moved.collect();
        candidates.extend(known.listings.siblings(&self.path));
        let were_few = std::mem::take(&mut known.are_few);
        for remembered in std::mem::take(&mut self.missing) {
            self.resume_rotated(known, remembered, search.floor);
        }
        for sibling in candidates {
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
        if known.are_few {
            // What cannot be opened now is not lost.
            self.search_since(search.floor, search.by_modified);
        } else if search.until < Instant::now() {
            self.search = None;
            self.moved.clear();
            known.changes += 1;
            self.missing.drain(..).for_each(|lost| tell_lost(&lost));
        }
        known.are_few |= were_few;
    }

    /// A file that was given up under the name that it was rotated to, before it was taken up under this path: where it was written to
    /// meanwhile it is read on.
    pub fn take_up_again(&mut self, known: &mut Known, to: &Path) {
        let Some(sibling) = Sibling::at(to.to_owned()) else {
            return;
        };
        let finished = known.find_retired(sibling.identity);
        let size = std::fs::metadata(to).map_or(0, |meta| meta.len());
        if finished.is_some_and(|finished| size > finished.position) {
            self.add_rotated(known, &sibling, Origin::New);
        }
    }

    /// Searches a generation of an earlier run beside the path: it was rotated while nobody looked. Where it is not found it is searched
    /// again for a while, and with it generations that were written since `floor`.
    pub fn resume_rotated(&mut self, known: &mut Known, remembered: Remembered, floor: SystemTime) {
        for _ in 0..TRIES {
            let Some(sibling) = known.listings.with_inode(&self.path, remembered.inode) else {
                if known.listings.is_steady(&self.path) {
                    break;
                }
                known.listings.forget_beside(&self.path);
                continue;
            };
            if !remembered.may_be(sibling.identity) {
                // Nothing is left of it, but there may be others that came after it.
                self.search_since(floor, true);
                if remembered.kind == Kind::Owed {
                    tell_lost(&remembered);
                }
                return;
            }
            if known.reading.contains(&sibling.identity) {
                return;
            }
            if let Some(born) = sibling.identity.born.or(sibling.modified) {
                self.search_since(born, false);
            }
            if self.add_rotated(known, &sibling, Origin::Resumed(remembered.resume)) {
                return;
            }
            known.listings.forget_beside(&self.path);
        }
        if self.search.is_none() {
            self.search_since(floor, true);
        }
        if remembered.kind == Kind::Owed || known.are_few {
            self.missing.push(remembered);
        }
    }

    /// Whether it has no generation and waits for none.
    pub fn is_empty(&self) -> bool {
        self.generations.is_empty() && self.missing.is_empty()
    }

    /// As if the time of the search had passed.
    #[cfg(test)]
    pub fn age_search(&mut self) {
        if let Some(search) = &mut self.search {
            search.until = Instant::now() - SEARCH_AGAIN;
        }
    }

    /// Since when generations are being searched.
    pub fn searching_since(&self) -> Option<SystemTime> {
        self.search.map(|search| search.floor)
    }

    fn add_rotated(&mut self, known: &mut Known, sibling: &Sibling, origin: Origin) -> bool {
        let opened = open(&sibling.path);
        known.are_few |= opened.as_ref().is_err_and(is_short_of_descriptors);
        // Renamed again meanwhile, or unreadable: the search goes on at the next look.
        let Some(opened) = opened
            .ok()
            .filter(|opened| opened.identity == sibling.identity)
        else {
            return false;
        };
        let since = Instant::now();
        let begun = known.begin(opened, origin, State::Rotated { since }, self);
        let Ok(Some(generation)) = begun else {
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
            if oldest.file.is_none() {
                // Lent: nobody knows what was written to it meanwhile.
                oldest.dirty = true;
                break;
            }
            if oldest.uncovered() > 0 && !flush(oldest, &self.tag, &self.path) {
                break;
            }
            // With a forgotten batch, too, what came before it may still become safe.
            if !known.ledger.is_still(oldest.account) {
                break;
            }
            if known.ledger.stuck(oldest.account) && self.unfinished.is_none() {
                self.unfinished = known
                    .ledger
                    .committed(oldest.account)
                    .map(|position| Entry {
                        path: self.path.clone(),
                        position,
                        inode: oldest.identity.inode,
                    });
            }
            known.retire(oldest, &self.path);
            self.generations.pop_front();
        }
        self.generations.len() < before
    }

    /// All that the next start should know of this path's generations.
    pub fn remembered(&self, ledger: &Ledger) -> impl Iterator<Item = Remembered> {
        let missing = self.missing.iter().cloned();
        missing.chain(self.generations.iter().filter_map(|generation| {
            Some(Remembered {
                path: self.path.clone(),
                inode: generation.identity.inode,
                resume: Resume {
                    position: ledger.committed(generation.account)?,
                    born: generation.identity.born,
                    head: Some(generation.head.mark()),
                },
                kind: Kind::Owed,
            })
        }))
    }

    /// What the pos_file says about this path: the oldest generation that is not finished, or the youngest.
    pub fn entry(&self, ledger: &Ledger) -> Option<Entry> {
        if self.unfinished.is_some() {
            return self.unfinished.clone();
        }
        if let Some(missing) = self.missing.first() {
            return Some(Entry {
                path: self.path.clone(),
                position: missing.resume.position,
                inode: missing.inode,
            });
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

/// A generation that was not read to its end is gone.
fn tell_lost(remembered: &Remembered) {
    let Remembered {
        path,
        inode,
        resume,
        ..
    } = remembered;
    warn!(path = %path.display(), inode, position = resume.position,
        "the file that was being read is not there any more; what was unread in it is lost");
}
