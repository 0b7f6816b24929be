//! The side file of a chunk: what Fluentd's format cannot hold. Pure.
//!
//! ```text
//! frame    uint32 BE length | uint32 BE CRC-32 of the payload | payload
//! first    0x00 | the chunk's metadata as in NAME.meta, its tag always set
//! group    0x01 | uint64 BE start | uint64 BE end | uint32 BE events | uint32 BE CRC-32 of data[start..end]
//! confirm  0x02                                                              the last group is durable
//! extents  0x03 | extents of files that are safe with the next group
//! over     0x04                                                              the chunk was delivered, its data go
//! extent   uint32 owner | uint64 device | uint64 inode | uint64 born | uint64 said | uint64 from | uint64 to | uint16, uint32 head | uint16 parts
//! ```
//!
//! A group frame is durable before its data are written, and confirmed when they are. So a last group whose checksum does not hold and
//! that is not confirmed was cut off by a crash: nothing of it was reported safe, and it can be cut without loss. Any other group whose
//! checksum does not hold was damaged later. Where a side file is missing or damaged the data are read entry by entry instead.
//!
//! Extents ([`Extent`]) tell the next start of a tailed file which lines are in the chunk, or were. So the side file of a chunk that was
//! delivered stays until the positions are written.

use super::meta::Meta;
use crate::event::{Extent, FileLife};

/// No payload is longer.
const MOST_PAYLOAD: usize = super::meta::MOST_BYTES + 16;

/// Appends that became durable together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Group {
    /// Its first byte in the data file.
    pub start: u64,
    /// The byte behind its last.
    pub end: u64,
    /// Events in it.
    pub records: u32,
    /// CRC-32 of its bytes.
    pub crc: u32,
    /// Whether it was durable once.
    pub confirmed: bool,
}

/// How many extents a frame holds at most.
const EXTENTS: usize = MOST_PAYLOAD / EXTENT;
/// Bytes of an extent.
const EXTENT: usize = 4 + 6 * 8 + 2 + 4 + 2;

/// An extent and the group that it came with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Claim {
    /// Where the group ends in the data file.
    pub end: u64,
    /// What is safe with it.
    pub extent: Extent,
}

/// What could be read of a side file.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Side {
    /// The metadata.
    pub meta: Option<Meta>,
    /// The groups, in the order in which they were written.
    pub groups: Vec<Group>,
    /// What is safe with them.
    pub claims: Vec<Claim>,
    /// Whether the chunk was delivered.
    pub over: bool,
    /// Where the frame of the last one begins, with its extents.
    pub announced: u64,
    /// Bytes up to the end of the last good frame.
    pub len: u64,
}

/// The first frame.
pub fn head(meta: &Meta) -> Vec<u8> {
    let mut payload = vec![0];
    payload.extend_from_slice(&meta.encode());
    frame(&payload)
}

/// The frame of a group.
pub fn group(group: &Group) -> Vec<u8> {
    let mut payload = vec![1];
    payload.extend_from_slice(&group.start.to_be_bytes());
    payload.extend_from_slice(&group.end.to_be_bytes());
    payload.extend_from_slice(&group.records.to_be_bytes());
    payload.extend_from_slice(&group.crc.to_be_bytes());
    frame(&payload)
}

/// The frame that confirms the last group.
pub fn confirm() -> Vec<u8> {
    frame(&[2])
}

/// The frame of a chunk whose data go.
pub fn over() -> Vec<u8> {
    frame(&[4])
}

/// The frames of what is safe with the next group.
pub fn extents(extents: &[Extent]) -> Vec<u8> {
    let mut out = Vec::new();
    for part in extents.chunks(EXTENTS) {
        let mut payload = vec![3];
        part.iter()
            .for_each(|extent| write_extent(&mut payload, extent));
        out.extend(frame(&payload));
    }
    out
}

fn write_extent(out: &mut Vec<u8>, extent: &Extent) {
    let Extent {
        life,
        said,
        from,
        to,
        head: (length, sum),
        parts,
    } = extent;
    out.extend_from_slice(&life.owner.to_be_bytes());
    for word in [life.device, life.inode, life.born, *said, *from, *to] {
        out.extend_from_slice(&word.to_be_bytes());
    }
    out.extend_from_slice(&length.to_be_bytes());
    out.extend_from_slice(&sum.to_be_bytes());
    out.extend_from_slice(&parts.to_be_bytes());
}

