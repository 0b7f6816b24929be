use std::collections::VecDeque;

use anyhow::anyhow;
use bytes::Bytes;

use super::*;
use crate::buffer::{Chunk, ChunkKeys, Compress, Limits, OverflowAction};
use crate::event::{Collector, Creditor, EventStream, Receipt, Tag};
use crate::output::Boxed;

/// What a scripted output does with its next write.
#[derive(Clone, Copy)]
enum Answer {
    Take,
    Refuse,
    Spoil,
    Hang,
}

#[derive(Default)]
struct Script {
    answers: Mutex<VecDeque<Answer>>,
    written: Mutex<Vec<usize>>,
}

impl Script {
    fn new(answers: &[Answer]) -> Arc<Script> {
        Arc::new(Script {
            answers: Mutex::new(answers.iter().copied().collect()),
            ..Script::default()
        })
    }

    fn written(&self) -> Vec<usize> {
        self.written.lock().expect("whole").clone()
    }
}

impl Output for Script {
    fn write<'a>(&'a self, chunk: &'a Chunk) -> Boxed<'a, Result<(), WriteError>> {
        Box::pin(async move {
            let answer = self
                .answers
                .lock()
                .expect("whole")
                .pop_front()
                .unwrap_or(Answer::Take);
            match answer {
                Answer::Take => self.written.lock().expect("whole").push(chunk.len()),
                Answer::Refuse => return Err(WriteError::Retry(anyhow!("no nodes are available"))),
                Answer::Spoil => {
                    return Err(WriteError::Unrecoverable(anyhow!("cannot be packed")));
                }
                Answer::Hang => std::future::pending().await,
            }
            Ok(())
        })
    }
}

#[derive(Default)]
struct Book(Mutex<Vec<(u64, bool)>>);

impl Creditor for Book {
    fn safe(&self, batch: u64) {
        self.0.lock().expect("whole").push((batch, true));
    }
    fn forgotten(&self, batch: u64) {
        self.0.lock().expect("whole").push((batch, false));
    }
}

fn settings(mode: FlushMode) -> FlushSettings {
    FlushSettings {
        due: Due { mode, slice: None },
        workers: 1,
        burst_interval: Duration::ZERO,
        thread_interval: Duration::ZERO,
        queued_limit: 1,
        at_shutdown: true,
        slow_threshold: Duration::from_secs(20),
        retry: RetrySettings {
            retry_type: RetryType::ExponentialBackoff { base: 2.0 },
            wait: Duration::from_secs(1),
            max_interval: None,
            timeout: Some(Duration::from_secs(259_200)),
            max_times: None,
            randomize: true,
            secondary_threshold: None,
        },
    }
}

struct Rig {
    flusher: Arc<Flusher>,
    stop: Stop,
    book: Arc<Book>,
    worker: tokio::task::JoinHandle<()>,
    _directory: tempfile::TempDir,
}

impl Rig {
    fn new(
        output: Arc<Script>,
        secondary: Option<Arc<dyn Output>>,
        settings: FlushSettings,
    ) -> Rig {
        let directory = tempfile::tempdir().expect("a directory");
        let backup = Backup::under(directory.path());
        Rig::keeping(output, secondary, settings, (backup, directory))
    }

    fn keeping(
        output: Arc<Script>,
        secondary: Option<Arc<dyn Output>>,
        settings: FlushSettings,
        (backup, directory): (Backup, tempfile::TempDir),
    ) -> Rig {
        let limits = Limits {
            chunk_bytes: 1000,
            chunk_records: usize::MAX,
            full_bytes: 950,
            full_records: usize::MAX,
            total_bytes: 100_000,
            compress: Compress::Text,
            overflow: OverflowAction::Block,
        };
        let buffer = Buffer::new("out", ChunkKeys::tag(), limits);
        let flusher = Flusher::new("out".into(), buffer, output, secondary, settings, backup);
        let stop = Stop::new();
        let worker = tokio::spawn(flusher.clone().work(stop.clone()));
        Rig {
            flusher,
            stop,
            book: Arc::default(),
            worker,
            _directory: directory,
        }
    }

