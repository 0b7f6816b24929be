//! The thread of a tail source: look, read, emit, write positions, sleep until something happens.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant, SystemTime};

use anyhow::Context;
use tracing::{error, info, warn};

use super::absolute;
use super::begin::{Memory, trouble};
use super::discover::Targets;
use super::file::{Generation, Identity, State};
use super::params::Params;
use super::pos_file::{Entry, PosFile};
use super::position::Ledger;
use super::read::{Complaints, Reader, Source as From, Turn};
use super::track::{Known, Track};
use super::watch::{Bell, Seen, Watch};
use crate::input::{Progress, Surroundings};
use crate::parse::Parser;
use crate::stop::Phase;

/// How often every open file and its path are looked at, events or not.
const SWEEP: Duration = Duration::from_secs(1);
/// How often positions are written while they move.
const WRITE_POSITIONS: Duration = Duration::from_millis(200);
/// How often a full collector is asked again: not every kind of room is told by a receipt.
const ASK_AGAIN: Duration = Duration::from_millis(50);

/// A running source.
pub struct Source {
    pub(super) params: Params,
    pub(super) targets: Targets,
    pub(super) surroundings: Surroundings,
    pub(super) reader: Reader,
    pub(super) known: Known,
    pub(super) bell: Arc<Bell>,
    pub(super) watch: Watch,
    pub(super) tracks: BTreeMap<PathBuf, Track>,
    /// Files with a fixed name, which may appear at any time.
    pub(super) fixed: BTreeSet<PathBuf>,
    /// Names of generations that are read under another path: their positions stand in the pos_file too.
    pub(super) aliases: HashMap<PathBuf, Identity>,
    pub(super) pos_file: Option<PosFile>,
    pub(super) memory: Memory,
    pub(super) clock: Clock,
    /// What was said about a path that cannot be read: it is said once per change.
    pub(super) troubles: HashMap<PathBuf, String>,
    /// The phase `AtEnd` was reached: what is there now is the last.
    pub(super) at_end: bool,
    pub(super) finished: bool,
    pub(super) blocked: bool,
}

/// What is to be done after a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// Another one at once.
    More,
    /// Wait for something to happen.
    Idle,
    /// Nothing: the run is over.
    Closed,
}

/// When things are due.
pub(super) struct Clock {
    pub(super) sweep: Instant,
    pub(super) refresh: Instant,
    /// A name changed: look at the paths and expand `path`.
    pub(super) names: Option<Instant>,
    pub(super) names_allowed: Instant,
    pub(super) write: Instant,
    pub(super) last_sweep: SystemTime,
}

impl Source {
    /// Takes the pos_file and starts watching; nothing is read yet.
    pub fn start(
        params: Params,
        parser: Box<dyn Parser>,
        read_ahead: u64,
        surroundings: Surroundings,
    ) -> anyhow::Result<Source> {
        let bell = Arc::new(Bell::default());
        let ring = bell.clone();
        let ledger = Ledger::new(move || ring.ring());
        let ring = bell.clone();
        surroundings.stop.on_change(move || ring.ring());
        let mut memory = Memory {
            starting: true,
            first_start: true,
            ..Memory::default()
        };
        let mut pos_file = None;
        if let Some(path) = &params.pos_file {
            let (file, found) = PosFile::open(&absolute(path))?;
            if found.parsed.unparsable > 0 {
                warn!(pos_file = %path.display(), lines = found.parsed.unparsable, "unparsable lines in pos_file are ignored; the files they named are read again");
            }
            memory.first_start = !found.existed;
            memory.modified = found.modified;
            memory.entries = found.parsed.entries;
            pos_file = Some(file);
        }
        let now = Instant::now();
        Ok(Source {
            targets: params.targets(),
            known: Known::new(ledger.clone(), params.line_limit(), params.rotate_wait.0),
            watch: if params.enable_stat_watcher {
                Watch::new(bell.clone())
            } else {
                Watch::none()
            },
            reader: reader(&params, parser, read_ahead, ledger, &surroundings),
            params,
            surroundings,
            bell,
            tracks: BTreeMap::new(),
            fixed: BTreeSet::new(),
            aliases: HashMap::new(),
            pos_file,
            memory,
            clock: Clock {
                sweep: now,
                refresh: now,
                names: None,
                names_allowed: now,
                write: now,
                last_sweep: SystemTime::now(),
            },
            troubles: HashMap::new(),
            at_end: false,
            finished: false,
            blocked: false,
        })
    }

    /// Runs until the phase `Close`.
    pub fn run(mut self) -> anyhow::Result<()> {
        self.begin_run()?;
        (self.surroundings.started)();
        loop {
            let wait = match self.step()? {
                Step::More => Duration::ZERO,
                Step::Idle => self.until_next(),
                Step::Closed => return Ok(()),
            };
            let seen = self.bell.wait(wait);
            self.notice(&seen);
        }
    }

    /// The first look. A pos_file is there from now on: whatever is born later is new to the next start too.
    pub(super) fn begin_run(&mut self) -> anyhow::Result<()> {
        self.discover();
        self.write_positions(PosFile::replace)
    }

