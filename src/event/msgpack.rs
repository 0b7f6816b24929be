//! Entries `[time, record]` to bytes and back: the chunk format and the wire format.
//!
//! ```text
//! entry   92  d7 00 SSSSSSSS NNNNNNNN  8x key value …        (fixext8 EventTime, record map)
//! ```
//!
//! Writers append to one growing buffer: nothing is allocated per line and nothing is encoded twice. Readers skip values
//! without decoding them. Both are ours because they are the hot path; the typed protocol messages use `rmp-serde`.

use bytes::Bytes;

use super::time::EventTime;

/// What Ruby would know about the texts of a batch, which decides their MessagePack type.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Label {
    /// Bytes of unknown encoding: bin.
    #[default]
    Bytes,
    /// UTF-8: str.
    Text,
}

/// A batch under construction: whole entries, one after the other, in the smallest encoding.
#[derive(Debug, Default)]
pub struct Entries {
    bytes: Vec<u8>,
    count: usize,
    label: Label,
}

impl Entries {
    /// An empty batch with room for `capacity` bytes.
    pub fn with_capacity(capacity: usize) -> Entries {
        Entries {
            bytes: Vec::with_capacity(capacity),
            ..Entries::default()
        }
    }

    /// The same batch with its texts labelled: for an empty one.
    pub fn labelled(self, label: Label) -> Entries {
        Entries { label, ..self }
    }

    /// How many entries are in it.
    pub fn count(&self) -> usize {
        self.count
    }

    /// How many bytes are in it.
    pub fn len(&self) -> usize {
        self.bytes.len()
    }

    /// Whether it holds no entry.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Begins an entry. Fields go through the returned writer; [`MapWriter::finish`] completes the entry, dropping the
    /// writer instead takes the whole entry back.
    pub fn begin(&mut self, time: EventTime) -> MapWriter<'_> {
        let start = self.bytes.len();
        self.bytes.push(0x92);
        self.bytes.extend_from_slice(&time.to_bytes());
        let head = self.bytes.len();
        self.bytes.push(0x80);
        MapWriter {
            entries: self,
            start,
            head,
            fields: 0,
            finished: false,
        }
    }

    /// Appends the entry `[time, {key: value}]`, the value as the label says, in one go: the `none` parser's whole job. `prefix` comes from
    /// [`single_field_prefix`] and is shared by all lines of a read.
    #[inline]
    pub fn push_single(&mut self, prefix: &[u8], value: &[u8]) {
        self.bytes.reserve(prefix.len() + value.len() + 5);
        self.bytes.extend_from_slice(prefix);
        write_labelled(&mut self.bytes, self.label, value);
        self.count += 1;
    }

    /// Appends an entry that is already encoded: what a filter passes through.
    pub fn push_raw(&mut self, entry: &[u8]) {
        self.bytes.extend_from_slice(entry);
        self.count += 1;
    }

    /// The finished batch.
    pub fn freeze(self) -> (Bytes, usize) {
        (Bytes::from(self.bytes), self.count)
    }
}

/// Everything of `[time, {key: …}]` before the value.
pub fn single_field_prefix(time: EventTime, key: &str) -> Vec<u8> {
    let mut prefix = vec![0x92];
    prefix.extend_from_slice(&time.to_bytes());
    prefix.push(0x81);
    write_str(&mut prefix, key.as_bytes());
    prefix
}

/// Writes the record of one entry, field by field.
#[derive(Debug)]
pub struct MapWriter<'a> {
    entries: &'a mut Entries,
    start: usize,
    head: usize,
    fields: usize,
    finished: bool,
}

