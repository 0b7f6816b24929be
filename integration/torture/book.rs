//! What the application knows of its files: every generation with the end of every line in it. And what a pos_file says about
//! them, read by code that shares nothing with the agent's.

use std::collections::BTreeMap;
use std::fs::{File, Metadata};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::time::{Duration, SystemTime};

/// File times come from a coarse clock: generations born this close together cannot be told apart by it.
const TICK: Duration = Duration::from_millis(12);

/// One life of one file.
#[derive(Clone, Debug)]
pub struct Generation {
    /// Its inode; a later generation may have the same one once this one is deleted.
    pub inode: u64,
    /// When it was made, where the file system knows that.
    pub born: Option<SystemTime>,
    /// The number of its first line.
    pub first: u64,
    /// Where each line ends.
    pub ends: Vec<u64>,
}

impl Generation {
    /// A file that was just made.
    ///
    /// # Errors
    /// When it cannot be looked at.
    pub fn of(file: &File) -> io::Result<Generation> {
        let meta: Metadata = file.metadata()?;
        Ok(Generation {
            inode: meta.ino(),
            born: meta.created().ok(),
            first: 0,
            ends: Vec::new(),
        })
    }

    /// The numbers of its lines.
    pub fn lines(&self) -> std::ops::Range<u64> {
        self.first..self.first + self.ends.len() as u64
    }

    /// Bytes of whole lines.
    pub fn size(&self) -> u64 {
        self.ends.last().copied().unwrap_or(0)
    }

    /// The numbers of the lines that end at `position` or before.
    fn lines_before(&self, position: u64) -> std::ops::Range<u64> {
        let count = self.ends.partition_point(|end| *end <= position);
        self.first..self.first + count as u64
    }
}

/// Every generation of the log, oldest first.
#[derive(Clone, Debug, Default)]
pub struct Book {
    /// The last one is the one that the application writes to.
    pub generations: Vec<Generation>,
}

/// What a pos_file says about the lines of a [`Book`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Claim {
    /// Lines that no start from this pos_file reads again: they must have arrived. By number.
    pub safe: Vec<bool>,
    /// Lines that a start from it may read again. Between the two are lines of which a pos_file without generations says neither.
    pub open: Vec<bool>,
    /// Bytes of the open ones.
    pub open_bytes: u64,
}

impl Book {
    /// How many lines are written.
    pub fn lines(&self) -> u64 {
        self.generations.last().map_or(0, |last| last.lines().end)
    }

    /// Reads a pos_file's text against the book. `None`: there is no pos_file.
    ///
    /// An entry names the oldest generation at its path that is not finished. Everything older is finished, and the part of it
    /// before the position; everything younger may be read again, unless it has an entry of its own.
    pub fn claim(&self, pos_file: Option<&str>) -> Claim {
        let count = self.lines() as usize;
        let mut claim = Claim {
            safe: vec![false; count],
            open: vec![true; count],
            open_bytes: 0,
        };
        let entries = positions(pos_file.unwrap_or_default());
        let named = |generation: &Generation| entries.get(&generation.inode).copied();
        let oldest = self.generations.iter().position(|g| named(g).is_some());
        if let Some(oldest) = oldest {
            // Generations of one tick are told apart by nothing but their inode: all of them are read again.
            let floor = self.generations[oldest]
                .born
                .and_then(|t| t.checked_sub(TICK));
            for (at, generation) in self.generations.iter().enumerate() {
                let older = at < oldest;
                let apart = floor.is_some_and(|floor| generation.born.is_some_and(|b| b < floor));
                let reused = self
                    .generations
                    .iter()
                    .filter(|g| g.inode == generation.inode)
                    .count()
                    > 1;
                let before = match named(generation) {
                    _ if older => generation.lines(),
                    Some(position) if !reused => generation.lines_before(position),
                    _ => generation.first..generation.first,
                };
                for line in before {
                    claim.safe[line as usize] = true;
                    claim.open[line as usize] = older && !apart;
                }
            }
        }
        claim.open_bytes = self.bytes(&claim.open);
        claim
    }

    fn bytes(&self, marked: &[bool]) -> u64 {
        let mut bytes = 0;
        for generation in &self.generations {
            let mut start = 0;
            for (line, end) in generation.lines().zip(&generation.ends) {
                bytes += if marked[line as usize] {
                    end - start
                } else {
                    0
                };
                start = *end;
            }
        }
        bytes
    }

    /// Whether a pos_file says that nothing is left to read: it names the last generation, and each one that it names at its end.
    pub fn is_finished(&self, pos_file: &str) -> bool {
        let entries = positions(pos_file);
        let Some(last) = self.generations.last() else {
            return true;
        };
        // The youngest of those with one inode: the others are deleted.
        let youngest: BTreeMap<u64, u64> = self
            .generations
            .iter()
            .map(|g| (g.inode, g.size()))
            .collect();
        entries.contains_key(&last.inode)
            && entries
                .iter()
                .all(|(inode, position)| youngest.get(inode).is_none_or(|size| size == position))
    }
}

/// The lowest position of each inode in a pos_file's text.
fn positions(text: &str) -> BTreeMap<u64, u64> {
    let mut positions = BTreeMap::new();
    for line in text.lines() {
        let mut fields = line.rsplitn(3, '\t');
        let inode = fields
            .next()
            .and_then(|text| u64::from_str_radix(text, 16).ok());
        let position = fields
            .next()
            .and_then(|text| u64::from_str_radix(text, 16).ok());
        if let (Some(inode), Some(position)) = (inode, position) {
            let lowest = positions.entry(inode).or_insert(position);
            *lowest = position.min(*lowest);
        }
    }
    positions
}
