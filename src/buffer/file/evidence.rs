//! What a chunk's metadata, its side file and its name say about it, row by row of Fluentd's resume table. Pure.
//!
//! | found | Fluentd 1.18 | here |
//! |---|---|---|
//! | data empty | broken | set aside: "staged file chunk is empty", "enqueued file chunk is empty" |
//! | meta sound | taken | taken |
//! | meta of the other letter (a crash between two renames) | taken without a tag | taken |
//! | meta damaged or missing, side file sound | – | taken: the side file has the same metadata |
//! | meta of another tag, timekey or variables than in the side file | taken | taken as the side file has it: that has a checksum |
//! | meta damaged or missing, no chunk keys | taken | taken: all that they say is nothing |
//! | meta damaged | taken without a tag (1.19: broken) | set aside |
//! | meta missing, a name of v0.12 or of file_single | taken, v0.12 without a tag | taken, the name's key is the tag or the time slice |
//! | meta missing | taken without a tag | set aside |

use std::sync::Arc;

use super::meta::{Damaged, Meta};
use super::name::Letter;
use crate::buffer::{ChunkKey, ChunkKeys, Variable};
use crate::event::Tag;
use crate::event::msgpack::write_str;

/// What was found beside a chunk's data.
#[derive(Clone, Debug)]
pub struct Evidence {
    /// `b` or `q`.
    pub letter: Letter,
    /// Bytes of data.
    pub len: u64,
    /// `NAME.meta`.
    pub own: Option<Result<Meta, Damaged>>,
    /// The same with the other letter.
    pub other: Option<Result<Meta, Damaged>>,
    /// The metadata in the side file.
    pub side: Option<Meta>,
    /// The key in the name.
    pub named: Option<String>,
    /// When the data were written to.
    pub modified: i64,
}

/// What a chunk is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Known {
    /// What its events have in common.
    pub key: ChunkKey,
    /// Events in it, as its metadata say.
    pub records: u64,
    /// Unix seconds.
    pub created: i64,
    /// Unix seconds.
    pub modified: i64,
    /// Whether its own metadata say so.
    pub by_own_meta: bool,
}

/// Why a chunk is set aside.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Broken {
    #[error("staged file chunk is empty")]
    StagedEmpty,
    #[error("enqueued file chunk is empty")]
    QueuedEmpty,
    #[error("staged meta file is broken. {0}")]
    StagedMeta(Damaged),
    #[error("enqueued meta file is broken. {0}")]
    QueuedMeta(Damaged),
    #[error("meta file is missing: the tag is not known")]
    NoMeta,
}

/// Decides.
pub fn weigh(evidence: &Evidence, keys: &ChunkKeys) -> Result<Known, Broken> {
    match (evidence.len, evidence.letter) {
        (0, Letter::Staged) => return Err(Broken::StagedEmpty),
        (0, Letter::Queued) => return Err(Broken::QueuedEmpty),
        _ => {}
    }
    let agrees = |meta: &Meta| (evidence.side.as_ref()).is_none_or(|side| is_of(meta, side, keys));
    let sound =
        |meta: &Option<Result<Meta, Damaged>>| meta.clone().and_then(Result::ok).filter(agrees);
    if let Some(own) = sound(&evidence.own) {
        return Ok(known(own, evidence, true));
    }
    if let Some(other) = sound(&evidence.other) {
        return Ok(known(other, evidence, false));
    }
    if let Some(mut side) = evidence.side.clone() {
        side.modified = evidence.modified;
        let mut known = known(side, evidence, false);
        known.key.by_tag = keys.tag;
        return Ok(known);
    }
    if let Some(named) = &evidence.named {
        return Ok(Known {
            key: named_key(named, keys, evidence.modified),
            records: 0,
            created: evidence.modified,
            modified: evidence.modified,
            by_own_meta: false,
        });
    }
    if !keys.tag && keys.time.is_none() && keys.fields.is_empty() {
        // Nothing depends on what they would say.
        return Ok(Known {
            key: ChunkKey {
                by_tag: false,
                ..ChunkKey::of_tag(Tag::new(""))
            },
            records: 0,
            created: evidence.modified,
            modified: evidence.modified,
            by_own_meta: false,
        });
    }
    Err(match (&evidence.own, evidence.letter) {
        (Some(Err(damaged)), Letter::Staged) => Broken::StagedMeta(*damaged),
        (Some(Err(damaged)), Letter::Queued) => Broken::QueuedMeta(*damaged),
        _ => Broken::NoMeta,
    })
}

