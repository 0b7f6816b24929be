use std::time::Duration;

use bytes::Bytes;
use proptest::prelude::*;

use super::*;
use crate::event::{Creditor, Receipt};

const ROOMY: Limits = Limits {
    chunk_bytes: 1000,
    chunk_records: usize::MAX,
    full_bytes: 950,
    full_records: usize::MAX,
    total_bytes: 10_000,
    overflow: OverflowAction::Wait,
};

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

#[test]
fn a_batch_above_the_chunk_limit_is_a_chunk_of_its_own() {
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
    assert_eq!(buffer.dropped_records(), 1);
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
    let rest = buffer.enqueue_due(|chunk| chunk.created() < start + Duration::from_secs(2));
    assert_eq!(rest, Some(start + Duration::from_secs(2)));
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
