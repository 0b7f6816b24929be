//! The side file of a chunk: what Fluentd's format cannot hold. Pure.
//!
//! ```text
//! frame    uint32 BE length | uint32 BE CRC-32 of the payload | payload
//! first    0x00 | the chunk's metadata as in NAME.meta, its tag always set
//! group    0x01 | uint64 BE start | uint64 BE end | uint32 BE events | uint32 BE CRC-32 of data[start..end]
//! confirm  0x02                                                              the last group is durable
//! ```
//!
//! A group frame is durable before its data are written, and confirmed when they are. So a last group whose checksum does not hold and
//! that is not confirmed was cut off by a crash: nothing of it was reported safe, and it can be cut without loss. Any other group whose
//! checksum does not hold was damaged later. Where a side file is missing or damaged the data are read entry by entry instead.

use super::meta::Meta;

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

/// What could be read of a side file.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Side {
    /// The metadata.
    pub meta: Option<Meta>,
    /// The groups, in the order in which they were written.
    pub groups: Vec<Group>,
    /// Where the frame of the last one begins.
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

impl Side {
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
    let mut rest = bytes;
    while let Some((payload, behind)) = next(rest) {
        match payload {
            [0, meta @ ..] => side.meta = Meta::decode(meta).ok(),
            [1, group @ ..] => {
                // One group at a time: the next was begun when this one was durable.
                side.confirm();
                side.groups.extend(read_group(group));
                side.announced = side.len;
            }
            [2] => side.confirm(),
            _ => {}
        }
        side.len += (rest.len() - behind.len()) as u64;
        rest = behind;
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

    fn file(groups: &[Group]) -> Vec<u8> {
        let mut file = head(&meta());
        groups
            .iter()
            .for_each(|each| file.extend([group(each), confirm()].concat()));
        file
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
            prop_assert_eq!(whole, Side { meta: Some(meta()), groups: groups.clone(), announced: decode(&file).announced, len: file.len() as u64 });
            let torn = decode(&file[..cut.index(file.len())]);
            prop_assert!(same_bytes(&groups, &torn.groups));
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
