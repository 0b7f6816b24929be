//! Stage, queue and in flight: where batches become chunks and wait to be written.
//!
//! ```text
//! emit ─► stage (one open chunk a key) ─► queue (closed chunks, oldest first) ─► InFlight ─► purge
//!                                             ▲                                     │
//!                                             └────────────── takeback (drop) ◄─────┘
//! ```
//!
//! The buffer is the one place where the synchronous half (sources) and the asynchronous half (flush) meet, behind one lock
//! that is held for an append or a move. It decides nothing about time: `flush` says which staged chunks are due. In memory, what
//! chunks owe (receipts) travels with them, so a crash means that their lines are read again; on disk ([`file`]) it is paid when they
//! are durable, and the next start finds them.

mod argument;
mod chunk;
mod compress;
pub mod file;
mod fill;
mod in_flight;
mod keys;
mod limits;
mod lull;
mod open;
mod parts;
mod pieces;

use std::collections::hash_map::Entry;
use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Instant, SystemTime};

use bytes::Bytes;
use tokio::sync::Notify;
use tracing::{error, info, warn};

pub use argument::{KeyDefaults, TimeParams, chunk_keys};
pub use chunk::{Chunk, ChunkId};
pub use compress::Compress;
pub use file::PIECE;
pub use in_flight::InFlight;
pub use keys::{ChunkKey, ChunkKeys, KeyField, Timekey, Variable};
pub use limits::{Backlog, Limits, Lost, MOST_PLAIN, OverflowAction};
pub use lull::Lull;
pub use parts::Parts;
pub use pieces::Pieces;

use fill::{Most, Oversized};

use crate::event::msgpack::read_text;
use crate::event::{Collector, EventStream, Room, Tag};

#[derive(Default)]
struct State {
    stage: HashMap<ChunkKey, Chunk>,
    /// Staged chunks of an earlier run, oldest first. Nothing is added to them: a crash may have come between their sending and their new
    /// name, and who drops chunks with a known id would drop what was added.
    left: Vec<Chunk>,
    /// Queued chunks of an earlier run that are not checked yet: they go before `left`.
    awaited: usize,
    queue: VecDeque<Chunk>,
    level: Backlog,
    lost: Lost,
    /// Dropped, and nobody has asked yet.
    dropped: Vec<ChunkId>,
    /// Events of earlier runs that were found on disk.
    resumed: u64,
    /// Bytes of the largest chunk of an earlier run.
    largest_found: usize,
    full: bool,
}

/// The buffer of one output.
pub struct Buffer {
    name: String,
    keys: ChunkKeys,
    limits: Limits,
    /// Where chunks are on disk; `None`: in memory.
    storage: Option<file::Storage>,
    resuming: open::Resuming,
    state: Mutex<State>,
    work: Notify,
    progress: Notify,
}

impl Buffer {
    /// An empty buffer. `name` is the output's, for messages.
    pub fn new(name: impl Into<String>, keys: ChunkKeys, limits: Limits) -> Arc<Buffer> {
        Buffer::with_storage(name, keys, limits, None)
    }

    /// A buffer on disk. Nothing is touched, and nothing may be emitted, before [`Buffer::open`].
    pub fn on_disk(
        name: impl Into<String>,
        keys: ChunkKeys,
        limits: Limits,
        settings: file::Settings,
    ) -> Arc<Buffer> {
        Buffer::with_storage(name, keys, limits, Some(file::Storage::new(settings)))
    }

    fn with_storage(
        name: impl Into<String>,
        keys: ChunkKeys,
        limits: Limits,
        storage: Option<file::Storage>,
    ) -> Arc<Buffer> {
        Arc::new(Buffer {
            name: name.into(),
            keys,
            limits,
            storage,
            resuming: open::Resuming::default(),
            state: Mutex::default(),
            work: Notify::new(),
            progress: Notify::new(),
        })
    }

    /// What is in it now.
    pub fn backlog(&self) -> Backlog {
        self.state().level
    }

    /// What its bounds have cost.
    pub fn lost(&self) -> Lost {
        self.state().lost
    }

    /// The chunks that `drop_oldest_chunk` took since this was asked last: whoever keeps accounts of them may forget them.
    pub fn dropped(&self) -> Vec<ChunkId> {
        std::mem::take(&mut self.state().dropped)
    }