impl MapWriter<'_> {
    /// The buffer, positioned behind what was written: for a value that is written in pieces (JSON) after
    /// [`MapWriter::key`]. Only append whole values.
    pub fn buffer(&mut self) -> &mut Vec<u8> {
        &mut self.entries.bytes
    }

    /// A key, as MessagePack str. Exactly one value must follow.
    pub fn key(&mut self, key: &[u8]) -> &mut Vec<u8> {
        self.fields += 1;
        write_str(&mut self.entries.bytes, key);
        &mut self.entries.bytes
    }

    /// A field whose value is text (MessagePack str).
    pub fn str(&mut self, key: &str, value: &[u8]) {
        write_str(self.key(key.as_bytes()), value);
    }

    /// A field whose value is tailed text: bin, or str where the batch is labelled so.
    pub fn bin(&mut self, key: &str, value: &[u8]) {
        let label = self.entries.label;
        write_labelled(self.key(key.as_bytes()), label, value);
    }

    /// Tailed text in the place of a key or a value, as [`MapWriter::bin`] writes it.
    #[inline]
    pub fn text(&mut self, text: &[u8]) {
        write_labelled(&mut self.entries.bytes, self.entries.label, text);
    }

    /// A field that is nil.
    pub fn nil(&mut self, key: &str) {
        self.key(key.as_bytes()).push(0xc0);
    }

    /// A field whose value is already encoded.
    pub fn raw(&mut self, key: &str, value: &[u8]) {
        self.key(key.as_bytes()).extend_from_slice(value);
    }

    /// Counts fields whose key and value were appended to [`MapWriter::buffer`] directly.
    pub fn count_fields(&mut self, fields: usize) {
        self.fields += fields;
    }

    /// Completes the entry.
    pub fn finish(mut self) {
        let (head, fields) = (self.head, self.fields);
        let bytes = &mut self.entries.bytes;
        if let Ok(small) = u8::try_from(fields)
            && small < 16
        {
            bytes[head] = 0x80 | small;
        } else {
            // Rare: more than fifteen fields. The two or four length bytes are put in front of the fields afterwards.
            let mut long = Vec::with_capacity(5);
            write_map_header(&mut long, fields);
            bytes.splice(head..=head, long);
        }
        self.entries.count += 1;
        self.finished = true;
    }
}

impl Drop for MapWriter<'_> {
    fn drop(&mut self) {
        if !self.finished {
            self.entries.bytes.truncate(self.start);
        }
    }
}

/// Appends a map header for `len` pairs.
pub fn write_map_header(out: &mut Vec<u8>, len: usize) {
    match len {
        0..16 => out.push(0x80 | len as u8),
        16..0x1_0000 => {
            out.push(0xde);
            out.extend_from_slice(&(len as u16).to_be_bytes());
        }
        _ => {
            out.push(0xdf);
            out.extend_from_slice(&(len as u32).to_be_bytes());
        }
    }
}

/// Appends an array header for `len` items.
pub fn write_array_header(out: &mut Vec<u8>, len: usize) {
    match len {
        0..16 => out.push(0x90 | len as u8),
        16..0x1_0000 => {
            out.push(0xdc);
            out.extend_from_slice(&(len as u16).to_be_bytes());
        }
        _ => {
            out.push(0xdd);
            out.extend_from_slice(&(len as u32).to_be_bytes());
        }
    }
}

/// Appends text as MessagePack str. Invalid UTF-8 is passed on as it is, as Ruby does.
#[inline]
pub fn write_str(out: &mut Vec<u8>, text: &[u8]) {
    match text.len() {
        len @ 0..32 => out.push(0xa0 | len as u8),
        len @ 32..0x100 => out.extend_from_slice(&[0xd9, len as u8]),
        len @ 0x100..0x1_0000 => {
            out.push(0xda);
            out.extend_from_slice(&(len as u16).to_be_bytes());
        }
        len => {
            out.push(0xdb);
            out.extend_from_slice(&(len as u32).to_be_bytes());
        }
    }
    out.extend_from_slice(text);
}

/// Appends bytes as MessagePack bin.
#[inline]
pub fn write_bin(out: &mut Vec<u8>, bytes: &[u8]) {
    match bytes.len() {
        len @ 0..0x100 => out.extend_from_slice(&[0xc4, len as u8]),
        len @ 0x100..0x1_0000 => {
            out.push(0xc5);
            out.extend_from_slice(&(len as u16).to_be_bytes());
        }
        len => {
            out.push(0xc6);
            out.extend_from_slice(&(len as u32).to_be_bytes());
        }
    }
    out.extend_from_slice(bytes);
}

