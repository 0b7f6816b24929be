//! What buffers on disk remember of files: lines that are safe though the pos_file does not say so yet. Pure.
//!
//! A process that was killed between the two would repeat them in chunks with new ids. What is said here is taken only for a file that is
//! proved to be the same (device, inode, birth, first bytes), and only where it was said after the positions were written last: a file
//! that was truncated since then has other positions.

use std::collections::HashMap;
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use super::evidence::{HeadMark, Resume};
use super::file::{Identity, Origin};
use crate::event::{Extent, FileLife};

/// The extents of one source, by file.
#[derive(Debug, Default)]
pub struct Recalled {
    /// Who this source is to buffers; `None` for one that keeps no positions.
    owner: Option<u32>,
    extents: HashMap<FileLife, Vec<Extent>>,
}

impl Recalled {
    /// What concerns the source with this pos_file, of what was said after `since`.
    pub fn new(pos_file: Option<&Path>, since: Option<SystemTime>, all: &[Extent]) -> Recalled {
        let owner = pos_file.map(|path| crc32fast::hash(path.as_os_str().as_encoded_bytes()));
        let since = since.and_then(nanoseconds);
        let mut extents: HashMap<FileLife, Vec<Extent>> = HashMap::new();
        let (Some(_), Some(since)) = (owner, since) else {
            return Recalled { owner, extents };
        };
        let ours = |extent: &&Extent| Some(extent.life.owner) == owner && extent.said >= since;
        for extent in all.iter().filter(ours) {
            extents.entry(extent.life).or_default().push(*extent);
        }
        Recalled { owner, extents }
    }

    /// What buffers may know a file by.
    pub fn life(&self, identity: Identity) -> Option<FileLife> {
        Some(FileLife {
            owner: self.owner?,
            device: identity.device,
            inode: identity.inode,
            born: identity.born.and_then(nanoseconds)?,
        })
    }

    /// Where a file with these first bytes is to be read from, if `origin` is what the positions say. Asked once of each file: what comes
    /// later is another life of it.
    pub fn take(&mut self, identity: Identity, first: &[u8], origin: Origin) -> Origin {
        let Some(mut extents) = self
            .life(identity)
            .and_then(|life| self.extents.remove(&life))
        else {
            return origin;
        };
        let resume = match origin {
            Origin::Old => return origin,
            Origin::New => Resume {
                born: identity.born,
                ..Resume::default()
            },
            Origin::Resumed(resume) => resume,
        };
        extents.retain(|extent| mark(extent).fits(first));
        match advance(resume.position, extents) {
            Some(last) => Origin::Resumed(Resume {
                position: last.to,
                head: resume.head.or(Some(mark(&last))),
                ..resume
            }),
            None => origin,
        }
    }
}

fn mark(extent: &Extent) -> HeadMark {
    let (length, sum) = extent.head;
    HeadMark { length, sum }
}

/// The extent that reaches furthest without a hole behind `position`.
fn advance(position: u64, mut extents: Vec<Extent>) -> Option<Extent> {
    extents.sort_by_key(|extent| (extent.from, extent.to));
    let mut last: Option<Extent> = None;
    let mut pieces: HashMap<(u64, u64, u64), u16> = HashMap::new();
    for extent in extents {
        // Pieces of one batch were said at one time; those of another reading of the same bytes are others.
        let batch = (extent.from, extent.to, extent.said);
        let found = pieces.entry(batch).or_default();
        *found += 1;
        let reached = last.map_or(position, |last| last.to);
        if extent.from <= reached && reached < extent.to && *found >= extent.parts {
            last = Some(extent);
        }
    }
    last
}

