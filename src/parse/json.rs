//! `@type json`: an object is a record, an array one record per object in it.
//!
//! serde_json reads, our seeds append MessagePack: no tree is built. As Oj, Fluentd's default engine: invalid UTF-8 and raw
//! control characters in strings are accepted and passed on as they are; a second, slower pass does that, only for texts that need
//! it. Deviations: integers beyond 64 bit become floats (Fluentd fails to send the whole batch); `NaN`, `1e400` and comments are unmatched.

use std::fmt;

use serde::Deserialize;
use serde::de::{DeserializeSeed, Deserializer, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};

use crate::config::{Element, Result};
use crate::event::msgpack::{
    self, write_array_header, write_bool, write_f64, write_int, write_map_header, write_str,
    write_uint,
};
use crate::event::{Entries, EventTime};

use super::common::{Common, KeyLabel, OpenField, RecordWriter, Rules};
use super::time::TimeType;
use super::{Extra, Parsed, Parser, Partly};

/// Byte `b` of invalid UTF-8 travels through serde_json as this character plus `b`: the end of the last private plane.
const STAND_IN: u32 = 0x0010_ff00;

/// The parameters of `@type json`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
struct Params {
    /// Fluentd's engine.
    json_parser: Engine,
    /// How much in_exec reads at once.
    stream_buffer_size: Option<u64>,
}

/// Fluentd's JSON engines; ours accepts what Oj accepts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Engine {
    #[default]
    Oj,
    Yajl,
    Json,
}

/// Parses JSON texts.
#[derive(Debug)]
pub struct JsonParser {
    rules: Rules,
}

/// Reads a `<parse>` section with `@type json`.
pub fn configure(section: &Element) -> Result<Box<dyn Parser>> {
    let common = Common::read(section)?;
    let params: Params = section.params()?;
    if params.json_parser != Engine::Oj {
        section.warn_at(
            "json_parser",
            "json_parser is not used: texts are accepted or refused as by oj",
        );
    }
    if params.stream_buffer_size.is_some() {
        section.warn_at(
            "stream_buffer_size",
            "stream_buffer_size is not used: only in_exec reads JSON as a stream",
        );
    }
    Ok(Box::new(JsonParser::new(section, common)?))
}

impl JsonParser {
    fn new(section: &Element, mut common: Common) -> Result<JsonParser> {
        if common.time_format.is_some() && common.time_type.is_none() {
            common.time_type = Some(TimeType::String);
        }
        Ok(JsonParser {
            rules: Rules::configure(section, &common, Some("time"), TimeType::Float)?,
        })
    }

    fn parse_text(
        &mut self,
        text: Text<'_>,
        now: EventTime,
        extra: Extra<'_>,
        batch: &mut Entries,
    ) -> Parsed {
        match text.json.trim_ascii_start().as_bytes().first() {
            Some(b'{') => self.parse_object(text, now, extra, batch),
            Some(b'[') => self.parse_array(text, now, extra, batch),
            _ => Parsed::Unmatched,
        }
    }

    fn parse_object(
        &mut self,
        text: Text<'_>,
        now: EventTime,
        extra: Extra<'_>,
        batch: &mut Entries,
    ) -> Parsed {
        let mut record = RecordWriter::begin(&mut self.rules, now, extra, batch);
        let mut json = serde_json::Deserializer::from_str(text.json);
        let read = json.deserialize_map(RecordVisitor {
            record: &mut record,
            stand_ins: text.stand_ins,
        });
        if read.and_then(|()| json.end()).is_err() {
            return Parsed::Unmatched;
        }
        record.finish()
    }

    /// Records go to a batch of their own first: an error at the end of the array must leave no trace.
    fn parse_array(
        &mut self,
        text: Text<'_>,
        now: EventTime,
        extra: Extra<'_>,
        batch: &mut Entries,
    ) -> Parsed {
        let mut elements = Elements {
            rules: &mut self.rules,
            now,
            extra,
            stand_ins: text.stand_ins,
            batch: Entries::default(),
            invalid: None,
            others: 0,
        };
        let mut json = serde_json::Deserializer::from_str(text.json);
        let read = json.deserialize_seq(&mut elements);
        if read.and_then(|()| json.end()).is_err() {
            return Parsed::Unmatched;
        }
        let (invalid, others) = (elements.invalid, elements.others);
        let (bytes, count) = elements.batch.freeze();
        for entry in msgpack::entries(&bytes).flatten() {
            batch.push_raw(entry.bytes);
        }
        match (count, others, invalid) {
            (0, 0, Some(reason)) => Parsed::Invalid(reason),
            (_, 0, None) => Parsed::Events(count),
            (events, unmatched, invalid) => Parsed::Partly(Partly {
                events,
                unmatched,
                from: 0,
                invalid,
            }),
        }
    }
}