fn read_extent(bytes: &[u8]) -> Option<Extent> {
    let (owner, mut rest) = word(bytes)?;
    let mut words = [0; 6];
    for each in &mut words {
        let (bytes, behind) = rest.split_first_chunk()?;
        (*each, rest) = (u64::from_be_bytes(*bytes), behind);
    }
    let [device, inode, born, said, from, to] = words;
    let (length, rest) = rest.split_first_chunk()?;
    let (sum, rest) = word(rest)?;
    let parts = rest.first_chunk()?;
    Some(Extent {
        life: FileLife {
            owner,
            device,
            inode,
            born,
        },
        said,
        from,
        to,
        head: (u16::from_be_bytes(*length), sum),
        parts: u16::from_be_bytes(*parts),
    })
}

impl Side {
    /// What is safe with the groups that end before `len`.
    pub fn safe_within(&self, len: u64) -> impl Iterator<Item = Extent> {
        let within = self.claims.iter().filter(move |claim| claim.end <= len);
        within.map(|claim| claim.extent)
    }

    fn add(&mut self, group: Option<Group>, extents: Vec<Extent>) {
        let Some(group) = group else { return };
        let end = self.groups.last().map_or(0, |last| last.end);
        self.groups.push(group);
        // One that does not follow was left by a write that failed, and nothing was safe with it.
        if group.start == end {
            let claim = |extent| Claim {
                end: group.end,
                extent,
            };
            self.claims.extend(extents.into_iter().map(claim));
        }
    }

    /// All its groups were durable once.
    pub fn confirm(&mut self) {
        if let Some(last) = self.groups.last_mut() {
            last.confirmed = true;
        }
    }
}

fn frame(payload: &[u8]) -> Vec<u8> {
    let mut out = (payload.len() as u32).to_be_bytes().to_vec();
    out.extend_from_slice(&crc32fast::hash(payload).to_be_bytes());
    out.extend_from_slice(payload);
    out
}

/// Reads frames up to the first damaged one.
pub fn decode(bytes: &[u8]) -> Side {
    let mut side = Side::default();
    let (mut rest, mut at, mut coming) = (bytes, 0, Vec::new());
    while let Some((payload, behind)) = next(rest) {
        match payload {
            [0, meta @ ..] => side.meta = Meta::decode(meta).ok(),
            [1, group @ ..] => {
                // One group at a time: the next was begun when this one was durable.
                side.confirm();
                side.add(read_group(group), std::mem::take(&mut coming));
                side.announced = side.len;
            }
            [2] => side.confirm(),
            [3, extents @ ..] => {
                let whole = extents.chunks_exact(EXTENT);
                coming.extend(whole.filter_map(read_extent));
            }
            [4] => side.over = true,
            _ => {}
        }
        at += (rest.len() - behind.len()) as u64;
        rest = behind;
        if coming.is_empty() {
            // Extents whose group did not come any more are written over.
            side.len = at;
        }
    }
    side
}

fn next(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let (len, rest) = word(bytes)?;
    let (crc, rest) = word(rest)?;
    let (payload, behind) = rest.split_at_checked(len as usize)?;
    let sound = payload.len() <= MOST_PAYLOAD && crc32fast::hash(payload) == crc;
    sound.then_some((payload, behind))
}

fn read_group(payload: &[u8]) -> Option<Group> {
    let (start, rest) = payload.split_first_chunk()?;
    let (end, rest) = rest.split_first_chunk()?;
    let (records, rest) = word(rest)?;
    let (crc, _) = word(rest)?;
    let group = Group {
        start: u64::from_be_bytes(*start),
        end: u64::from_be_bytes(*end),
        records,
        crc,
        confirmed: false,
    };
    (group.start < group.end).then_some(group)
}

