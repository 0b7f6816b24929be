//! Which bytes of which file a batch stands for, as a buffer on disk keeps it beside the batch.
//!
//! A source writes its positions a few times a second, a buffer makes a batch durable within milliseconds. A process that is killed
//! between the two leaves lines that are safe and would be read again, under a new chunk id. So the buffer writes down what it has, and
//! the next start of the source goes on behind it. Whatever is missing here costs duplicates, never lines.

/// One life of a file, as one source knows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct FileLife {
    /// Which source: CRC-32 of the path of its pos_file. Two sources may read one file.
    pub owner: u32,
    /// The device.
    pub device: u64,
    /// The inode.
    pub inode: u64,
    /// When the inode was born, in nanoseconds since the epoch. Without that there is no extent.
    pub born: u64,
}

/// Bytes of a file that are safe with the batch that the extent stands beside.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Extent {
    /// The file.
    pub life: FileLife,
    /// When that was said, in nanoseconds since the epoch: positions that were written later know better.
    pub said: u64,
    /// The first byte. 0 where everything before the batch was safe already.
    pub from: u64,
    /// The byte behind the last.
    pub to: u64,
    /// How many first bytes of the file, and their CRC-32: without any the file cannot be known again.
    pub head: (u16, u32),
    /// In so many pieces: it counts where all of them are found.
    pub parts: u16,
}

impl Extent {
    /// This and what follows it, as one; `None` where the other does not follow.
    pub fn and(self, next: Extent) -> Option<Extent> {
        let follows = next.from == self.to || next.from == 0 && next.to >= self.to;
        let is_whole = self.parts == 1 && next.parts == 1;
        (self.life == next.life && follows && is_whole).then_some(Extent {
            from: self.from.min(next.from),
            ..next
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn extent(from: u64, to: u64) -> Extent {
        Extent {
            life: FileLife {
                owner: 1,
                device: 2,
                inode: 3,
                born: 4,
            },
            said: 5,
            from,
            to,
            head: (1, 6),
            parts: 1,
        }
    }

    #[test]
    fn extents_of_one_life_that_follow_each_other_are_one() {
        let one = extent(0, 10);
        assert_eq!(one.and(extent(10, 20)), Some(extent(0, 20)));
        assert_eq!(one.and(extent(0, 20)), Some(extent(0, 20)));
        assert_eq!(extent(5, 10).and(extent(0, 20)), Some(extent(0, 20)));
        assert_eq!(one.and(extent(11, 20)), None, "there is a hole");
        let part = Extent {
            parts: 2,
            ..extent(10, 20)
        };
        assert_eq!(one.and(part), None, "its other part may be missing");
        let mut other = extent(10, 20);
        other.life.born += 1;
        assert_eq!(one.and(other), None, "another life");
    }
}
