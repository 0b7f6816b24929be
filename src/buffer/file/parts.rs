//! The entries of a chunk on disk, some of them in memory at a time.

use std::io;
use std::sync::Arc;
use std::vec;

use bytes::Bytes;

use super::check::{Inflated, unpack, whole_entries};
use super::content::{Content, PIECE, Ready};
use crate::buffer::Compress;

/// Parts of whole entries, in order: what is durable, and then what is not because the disk takes nothing.
#[derive(Debug)]
pub struct FileParts {
    content: Arc<Content>,
    at: u64,
    len: u64,
    /// Compressed data are read whole, and inflated member by member.
    packed: Option<Inflated<Bytes>>,
    tail: vec::IntoIter<Bytes>,
    most: u64,
}

impl FileParts {
    /// Of what can be read now.
    pub fn of(content: Arc<Content>, ready: Ready, most: u64) -> io::Result<FileParts> {
        let Ready { len, packed, tail } = ready;
        let packed = match packed {
            true => Some(Inflated::of(content.read_at(0, len as usize)?, most)),
            false => None,
        };
        Ok(FileParts {
            at: if packed.is_some() { len } else { 0 },
            content,
            len,
            packed,
            tail: tail.into_iter(),
            most,
        })
    }

    /// The next entries of the file: about a piece of them, or one that is longer.
    fn read(&mut self) -> io::Result<Bytes> {
        let mut size = PIECE as u64;
        loop {
            let left = self.len - self.at;
            let window = self.content.read_at(self.at, size.min(left) as usize)?;
            let (good, is_cut) = whole_entries(&window);
            if good == 0 && is_cut && size < left {
                size *= 2;
                continue;
            }
            // What is no entry goes on, too: whoever looks into it says so.
            let part = if good > 0 {
                window.slice(..good)
            } else {
                window
            };
            self.at += part.len() as u64;
            return Ok(part);
        }
    }
}

impl Iterator for FileParts {
    type Item = io::Result<Bytes>;

    fn next(&mut self) -> Option<io::Result<Bytes>> {
        if let Some(part) = self.packed.as_mut().and_then(Inflated::next) {
            return Some(part.map(Bytes::from));
        }
        if self.at < self.len {
            return Some(self.read());
        }
        let part = self.tail.next()?;
        Some(match Compress::of(&part) {
            Compress::Text => Ok(part),
            _ => unpack(&part, self.most).map(Bytes::from),
        })
    }
}
