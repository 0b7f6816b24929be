//! `NAME.meta`: what a chunk's events have in common, as Fluentd writes it. Pure.
//!
//! ```text
//! 0     c1 00                         magic
//! 2     uint32, big-endian            length of the map
//! 6     MessagePack map               timekey tag variables seq id s c m
//! 6+L   rest of an earlier, longer map: Fluentd writes in place and does not truncate
//! ```
//!
//! Older Fluentds wrote the bare map; it is read, too. Reading is as strict as Fluentd 1.19: what 1.18 takes as a chunk without a tag
//! is damaged, since its lines could go nowhere.

use crate::buffer::{ChunkId, ChunkKey, Variable};
use crate::event::Tag;
use crate::event::msgpack::{
    read_map_header, read_text, skip_value, write_bin, write_int, write_map_header, write_str,
    write_uint,
};

const MAGIC: [u8; 2] = [0xc1, 0x00];
const NIL: u8 = 0xc0;
/// No metadata are longer: a damaged length allocates nothing.
pub const MOST_BYTES: usize = 1 << 20;

/// The content of a `.meta` file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Meta {
    /// Unix second in which the chunk's time slice begins.
    pub timekey: Option<i64>,
    /// The tag, where it is a chunk key.
    pub tag: Option<String>,
    /// Chunk keys that are record fields, each with its MessagePack value.
    pub variables: Option<Vec<(String, Vec<u8>)>>,
    /// 0, but for the parts of one very large emit of Fluentd's.
    pub seq: i64,
    /// The chunk's id.
    pub id: ChunkId,
    /// Events in it when this was written.
    pub records: u64,
    /// When it was created, Unix seconds.
    pub created: i64,
    /// When it was written to, Unix seconds.
    pub modified: i64,
}

/// Why a `.meta` file is damaged.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Damaged {
    /// No map, or one that is cut.
    #[error("invalid meta data")]
    NoMap,
    /// No id of sixteen bytes.
    #[error("invalid unique_id")]
    Id,
    /// The event count is no number.
    #[error("invalid size")]
    Size,
    /// A time is no number.
    #[error("invalid created_at or modified_at")]
    Times,
    /// Tag, timekey or variables have another type.
    #[error("invalid chunk keys")]
    Keys,
}

impl Meta {
    /// Those of a chunk: the tag only where it is a chunk key.
    pub fn of(key: &ChunkKey, id: ChunkId, records: u64, created: i64, modified: i64) -> Meta {
        let variable = |each: &Variable| (each.key.to_string(), each.value.to_vec());
        Meta {
            timekey: key.timekey,
            tag: key.metadata_tag().map(Tag::to_string),
            variables: (key.variables.as_ref()).map(|all| all.iter().map(variable).collect()),
            seq: 0,
            id,
            records,
            created,
            modified,
        }
    }

    /// Those for the side file of a new chunk: always with the tag.
    pub fn beside(key: &ChunkKey, id: ChunkId, created: i64) -> Meta {
        Meta {
            tag: Some(key.tag.to_string()),
            ..Meta::of(key, id, 0, created, created)
        }
    }

    /// The bytes of the file.
    pub fn encode(&self) -> Vec<u8> {
        let map = self.encode_map();
        let mut out = MAGIC.to_vec();
        out.extend_from_slice(&(map.len() as u32).to_be_bytes());
        out.extend_from_slice(&map);
        out
    }

    fn encode_map(&self) -> Vec<u8> {
        let mut out = vec![0x88];
        write_str(&mut out, b"timekey");
        match self.timekey {
            Some(timekey) => write_int(&mut out, timekey),
            None => out.push(NIL),
        }
        write_str(&mut out, b"tag");
        match &self.tag {
            Some(tag) => write_str(&mut out, tag.as_bytes()),
            None => out.push(NIL),
        }
        write_str(&mut out, b"variables");
        match &self.variables {
            Some(variables) => {
                write_map_header(&mut out, variables.len());
                for (key, value) in variables {
                    write_str(&mut out, key.as_bytes());
                    out.extend_from_slice(value);
                }
            }
            None => out.push(NIL),
        }
        write_str(&mut out, b"seq");
        write_int(&mut out, self.seq);
        write_str(&mut out, b"id");
        write_bin(&mut out, &self.id.to_bytes());
        write_str(&mut out, b"s");
        write_uint(&mut out, self.records);
        for (key, time) in [(b"c", self.created), (b"m", self.modified)] {
            write_str(&mut out, key);
            write_int(&mut out, time);
        }
        out
    }