fn word(bytes: &[u8]) -> Option<(u32, &[u8])> {
    let (word, rest) = bytes.split_first_chunk()?;
    Some((u32::from_be_bytes(*word), rest))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::buffer::ChunkId;
    use proptest::prelude::*;

    fn meta() -> Meta {
        Meta {
            timekey: None,
            tag: Some("app".into()),
            variables: None,
            seq: 0,
            id: ChunkId::from_bytes([7; 16]),
            records: 0,
            created: 1,
            modified: 1,
        }
    }

    prop_compose! {
        fn groups()(parts in proptest::collection::vec((1u64..100, any::<u32>(), any::<u32>()), 0..8)) -> Vec<Group> {
            let mut at = 0;
            parts.into_iter().map(|(len, records, crc)| {
                let start = at;
                at += len;
                Group { start, end: at, records, crc, confirmed: true }
            }).collect()
        }
    }

    /// So many files as its checksum says have lines in a group.
    fn extents_of(group: &Group) -> Vec<Extent> {
        let extent = |inode| Extent {
            life: FileLife {
                owner: group.crc,
                device: 1,
                inode,
                born: 2,
            },
            said: 3,
            from: group.start * 10,
            to: group.end * 10,
            head: (4, 5),
            parts: 6,
        };
        (0..u64::from(group.crc % 4)).map(extent).collect()
    }

    fn claims(groups: &[Group]) -> Vec<Claim> {
        let of = |group: &Group| {
            let end = group.end;
            extents_of(group)
                .into_iter()
                .map(move |extent| Claim { end, extent })
        };
        groups.iter().flat_map(of).collect()
    }

    fn file(groups: &[Group]) -> Vec<u8> {
        let mut file = head(&meta());
        for each in groups {
            let extents = extents(&extents_of(each));
            file.extend([extents, group(each), confirm()].concat());
        }
        file
    }

    #[test]
    fn what_a_failed_write_left_behind_the_frames_claims_nothing() {
        let group_of = |start, end| Group {
            start,
            end,
            records: 1,
            crc: 3,
            confirmed: true,
        };
        let whole = group_of(0, 10);
        let mut bytes = file(&[whole]);
        assert_eq!(decode(&bytes).claims, claims(&[whole]));
        // It began where the first one begins.
        let stale = group_of(0, 20);
        bytes.extend([extents(&extents_of(&stale)), group(&stale)].concat());
        assert_eq!(decode(&bytes).claims, claims(&[whole]));
    }

    #[test]
    fn extents_without_their_group_are_written_over() {
        let whole = Group {
            start: 0,
            end: 10,
            records: 1,
            crc: 3,
            confirmed: true,
        };
        let mut bytes = file(&[whole]);
        let len = bytes.len() as u64;
        bytes.extend(extents(&extents_of(&whole)));
        let side = decode(&bytes);
        assert_eq!(
            (side.len, side.claims.len()),
            (len, extents_of(&whole).len())
        );
    }

    #[test]
    fn a_side_file_says_that_its_chunk_is_over() {
        let mut bytes = file(&[]);
        assert!(!decode(&bytes).over);
        bytes.extend(over());
        assert!(decode(&bytes).over);
    }

    /// Whether the second are the first of the first, confirmed but for the last.
    fn same_bytes(all: &[Group], some: &[Group]) -> bool {
        let confirmed = |group: &Group| Group {
            confirmed: true,
            ..*group
        };
        let but_last = some.len().saturating_sub(1);
        some.iter().take(but_last).all(|group| group.confirmed)
            && all.starts_with(&some.iter().map(confirmed).collect::<Vec<_>>())
    }

    proptest! {
        #[test]
        fn a_side_file_comes_back_and_a_torn_one_as_far_as_it_goes(groups in groups(), cut in any::<prop::sample::Index>()) {
            let file = file(&groups);
            let whole = decode(&file);
            let claims = claims(&groups);
            prop_assert_eq!(whole, Side { meta: Some(meta()), groups: groups.clone(), claims: claims.clone(), over: false, announced: decode(&file).announced, len: file.len() as u64 });
            let torn = decode(&file[..cut.index(file.len())]);
            prop_assert!(same_bytes(&groups, &torn.groups));
            prop_assert!(claims.starts_with(&torn.claims));
            prop_assert_eq!(decode(&file[..torn.len as usize]), torn);
        }

        #[test]
        fn garbage_never_panics(bytes in proptest::collection::vec(any::<u8>(), 0..100)) {
            decode(&bytes);
        }

        #[test]
        fn a_flipped_byte_ends_the_reading_there(groups in groups(), at in any::<prop::sample::Index>(), flip in 1u8..) {
            let mut bytes = file(&groups);
            let at = at.index(bytes.len());
            bytes[at] ^= flip;
            let side = decode(&bytes);
            prop_assert!(side.len <= at as u64);
            prop_assert!(same_bytes(&groups, &side.groups));
        }
    }
}
