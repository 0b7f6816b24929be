//! The entries of a chunk, some of them in memory at a time: for whoever looks into them.

use std::io;
use std::vec;

use bytes::Bytes;

use super::Compress;
use super::file::FileParts;

/// Parts of whole entries, in order. Reading and inflating block. `InvalidData` where they cannot be inflated, now or later.
#[derive(Debug)]
pub enum Parts {
    /// Of a chunk in memory, whose parts are all kept like this.
    Memory(vec::IntoIter<Bytes>, Compress),
    /// Of one on disk.
    File(FileParts),
}

impl Iterator for Parts {
    type Item = io::Result<Bytes>;

    fn next(&mut self) -> Option<io::Result<Bytes>> {
        match self {
            Parts::Memory(parts, compress) => {
                let part = compress.unpack(vec![parts.next()?]);
                Some(part.map(|part| part.into_iter().next().unwrap_or_default()))
            }
            Parts::File(parts) => parts.next(),
        }
    }
}
