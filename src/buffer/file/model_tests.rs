//! A file buffer against a model, on a disk that fails, loses and is cut from its power at any operation.
//!
//! The source is a tailed file: lines that were not reported safe are read again after a crash. Whatever happens, every line arrives;
//! without crash and failure once and in order; in the end nothing is counted any more and no chunk stands on the disk. The source also
//! hears what chunks claim and does not read that again: a kill repeats no line in a chunk with another id.

use std::collections::{BTreeMap, BTreeSet};
use std::io::ErrorKind;
use std::sync::{Arc, Mutex};
use std::time::{Instant, SystemTime};

use proptest::prelude::*;

use super::sim::{Fault, Sim};
use super::*;
use crate::buffer::{Backlog, Buffer, ChunkId, Compress, InFlight, Limits, OverflowAction};
use crate::event::msgpack::entries;
use crate::event::record::find_text;
use crate::event::{Creditor, Entries, EventStream, EventTime, Extent, FileLife, Receipt, Tag};

#[derive(Clone, Debug)]
enum Action {
    Emit {
        tag: u8,
        lines: u8,
        length: u8,
    },
    Write,
    EnqueueAll,
    Take,
    Purge(prop::sample::Index),
    GiveBack(prop::sample::Index),
    /// The source writes down what is safe.
    Record,
    /// The disk fails some operations, a few from now.
    Fail {
        after: u8,
        times: u8,
        full: bool,
    },
    /// The process dies a few operations from now, and perhaps the power with it.
    Crash {
        after: u8,
        power: Option<u64>,
    },
    Restart,
}

fn action() -> impl Strategy<Value = Action> {
    prop_oneof![
        6 => (0..3u8, 1..6u8, 0..60u8).prop_map(|(tag, lines, length)| Action::Emit { tag, lines, length }),
        6 => Just(Action::Write),
        2 => Just(Action::EnqueueAll),
        3 => Just(Action::Take),
        3 => any::<prop::sample::Index>().prop_map(Action::Purge),
        1 => any::<prop::sample::Index>().prop_map(Action::GiveBack),
        1 => Just(Action::Record),
        1 => (0..12u8, 1..8u8, any::<bool>()).prop_map(|(after, times, full)| Action::Fail { after, times, full }),
        1 => (0..25u8, any::<Option<u64>>()).prop_map(|(after, power)| Action::Crash { after, power }),
        1 => Just(Action::Restart),
    ]
}

/// Which batches the source was told to be safe, and which of these it has written down.
#[derive(Default)]
struct Book {
    safe: Mutex<BTreeSet<u64>>,
    recorded: Mutex<BTreeSet<u64>>,
}

impl Book {
    fn is_safe(&self, batch: u64) -> bool {
        self.safe.lock().expect("whole").contains(&batch)
    }

    fn record(&self) {
        let safe = self.safe.lock().expect("whole").clone();
        *self.recorded.lock().expect("whole") = safe;
    }

    /// The source dies: what it had not written down it does not know any more.
    fn die(&self) {
        let recorded = self.recorded.lock().expect("whole").clone();
        *self.safe.lock().expect("whole") = recorded;
    }
}

impl Creditor for Book {
    fn safe(&self, batch: u64) {
        self.safe.lock().expect("whole").insert(batch);
    }

    fn forgotten(&self, _batch: u64) {}

    /// Each batch is a file of its own.
    fn extent(&self, batch: u64) -> Option<Extent> {
        Some(Extent {
            life: FileLife {
                owner: 0,
                device: 0,
                inode: batch,
                born: 1,
            },
            said: 1,
            from: 0,
            to: 1,
            head: (1, 1),
            parts: 1,
        })
    }

    fn is_recorded(&self, batch: u64) -> bool {
        self.recorded.lock().expect("whole").contains(&batch)
    }
}

