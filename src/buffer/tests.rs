use std::time::Duration;

use bytes::Bytes;
use proptest::prelude::*;

use super::*;
use crate::event::{Creditor, Entries, EventTime, Receipt};

const ROOMY: Limits = Limits::ROOMY;

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

impl Book {
    fn told(&self) -> Vec<(u64, bool)> {
        self.0.lock().expect("whole").clone()
    }
}

fn batch(tag: &str, bytes: usize, receipt: Receipt) -> EventStream {
    EventStream {
        tag: Tag::new(tag),
        entries: Bytes::from(vec![0xc0; bytes]),
        count: 1,
        receipt,
    }
}

fn plain(tag: &str, bytes: usize) -> EventStream {
    batch(tag, bytes, Receipt::none())
}

#[test]
fn batches_of_one_tag_share_a_chunk_until_it_is_full() {
    let buffer = Buffer::new("b", ChunkKeys::tag(), ROOMY);
    buffer.emit(plain("a", 400));
    buffer.emit(plain("a", 400));
    buffer.emit(plain("b", 1));
    assert_eq!(
        buffer.backlog(),
        Backlog {
            chunks: 2,
            in_flight: 0,
            bytes: 801,
            records: 3
        }
    );
    assert!(buffer.dequeue().is_none());
    buffer.emit(plain("a", 400));
    let first = buffer
        .dequeue()
        .expect("the next batch would have overfilled the chunk");
    assert_eq!((first.len(), first.records()), (800, 2));
}

#[test]
fn a_chunk_at_the_threshold_is_queued_at_once() {
    let buffer = Buffer::new("b", ChunkKeys::tag(), ROOMY);
    buffer.emit(plain("a", 950));
    assert_eq!(buffer.dequeue().expect("full").len(), 950);
}

/// A batch of events with values of these lengths.
fn events(lengths: &[usize], receipt: Receipt) -> EventStream {
    let mut batch = Entries::default();
    for length in lengths {
        let mut record = batch.begin(EventTime { sec: 1, nsec: 0 });
        record.bin("m", &vec![b'x'; *length]);
        record.finish();
    }
    let (entries, count) = batch.freeze();
    EventStream {
        tag: Tag::new("a"),
        entries,
        count,
        receipt,
    }
}

#[test]
fn a_batch_above_the_chunk_limit_fills_several_chunks() {
    let book = Arc::new(Book::default());
    let buffer = Buffer::new("b", ChunkKeys::tag(), ROOMY);
    buffer.emit(events(&[400; 5], Receipt::new(book.clone(), 1)));
    let counts: Vec<_> = std::iter::from_fn(|| {
        buffer.enqueue_all();
        let chunk = buffer.dequeue()?;
        let count = chunk.records();
        assert!(chunk.len() <= ROOMY.chunk_bytes);
        chunk.purge();
        Some(count)
    })
    .collect();
    assert_eq!(counts, [2, 2, 1]);
    assert_eq!(book.told(), [(1, true)]);
}

#[test]
fn an_event_above_the_chunk_limit_is_skipped_and_counted_and_its_neighbours_stay_once() {
    let book = Arc::new(Book::default());
    let buffer = Buffer::new("b", ChunkKeys::tag(), ROOMY);
    buffer.emit(events(&[10, 2000, 20], Receipt::new(book.clone(), 1)));
    assert_eq!(buffer.backlog().records, 2);
    assert_eq!(buffer.lost().oversized_records, 1);
    buffer.enqueue_all();
    while let Some(chunk) = buffer.dequeue() {
        chunk.purge();
    }
    assert_eq!(buffer.backlog(), Backlog::default());
    assert_eq!(book.told(), [(1, true)]);
    buffer.emit(events(&[2000], Receipt::new(book.clone(), 2)));
    assert_eq!(book.told(), [(1, true), (2, true)]);
}

#[test]
fn a_chunk_holds_no_more_events_than_its_limit() {
    let limits = Limits {
        chunk_records: 3,
        full_records: 3,
        ..ROOMY
    };
    let buffer = Buffer::new("b", ChunkKeys::tag(), limits);
    buffer.emit(events(&[1; 8], Receipt::none()));
    let counts: Vec<_> = std::iter::from_fn(|| {
        buffer.enqueue_all();
        let chunk = buffer.dequeue()?;
        let count = chunk.records();
        chunk.purge();
        Some(count)
    })
    .collect();
    assert_eq!(counts, [3, 3, 2]);
}

