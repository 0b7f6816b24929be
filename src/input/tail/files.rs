//! The files of a source and what reads them: shared by the source's thread, which finds files and keeps time, and by the
//! thread on which file events come, which reads at once what an event names where nobody else is at it. A line is then
//! on its way without waking another thread.

use std::collections::{HashMap, HashSet};
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use tracing::{info, warn};

use super::copies::Suspects;
use super::file::{Identity, State, is_short_of_descriptors};
use super::known::Known;
use super::paths::{PathMap, PathSet};
use super::pos_file::Entry;
use super::read::{Reader, Source as From, Turn};
use super::state_file::Remembered;
use super::track::Track;
use crate::input::FileReport;

/// Under this name those that are followed no more are summed up.
const GONE: &str = "(followed no more)";

/// Paths, their generations, and the reader of all of them.
pub struct Files {
    /// From bytes to batches.
    pub reader: Reader,
    /// What all paths share.
    pub known: Known,
    /// By path.
    pub tracks: PathMap<Track>,
    /// What was said about a path that cannot be read: it is said once per change.
    pub troubles: HashMap<PathBuf, String>,
    /// New files that may be copies of others.
    pub suspects: Suspects,
    /// Whether lines are read: not before the first look, nor after the source has finished.
    pub is_open: bool,
    /// Paths with a generation that may have more to read.
    active: PathSet,
    /// So many files are open at most.
    pub(super) most_open: usize,
    /// `open_on_every_update`.
    reopen: bool,
    pub(super) told_lending: bool,
    /// Some path has another generation than the one that stands there.
    has_rotated: bool,
    /// Turns given so far: files that had none for long lend their descriptors first.
    turns: u64,
}

/// How a turn of every active file ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Round {
    /// There is more to read without waiting.
    pub more: bool,
    /// A bound is reached.
    pub blocked: bool,
    /// A limit of the configuration holds a file back.
    pub throttled: bool,
}

impl Files {
    /// No files yet.
    pub fn new(reader: Reader, known: Known, most_open: usize, reopen: bool) -> Files {
        Files {
            reader,
            known,
            tracks: PathMap::default(),
            troubles: HashMap::new(),
            suspects: Suspects::default(),
            is_open: false,
            active: PathSet::default(),
            most_open,
            reopen,
            told_lending: false,
            has_rotated: false,
            turns: 0,
        }
    }

    /// Gives every file with something to read its turn, as long as `goes_on` says so: a stop does not wait for ten thousand files.
    pub fn round(&mut self, goes_on: impl Fn() -> bool) -> Round {
        let mut round = Round::default();
        self.reader.throttle.begin(self.tracks.keys());
        for path in std::mem::take(&mut self.active).into_paths() {
            if !goes_on() {
                self.active.insert(&path);
                round.more = true;
                continue;
            }
            let one = self.turn(&path);
            round.more |= one.more;
            round.blocked |= one.blocked;
        }
        round
    }

    /// Reads what an event named. False where the source's thread has to go on with it.
    pub fn read_at_once(&mut self, path: &Path) -> bool {
        if !self.is_open {
            return false;
        }
        if !self.mark(path) {
            // A busy neighbour of ours, or a rotated file under its new name.
            return !self.has_rotated && !self.tracks.contains_key(path);
        }
        let read = self.turn(path);
        if read == Round::default() {
            self.active.remove(path);
        }
        read == Round::default()
    }

    /// Notes that the file at this path was written to. False for one that is not followed.
    pub fn mark(&mut self, path: &Path) -> bool {
        let Some(current) = self.tracks.get_mut(path).and_then(Track::current) else {
            return false;
        };
        current.dirty = true;
        self.active.insert(path);
        true
    }

    /// Notes that some rotated file was written to: events call it by a name that is not followed.
    pub fn mark_rotated(&mut self) {
        for (path, track) in self.tracks.iter_mut() {
            for generation in &mut track.generations {
                if generation.state != State::Current {
                    generation.dirty = true;
                    self.active.insert(path);
                }
            }
        }
    }

