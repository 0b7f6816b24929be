use std::sync::Mutex;

use super::*;
use crate::agent::configure::PlannedInput;
use crate::buffer::{Buffer, Chunk, ChunkKeys, Compress, Limits, OverflowAction};
use crate::event::{Creditor, Entries, EventStream, EventTime, Receipt, Tag};
use crate::flush::{Backup, Due, FlushMode, FlushSettings, RetrySettings, RetryType};
use crate::input::Input;
use crate::output::{Boxed, Output, WriteError};

/// What a scripted source does.
#[derive(Clone, Copy)]
enum Script {
    EmitAndWait,
    Fail,
    Panic,
    StartAndFail,
}

struct Source {
    script: Script,
    book: Arc<Book>,
}

#[derive(Default)]
struct Book(Mutex<Vec<&'static str>>);

impl Book {
    fn note(&self, what: &'static str) {
        self.0.lock().expect("whole").push(what);
    }
    fn notes(&self) -> Vec<&'static str> {
        self.0.lock().expect("whole").clone()
    }
}

impl Creditor for Book {
    fn safe(&self, _batch: u64) {
        self.note("safe");
    }
    fn forgotten(&self, _batch: u64) {
        self.note("forgotten");
    }
}

impl Input for Source {
    fn run(self: Box<Self>, around: Surroundings) -> anyhow::Result<()> {
        match self.script {
            Script::Fail => anyhow::bail!("the disk is gone"),
            Script::StartAndFail => {
                (around.started)();
                while !self.book.notes().contains(&"the test goes on") {
                    thread::yield_now();
                }
                anyhow::bail!("the disk is gone")
            }
            Script::Panic => panic!("a scripted panic"),
            Script::EmitAndWait => {}
        }
        (around.started)();
        let mut batch = Entries::default();
        let mut record = batch.begin(EventTime::now());
        record.str("message", b"hi");
        record.finish();
        let (entries, count) = batch.freeze();
        Progress::add(&around.progress.lines, 1);
        let receipt = Receipt::new(self.book.clone(), 1);
        around.collector.emit(EventStream {
            tag: Tag::new("a"),
            entries,
            count,
            receipt,
        });
        let (wake, woken) = std::sync::mpsc::channel();
        around
            .stop
            .on_change(move || wake.send(()).expect("the source listens"));
        while around.stop.phase() == Phase::Run {
            woken.recv().expect("the stop lives as long as the agent");
        }
        (around.finished)();
        while around.stop.phase() < Phase::Close {
            woken.recv().expect("the stop lives as long as the agent");
        }
        self.book.note("positions written");
        Ok(())
    }

    fn pos_file(&self) -> Option<&std::path::Path> {
        None
    }

    fn limit_read_ahead(&mut self, _bytes: u64) {}

    fn most_memory(&self) -> usize {
        0
    }
    fn limit_open_files(&mut self, _files: usize) {}
}

/// Takes everything, or nothing.
struct Sink {
    takes: bool,
}

impl Output for Sink {
    fn write<'a>(&'a self, _chunk: &'a Chunk) -> Boxed<'a, Result<(), WriteError>> {
        Box::pin(async move {
            if self.takes {
                Ok(())
            } else {
                Err(WriteError::Retry(anyhow::anyhow!("away")))
            }
        })
    }
}

fn plan(script: Script, takes: bool, mode: FlushMode) -> (Plan, Arc<Book>) {
    let limits = Limits {
        chunk_bytes: 1000,
        chunk_records: usize::MAX,
        full_bytes: 1000,
        full_records: usize::MAX,
        total_bytes: 10_000,
        compress: Compress::Text,
        overflow: OverflowAction::Block,
    };
    let retry = RetrySettings {
        retry_type: RetryType::Periodic,
        wait: Duration::from_secs(3600),
        max_interval: None,
        timeout: None,
        max_times: None,
        randomize: false,
        secondary_threshold: None,
    };
    let settings = FlushSettings {
        due: Due { mode, slice: None },
        workers: 1,
        burst_interval: Duration::ZERO,
        thread_interval: Duration::ZERO,
        queued_limit: 1,
        at_shutdown: true,
        slow_threshold: Duration::from_secs(20),
        retry,
    };
    let buffer = Buffer::new("out", ChunkKeys::tag(), limits);
    let flusher = Flusher::new(
        "out".into(),
        buffer.clone(),
        Arc::new(Sink { takes }),
        None,
        settings,
        Backup::disabled(),
    );
    let book = Arc::new(Book::default());
    let input = Box::new(Source {
        script,
        book: book.clone(),
    });
    let inputs = vec![PlannedInput {
        id: "tail.0".into(),
        input,
        collector: buffer,
    }];
    (
        Plan {
            inputs,
            flushers: vec![flusher],
            routers: vec![],
            log_levels: Default::default(),
        },
        book,
    )
}