    fn emit(&self, bytes: usize) {
        let receipt = Receipt::new(self.book.clone(), bytes as u64);
        let entries = Bytes::from(vec![0xc0; bytes]);
        self.flusher.buffer().emit(EventStream {
            tag: Tag::new("a"),
            entries,
            count: 1,
            receipt,
        });
    }

    fn told(&self) -> Vec<(u64, bool)> {
        self.book.0.lock().expect("whole").clone()
    }
}

#[test]
fn in_a_hurry_failures_are_told_at_first_and_then_once_a_minute_with_their_count() {
    let (mut quiet, began) = (Quiet::default(), Instant::now());
    let told: Vec<(u64, u64)> = (0..1000)
        .filter_map(|n| {
            let failures = quiet.failed(began + n * Duration::from_millis(200))?;
            Some((u64::from(n), failures))
        })
        .collect();
    assert_eq!(told, [(0, 1), (300, 300), (600, 300), (900, 300)]);
}

#[tokio::test]
async fn a_forced_flush_takes_what_is_staged_in_order() {
    let output = Script::new(&[]);
    let rig = Rig::new(
        output.clone(),
        None,
        settings(FlushMode::Interval(Duration::from_secs(3600))),
    );
    rig.emit(10);
    rig.emit(950);
    rig.flusher.force();
    rig.flusher.buffer().emptied().await;
    assert_eq!(output.written(), [960]);
}

#[tokio::test]
async fn due_chunks_are_looked_for_once_in_a_flush_thread_interval() {
    let interval = Duration::from_secs(5);
    let paced = FlushSettings {
        thread_interval: interval,
        ..settings(FlushMode::Immediate)
    };
    let flusher = Rig::new(Script::new(&[]), None, paced).flusher;
    let begin = Instant::now() + Duration::from_secs(3600);
    assert_eq!(flusher.before_next_look(begin), None);
    let next = begin + interval;
    assert_eq!(flusher.before_next_look(begin + interval / 2), Some(next));
    assert_eq!(flusher.before_next_look(next), None);
    assert_eq!(flusher.before_next_look(next), Some(next + interval));
    // A termination does not wait for it.
    let paced = FlushSettings {
        thread_interval: Duration::from_secs(3600),
        ..settings(FlushMode::Immediate)
    };
    let rig = Rig::new(Script::new(&[]), None, paced);
    rig.emit(10);
    rig.flusher.hurry();
    rig.flusher.buffer().emptied().await;
}

#[tokio::test]
async fn an_immediate_chunk_leaves_at_once_and_its_receipt_is_released() {
    let output = Script::new(&[]);
    let rig = Rig::new(output.clone(), None, settings(FlushMode::Immediate));
    rig.emit(10);
    rig.flusher.buffer().emptied().await;
    assert_eq!(output.written(), [10]);
    assert_eq!(rig.told(), [(10, true)]);
}

#[tokio::test]
async fn a_failed_chunk_is_tried_again_and_nothing_is_released_before() {
    let output = Script::new(&[Answer::Refuse]);
    let rig = Rig::new(output.clone(), None, settings(FlushMode::Immediate));
    rig.emit(10);
    while !rig.flusher.is_in_trouble() {
        tokio::task::yield_now().await;
    }
    assert_eq!(rig.told(), []);
    rig.flusher.force();
    rig.flusher.buffer().emptied().await;
    assert_eq!(rig.told(), [(10, true)]);
}

#[tokio::test]
async fn a_forced_flush_does_not_wait_for_the_back_off() {
    let mut slow = settings(FlushMode::Immediate);
    slow.retry.wait = Duration::from_secs(100_000);
    let output = Script::new(&[Answer::Refuse]);
    let rig = Rig::new(output.clone(), None, slow);
    rig.emit(10);
    while !rig.flusher.is_in_trouble() {
        tokio::task::yield_now().await;
    }
    rig.flusher.force();
    rig.flusher.buffer().emptied().await;
    assert_eq!(output.written(), [10]);
}