/// Whether these metadata and those in the side file, which always have the tag, are of one chunk. Metadata that lack a tag which is a chunk
/// key are damaged: nothing else would know it once the side file is gone.
fn is_of(meta: &Meta, side: &Meta, keys: &ChunkKeys) -> bool {
    (meta.tag.is_none() && !keys.tag || meta.tag == side.tag)
        && meta.timekey == side.timekey
        && meta.variables == side.variables
}

fn known(meta: Meta, evidence: &Evidence, by_own_meta: bool) -> Known {
    // Without `tag` among the chunk keys only the side file has it.
    let beside = evidence.side.as_ref().and_then(|side| side.tag.as_deref());
    let tag = Tag::new(meta.tag.as_deref().or(beside).unwrap_or_default());
    let variable = |(key, value): (String, Vec<u8>)| Variable {
        key: Arc::from(key),
        value: value.into(),
    };
    let variables = meta
        .variables
        .map(|all| all.into_iter().map(variable).collect());
    Known {
        key: ChunkKey {
            tag,
            by_tag: meta.tag.is_some(),
            timekey: meta.timekey,
            variables,
        },
        records: meta.records,
        created: meta.created,
        modified: meta.modified,
        by_own_meta,
    }
}

/// The key in a name: the tag, the one field that is a chunk key, or the time slice of v0.12.
fn named_key(named: &str, keys: &ChunkKeys, modified: i64) -> ChunkKey {
    match &keys.fields[..] {
        [] if !keys.tag && keys.time.is_some() => ChunkKey {
            by_tag: false,
            timekey: keys.time.as_ref().map(|slices| {
                let named = slices.named(named);
                named.unwrap_or_else(|| slices.start_of(modified))
            }),
            ..ChunkKey::of_tag(Tag::new(""))
        },
        [field] if !keys.tag => {
            let mut value = Vec::new();
            write_str(&mut value, named.as_bytes());
            let variable = Variable {
                key: field.key.clone(),
                value: value.into(),
            };
            ChunkKey {
                by_tag: false,
                variables: Some([variable].into()),
                ..ChunkKey::of_tag(Tag::new(""))
            }
        }
        _ => ChunkKey {
            by_tag: keys.tag,
            ..ChunkKey::of_tag(Tag::new(named))
        },
    }
}

#[cfg(test)]
mod tests {
    use jiff::tz::TimeZone;

    use super::*;
    use crate::buffer::{ChunkId, Timekey};

    fn meta(tag: &str) -> Meta {
        Meta {
            timekey: None,
            tag: Some(tag.to_owned()),
            variables: None,
            seq: 0,
            id: ChunkId::from_bytes([1; 16]),
            records: 3,
            created: 10,
            modified: 20,
        }
    }

    fn evidence(letter: Letter) -> Evidence {
        Evidence {
            letter,
            len: 100,
            own: Some(Ok(meta("own"))),
            other: None,
            side: None,
            named: None,
            modified: 30,
        }
    }

    fn tag(evidence: &Evidence) -> Result<String, Broken> {
        weigh(evidence, &ChunkKeys::tag()).map(|known| known.key.tag.to_string())
    }

    const BOTH: [Letter; 2] = [Letter::Staged, Letter::Queued];

    #[test]
    fn an_empty_chunk_is_broken_whatever_its_metadata_say() {
        let empty = |letter| Evidence {
            len: 0,
            ..evidence(letter)
        };
        assert_eq!(tag(&empty(Letter::Staged)), Err(Broken::StagedEmpty));
        assert_eq!(tag(&empty(Letter::Queued)), Err(Broken::QueuedEmpty));
        assert_eq!(
            Broken::QueuedEmpty.to_string(),
            "enqueued file chunk is empty"
        );
    }

    #[test]
    fn sound_metadata_count_before_all_else() {
        for letter in BOTH {
            let all = Evidence {
                other: Some(Ok(meta("other"))),
                side: Some(meta("own")),
                named: Some("named".into()),
                ..evidence(letter)
            };
            let known = weigh(&all, &ChunkKeys::tag()).expect("sound");
            assert_eq!(known.key, ChunkKey::of_tag(Tag::new("own")));
            assert_eq!((known.records, known.created, known.modified), (3, 10, 20));
            assert!(known.by_own_meta);
        }
    }

