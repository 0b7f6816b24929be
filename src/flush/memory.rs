//! The most memory that an output and its buffer take.

use std::sync::Arc;

use super::Flusher;
use crate::buffer::{Compress, PIECE};
use crate::output::Output;

/// A chunk's text as it grows: an allocation is doubled when it is full.
const TEXT: usize = 2;

/// One that is sent or written, the next, the text of both, and what the allocator keeps of earlier ones (`cargo bench -- away` shows it).
const PIECES: usize = 10;

/// What a chunk may hold.
#[derive(Clone, Copy, Debug)]
struct Largest {
    /// Bytes of its entries, inflated.
    plain: usize,
    kept: Compress,
    /// Whether they have to be read, or inflated, before anybody can look into them.
    apart: bool,
}

impl Flusher {
    /// Bytes in the buffer and of what is sent from it; `usize::MAX` where the configuration sets no limit.
    pub fn most_memory(&self) -> usize {
        let outputs = [Some(&self.output), self.secondary.as_ref()];
        let outputs: Vec<&Arc<dyn Output>> = outputs.into_iter().flatten().collect();
        let (limits, on_disk) = (self.buffer.limits(), self.buffer.is_on_disk());
        let own = Largest {
            plain: limits.most_plain(),
            kept: limits.compress,
            apart: on_disk || limits.compress != Compress::Text,
        };
        // What another program has compressed is text to whoever reads it.
        let found = Largest {
            plain: self.buffer.largest_found(),
            kept: Compress::Text,
            apart: true,
        };
        let chunks = [own, found].into_iter().filter(|chunk| chunk.plain > 0);
        let each =
            chunks.flat_map(|chunk| outputs.iter().map(move |output| sending(&***output, chunk)));
        let each = each.max().unwrap_or_default();
        let sent = each.saturating_mul(self.settings.workers);
        self.buffer.most_memory().saturating_add(sent)
    }
}

/// While one chunk is sent, or kept in the backup directory: read whole, or some pieces of it and of what is made of them.
fn sending(output: &dyn Output, chunk: Largest) -> usize {
    let read = if chunk.apart { chunk.plain } else { 0 };
    match output.looks_into(chunk.kept) {
        true => read.saturating_add(chunk.plain.saturating_mul(TEXT)),
        false => PIECES * PIECE,
    }
}