struct World {
    settings: Settings,
    compress: Compress,
    sim: Arc<Sim>,
    buffer: Arc<Buffer>,
    book: Arc<Book>,
    flying: Vec<InFlight>,
    /// The batches, each with its tag and lines.
    emitted: Vec<(String, Vec<String>)>,
    /// Each delivery of each line, with its tag.
    delivered: Vec<(String, String)>,
    /// The chunks in which each line was delivered.
    chunks: BTreeMap<String, BTreeSet<ChunkId>>,
    /// Whether it may come in another chunk.
    forgetful: bool,
    /// Whether a line may come twice.
    disturbed: bool,
}

const LIMITS: Limits = Limits {
    chunk_bytes: 600,
    chunk_records: usize::MAX,
    full_bytes: 500,
    full_records: usize::MAX,
    total_bytes: 1_000_000,
    compress: Compress::Text,
    overflow: OverflowAction::Block,
};

impl World {
    fn new(settings: Settings) -> World {
        World::packed(settings, Compress::Text)
    }

    fn packed(settings: Settings, compress: Compress) -> World {
        let sim = Arc::new(Sim::default());
        World {
            buffer: opened(&settings, compress, &sim),
            settings,
            compress,
            sim,
            book: Arc::default(),
            flying: Vec::new(),
            emitted: Vec::new(),
            delivered: Vec::new(),
            chunks: BTreeMap::new(),
            forgetful: false,
            disturbed: false,
        }
    }

    fn emit(&mut self, tag: u8, lines: u8, length: u8) {
        let tag = format!("t{tag}");
        let batch = self.emitted.len();
        let line = |n| format!("{batch}.{n}.{}", "x".repeat(length.into()));
        self.emitted.push((tag, (0..lines).map(line).collect()));
        self.read(batch);
    }

    /// The source reads a batch, once more after a crash.
    fn read(&self, batch: usize) {
        let (tag, lines) = &self.emitted[batch];
        let mut entries = Entries::default();
        for line in lines {
            let mut record = entries.begin(EventTime { sec: 1, nsec: 0 });
            record.bin("message", line.as_bytes());
            record.finish();
        }
        let (entries, count) = entries.freeze();
        let stream = EventStream {
            tag: Tag::new(tag),
            entries,
            count,
            receipt: Receipt::new(self.book.clone(), batch as u64),
        };
        self.buffer
            .append(stream, Instant::now(), SystemTime::now());
    }

    fn write(&self) -> bool {
        self.storage().work().step()
    }

    fn storage(&self) -> &Storage {
        self.buffer.storage.as_ref().expect("on disk")
    }

    fn take(&mut self) {
        self.flying.extend(self.buffer.dequeue());
    }

    /// The output writes a chunk, once it may be read.
    fn deliver(&mut self, chunk: InFlight) {
        let content = chunk.content().expect("on disk");
        let Some(ready) = content.ready() else {
            return;
        };
        let bytes = content.read_all(ready).expect("readable").concat();
        let mut records = 0;
        for entry in entries(&bytes) {
            let record = entry.expect("whole entries").record;
            let line = find_text(record, "message").expect("a line");
            let line = String::from_utf8(line.to_vec()).expect("UTF-8");
            let chunks = self.chunks.entry(line.clone()).or_default();
            chunks.insert(chunk.id());
            self.delivered.push((chunk.tag().to_string(), line));
            records += 1;
        }
        assert_eq!(chunk.records(), records);
        chunk.purge();
    }

    /// Another process takes over.
    fn restart(&mut self, sim: Sim) {
        self.disturbed = true;
        self.flying.clear();
        self.sim = Arc::new(sim);
        self.buffer = opened(&self.settings, self.compress, &self.sim);
        self.book.die();
        let recalled = self.buffer.recalled();
        recalled
            .iter()
            .for_each(|extent| self.book.safe(extent.life.inode));
        self.book.record();
        self.buffer.taken_up();
        (0..self.emitted.len())
            .filter(|batch| !self.book.is_safe(*batch as u64))
            .for_each(|batch| self.read(batch));
    }