/// Appends tailed text as its label says.
#[inline]
pub fn write_labelled(out: &mut Vec<u8>, label: Label, text: &[u8]) {
    match label {
        Label::Bytes => write_bin(out, text),
        Label::Text => write_str(out, text),
    }
}

/// Appends an integer in its smallest form.
pub fn write_int(out: &mut Vec<u8>, value: i64) {
    rmp::encode::write_sint(out, value).expect("writing to memory cannot fail");
}

/// Appends an unsigned integer in its smallest form.
pub fn write_uint(out: &mut Vec<u8>, value: u64) {
    rmp::encode::write_uint(out, value).expect("writing to memory cannot fail");
}

/// Appends a 64-bit float.
pub fn write_f64(out: &mut Vec<u8>, value: f64) {
    out.push(0xcb);
    out.extend_from_slice(&value.to_be_bytes());
}

/// Appends a boolean.
pub fn write_bool(out: &mut Vec<u8>, value: bool) {
    out.push(if value { 0xc3 } else { 0xc2 });
}

/// Why bytes are not a MessagePack value.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Malformed {
    /// The value continues behind the end of the input: more bytes may complete it.
    #[error("the value is cut off")]
    Truncated,
    /// No MessagePack value begins like this, or it is nested deeper than [`MAX_DEPTH`].
    #[error("not MessagePack, or nested too deeply")]
    Invalid,
}

/// How deep arrays and maps may nest before a value is refused: the skipper must not recurse at a peer's wish.
pub const MAX_DEPTH: usize = 128;

/// The length of the value at the head of `bytes`.
pub fn skip_value(bytes: &[u8]) -> Result<usize, Malformed> {
    skip_nested(bytes, 0)
}

fn skip_nested(bytes: &[u8], depth: usize) -> Result<usize, Malformed> {
    if depth > MAX_DEPTH {
        return Err(Malformed::Invalid);
    }
    let head = *bytes.first().ok_or(Malformed::Truncated)?;
    let sized =
        |extra: usize, width: usize| length(bytes, width).map(|len| 1 + width + extra + len);
    let end = match head {
        0x00..=0x7f | 0xe0..=0xff | 0xc0 | 0xc2 | 0xc3 => 1,
        0xa0..=0xbf => 1 + usize::from(head & 0x1f),
        0xc4 | 0xd9 => sized(0, 1)?,
        0xc5 | 0xda => sized(0, 2)?,
        0xc6 | 0xdb => sized(0, 4)?,
        0xc7 => sized(1, 1)?,
        0xc8 => sized(1, 2)?,
        0xc9 => sized(1, 4)?,
        0xcc | 0xd0 => 2,
        0xcd | 0xd1 => 3,
        0xca | 0xce | 0xd2 => 5,
        0xcb | 0xcf | 0xd3 => 9,
        0xd4 => 3,
        0xd5 => 4,
        0xd6 => 6,
        0xd7 => 10,
        0xd8 => 18,
        0x80..=0x8f => return skip_items(bytes, 1, 2 * usize::from(head & 0x0f), depth),
        0x90..=0x9f => return skip_items(bytes, 1, usize::from(head & 0x0f), depth),
        0xdc => return skip_items(bytes, 3, length(bytes, 2)?, depth),
        0xdd => return skip_items(bytes, 5, length(bytes, 4)?, depth),
        0xde => return skip_items(bytes, 3, 2 * length(bytes, 2)?, depth),
        0xdf => return skip_items(bytes, 5, 2 * length(bytes, 4)?, depth),
        0xc1 => return Err(Malformed::Invalid),
    };
    if end <= bytes.len() {
        Ok(end)
    } else {
        Err(Malformed::Truncated)
    }
}

fn skip_items(bytes: &[u8], mut at: usize, items: usize, depth: usize) -> Result<usize, Malformed> {
    for _ in 0..items {
        at += skip_nested(bytes.get(at..).ok_or(Malformed::Truncated)?, depth + 1)?;
    }
    Ok(at)
}

fn length(bytes: &[u8], width: usize) -> Result<usize, Malformed> {
    let digits = bytes.get(1..=width).ok_or(Malformed::Truncated)?;
    Ok(digits
        .iter()
        .fold(0, |len, byte| len << 8 | usize::from(*byte)))
}

