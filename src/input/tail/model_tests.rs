//! Random histories of a file and its agent against a list of lines: every complete line is safe in the end (R1), none is
//! taken for safe before its receipt is released (R2), and none is repeated unless the agent was stopped or killed.

use std::collections::BTreeMap;
use std::fs::{self, OpenOptions};
use std::io::Write;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use proptest::prelude::*;
use proptest::test_runner::FileFailurePersistence;

use super::bell::Seen;
use super::source::{Source, Step};
use super::*;
use crate::config::Config;
use crate::config::types::Time;
use crate::event::{Collector, EventStream, Receipt, Room, Tag, msgpack, record};
use crate::stop::{Phase, Stop};

#[derive(Clone, Debug)]
enum Action {
    /// Whole lines.
    Append(u8),
    /// Half a line; the next append completes it.
    Half,
    /// Rename rotation: every generation moves up by one; a new file is made or not.
    Rotate { create: bool },
    /// The agent looks and reads.
    Look,
    /// One batch in flight is acknowledged.
    Ack(prop::sample::Index),
    /// A clean stop and the next start; what is in flight is lost.
    Restart,
    /// The agent dies between two looks.
    Kill,
}

fn action() -> impl Strategy<Value = Action> {
    prop_oneof![
        6 => (1u8..4).prop_map(Action::Append),
        1 => Just(Action::Half),
        4 => prop::bool::weighted(0.8).prop_map(|create| Action::Rotate { create }),
        6 => Just(Action::Look),
        5 => any::<prop::sample::Index>().prop_map(Action::Ack),
        1 => Just(Action::Restart),
        1 => Just(Action::Kill),
    ]
}

/// Batches in flight, and how often each line was safe.
#[derive(Default)]
struct Receiver {
    flying: Mutex<Vec<(Vec<String>, Receipt)>>,
    safe: Mutex<BTreeMap<String, usize>>,
}

impl Collector for Receiver {
    fn room(&self, _tag: &Tag) -> Room {
        Room::Ready
    }

    fn emit(&self, stream: EventStream) {
        let lines = msgpack::entries(&stream.entries)
            .map(|entry| {
                record::find_text(entry.expect("whole entries").record, "message")
                    .map(<[u8]>::to_vec)
            })
            .map(|text| String::from_utf8(text.expect("a message")).expect("our text"))
            .collect();
        self.flying
            .lock()
            .expect("no panic")
            .push((lines, stream.receipt));
    }
}

impl Receiver {
    fn ack(&self, which: impl FnOnce(usize) -> usize) {
        let mut flying = self.flying.lock().expect("no panic");
        if flying.is_empty() {
            return;
        }
        let at = which(flying.len());
        let (lines, receipt) = flying.remove(at);
        drop(flying);
        let mut safe = self.safe.lock().expect("no panic");
        lines
            .into_iter()
            .for_each(|line| *safe.entry(line).or_default() += 1);
        drop(safe);
        receipt.release();
    }

    fn lose(&self) {
        self.flying.lock().expect("no panic").clear();
    }
}

struct History {
    dir: tempfile::TempDir,
    pattern: &'static str,
    receiver: Arc<Receiver>,
    agent: Option<(Source, Stop)>,
    written: Vec<String>,
    half: Option<String>,
    interrupted: bool,
}