    fn turn(&mut self, path: &Path) -> Round {
        let mut round = Round::default();
        let Some(track) = self.tracks.get_mut(path) else {
            return round;
        };
        let (mut at, mut short) = (0, false);
        while at < track.generations.len() {
            if !track.generations[at].dirty {
                at += 1;
                continue;
            }
            if track.generations[at].file.is_none() {
                match track.take_back(&mut self.known, at) {
                    Ok(true) => short = true,
                    Ok(false) => continue,
                    Err(_) => {
                        // Others lend theirs, and it is its turn again.
                        (short, round.more) = (true, true);
                        break;
                    }
                }
            }
            self.turns += 1;
            track.generations[at].turn = self.turns;
            let known = track.generations[at].head.is_whole();
            let from = From {
                tag: &track.tag,
                path: &track.path,
            };
            match self.reader.turn(&mut track.generations[at], from) {
                Turn::End => {}
                Turn::More => round.more = true,
                Turn::Blocked => round.blocked = true,
                Turn::Throttled => round.throttled |= track.generations[at].dirty,
                Turn::Changed => {
                    let reader = &mut self.reader;
                    track.truncated(&mut self.known, at, |generation, tag, path| {
                        reader.flush_rest(generation, From { tag, path });
                    });
                    // Its copy comes before its new life.
                    round.more = true;
                    break;
                }
            }
            if !known {
                self.known.changes += 1;
            }
            at += 1;
        }
        if round != Round::default() {
            self.active.insert(path);
        }
        if self.reopen && !round.more {
            track.lend();
        }
        if short {
            self.lend_down();
        }
        round
    }

    /// Compares one path with what was known of it.
    pub fn look(&mut self, path: &Path) {
        let Some(track) = self.tracks.get_mut(path) else {
            return;
        };
        let reader = &mut self.reader;
        let looked = track.look(&mut self.known, |generation, tag, path| {
            reader.flush_rest(generation, From { tag, path });
        });
        self.has_rotated |= !track.is_plain();
        let dirty = track.generations.iter().any(|generation| generation.dirty);
        if std::mem::take(&mut self.known.are_few) {
            self.lend();
        }
        match looked {
            Err(error) if is_short_of_descriptors(&error) => self.lend(),
            Err(error) if error.kind() != io::ErrorKind::NotFound => self.trouble(path, &error),
            _ => {
                if self.troubles.remove(path).is_some() {
                    info!(path = %path.display(), "readable again");
                }
            }
        }
        if dirty {
            self.active.insert(path);
        }
    }

    /// Looks at all paths.
    pub fn look_at_all(&mut self) {
        self.known.listings.forget();
        let paths: Vec<PathBuf> = self.tracks.keys().map(Path::to_owned).collect();
        paths.iter().for_each(|path| self.look(path));
    }

    /// Adds a path that is followed from now on.
    pub fn add(&mut self, track: Track) {
        self.active.insert(&track.path);
        self.has_rotated |= !track.is_plain();
        self.tracks.insert(&track.path.clone(), track);
        if self.known.reading.len() > self.most_open {
            self.lend_down();
        }
    }

    /// Emits what has no end yet, once nothing is left to read. False where there is still something to do; `None` where there is no
    /// room for it now.
    pub fn end(&mut self) -> Option<bool> {
        for track in self.tracks.values_mut() {
            let from = From {
                tag: &track.tag,
                path: &track.path,
            };
            for generation in &mut track.generations {
                if generation.dirty {
                    self.active.insert(&track.path);
                    return Some(false);
                }
                if generation.uncovered() > 0 {
                    if !self.reader.has_room(from.tag) {
                        return None;
                    }
                    self.reader.flush_rest(generation, from);
                }
            }
        }
        Some(true)
    }

    /// Gives up rotated generations that are finished. True if any was.
    pub fn retire(&mut self) -> bool {
        let reader = &mut self.reader;
        let mut retired = false;
        for track in self.tracks.values_mut().filter(|track| !track.is_plain()) {
            retired |= track.retire(&mut self.known, |generation, tag, path| {
                let room = reader.has_room(tag);
                if room {
                    reader.flush_rest(generation, From { tag, path });
                }
                room
            });
            if track.generations.iter().any(|one| one.dirty) {
                self.active.insert(&track.path);
            }
        }
        let known = &mut self.known;
        self.tracks.retain(|_, track| {
            let over = track.is_over();
            if over {
                known.gone.add(&known.ledger.close_path(track.number));
            }
            !over
        });
        self.has_rotated = self.tracks.values().any(|track| !track.is_plain());
        retired
    }