    /// Reads the file.
    pub fn decode(bytes: &[u8]) -> Result<Meta, Damaged> {
        let map = match bytes {
            [0xc1, 0x00, a, b, c, d, rest @ ..] => {
                let len = u32::from_be_bytes([*a, *b, *c, *d]) as usize;
                rest.get(..len).ok_or(Damaged::NoMap)?
            }
            bare => bare,
        };
        let (mut at, pairs) = read_map_header(map).ok().flatten().ok_or(Damaged::NoMap)?;
        let mut fields = Fields::default();
        for _ in 0..pairs {
            let (key, len) = read_text(&map[at..]).ok().flatten().ok_or(Damaged::NoMap)?;
            at += len;
            let len = skip_value(map.get(at..).unwrap_or(&[])).map_err(|_| Damaged::NoMap)?;
            fields.take(key, &map[at..at + len]);
            at += len;
        }
        fields.meta()
    }
}

#[derive(Default)]
struct Fields<'a> {
    timekey: Option<&'a [u8]>,
    tag: Option<&'a [u8]>,
    variables: Option<&'a [u8]>,
    seq: Option<&'a [u8]>,
    id: Option<&'a [u8]>,
    records: Option<&'a [u8]>,
    created: Option<&'a [u8]>,
    modified: Option<&'a [u8]>,
}

impl<'a> Fields<'a> {
    fn take(&mut self, key: &[u8], value: &'a [u8]) {
        let place = match key {
            b"timekey" => &mut self.timekey,
            b"tag" => &mut self.tag,
            b"variables" => &mut self.variables,
            b"seq" => &mut self.seq,
            b"id" => &mut self.id,
            b"s" => &mut self.records,
            b"c" => &mut self.created,
            b"m" => &mut self.modified,
            _ => return,
        };
        *place = Some(value).filter(|value| **value != [NIL]);
    }

    fn meta(self) -> Result<Meta, Damaged> {
        let id = self.id.and_then(text).ok_or(Damaged::Id)?;
        let records = self.records.and_then(integer).ok_or(Damaged::Size)?;
        let time = |value: Option<&[u8]>| value.and_then(integer).ok_or(Damaged::Times);
        let word = |value: &[u8]| {
            let bytes = text(value).ok_or(Damaged::Keys)?;
            String::from_utf8(bytes.to_vec()).map_err(|_| Damaged::Keys)
        };
        let number = |value: &[u8]| integer(value).ok_or(Damaged::Keys);
        Ok(Meta {
            timekey: self.timekey.map(number).transpose()?,
            tag: self.tag.map(word).transpose()?,
            variables: self.variables.map(variables).transpose()?,
            seq: self.seq.map(number).transpose()?.unwrap_or(0),
            id: ChunkId::from_bytes(id.try_into().map_err(|_| Damaged::Id)?),
            records: u64::try_from(records).map_err(|_| Damaged::Size)?,
            created: time(self.created)?,
            modified: time(self.modified)?,
        })
    }
}

fn text(value: &[u8]) -> Option<&[u8]> {
    read_text(value).ok().flatten().map(|(text, _)| text)
}

fn integer(mut value: &[u8]) -> Option<i64> {
    rmp::decode::read_int(&mut value).ok()
}

fn variables(map: &[u8]) -> Result<Vec<(String, Vec<u8>)>, Damaged> {
    let (mut at, pairs) = read_map_header(map).ok().flatten().ok_or(Damaged::Keys)?;
    let mut found = Vec::new();
    for _ in 0..pairs {
        let (key, len) = read_text(&map[at..]).ok().flatten().ok_or(Damaged::Keys)?;
        at += len;
        let len = skip_value(&map[at..]).map_err(|_| Damaged::Keys)?;
        let key = String::from_utf8(key.to_vec()).map_err(|_| Damaged::Keys)?;
        found.push((key, map[at..at + len].to_vec()));
        at += len;
    }
    Ok(found)
}

#[cfg(test)]
#[path = "meta_tests.rs"]
mod tests;