impl Parser for JsonParser {
    fn parse(
        &mut self,
        text: &[u8],
        now: EventTime,
        extra: Extra<'_>,
        batch: &mut Entries,
    ) -> Parsed {
        let valid = std::str::from_utf8(text);
        if let Ok(json) = valid {
            let text = Text {
                json,
                stand_ins: false,
            };
            let parsed = self.parse_text(text, now, extra, batch);
            if parsed != Parsed::Unmatched {
                return parsed;
            }
        }
        match with_stand_ins(text) {
            Some(json) => {
                let text = Text {
                    json: &json,
                    stand_ins: true,
                };
                self.parse_text(text, now, extra, batch)
            }
            None => Parsed::Unmatched,
        }
    }
}

/// A text that serde_json can read.
#[derive(Clone, Copy)]
struct Text<'a> {
    json: &'a str,
    /// Whether characters from [`STAND_IN`] on stand for bytes.
    stand_ins: bool,
}

/// The text with invalid bytes and raw control characters replaced; `None` where it has none of them, or where it has characters
/// that could be taken for stand-ins.
fn with_stand_ins(text: &[u8]) -> Option<String> {
    let mut json = String::with_capacity(text.len() + 16);
    let (mut in_string, mut escaped, mut changed) = (false, false, false);
    for chunk in text.utf8_chunks() {
        for character in chunk.valid().chars() {
            if u32::from(character) >= STAND_IN {
                return None;
            }
            if in_string && character < ' ' {
                json.push_str(&format!("\\u{:04x}", u32::from(character)));
                changed = true;
                continue;
            }
            json.push(character);
            match character {
                '"' if !escaped => in_string = !in_string,
                '\\' if !escaped => {
                    escaped = true;
                    continue;
                }
                _ => {}
            }
            escaped = false;
        }
        for byte in chunk.invalid() {
            json.extend(char::from_u32(STAND_IN + u32::from(*byte)));
            changed = true;
        }
    }
    changed.then_some(json)
}

fn write_text(out: &mut Vec<u8>, text: &str, stand_ins: bool) {
    if stand_ins {
        write_str(out, &without_stand_ins(text));
    } else {
        write_str(out, text.as_bytes());
    }
}

fn without_stand_ins(text: &str) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(text.len());
    for character in text.chars() {
        match u32::from(character).checked_sub(STAND_IN) {
            Some(byte) => bytes.push((byte & 0xff) as u8),
            None => bytes.extend_from_slice(character.encode_utf8(&mut [0; 4]).as_bytes()),
        }
    }
    bytes
}

/// Reads an object's fields into a record.
struct RecordVisitor<'a, 'r, 'b> {
    record: &'a mut RecordWriter<'r, 'b>,
    stand_ins: bool,
}

impl<'de> Visitor<'de> for RecordVisitor<'_, '_, '_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> std::result::Result<(), A::Error> {
        let (record, stand_ins) = (self.record, self.stand_ins);
        while let Some(field) = map.next_key_seed(Key {
            record: &mut *record,
            stand_ins,
        })? {
            map.next_value_seed(Value {
                out: record.buffer(),
                stand_ins,
            })?;
            record.end_field(field);
        }
        Ok(())
    }
}

/// A key of the record.
struct Key<'a, 'r, 'b> {
    record: &'a mut RecordWriter<'r, 'b>,
    stand_ins: bool,
}

impl<'de> DeserializeSeed<'de> for Key<'_, '_, '_> {
    type Value = OpenField;

    fn deserialize<D: Deserializer<'de>>(
        self,
        json: D,
    ) -> std::result::Result<OpenField, D::Error> {
        json.deserialize_str(self)
    }
}

impl<'de> Visitor<'de> for Key<'_, '_, '_> {
    type Value = OpenField;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a key")
    }

    fn visit_str<E: Error>(self, key: &str) -> std::result::Result<OpenField, E> {
        if self.stand_ins {
            return Ok(self
                .record
                .begin_field(&without_stand_ins(key), KeyLabel::Str));
        }
        Ok(self.record.begin_field(key.as_bytes(), KeyLabel::Str))
    }
}

/// Any value, appended as MessagePack.
struct Value<'a> {
    out: &'a mut Vec<u8>,
    stand_ins: bool,
}

