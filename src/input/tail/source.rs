//! The thread of a tail source: look, read, emit, write positions, sleep until something happens.

use std::collections::HashMap;
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant, SystemTime};

use anyhow::anyhow;
use tracing::{error, info};

use super::begin::remember;
use super::bell::{Bell, Seen};
use super::clock::{Clock, SWEEP};
use super::discover::{Matcher, Targets};
use super::file::Identity;
use super::files::Files;
use super::flood::Flood;
use super::memory::Memory;
use super::params::Params;
use super::paths::PathMap;
use super::position::Ledger;
use super::read::Reader;
use super::store::{Found, Store, Write};
use super::told::Told;
use super::track::Track;
use super::watch::Watch;
use crate::input::{Progress, Surroundings};
use crate::parse::Parser;
use crate::stop::Phase;

/// A sweep looks at this part of the files of which events tell, and at no fewer than [`LEAST_LOOKS`].
const SWEEP_PART: usize = 30;
const LEAST_LOOKS: usize = 32;

/// A running source.
pub struct Source {
    pub(super) params: Params,
    pub(super) targets: Targets,
    pub(super) surroundings: Surroundings,
    pub(super) bell: Arc<Bell>,
    pub(super) watch: Watch,
    /// Shared with the thread of the file events.
    pub(super) files: Arc<Mutex<Files>>,
    ledger: Arc<Ledger>,
    /// Files with a fixed name, which may appear at any time, as they are written in `path`.
    pub(super) fixed: PathMap<PathBuf>,
    /// Tells which new names are asked for.
    pub(super) matcher: Matcher,
    /// Names of generations that are read under another path: their positions stand in the pos_file too.
    pub(super) aliases: HashMap<PathBuf, Identity>,
    /// Names to which files were renamed from a followed path, with that path.
    renamed: HashMap<PathBuf, PathBuf>,
    /// That compressed files stand under a pattern is said once.
    pub(super) told_packed: bool,
    store: Option<Store>,
    /// What was said about positions that cannot be written: it is said once per change.
    store_trouble: Option<String>,
    pub(super) memory: Memory,
    pub(super) clock: Clock,
    flood: Flood,
    /// The path at which the last sweep ended.
    swept: PathBuf,
    /// The phase `AtEnd` was reached: what is there now is the last.
    pub(super) at_end: bool,
    finished: bool,
    blocked: bool,
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

impl Source {
    /// Takes the pos_file and starts watching; nothing is read yet.
    pub fn start(
        params: Params,
        parser: Box<dyn Parser>,
        limits: super::Limits,
        surroundings: Surroundings,
    ) -> anyhow::Result<Source> {
        let bell = Arc::new(Bell::default());
        let ring = bell.clone();
        let ledger = Ledger::new(move || ring.ring());
        let ring = bell.clone();
        surroundings.stop.on_change(move || ring.ring());
        let (store, found) = match &params.pos_file {
            Some(path) => {
                let (store, found) = Store::open(path)?;
                (Some(store), found)
            }
            None => (
                None,
                Found {
                    first_start: true,
                    ..Found::default()
                },
            ),
        };
        let (known, memory) = remember(&params, &ledger, &surroundings, found);
        let files = Arc::new(Mutex::new(Files::new(
            Reader::new(
                &params,
                parser,
                limits.read_ahead,
                ledger.clone(),
                &surroundings,
            ),
            known,
            limits.open_files,
            params.open_on_every_update,
        )));
        report(&files, &surroundings.progress);
        Ok(Source {
            targets: params.targets(),
            watch: watch(&params, &bell, &files),
            params,
            surroundings,
            bell,
            files,
            ledger,
            fixed: PathMap::default(),
            matcher: Matcher::default(),
            aliases: HashMap::new(),
            renamed: HashMap::new(),
            told_packed: false,
            store,
            store_trouble: None,
            memory,
            clock: Clock::new(Instant::now(), SystemTime::now()),
            flood: Flood::new(Instant::now()),
            swept: PathBuf::new(),
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
                Step::Idle => {
                    if let Some(nap) = self.flood.nap() {
                        std::thread::sleep(nap);
                    }
                    let moved = self.ledger.has_moved();
                    self.clock.until_next(Instant::now(), moved, self.blocked)
                }
                Step::Closed => return Ok(()),
            };
            let seen = self.bell.wait(wait);
            self.notice(seen)?;
        }
    }

    /// The first look. A pos_file is there from now on: whatever is born later is new to the next start too.
    pub(super) fn begin_run(&mut self) -> anyhow::Result<()> {
        let shared = self.files.clone();
        let mut files = lock(&shared)?;
        self.discover(&mut files);
        files.is_open = true;
        let written = self.write_positions(files, Write::Changes);
        // Without a pos_file the next start is a first one too: it must not take for old what is read now.
        let is_needed = self.memory.first_start && !self.params.read_from_head;
        if is_needed || !written.as_ref().is_err_and(is_full) {
            return written;
        }
        self.tell_store(written);
        Ok(())
    }

