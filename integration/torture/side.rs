//! The files that stand beside a chunk's data, read by code that shares nothing with the agent's.

use std::fs;
use std::io::{self, ErrorKind};
use std::ops::Range;
use std::path::{Path, PathBuf};

use super::chunks::ChunkFile;

impl ChunkFile {
    /// Whether it may still grow, by its name.
    pub fn is_staged(&self) -> bool {
        let name = self.name();
        let stem = &name[..name.len() - ".log".len()];
        stem.as_bytes()[stem.len() - 33] == b'b'
    }

    /// The file beside it whose name ends so.
    pub fn beside(&self, end: &str) -> PathBuf {
        self.path.with_file_name(self.name() + end)
    }

    /// Its side file.
    pub fn side(&self) -> PathBuf {
        let name = self.name();
        let prefix = name.split('.').next().unwrap_or_default();
        let stem = &name[..name.len() - ".log".len()];
        let id = &stem[stem.len() - 32..];
        self.path.with_file_name(format!("{prefix}.{id}.affluent"))
    }

    /// Lines of which a byte is in this range, or that follow the one before it directly: nobody knows where an entry begins.
    pub fn touching(&self, range: Range<usize>) -> Vec<u64> {
        let mut begin = 0;
        let mut touched = Vec::new();
        for line in &self.lines {
            if begin < range.end && line.end > range.start {
                touched.push(line.number);
            }
            begin = line.end;
        }
        touched
    }

    fn name(&self) -> String {
        let name = self.path.file_name().unwrap_or_default();
        name.to_string_lossy().into_owned()
    }
}

/// What a side file says, as far as it can be read.
///
/// ```text
/// frame    uint32 BE length | uint32 BE CRC-32 of the payload | payload
/// payload  0x00 metadata    0x01 uint64 BE start | uint64 BE end | …    anything else is of no interest here
/// ```
#[derive(Debug, Default)]
pub struct Side {
    /// Whether it has the chunk's metadata.
    pub has_head: bool,
    /// First byte and the one behind the last of each append, with where its frame ends.
    groups: Vec<(u64, u64, u64)>,
}

impl Side {
    /// Whether it has checksums of all of these first bytes of the data.
    pub fn covers(&self, len: u64) -> bool {
        let mut groups = self.groups.iter();
        groups.try_fold(0, |end, (first, behind, _)| {
            (*first == end).then_some(*behind)
        }) >= Some(len)
    }

    /// Reads it; one that is not there says nothing.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn read(path: &Path) -> io::Result<Side> {
        let bytes = match fs::read(path) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Side::default()),
            bytes => bytes?,
        };
        let mut side = Side::default();
        let mut at = 0;
        while let Some((payload, end)) = frame(&bytes, at) {
            let number = |from: usize| {
                let digits = payload.get(from..from + 8)?;
                Some(u64::from_be_bytes(digits.try_into().ok()?))
            };
            match payload.first() {
                Some(0) => side.has_head = true,
                Some(1) => {
                    if let (Some(first), Some(behind)) = (number(1), number(9)) {
                        side.groups.push((first, behind, end as u64));
                    }
                }
                _ => {}
            }
            at = end;
        }
        Ok(side)
    }

    /// The range of the last append, unless it is the first, and where its frame ends.
    pub fn last_group(&self) -> Option<((u64, u64), u64)> {
        let (start, end, frame_end) = *self.groups.last()?;
        (start > 0).then_some(((start, end), frame_end))
    }

    /// Where the append ends of which this byte is a part.
    pub fn end_of_group(&self, byte: u64) -> Option<u64> {
        let mut groups = self.groups.iter();
        let group = groups.find(|(start, end, _)| (*start..*end).contains(&byte));
        group.map(|(_, end, _)| *end)
    }
}

/// The sound frame that begins here, and where it ends.
fn frame(bytes: &[u8], at: usize) -> Option<(&[u8], usize)> {
    let word = |at: usize| {
        let digits = bytes.get(at..at + 4)?;
        Some(u32::from_be_bytes(digits.try_into().ok()?))
    };
    let (len, sum) = (word(at)? as usize, word(at + 4)?);
    let payload = bytes.get(at + 8..(at + 8).checked_add(len)?)?;
    (crc32fast::hash(payload) == sum).then_some((payload, at + 8 + len))
}
