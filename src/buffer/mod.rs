//! Stage, queue and in flight.

mod chunk;

pub use chunk::{Chunk, ChunkId, ChunkKey};
