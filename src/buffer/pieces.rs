//! The bytes of a chunk on their way out, a bounded piece of them in memory at a time.

use std::io;
use std::sync::Arc;

use bytes::Bytes;

use super::file::{Content, PIECE};

/// What is left to send of a chunk's entries. Cheap to clone: a frame is sent to another server from its start.
///
/// Pieces end anywhere, also within an entry: whoever needs whole entries reads the chunk
/// ([`Chunk::read`](super::Chunk::read)).
#[derive(Clone, Debug)]
pub struct Pieces {
    /// What comes from a file first: from a byte on to another.
    file: Option<(Arc<Content>, u64, u64)>,
    memory: Vec<Bytes>,
}

impl Pieces {
    /// Bytes that are in memory already.
    pub fn of(segments: Vec<Bytes>) -> Pieces {
        Pieces {
            file: None,
            memory: segments,
        }
    }

    /// The first `len` bytes of a file, and what comes behind them.
    pub(super) fn of_file(content: Arc<Content>, len: u64, behind: Vec<Bytes>) -> Pieces {
        Pieces {
            file: Some((content, 0, len)),
            memory: behind,
        }
    }

    /// How many bytes are left.
    pub fn left(&self) -> u64 {
        let file = self.file.as_ref().map_or(0, |(_, at, end)| end - at);
        file + self
            .memory
            .iter()
            .map(|piece| piece.len() as u64)
            .sum::<u64>()
    }

    /// The next bytes, for one vectored write: everything that lies in memory, or the next part of a file. Nothing where
    /// nothing is left.
    pub async fn next(&mut self) -> io::Result<Vec<Bytes>> {
        let Some((content, at, end)) = self.file.as_mut().filter(|(_, at, end)| at < end) else {
            return Ok(std::mem::take(&mut self.memory));
        };
        let size = PIECE.min((*end - *at) as usize);
        let (reading, from) = (content.clone(), *at);
        // Made here: each of the threads that read would keep what it has made.
        let buffer = vec![0; size];
        let read = tokio::task::spawn_blocking(move || reading.read_into(from, buffer));
        let piece = read.await.map_err(io::Error::other)??;
        *at += size as u64;
        Ok(vec![piece])
    }
}
