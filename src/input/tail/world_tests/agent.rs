//! The agent of a world: a source that is driven step by step, and the receiver of its batches.

use std::collections::{HashMap, HashSet};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use super::super::bell::Seen;
use super::super::file::Identity;
use super::super::source::{Source, Step};
use super::super::track::Track;
use super::super::*;
use super::Setup;
use super::lives::{Life, Safe};
use crate::config::Config;
use crate::config::types::Time;
use crate::event::{Collector, EventStream, Receipt, Room, Tag, msgpack, record};
use crate::stop::{Phase, Stop};

/// Batches in flight, how often each line was safe, and what came since somebody looked.
#[derive(Default)]
pub struct Receiver {
    flying: Mutex<Vec<(Vec<String>, Receipt)>>,
    safe: Mutex<Safe>,
    /// Those of this run.
    safe_now: Mutex<HashSet<String>>,
    came: Mutex<Vec<String>>,
    /// It takes nothing now.
    pub is_full: AtomicBool,
}

impl Collector for Receiver {
    fn room(&self, _tag: &Tag) -> Room {
        match self.is_full.load(Ordering::Relaxed) {
            true => Room::Full,
            false => Room::Ready,
        }
    }

    fn emit(&self, stream: EventStream) {
        let texts = msgpack::entries(&stream.entries).map(|entry| {
            let record = entry.expect("whole entries").record;
            let text = record::find_text(record, "message").expect("a message");
            String::from_utf8(text.to_vec()).expect("our text")
        });
        let texts: Vec<String> = texts.collect();
        self.came.lock().expect("no panic").extend(texts.clone());
        let mut flying = self.flying.lock().expect("no panic");
        flying.push((texts, stream.receipt));
    }
}

impl Receiver {
    pub fn flying(&self) -> usize {
        self.flying.lock().expect("no panic").len()
    }

    /// The texts in flight.
    pub fn texts(&self) -> HashSet<String> {
        let flying = self.flying.lock().expect("no panic");
        flying.iter().flat_map(|(texts, _)| texts.clone()).collect()
    }

    pub fn safe(&self) -> MutexGuard<'_, Safe> {
        self.safe.lock().expect("no panic")
    }

    pub fn safe_now(&self) -> MutexGuard<'_, HashSet<String>> {
        self.safe_now.lock().expect("no panic")
    }

    pub fn take_came(&self) -> Vec<String> {
        std::mem::take(&mut *self.came.lock().expect("no panic"))
    }

    /// One batch is safe.
    pub fn ack(&self, pick: u8) {
        let Some((texts, receipt)) = self.take(pick) else {
            return;
        };
        let mut safe = self.safe();
        self.safe_now().extend(texts.clone());
        for text in texts {
            *safe.entry(text).or_default() += 1;
        }
        drop(safe);
        receipt.release();
    }

    /// The receipt of one batch is dropped; tells its lines.
    pub fn lose(&self, pick: u8) -> Vec<String> {
        self.take(pick).map(|(texts, _)| texts).unwrap_or_default()
    }

    pub fn lose_all(&self) {
        self.flying.lock().expect("no panic").clear();
    }

    fn take(&self, pick: u8) -> Option<(Vec<String>, Receipt)> {
        let mut flying = self.flying.lock().expect("no panic");
        let at = usize::from(pick).checked_rem(flying.len())?;
        Some(flying.remove(at))
    }
}

/// A source that runs.
pub struct Agent {
    source: Source,
    stop: Stop,
}

impl Agent {
    pub fn start(setup: &Setup, path: PathBuf, pos_file: PathBuf, to: Arc<Receiver>) -> Agent {
        let params = Params {
            path: path.to_string_lossy().into_owned(),
            tag: "app".into(),
            pos_file: Some(pos_file),
            read_from_head: true,
            rotate_wait: Time(setup.rotate_wait),
            enable_stat_watcher: false,
            follow_inodes: setup.follow_inodes,
            read_lines_limit: setup.batch,
            ..Params::default()
        };
        let parse = Config::from_text("<parse>\n@type none\n</parse>\n").expect("a configuration");
        let parse = parse.root().children().next().expect("a section").clone();
        let stop = Stop::new();
        let surroundings = Surroundings {
            collector: to,
            hasten: Arc::new(|| {}),
            recalled: Arc::default(),
            started: Arc::new(|| {}),
            stop: stop.clone(),
            progress: Arc::default(),
            finished: Arc::new(|| ()),
        };
        let limits = Limits {
            read_ahead: 1 << 20,
            open_files: setup.open_files,
        };
        let parser = parse::configure(&parse).expect("a parser");
        let mut source = Source::start(params, parser, limits, surroundings).expect("a source");
        source.begin_run().expect("a pos_file");
        Agent { source, stop }
    }

