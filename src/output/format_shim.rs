//! Stands in for the format room until it is merged: the same trait, the formats that outputs have by default, and json.

use std::io::Write;

use jiff::Timestamp;
use jiff::tz::TimeZone;

use crate::config::{Element, Result};
use crate::event::msgpack::{read_map_header, read_text, read_time, skip_value};
use crate::event::{EventTime, Tag};

/// Turns an event into text.
pub trait Formatter: Send + Sync {
    /// Appends one event.
    fn format(&self, tag: &Tag, time: EventTime, record: &[u8], out: &mut Vec<u8>);
}

enum Format {
    Stdout,
    OutFile,
    Json,
}

/// Builds the formatter of a `<format>` section.
pub fn configure(section: &Element) -> Result<Box<dyn Formatter>> {
    configure_type(section, section.plugin_type()?, "@type")
}

/// Builds the formatter of this name, which stands at `key`.
pub fn configure_type(section: &Element, name: &str, key: &str) -> Result<Box<dyn Formatter>> {
    match name {
        "stdout" => Ok(Box::new(Format::Stdout)),
        "out_file" => Ok(Box::new(Format::OutFile)),
        "json" => Ok(Box::new(Format::Json)),
        other => Err(section
            .error_at(key, format!("format '{other}' is not supported yet"))
            .into()),
    }
}

impl Formatter for Format {
    fn format(&self, tag: &Tag, time: EventTime, record: &[u8], out: &mut Vec<u8>) {
        let pattern = match self {
            Format::Stdout => "%Y-%m-%d %H:%M:%S.%9f %z",
            Format::OutFile => "%Y-%m-%dT%H:%M:%S%:z",
            Format::Json => "",
        };
        let instant = Timestamp::new(i64::from(time.sec), time.nsec as i32);
        let local = instant
            .unwrap_or(Timestamp::UNIX_EPOCH)
            .to_zoned(TimeZone::system())
            .strftime(pattern)
            .to_string();
        let head = match self {
            Format::Stdout => format!("{local} {tag}: "),
            Format::OutFile => format!("{local}\t{tag}\t"),
            Format::Json => String::new(),
        };
        out.extend_from_slice(head.as_bytes());
        json(record, out);
        out.push(b'\n');
    }
}

fn json(value: &[u8], out: &mut Vec<u8>) -> usize {
    let len = skip_value(value).unwrap_or(value.len());
    let mut cursor = value;
    let written = if let Ok(Some((mut at, pairs))) = read_map_header(value) {
        out.push(b'{');
        for pair in 0..pairs {
            out.extend_from_slice(if pair > 0 { b"," } else { b"" });
            at += json(&value[at..], out);
            out.push(b':');
            at += json(&value[at..], out);
        }
        out.write_all(b"}")
    } else if let Ok(items) = rmp::decode::read_array_len(&mut cursor) {
        let mut at = value.len() - cursor.len();
        out.push(b'[');
        for item in 0..items {
            out.extend_from_slice(if item > 0 { b"," } else { b"" });
            at += json(&value[at..], out);
        }
        out.write_all(b"]")
    } else if let Ok(Some((text, _))) = read_text(value) {
        let text = String::from_utf8_lossy(text);
        out.write_all(
            serde_json::Value::from(text.as_ref())
                .to_string()
                .as_bytes(),
        )
    } else {
        match value.first() {
            Some(0xc2) => out.write_all(b"false"),
            Some(0xc3) => out.write_all(b"true"),
            Some(0xcb) => {
                let float = rmp::decode::read_f64(&mut &value[..]).unwrap_or_default();
                write!(out, "{float:?}")
            }
            Some(0xcf) => {
                let int = rmp::decode::read_u64(&mut &value[..]).unwrap_or_default();
                write!(out, "{int}")
            }
            Some(0xc7 | 0xd7) => write!(out, "{}", read_time(value).map_or(0, |time| time.sec)),
            _ => match rmp::decode::read_int::<i64, _>(&mut &value[..]) {
                Ok(int) => write!(out, "{int}"),
                Err(_) => out.write_all(b"null"),
            },
        }
    };
    written.expect("writing to memory cannot fail");
    len
}
