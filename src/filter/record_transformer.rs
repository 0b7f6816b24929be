//! filter_record_transformer without Ruby: adds, replaces and removes fields. Fields that it does not name are spliced, not
//! decoded.
//!
//! All values are made from the original record. A replaced field keeps its place, new ones follow in the order of
//! `<record>`, removal comes last.

use std::ops::Range;

use bytes::Bytes;
use serde::Deserialize;

use super::template::{Mode, Scene, Template};
use super::{Filter, Filtered};
use crate::config::{ConfigErrors, Element, Json, Result};
use crate::event::msgpack::{
    RawEntry, entries, write_array_header, write_bool, write_f64, write_int, write_map_header,
    write_str, write_uint,
};
use crate::event::{Entries, EventTime, MapWriter, Tag, record, text};

/// The parameters, with Fluentd's defaults.
#[derive(Clone, Debug, Deserialize)]
#[serde(default)]
struct Params {
    /// Whether values are Ruby. Only placeholders that mean the same without it are accepted.
    enable_ruby: bool,
    /// Whether a value that is exactly one placeholder keeps the type of what it stands for.
    auto_typecast: bool,
    /// Whether to start from an empty record.
    renew_record: bool,
    /// The field whose number becomes the time of the event.
    renew_time_key: Option<String>,
    /// What `renew_record` keeps.
    keep_keys: Option<Vec<String>>,
    /// Fields to remove.
    remove_keys: Option<Vec<String>>,
}

impl Default for Params {
    fn default() -> Params {
        Params {
            enable_ruby: false,
            auto_typecast: true,
            renew_record: false,
            renew_time_key: None,
            keep_keys: None,
            remove_keys: None,
        }
    }
}

/// A value of `<record>`.
#[derive(Debug)]
enum Value {
    Encoded(Vec<u8>),
    Template(Template),
    Array(Vec<Value>),
    Map(Vec<(Template, Value)>),
}

/// The filter.
#[derive(Debug)]
struct RecordTransformer {
    fields: Vec<(String, Value)>,
    typecast: bool,
    renew: bool,
    renew_time_key: Option<String>,
    keep: Vec<String>,
    remove: Vec<String>,
    hostname: String,
}

/// Reads a `<filter>` section of type record_transformer.
pub fn configure(section: &Element) -> Result<Box<dyn Filter>> {
    let params: Params = section.params()?;
    let mut errors = ConfigErrors::new();
    if params.keep_keys.is_some() && !params.renew_record {
        let message = "'renew_record' must be true to use 'keep_keys'";
        errors.push(section.error_at("keep_keys", message));
    }
    let remove = params.remove_keys.unwrap_or_default();
    for key in remove
        .iter()
        .filter(|key| key.starts_with("$.") || key.starts_with("$["))
    {
        let message = format!("nested fields cannot be removed yet: '{key}'");
        errors.push(section.error_at("remove_keys", message));
    }
    let mode = if params.enable_ruby {
        Mode::Ruby
    } else {
        Mode::Plain
    };
    let mut fields = Vec::new();
    if let Some(record) = errors.collect(section.section("record")).flatten() {
        for (key, value) in record.entries() {
            let value = read_value(record, key, value, mode);
            match value {
                Ok(value) => fields.push((key.to_owned(), value)),
                Err(message) => errors.push(record.error_at(key, message)),
            }
        }
    }
    errors.into_result()?;
    let hostname = nix::unistd::gethostname()
        .map_err(|error| section.error(format!("the host name cannot be read: {error}")))?;
    Ok(Box::new(RecordTransformer {
        fields,
        typecast: params.auto_typecast,
        renew: params.renew_record,
        renew_time_key: params.renew_time_key,
        keep: params.keep_keys.unwrap_or_default(),
        remove,
        hostname: hostname.to_string_lossy().into_owned(),
    }))
}

fn read_value(
    section: &Element,
    key: &str,
    value: Option<&str>,
    mode: Mode,
) -> std::result::Result<Value, String> {
    let Some(value) = value else {
        return Ok(Value::Encoded(vec![0xc0]));
    };
    if value.starts_with(['{', '[']) {
        match Json::parse(value) {
            Ok(json) => return from_json(json, mode),
            Err(error) => section.warn_at(
                key,
                format!("the value is no JSON and used as text: {error}"),
            ),
        }
    }
    from_text(value, mode)
}

fn from_text(value: &str, mode: Mode) -> std::result::Result<Value, String> {
    let template = Template::parse(value, mode)?;
    Ok(match template.constant() {
        Some(text) => Value::Encoded(encoded(|out| write_str(out, text.as_bytes()))),
        None => Value::Template(template),
    })
}

fn from_json(json: Json, mode: Mode) -> std::result::Result<Value, String> {
    Ok(match json {
        Json::Null => Value::Encoded(vec![0xc0]),
        Json::Bool(value) => Value::Encoded(encoded(|out| write_bool(out, value))),
        Json::Number(number) => {
            Value::Encoded(encoded(|out| match (number.as_i64(), number.as_u64()) {
                (Some(int), _) => write_int(out, int),
                (_, Some(int)) => write_uint(out, int),
                _ => write_f64(out, number.as_f64().unwrap_or_default()),
            }))
        }
        Json::Text(text) => from_text(&text, mode)?,
        Json::Array(items) => {
            let items = items.into_iter().map(|item| from_json(item, mode));
            Value::Array(items.collect::<std::result::Result<_, _>>()?)
        }
        Json::Object(pairs) => {
            let pair = |(key, value): (String, Json)| {
                Ok((Template::parse(&key, mode)?, from_json(value, mode)?))
            };
            let pairs = pairs.into_iter().map(pair);
            Value::Map(pairs.collect::<std::result::Result<_, String>>()?)
        }
    })
}

