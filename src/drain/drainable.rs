//! What the drain asks of an agent. The agent does not know the drain: it offers these as its own methods.

use std::future::Future;

use serde::{Deserialize, Serialize};

use crate::buffer::Chunk;

/// What one output still has to deliver.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct OutputBacklog {
    /// `@id`, or what the agent calls the output.
    pub id: String,
    /// Chunks in stage, queue and in flight.
    pub chunks: usize,
    /// Bytes of entries in them.
    pub bytes: u64,
    /// Events in them.
    pub records: u64,
    /// Chunks in flight.
    pub in_flight: usize,
    /// Bytes that servers have taken since the start, acknowledged or not: it grows while anybody listens.
    pub moved: u64,
}

/// What became of every line: read + resumed = delivered + spilled + kept + backed up + discarded + dropped.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Ledger {
    /// Lines read from files.
    pub lines_read: u64,
    /// Bytes read from files.
    pub bytes_read: u64,
    /// Events of earlier runs that were found in file buffers.
    pub resumed: u64,
    /// Lines that no parser took, emitted to nobody.
    pub skipped: u64,
    /// Events that the configuration dropped: filters, null outputs, no matching pattern.
    pub dropped: u64,
    /// Events that an output made safe.
    pub delivered: u64,
    /// Events that an output gave up: they stand in its backup directory, on the disk of this instance.
    pub backed_up: u64,
    /// Events that an output gave up and threw away, by `disable_chunk_backup`.
    pub discarded: u64,
    /// Events that the drain stored.
    pub spilled: u64,
    /// Events still in buffers.
    pub kept: u64,
    /// Bytes of the files that no input has read yet.
    pub behind_bytes: u64,
}

/// A chunk that was taken for the spill. Dropping it puts it back at the head of its queue.
pub trait Taken: Send + 'static {
    /// The chunk.
    fn chunk(&self) -> &Chunk;

    /// It is stored: its receipts are released and it counts as spilled.
    fn purge(self);
}

/// The agent's side.
pub trait Drainable: Sync {
    /// The guard of [`Drainable::take`].
    type Taken: Taken;

    /// Forgets flush intervals and back-off: everything staged is due, and outputs prefer whoever answers.
    fn hurry(&self);

    /// Inputs read to the end of their files, then finish.
    fn read_to_end(&self);

    /// Completes when every input has finished or is dead. May be asked before [`Drainable::read_to_end`].
    fn inputs_finished(&self) -> impl Future<Output = ()> + Send;

    /// What is not delivered, by output.
    fn backlog(&self) -> Vec<OutputBacklog>;

    /// Completes when stage and queue of every output are empty and nothing is in flight or taken.
    fn emptied(&self) -> impl Future<Output = ()> + Send;

    /// The oldest chunk of this output, staged or queued, that is not in flight.
    fn take(&self, output: &str) -> Option<Self::Taken>;

    /// The flush workers of this output drop the write in progress, whose chunk goes back to the head of the queue, and take no
    /// more: a silent server must not keep a chunk from the spill.
    fn pause_flush(&self, output: &str);

    /// They go on.
    fn resume_flush(&self, output: &str);

    /// The count of every line.
    fn ledger(&self) -> Ledger;

    /// What is not safe and neither stands in a buffer nor counts as unread bytes: one line each, for the operator.
    fn not_safe(&self) -> Vec<String>;
}