#[tokio::test]
async fn a_spoilt_chunk_goes_to_the_secondary_and_holds_up_nothing() {
    let output = Script::new(&[Answer::Spoil]);
    let second = Script::new(&[]);
    let rig = Rig::new(
        output.clone(),
        Some(second.clone()),
        settings(FlushMode::Immediate),
    );
    rig.emit(951);
    rig.emit(952);
    rig.flusher.buffer().emptied().await;
    assert_eq!((second.written(), output.written()), (vec![951], vec![952]));
}

#[tokio::test]
async fn a_chunk_given_up_alone_is_backed_up_and_the_queue_stays() {
    let mut limited = settings(FlushMode::Immediate);
    limited.retry.max_times = Some(0);
    let output = Script::new(&[Answer::Refuse]);
    let rig = Rig::new(output.clone(), None, limited);
    rig.emit(951);
    rig.emit(952);
    rig.flusher.buffer().emptied().await;
    assert_eq!(output.written(), [952]);
    let kept: Vec<u64> = std::fs::read_dir(rig._directory.path().join("backup/worker0/out"))
        .expect("the backup directory")
        .map(|entry| entry.expect("an entry").metadata().expect("a file").len())
        .collect();
    assert_eq!(kept, [951]);
    assert_eq!(
        rig.flusher
            .delivered()
            .backup_records
            .load(Ordering::Relaxed),
        1
    );
}

#[tokio::test]
async fn a_chunk_that_always_fails_holds_up_nothing_else() {
    let mut slow = settings(FlushMode::Immediate);
    slow.retry.wait = Duration::from_secs(100_000);
    let output = Script::new(&[Answer::Refuse]);
    let rig = Rig::new(output.clone(), None, slow);
    rig.emit(951);
    while !rig.flusher.is_in_trouble() {
        tokio::task::yield_now().await;
    }
    for bytes in [952, 953, 10] {
        rig.emit(bytes);
    }
    while output.written().len() < 3 {
        tokio::task::yield_now().await;
    }
    assert_eq!(output.written(), [952, 953, 10]);
    assert_eq!(rig.flusher.backlog().chunks, 1);
}

#[tokio::test]
async fn a_server_that_is_away_is_not_asked_for_each_chunk() {
    let mut slow = settings(FlushMode::Immediate);
    slow.retry.wait = Duration::from_secs(100_000);
    let output = Script::new(&[Answer::Refuse; 50]);
    let rig = Rig::new(output.clone(), None, slow);
    for bytes in 951..981 {
        rig.emit(bytes);
    }
    let errors = || rig.flusher.delivered().errors.load(Ordering::Relaxed);
    while errors() < 2 {
        tokio::task::yield_now().await;
    }
    for _ in 0..1000 {
        tokio::task::yield_now().await;
    }
    assert_eq!((errors(), output.written()), (2, vec![]));
}

#[tokio::test]
async fn a_chunk_at_its_limit_goes_to_the_secondary_before_the_backup() {
    let mut limited = settings(FlushMode::Immediate);
    limited.retry.max_times = Some(0);
    let output = Script::new(&[Answer::Refuse]);
    let second = Script::new(&[]);
    let rig = Rig::new(output.clone(), Some(second.clone()), limited);
    rig.emit(951);
    rig.emit(952);
    rig.flusher.buffer().emptied().await;
    assert_eq!((second.written(), output.written()), (vec![951], vec![952]));
    let delivered = rig.flusher.delivered();
    assert_eq!(delivered.secondary_records.load(Ordering::Relaxed), 1);
}

#[tokio::test]
async fn a_flush_that_takes_longer_than_the_threshold_is_counted() {
    let mut impatient = settings(FlushMode::Immediate);
    impatient.slow_threshold = Duration::ZERO;
    let rig = Rig::new(Script::new(&[]), None, impatient);
    rig.emit(951);
    rig.flusher.buffer().emptied().await;
    assert_eq!(rig.flusher.delivered().slow.load(Ordering::Relaxed), 1);
}