    /// Does what can be done without waiting.
    pub(super) fn step(&mut self) -> anyhow::Result<Step> {
        let shared = self.files.clone();
        let mut files = lock(&shared)?;
        let mut more = false;
        match self.surroundings.stop.phase() {
            Phase::Close => {
                self.finish(&mut files);
                self.write_positions(files, Write::All)?;
                return Ok(Step::Closed);
            }
            Phase::Now => self.finish(&mut files),
            _ if self.finished => {}
            Phase::AtEnd if !self.at_end => {
                self.at_end = true;
                files.reader.throttle.lift();
                files.look_at_all();
                self.discover(&mut files);
                more = true;
            }
            _ => more = self.round(&mut files),
        }
        self.keep_time(&mut files);
        self.clock.throttled = files.reader.throttle.wake().filter(|_| !self.finished);
        self.keep_positions(files);
        Ok(if more { Step::More } else { Step::Idle })
    }

    /// Gives every file with something to read its turn. True if there is more to read without waiting.
    fn round(&mut self, files: &mut Files) -> bool {
        let stop = &self.surroundings.stop;
        let round = files.round(|| stop.phase() < Phase::Now);
        self.set_blocked(round.blocked);
        if self.at_end && !round.more && !round.blocked {
            return !self.end(files);
        }
        round.more
    }

    /// Emits what has no end yet and finishes, once nothing is left to read. True when nothing can be done now.
    fn end(&mut self, files: &mut Files) -> bool {
        match files.end() {
            Some(true) => self.finish(files),
            Some(false) => return false,
            // Asked again after the next release, or a moment later.
            None => self.set_blocked(true),
        }
        true
    }

    fn finish(&mut self, files: &mut Files) {
        if !std::mem::replace(&mut self.finished, true) {
            files.is_open = false;
            // The pos_file is to name every generation by the name that it has now.
            let begun = SystemTime::now();
            files.look_at_all();
            self.discover(files);
            self.clock.last_sweep = begun;
            self.set_blocked(false);
            self.tell(files);
            (self.surroundings.finished)();
        }
    }

    fn set_blocked(&mut self, blocked: bool) {
        self.blocked = blocked;
        self.ledger.wait_for_release(blocked);
    }

    /// Takes up what events said.
    pub(super) fn notice(&mut self, seen: Seen) -> anyhow::Result<()> {
        self.flood.note(seen.dirty.len(), Instant::now());
        if seen.is_quiet() {
            return Ok(());
        }
        let shared = self.files.clone();
        let mut files = lock(&shared)?;
        if seen.everything {
            self.clock.sweep = Instant::now();
            self.swept = PathBuf::new();
        }
        if seen.names_changed || seen.everything {
            self.clock.look_at_names();
        }
        let mut unknown = false;
        for path in &seen.dirty {
            unknown |= !files.mark(path);
        }
        if unknown {
            files.mark_rotated();
        }
        if !self.finished {
            self.follow_renames(&mut files, seen.renames);
            for path in &seen.names {
                if !self.look_at_name(&mut files, path) && self.watch.has(path) {
                    self.clock.look_at_names();
                }
            }
        }
        Ok(())
    }

    fn follow_renames(&mut self, files: &mut Files, renames: Vec<(PathBuf, PathBuf)>) {
        for (from, to) in renames {
            let path = match files.tracks.contains_key(&from) {
                true => Some(from.clone()),
                false => self.renamed.remove(&from),
            };
            let Some(path) = path else {
                if self.begin_renamed(files, &from, &to) {
                    self.renamed.insert(to, from);
                }
                continue;
            };
            let track = files.tracks.get_mut(&path);
            if track.is_some_and(|track| track.follow_rename(&from, &to)) {
                self.renamed.insert(to, path);
            }
        }
    }

    /// Does what is due: sweep, refresh, new names.
    fn keep_time(&mut self, files: &mut Files) {
        let now = Instant::now();
        if self.clock.sweep <= now {
            self.clock.sweep = now + SWEEP;
            self.sweep(files);
        }
        if !self.finished && self.clock.is_refresh_due(now) {
            files.look_at_all();
            self.discover(files);
        }
    }

    /// Writes positions that have moved, when that is due.
    fn keep_positions(&mut self, mut files: MutexGuard<'_, Files>) {
        let begun = Instant::now();
        self.clock.begun |= std::mem::take(&mut files.known.begun);
        if !self.ledger.has_moved() || !self.clock.is_write_due(begun) {
            return;
        }
        let written = self.write_positions(files, Write::Changes);
        self.clock.wrote(begun, Instant::now(), written.is_ok());
        self.tell_store(written);
    }

    /// Says when positions begin to stand still, and when they move again.
    fn tell_store(&mut self, written: anyhow::Result<()>) {
        let trouble = written.err().map(|error| format!("{error:#}"));
        if trouble != self.store_trouble {
            match &trouble {
                Some(error) => error!(
                    "{error}, trying again; positions stand still, lines are sent meanwhile and may be repeated after a crash"
                ),
                None => info!("positions are written again"),
            }
            self.store_trouble = trouble;
        }
    }

