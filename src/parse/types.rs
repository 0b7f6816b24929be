//! `types`: what the values of some fields become.
//!
//! Works on the value as it was just written into the batch, so that every parser converts alike. As in Fluentd, nil and false
//! stay, and only top-level fields are converted. Deviations: integers beyond 64 bit become floats (Fluentd fails to send them),
//! `string` leaves arrays and maps as they are (Fluentd writes Ruby's inspect text).

use std::collections::BTreeMap;

use crate::config::{ConfigErrors, Element, Result};
use crate::event::EventTime;
use crate::event::msgpack::{
    read_text, write_array_header, write_bin, write_bool, write_f64, write_int, write_str,
};

use super::time::{Given, TimeParser, leading_integer, zone_named};

/// What one field becomes.
#[derive(Debug)]
pub enum Type {
    /// Text.
    String,
    /// The leading integer.
    Integer,
    /// The leading float.
    Float,
    /// Whether it is `true`, `yes` or `1`.
    Bool,
    /// An event time; nil where it is none.
    Time(Box<TimeParser>),
    /// The pieces between a delimiter.
    Array(Vec<u8>),
}

/// The conversions of a section, by field.
pub fn configure(
    section: &Element,
    types: &BTreeMap<String, String>,
) -> Result<Vec<(Vec<u8>, Type)>> {
    let mut errors = ConfigErrors::new();
    let mut table = Vec::new();
    for (field, text) in types {
        match Type::of(text) {
            Ok(kind) => table.push((field.as_bytes().to_vec(), kind)),
            Err(message) => errors.push(
                section
                    .error_at("types", format!("{message} for key '{field}'"))
                    .help("known types: string, integer, float, bool, time, array"),
            ),
        }
    }
    errors.into_result()?;
    Ok(table)
}

impl Type {
    fn of(text: &str) -> std::result::Result<Type, String> {
        let (name, option) = match text.split_once(':') {
            Some((name, option)) => (name, Some(option)),
            None => (text, None),
        };
        Ok(match name {
            "string" => Type::String,
            "integer" => Type::Integer,
            "float" => Type::Float,
            "bool" => Type::Bool,
            "time" => Type::Time(Box::new(time_type(option)?)),
            "array" => Type::Array(option.unwrap_or(",").as_bytes().to_vec()),
            _ => return Err(format!("unknown value conversion type '{text}'")),
        })
    }

    /// Converts the encoded value that `out` ends with, from `at` on.
    pub fn convert(&mut self, out: &mut Vec<u8>, at: usize, now: EventTime) {
        if matches!(out.get(at), None | Some(0xc0 | 0xc2)) {
            return;
        }
        let value = out.split_off(at);
        let text = read_text(&value).ok().flatten().map(|(text, _)| text);
        match self {
            Type::String => write_string(out, &value, text),
            Type::Integer => write_integer(out, &value, text),
            Type::Float => write_f64(out, text.map_or_else(|| number(&value), leading_float)),
            Type::Bool => write_bool(out, text.map_or(value == [0xc3], is_yes)),
            Type::Time(parser) => match parser.parse(given(&value), now) {
                Ok(time) => out.extend_from_slice(&time.to_bytes()),
                Err(_) => out.push(0xc0),
            },
            Type::Array(delimiter) => match text {
                Some(text) => {
                    write_pieces(out, text, delimiter, value[0] >= 0xc4 && value[0] <= 0xc6)
                }
                None if is_array(&value) => out.extend_from_slice(&value),
                None => {
                    write_array_header(out, 1);
                    out.extend_from_slice(&value);
                }
            },
        }
    }
}

/// `[ZONE:]FORMAT`, where the first piece is a zone only if it is a valid one.
fn time_type(option: Option<&str>) -> std::result::Result<TimeParser, String> {
    let Some(option) = option else {
        return TimeParser::local(None);
    };
    if let Some((name, format)) = option.split_once(':')
        && let Some(zone) = zone_named(name)
    {
        return TimeParser::in_zone(Some(format), zone);
    }
    TimeParser::local(Some(option))
}