#[test]
fn events_of_different_keys_are_staged_apart() {
    let keys = ChunkKeys {
        time: Some(Timekey::new(60, jiff::tz::TimeZone::UTC)),
        ..ChunkKeys::default()
    };
    let buffer = Buffer::new("b", keys, ROOMY);
    for sec in [59, 60, 119] {
        let mut batch = Entries::default();
        batch.begin(EventTime { sec, nsec: 0 }).finish();
        let (entries, count) = batch.freeze();
        buffer.emit(EventStream {
            tag: Tag::new("a"),
            entries,
            count,
            receipt: Receipt::none(),
        });
    }
    buffer.enqueue_due(usize::MAX, |chunk| chunk.key().timekey == Some(60));
    let chunk = buffer.dequeue().expect("the slice that is over");
    assert_eq!((chunk.records(), buffer.backlog().chunks), (2, 2));
}

#[test]
fn what_is_due_stays_staged_while_the_queue_has_no_room() {
    let buffer = Buffer::new("b", ChunkKeys::tag(), ROOMY);
    let start = Instant::now();
    for (age, tag) in ["c", "a", "b"].into_iter().enumerate() {
        let then = start + Duration::from_secs(age as u64);
        buffer.append(plain(tag, 1), then, SystemTime::now());
    }
    buffer.enqueue_due(1, |_| true);
    assert_eq!(buffer.queued(), 1);
    assert_eq!(buffer.dequeue().expect("the oldest").tag().as_str(), "c");
}

#[test]
fn the_smallest_rank_is_taken_and_no_rank_stays() {
    let buffer = Buffer::new("b", ChunkKeys::tag(), ROOMY);
    for bytes in [960, 970, 980] {
        buffer.emit(plain("a", bytes));
    }
    let rank = |chunk: &Chunk| match chunk.len() {
        960 => None,
        970 => Some(2),
        _ => Some(1),
    };
    let taken: Vec<_> = std::iter::from_fn(|| {
        let chunk = buffer.dequeue_by(rank)?;
        let len = chunk.len();
        chunk.purge();
        Some(len)
    })
    .collect();
    assert_eq!(taken, [980, 970]);
    assert_eq!(buffer.queued(), 1);
}

#[test]
fn bytes_that_cannot_be_read_are_not_cut() {
    let buffer = Buffer::new("b", ChunkKeys::tag(), ROOMY);
    buffer.emit(plain("a", 10));
    buffer.emit(plain("a", 5000));
    assert_eq!(buffer.dequeue().map(|chunk| chunk.len()), Some(10));
    assert_eq!(buffer.backlog().chunks, 2);
}

#[test]
fn a_dropped_guard_takes_the_chunk_back_to_the_head() {
    let buffer = Buffer::new("b", ChunkKeys::tag(), ROOMY);
    buffer.emit(plain("a", 950));
    buffer.emit(plain("a", 960));
    let first = buffer.dequeue().expect("queued").id();
    assert_eq!(
        buffer.backlog(),
        Backlog {
            chunks: 2,
            in_flight: 0,
            bytes: 1910,
            records: 2
        }
    );
    assert_eq!(buffer.dequeue().expect("taken back").id(), first);
}

#[test]
fn only_a_purge_pays_the_debt() {
    let book = Arc::new(Book::default());
    let buffer = Buffer::new("b", ChunkKeys::tag(), ROOMY);
    buffer.emit(batch("a", 950, Receipt::new(book.clone(), 1)));
    drop(buffer.dequeue().expect("queued"));
    assert_eq!(book.told(), []);
    buffer.dequeue().expect("taken back").purge();
    assert_eq!(book.told(), [(1, true)]);
    buffer.emit(batch("a", 10, Receipt::new(book.clone(), 2)));
    drop(buffer);
    assert_eq!(book.told(), [(1, true), (2, false)]);
}