    /// One round: what is known to have more is read, then the files are looked at of which events told; where none do, all.
    pub fn step(&mut self, events: Option<Seen>) -> Step {
        let everything = Seen {
            everything: true,
            ..Seen::default()
        };
        self.source
            .notice(events.unwrap_or(everything))
            .expect("no error");
        self.source.step().expect("no error")
    }

    pub fn notice(&mut self, events: Seen) {
        self.source.notice(events).expect("no error");
    }

    /// One round in which no file is looked at: the clock says that it was just done.
    pub fn settle(&mut self) {
        let clock = &mut self.source.clock;
        let later = Instant::now() + Duration::from_secs(1);
        (clock.sweep, clock.refresh, clock.names) = (later, later, None);
        self.source.step().expect("no error");
    }

    /// Looks and reads until there is nothing more.
    pub fn look(&mut self, events: Option<Seen>) {
        if events.is_some() {
            self.step(events);
        }
        for _ in 0..2 {
            self.step(None);
            while self.source.step().expect("no error") == Step::More {}
        }
    }

    /// The next look is the last in which generations are searched that came and went before.
    pub fn age(&mut self) {
        let mut files = self.source.files.lock().expect("no panic");
        files.tracks.values_mut().for_each(Track::age_search);
    }

    /// Positions that moved are written with the next step, whenever they were written last.
    pub fn let_positions_be_written(&mut self) {
        let long_ago = Instant::now() - Duration::from_secs(60);
        self.source.clock.wrote(long_ago, long_ago, true);
    }

    /// The files that it holds open.
    pub fn held(&self) -> HashSet<Identity> {
        let files = self.source.files.lock().expect("no panic");
        let all = files.tracks.values().flat_map(|track| &track.generations);
        all.filter(|generation| generation.file.is_some())
            .map(|generation| generation.identity)
            .collect()
    }

    /// Whether it has read this file, and reads it no more.
    pub fn has_finished(&self, file: Identity) -> bool {
        let files = self.source.files.lock().expect("no panic");
        !files.known.reading.contains(&file) && files.known.find_retired(file).is_some()
    }

    /// Stops reading; `drain` is given the time in which outputs do what they can.
    pub fn stop(mut self, phase: Phase, drain: impl FnOnce()) {
        self.stop.advance(phase);
        while self.source.step().expect("no error") == Step::More {}
        drain();
        self.stop.advance(Phase::Close);
        assert_eq!(self.source.step().expect("no error"), Step::Closed);
    }
}

/// What stands on the disk, as the next start will read it.
pub struct OnDisk {
    /// The entries of the pos_file.
    pub entries: Vec<pos_file::Entry>,
    /// The generations of the side file; `None` if it is missing or damaged.
    pub state: Option<Vec<state_file::Remembered>>,
}

impl OnDisk {
    pub fn read(pos_file: &std::path::Path) -> OnDisk {
        let Ok(text) = std::fs::read(pos_file) else {
            // Without it a start is a first one.
            return OnDisk {
                entries: Vec::new(),
                state: None,
            };
        };
        let state = std::fs::read(state_file::path_for(pos_file));
        OnDisk {
            entries: pos_file::parse(&text).entries,
            state: match state_file::parse(&state.unwrap_or_default()) {
                state_file::Read::Whole(state) => Some(state.generations),
                _ => None,
            },
        }
    }

    /// Whether the side file can be read: all is known then.
    pub fn is_whole(&self) -> bool {
        self.state.is_some()
    }

    /// Whether a start searches for this file under any name beside its path.
    pub fn knows(&self, life: &Life) -> bool {
        match &self.state {
            Some(state) => state.iter().any(|generation| {
                generation.may_be(life.file) && generation.kind != state_file::Kind::Finished
            }),
            None => self
                .entries
                .iter()
                .any(|entry| entry.inode == life.file.inode),
        }
    }

    /// Inode and position of all that is told.
    pub fn positions(&self) -> HashMap<u64, Vec<u64>> {
        let mut all: HashMap<u64, Vec<u64>> = HashMap::new();
        for entry in &self.entries {
            all.entry(entry.inode).or_default().push(entry.position);
        }
        for generation in self.state.iter().flatten() {
            let positions = all.entry(generation.inode).or_default();
            positions.push(generation.resume.position);
        }
        all
    }
}
