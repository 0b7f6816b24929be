//! Where chunks go: the trait and the table of outputs.
//!
//! `write` tries once, and `Ok` means that the chunk is safe in the sense of the output (acknowledged, synced, stored). The only
//! retry is in `flush`.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use crate::buffer::Chunk;
use crate::stop::Stop;

pub mod forward;

/// A future that an output returns: boxed, because outputs are chosen at run time. Once per chunk, not per line.
pub type Boxed<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// Why a chunk was not written, and whether trying again makes sense.
#[derive(Debug)]
pub enum WriteError {
    /// The world may get better: the chunk goes back to the head of the queue.
    Retry(anyhow::Error),
    /// This chunk will never pass: it goes to the secondary or to the backup directory.
    Unrecoverable(anyhow::Error),
}

impl WriteError {
    /// The reason.
    pub fn reason(&self) -> &anyhow::Error {
        match self {
            WriteError::Retry(error) | WriteError::Unrecoverable(error) => error,
        }
    }
}

impl fmt::Display for WriteError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:#}", self.reason())
    }
}

impl<E: Into<anyhow::Error>> From<E> for WriteError {
    fn from(error: E) -> WriteError {
        WriteError::Retry(error.into())
    }
}

/// A destination.
pub trait Output: Send + Sync {
    /// Writes the chunk once. Dropping the future is allowed at any await: the chunk then counts as not written.
    fn write<'a>(&'a self, chunk: &'a Chunk) -> Boxed<'a, Result<(), WriteError>>;

    /// What runs beside the writes until `stop` reaches `Close`: one task per heartbeat.
    fn tasks(self: Arc<Self>, _stop: Stop) -> Vec<(String, Boxed<'static, ()>)> {
        Vec::new()
    }

    /// The instance terminates: prefer whichever destination answers now, forget politeness.
    fn hurry(&self) {}

    /// The servers behind it, for `status`.
    fn nodes(&self) -> Vec<NodeStatus> {
        Vec::new()
    }

    /// What one line at start should say to the operator about this output's promise, if anything.
    fn notice(&self) -> Option<String> {
        None
    }
}

/// One server of an output, as `status` shows it. Counters are of this run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeStatus {
    /// `name`, or `host:port`.
    pub name: String,
    /// `host:port`.
    pub address: String,
    /// Whether it is a standby.
    pub standby: bool,
    /// Whether it counts as able to take chunks.
    pub available: bool,
    /// Whether chunks go to it: for a standby, whether it stands in for a regular server now.
    pub active: bool,
    /// Chunks written to it completely.
    pub sent_chunks: u64,
    /// Chunks that it has acknowledged.
    pub acked_chunks: u64,
}
