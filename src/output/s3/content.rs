//! A chunk as the content of one object. Pure.
//!
//! ```text
//! json     one line per event: {"time":"2026-03-01T09:15:42.118000000Z","tag":"app.access","record":{…}}
//!          (what a Fluentd has formatted, as it stands)
//! msgpack  the chunk's entries as they are: [EventTime, record] …, what a forward server would have received
//! ```
//!
//! Whoever opens a JSON object at 3 a.m. needs `zcat` and `jq -r .record.message`. Fluentd's tailed lines are bytes without an
//! encoding: what is not UTF-8 becomes `{"text": "with replacement characters", "base64": "…"}`, so that no byte is lost.

use std::io::{self, Write};

use anyhow::{Result, bail};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use flate2::Compression;
use flate2::write::GzEncoder;
use jiff::Timestamp;
use rmp::Marker;
use serde::Deserialize;

use crate::event::{EventTime, formatted, msgpack};

/// How deep a record may nest before it is refused.
const DEPTH: usize = 100;

/// What an object's lines look like.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Format {
    /// One JSON line per event, for readers.
    #[default]
    Json,
    /// Forward entries, for replay.
    Msgpack,
}

/// How the content is packed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum StoreAs {
    /// gzip, fast.
    #[default]
    Gzip,
    /// As it is.
    Text,
}

/// The end of an object's key.
pub fn extension(format: Format, store_as: StoreAs) -> &'static str {
    match (format, store_as) {
        (Format::Json, StoreAs::Gzip) => "json.gz",
        (Format::Json, StoreAs::Text) => "json",
        (Format::Msgpack, StoreAs::Gzip) => "msgpack.gz",
        (Format::Msgpack, StoreAs::Text) => "msgpack",
    }
}

/// The bytes of the object for a chunk's `segments`.
pub fn encode(tag: &str, segments: &[Bytes], format: Format, store_as: StoreAs) -> Result<Vec<u8>> {
    match store_as {
        StoreAs::Text => write(tag, segments, format, Vec::new()),
        StoreAs::Gzip => {
            let gzip = GzEncoder::new(Vec::new(), Compression::fast());
            Ok(write(tag, segments, format, gzip)?.finish()?)
        }
    }
}

fn write<W: Write>(tag: &str, segments: &[Bytes], format: Format, mut out: W) -> Result<W> {
    let mut line = Vec::new();
    for segment in segments {
        match format {
            Format::Msgpack => out.write_all(segment)?,
            Format::Json => {
                for entry in msgpack::entries(segment) {
                    let entry = entry.map_err(|error| {
                        anyhow::anyhow!("malformed entry in a chunk: {error:?}")
                    })?;
                    if let Some(text) = formatted::line(entry.record) {
                        out.write_all(text)?;
                        continue;
                    }
                    line.clear();
                    write_line(&mut line, tag, entry.time, entry.record)?;
                    out.write_all(&line)?;
                }
            }
        }
    }
    Ok(out)
}

fn write_line(line: &mut Vec<u8>, tag: &str, time: EventTime, record: &[u8]) -> Result<()> {
    let time = Timestamp::new(i64::from(time.sec), time.nsec.min(999_999_999) as i32)?;
    write!(line, "{{\"time\":\"{time:.9}\",\"tag\":")?;
    serde_json::to_writer(&mut *line, tag)?;
    line.extend_from_slice(b",\"record\":");
    let mut rest = record;
    write_value(line, &mut rest, DEPTH)?;
    line.extend_from_slice(b"}\n");
    Ok(())
}