/// The text or bytes of the str or bin value at the head of `bytes`, and the value's whole length; `None` for any other
/// type.
pub fn read_text(bytes: &[u8]) -> Result<Option<(&[u8], usize)>, Malformed> {
    let head = *bytes.first().ok_or(Malformed::Truncated)?;
    let (start, len) = match head {
        0xa0..=0xbf => (1, usize::from(head & 0x1f)),
        0xc4 | 0xd9 => (2, length(bytes, 1)?),
        0xc5 | 0xda => (3, length(bytes, 2)?),
        0xc6 | 0xdb => (5, length(bytes, 4)?),
        _ => return Ok(None),
    };
    let text = bytes.get(start..start + len).ok_or(Malformed::Truncated)?;
    Ok(Some((text, start + len)))
}

/// Head length and number of pairs of the map at the head of `bytes`; `None` for any other type.
pub fn read_map_header(bytes: &[u8]) -> Result<Option<(usize, usize)>, Malformed> {
    Ok(match *bytes.first().ok_or(Malformed::Truncated)? {
        head @ 0x80..=0x8f => Some((1, usize::from(head & 0x0f))),
        0xde => Some((3, length(bytes, 2)?)),
        0xdf => Some((5, length(bytes, 4)?)),
        _ => None,
    })
}

/// One entry of a chunk, undecoded.
#[derive(Clone, Copy, Debug)]
pub struct RawEntry<'a> {
    /// The whole entry.
    pub bytes: &'a [u8],
    /// Its time, whichever way it was written.
    pub time: EventTime,
    /// The encoded record (a map).
    pub record: &'a [u8],
}

/// Walks the entries of a batch. Ends at the first malformed entry, which it yields as an error.
pub fn entries(bytes: &[u8]) -> impl Iterator<Item = Result<RawEntry<'_>, Malformed>> {
    let mut rest = bytes;
    std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        let entry = read_entry(rest);
        rest = entry
            .as_ref()
            .map_or(&[][..], |entry| &rest[entry.bytes.len()..]);
        Some(entry)
    })
}

fn read_entry(bytes: &[u8]) -> Result<RawEntry<'_>, Malformed> {
    let len = skip_value(bytes)?;
    let whole = &bytes[..len];
    if whole[0] != 0x92 {
        return Err(Malformed::Invalid);
    }
    let time_len = skip_value(&whole[1..])?;
    let record = &whole[1 + time_len..];
    read_map_header(record)?.ok_or(Malformed::Invalid)?;
    Ok(RawEntry {
        bytes: whole,
        time: read_time(&whole[1..=time_len])?,
        record,
    })
}

/// The time at the head of `bytes`: EventTime as fixext8 or ext8, or an integer number of seconds, or a float.
pub fn read_time(bytes: &[u8]) -> Result<EventTime, Malformed> {
    let word = |at: usize| -> Result<u32, Malformed> {
        let four: [u8; 4] = bytes
            .get(at..at + 4)
            .and_then(|b| b.try_into().ok())
            .ok_or(Malformed::Truncated)?;
        Ok(u32::from_be_bytes(four))
    };
    match bytes {
        [0xd7, 0x00, ..] => Ok(EventTime {
            sec: word(2)?,
            nsec: word(6)?,
        }),
        [0xc7, 0x08, 0x00, ..] => Ok(EventTime {
            sec: word(3)?,
            nsec: word(7)?,
        }),
        [0xcb, ..] => {
            let eight: [u8; 8] = bytes
                .get(1..9)
                .and_then(|b| b.try_into().ok())
                .ok_or(Malformed::Truncated)?;
            let seconds = f64::from_be_bytes(eight).max(0.0);
            Ok(EventTime {
                sec: seconds as u32,
                nsec: (seconds.fract() * 1e9) as u32,
            })
        }
        _ => {
            let mut cursor = bytes;
            let sec: i64 = rmp::decode::read_int(&mut cursor).map_err(|_| Malformed::Invalid)?;
            Ok(EventTime {
                sec: u32::try_from(sec).unwrap_or(0),
                nsec: 0,
            })
        }
    }
}

#[cfg(test)]
#[path = "msgpack_tests.rs"]
mod tests;