    fn crash(&mut self, after: u8, power: Option<u64>) {
        let dies = Fault {
            at: self.sim.operations() + 1 + u64::from(after),
            times: u64::MAX,
            kind: ErrorKind::Other,
        };
        self.sim.set_fault(Some(dies));
        for _ in 0..3 {
            self.write();
            self.take();
        }
        let left = match power {
            Some(seed) => {
                self.forgetful = true;
                self.sim.after_power_cut(seed)
            }
            None => self.sim.after_kill(),
        };
        self.restart(left);
    }

    fn act(&mut self, action: Action) {
        match action {
            Action::Emit { tag, lines, length } => self.emit(tag, lines, length),
            Action::Write => drop(self.write()),
            Action::EnqueueAll => self.buffer.enqueue_all(),
            Action::Take => self.take(),
            Action::Purge(which) if !self.flying.is_empty() => {
                let chunk = self.flying.swap_remove(which.index(self.flying.len()));
                self.deliver(chunk);
            }
            Action::GiveBack(which) if !self.flying.is_empty() => {
                drop(self.flying.swap_remove(which.index(self.flying.len())));
            }
            Action::Purge(_) | Action::GiveBack(_) => {}
            Action::Record => self.book.record(),
            Action::Fail { after, times, full } => {
                self.forgetful = true;
                let kind = if full {
                    ErrorKind::StorageFull
                } else {
                    ErrorKind::Other
                };
                let at = self.sim.operations() + 1 + u64::from(after);
                self.sim.set_fault(Some(Fault {
                    at,
                    times: times.into(),
                    kind,
                }));
            }
            Action::Crash { after, power } => self.crash(after, power),
            Action::Restart => {
                let disturbed = self.disturbed;
                self.sim.set_fault(None);
                self.write();
                assert!(self.write(), "a disk that is well takes everything");
                self.book.record();
                self.restart(self.sim.after_kill());
                self.disturbed = disturbed;
            }
        }
    }

    /// No more faults: everything arrives, and nothing is left.
    fn finish(mut self) {
        self.sim.set_fault(None);
        self.flying.clear();
        for _ in 0..1000 {
            self.write();
            self.buffer.enqueue_all();
            self.write();
            let Some(chunk) = self.buffer.dequeue() else {
                break;
            };
            self.deliver(chunk);
        }
        self.book.record();
        assert!(self.write());
        assert_eq!(self.buffer.backlog(), Backlog::default());
        let left: Vec<_> = self
            .sim
            .names()
            .into_iter()
            .filter(|name| !name.contains(".broken"))
            .collect();
        assert_eq!(left, Vec::<String>::new(), "everything was delivered");
        let safe = self.book.safe.lock().expect("whole").len();
        assert_eq!(safe, self.emitted.len(), "every batch is reported safe");
        assert!(!self.storage().is_behind());
        let sent: Vec<(String, String)> = self
            .emitted
            .iter()
            .flat_map(|(tag, lines)| lines.iter().map(|line| (tag.clone(), line.clone())))
            .collect();
        let set = |lines: &[(String, String)]| lines.iter().cloned().collect::<BTreeSet<_>>();
        assert_eq!(
            set(&self.delivered),
            set(&sent),
            "no line is lost, and none is invented"
        );
        if !self.forgetful {
            let twice = self.chunks.iter().filter(|(_, chunks)| chunks.len() > 1);
            let twice: Vec<_> = twice.map(|(line, _)| line).collect();
            assert!(twice.is_empty(), "in two chunks: {twice:?}");
        }
        if !self.disturbed {
            assert_eq!(
                by_tag(&self.delivered, true),
                by_tag(&sent, true),
                "each comes once"
            );
        }
    }
}

/// The lines of each tag, in order where it counts.
fn by_tag(lines: &[(String, String)], sorted: bool) -> BTreeMap<&str, Vec<&str>> {
    let mut tags: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for (tag, line) in lines {
        tags.entry(tag).or_default().push(line);
    }
    if sorted {
        tags.values_mut().for_each(|lines| lines.sort_unstable());
    }
    tags
}