impl History {
    fn new(pattern: &'static str) -> History {
        let mut history = History {
            dir: tempfile::tempdir().expect("a directory"),
            pattern,
            receiver: Arc::default(),
            agent: None,
            written: Vec::new(),
            half: None,
            interrupted: false,
        };
        history.start();
        history
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn start(&mut self) {
        let params = Params {
            path: self.path(self.pattern).to_string_lossy().into_owned(),
            tag: "app".into(),
            pos_file: Some(self.path("state/pos")),
            read_from_head: true,
            rotate_wait: Time(Duration::ZERO),
            enable_stat_watcher: false,
            ..Params::default()
        };
        let parse = Config::from_text("<parse>\n@type none\n</parse>\n").expect("a configuration");
        let parse = parse.root().children().next().expect("a section").clone();
        let stop = Stop::new();
        let surroundings = Surroundings {
            collector: self.receiver.clone(),
            hasten: Arc::new(|| {}),
            recalled: Arc::default(),
            started: Arc::new(|| {}),
            stop: stop.clone(),
            progress: Arc::default(),
            finished: Arc::new(|| ()),
        };
        let parser = parse::configure(&parse).expect("a parser");
        let limits = Limits {
            read_ahead: 1 << 20,
            open_files: usize::MAX,
        };
        let mut source = Source::start(params, parser, limits, surroundings).expect("a source");
        source.begin_run().expect("a pos_file");
        self.agent = Some((source, stop));
    }

    fn look(&mut self) {
        let (source, _) = self.agent.as_mut().expect("running");
        for _ in 0..2 {
            let everything = Seen {
                everything: true,
                ..Seen::default()
            };
            source.notice(everything).expect("no error");
            while source.step().expect("no error") == Step::More {}
        }
    }

    fn append(&mut self, text: &str) {
        let mut file = OpenOptions::new()
            .append(true)
            .create(true)
            .open(self.path("a.log"))
            .expect("a file");
        file.write_all(text.as_bytes()).expect("written");
    }

    /// File times are coarse; generations of one tick cannot be told apart and are repeated. Waits for the next tick.
    fn tick(&self) {
        let time = || {
            fs::write(self.path("tick"), "x").expect("a file");
            fs::metadata(self.path("tick"))
                .and_then(|meta| meta.modified())
                .expect("a time")
        };
        let before = time();
        while time() <= before + Duration::from_millis(4) {
            std::thread::yield_now();
        }
    }

    fn act(&mut self, action: &Action) {
        match action {
            Action::Append(lines) => {
                for _ in 0..*lines {
                    let number = self.written.len();
                    let rest = format!("line {number}");
                    let begun = self.half.take().unwrap_or_default();
                    self.append(&format!("{rest}\n"));
                    self.written.push(format!("{begun}{rest}"));
                }
            }
            Action::Half if self.half.is_none() => {
                let half = format!("half {} ", self.written.len());
                self.append(&half);
                self.half = Some(half);
            }
            Action::Half => {}
            Action::Rotate { create } => {
                // Applications finish the line that they write before they let go of the file.
                if self.half.is_some() {
                    self.act(&Action::Append(1));
                }
                let last = (1..)
                    .find(|n| !self.path(&format!("a.log.{n}")).exists())
                    .expect("a free name");
                for n in (1..last).rev() {
                    let (from, to) = (
                        self.path(&format!("a.log.{n}")),
                        self.path(&format!("a.log.{}", n + 1)),
                    );
                    fs::rename(from, to).expect("renamed");
                }
                if self.path("a.log").exists() {
                    fs::rename(self.path("a.log"), self.path("a.log.1")).expect("renamed");
                }
                self.tick();
                if *create {
                    self.append("");
                }
            }
            Action::Look => self.look(),
            Action::Ack(which) => {
                self.tick();
                self.receiver.ack(|flying| which.index(flying));
            }
            Action::Restart => {
                self.stop(Phase::Now);
                self.receiver.lose();
                self.interrupted = true;
                self.start();
            }
            Action::Kill => {
                self.agent = None;
                self.receiver.lose();
                self.interrupted = true;
                self.start();
            }
        }
    }

    fn stop(&mut self, phase: Phase) {
        let (mut source, stop) = self.agent.take().expect("running");
        stop.advance(phase);
        while source.step().expect("no error") == Step::More {}
        stop.advance(Phase::Close);
        assert_eq!(source.step().expect("no error"), Step::Closed);
    }

    /// Acknowledges everything, and tells what is missing and what came more than once.
    fn end(&mut self) -> (Vec<String>, Vec<String>) {
        if self.half.is_some() {
            self.act(&Action::Append(1));
        }
        let deadline = Instant::now() + Duration::from_secs(5);
        loop {
            self.look();
            self.tick();
            while !self.receiver.flying.lock().expect("no panic").is_empty() {
                self.receiver.ack(|_| 0);
            }
            let safe = self.receiver.safe.lock().expect("no panic");
            let missing: Vec<String> = self
                .written
                .iter()
                .filter(|line| !safe.contains_key(*line))
                .cloned()
                .collect();
            if missing.is_empty() || Instant::now() > deadline {
                let repeated = safe
                    .iter()
                    .filter(|(_, times)| **times > 1)
                    .map(|(line, _)| line.clone())
                    .collect();
                return (missing, repeated);
            }
        }
    }
}

fn run(pattern: &'static str, actions: &[Action]) -> Result<(), TestCaseError> {
    let mut history = History::new(pattern);
    actions.iter().for_each(|action| history.act(action));
    let (missing, repeated) = history.end();
    prop_assert_eq!(missing, Vec::<String>::new(), "missing");
    if !history.interrupted {
        prop_assert_eq!(repeated, Vec::<String>::new(), "repeated");
    }
    history.stop(Phase::Now);
    // Everything was safe when the agent stopped: the next start repeats nothing.
    history.receiver.safe.lock().expect("no panic").clear();
    history.start();
    history.look();
    let flying = history.receiver.flying.lock().expect("no panic").len();
    prop_assert_eq!(flying, 0, "repeated after a clean stop");
    Ok(())
}

/// `PROPTEST_CASES` asks for more.
fn cases() -> u32 {
    let asked = std::env::var("PROPTEST_CASES").ok();
    asked.and_then(|cases| cases.parse().ok()).unwrap_or(40)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: cases(), max_shrink_iters: 200, failure_persistence: Some(Box::new(FileFailurePersistence::WithSource("seeds"))), ..ProptestConfig::default() })]

    #[test]
    fn no_history_of_a_fixed_name_loses_a_line(actions in prop::collection::vec(action(), 1..30)) {
        run("a.log", &actions)?;
    }

    #[test]
    fn no_history_of_a_pattern_that_matches_rotated_names_loses_a_line(actions in prop::collection::vec(action(), 1..30)) {
        run("a.log*", &actions)?;
    }
}
