//! The thread of a tail source: look, read, emit, write positions, sleep until something happens.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant, SystemTime};

use tracing::{error, info, warn};

use super::absolute;
use super::discover::{Found, Targets};
use super::file::{Generation, Origin, State, open};
use super::params::{Params, tag_for};
use super::pos_file::{Entry, PosFile};
use super::position::Ledger;
use super::read::{Complaints, Reader, Source as From, Turn};
use super::track::{Known, Track};
use super::watch::{Bell, Seen, Watch};
use crate::event::Tag;
use crate::input::{Progress, Surroundings};
use crate::parse::Parser;
use crate::stop::Phase;

/// How often every open file and its path are looked at, events or not.
const SWEEP: Duration = Duration::from_secs(1);
/// How often positions are written while they move.
const WRITE_POSITIONS: Duration = Duration::from_millis(200);
/// How often a full collector is asked again: not every kind of room is told by a receipt.
const ASK_AGAIN: Duration = Duration::from_millis(50);
/// The pause after an expansion of `path` is at least this many times its cost.
const DISCOVER_SHARE: u32 = 10;

/// A running source.
pub struct Source {
    params: Params,
    targets: Targets,
    surroundings: Surroundings,
    reader: Reader,
    known: Known,
    bell: Arc<Bell>,
    watch: Watch,
    tracks: BTreeMap<PathBuf, Track>,
    /// Files with a fixed name, which may appear at any time.
    fixed: BTreeSet<PathBuf>,
    pos_file: Option<PosFile>,
    memory: Memory,
    clock: Clock,
    /// What was said about a path that cannot be read: it is said once per change.
    troubles: HashMap<PathBuf, String>,
    finished: bool,
    blocked: bool,
}

/// What the pos_file said at start, as far as nobody has taken it up.
#[derive(Default)]
struct Memory {
    entries: Vec<Entry>,
    /// When it was last written.
    modified: Option<SystemTime>,
    /// No file of this source was ever read: those that stand there are old.
    first_start: bool,
    /// The first expansion of `path` is not done yet.
    starting: bool,
}

/// When things are due.
struct Clock {
    sweep: Instant,
    refresh: Instant,
    /// A name changed: look at the paths and expand `path`.
    names: Option<Instant>,
    names_allowed: Instant,
    write: Instant,
    last_sweep: SystemTime,
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
            finished: false,
            blocked: false,
        })
    }

    /// Runs until the phase `Close`.
    pub fn run(mut self) -> anyhow::Result<()> {
        self.discover();
        let mut at_end = false;
        loop {
            let phase = self.surroundings.stop.phase();
            let mut more = false;
            match phase {
                Phase::Close => {
                    self.finish();
                    return self.write_positions();
                }
                Phase::Now => self.finish(),
                Phase::AtEnd if !at_end => {
                    at_end = true;
                    self.look_at_all();
                    self.discover();
                    more = true;
                }
                _ if self.finished => {}
                _ => more = self.round(at_end),
            }
            self.keep_time();
            let seen = self.bell.wait(if more {
                Duration::ZERO
            } else {
                self.until_next()
            });
            self.notice(&seen);
        }
    }

    /// Gives every file with something to read its turn. True if there is more to read without waiting.
    fn round(&mut self, at_end: bool) -> bool {
        let (mut more, mut blocked) = (false, false);
        let mut suspicious = false;
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
                    Turn::End => suspicious |= generation.position == before,
                    Turn::More => more = true,
                    Turn::Blocked => blocked = true,
                }
            }
        }
        if suspicious {
            // An event without new bytes: truncated perhaps.
            self.look_at_silent();
        }
        self.set_blocked(blocked);
        if at_end && !more && !blocked {
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
    fn notice(&mut self, seen: &Seen) {
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
            if let Err(error) = self.write_positions() {
                error!("{error:#}, trying again");
                self.clock.write = now + 5 * WRITE_POSITIONS;
            }
        }
    }

    fn until_next(&self) -> Duration {
        let clock = &self.clock;
        let mut next = clock.sweep.min(clock.refresh);
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
        for track in self.tracks.values_mut() {
            track.retire(&mut self.known, |generation, tag, path| {
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
        self.tell();
    }

    fn look_at_all(&mut self) {
        for track in self.tracks.values_mut() {
            look(track, &mut self.known, &mut self.reader, &mut self.troubles);
        }
    }

    fn look_at_silent(&mut self) {
        for track in self.tracks.values_mut() {
            if track.current().is_some_and(|current| {
                !current.dirty
                    && current
                        .refresh_size()
                        .is_ok_and(|size| size < current.position)
            }) {
                look(track, &mut self.known, &mut self.reader, &mut self.troubles);
            }
        }
    }

    /// Expands `path` and begins to read what is new.
    fn discover(&mut self) {
        let start = Instant::now();
        let mut found = self.targets.find(SystemTime::now());
        if self.watch.set(&found.directories) {
            // Whatever appeared before the watch was on.
            found = self.targets.find(SystemTime::now());
        }
        let Found { fixed, globbed, .. } = found;
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
    fn begin(&mut self, path: PathBuf) {
        let opened = match open(&path) {
            Ok(opened) => opened,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return,
            Err(error) => return trouble(&mut self.troubles, &path, &error),
        };
        self.troubles.remove(&path);
        if self.known.reading.contains(&opened.identity) {
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
                None if self.memory.starting => Origin::New,
                None => {
                    track.search_since(self.clock.last_sweep, false);
                    Origin::New
                }
            },
        };
        let current = self.known.begin(opened, origin, State::Current);
        track.add(current);
        self.tracks.insert(path, track);
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

    fn write_positions(&mut self) -> anyhow::Result<()> {
        self.known.ledger.take_moved();
        let Some(pos_file) = &mut self.pos_file else {
            return Ok(());
        };
        let ledger = &self.known.ledger;
        let mut entries: Vec<Entry> = self
            .tracks
            .values()
            .filter_map(|track| track.entry(ledger))
            .collect();
        entries.extend(
            self.memory
                .entries
                .iter()
                .filter(|entry| !self.tracks.contains_key(&entry.path))
                .cloned(),
        );
        pos_file.replace(&entries).map_err(|error| {
            // Not written, so still to be written.
            ledger.mark_moved();
            anyhow::Error::new(error).context(format!(
                "cannot write pos_file {}",
                pos_file.path().display()
            ))
        })
    }

    fn tell(&self) {
        let progress: &Progress = &self.surroundings.progress;
        let generations = || self.tracks.values().flat_map(|track| &track.generations);
        let behind = generations()
            .map(|g: &Generation| g.size.saturating_sub(g.position))
            .sum();
        progress.behind.store(behind, Ordering::Relaxed);
        progress
            .files
            .store(generations().count() as u64, Ordering::Relaxed);
        progress
            .unsafe_bytes
            .store(self.known.ledger.unsafe_bytes(), Ordering::Relaxed);
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
        ledger,
        progress: surroundings.progress.clone(),
        read_ahead,
        path_key: params.path_key.clone(),
        emit_unmatched_lines: params.emit_unmatched_lines,
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

/// Says once per change what is wrong with a path; it is tried again at every look.
fn trouble(troubles: &mut HashMap<PathBuf, String>, path: &Path, error: &std::io::Error) {
    let reason = error.to_string();
    if troubles.get(path) != Some(&reason) {
        warn!(path = %path.display(), reason, "cannot read, skipped until that changes");
        troubles.insert(path.to_owned(), reason);
    }
}