fn write_value(out: &mut Vec<u8>, rest: &mut &[u8], depth: usize) -> Result<()> {
    if depth == 0 {
        bail!("a record nests deeper than {DEPTH} levels");
    }
    let before = *rest;
    let marker = rmp::decode::read_marker(rest).map_err(|error| anyhow::anyhow!("{error:?}"))?;
    match marker {
        Marker::Null => out.extend_from_slice(b"null"),
        Marker::True => out.extend_from_slice(b"true"),
        Marker::False => out.extend_from_slice(b"false"),
        Marker::FixPos(_) | Marker::U8 | Marker::U16 | Marker::U32 | Marker::U64 => {
            *rest = before;
            write!(out, "{}", rmp::decode::read_int::<u64, _>(rest)?)?;
        }
        Marker::FixNeg(_) | Marker::I8 | Marker::I16 | Marker::I32 | Marker::I64 => {
            *rest = before;
            write!(out, "{}", rmp::decode::read_int::<i64, _>(rest)?)?;
        }
        Marker::F32 => write_float(out, f32::from_be_bytes(array(rest)?).into())?,
        Marker::F64 => write_float(out, f64::from_be_bytes(array(rest)?))?,
        Marker::FixStr(_) | Marker::Str8 | Marker::Str16 | Marker::Str32 => {
            *rest = before;
            let len = rmp::decode::read_str_len(rest)? as usize;
            write_text(out, take(rest, len)?)?;
        }
        Marker::Bin8 | Marker::Bin16 | Marker::Bin32 => {
            *rest = before;
            let len = rmp::decode::read_bin_len(rest)? as usize;
            write_text(out, take(rest, len)?)?;
        }
        Marker::FixArray(_) | Marker::Array16 | Marker::Array32 => {
            *rest = before;
            let len = rmp::decode::read_array_len(rest)?;
            write_list(out, len, b'[', b']', |out| {
                write_value(out, rest, depth - 1)
            })?;
        }
        Marker::FixMap(_) | Marker::Map16 | Marker::Map32 => {
            *rest = before;
            let len = rmp::decode::read_map_len(rest)?;
            write_list(out, len, b'{', b'}', |out| write_pair(out, rest, depth - 1))?;
        }
        _ => {
            *rest = before;
            let meta = rmp::decode::read_ext_meta(rest)?;
            let bytes = take(rest, meta.size as usize)?;
            write!(
                out,
                "{{\"ext\":{},\"base64\":\"{}\"}}",
                meta.typeid,
                STANDARD.encode(bytes)
            )?;
        }
    }
    Ok(())
}

fn write_list(
    out: &mut Vec<u8>,
    len: u32,
    open: u8,
    close: u8,
    mut item: impl FnMut(&mut Vec<u8>) -> Result<()>,
) -> Result<()> {
    out.push(open);
    for n in 0..len {
        if n > 0 {
            out.push(b',');
        }
        item(out)?;
    }
    out.push(close);
    Ok(())
}

/// JSON keys are text: any other key is written as the text of its JSON.
fn write_pair(out: &mut Vec<u8>, rest: &mut &[u8], depth: usize) -> Result<()> {
    let mut key = Vec::new();
    write_value(&mut key, rest, depth)?;
    match key.first() {
        Some(b'"') => out.extend_from_slice(&key),
        _ => serde_json::to_writer(&mut *out, &String::from_utf8_lossy(&key))?,
    }
    out.push(b':');
    write_value(out, rest, depth)
}

fn write_text(out: &mut Vec<u8>, bytes: &[u8]) -> io::Result<()> {
    match std::str::from_utf8(bytes) {
        Ok(text) => serde_json::to_writer(out, text)?,
        Err(_) => {
            out.extend_from_slice(b"{\"text\":");
            serde_json::to_writer(&mut *out, &String::from_utf8_lossy(bytes))?;
            write!(out, ",\"base64\":\"{}\"}}", STANDARD.encode(bytes))?;
        }
    }
    Ok(())
}

/// JSON knows no NaN and no infinities: they become text, not null.
fn write_float(out: &mut Vec<u8>, value: f64) -> Result<()> {
    match value.is_finite() {
        true => serde_json::to_writer(out, &value)?,
        false => write!(out, "\"{value}\"")?,
    }
    Ok(())
}

fn array<const N: usize>(rest: &mut &[u8]) -> Result<[u8; N]> {
    Ok(take(rest, N)?.try_into()?)
}

