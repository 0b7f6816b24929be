//! `@type single_value`: one field as text. A missing one gives an empty line.

use serde::Deserialize;

use crate::config::{Element, Result};
use crate::event::record::find;
use crate::event::{EventTime, Tag};

use super::{Formatter, Newline, json};

/// The parameters of `@type single_value`.
#[derive(Clone, Debug, Deserialize)]
#[serde(default)]
struct Params {
    /// Which field.
    message_key: String,
    /// Whether a newline follows.
    add_newline: bool,
    /// Which one.
    newline: Newline,
}

impl Default for Params {
    fn default() -> Params {
        Params {
            message_key: "message".to_owned(),
            add_newline: true,
            newline: Newline::Lf,
        }
    }
}

/// Writes one field.
#[derive(Debug)]
struct SingleValue {
    message_key: String,
    end: &'static [u8],
}

/// Reads a `<format>` section with `@type single_value`.
pub fn configure(section: &Element) -> Result<Box<dyn Formatter>> {
    let params: Params = section.params()?;
    let end = if params.add_newline {
        params.newline.as_bytes()
    } else {
        b""
    };
    Ok(Box::new(SingleValue {
        message_key: params.message_key,
        end,
    }))
}

impl Formatter for SingleValue {
    fn format(&self, _tag: &Tag, _time: EventTime, record: &[u8], out: &mut Vec<u8>) {
        if let Some(value) = find(record, &self.message_key) {
            json::write_plain(out, value);
        }
        out.extend_from_slice(self.end);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_field_is_written_and_a_missing_one_is_an_empty_line() {
        let formatter = SingleValue {
            message_key: "m".to_owned(),
            end: b"\n",
        };
        let mut out = Vec::new();
        let time = EventTime { sec: 0, nsec: 0 };
        for record in [&b"\x81\xa1m\xc4\x02\xffx"[..], b"\x80", b"\x81\xa1m\x05"] {
            formatter.format(&Tag::new("t"), time, record, &mut out);
        }
        assert_eq!(out, b"\xffx\n\n5\n");
    }
}