    /// Parses multi-line texts whose last line is older than `age`.
    pub fn flush_held(&mut self, age: Duration) {
        for track in self.tracks.values_mut() {
            let from = From {
                tag: &track.tag,
                path: &track.path,
            };
            for generation in &mut track.generations {
                self.reader.flush_held(generation, from, age);
            }
        }
    }

    /// What the pos_file says of the paths that are followed. Fluentd's `follow_inodes` has an entry for each inode.
    pub fn entries(&self, each_inode: bool) -> Vec<Entry> {
        let ledger = &self.known.ledger;
        let tracks = self.tracks.values();
        if !each_inode {
            return tracks.filter_map(|track| track.entry(ledger)).collect();
        }
        let all = tracks.flat_map(|track| track.remembered(ledger));
        all.map(|generation| Entry {
            path: generation.path,
            position: generation.resume.position,
            inode: generation.inode,
        })
        .collect()
    }

    /// How far these generations are read and safe, finished ones included.
    pub fn positions_of<'a>(
        &self,
        identities: impl Iterator<Item = &'a Identity>,
    ) -> HashMap<Identity, u64> {
        let wanted: HashSet<Identity> = identities.copied().collect();
        if wanted.is_empty() {
            return HashMap::new();
        }
        let reading = self
            .tracks
            .values()
            .flat_map(|track| &track.generations)
            .filter(|generation| wanted.contains(&generation.identity))
            .filter_map(|generation| {
                let position = self.known.ledger.committed(generation.account)?;
                Some((generation.identity, position))
            });
        let finished = wanted
            .iter()
            .filter_map(|identity| Some((*identity, self.known.safe_of_retired(*identity)?)));
        finished.chain(reading).collect()
    }

    /// What the side file says of them.
    pub fn remembered(&self) -> Vec<Remembered> {
        let ledger = &self.known.ledger;
        let tracks = self.tracks.values();
        tracks.flat_map(|track| track.remembered(ledger)).collect()
    }

    /// Generations of this time or younger are being searched.
    pub fn searching_since(&self) -> Option<SystemTime> {
        self.tracks
            .values()
            .filter_map(Track::searching_since)
            .min()
    }

    /// Bytes that stand in the files and were not read, as of the last look, and how many generations are followed.
    pub fn behind(&self) -> (u64, u64) {
        let generations = self.tracks.values().flat_map(|track| &track.generations);
        generations.fold((0, 0), |(bytes, count), generation| {
            let behind = generation.size.saturating_sub(generation.position);
            (bytes + behind, count + 1)
        })
    }

    /// Each path, as of now.
    pub fn report(&mut self) -> Vec<FileReport> {
        let ledger = &self.known.ledger;
        let report = |track: &mut Track| {
            let path = &track.path;
            let totals = ledger.totals(track.number);
            let at_path = std::fs::metadata(path).ok();
            let (mut held_bytes, mut behind_bytes) = (0, 0);
            for generation in &mut track.generations {
                // What cannot be looked at now is as long as it was.
                let size = generation
                    .refresh_size(at_path.as_ref())
                    .unwrap_or(generation.size);
                behind_bytes += size.saturating_sub(generation.position);
                held_bytes += generation.uncovered();
            }
            FileReport {
                path: path.clone(),
                waiting_lines: totals.waiting_lines(),
                totals,
                held_bytes,
                behind_bytes,
                generations: track.generations.len(),
            }
        };
        let followed = self.tracks.values_mut().map(report);
        let gone = FileReport {
            path: PathBuf::from(GONE),
            waiting_lines: self.known.gone.waiting_lines(),
            totals: self.known.gone,
            ..FileReport::default()
        };
        let gone = (gone.totals.lines > 0).then_some(gone);
        followed.chain(gone).collect()
    }

    /// Says once per change what is wrong with a path; it is tried again at every look.
    pub fn trouble(&mut self, path: &Path, error: &io::Error) {
        let reason = error.to_string();
        if self.troubles.get(path) != Some(&reason) {
            warn!(path = %path.display(), reason, "cannot read, skipped until that changes");
            self.troubles.insert(path.to_owned(), reason);
        }
    }
}
