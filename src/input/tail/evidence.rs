//! What shows that a file is still the one that was read: pure.
//!
//! A path and an inode name a file, they do not prove that its bytes are the ones that a position counts. Two things do, at no
//! cost: each read begins with the last bytes of the one before it ([`Overlap`]), which a truncation that grew again does not
//! leave there; and the first bytes of a file have a checksum ([`Head`]) that stands beside the pos_file, so that the next start
//! knows a new life of an inode. Where evidence and expectation disagree the file is read from its head: repeat, never skip.

use std::time::SystemTime;

use crc32fast::Hasher;

/// So many bytes before the position are read again with the next read: as a rule more than one line, as lines of one length may end
/// alike.
pub const OVERLAP: usize = 256;
/// So many first bytes of a file are remembered by their checksum.
pub const HEAD: usize = 256;

/// The checksum of the last bytes that were read.
#[derive(Clone, Copy, Debug, Default)]
pub struct Overlap {
    length: u16,
    sum: u32,
}

impl Overlap {
    /// The end of these bytes, which begin with the overlap before.
    pub fn of(read: &[u8]) -> Overlap {
        let end = &read[read.len().saturating_sub(OVERLAP)..];
        Overlap {
            length: end.len() as u16,
            sum: crc32fast::hash(end),
        }
    }

    /// How many bytes the next read has to begin before the position.
    pub fn len(&self) -> usize {
        usize::from(self.length)
    }

    /// Whether a read that began so far before the position found what was there before.
    pub fn fits(&self, known: &[u8]) -> bool {
        known.len() == self.len() && crc32fast::hash(known) == self.sum
    }
}

/// The checksum of the first bytes of a file, as they were read.
#[derive(Clone, Debug, Default)]
pub struct Head {
    length: u16,
    sum: Hasher,
}

/// A [`Head`] as it is written down.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HeadMark {
    /// How many bytes, at most [`HEAD`].
    pub length: u16,
    /// Their CRC-32.
    pub sum: u32,
}

impl Head {
    /// Of a file of which `position` bytes were read, the first of which are in `first`.
    pub fn of(first: &[u8], position: u64) -> Head {
        let mut head = Head::default();
        let read = usize::try_from(position).unwrap_or(usize::MAX);
        head.advance(&first[..first.len().min(read)]);
        head
    }

    /// The next bytes of the file were read.
    #[inline]
    pub fn advance(&mut self, fresh: &[u8]) {
        let wanted = HEAD - usize::from(self.length);
        if wanted > 0 {
            let part = &fresh[..fresh.len().min(wanted)];
            self.sum.update(part);
            self.length += part.len() as u16;
        }
    }

    /// Whether it has all the bytes that it will have.
    pub fn is_whole(&self) -> bool {
        usize::from(self.length) == HEAD
    }

    /// What is written down.
    pub fn mark(&self) -> HeadMark {
        HeadMark {
            length: self.length,
            sum: self.sum.clone().finalize(),
        }
    }
}

impl HeadMark {
    /// Whether a file with these first bytes can be the one that was read.
    pub fn fits(&self, first: &[u8]) -> bool {
        let length = usize::from(self.length);
        first
            .get(..length)
            .is_some_and(|head| crc32fast::hash(head) == self.sum)
    }
}

/// How far a file was read, and what is known of it from then.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Resume {
    /// The first byte that is not safe.
    pub position: u64,
    /// When the inode was born.
    pub born: Option<SystemTime>,
    /// Its first bytes. Without, the byte before the position tells whether it can be right.
    pub head: Option<HeadMark>,
}

/// A file that was opened to go on with.
#[derive(Clone, Copy, Debug)]
pub struct Candidate<'a> {
    /// Its length.
    pub size: u64,
    /// When its inode was born.
    pub born: Option<SystemTime>,
    /// Its first [`HEAD`] bytes, or all.
    pub first: &'a [u8],
    /// The last [`OVERLAP`] bytes before the position.
    pub before: &'a [u8],
}

impl Resume {
    /// Why the candidate is not the file that was read up to the position; `None` where nothing speaks against it.
    pub fn doubt(&self, candidate: Candidate<'_>) -> Option<&'static str> {
        if candidate.size < self.position {
            return Some("file is shorter than its position");
        }
        if let (Some(then), Some(now)) = (self.born, candidate.born)
            && then != now
        {
            return Some("its inode was given to another file");
        }
        match self.head {
            Some(head) if head.length > 0 => (!head.fits(candidate.first))
                .then_some("its first bytes are not those that were read"),
            _ if self.position > 0 && !ends_a_line(candidate.before) => {
                Some("its position is not at the beginning of a line")
            }
            _ => None,
        }
    }
}

/// Whether these bytes end with a newline, of one byte or of a wider character.
fn ends_a_line(bytes: &[u8]) -> bool {
    const ENDS: [&[u8]; 5] = [b"\n", b"\n\0", b"\0\n", b"\n\0\0\0", b"\0\0\0\n"];
    ENDS.iter().any(|end| bytes.ends_with(end))
}

#[cfg(test)]
#[path = "evidence_tests.rs"]
mod tests;
