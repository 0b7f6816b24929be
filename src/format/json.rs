//! `@type json`, and MessagePack as JSON text the way Fluentd prints it.
//!
//! Non-ASCII stays as it is, control characters are escaped, floats keep their `.0`, text that is not UTF-8 is written byte for
//! byte, an event time is its whole seconds.

use serde::Deserialize;

use crate::config::{Element, Result};
use crate::event::msgpack::{read_map_header, read_text, read_time, skip_value};
use crate::event::{EventTime, Tag};

use super::{Formatter, Newline};

/// The parameters of `@type json`.
#[derive(Clone, Debug, Deserialize)]
#[serde(default)]
struct Params {
    /// Fluentd's engine; there is one way of writing here.
    json_parser: Option<String>,
    /// Whether each record ends with a newline.
    add_newline: bool,
    /// Which one.
    newline: Newline,
}

impl Default for Params {
    fn default() -> Params {
        Params {
            json_parser: None,
            add_newline: true,
            newline: Newline::Lf,
        }
    }
}

/// Writes the record as one line of JSON.
#[derive(Debug)]
pub struct Json {
    end: &'static [u8],
}

/// Reads a `<format>` section with `@type json`.
pub fn configure(section: &Element) -> Result<Box<dyn Formatter>> {
    let params: Params = section.params()?;
    if params.json_parser.is_some_and(|engine| engine != "oj") {
        section.warn_at(
            "json_parser",
            "json_parser is not used: JSON is written as by oj",
        );
    }
    let end = if params.add_newline {
        params.newline.as_bytes()
    } else {
        b""
    };
    Ok(Box::new(Json { end }))
}

impl Formatter for Json {
    fn format(&self, _tag: &Tag, _time: EventTime, record: &[u8], out: &mut Vec<u8>) {
        write(out, record);
        out.extend_from_slice(self.end);
    }
}

/// Appends the value at the head of `value` as JSON. Bytes that are no MessagePack value become `null`.
pub fn write(out: &mut Vec<u8>, value: &[u8]) {
    if skip_value(value).is_err() {
        return out.extend_from_slice(b"null");
    }
    write_value(out, value, Style::Json);
}

/// Appends the value as Ruby's inspect prints it: `{"a"=>1}`, `nil`.
pub fn write_inspect(out: &mut Vec<u8>, value: &[u8]) {
    if skip_value(value).is_err() {
        return out.extend_from_slice(b"nil");
    }
    write_value(out, value, Style::Inspect);
}