#[tokio::test]
async fn a_stop_flushes_before_positions_are_written() {
    let (plan, book) = plan(Script::EmitAndWait, true, FlushMode::Lazy);
    let ledger = Agent::start(plan).await.expect("starts").stop().await;
    assert_eq!(book.notes(), ["safe", "positions written"]);
    assert_eq!(
        (ledger.lines_read, ledger.delivered, ledger.kept),
        (1, 1, 0)
    );
}

#[tokio::test]
async fn a_stop_keeps_what_no_server_takes_behind_the_position() {
    let (plan, book) = plan(Script::EmitAndWait, false, FlushMode::Lazy);
    let ledger = Agent::start(plan).await.expect("starts").stop().await;
    assert!(!book.notes().contains(&"safe"));
    assert_eq!((ledger.delivered, ledger.kept), (0, 1));
}

#[tokio::test]
async fn a_source_that_fails_or_panics_at_its_start_fails_the_start() {
    for script in [Script::Fail, Script::Panic] {
        let (plan, _) = plan(script, true, FlushMode::Lazy);
        let error = Agent::start(plan).await.err().expect("does not start");
        assert!(error.to_string().contains("tail.0"), "{error}");
    }
}

#[tokio::test]
async fn a_source_that_dies_later_is_a_death() {
    let (plan, book) = plan(Script::StartAndFail, true, FlushMode::Lazy);
    let mut agent = Agent::start(plan).await.expect("starts");
    book.note("the test goes on");
    assert_eq!(agent.died().await, "tail.0");
}

#[tokio::test]
async fn a_dead_source_ends_the_wait_for_the_others_and_is_named() {
    let (mut plan, book) = plan(Script::EmitAndWait, true, FlushMode::Immediate);
    let collector = plan.inputs[0].collector.clone();
    let (script, of_dead) = (Script::StartAndFail, book.clone());
    let input = Box::new(Source {
        script,
        book: of_dead,
    });
    plan.inputs.push(PlannedInput {
        id: "tail.1".into(),
        input,
        collector,
    });
    let mut agent = Agent::start(plan).await.expect("starts");
    book.note("the test goes on");
    agent.read_to_end();
    agent.inputs_finished().await;
    assert_eq!(agent.dead_sources(), ["tail.1"]);
    agent.close().await;
    assert_eq!(
        agent.dead_sources(),
        ["tail.1"],
        "who finished did not die at its end"
    );
}

#[tokio::test]
async fn a_drain_takes_what_no_server_takes_and_counts_it() {
    let (plan, book) = plan(Script::EmitAndWait, false, FlushMode::Immediate);
    let mut agent = Agent::start(plan).await.expect("starts");
    agent.hurry();
    agent.read_to_end();
    agent.inputs_finished().await;
    let chunk = loop {
        // A flush worker may have it in its hands right now.
        match agent.outputs()[0].take() {
            Some(chunk) => break chunk,
            None => tokio::task::yield_now().await,
        }
    };
    agent
        .spilled()
        .fetch_add(chunk.records() as u64, Ordering::Relaxed);
    chunk.purge();
    agent.emptied().await;
    assert_eq!(book.notes(), ["safe"]);
    let ledger = agent.close().await;
    assert_eq!((ledger.spilled, ledger.kept, ledger.delivered), (1, 0, 0));
}