    /// Does what can be done without waiting.
    pub(super) fn step(&mut self) -> anyhow::Result<Step> {
        let mut more = false;
        match self.surroundings.stop.phase() {
            Phase::Close => {
                self.finish();
                self.write_positions(PosFile::renew)?;
                return Ok(Step::Closed);
            }
            Phase::Now => self.finish(),
            _ if self.finished => {}
            Phase::AtEnd if !self.at_end => {
                self.at_end = true;
                self.reader.throttle.lift();
                self.look_at_all();
                self.discover();
                more = true;
            }
            _ => more = self.round(),
        }
        self.keep_time();
        Ok(if more { Step::More } else { Step::Idle })
    }

    /// Gives every file with something to read its turn. True if there is more to read without waiting.
    fn round(&mut self) -> bool {
        let (mut more, mut blocked) = (false, false);
        let mut truncated = false;
        self.reader.throttle.begin(self.tracks.keys());
        for track in self.tracks.values_mut() {
            let from = From {
                tag: &track.tag,
                path: &track.path,
            };
            for generation in track
                .generations
                .iter_mut()
                .filter(|generation| generation.dirty)
            {
                let before = generation.position;
                match self.reader.turn(generation, from) {
                    // An event without new bytes.
                    Turn::End if generation.position == before => {
                        truncated |= generation.refresh_size().is_ok_and(|size| size < before);
                    }
                    Turn::End => {}
                    Turn::More => more = true,
                    Turn::Blocked => blocked = true,
                    Turn::Throttled => {}
                }
            }
        }
        if truncated {
            self.look_at_all();
        }
        self.set_blocked(blocked);
        if self.at_end && !more && !blocked {
            return !self.end();
        }
        more
    }

    /// Emits what has no end yet and finishes, once nothing is left to read. True when done.
    fn end(&mut self) -> bool {
        for track in self.tracks.values_mut() {
            let from = From {
                tag: &track.tag,
                path: &track.path,
            };
            for generation in &mut track.generations {
                if generation.dirty {
                    return false;
                }
                if generation.uncovered() > 0 {
                    if !self.reader.has_room(from.tag) {
                        self.set_blocked(true);
                        // Asked again after the next release, or a moment later.
                        return true;
                    }
                    self.reader.flush_rest(generation, from);
                }
            }
        }
        self.finish();
        true
    }

    fn finish(&mut self) {
        if !std::mem::replace(&mut self.finished, true) {
            // The pos_file is to name every generation by the name that it has now.
            self.look_at_all();
            self.discover();
            self.set_blocked(false);
            self.tell();
            (self.surroundings.finished)();
        }
    }

    fn set_blocked(&mut self, blocked: bool) {
        self.blocked = blocked;
        self.known.ledger.wait_for_release(blocked);
    }

    /// Takes up what events said.
    pub(super) fn notice(&mut self, seen: &Seen) {
        if seen.everything {
            self.clock.sweep = Instant::now();
        }
        if seen.names_changed || seen.everything {
            self.clock.names.get_or_insert(self.clock.names_allowed);
        }
        let mut unknown = false;
        for path in &seen.dirty {
            match self.tracks.get_mut(path).and_then(Track::current) {
                Some(current) => current.dirty = true,
                None => unknown = true,
            }
        }
        if unknown {
            // A rotated file is told under a name that we do not follow.
            for generation in self
                .tracks
                .values_mut()
                .flat_map(|track| &mut track.generations)
            {
                generation.dirty |= generation.state != State::Current;
            }
        }
    }

    /// Does what is due: sweep, refresh, new names, positions.
    fn keep_time(&mut self) {
        let now = Instant::now();
        if self.clock.sweep <= now {
            self.clock.sweep = now + SWEEP;
            self.sweep();
        }
        if !self.finished
            && (self.clock.refresh <= now || self.clock.names.is_some_and(|due| due <= now))
        {
            self.look_at_all();
            self.discover();
        }
        if self.known.ledger.has_moved() && self.clock.write <= now {
            self.clock.write = now + WRITE_POSITIONS;
            if let Err(error) = self.write_positions(PosFile::replace) {
                error!("{error:#}, trying again");
                self.clock.write = now + 5 * WRITE_POSITIONS;
            }
        }
    }

    fn until_next(&self) -> Duration {
        let clock = &self.clock;
        let mut next = clock.sweep.min(clock.refresh);
        if let Some(wake) = self.reader.throttle.wake().filter(|_| !self.finished) {
            next = next.min(wake);
        }
        if let Some(names) = clock.names {
            next = next.min(names);
        }
        if self.known.ledger.has_moved() {
            next = next.min(clock.write);
        }
        let wait = next.saturating_duration_since(Instant::now());
        if self.blocked {
            wait.min(ASK_AGAIN)
        } else {
            wait
        }
    }