fn encoded(write: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
    let mut out = Vec::new();
    write(&mut out);
    out
}

impl Value {
    fn write(&self, scene: &Scene<'_>, typecast: bool, out: &mut Vec<u8>) {
        match self {
            Value::Encoded(bytes) => out.extend_from_slice(bytes),
            Value::Template(template) => template.write(scene, typecast, out),
            Value::Array(items) => {
                write_array_header(out, items.len());
                items
                    .iter()
                    .for_each(|item| item.write(scene, typecast, out));
            }
            Value::Map(pairs) => {
                write_map_header(out, pairs.len());
                for (key, value) in pairs {
                    write_str(out, &key.text(scene));
                    value.write(scene, typecast, out);
                }
            }
        }
    }
}

/// The values of one record, kept between records to save allocations.
#[derive(Default)]
struct Scratch {
    bytes: Vec<u8>,
    ranges: Vec<Range<usize>>,
    written: Vec<bool>,
}

impl RecordTransformer {
    fn transform(&self, tag: &Tag, entry: &RawEntry<'_>, scratch: &mut Scratch, out: &mut Entries) {
        let scene = Scene {
            tag,
            time: entry.time,
            record: entry.record,
            hostname: &self.hostname,
        };
        scratch.bytes.clear();
        scratch.ranges.clear();
        scratch.written.clear();
        for (_, value) in &self.fields {
            let start = scratch.bytes.len();
            value.write(&scene, self.typecast, &mut scratch.bytes);
            scratch.ranges.push(start..scratch.bytes.len());
        }
        scratch.written.resize(self.fields.len(), false);
        let mut map = out.begin(self.time(entry));
        if self.renew {
            self.write_kept(entry.record, scratch, &mut map);
        } else {
            for field in record::fields(entry.record).into_iter().flatten().flatten() {
                self.write_field(field, scratch, &mut map);
            }
        }
        for (at, (key, _)) in self.fields.iter().enumerate() {
            // Where a key stands twice in <record> the last one counts; Element keeps only that one.
            if !scratch.written[at] && !self.remove.contains(key) {
                map.raw(key, &scratch.bytes[scratch.ranges[at].clone()]);
            }
        }
        map.finish();
    }

    fn write_kept(&self, record: &[u8], scratch: &mut Scratch, map: &mut MapWriter<'_>) {
        for key in &self.keep {
            let wanted = |field: &record::Field<'_>| field.key == key.as_bytes();
            let fields = record::fields(record).into_iter().flatten().flatten();
            if let Some(field) = fields.filter(wanted).last() {
                self.write_field(field, scratch, map);
            }
        }
    }

    /// A field of the original record: replaced, removed or as it is.
    fn write_field(
        &self,
        field: record::Field<'_>,
        scratch: &mut Scratch,
        map: &mut MapWriter<'_>,
    ) {
        if self.remove.iter().any(|key| key.as_bytes() == field.key) {
            return;
        }
        let replaced = self
            .fields
            .iter()
            .position(|(key, _)| key.as_bytes() == field.key);
        match replaced {
            Some(at) if scratch.written[at] => {}
            Some(at) => {
                scratch.written[at] = true;
                map.raw(
                    &self.fields[at].0,
                    &scratch.bytes[scratch.ranges[at].clone()],
                );
            }
            None => {
                map.buffer().extend_from_slice(field.raw);
                map.count_fields(1);
            }
        }
    }

    fn time(&self, entry: &RawEntry<'_>) -> EventTime {
        let value = self.renew_time_key.as_ref();
        let Some(value) = value.and_then(|key| record::find(entry.record, key)) else {
            return entry.time;
        };
        let mut text = Vec::new();
        text::append(value, &mut text);
        let seconds = leading_float(&String::from_utf8_lossy(&text)).max(0.0);
        EventTime {
            sec: seconds as u32,
            nsec: (seconds.fract() * 1e9) as u32,
        }
    }
}

/// The number that a text begins with, 0 if with none: Ruby's `to_f`.
fn leading_float(text: &str) -> f64 {
    let text = text.trim_start();
    let number = |c: char| c.is_ascii_digit() || matches!(c, '.' | '-' | '+' | 'e' | 'E');
    let end = text.find(|c| !number(c)).unwrap_or(text.len());
    (0..=end)
        .rev()
        .find_map(|end| text[..end].parse().ok())
        .unwrap_or(0.0)
}

impl Filter for RecordTransformer {
    fn apply(&self, tag: &Tag, batch: Bytes, count: usize) -> Filtered {
        let mut scratch = Scratch::default();
        let mut out = Entries::with_capacity(batch.len() + batch.len() / 4);
        let mut at = 0;
        for entry in entries(&batch).map_while(std::result::Result::ok) {
            self.transform(tag, &entry, &mut scratch, &mut out);
            at += entry.bytes.len();
        }
        // Entries that cannot be read (none of ours) are left for the receiver to judge.
        if at < batch.len() {
            out.push_raw(&batch[at..]);
        }
        let (entries, _) = out.freeze();
        Filtered { entries, count }
    }
}

#[cfg(test)]
#[path = "record_transformer_tests.rs"]
mod tests;
