//! An agent with one output, for the tests of this room: its servers answer, or they do not.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Instant, SystemTime};

use tokio::sync::Notify;

use super::drainable::{Drainable, Ledger, OutputBacklog, Taken};
use crate::agent::FileReport;
use crate::buffer::{Chunk, ChunkKey};
use crate::event::{Creditor, Entries, EventStream, EventTime, Receipt, Tag};

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[derive(Default)]
struct State {
    unread: Vec<Chunk>,
    queue: VecDeque<Chunk>,
    /// In flight at a server that never answers.
    stuck: Option<Chunk>,
    taken: usize,
    paused: bool,
    ended: bool,
    alive: bool,
    ledger: Ledger,
    moved: u64,
    not_safe: Vec<String>,
}

/// An agent with one output.
#[derive(Clone, Default)]
pub struct FakeAgent {
    state: Arc<Mutex<State>>,
    changed: Arc<Notify>,
    book: Arc<Book>,
}

/// Counts the batches that became safe.
#[derive(Default)]
pub struct Book(Mutex<(usize, usize)>);

impl Creditor for Book {
    fn safe(&self, _batch: u64) {
        lock(&self.0).0 += 1;
    }
    fn forgotten(&self, _batch: u64) {
        lock(&self.0).1 += 1;
    }
}

impl FakeAgent {
    /// `queued` and `unread` chunks of one line each; its servers answer or they do not.
    pub fn new(queued: usize, unread: usize, alive: bool) -> FakeAgent {
        let agent = FakeAgent::default();
        let chunk = |n: usize| {
            let mut entries = Entries::default();
            let mut record = entries.begin(EventTime { sec: 1, nsec: 0 });
            record.bin("message", format!("line {n}").as_bytes());
            record.finish();
            let (entries, count) = entries.freeze();
            let tag = Tag::new("app.log");
            let mut chunk = Chunk::new(
                ChunkKey::of_tag(tag.clone()),
                Instant::now(),
                SystemTime::now(),
            );
            chunk.append(EventStream {
                tag,
                entries,
                count,
                receipt: Receipt::new(agent.book.clone(), n as u64),
            });
            chunk
        };
        {
            let mut state = lock(&agent.state);
            state.queue = (0..queued).map(chunk).collect();
            state.unread = (queued..queued + unread).map(chunk).collect();
            state.alive = alive;
            if !alive {
                state.stuck = state.queue.pop_front();
            }
        }
        agent
    }

    /// One more chunk at the head of the queue, which no reader of records understands.
    pub fn queue_malformed(&self) {
        let tag = Tag::new("app.log");
        let mut chunk = Chunk::new(
            ChunkKey::of_tag(tag.clone()),
            Instant::now(),
            SystemTime::now(),
        );
        chunk.append(EventStream {
            tag,
            entries: bytes::Bytes::from_static(&[0xc1, 0xc1]),
            count: 1,
            receipt: Receipt::new(self.book.clone(), 1_000_000),
        });
        lock(&self.state).queue.push_front(chunk);
    }

    /// The agent has more to say about what is not safe.
    pub fn says(&self, place: &str) {
        lock(&self.state).not_safe.push(place.to_owned());
    }

    /// Batches that are safe.
    pub fn safe(&self) -> usize {
        lock(&self.book.0).0
    }

    /// Whether its flush workers were told to pause and not to go on.
    pub fn paused(&self) -> bool {
        lock(&self.state).paused
    }

    /// Whether anybody asked it to read to the end.
    pub fn ended(&self) -> bool {
        lock(&self.state).ended
    }
}

impl Drainable for FakeAgent {
    type Taken = FakeTaken;

    fn hurry(&self) {}

    fn read_to_end(&self) {
        let mut state = lock(&self.state);
        let unread = std::mem::take(&mut state.unread);
        state.queue.extend(unread);
        state.ended = true;
        self.changed.notify_waiters();
    }

    async fn inputs_finished(&self) {
        loop {
            let changed = self.changed.notified();
            if lock(&self.state).ended {
                return;
            }
            changed.await;
        }
    }

    fn backlog(&self) -> Vec<OutputBacklog> {
        let state = lock(&self.state);
        let chunks = || state.queue.iter().chain(&state.stuck);
        vec![OutputBacklog {
            id: "forward".to_owned(),
            chunks: chunks().count() + state.taken,
            bytes: chunks().map(|chunk| chunk.len() as u64).sum(),
            records: chunks().map(|chunk| chunk.records() as u64).sum(),
            in_flight: usize::from(state.stuck.is_some()),
            moved: state.moved,
        }]
    }

    async fn emptied(&self) {
        loop {
            let changed = self.changed.notified();
            {
                let mut state = lock(&self.state);
                if state.alive {
                    for chunk in std::mem::take(&mut state.queue) {
                        state.ledger.delivered += chunk.records() as u64;
                        state.moved += chunk.len() as u64;
                        chunk.release();
                    }
                }
                if state.queue.is_empty() && state.taken == 0 && state.stuck.is_none() {
                    return;
                }
            }
            changed.await;
        }
    }

    fn take(&self, _output: &str) -> Option<FakeTaken> {
        let mut state = lock(&self.state);
        let chunk = state.queue.pop_front()?;
        state.taken += 1;
        Some(FakeTaken {
            agent: self.clone(),
            chunk: Some(chunk),
        })
    }

    fn pause_flush(&self, _output: &str) {
        let mut state = lock(&self.state);
        state.paused = true;
        if let Some(chunk) = state.stuck.take() {
            state.queue.push_front(chunk);
        }
    }

    fn resume_flush(&self, _output: &str) {
        lock(&self.state).paused = false;
    }

    fn files(&self) -> Vec<FileReport> {
        Vec::new()
    }

    fn ledger(&self) -> Ledger {
        let state = lock(&self.state);
        Ledger {
            behind_bytes: state.unread.iter().map(|chunk| chunk.len() as u64).sum(),
            ..state.ledger.clone()
        }
    }

    fn not_safe(&self) -> Vec<String> {
        lock(&self.state).not_safe.clone()
    }
}

/// The guard.
pub struct FakeTaken {
    agent: FakeAgent,
    chunk: Option<Chunk>,
}

impl Taken for FakeTaken {
    fn chunk(&self) -> &Chunk {
        self.chunk.as_ref().expect("held until purged or dropped")
    }

    fn purge(mut self) {
        let chunk = self.chunk.take().expect("held until purged or dropped");
        lock(&self.agent.state).ledger.spilled += chunk.records() as u64;
        chunk.release();
    }
}

impl Drop for FakeTaken {
    fn drop(&mut self) {
        let mut state = lock(&self.agent.state);
        state.taken -= 1;
        if let Some(chunk) = self.chunk.take() {
            state.queue.push_front(chunk);
        }
        self.agent.changed.notify_waiters();
    }
}
