//! What every `<parse>` section has in common: the time field, nil values, `types`.
//!
//! A parser writes its fields through a [`RecordWriter`]; the rules are applied to each value where it was written. Nothing
//! is built in between and nothing is copied unless a rule changes it. Next stop: the batch of the source.

use std::collections::BTreeMap;

use serde::Deserialize;

use crate::config::types::Time;
use crate::config::{ConfigErrors, Element, Result};
use crate::event::msgpack::{read_text, write_str};
use crate::event::{Entries, EventTime, MapWriter};

use super::regexp::Pattern;
use super::time::{TimeParser, TimeSettings, TimeType};
use super::types::{self, Type};
use super::{Extra, Parsed};

/// Where the time stands in an entry that [`Entries::begin`] began: behind the array head.
const TIME_AT: usize = 1;

/// The parameters that all parsers share.
#[derive(Clone, Debug, Deserialize)]
#[serde(default)]
pub struct Common {
    /// The field that is the event's time.
    pub time_key: Option<String>,
    /// Whether the time field stays in the record.
    pub keep_time_key: bool,
    /// How the time is written: `float`, `unixtime`, `string`, `mixed`.
    pub time_type: Option<TimeType>,
    /// strptime format, `%iso8601`, or with `mixed` also `unixtime` and `float`.
    pub time_format: Option<String>,
    /// With `mixed`: what to try after `time_format`.
    pub time_format_fallbacks: Vec<String>,
    /// `+HH:MM`, `+HHMM`, `+HH` or `Region/City`; counts where the format has no zone.
    pub timezone: Option<String>,
    /// Whether times without zone are local (the default).
    pub localtime: Option<bool>,
    /// Whether times without zone are UTC.
    pub utc: Option<bool>,
    /// Conversions, `field:type[:option]`.
    pub types: BTreeMap<String, String>,
    /// Values in which this regexp matches become nil.
    pub null_value_pattern: Option<String>,
    /// Whether empty values become nil.
    pub null_empty_string: bool,
    /// Whether an event without time gets the current one (otherwise the line is unmatched).
    pub estimate_current_event: bool,
    /// Fluentd's time limit for one text. Regexps have a step limit instead.
    pub timeout: Option<Time>,
}

impl Default for Common {
    fn default() -> Common {
        Common {
            time_key: None,
            keep_time_key: false,
            time_type: None,
            time_format: None,
            time_format_fallbacks: Vec::new(),
            timezone: None,
            localtime: None,
            utc: None,
            types: BTreeMap::new(),
            null_value_pattern: None,
            null_empty_string: false,
            estimate_current_event: true,
            timeout: None,
        }
    }
}

impl Common {
    /// The section's common parameters.
    pub fn read(section: &Element) -> Result<Common> {
        let common: Common = section.params()?;
        if common.timeout.is_some() {
            section.warn_at(
                "timeout",
                "timeout is not used: a regexp that does not end within a million steps counts as unmatched instead",
            );
        }
        Ok(common)
    }

    /// The time parameters.
    pub fn time_settings(&self) -> TimeSettings {
        TimeSettings {
            time_type: self.time_type,
            time_format: self.time_format.clone(),
            time_format_fallbacks: self.time_format_fallbacks.clone(),
            timezone: self.timezone.clone(),
            localtime: self.localtime,
            utc: self.utc,
        }
    }

    /// Warns about parameters that the named parser leaves aside, as Fluentd's does in silence.
    pub fn warn_unused_conversions(&self, section: &Element, parser: &str) {
        let unused = [
            ("types", !self.types.is_empty()),
            ("null_value_pattern", self.null_value_pattern.is_some()),
            ("null_empty_string", self.null_empty_string),
        ];
        for (key, _) in unused.iter().filter(|(_, given)| *given) {
            section.warn_at(
                key,
                format!("the {parser} parser does not use {key}, as in Fluentd"),
            );
        }
    }
}

/// The common parameters, checked and compiled.
#[derive(Debug)]
pub struct Rules {
    time_key: Option<Vec<u8>>,
    keep_time_key: bool,
    estimate_current_event: bool,
    time: TimeParser,
    null_value_pattern: Option<Pattern>,
    null_empty_string: bool,
    types: Vec<(Vec<u8>, Type)>,
}

impl Rules {
    /// Compiles the rules. `time_key` and `time_type` are the parser's own defaults.
    pub fn configure(
        section: &Element,
        common: &Common,
        time_key: Option<&str>,
        time_type: TimeType,
    ) -> Result<Rules> {
        let mut errors = ConfigErrors::new();
        let null_value_pattern = common.null_value_pattern.as_deref().and_then(|text| {
            let compiled = Pattern::from_config(text).map_err(|error| {
                section
                    .error_at("null_value_pattern", error.to_string())
                    .into()
            });
            errors.collect(compiled)
        });
        let settings = common.time_settings();
        let time = errors.collect(TimeParser::configure(section, &settings, time_type));
        let types = errors.collect(types::configure(section, &common.types));
        errors.into_result()?;
        let sound = "nothing was wrong";
        let (time, types) = (time.expect(sound), types.expect(sound));
        let time_key = common.time_key.as_deref().or(time_key);
        Ok(Rules {
            time_key: time_key.map(|key| key.as_bytes().to_vec()),
            keep_time_key: common.keep_time_key,
            estimate_current_event: common.estimate_current_event,
            time,
            null_value_pattern,
            null_empty_string: common.null_empty_string,
            types,
        })
    }

