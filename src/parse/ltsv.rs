//! `@type ltsv`: `label:value` pairs between tabs. Never unmatched: pieces without label are left out, rubbish gives `{}`.

use serde::Deserialize;

use crate::config::{Element, Result};
use crate::event::{Entries, EventTime};

use super::common::{Common, KeyLabel, RecordWriter, Rules};
use super::regexp::{Captures, Pattern};
use super::time::TimeType;
use super::{Extra, Parsed, Parser};

/// The parameters of `@type ltsv`.
#[derive(Clone, Debug, Deserialize)]
#[serde(default)]
struct Params {
    /// What stands between pairs.
    delimiter: String,
    /// A regexp for what stands between pairs, instead of `delimiter`.
    delimiter_pattern: Option<String>,
    /// What stands between label and value.
    label_delimiter: String,
}

impl Default for Params {
    fn default() -> Params {
        Params {
            delimiter: "\t".to_owned(),
            delimiter_pattern: None,
            label_delimiter: ":".to_owned(),
        }
    }
}

/// Splits pairs.
#[derive(Debug)]
pub struct LtsvParser {
    delimiter: Delimiter,
    label_delimiter: Vec<u8>,
    rules: Rules,
}

#[derive(Debug)]
enum Delimiter {
    Text(Vec<u8>),
    Pattern(Box<Pattern>, Captures),
}

/// Reads a `<parse>` section with `@type ltsv`.
pub fn configure(section: &Element) -> Result<Box<dyn Parser>> {
    let common = Common::read(section)?;
    let params: Params = section.params()?;
    Ok(Box::new(LtsvParser::new(section, &common, params)?))
}

impl LtsvParser {
    fn new(section: &Element, common: &Common, params: Params) -> Result<LtsvParser> {
        let delimiter = match &params.delimiter_pattern {
            Some(text) => {
                let pattern = Pattern::from_config(text)
                    .map_err(|error| section.error_at("delimiter_pattern", error.to_string()))?;
                Delimiter::Pattern(Box::new(pattern), Captures::default())
            }
            None => Delimiter::Text(params.delimiter.into_bytes()),
        };
        Ok(LtsvParser {
            delimiter,
            label_delimiter: params.label_delimiter.into_bytes(),
            rules: Rules::configure(section, common, Some("time"), TimeType::String)?,
        })
    }
}

impl Delimiter {
    /// Length of the first piece, and of the delimiter behind it.
    fn find(&mut self, text: &[u8]) -> (usize, usize) {
        let found = match self {
            Delimiter::Text(delimiter) if delimiter.is_empty() => None,
            Delimiter::Text(delimiter) => {
                let at = match delimiter[..] {
                    [byte] => memchr::memchr(byte, text),
                    _ => memchr::memmem::find(text, delimiter),
                };
                at.map(|at| (at, delimiter.len()))
            }
            Delimiter::Pattern(pattern, captures) => pattern
                .captures(text, captures)
                .then(|| captures.whole())
                .filter(|range| !range.is_empty())
                .map(|range| (range.start, range.len())),
        };
        found.unwrap_or((text.len(), 0))
    }
}

impl Parser for LtsvParser {
    fn parse(
        &mut self,
        text: &[u8],
        now: EventTime,
        extra: Extra<'_>,
        batch: &mut Entries,
    ) -> Parsed {
        let mut record = RecordWriter::begin(&mut self.rules, now, extra, batch);
        let mut rest = text;
        while !rest.is_empty() {
            let (length, skip) = self.delimiter.find(rest);
            let pair = &rest[..length];
            rest = &rest[length + skip..];
            let Some(at) = memchr::memmem::find(pair, &self.label_delimiter) else {
                continue;
            };
            let field = record.begin_field(&pair[..at], KeyLabel::Cut);
            record.text(&pair[at + self.label_delimiter.len()..]);
            record.end_field(field);
        }
        record.finish()
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{json_of, section};
    use super::*;
    use proptest::prelude::*;
    use serde_json::json;

    fn parser(params: Params) -> LtsvParser {
        LtsvParser::new(&section(), &Common::default(), params).expect("a parser")
    }

    #[test]
    fn the_first_label_delimiter_counts_and_pieces_without_one_are_left_out() {
        let (time, record) = json_of(
            &mut parser(Params::default()),
            b"time:2013-02-28T12:00:00+09:00\thost:192.168.0.1\trubbish\treq:GET /a:b\tempty:",
        );
        assert_eq!(time.sec, 1_362_020_400);
        assert_eq!(
            record,
            json!({"host": "192.168.0.1", "req": "GET /a:b", "empty": ""})
        );
    }

    #[test]
    fn keys_and_values_are_bin() {
        let mut batch = Entries::default();
        let now = EventTime { sec: 1, nsec: 0 };
        parser(Params::default()).parse(b"a:b", now, Extra::default(), &mut batch);
        assert!(batch.freeze().0.ends_with(b"\x81\xc4\x01a\xc4\x01b"));
    }

    #[test]
    fn rubbish_is_an_empty_record() {
        let (_, record) = json_of(&mut parser(Params::default()), b"rubbish");
        assert_eq!(record, json!({}));
    }

    #[test]
    fn delimiters_may_be_a_pattern() {
        let params = Params {
            delimiter_pattern: Some(r"/\s+/".to_owned()),
            label_delimiter: "=".to_owned(),
            ..Params::default()
        };
        let (_, record) = json_of(&mut parser(params), b"a=1  b=2\tc=3");
        assert_eq!(record, json!({"a": "1", "b": "2", "c": "3"}));
    }

    proptest! {
        #[test]
        fn every_line_gives_one_record(line in proptest::collection::vec(any::<u8>(), 0..60)) {
            let line: Vec<u8> = line.into_iter().map(|b| if b < 16 { b':' } else if b < 32 { b'\t' } else { b }).collect();
            let mut batch = Entries::default();
            let now = EventTime { sec: 0, nsec: 0 };
            let parsed = parser(Params::default()).parse(&line, now, Extra::default(), &mut batch);
            prop_assert_eq!(parsed, Parsed::Events(1));
            prop_assert!(crate::event::msgpack::entries(&batch.freeze().0).all(|entry| entry.is_ok()));
        }
    }
}
