//! The bytes of a chunk on their way out, a bounded piece of them in memory at a time.

use std::io;

use bytes::Bytes;

/// What is left to send of a chunk's entries. Cheap to clone: a frame is sent to another server from its start.
///
/// Pieces end anywhere, also within an entry: whoever needs whole entries reads the chunk
/// ([`Chunk::read`](super::Chunk::read)).
#[derive(Clone, Debug)]
pub struct Pieces(Vec<Bytes>);

impl Pieces {
    /// Bytes that are in memory already.
    pub fn of(segments: Vec<Bytes>) -> Pieces {
        Pieces(segments)
    }

    /// How many bytes are left.
    pub fn left(&self) -> u64 {
        self.0.iter().map(|piece| piece.len() as u64).sum()
    }

    /// The next bytes, for one vectored write: everything that lies in memory, or the next part of a file. Nothing where
    /// nothing is left.
    pub async fn next(&mut self) -> io::Result<Vec<Bytes>> {
        Ok(std::mem::take(&mut self.0))
    }
}
