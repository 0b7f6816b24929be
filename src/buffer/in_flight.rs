//! The guard of a chunk that is being written.

use std::ops::Deref;
use std::sync::Arc;

use super::{Buffer, Chunk};

/// A chunk that is being written. [`InFlight::purge`] ends its life; dropping the guard (an error, a cancelled task, a
/// deadline) takes it back to the head of the queue.
#[must_use = "dropping it takes the chunk back to the queue"]
pub struct InFlight {
    buffer: Arc<Buffer>,
    chunk: Option<Chunk>,
}

impl InFlight {
    pub(super) fn new(buffer: Arc<Buffer>, chunk: Chunk) -> InFlight {
        InFlight {
            buffer,
            chunk: Some(chunk),
        }
    }

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