fn take<'a>(rest: &mut &'a [u8], len: usize) -> Result<&'a [u8]> {
    let Some((taken, left)) = rest.split_at_checked(len) else {
        bail!("a value is cut short");
    };
    *rest = left;
    Ok(taken)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::Entries;
    use flate2::read::GzDecoder;
    use proptest::prelude::*;
    use std::io::Read;

    const TIME: EventTime = EventTime {
        sec: 1_772_356_542,
        nsec: 118_000_000,
    };

    fn one(fill: impl FnOnce(&mut crate::event::MapWriter<'_>)) -> serde_json::Value {
        let mut entries = Entries::default();
        let mut record = entries.begin(TIME);
        fill(&mut record);
        record.finish();
        let (bytes, _) = entries.freeze();
        let object = encode("app", &[bytes], Format::Json, StoreAs::Text).expect("encodes");
        serde_json::from_slice(&object).expect("one line of JSON")
    }

    #[test]
    fn a_line_has_time_tag_and_record() {
        let line = one(|record| {
            record.bin("message", b"GET /");
            record.nil("nothing");
        });
        assert_eq!(line["time"], "2026-03-01T09:15:42.118000000Z");
        assert_eq!(line["tag"], "app");
        assert_eq!(line["record"]["message"], "GET /");
        assert!(line["record"]["nothing"].is_null());
    }

    #[test]
    fn bytes_that_are_no_text_are_readable_and_complete() {
        let line = one(|record| record.bin("message", b"caf\xe9"));
        assert_eq!(line["record"]["message"]["text"], "caf\u{fffd}");
        assert_eq!(
            line["record"]["message"]["base64"],
            STANDARD.encode(b"caf\xe9")
        );
    }

    #[test]
    fn numbers_lists_maps_and_extensions_survive() {
        let line = one(|record| {
            record.raw("n", &[0xd1, 0xff, 0x00]);
            record.raw("f", &[0xcb, 0x3f, 0xf8, 0, 0, 0, 0, 0, 0]);
            record.raw("l", &[0x92, 0x01, 0xc3]);
            record.raw("m", &[0x81, 0x05, 0xa1, b'x']);
            record.raw("t", &TIME.to_bytes());
        });
        let record = &line["record"];
        assert_eq!(record["n"], -256);
        assert_eq!(record["f"], 1.5);
        assert_eq!(record["l"], serde_json::json!([1, true]));
        assert_eq!(record["m"], serde_json::json!({"5": "x"}));
        assert_eq!(record["t"]["ext"], 0);
    }

    #[test]
    fn msgpack_is_the_chunk_as_it_is() {
        let mut entries = Entries::default();
        let mut record = entries.begin(TIME);
        record.bin("message", b"x");
        record.finish();
        let (bytes, _) = entries.freeze();
        let object = encode(
            "app",
            &[bytes.clone(), bytes.clone()],
            Format::Msgpack,
            StoreAs::Gzip,
        )
        .expect("encodes");
        let mut plain = Vec::new();
        GzDecoder::new(&object[..])
            .read_to_end(&mut plain)
            .expect("gzip");
        assert_eq!(plain, [&bytes[..], &bytes[..]].concat());
    }

    proptest! {
        #[test]
        fn any_text_comes_back_from_its_line(message in proptest::collection::vec(any::<u8>(), 0..60)) {
            let line = one(|record| record.bin("message", &message));
            let value = &line["record"]["message"];
            let back = match value.as_str() {
                Some(text) => text.as_bytes().to_vec(),
                None => STANDARD.decode(value["base64"].as_str().expect("base64")).expect("valid"),
            };
            prop_assert_eq!(back, message);
        }

        #[test]
        fn garbage_never_panics(bytes in proptest::collection::vec(any::<u8>(), 0..60)) {
            let mut out = Vec::new();
            let _ = write_value(&mut out, &mut &bytes[..], DEPTH);
        }
    }
}
