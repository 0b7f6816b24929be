//! Chunk keys: what the events of one chunk have in common, and how a batch is split by them. Pure.
//!
//! `<buffer tag, time, host, $.kubernetes.pod>` names them. The tag is part of every [`ChunkKey`] even where it is not configured: a chunk
//! holds entries and not formatted lines, so its tag must stay known for any output to take it.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use jiff::Timestamp;
use jiff::civil::DateTime;
use jiff::tz::TimeZone;

use crate::event::accessor::{Accessor, Found};
use crate::event::msgpack::{self, entries, read_text, skip_value};
use crate::event::{EventStream, Tag};

/// Nil, in MessagePack: the value of a field that a record does not have.
const NIL: &[u8] = &[0xc0];

/// What the events of one chunk have in common: Fluentd's metadata, and the tag.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct ChunkKey {
    /// The tag of its events. Always set.
    pub tag: Tag,
    /// Whether `tag` is a chunk key. Fluentd's metadata carry the tag only then: [`ChunkKey::metadata_tag`].
    pub by_tag: bool,
    /// The second in which its time slice begins (Unix); `None` without the chunk key `time`.
    pub timekey: Option<i64>,
    /// The record fields of its chunk keys, in their configured order; `None` without such keys.
    pub variables: Option<Arc<[Variable]>>,
}

/// One record field of a [`ChunkKey`].
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Variable {
    /// The chunk key as it is configured: `host`, `$.kubernetes.pod`.
    pub key: Arc<str>,
    /// The value, MessagePack-encoded; text always as str. Nil where the record has no such field.
    pub value: Box<[u8]>,
}

impl ChunkKey {
    /// The key of a buffer that has only `tag`.
    pub fn of_tag(tag: Tag) -> ChunkKey {
        ChunkKey {
            tag,
            by_tag: true,
            timekey: None,
            variables: None,
        }
    }

    /// The tag as Fluentd's metadata carry it: none where `tag` is not a chunk key.
    pub fn metadata_tag(&self) -> Option<&Tag> {
        self.by_tag.then_some(&self.tag)
    }
}

/// The chunk keys of a buffer. The default is none.
#[derive(Clone, Debug, Default)]
pub struct ChunkKeys {
    /// Whether `tag` is one.
    pub tag: bool,
    /// `time`, with the length of a slice.
    pub time: Option<Timekey>,
    /// Record fields.
    pub fields: Vec<KeyField>,
}

/// A record field as chunk key.
#[derive(Clone, Debug)]
pub struct KeyField {
    /// As it is configured.
    pub key: Arc<str>,
    /// Where it is in a record.
    pub accessor: Accessor,
}

impl ChunkKeys {
    /// Only `tag`: out_forward's default.
    pub fn tag() -> ChunkKeys {
        ChunkKeys {
            tag: true,
            ..ChunkKeys::default()
        }
    }

    /// Parts of a batch by the chunk that they belong to, in the order of their first events. A receipt covers the whole batch: each part
    /// holds a clone.
    ///
    /// Without time and field keys the batch is not looked into and its bytes move as they are, and so they do where all events have the
    /// same key. Otherwise the bytes of a part are copied together once, so that no part keeps its neighbours' memory.
    pub fn split(&self, stream: EventStream) -> Vec<(ChunkKey, EventStream)> {
        if self.time.is_none() && self.fields.is_empty() {
            let key = self.key(stream.tag.clone(), &[]);
            return vec![(key, stream)];
        }
        let mut groups = Groups::default();
        let mut discriminant = Discriminant::new(self);
        let mut at = 0;
        for entry in entries(&stream.entries) {
            let Ok(entry) = entry else { break };
            discriminant.read(entry.time.sec, entry.record);
            at += entry.bytes.len();
            groups.add(&discriminant.bytes, at);
        }
        if at < stream.entries.len() {
            // What cannot be read stays with what came before it: whoever decodes it will say so.
            groups.add_rest(&discriminant.nothing(), stream.entries.len(), stream.count);
        }
        groups.cut(self, stream)
    }

    /// The key of these values, as [`Discriminant`] has them.
    fn key(&self, tag: Tag, values: &[u8]) -> ChunkKey {
        let mut rest = values;
        let timekey = self.time.as_ref().and_then(|_| {
            let (sec, behind) = rest.split_first_chunk::<8>()?;
            rest = behind;
            Some(i64::from_be_bytes(*sec))
        });
        let mut variable = |field: &KeyField| {
            let (value, behind) = rest.split_at(skip_value(rest).unwrap_or(rest.len()));
            rest = behind;
            Variable {
                key: field.key.clone(),
                value: value.into(),
            }
        };
        let variables = (!self.fields.is_empty()).then(|| self.fields.iter().map(&mut variable));
        ChunkKey {
            tag,
            by_tag: self.tag,
            timekey,
            variables: variables.map(Iterator::collect),
        }
    }
}

/// What tells one event's chunk from another's: `timekey (8 bytes, big-endian) | value | value …`
struct Discriminant<'a> {
    keys: &'a ChunkKeys,
    bytes: Vec<u8>,
    last: Option<(u32, i64)>,
}