/// A buffer on this disk, without its threads: the test says when it writes.
fn opened(settings: &Settings, compress: Compress, sim: &Arc<Sim>) -> Arc<Buffer> {
    let limits = Limits { compress, ..LIMITS };
    let buffer = Buffer::on_disk("b", ChunkKeys::tag(), limits, settings.clone());
    let storage = buffer.storage.as_ref().expect("on disk");
    let broken = || panic!("a crash leaves no broken chunk");
    let left = storage
        .open_on(sim.clone(), None, "b", &ChunkKeys::tag(), broken)
        .expect("opens");
    buffer.expect(&left);
    left.into_iter().for_each(|chunk| buffer.bring_back(chunk));
    buffer
}

pub fn settings(naming: Naming) -> Settings {
    Settings {
        directory: "buffer".into(),
        beside: Vec::new(),
        naming,
        fsync: true,
        most_inflated: 1 << 20,
        formatted: false,
        directory_mode: 0o700,
        file_mode: 0o600,
    }
}

fn run(settings: Settings, actions: Vec<Action>) {
    go_through(World::new(settings), actions);
}

fn go_through(mut world: World, actions: Vec<Action>) {
    for action in actions {
        world.act(action);
    }
    world.finish();
}

/// `PROPTEST_CASES` asks for more.
fn cases() -> u32 {
    let asked = std::env::var("PROPTEST_CASES").ok();
    asked.and_then(|cases| cases.parse().ok()).unwrap_or(300)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(cases()))]

    #[test]
    fn no_line_is_lost_by_a_file_buffer_whatever_fails_and_whenever_it_is_cut(actions in proptest::collection::vec(action(), 0..50)) {
        run(settings(Naming::file("buffer", ".log")), actions);
    }

    #[test]
    fn nor_by_file_single(actions in proptest::collection::vec(action(), 0..50)) {
        run(settings(Naming::single()), actions);
    }

    #[test]
    fn nor_by_a_compressed_one(actions in proptest::collection::vec(action(), 0..50)) {
        let compress = [Compress::Gzip, Compress::Zstd][actions.len() % 2];
        go_through(World::packed(settings(Naming::file("buffer", ".log")), compress), actions);
    }

    #[test]
    fn in_peace_lines_come_in_order(batches in proptest::collection::vec((0..3u8, 1..6u8, 0..60u8), 1..40)) {
        let mut world = World::new(settings(Naming::file("buffer", ".log")));
        for (tag, lines, length) in batches {
            world.emit(tag, lines, length);
            if lines > 3 {
                world.write();
            }
        }
        world.write();
        world.buffer.enqueue_all();
        world.write();
        while let Some(chunk) = world.buffer.dequeue() {
            world.deliver(chunk);
        }
        let sent: Vec<_> = world.emitted.iter().flat_map(|(tag, lines)| lines.iter().map(|line| (tag.clone(), line.clone()))).collect();
        prop_assert_eq!(by_tag(&world.delivered, false), by_tag(&sent, false));
    }
}

#[test]
fn without_fsync_a_kill_loses_nothing() {
    let mut world = World::new(Settings {
        fsync: false,
        ..settings(Naming::file("buffer", ".log"))
    });
    world.emit(0, 3, 10);
    world.write();
    assert!(world.book.is_safe(0));
    world.restart(world.sim.after_kill());
    world.finish();
}

/// What the whole order of operations is for: without the syncs, the same cut loses lines that were reported safe.
#[test]
fn without_fsync_a_power_cut_does_lose_lines() {
    let lost = (0..50).filter(|seed| {
        let mut world = World::new(Settings {
            fsync: false,
            ..settings(Naming::file("buffer", ".log"))
        });
        world.emit(0, 3, 10);
        world.write();
        let sim = world.sim.after_power_cut(*seed);
        let left = sim.names().iter().any(|name| name.ends_with(".log"));
        !left
    });
    assert!(
        lost.count() > 0,
        "the simulated disk loses nothing: the tests above prove nothing"
    );
}
