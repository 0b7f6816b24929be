//! Stage, queue and in flight: where batches become chunks and wait to be written.
//!
//! ```text
//! emit ─► stage (one open chunk a key) ─► queue (closed chunks, oldest first) ─► InFlight ─► purge
//!                                             ▲                                     │
//!                                             └────────────── takeback (drop) ◄─────┘
//! ```
//!
//! The buffer is the one place where the synchronous half (sources) and the asynchronous half (flush) meet, behind one lock
//! that is held for an append or a move. It decides nothing about time: `flush` says which staged chunks are due. Chunks live in
//! memory; what they owe (receipts) travels with them, so a crash means that their lines are read again.

mod chunk;
mod keys;
mod pieces;

use std::collections::hash_map::Entry;
use std::collections::{HashMap, VecDeque};
use std::ops::Deref;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Instant, SystemTime};

use tokio::sync::Notify;
use tracing::{info, warn};

pub use chunk::{Chunk, ChunkId};
pub use keys::{ChunkKey, ChunkKeys, KeyField, Timekey, Variable};
pub use pieces::Pieces;

use crate::event::{Collector, EventStream, Room, Tag};

/// What happens to a new batch when `total_limit_size` is reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OverflowAction {
    /// The source waits: `block`, and `throw_exception` too, since a tail source that is refused does just that.
    Wait,
    /// The oldest queued chunk is dropped, counted and reported.
    DropOldestChunk,
}

/// The bounds of one buffer.
#[derive(Clone, Debug)]
pub struct Limits {
    /// A chunk never grows beyond this, unless one batch alone is larger.
    pub chunk_bytes: usize,
    /// The same in events.
    pub chunk_records: usize,
    /// A staged chunk of this size goes to the queue without waiting for its time.
    pub full_bytes: usize,
    /// The same in events.
    pub full_records: usize,
    /// Stage, queue and in flight together.
    pub total_bytes: usize,
    /// What happens then.
    pub overflow: OverflowAction,
}

/// What is in the buffer, in numbers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Backlog {
    /// Chunks in stage, queue and in flight.
    pub chunks: usize,
    /// Of these, being written now.
    pub in_flight: usize,
    /// Bytes of entries in all of them.
    pub bytes: usize,
    /// Events in all of them.
    pub records: usize,
}

#[derive(Default)]
struct State {
    stage: HashMap<ChunkKey, Chunk>,
    queue: VecDeque<Chunk>,
    level: Backlog,
    dropped_records: u64,
    full: bool,
}

/// The buffer of one output.
pub struct Buffer {
    name: String,
    keys: ChunkKeys,
    limits: Limits,
    state: Mutex<State>,
    work: Notify,
    progress: Notify,
}

impl Buffer {
    /// An empty buffer. `name` is the output's, for messages.
    pub fn new(name: impl Into<String>, keys: ChunkKeys, limits: Limits) -> Arc<Buffer> {
        Arc::new(Buffer {
            name: name.into(),
            keys,
            limits,
            state: Mutex::default(),
            work: Notify::new(),
            progress: Notify::new(),
        })
    }

    /// What is in it now.
    pub fn backlog(&self) -> Backlog {
        self.state().level
    }

    /// Events that `drop_oldest_chunk` took.
    pub fn dropped_records(&self) -> u64 {
        self.state().dropped_records
    }

    /// Completes when there may be something to write or a new due time: an idle flush worker sleeps here.
    pub async fn work(&self) {
        self.work.notified().await;
    }

    /// Wakes a flush worker that sleeps in [`Buffer::work`].
    pub fn wake(&self) {
        self.work.notify_one();
    }

    /// Completes when nothing is staged, queued or in flight any more.
    pub async fn emptied(&self) {
        loop {
            let progress = self.progress.notified();
            tokio::pin!(progress);
            progress.as_mut().enable();
            if self.backlog().chunks == 0 {
                return;
            }
            progress.await;
        }
    }

    /// Moves staged chunks for which `due` answers true to the queue; gives the creation time of the oldest that stays.
    pub fn enqueue_due(&self, due: impl Fn(&Chunk) -> bool) -> Option<Instant> {
        let mut state = self.state();
        let mut ready: Vec<Chunk> = state
            .stage
            .extract_if(|_, chunk| due(chunk))
            .map(|(_, chunk)| chunk)
            .collect();
        ready.sort_by_key(Chunk::created);
        state.queue.extend(ready);
        state.stage.values().map(Chunk::created).min()
    }

    /// Moves the whole stage to the queue and wakes the flush workers.
    pub fn enqueue_all(&self) {
        self.enqueue_due(|_| true);
        self.work.notify_one();
    }

    /// Takes the oldest queued chunk for writing.
    pub fn dequeue(self: &Arc<Self>) -> Option<InFlight> {
        let mut state = self.state();
        let chunk = state.queue.pop_front()?;
        state.level.in_flight += 1;
        if !state.queue.is_empty() {
            self.work.notify_one();
        }
        Some(InFlight {
            buffer: self.clone(),
            chunk: Some(chunk),
        })
    }