#[test]
fn full_means_wait_and_the_stage_goes_out() {
    let buffer = Buffer::new(
        "b",
        ChunkKeys::tag(),
        Limits {
            total_bytes: 500,
            ..ROOMY
        },
    );
    buffer.emit(plain("a", 600));
    assert_eq!(buffer.room(&Tag::new("a")), Room::Full);
    assert_eq!(buffer.room(&Tag::new("a")), Room::Full);
    assert_eq!(buffer.lost().pauses, 1);
    buffer
        .dequeue()
        .expect("a full buffer must not wait for the flush interval")
        .purge();
    assert_eq!(buffer.room(&Tag::new("a")), Room::Ready);
}

#[test]
fn drop_oldest_chunk_drops_counts_and_releases() {
    let book = Arc::new(Book::default());
    let buffer = Buffer::new(
        "b",
        ChunkKeys::tag(),
        Limits {
            total_bytes: 1500,
            overflow: OverflowAction::DropOldestChunk,
            ..ROOMY
        },
    );
    buffer.emit(batch("a", 950, Receipt::new(book.clone(), 1)));
    buffer.emit(batch("a", 951, Receipt::new(book.clone(), 2)));
    assert_eq!(buffer.room(&Tag::new("a")), Room::Ready);
    assert_eq!(book.told(), [(1, true)]);
    let lost = buffer.lost();
    assert_eq!((lost.dropped_chunks, lost.dropped_records), (1, 1));
    assert_eq!(buffer.dropped().len(), 1);
    assert!(buffer.dropped().is_empty());
    assert_eq!(buffer.backlog().bytes, 951);
}

#[test]
fn due_chunks_are_queued_oldest_first() {
    let buffer = Buffer::new("b", ChunkKeys::tag(), ROOMY);
    let start = Instant::now();
    for (age, tag) in ["c", "a", "b"].into_iter().enumerate() {
        buffer.append(
            plain(tag, 1),
            start + Duration::from_secs(age as u64),
            SystemTime::now(),
        );
    }
    buffer.enqueue_due(usize::MAX, |chunk| {
        chunk.created() < start + Duration::from_secs(2)
    });
    let order: Vec<_> = std::iter::from_fn(|| {
        let chunk = buffer.dequeue()?;
        let tag = chunk.tag().to_string();
        chunk.purge();
        Some(tag)
    })
    .collect();
    assert_eq!(order, ["c", "a"]);
}

#[tokio::test]
async fn emptied_waits_for_what_is_in_flight() {
    let buffer = Buffer::new("b", ChunkKeys::tag(), ROOMY);
    buffer.emit(plain("a", 950));
    let chunk = buffer.dequeue().expect("queued");
    let waiting = tokio::spawn({
        let buffer = buffer.clone();
        async move { buffer.emptied().await }
    });
    tokio::task::yield_now().await;
    assert!(!waiting.is_finished());
    chunk.purge();
    waiting.await.expect("emptied");
}

#[derive(Clone, Debug)]
enum Action {
    Emit { tag: u8, bytes: usize },
    Enqueue,
    Take,
    Purge(prop::sample::Index),
    GiveBack(prop::sample::Index),
}

fn action() -> impl Strategy<Value = Action> {
    prop_oneof![
        4 => (0..3u8, 1..1500usize).prop_map(|(tag, bytes)| Action::Emit { tag, bytes }),
        1 => Just(Action::Enqueue),
        2 => Just(Action::Take),
        2 => any::<prop::sample::Index>().prop_map(Action::Purge),
        1 => any::<prop::sample::Index>().prop_map(Action::GiveBack),
    ]
}

proptest! {
    /// Whatever happens in whatever order: each batch is either safe or still owed, and the accounts come back to zero.
    #[test]
    fn no_batch_is_ever_lost_between_stage_queue_and_flight(actions in proptest::collection::vec(action(), 0..60)) {
        let book = Arc::new(Book::default());
        let buffer = Buffer::new("b", ChunkKeys::tag(), ROOMY);
        let mut flying = Vec::new();
        let mut emitted = 0;
        for action in actions {
            match action {
                Action::Emit { tag, bytes } => {
                    buffer.emit(batch(&format!("t{tag}"), bytes, Receipt::new(book.clone(), emitted)));
                    emitted += 1;
                }
                Action::Enqueue => buffer.enqueue_all(),
                Action::Take => flying.extend(buffer.dequeue()),
                Action::Purge(which) if !flying.is_empty() => flying.swap_remove(which.index(flying.len())).purge(),
                Action::GiveBack(which) if !flying.is_empty() => drop(flying.swap_remove(which.index(flying.len()))),
                Action::Purge(_) | Action::GiveBack(_) => {}
            }
            let level = buffer.backlog();
            prop_assert_eq!(level.in_flight, flying.len());
            prop_assert_eq!(level.records as u64 + book.told().len() as u64, emitted);
        }
        drop(flying);
        buffer.enqueue_all();
        while let Some(chunk) = buffer.dequeue() {
            chunk.purge();
        }
        prop_assert_eq!(buffer.backlog(), Backlog::default());
        let mut told = book.told();
        told.sort_unstable();
        prop_assert_eq!(told, (0..emitted).map(|batch| (batch, true)).collect::<Vec<_>>());
    }
}