impl<'de> DeserializeSeed<'de> for Value<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, json: D) -> std::result::Result<(), D::Error> {
        json.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Value<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }

    fn visit_unit<E: Error>(self) -> std::result::Result<(), E> {
        self.out.push(0xc0);
        Ok(())
    }

    fn visit_bool<E: Error>(self, value: bool) -> std::result::Result<(), E> {
        write_bool(self.out, value);
        Ok(())
    }

    fn visit_u64<E: Error>(self, value: u64) -> std::result::Result<(), E> {
        write_uint(self.out, value);
        Ok(())
    }

    fn visit_i64<E: Error>(self, value: i64) -> std::result::Result<(), E> {
        write_int(self.out, value);
        Ok(())
    }

    fn visit_f64<E: Error>(self, value: f64) -> std::result::Result<(), E> {
        write_f64(self.out, value);
        Ok(())
    }

    fn visit_str<E: Error>(self, value: &str) -> std::result::Result<(), E> {
        write_text(self.out, value, self.stand_ins);
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> std::result::Result<(), A::Error> {
        let (out, stand_ins) = (self.out, self.stand_ins);
        let head = out.len();
        out.push(0x90);
        let mut items = 0;
        while seq.next_element_seed(Value { out, stand_ins })?.is_some() {
            items += 1;
        }
        set_header(out, head, items, write_array_header);
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> std::result::Result<(), A::Error> {
        let (out, stand_ins) = (self.out, self.stand_ins);
        let head = out.len();
        out.push(0x80);
        let mut pairs = 0;
        while map.next_key_seed(Value { out, stand_ins })?.is_some() {
            map.next_value_seed(Value { out, stand_ins })?;
            pairs += 1;
        }
        set_header(out, head, pairs, write_map_header);
        Ok(())
    }
}

/// Puts the header of an array or map where one byte was kept for it.
fn set_header(out: &mut Vec<u8>, head: usize, len: usize, write: fn(&mut Vec<u8>, usize)) {
    let mut header = Vec::with_capacity(5);
    write(&mut header, len);
    match header[..] {
        [byte] => out[head] = byte,
        _ => drop(out.splice(head..=head, header)),
    }
}

/// The elements of an array at the top: each object is a record.
struct Elements<'r, 'x> {
    rules: &'r mut Rules,
    now: EventTime,
    extra: Extra<'x>,
    stand_ins: bool,
    batch: Entries,
    invalid: Option<String>,
    others: usize,
}

impl<'de> Visitor<'de> for &mut Elements<'_, '_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an array")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> std::result::Result<(), A::Error> {
        while seq.next_element_seed(ArrayItem(self))?.is_some() {}
        Ok(())
    }
}

/// One element of the array.
struct ArrayItem<'e, 'r, 'x>(&'e mut Elements<'r, 'x>);

impl<'de> DeserializeSeed<'de> for ArrayItem<'_, '_, '_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, json: D) -> std::result::Result<(), D::Error> {
        json.deserialize_any(self)
    }
}

impl ArrayItem<'_, '_, '_> {
    fn other<E>(self) -> std::result::Result<(), E> {
        self.0.others += 1;
        Ok(())
    }
}

impl<'de> Visitor<'de> for ArrayItem<'_, '_, '_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an element")
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> std::result::Result<(), A::Error> {
        let elements = self.0;
        let mut record = RecordWriter::begin(
            elements.rules,
            elements.now,
            elements.extra,
            &mut elements.batch,
        );
        RecordVisitor {
            record: &mut record,
            stand_ins: elements.stand_ins,
        }
        .visit_map(map)?;
        match record.finish() {
            Parsed::Unmatched => elements.others += 1,
            Parsed::Invalid(reason) => elements.invalid = Some(reason),
            Parsed::Events(_) | Parsed::Partly(_) => {}
        }
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> std::result::Result<(), A::Error> {
        while seq.next_element::<IgnoredAny>()?.is_some() {}
        self.other()
    }

    fn visit_unit<E: Error>(self) -> std::result::Result<(), E> {
        self.other()
    }

    fn visit_bool<E: Error>(self, _: bool) -> std::result::Result<(), E> {
        self.other()
    }

    fn visit_u64<E: Error>(self, _: u64) -> std::result::Result<(), E> {
        self.other()
    }

    fn visit_i64<E: Error>(self, _: i64) -> std::result::Result<(), E> {
        self.other()
    }

    fn visit_f64<E: Error>(self, _: f64) -> std::result::Result<(), E> {
        self.other()
    }

    fn visit_str<E: Error>(self, _: &str) -> std::result::Result<(), E> {
        self.other()
    }
}

#[cfg(test)]
#[path = "json_tests.rs"]
mod tests;