    /// The look that makes up for lost events: at some of the files in turn where events tell of all, at each of them otherwise.
    fn sweep(&mut self, files: &mut Files) {
        if self.finished {
            self.tell(files);
            return;
        }
        let begun = SystemTime::now();
        files.known.listings.forget();
        if self.watch.mend() || !self.watch.covers_all() {
            self.clock.look_at_names();
        }
        for path in self.next_looks(files) {
            files.look(&path);
        }
        let missing: Vec<PathBuf> = self
            .fixed
            .values()
            .filter(|path| !files.tracks.contains_key(path))
            .cloned()
            .collect();
        for path in missing.into_iter().chain(files.suspects.paths()) {
            self.begin(files, path);
        }
        self.clock.last_sweep = begun;
        let retired = files.retire();
        if let Some(age) = self.params.multiline_flush_interval {
            files.flush_held(age.0);
        }
        let tracks = &files.tracks;
        self.renamed
            .retain(|_, path| tracks.get(path).is_some_and(|track| !track.is_plain()));
        if retired {
            // It may be asked for under its new name.
            self.clock.look_at_names();
        }
        self.tell(files);
    }

    /// The paths that this sweep looks at: those with a rotation under way, and the next ones of all.
    fn next_looks(&mut self, files: &Files) -> Vec<PathBuf> {
        let tracks = &files.tracks;
        if !self.watch.covers_all() {
            return tracks.keys().map(Path::to_owned).collect();
        }
        let count = (tracks.len() / SWEEP_PART)
            .max(LEAST_LOOKS)
            .min(tracks.len());
        let next = tracks.keys_behind(&self.swept).chain(tracks.keys());
        let mut paths: Vec<PathBuf> = next.take(count).map(Path::to_owned).collect();
        if let Some(last) = paths.last() {
            self.swept.clone_from(last);
        }
        let odd = tracks.values().filter(|track| !track.is_plain());
        paths.extend(odd.map(|track| track.path.clone()));
        paths
    }

    /// Writes the positions; the files can be read meanwhile.
    fn write_positions(&mut self, files: MutexGuard<'_, Files>, how: Write) -> anyhow::Result<()> {
        self.ledger.take_moved();
        let (looked, settled) = (self.clock.last_sweep, self.ledger.settled_before());
        let Some(store) = &mut self.store else {
            return Ok(());
        };
        let told = Told {
            files: &files,
            aliases: &self.aliases,
            memory: &self.memory,
        };
        let entries = told.entries(self.params.follow_inodes);
        let changes = files.known.changes;
        let in_order = files.tracks.values().all(Track::is_plain);
        let state = store
            .needs_state(how, changes, in_order)
            .then(|| (changes, told.state()));
        drop(files);
        store
            .write(how, looked, &entries, state)
            .inspect(|()| self.ledger.recorded(settled))
            // Not written, so still to be written.
            .inspect_err(|_| self.ledger.mark_moved())
    }

    fn tell(&self, files: &Files) {
        let progress: &Progress = &self.surroundings.progress;
        let (behind, count) = files.behind();
        progress.behind.store(behind, Ordering::Relaxed);
        progress.files.store(count, Ordering::Relaxed);
        // What settles between the two looks is missing until the next.
        let (in_flight, not_safe) = (self.ledger.in_flight(), self.ledger.unsafe_bytes());
        let forgotten = not_safe.saturating_sub(in_flight);
        progress.forgotten.store(forgotten, Ordering::Relaxed);
        // What was refused for what it is (a directory, compressed) is no log.
        let troubles = files.troubles.iter();
        progress.tell_unreadable(troubles.filter(|(_, reason)| !reason.starts_with("it is ")));
    }
}

/// Whether the disk is full: that passes, and nothing is lost by waiting.
fn is_full(error: &anyhow::Error) -> bool {
    let kind =
        |cause: &(dyn std::error::Error + 'static)| Some(cause.downcast_ref::<io::Error>()?.kind());
    error
        .chain()
        .filter_map(kind)
        .any(|kind| matches!(kind, ErrorKind::StorageFull | ErrorKind::QuotaExceeded))
}

/// A reader that died half-way through a file leaves nothing to trust.
fn lock(files: &Mutex<Files>) -> anyhow::Result<MutexGuard<'_, Files>> {
    files
        .lock()
        .map_err(|_| anyhow!("the thread of the file events died while it read"))
}

/// The watch, whose thread reads at once what an event names unless the source's thread is at it.
fn watch(params: &Params, bell: &Arc<Bell>, files: &Arc<Mutex<Files>>) -> Watch {
    if !params.enable_stat_watcher {
        return Watch::none();
    }
    let files = Arc::downgrade(files);
    Watch::new(bell.clone(), move |path| {
        files.upgrade().is_some_and(|files| {
            files
                .try_lock()
                .is_ok_and(|mut files| files.read_at_once(path))
        })
    })
}

fn report(files: &Arc<Mutex<Files>>, progress: &Progress) {
    let files = Arc::downgrade(files);
    progress.report_by(Box::new(move || {
        let files = files.upgrade();
        let report = files
            .as_ref()
            .and_then(|files| Some(files.lock().ok()?.report()));
        report.unwrap_or_default()
    }));
}