#[tokio::test]
async fn compressed_chunks_are_bounded_as_they_are_kept_and_read_as_they_came() {
    for compress in [Compress::Gzip, Compress::Zstd] {
        let limits = Limits { compress, ..ROOMY };
        let buffer = Buffer::new("b", ChunkKeys::tag(), limits);
        let batch = events(&[3000; 4], Receipt::none());
        let entries = batch.entries.clone();
        buffer.emit(batch.clone());
        buffer.emit(batch);
        assert!(buffer.backlog().bytes < 1000);
        buffer.enqueue_all();
        let chunk = buffer.dequeue().expect("one");
        assert_eq!((chunk.records(), chunk.compress()), (8, compress));
        let read = chunk.read().await.expect("in memory").concat();
        assert_eq!(read, [entries.clone(), entries].concat());
    }
}

#[test]
fn a_compressed_batch_that_is_too_large_is_cut_and_what_fits_nowhere_is_skipped() {
    let limits = Limits {
        compress: Compress::Gzip,
        ..ROOMY
    };
    let buffer = Buffer::new("b", ChunkKeys::tag(), limits);
    let mut batch = Entries::default();
    for size in [700, 700, 5000, 100] {
        let mut random = fastrand::Rng::with_seed(size as u64);
        let noise: Vec<u8> = (0..size).map(|_| random.u8(..)).collect();
        let mut record = batch.begin(EventTime { sec: 1, nsec: 0 });
        record.bin("m", &noise);
        record.finish();
    }
    let (entries, count) = batch.freeze();
    buffer.emit(EventStream {
        tag: Tag::new("a"),
        entries,
        count,
        receipt: Receipt::none(),
    });
    assert_eq!(buffer.lost().oversized_records, 1);
    let mut sizes = Vec::new();
    buffer.enqueue_all();
    while let Some(chunk) = buffer.dequeue() {
        sizes.push((chunk.records(), chunk.len() <= ROOMY.chunk_bytes));
        chunk.purge();
    }
    assert_eq!(sizes, [(1, true), (2, true)]);
}

#[tokio::test]
async fn a_worker_is_woken_for_a_new_chunk_and_not_for_more_in_a_staged_one() {
    let buffer = Buffer::new("b", ChunkKeys::tag(), ROOMY);
    let woken = async |buffer: &Buffer| {
        tokio::time::timeout(Duration::from_millis(20), buffer.work())
            .await
            .is_ok()
    };
    buffer.emit(plain("a", 10));
    assert!(woken(&buffer).await);
    buffer.emit(plain("a", 10));
    assert!(!woken(&buffer).await, "it knows when the chunk is due");
    buffer.emit(plain("b", 10));
    assert!(woken(&buffer).await);
}

#[test]
fn a_compressed_chunk_is_full_when_whoever_reads_it_needs_much_memory() {
    let limits = Limits {
        compress: Compress::Zstd,
        chunk_bytes: 64 << 20,
        full_bytes: 8 << 20,
        total_bytes: 1 << 30,
        ..ROOMY
    };
    let buffer = Buffer::new("b", ChunkKeys::tag(), limits);
    for _ in 0..80 {
        buffer.emit(plain("a", 1 << 20));
    }
    buffer.enqueue_all();
    let mut sizes = Vec::new();
    while let Some(chunk) = buffer.dequeue() {
        sizes.push(chunk.plain() >> 20);
        chunk.purge();
    }
    assert_eq!(sizes, [32, 32, 16]);
}