/// An encoded value as the value of a time field.
pub fn given(value: &[u8]) -> Given<'_> {
    match read_text(value) {
        Ok(Some((text, _))) => return Given::Text(text),
        Err(_) => return Given::Other,
        Ok(None) => {}
    }
    if let [0xcb, bits @ ..] = value
        && let Ok(bits) = <[u8; 8]>::try_from(bits)
    {
        return Given::Float(f64::from_be_bytes(bits));
    }
    let mut cursor = value;
    rmp::decode::read_int::<i64, _>(&mut cursor).map_or(Given::Other, Given::Integer)
}

fn number(value: &[u8]) -> f64 {
    match given(value) {
        Given::Integer(integer) => integer as f64,
        Given::Float(float) => float,
        _ if value == [0xc3] => 1.0,
        _ => 0.0,
    }
}

fn is_array(value: &[u8]) -> bool {
    matches!(value.first(), Some(0x90..=0x9f | 0xdc | 0xdd))
}

fn is_yes(text: &[u8]) -> bool {
    ["true", "yes", "1"]
        .iter()
        .any(|yes| text.eq_ignore_ascii_case(yes.as_bytes()))
}

fn write_string(out: &mut Vec<u8>, value: &[u8], text: Option<&[u8]>) {
    let words = match given(value) {
        Given::Integer(integer) if text.is_none() => integer.to_string(),
        Given::Float(float) if text.is_none() => format!("{float:?}"),
        _ if value == [0xc3] => "true".to_owned(),
        _ => return out.extend_from_slice(value),
    };
    write_str(out, words.as_bytes());
}

fn write_integer(out: &mut Vec<u8>, value: &[u8], text: Option<&[u8]>) {
    match (text, given(value)) {
        (Some(text), _) => match leading_integer(text).0 {
            i64::MAX | i64::MIN | -9_223_372_036_854_775_807 => write_f64(out, leading_float(text)),
            integer => write_int(out, integer),
        },
        (None, Given::Float(float)) if float.abs() < 9.2e18 => write_int(out, float as i64),
        (None, Given::Integer(_) | Given::Float(_)) => out.extend_from_slice(value),
        // An unsigned integer above i64 stays what it is.
        (None, _) if value.first() == Some(&0xcf) => out.extend_from_slice(value),
        (None, _) => write_int(out, 0),
    }
}

/// Ruby's `to_f`: the float at the head of a text, 0.0 where there is none.
fn leading_float(text: &[u8]) -> f64 {
    let text = text.trim_ascii_start();
    let digits = |at: usize| {
        let taken = |b: &&u8| b.is_ascii_digit() || **b == b'_';
        text.get(at..)
            .map_or(0, |rest| rest.iter().take_while(taken).count())
    };
    let sign = |at: usize| usize::from(matches!(text.get(at), Some(b'+' | b'-')));
    let mut end = sign(0);
    let whole = digits(end);
    end += whole;
    if text.get(end) == Some(&b'.') && digits(end + 1) > 0 {
        end += 1 + digits(end + 1);
    } else if whole == 0 {
        return 0.0;
    }
    if matches!(text.get(end), Some(b'e' | b'E')) {
        let exponent = end + 1 + sign(end + 1);
        if digits(exponent) > 0 {
            end = exponent + digits(exponent);
        }
    }
    let clean: String = text[..end]
        .iter()
        .filter(|b| **b != b'_')
        .map(|b| char::from(*b))
        .collect();
    clean.parse().unwrap_or(0.0)
}

