//! `@type ltsv`: `label:value` pairs. Delimiters inside values are replaced, newlines are not, as in Fluentd.

use serde::Deserialize;

use crate::config::{Element, Result};
use crate::event::record::fields;
use crate::event::{EventTime, Tag};

use super::{Formatter, Newline, json, tab_or};

/// The parameters of `@type ltsv`.
#[derive(Clone, Debug, Deserialize)]
#[serde(default)]
struct Params {
    /// What stands between pairs.
    delimiter: String,
    /// What stands between label and value.
    label_delimiter: String,
    /// What replaces delimiters inside values.
    replacement: String,
    /// Whether each record ends with a newline.
    add_newline: bool,
    /// Which one.
    newline: Newline,
}

impl Default for Params {
    fn default() -> Params {
        Params {
            delimiter: "\t".to_owned(),
            label_delimiter: ":".to_owned(),
            replacement: " ".to_owned(),
            add_newline: true,
            newline: Newline::Lf,
        }
    }
}

/// Writes pairs.
#[derive(Debug)]
struct Ltsv {
    delimiter: Vec<u8>,
    label_delimiter: Vec<u8>,
    replacement: Vec<u8>,
    end: &'static [u8],
}

/// Reads a `<format>` section with `@type ltsv`.
pub fn configure(section: &Element) -> Result<Box<dyn Formatter>> {
    Ok(Box::new(Ltsv::of(section.params()?)))
}

impl Ltsv {
    fn of(params: Params) -> Ltsv {
        Ltsv {
            delimiter: tab_or(&params.delimiter),
            label_delimiter: params.label_delimiter.into_bytes(),
            replacement: params.replacement.into_bytes(),
            end: if params.add_newline {
                params.newline.as_bytes()
            } else {
                b""
            },
        }
    }
}

impl Formatter for Ltsv {
    fn format(&self, _tag: &Tag, _time: EventTime, record: &[u8], out: &mut Vec<u8>) {
        let Ok(fields) = fields(record) else { return };
        let mut value = Vec::new();
        for (at, field) in fields.flatten().enumerate() {
            if at > 0 {
                out.extend_from_slice(&self.delimiter);
            }
            out.extend_from_slice(field.key);
            out.extend_from_slice(&self.label_delimiter);
            value.clear();
            json::write_plain(&mut value, field.value);
            write_replaced(out, &value, &self.delimiter, &self.replacement);
        }
        out.extend_from_slice(self.end);
    }
}

fn write_replaced(out: &mut Vec<u8>, value: &[u8], delimiter: &[u8], replacement: &[u8]) {
    let mut start = 0;
    if !delimiter.is_empty() {
        for at in memchr::memmem::find_iter(value, delimiter) {
            out.extend_from_slice(&value[start..at]);
            out.extend_from_slice(replacement);
            start = at + delimiter.len();
        }
    }
    out.extend_from_slice(&value[start..]);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn delimiters_inside_values_are_replaced() {
        let mut out = Vec::new();
        let time = EventTime { sec: 0, nsec: 0 };
        let record = b"\x83\xa1a\xa3x\ty\xa1b\xc0\xa1c\x81\xa1d\x01";
        Ltsv::of(Params::default()).format(&Tag::new("t"), time, record, &mut out);
        assert_eq!(out, b"a:x y\tb:\tc:{\"d\"=>1}\n");
    }
}