/// Appends the value as Ruby's to_s prints it: text as it is, nil as nothing, arrays and maps as inspect.
pub fn write_plain(out: &mut Vec<u8>, value: &[u8]) {
    match read_text(value) {
        Ok(Some((text, _))) => out.extend_from_slice(text),
        _ if value.first() == Some(&0xc0) => {}
        _ => write_inspect(out, value),
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Style {
    Json,
    Inspect,
}

/// Writes a well-formed value and answers its length. Depth is bounded by `skip_value`, which has seen it.
fn write_value(out: &mut Vec<u8>, value: &[u8], style: Style) -> usize {
    if let Ok(Some((text, length))) = read_text(value) {
        write_string(out, text);
        return length;
    }
    if let Ok(Some((head, pairs))) = read_map_header(value) {
        return write_map(out, value, head, pairs, style);
    }
    let length = skip_value(value).unwrap_or(value.len());
    let mut cursor = value;
    match value.first() {
        Some(0xc0) | None => out.extend_from_slice(if style == Style::Json {
            b"null"
        } else {
            b"nil"
        }),
        Some(0xc2) => out.extend_from_slice(b"false"),
        Some(0xc3) => out.extend_from_slice(b"true"),
        Some(0xca) => {
            let float = rmp::decode::read_f32(&mut cursor).unwrap_or_default();
            out.extend_from_slice(float_text(f64::from(float)).as_bytes());
        }
        Some(0xcb) => {
            let float = rmp::decode::read_f64(&mut cursor).unwrap_or_default();
            out.extend_from_slice(float_text(float).as_bytes());
        }
        Some(0xcf) => {
            let integer = rmp::decode::read_u64(&mut cursor).unwrap_or_default();
            out.extend_from_slice(integer.to_string().as_bytes());
        }
        Some(0x90..=0x9f | 0xdc | 0xdd) => return write_array(out, value, style),
        Some(0xd7 | 0xc7) => match read_time(value) {
            Ok(time) => out.extend_from_slice(time.sec.to_string().as_bytes()),
            Err(_) => write_string(out, &value[2..length]),
        },
        Some(0xd4..=0xd8 | 0xc8 | 0xc9) => write_string(out, &value[2..length]),
        Some(_) => {
            let integer: i64 = rmp::decode::read_int(&mut cursor).unwrap_or_default();
            out.extend_from_slice(integer.to_string().as_bytes());
        }
    }
    length
}

fn write_map(out: &mut Vec<u8>, value: &[u8], head: usize, pairs: usize, style: Style) -> usize {
    let mut at = head;
    out.push(b'{');
    for pair in 0..pairs {
        if pair > 0 {
            out.extend_from_slice(if style == Style::Json { b"," } else { b", " });
        }
        at += write_key(out, &value[at..], style);
        out.extend_from_slice(if style == Style::Json { b":" } else { b"=>" });
        at += write_value(out, &value[at..], style);
    }
    out.push(b'}');
    at
}

/// Keys that are not text are quoted in JSON, as Ruby does.
fn write_key(out: &mut Vec<u8>, key: &[u8], style: Style) -> usize {
    if style == Style::Inspect || matches!(read_text(key), Ok(Some(_))) {
        return write_value(out, key, style);
    }
    let mut text = Vec::new();
    let length = write_value(&mut text, key, Style::Inspect);
    write_string(out, &text);
    length
}

fn write_array(out: &mut Vec<u8>, value: &[u8], style: Style) -> usize {
    let mut cursor = value;
    let items = rmp::decode::read_array_len(&mut cursor).unwrap_or_default();
    let mut at = value.len() - cursor.len();
    out.push(b'[');
    for item in 0..items {
        if item > 0 {
            out.extend_from_slice(if style == Style::Json { b"," } else { b", " });
        }
        at += write_value(out, &value[at..], style);
    }
    out.push(b']');
    at
}

/// A quoted string. Bytes from 0x80 on pass as they are, UTF-8 or not.
fn write_string(out: &mut Vec<u8>, text: &[u8]) {
    out.push(b'"');
    let mut start = 0;
    for (at, byte) in text.iter().enumerate() {
        let short = match byte {
            b'"' => b'"',
            b'\\' => b'\\',
            b'\n' => b'n',
            b'\r' => b'r',
            b'\t' => b't',
            0x08 => b'b',
            0x0c => b'f',
            0x00..=0x1f => b'u',
            _ => continue,
        };
        out.extend_from_slice(&text[start..at]);
        start = at + 1;
        out.extend_from_slice(&[b'\\', short]);
        if short == b'u' {
            out.extend_from_slice(format!("{byte:04x}").as_bytes());
        }
    }
    out.extend_from_slice(&text[start..]);
    out.push(b'"');
}

/// A float as Ruby prints it: `1.0`, `1.0e+20`, `1.0e-05`, `NaN`, `Infinity`.
pub fn float_text(value: f64) -> String {
    if value.is_nan() {
        return "NaN".to_owned();
    }
    if value.is_infinite() {
        return if value > 0.0 { "Infinity" } else { "-Infinity" }.to_owned();
    }
    let scientific = format!("{value:e}");
    let (mantissa, exponent) = scientific.split_once('e').unwrap_or((&scientific, "0"));
    let exponent: i32 = exponent.parse().unwrap_or_default();
    if (-4..16).contains(&exponent) {
        let plain = value.to_string();
        return if plain.contains('.') {
            plain
        } else {
            plain + ".0"
        };
    }
    let point = if mantissa.contains('.') { "" } else { ".0" };
    let sign = if exponent < 0 { '-' } else { '+' };
    format!("{mantissa}{point}e{sign}{:02}", exponent.abs())
}