/// Ruby's `split`: trailing empty pieces are dropped, inner ones stay.
fn write_pieces(out: &mut Vec<u8>, text: &[u8], delimiter: &[u8], binary: bool) {
    let mut pieces: Vec<&[u8]> = split(text, delimiter);
    while pieces.last().is_some_and(|piece| piece.is_empty()) {
        pieces.pop();
    }
    write_array_header(out, pieces.len());
    for piece in pieces {
        if binary {
            write_bin(out, piece);
        } else {
            write_str(out, piece);
        }
    }
}

/// The pieces of `text` between each `delimiter`; the whole text where the delimiter is empty.
pub fn split<'a>(text: &'a [u8], delimiter: &[u8]) -> Vec<&'a [u8]> {
    let mut pieces = Vec::new();
    let mut start = 0;
    if !delimiter.is_empty() {
        for at in memchr::memmem::find_iter(text, delimiter) {
            pieces.push(&text[start..at]);
            start = at + delimiter.len();
        }
    }
    pieces.push(&text[start..]);
    pieces
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: EventTime = EventTime {
        sec: 1_700_000_000,
        nsec: 0,
    };

    fn converted(kind: &str, text: &[u8]) -> Vec<u8> {
        let mut out = vec![0x81];
        write_bin(&mut out, text);
        Type::of(kind).expect("known").convert(&mut out, 1, NOW);
        out.split_off(1)
    }

    fn int(value: i64) -> Vec<u8> {
        let mut out = Vec::new();
        write_int(&mut out, value);
        out
    }

    fn float(value: f64) -> Vec<u8> {
        let mut out = Vec::new();
        write_f64(&mut out, value);
        out
    }

    #[test]
    fn integers_are_read_from_the_head_as_ruby_does() {
        for (text, value) in [
            ("12abc", 12),
            ("0x1f", 0),
            ("1_000", 1000),
            ("", 0),
            ("-7", -7),
            ("  42", 42),
        ] {
            assert_eq!(converted("integer", text.as_bytes()), int(value), "{text}");
        }
    }

    #[test]
    fn floats_are_read_from_the_head_as_ruby_does() {
        for (text, value) in [
            (".5", 0.5),
            ("1_0.5", 10.5),
            ("rubbish", 0.0),
            ("1e3x", 1000.0),
            ("1e", 1.0),
            ("2.", 2.0),
            ("-0.25", -0.25),
        ] {
            assert_eq!(converted("float", text.as_bytes()), float(value), "{text}");
        }
    }

    #[test]
    fn only_true_yes_and_one_are_true() {
        for (text, value) in [("TRUE", true), ("yes", true), ("1", true), ("on", false)] {
            assert_eq!(
                converted("bool", text.as_bytes()),
                [if value { 0xc3 } else { 0xc2 }],
                "{text}"
            );
        }
    }

    #[test]
    fn arrays_keep_inner_empty_pieces_and_drop_trailing_ones() {
        assert_eq!(
            converted("array", b"a,,b,,"),
            b"\x93\xc4\x01a\xc4\x00\xc4\x01b"
        );
        assert_eq!(converted("array", b""), b"\x90");
        assert_eq!(converted("array:::", b"a::b"), b"\x92\xc4\x01a\xc4\x01b");
    }

    #[test]
    fn times_become_event_times_and_rubbish_nil() {
        let noon = EventTime {
            sec: 1_700_000_000,
            nsec: 0,
        };
        assert_eq!(converted("time:unixtime", b"1700000000"), noon.to_bytes());
        assert_eq!(
            converted("time:+0900:%Y-%m-%d %H:%M:%S", b"2023-11-15 07:13:20"),
            noon.to_bytes()
        );
        assert_eq!(converted("time:%Y", b"x"), [0xc0]);
    }

    #[test]
    fn nil_and_false_are_never_converted() {
        for value in [0xc0, 0xc2] {
            let mut out = vec![value];
            Type::String.convert(&mut out, 0, NOW);
            assert_eq!(out, [value]);
        }
    }

    #[test]
    fn an_unknown_type_is_a_configuration_error() {
        assert!(Type::of("int").is_err());
    }
}
