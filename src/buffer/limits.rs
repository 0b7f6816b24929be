//! The bounds of a buffer, what is in it, and what the bounds have cost: numbers.

use serde::{Deserialize, Serialize};

use super::{Chunk, Compress};

/// A staged chunk that inflates to so much goes to the queue: whoever looks into it has it in memory whole.
pub const MOST_PLAIN: usize = 32 << 20;
/// What a source emits at once of lines of some length.
const MOST_BATCH: usize = 2 << 20;

/// What happens to a new batch when `total_limit_size` is reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OverflowAction {
    /// The source is refused: one that has its lines in a file waits, as with `block`; one that can answer its peer says no.
    ThrowException,
    /// The source waits.
    Block,
    /// The oldest queued chunk is dropped, counted and reported.
    DropOldestChunk,
}

impl OverflowAction {
    /// As the configuration has it.
    pub fn word(self) -> &'static str {
        match self {
            OverflowAction::ThrowException => "throw_exception",
            OverflowAction::Block => "block",
            OverflowAction::DropOldestChunk => "drop_oldest_chunk",
        }
    }
}

/// The bounds of one buffer.
#[derive(Clone, Debug)]
pub struct Limits {
    /// A chunk never grows beyond this.
    pub chunk_bytes: usize,
    /// The same in events.
    pub chunk_records: usize,
    /// A staged chunk of this size goes to the queue without waiting for its time.
    pub full_bytes: usize,
    /// The same in events.
    pub full_records: usize,
    /// Stage, queue and in flight together.
    pub total_bytes: usize,
    /// How bytes are kept. All bounds count them as they are kept.
    pub compress: Compress,
    /// What happens then.
    pub overflow: OverflowAction,
}

impl Limits {
    /// Bytes of the entries in a chunk, inflated: it is full when a batch has brought it there.
    pub fn most_plain(&self) -> usize {
        let full = match self.compress {
            Compress::Text => self.full_bytes,
            Compress::Gzip | Compress::Zstd => MOST_PLAIN,
        };
        full.saturating_add(MOST_BATCH)
    }
}

#[cfg(test)]
impl Limits {
    /// For tests: room for a few small batches.
    pub const ROOMY: Limits = Limits {
        chunk_bytes: 1000,
        chunk_records: usize::MAX,
        full_bytes: 950,
        full_records: usize::MAX,
        total_bytes: 10_000,
        compress: Compress::Text,
        overflow: OverflowAction::Block,
    };
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

/// What the bounds of the buffer have cost since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lost {
    /// How often a source was stopped because the buffer was full.
    pub pauses: u64,
    /// Chunks that `drop_oldest_chunk` took.
    pub dropped_chunks: u64,
    /// Their events.
    pub dropped_records: u64,
    /// Events that were skipped because each alone is larger than `chunk_limit_size`.
    pub oversized_records: u64,
    /// Chunks on disk of which nothing could be read, set aside.
    pub broken_chunks: u64,
    /// Chunks on disk of which a part could be read, the original set aside.
    pub salvaged_chunks: u64,
    /// Bytes in them that could not be read.
    pub unreadable_bytes: u64,
}

impl Backlog {
    /// A chunk has left.
    pub(super) fn leave(&mut self, chunk: &Chunk) {
        self.chunks -= 1;
        self.bytes -= chunk.len();
        self.records -= chunk.records();
    }
}