    #[test]
    fn metadata_that_the_side_file_contradicts_are_damaged() {
        for letter in BOTH {
            let flipped = Evidence {
                own: Some(Ok(meta("oxn"))),
                side: Some(meta("own")),
                ..evidence(letter)
            };
            let known = weigh(&flipped, &ChunkKeys::tag()).expect("sound");
            assert_eq!(known.key, ChunkKey::of_tag(Tag::new("own")));
            assert!(!known.by_own_meta);
        }
    }

    #[test]
    fn metadata_without_a_tag_that_is_a_chunk_key_are_damaged_where_the_side_file_has_it() {
        let without = Evidence {
            own: Some(Ok(Meta {
                tag: None,
                ..meta("")
            })),
            side: Some(meta("own")),
            ..evidence(Letter::Staged)
        };
        let known = weigh(&without, &ChunkKeys::tag()).expect("sound");
        assert_eq!(known.key, ChunkKey::of_tag(Tag::new("own")));
        assert!(!known.by_own_meta, "they are written again");
    }

    #[test]
    fn the_metadata_of_the_other_letter_survive_a_crash_between_two_renames() {
        for own in [None, Some(Err(Damaged::NoMap))] {
            let between = Evidence {
                own,
                other: Some(Ok(meta("other"))),
                side: Some(meta("other")),
                ..evidence(Letter::Queued)
            };
            assert_eq!(tag(&between).as_deref(), Ok("other"));
        }
    }

    #[test]
    fn damaged_metadata_are_replaced_from_the_side_file_or_the_chunk_is_broken() {
        for (letter, broken) in [
            (Letter::Staged, Broken::StagedMeta(Damaged::Id)),
            (Letter::Queued, Broken::QueuedMeta(Damaged::Id)),
        ] {
            let mut damaged = Evidence {
                own: Some(Err(Damaged::Id)),
                other: Some(Err(Damaged::NoMap)),
                ..evidence(letter)
            };
            assert_eq!(tag(&damaged), Err(broken));
            damaged.side = Some(meta("side"));
            assert_eq!(tag(&damaged).as_deref(), Ok("side"));
        }
    }

    #[test]
    fn without_metadata_only_a_name_with_a_key_tells_the_tag() {
        let mut nothing = Evidence {
            own: None,
            ..evidence(Letter::Staged)
        };
        assert_eq!(tag(&nothing), Err(Broken::NoMeta));
        nothing.named = Some("app.access".into());
        assert_eq!(tag(&nothing).as_deref(), Ok("app.access"));
    }

    #[test]
    fn a_name_of_v0_12_tells_the_slice_where_chunks_are_cut_by_time() {
        let keys = ChunkKeys {
            time: Some(Timekey::new(86_400, TimeZone::UTC)),
            ..ChunkKeys::default()
        };
        for (name, slice) in [
            ("20240101", 1_704_067_200),
            ("2024-01-01_1530", 1_704_067_200),
            ("app.access", 0),
        ] {
            let old = Evidence {
                own: None,
                named: Some(name.to_owned()),
                ..evidence(Letter::Staged)
            };
            let key = weigh(&old, &keys).expect("taken").key;
            assert_eq!((key.timekey, key.tag.as_str()), (Some(slice), ""), "{name}");
        }
    }

    #[test]
    fn without_chunk_keys_a_chunk_goes_on_without_metadata() {
        for own in [None, Some(Err(Damaged::NoMap))] {
            let bare = Evidence {
                own,
                ..evidence(Letter::Queued)
            };
            let known = weigh(&bare, &ChunkKeys::default()).expect("taken");
            assert!(!known.key.by_tag && !known.by_own_meta);
            assert!(weigh(&bare, &ChunkKeys::tag()).is_err());
        }
    }

    #[test]
    fn a_tag_that_is_no_chunk_key_comes_from_the_side_file() {
        let own = Meta {
            tag: None,
            timekey: Some(3600),
            ..meta("")
        };
        let sliced = Evidence {
            own: Some(Ok(own)),
            side: Some(Meta {
                timekey: Some(3600),
                ..meta("side")
            }),
            ..evidence(Letter::Queued)
        };
        let known = weigh(&sliced, &ChunkKeys::default()).expect("sound");
        assert_eq!(known.key.tag.as_str(), "side");
        assert!(!known.key.by_tag);
        assert_eq!(known.key.timekey, Some(3600));
    }
}
