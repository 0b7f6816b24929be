//! `@type msgpack`, the record as it lies, and `@type hash`, Ruby's inspect text.

use serde::Deserialize;

use crate::config::{Element, Result};
use crate::event::{EventTime, Tag};

use super::{Formatter, Newline, json};

/// The parameters of `@type hash`.
#[derive(Clone, Debug, Deserialize)]
#[serde(default)]
struct HashParams {
    /// Whether each record ends with a newline.
    add_newline: bool,
    /// Which one.
    newline: Newline,
}

impl Default for HashParams {
    fn default() -> HashParams {
        HashParams {
            add_newline: true,
            newline: Newline::Lf,
        }
    }
}

struct MessagePack;

struct Hash {
    end: &'static [u8],
}

/// Reads a `<format>` section with `@type msgpack`.
pub fn configure_msgpack(_section: &Element) -> Result<Box<dyn Formatter>> {
    Ok(Box::new(MessagePack))
}

/// Reads a `<format>` section with `@type hash`.
pub fn configure_hash(section: &Element) -> Result<Box<dyn Formatter>> {
    let params: HashParams = section.params()?;
    let end = if params.add_newline {
        params.newline.as_bytes()
    } else {
        b""
    };
    Ok(Box::new(Hash { end }))
}

impl Formatter for MessagePack {
    fn format(&self, _tag: &Tag, _time: EventTime, record: &[u8], out: &mut Vec<u8>) {
        out.extend_from_slice(record);
    }
}

impl Formatter for Hash {
    fn format(&self, _tag: &Tag, _time: EventTime, record: &[u8], out: &mut Vec<u8>) {
        json::write_inspect(out, record);
        out.extend_from_slice(self.end);
    }
}