/// As times are written down.
pub fn nanoseconds(time: SystemTime) -> Option<u64> {
    let since = time.duration_since(UNIX_EPOCH).ok()?;
    u64::try_from(since.as_nanos()).ok()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proptest::prelude::*;

    use super::*;

    const HEAD: &[u8] = b"first bytes";

    fn identity() -> Identity {
        Identity {
            device: 1,
            inode: 2,
            born: Some(UNIX_EPOCH + Duration::from_nanos(3)),
        }
    }

    fn extent(from: u64, to: u64) -> Extent {
        Extent {
            life: FileLife {
                owner: crc32fast::hash(b"/var/pos"),
                device: 1,
                inode: 2,
                born: 3,
            },
            said: 1000,
            from,
            to,
            head: (HEAD.len() as u16, crc32fast::hash(HEAD)),
            parts: 1,
        }
    }

    fn recalled(since: u64, all: &[Extent]) -> Recalled {
        let since = UNIX_EPOCH + Duration::from_nanos(since);
        Recalled::new(Some(Path::new("/var/pos")), Some(since), all)
    }

    fn position(origin: Origin) -> Option<u64> {
        match origin {
            Origin::Resumed(resume) => Some(resume.position),
            _ => None,
        }
    }

    fn at(position: u64) -> Origin {
        Origin::Resumed(Resume {
            position,
            ..Resume::default()
        })
    }

    proptest! {
        /// Every byte that is passed was said to be safe, and none is passed by that is not.
        #[test]
        fn the_position_moves_over_what_is_safe_and_stops_at_the_first_hole(
            start in 0u64..20,
            ranges in prop::collection::vec((0u64..30, 1u64..10), 0..12),
        ) {
            let all: Vec<Extent> = ranges.iter().map(|(from, len)| extent(*from, from + len)).collect();
            let found = recalled(0, &all).take(identity(), HEAD, at(start));
            let mut expected = start;
            while let Some(next) = all.iter().filter(|one| one.from <= expected && one.to > expected).map(|one| one.to).max() {
                expected = next;
            }
            prop_assert_eq!(position(found), Some(expected));
        }
    }

    #[test]
    fn a_file_that_no_position_names_goes_on_behind_what_is_safe_from_its_head() {
        let mut known = recalled(0, &[extent(0, 10)]);
        assert_eq!(
            position(known.take(identity(), HEAD, Origin::New)),
            Some(10)
        );
        assert_eq!(
            known.take(identity(), HEAD, Origin::New),
            Origin::New,
            "once"
        );
        let mut known = recalled(0, &[extent(5, 10)]);
        assert_eq!(
            known.take(identity(), HEAD, Origin::New),
            Origin::New,
            "a hole"
        );
    }

    #[test]
    fn positions_that_were_written_later_know_better() {
        let mut known = recalled(1001, &[extent(0, 10)]);
        assert_eq!(position(known.take(identity(), HEAD, at(4))), Some(4));
    }

    #[test]
    fn nothing_is_taken_for_another_file_or_from_another_source() {
        let other = b"other bytes";
        assert_eq!(
            position(recalled(0, &[extent(0, 10)]).take(identity(), other, at(4))),
            Some(4)
        );
        let younger = Identity {
            born: None,
            ..identity()
        };
        assert_eq!(
            position(recalled(0, &[extent(0, 10)]).take(younger, HEAD, at(4))),
            Some(4)
        );
        let mut foreign = extent(0, 10);
        foreign.life.owner += 1;
        assert_eq!(
            position(recalled(0, &[foreign]).take(identity(), HEAD, at(4))),
            Some(4)
        );
    }

    #[test]
    fn a_batch_in_pieces_counts_when_all_are_there() {
        let piece = Extent {
            parts: 2,
            ..extent(0, 10)
        };
        assert_eq!(
            position(recalled(0, &[piece]).take(identity(), HEAD, at(0))),
            Some(0)
        );
        assert_eq!(
            position(recalled(0, &[piece, piece]).take(identity(), HEAD, at(0))),
            Some(10)
        );
        let again = Extent {
            said: 2000,
            ..piece
        };
        assert_eq!(
            position(recalled(0, &[piece, again]).take(identity(), HEAD, at(0))),
            Some(0)
        );
    }
}