    /// The look at everything that makes up for lost events.
    fn sweep(&mut self) {
        if self.finished {
            self.tell();
            return;
        }
        self.look_at_all();
        if self.watch.mend() || !self.watch.covers_all() {
            self.clock.names.get_or_insert(self.clock.names_allowed);
        }
        let missing: Vec<PathBuf> = self
            .fixed
            .iter()
            .filter(|path| !self.tracks.contains_key(*path))
            .cloned()
            .collect();
        for path in missing {
            self.begin(path);
        }
        self.clock.last_sweep = SystemTime::now();
        let reader = &mut self.reader;
        let mut retired = false;
        for track in self.tracks.values_mut() {
            retired |= track.retire(&mut self.known, |generation, tag, path| {
                let room = reader.has_room(tag);
                if room {
                    reader.flush_rest(generation, From { tag, path });
                }
                room
            });
            if let Some(age) = self.params.multiline_flush_interval {
                let from = From {
                    tag: &track.tag,
                    path: &track.path,
                };
                for generation in &mut track.generations {
                    reader.flush_held(generation, from, age.0);
                }
            }
        }
        self.tracks.retain(|_, track| !track.is_over());
        if retired {
            // It may be asked for under its new name.
            self.clock.names.get_or_insert(self.clock.names_allowed);
        }
        self.tell();
    }

    fn look_at_all(&mut self) {
        for track in self.tracks.values_mut() {
            look(track, &mut self.known, &mut self.reader, &mut self.troubles);
        }
    }

    /// Writes the positions with `write`, one of the two ways of [`PosFile`].
    fn write_positions(
        &mut self,
        write: fn(&mut PosFile, &[Entry]) -> std::io::Result<()>,
    ) -> anyhow::Result<()> {
        self.known.ledger.take_moved();
        let entries = self.entries();
        let Some(pos_file) = &mut self.pos_file else {
            return Ok(());
        };
        write(pos_file, &entries)
            // Not written, so still to be written.
            .inspect_err(|_| self.known.ledger.mark_moved())
            .with_context(|| format!("cannot write pos_file {}", pos_file.path().display()))
    }

    fn entries(&self) -> Vec<Entry> {
        let ledger = &self.known.ledger;
        let tracks = self.tracks.values();
        let mut entries: Vec<Entry> = tracks.filter_map(|track| track.entry(ledger)).collect();
        // After the tracks' own: of two entries with one path the last is about the file that stands there.
        for (path, identity) in &self.aliases {
            let mut generations = self.tracks.values().flat_map(|track| &track.generations);
            let read = match generations.find(|reading| reading.identity == *identity) {
                Some(reading) => ledger.committed(reading.account),
                None => self.known.retired(*identity),
            };
            entries.extend(read.map(|position| Entry {
                path: path.clone(),
                position,
                inode: identity.inode,
            }));
        }
        let kept = |entry: &&Entry| !self.tracks.contains_key(&entry.path);
        entries.extend(self.memory.entries.iter().filter(kept).cloned());
        entries
    }

    fn tell(&self) {
        let progress: &Progress = &self.surroundings.progress;
        let ledger = &self.known.ledger;
        let generations = || self.tracks.values().flat_map(|track| &track.generations);
        let behind = generations()
            .map(|g: &Generation| g.size.saturating_sub(g.position))
            .sum();
        progress.behind.store(behind, Ordering::Relaxed);
        progress
            .files
            .store(generations().count() as u64, Ordering::Relaxed);
        // What settles between the two looks is missing until the next.
        let (in_flight, not_safe) = (ledger.in_flight(), ledger.unsafe_bytes());
        let forgotten = not_safe.saturating_sub(in_flight);
        progress.forgotten.store(forgotten, Ordering::Relaxed);
        // What was refused for what it is (a directory, compressed) is no log.
        let troubles = self.troubles.iter();
        progress.tell_unreadable(troubles.filter(|(_, reason)| !reason.starts_with("it is ")));
    }
}

fn reader(
    params: &Params,
    parser: Box<dyn Parser>,
    read_ahead: u64,
    ledger: Arc<Ledger>,
    surroundings: &Surroundings,
) -> Reader {
    Reader {
        parser,
        collector: surroundings.collector.clone(),
        hasten: surroundings.hasten.clone(),
        ledger,
        progress: surroundings.progress.clone(),
        read_ahead,
        path_key: params.path_key.clone(),
        encodings: params.encodings(),
        throttle: params.throttle(),
        emit_unmatched_lines: params.emit_unmatched_lines,
        emit_unmatched_texts: params.emit_unmatched_lines || params.emit_unmatched_texts,
        read_lines_limit: params
            .read_lines_limit
            .filter(|limit| *limit > 0)
            .unwrap_or(u64::MAX),
        max_line_size: params.line_limit(),
        buffer: Vec::new(),
        expansion: 1.5,
        complaints: Complaints::default(),
    }
}

fn look(
    track: &mut Track,
    known: &mut Known,
    reader: &mut Reader,
    troubles: &mut HashMap<PathBuf, String>,
) {
    let looked = track.look(known, |generation, tag, path| {
        reader.flush_rest(generation, From { tag, path })
    });
    match looked {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            trouble(troubles, &track.path, &error)
        }
        _ => {
            if troubles.remove(&track.path).is_some() {
                info!(path = %track.path.display(), "readable again");
            }
        }
    }
}