    fn apply(&mut self, out: &mut Vec<u8>, at: usize, kind: Option<usize>, now: EventTime) {
        if self.is_null(&out[at..]) {
            out.truncate(at);
            out.push(0xc0);
        } else if let Some(kind) = kind {
            self.types[kind].1.convert(out, at, now);
        }
    }

    fn is_null(&self, value: &[u8]) -> bool {
        if !self.null_empty_string && self.null_value_pattern.is_none() {
            return false;
        }
        let Ok(Some((text, _))) = read_text(value) else {
            return false;
        };
        let by_pattern = |pattern: &Pattern| pattern.is_match(text);
        self.null_empty_string && text.is_empty()
            || self.null_value_pattern.as_ref().is_some_and(by_pattern)
    }
}

/// How a field's key is labelled on the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyLabel {
    /// MessagePack str.
    Str,
    /// As the text that it was cut from: MessagePack bin unless the batch is labelled. ltsv only.
    Cut,
}

/// A field whose value is being written.
#[derive(Debug)]
#[must_use = "the field must be ended"]
pub struct OpenField {
    key_at: usize,
    value_at: usize,
    is_time: bool,
    is_extra: bool,
    kind: Option<usize>,
}

/// Writes one record and applies the rules to its fields as they come.
#[derive(Debug)]
pub struct RecordWriter<'r, 'b> {
    rules: &'r mut Rules,
    map: MapWriter<'b>,
    start: usize,
    fields: usize,
    now: EventTime,
    extra: Extra<'r>,
    has_extra: bool,
    time: Option<std::result::Result<EventTime, String>>,
}

impl<'r, 'b> RecordWriter<'r, 'b> {
    /// Begins a record at the end of the batch. Dropped unfinished, it leaves no trace there.
    pub fn begin(
        rules: &'r mut Rules,
        now: EventTime,
        extra: Extra<'r>,
        batch: &'b mut Entries,
    ) -> RecordWriter<'r, 'b> {
        let start = batch.len();
        RecordWriter {
            rules,
            map: batch.begin(now),
            start,
            fields: 0,
            now,
            extra,
            has_extra: false,
            time: None,
        }
    }

    /// A field of tailed text: MessagePack bin unless the batch is labelled.
    #[inline]
    pub fn bin(&mut self, key: &[u8], value: &[u8]) {
        let field = self.begin_field(key, KeyLabel::Str);
        self.map.text(value);
        self.end_field(field);
    }

    /// Tailed text as the value of the field that was begun.
    #[inline]
    pub fn text(&mut self, value: &[u8]) {
        self.map.text(value);
    }

    /// A field that is nil.
    pub fn nil(&mut self, key: &[u8]) {
        let field = self.begin_field(key, KeyLabel::Str);
        self.map.buffer().push(0xc0);
        self.end_field(field);
    }

    /// Writes a key. Exactly one value must be appended to [`RecordWriter::buffer`], then the field ended.
    #[inline]
    pub fn begin_field(&mut self, key: &[u8], label: KeyLabel) -> OpenField {
        let is_time = self.rules.time_key.as_deref() == Some(key);
        let is_extra = self
            .extra
            .field
            .is_some_and(|(name, _)| name.as_bytes() == key);
        let kind = self.rules.types.iter().position(|(name, _)| name == key);
        let key_at = self.map.buffer().len();
        match label {
            KeyLabel::Str => write_str(self.map.buffer(), key),
            KeyLabel::Cut => self.map.text(key),
        }
        OpenField {
            key_at,
            value_at: self.map.buffer().len(),
            is_time,
            is_extra,
            kind,
        }
    }

    /// The buffer, for the value of the field that was begun.
    pub fn buffer(&mut self) -> &mut Vec<u8> {
        self.map.buffer()
    }

    /// Ends a field: takes the time from it, applies the rules, drops it where it must not stay.
    #[inline]
    pub fn end_field(&mut self, field: OpenField) {
        if field.is_time {
            let given = types::given(&self.map.buffer()[field.value_at..]);
            self.time = Some(self.rules.time.parse(given, self.now));
            if !self.rules.keep_time_key {
                return self.map.buffer().truncate(field.key_at);
            }
        }
        let out = self.map.buffer();
        self.rules.apply(out, field.value_at, field.kind, self.now);
        if field.is_extra {
            // As Fluentd's `||=`: nil and false count as absent.
            if matches!(out[field.value_at], 0xc0 | 0xc2) {
                return out.truncate(field.key_at);
            }
            self.has_extra = true;
        }
        self.fields += 1;
    }

    /// Gives the time directly, for parsers whose time is not a field.
    pub fn set_time(&mut self, time: EventTime) {
        self.time = Some(Ok(time));
    }

    /// Completes the record, unless its time is wrong or missing where it must not.
    pub fn finish(mut self) -> Parsed {
        match self.time.take() {
            Some(Err(reason)) => return Parsed::Invalid(reason),
            Some(Ok(time)) => {
                let at = self.start + TIME_AT;
                self.map.buffer()[at..at + 10].copy_from_slice(&time.to_bytes());
            }
            None if !self.rules.estimate_current_event => return Parsed::Unmatched,
            None => {}
        }
        self.map.count_fields(self.fields);
        if let Some((key, text)) = self.extra.field
            && !self.has_extra
        {
            self.map.str(key, text);
        }
        self.map.finish();
        Parsed::Events(1)
    }
}