#[tokio::test]
async fn without_a_backup_a_chunk_given_up_counts_as_thrown_away_and_nothing_else() {
    let directory = tempfile::tempdir().expect("a directory");
    let rig = Rig::keeping(
        Script::new(&[Answer::Spoil]),
        None,
        settings(FlushMode::Immediate),
        (Backup::disabled(), directory),
    );
    rig.emit(951);
    rig.flusher.buffer().emptied().await;
    let delivered = rig.flusher.delivered();
    let counts = [
        &delivered.records,
        &delivered.backup_records,
        &delivered.discarded_records,
    ];
    assert_eq!(
        counts.map(|counter| counter.load(Ordering::Relaxed)),
        [0, 0, 1]
    );
    assert_eq!(rig.flusher.backup_directory(), None);
}

#[tokio::test]
async fn in_a_hurry_nothing_is_given_up() {
    let mut limited = settings(FlushMode::Lazy);
    limited.retry.max_times = Some(0);
    let output = Script::new(&[Answer::Refuse, Answer::Refuse]);
    let rig = Rig::new(output.clone(), None, limited);
    rig.flusher.hurry();
    rig.emit(10);
    rig.flusher.buffer().emptied().await;
    assert_eq!(output.written(), [10]);
    assert_eq!(
        rig.flusher
            .delivered()
            .backup_records
            .load(Ordering::Relaxed),
        0
    );
}

#[tokio::test]
async fn closing_takes_the_chunk_in_flight_back() {
    let output = Script::new(&[Answer::Hang]);
    let rig = Rig::new(output.clone(), None, settings(FlushMode::Immediate));
    rig.emit(10);
    while rig.flusher.backlog().in_flight == 0 {
        tokio::task::yield_now().await;
    }
    rig.stop.advance(Phase::Close);
    rig.worker.await.expect("the worker ends");
    assert_eq!(
        rig.flusher.backlog(),
        Backlog {
            chunks: 1,
            in_flight: 0,
            bytes: 10,
            records: 1
        }
    );
}

#[tokio::test]
async fn a_stop_does_not_wait_for_a_server_that_is_away() {
    let output = Script::new(&[Answer::Refuse]);
    let rig = Rig::new(output, None, settings(FlushMode::Lazy));
    rig.emit(10);
    rig.flusher.force();
    flushed(&rig.flusher, Duration::from_secs(100_000)).await;
    assert_eq!(rig.flusher.backlog().records, 1);
}

#[tokio::test]
async fn a_chunk_that_fails_at_a_stop_holds_up_none_of_the_others() {
    let output = Script::new(&[Answer::Refuse]);
    let rig = Rig::new(output.clone(), None, settings(FlushMode::Lazy));
    (0..5).for_each(|_| rig.emit(960));
    rig.flusher.force();
    flushed(&rig.flusher, Duration::from_secs(100_000)).await;
    assert_eq!(
        (output.written().len(), rig.flusher.backlog().chunks),
        (4, 1)
    );
}

#[tokio::test]
async fn the_printed_bound_counts_a_chunk_that_is_looked_into_and_knows_no_bound_without_one() {
    let rig = Rig::new(Script::new(&[]), None, settings(FlushMode::Lazy));
    let limits = rig.flusher.buffer().limits();
    let text = 2 * limits.most_plain();
    assert_eq!(rig.flusher.most_memory(), limits.total_bytes + text);
    let limits = Limits {
        total_bytes: usize::MAX,
        ..limits.clone()
    };
    let buffer = Buffer::new("out", ChunkKeys::tag(), limits);
    let settings = settings(FlushMode::Lazy);
    let flusher = Flusher::new(
        "out".into(),
        buffer,
        Script::new(&[]),
        None,
        settings,
        Backup::disabled(),
    );
    assert_eq!(flusher.most_memory(), usize::MAX);
}
