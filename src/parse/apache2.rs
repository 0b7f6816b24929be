//! `@type apache2`: the combined format with numbers and nil for `-`. All eight keys are always there, in Fluentd's order.

use crate::config::{Element, Result};
use crate::event::msgpack::write_int;
use crate::event::{Entries, EventTime};

use super::common::{Common, KeyLabel, RecordWriter, Rules};
use super::presets::ACCESS_TIME;
use super::regexp::{Captures, Flags, Pattern};
use super::time::{TimeType, leading_integer};
use super::{Extra, Parsed, Parser};

const EXPRESSION: &str = concat!(
    r#"^(?<host>[^ ]*) [^ ]* (?<user>[^ ]*) \[(?<time>[^\]]*)\]"#,
    r#" "(?<method>\S+)(?: +(?<path>(?:[^"]|\\")*?)(?: +\S*)?)?" (?<code>[^ ]*) (?<size>[^ ]*)"#,
    r#"(?: "(?<referer>(?:[^"]|\\")*)" "(?<agent>(?:[^"]|\\")*)")?$"#,
);

/// What a field of the line becomes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Form {
    /// Text; nil where it is missing.
    Text,
    /// Text; nil where it is `-`.
    Dashed,
    /// A number; nil where it is 0 or `-`.
    Code,
    /// A number; nil where it is `-`.
    Size,
}

/// The fields in the record's order.
const FIELDS: [(&str, Form); 8] = [
    ("host", Form::Dashed),
    ("user", Form::Dashed),
    ("method", Form::Text),
    ("path", Form::Text),
    ("code", Form::Code),
    ("size", Form::Size),
    ("referer", Form::Dashed),
    ("agent", Form::Dashed),
];

/// Parses access logs.
#[derive(Debug)]
pub struct Apache2Parser {
    pattern: Pattern,
    captures: Captures,
    /// For each of [`FIELDS`], and last for the time: the place of its name in the pattern.
    places: Vec<usize>,
    rules: Rules,
}

/// Reads a `<parse>` section with `@type apache2`.
pub fn configure(section: &Element) -> Result<Box<dyn Parser>> {
    let common = Common::read(section)?;
    common.warn_unused_conversions(section, "apache2");
    for key in ["time_format", "time_type", "time_key"] {
        if section.has(key) {
            section.warn_at(
                key,
                format!(
                    "the apache2 parser does not use {key}, as in Fluentd: its time format is fixed"
                ),
            );
        }
    }
    Ok(Box::new(Apache2Parser::new(section, &common)?))
}

impl Apache2Parser {
    fn new(section: &Element, common: &Common) -> Result<Apache2Parser> {
        let common = Common {
            time_key: None,
            time_format: Some(ACCESS_TIME.to_owned()),
            keep_time_key: common.keep_time_key,
            ..Common::default()
        };
        let pattern = Pattern::compile(EXPRESSION, Flags::default())
            .map_err(|error| section.error(error.to_string()))?;
        let names: Vec<&str> = pattern.names().collect();
        let keys = FIELDS.iter().map(|(key, _)| *key).chain(["time"]);
        let places = keys
            .filter_map(|key| names.iter().position(|name| *name == key))
            .collect();
        Ok(Apache2Parser {
            places,
            pattern,
            captures: Captures::default(),
            rules: Rules::configure(section, &common, Some("time"), TimeType::String)?,
        })
    }
}

impl Parser for Apache2Parser {
    fn parse(
        &mut self,
        text: &[u8],
        now: EventTime,
        extra: Extra<'_>,
        batch: &mut Entries,
    ) -> Parsed {
        if !self.pattern.captures(text, &mut self.captures) {
            return Parsed::Unmatched;
        }
        let mut record = RecordWriter::begin(&mut self.rules, now, extra, batch);
        for ((key, form), place) in FIELDS.iter().zip(&self.places) {
            let value = self.captures.get(*place).map(|range| &text[range]);
            let field = record.begin_field(key.as_bytes(), KeyLabel::Str);
            write(&mut record, *form, value);
            record.end_field(field);
        }
        if let Some(time) = self.captures.get(self.places[FIELDS.len()]) {
            record.bin(b"time", &text[time]);
        }
        record.finish()
    }
}

fn write(record: &mut RecordWriter<'_, '_>, form: Form, value: Option<&[u8]>) {
    match (form, value) {
        (_, None) | (Form::Dashed | Form::Size, Some(b"-")) => record.buffer().push(0xc0),
        (Form::Text | Form::Dashed, Some(text)) => record.text(text),
        (Form::Code | Form::Size, Some(digits)) => match leading_integer(digits).0 {
            0 if form == Form::Code => record.buffer().push(0xc0),
            number => write_int(record.buffer(), number),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{json_of, section};
    use super::*;
    use serde_json::json;

    fn parser(keep_time_key: bool) -> Apache2Parser {
        let common = Common {
            keep_time_key,
            ..Common::default()
        };
        Apache2Parser::new(&section(), &common).expect("a parser")
    }

    #[test]
    fn numbers_are_numbers_and_dashes_nil() {
        let line = br#"192.168.0.1 - - [28/Feb/2013:12:00:00 +0900] "GET / HTTP/1.1" 200 777 "-" "Opera \"12\"""#;
        let (time, record) = json_of(&mut parser(false), line);
        assert_eq!(time.sec, 1_362_020_400);
        assert_eq!(
            record,
            json!({"host": "192.168.0.1", "user": null, "method": "GET", "path": "/", "code": 200, "size": 777, "referer": null, "agent": "Opera \\\"12\\\""})
        );
    }

    #[test]
    fn missing_parts_are_nil_and_a_kept_time_comes_last() {
        let line = br#"h - u [28/Feb/2013:12:00:00 +0900] "-" 0 -"#;
        let (_, record) = json_of(&mut parser(true), line);
        assert_eq!(
            record,
            json!({"host": "h", "user": "u", "method": "-", "path": null, "code": null, "size": null, "referer": null, "agent": null, "time": "28/Feb/2013:12:00:00 +0900"})
        );
    }

    #[test]
    fn a_bad_time_makes_the_line_invalid() {
        let line = br#"h - u [yesterday] "GET / HTTP/1.1" 200 1"#;
        let mut batch = Entries::default();
        let now = EventTime { sec: 0, nsec: 0 };
        let parsed = parser(false).parse(line, now, Extra::default(), &mut batch);
        assert!(matches!(parsed, Parsed::Invalid(_)));
        assert!(batch.is_empty());
    }
}