    /// What happens when it is full.
    pub fn overflow_action(&self) -> OverflowAction {
        self.limits.overflow
    }

    /// Its bounds.
    pub fn limits(&self) -> &Limits {
        &self.limits
    }

    /// Chunks in the queue, not counting those that are being written.
    pub fn queued(&self) -> usize {
        self.state().queue.len()
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

    /// Moves staged chunks for which `due` answers true to the queue, the oldest first and at most `room` of them. Those of an earlier run
    /// wait for what was queued before them.
    pub fn enqueue_due(&self, room: usize, due: impl FnMut(&Chunk) -> bool) {
        let mut state = self.state();
        let is_their_turn = state.awaited == 0;
        move_due(&mut state, room, is_their_turn, due);
    }

    /// Moves the whole stage to the queue and wakes the flush workers.
    pub fn enqueue_all(&self) {
        move_due(&mut self.state(), usize::MAX, true, |_| true);
        self.work.notify_one();
    }

    /// Takes the oldest queued chunk for writing.
    pub fn dequeue(self: &Arc<Self>) -> Option<InFlight> {
        self.dequeue_by(|_| Some(0))
    }

    /// Takes the queued chunk of the smallest rank for writing, the oldest of those; chunks without a rank stay. Nothing goes before 0.
    pub fn dequeue_by(self: &Arc<Self>, rank: impl Fn(&Chunk) -> Option<u64>) -> Option<InFlight> {
        let mut state = self.state();
        let mut best: Option<(u64, usize)> = None;
        for (at, chunk) in state.queue.iter().enumerate() {
            if let Some(rank) = rank(chunk)
                && best.is_none_or(|(least, _)| rank < least)
            {
                best = Some((rank, at));
                if rank == 0 {
                    break;
                }
            }
        }
        let chunk = state.queue.remove(best?.1)?;
        state.level.in_flight += 1;
        if !state.queue.is_empty() {
            self.work.notify_one();
        }
        Some(InFlight::new(self.clone(), chunk))
    }

    fn append(&self, stream: EventStream, now: Instant, clock: SystemTime) {
        // A batch is looked into before the lock is taken.
        let parts = self.keys.split(stream);
        let parts: Vec<_> = parts
            .into_iter()
            .flat_map(|(key, part)| self.cut(key, part))
            .collect();
        let mut state = self.state();
        let mut is_news = false;
        for part in parts {
            is_news |= self.append_part(&mut state, part, now, clock);
        }
        drop(state);
        // Whoever waits for a staged chunk knows when it is due: more in it is no news.
        if is_news {
            self.work.notify_one();
        }
    }

    /// Events of one key as they are kept; in pieces where they are more than a chunk may be.
    fn cut(&self, key: ChunkKey, part: EventStream) -> Vec<Part> {
        let Limits {
            chunk_bytes: bytes,
            chunk_records: records,
            compress,
            ..
        } = self.limits;
        if part.count <= records {
            let packed = packed(compress, &part.entries);
            if packed.len() <= bytes {
                return vec![Part::of(key, part, packed)];
            }
        }
        let most = Most {
            bytes: compress.safely(bytes),
            records,
        };
        let alone = |entry: &[u8]| match compress {
            Compress::Text => entry.len(),
            _ => packed(compress, &Bytes::copy_from_slice(entry)).len(),
        };
        let cut = fill::cut(part, most, alone);
        if !cut.oversized.is_empty() {
            self.state().lost.oversized_records += cut.oversized.len() as u64;
        }
        for Oversized { nth, bytes: size } in cut.oversized {
            error!(
                plugin_id = self.name, tag = %key.tag, error_class = "BufferChunkOverflowError",
                "a {size} bytes record (nth: {nth}) is larger than buffer chunk limit size ({}), skipped: its neighbours go on",
                bytes
            );
        }
        let keyed = |piece: EventStream| {
            let packed = packed(compress, &piece.entries);
            Part::of(key.clone(), piece, packed)
        };
        cut.pieces.into_iter().map(keyed).collect()
    }

    /// Events of one key go to the staged chunk of this key. True where a worker has something new to wait for, or to write.
    fn append_part(&self, state: &mut State, part: Part, now: Instant, clock: SystemTime) -> bool {
        let Part { key, stream, plain } = part;
        let (bytes, records) = (stream.entries.len(), stream.count);
        let mut is_news = false;
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
                    is_news = true;
                    level.chunks += 1;
                    let fresh = self.fresh(open.key().clone(), now, clock);
                    enqueue(queue, std::mem::replace(open.get_mut(), fresh));
                }
                open.into_mut()
            }
            Entry::Vacant(empty) => {
                is_news = true;
                level.chunks += 1;
                let fresh = self.fresh(empty.key().clone(), now, clock);
                empty.insert(fresh)
            }
        };
        chunk.append_packed(stream, plain);
        if self.is_complete(chunk) {
            is_news = true;
            let key = chunk.key().clone();
            if let Some(chunk) = stage.remove(&key) {
                enqueue(queue, chunk);
            }
        }
        is_news
    }

    fn fresh(&self, key: ChunkKey, now: Instant, clock: SystemTime) -> Chunk {
        match &self.storage {
            None => Chunk::new(key, now, clock),
            Some(storage) => {
                let content = storage.chunk(ChunkId::new(clock), key, clock);
                Chunk::on_disk(content, 0, 0, now)
            }
        }
        .kept(self.limits.compress)
    }

    /// Whether it goes to the queue without waiting for its time.
    fn is_complete(&self, chunk: &Chunk) -> bool {
        chunk.len() >= self.limits.full_bytes
            || chunk.records() >= self.limits.full_records
            || chunk.plain() >= MOST_PLAIN
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
            state.dropped.push(oldest.id());
            state.lost.dropped_chunks += 1;
            state.lost.dropped_records += oldest.records() as u64;
            warn!(
                plugin_id = self.name, chunk_id = %oldest.id(), records = oldest.records(), bytes = oldest.len(),
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

/// Events of one key as they are kept.
struct Part {
    key: ChunkKey,
    stream: EventStream,
    /// Bytes of their entries, inflated.
    plain: usize,
}

impl Part {
    fn of(key: ChunkKey, stream: EventStream, packed: Bytes) -> Part {
        Part {
            key,
            plain: stream.entries.len(),
            stream: EventStream {
                entries: packed,
                ..stream
            },
        }
    }
}

fn packed(compress: Compress, entries: &Bytes) -> Bytes {
    match compress {
        Compress::Text => entries.clone(),
        _ => compress
            .pack(&[entries])
            .expect("compressing from memory to memory cannot fail")
            .into(),
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
                state.lost.pauses += 1;
                warn!(
                    plugin_id = self.name,
                    action = self.limits.overflow.word(),
                    bytes,
                    total_limit_size = limit,
                    "failed to write data into buffer by buffer overflow, reading paused"
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
        // A disk that takes nothing is a full buffer; its writer says so.
        if full
            || self
                .storage
                .as_ref()
                .is_some_and(file::Storage::is_in_trouble)
        {
            self.enqueue_all();
            return Room::Full;
        }
        match self.storage.as_ref().is_some_and(file::Storage::is_behind) {
            true => Room::Full,
            false => Room::Ready,
        }
    }

    fn emit(&self, stream: EventStream) {
        if stream.count == 0 {
            stream.receipt.release();
            return;
        }
        self.append(stream, Instant::now(), SystemTime::now());
    }
}

fn move_due(
    state: &mut State,
    mut room: usize,
    with_left: bool,
    mut due: impl FnMut(&Chunk) -> bool,
) {
    let State {
        stage, left, queue, ..
    } = state;
    if with_left {
        let is_ready = |chunk: &mut Chunk| {
            let is_ready = due(chunk) && room > 0;
            room -= usize::from(is_ready);
            is_ready
        };
        // They are older than all others.
        left.extract_if(.., is_ready)
            .for_each(|chunk| enqueue(queue, chunk));
    }
    let mut ready: Vec<(Instant, ChunkKey)> = stage
        .values()
        .filter(|chunk| due(chunk))
        .map(|chunk| (chunk.created(), chunk.key().clone()))
        .collect();
    ready.sort_by_key(|(created, _)| *created);
    ready.truncate(room);
    let ready = ready.iter().filter_map(|(_, key)| stage.remove(key));
    ready.for_each(|chunk| enqueue(queue, chunk));
}

fn enqueue(queue: &mut VecDeque<Chunk>, chunk: Chunk) {
    chunk.seal();
    queue.push_back(chunk);
}

#[cfg(test)]
mod tests;