    fn append(&self, stream: EventStream, now: Instant, clock: SystemTime) {
        // A batch is looked into before the lock is taken.
        let parts = self.keys.split(stream);
        let mut state = self.state();
        for (key, part) in parts {
            self.append_part(&mut state, key, part, now, clock);
        }
        drop(state);
        self.work.notify_one();
    }

    /// Events of one key go to the staged chunk of this key.
    fn append_part(
        &self,
        state: &mut State,
        key: ChunkKey,
        part: EventStream,
        now: Instant,
        clock: SystemTime,
    ) {
        let (bytes, records) = (part.entries.len(), part.count);
        let State {
            stage,
            queue,
            level,
            ..
        } = state;
        level.bytes += bytes;
        level.records += records;
        let chunk = match stage.entry(key) {
            Entry::Occupied(mut open) => {
                if self.overfills(open.get(), bytes, records) {
                    level.chunks += 1;
                    let fresh = Chunk::new(open.key().clone(), now, clock);
                    queue.push_back(std::mem::replace(open.get_mut(), fresh));
                }
                open.into_mut()
            }
            Entry::Vacant(empty) => {
                level.chunks += 1;
                let fresh = Chunk::new(empty.key().clone(), now, clock);
                empty.insert(fresh)
            }
        };
        chunk.append(part);
        if chunk.len() >= self.limits.full_bytes || chunk.records() >= self.limits.full_records {
            let key = chunk.key().clone();
            queue.extend(stage.remove(&key));
        }
    }

    fn overfills(&self, chunk: &Chunk, bytes: usize, records: usize) -> bool {
        chunk.len() + bytes > self.limits.chunk_bytes
            || chunk.records() + records > self.limits.chunk_records
    }

    fn drop_oldest(&self) {
        let mut state = self.state();
        while state.level.bytes >= self.limits.total_bytes {
            let Some(oldest) = state.queue.pop_front() else {
                return;
            };
            state.level.leave(&oldest);
            state.dropped_records += oldest.records() as u64;
            warn!(
                plugin_id = self.name, chunk = %oldest.id(), records = oldest.records(), bytes = oldest.len(),
                "dropping oldest chunk to make space after buffer overflow"
            );
            oldest.release();
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // No code under the lock panics half-way through a change, so a poisoned state is still whole.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Collector for Buffer {
    fn room(&self, _tag: &Tag) -> Room {
        if self.limits.overflow == OverflowAction::DropOldestChunk {
            self.drop_oldest();
        }
        let mut state = self.state();
        let full = state.level.bytes >= self.limits.total_bytes;
        if full != state.full {
            state.full = full;
            let (bytes, limit) = (state.level.bytes, self.limits.total_bytes);
            if full {
                warn!(
                    plugin_id = self.name,
                    bytes,
                    total_limit_size = limit,
                    "buffer is full, reading paused"
                );
            } else {
                info!(
                    plugin_id = self.name,
                    bytes,
                    total_limit_size = limit,
                    "buffer has space again, reading resumed"
                );
            }
        }
        drop(state);
        if !full {
            return Room::Ready;
        }
        self.enqueue_all();
        Room::Full
    }

    fn emit(&self, stream: EventStream) {
        if stream.count == 0 {
            stream.receipt.release();
            return;
        }
        self.append(stream, Instant::now(), SystemTime::now());
    }
}

impl Backlog {
    fn leave(&mut self, chunk: &Chunk) {
        self.chunks -= 1;
        self.bytes -= chunk.len();
        self.records -= chunk.records();
    }
}

/// A chunk that is being written. [`InFlight::purge`] ends its life; dropping the guard (an error, a cancelled task, a
/// deadline) takes it back to the head of the queue.
#[must_use = "dropping it takes the chunk back to the queue"]
pub struct InFlight {
    buffer: Arc<Buffer>,
    chunk: Option<Chunk>,
}

impl InFlight {
    /// The chunk is safe: it leaves the buffer and its receipts are released.
    pub fn purge(mut self) {
        if let Some(chunk) = self.chunk.take() {
            let mut state = self.buffer.state();
            state.level.in_flight -= 1;
            state.level.leave(&chunk);
            drop(state);
            chunk.release();
            self.buffer.progress.notify_waiters();
        }
    }
}

impl Deref for InFlight {
    type Target = Chunk;

    fn deref(&self) -> &Chunk {
        self.chunk
            .as_ref()
            .expect("only purge takes the chunk, and it consumes the guard")
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        if let Some(chunk) = self.chunk.take() {
            let mut state = self.buffer.state();
            state.level.in_flight -= 1;
            state.queue.push_front(chunk);
            drop(state);
            self.buffer.work.notify_one();
            self.buffer.progress.notify_waiters();
        }
    }
}

#[cfg(test)]
mod tests;