impl<'a> Discriminant<'a> {
    fn new(keys: &'a ChunkKeys) -> Discriminant<'a> {
        Discriminant {
            keys,
            bytes: Vec::new(),
            last: None,
        }
    }

    fn read(&mut self, sec: u32, record: &[u8]) {
        self.bytes.clear();
        if let Some(timekey) = &self.keys.time {
            // Lines of one read mostly share their second, and the zone's offset costs more than the rest.
            let start = match self.last {
                Some((last, start)) if last == sec => start,
                _ => timekey.start_of(i64::from(sec)),
            };
            self.last = Some((sec, start));
            self.bytes.extend_from_slice(&start.to_be_bytes());
        }
        for field in &self.keys.fields {
            let value = match field.accessor.find(record) {
                Found::Value(value) => value,
                Found::Missing | Found::NoParts => NIL,
            };
            append_value(value, &mut self.bytes);
        }
    }

    /// Of bytes that are no event: the slice of the last event and no fields.
    fn nothing(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        if self.keys.time.is_some() {
            let start = self.last.map_or(0, |(_, start)| start);
            bytes.extend_from_slice(&start.to_be_bytes());
        }
        self.keys
            .fields
            .iter()
            .for_each(|_| bytes.extend_from_slice(NIL));
        bytes
    }
}

/// Text is one value whether it came as str or as bin: to Ruby, both are strings.
fn append_value(value: &[u8], out: &mut Vec<u8>) {
    match read_text(value) {
        Ok(Some((text, _))) => msgpack::write_str(out, text),
        _ => out.extend_from_slice(value),
    }
}

#[derive(Default)]
struct Groups {
    groups: Vec<Group>,
    known: HashMap<Vec<u8>, usize>,
    /// Which group the bytes up to an end belong to.
    runs: Vec<(usize, usize)>,
    seen: usize,
}

#[derive(Default)]
struct Group {
    values: Vec<u8>,
    bytes: usize,
    count: usize,
}

impl Groups {
    /// The entry that ends there has these values.
    fn add(&mut self, values: &[u8], end: usize) {
        self.extend(values, end, 1);
    }

    /// Bytes up to `end` that are no entries; `count` events are in the whole batch.
    fn add_rest(&mut self, values: &[u8], end: usize, count: usize) {
        self.extend(values, end, count.saturating_sub(self.seen));
    }

    fn extend(&mut self, values: &[u8], end: usize, count: usize) {
        let begin = self.runs.last().map_or(0, |(_, end)| *end);
        let at = match self.runs.last() {
            Some((last, _)) if self.groups[*last].values == values => *last,
            _ => self.find(values),
        };
        match self.runs.last_mut() {
            Some((last, run_end)) if *last == at => *run_end = end,
            _ => self.runs.push((at, end)),
        }
        self.groups[at].bytes += end - begin;
        self.groups[at].count += count;
        self.seen += count;
    }

    fn find(&mut self, values: &[u8]) -> usize {
        if let Some(at) = self.known.get(values) {
            return *at;
        }
        self.known.insert(values.to_vec(), self.groups.len());
        self.groups.push(Group {
            values: values.to_vec(),
            ..Group::default()
        });
        self.groups.len() - 1
    }

    fn cut(self, keys: &ChunkKeys, stream: EventStream) -> Vec<(ChunkKey, EventStream)> {
        let key = |group: &Group| keys.key(stream.tag.clone(), &group.values);
        if let [only] = &self.groups[..] {
            return vec![(key(only), stream)];
        }
        let sized = |group: &Group| BytesMut::with_capacity(group.bytes);
        let mut parts: Vec<BytesMut> = self.groups.iter().map(sized).collect();
        let mut begin = 0;
        for (at, end) in &self.runs {
            parts[*at].extend_from_slice(&stream.entries[begin..*end]);
            begin = *end;
        }
        let parts: Vec<_> = self
            .groups
            .iter()
            .zip(parts)
            .map(|(group, bytes)| {
                let part = EventStream {
                    tag: stream.tag.clone(),
                    entries: Bytes::from(bytes),
                    count: group.count,
                    receipt: stream.receipt.clone(),
                };
                (key(group), part)
            })
            .collect();
        // The parts owe the batch now.
        stream.receipt.release();
        parts
    }
}

/// The chunk key `time`: slices of equal length, cut at multiples of it in local time, as Fluentd cuts them.
#[derive(Clone, Debug, PartialEq)]
pub struct Timekey {
    length: i64,
    zone: TimeZone,
}

impl Timekey {
    /// Slices of `seconds`, at least 1.
    pub fn new(seconds: u32, zone: TimeZone) -> Timekey {
        let length = i64::from(seconds.max(1));
        Timekey { length, zone }
    }

    /// The length of a slice.
    pub fn length(&self) -> Duration {
        Duration::from_secs(self.length.unsigned_abs())
    }

    /// The zone that slices are cut and named in.
    pub fn zone(&self) -> &TimeZone {
        &self.zone
    }

    /// The second in which the slice begins that a file name of v0.12 names: year, month, day, and what more there is of a time.
    pub fn named(&self, text: &str) -> Option<i64> {
        let digits: String = text.chars().filter(char::is_ascii_digit).collect();
        let part = |at: usize| {
            digits
                .get(at..at + 2)
                .map_or(Some(0), |two| two.parse().ok())
        };
        let year = digits.get(..4)?.parse().ok()?;
        let (month, day) = (
            digits.get(4..6)?.parse().ok()?,
            digits.get(6..8)?.parse().ok()?,
        );
        let begin = DateTime::new(year, month, day, part(8)?, part(10)?, part(12)?, 0).ok()?;
        let begin = begin.to_zoned(self.zone.clone()).ok()?;
        Some(self.start_of(begin.timestamp().as_second()))
    }

    /// The second in which the slice of `sec` begins.
    pub fn start_of(&self, sec: i64) -> i64 {
        let at = Timestamp::from_second(sec).unwrap_or(Timestamp::UNIX_EPOCH);
        let offset = i64::from(self.zone.to_offset(at).seconds());
        sec - (sec + offset).rem_euclid(self.length)
    }
}

#[cfg(test)]
#[path = "keys_tests.rs"]
mod tests;
