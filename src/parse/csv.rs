//! `@type csv` and `@type tsv`: columns in the order of `keys`.
//!
//! Columns are split here and not by csv-core, which cannot tell `""` (an empty string) from nothing (nil) and takes malformed
//! quotes in silence: Fluentd's csv tells the first apart and refuses the second. An empty line is unmatched, as in Fluentd 1.19.

use serde::Deserialize;

use crate::config::{Element, Result};
use crate::event::{Entries, EventTime};

use super::common::{Common, RecordWriter, Rules};
use super::time::TimeType;
use super::types::split;
use super::{Extra, Parsed, Parser};

/// The parameters of `@type csv` and, without the engine, of `@type tsv`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
struct Params {
    /// The name of each column.
    keys: Vec<String>,
    /// What stands between columns: a comma (csv) or a tab (tsv).
    delimiter: Option<String>,
    /// Fluentd's engine, `normal` or `fast`.
    parser_engine: Option<Engine>,
    /// Old name of `parser_engine`.
    parser_type: Option<Engine>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Engine {
    Normal,
    Fast,
}

/// Splits columns.
#[derive(Debug)]
pub struct CsvParser {
    keys: Vec<String>,
    delimiter: Vec<u8>,
    quoted: bool,
    /// The columns of the line at hand: kept between lines for its memory.
    columns: Vec<Option<Vec<u8>>>,
    rules: Rules,
}

/// Reads a `<parse>` section with `@type csv`.
pub fn configure(section: &Element) -> Result<Box<dyn Parser>> {
    let common = Common::read(section)?;
    let params: Params = section.params()?;
    for (key, engine) in [
        ("parser_engine", params.parser_engine),
        ("parser_type", params.parser_type),
    ] {
        if engine == Some(Engine::Fast) {
            section.warn_at(key, "the fast engine's own reading of quotes is not copied: columns are read as by the normal one");
        }
    }
    Ok(Box::new(CsvParser::new(section, &common, params, true)?))
}

/// Reads a `<parse>` section with `@type tsv`.
pub fn configure_tsv(section: &Element) -> Result<Box<dyn Parser>> {
    let common = Common::read(section)?;
    let params: Params = section.params()?;
    for key in ["parser_engine", "parser_type"] {
        if section.has(key) {
            section.warn_at(key, format!("the tsv parser does not use {key}"));
        }
    }
    Ok(Box::new(CsvParser::new(section, &common, params, false)?))
}

impl CsvParser {
    fn new(section: &Element, common: &Common, params: Params, quoted: bool) -> Result<CsvParser> {
        if params.keys.is_empty() {
            return Err(section
                .error_at("keys", "'keys' parameter is required")
                .into());
        }
        let default = if quoted { "," } else { "\t" };
        let delimiter = params.delimiter.unwrap_or_else(|| default.to_owned());
        if delimiter.is_empty() {
            return Err(section
                .error_at("delimiter", "delimiter must not be empty")
                .into());
        }
        Ok(CsvParser {
            keys: params.keys,
            delimiter: delimiter.into_bytes(),
            quoted,
            columns: Vec::new(),
            rules: Rules::configure(section, common, None, TimeType::String)?,
        })
    }

    /// Fills `columns`; an error where quotes are malformed.
    fn split(&mut self, text: &[u8]) -> std::result::Result<(), String> {
        self.columns.clear();
        if !self.quoted {
            let pieces = pieces_at_most(text, &self.delimiter, self.keys.len());
            self.columns
                .extend(pieces.map(|piece| Some(piece.to_vec())));
            return Ok(());
        }
        if memchr::memchr(b'"', text).is_none() {
            let pieces = split(text, &self.delimiter);
            self.columns.extend(pieces.into_iter().map(unquoted));
            return Ok(());
        }
        let mut rest = Some(text);
        while let Some(text) = rest {
            let (column, behind) = match text.strip_prefix(b"\"") {
                Some(inner) => quoted(inner, &self.delimiter)?,
                None => until_delimiter(text, &self.delimiter)?,
            };
            self.columns.push(column);
            rest = behind;
        }
        Ok(())
    }
}

impl Parser for CsvParser {
    fn parse(
        &mut self,
        text: &[u8],
        now: EventTime,
        extra: Extra<'_>,
        batch: &mut Entries,
    ) -> Parsed {
        if self.quoted && text.is_empty() {
            return Parsed::Unmatched;
        }
        if let Err(reason) = self.split(text) {
            return Parsed::Invalid(reason);
        }
        let mut record = RecordWriter::begin(&mut self.rules, now, extra, batch);
        for (at, key) in self.keys.iter().enumerate() {
            match self.columns.get(at) {
                Some(Some(value)) => record.bin(key.as_bytes(), value),
                _ => record.nil(key.as_bytes()),
            }
        }
        record.finish()
    }
}

/// At most so many pieces: the last one keeps its delimiters.
fn pieces_at_most<'a>(
    text: &'a [u8],
    delimiter: &'a [u8],
    limit: usize,
) -> impl Iterator<Item = &'a [u8]> {
    let mut rest = (!text.is_empty()).then_some(text);
    let mut left = limit;
    std::iter::from_fn(move || {
        let text = rest.take()?;
        left -= 1;
        let cut = memchr::memmem::find(text, delimiter).filter(|_| left > 0);
        let Some(at) = cut else { return Some(text) };
        rest = Some(&text[at + delimiter.len()..]);
        Some(&text[..at])
    })
}

fn unquoted(column: &[u8]) -> Option<Vec<u8>> {
    (!column.is_empty()).then(|| column.to_vec())
}

type Column<'a> = (Option<Vec<u8>>, Option<&'a [u8]>);

fn until_delimiter<'a>(
    text: &'a [u8],
    delimiter: &[u8],
) -> std::result::Result<Column<'a>, String> {
    let end = memchr::memmem::find(text, delimiter);
    let column = &text[..end.unwrap_or(text.len())];
    if memchr::memchr(b'"', column).is_some() {
        return Err("Illegal quoting".to_owned());
    }
    Ok((
        unquoted(column),
        end.map(|at| &text[at + delimiter.len()..]),
    ))
}

/// A column behind its opening quote; a doubled quote is one.
fn quoted<'a>(inner: &'a [u8], delimiter: &[u8]) -> std::result::Result<Column<'a>, String> {
    let mut column = Vec::new();
    let mut rest = inner;
    loop {
        let Some(quote) = memchr::memchr(b'"', rest) else {
            return Err("Unclosed quoted field".to_owned());
        };
        column.extend_from_slice(&rest[..quote]);
        rest = &rest[quote + 1..];
        if let Some(behind) = rest.strip_prefix(b"\"") {
            column.push(b'"');
            rest = behind;
        } else if rest.is_empty() {
            return Ok((Some(column), None));
        } else if let Some(behind) = rest.strip_prefix(delimiter) {
            return Ok((Some(column), Some(behind)));
        } else {
            return Err("Any value after quoted field isn't allowed".to_owned());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{json_of, section};
    use super::*;
    use proptest::prelude::*;
    use serde_json::json;

    fn parser(keys: &[&str], quoted: bool) -> CsvParser {
        let params = Params {
            keys: keys.iter().map(|key| (*key).to_owned()).collect(),
            ..Params::default()
        };
        CsvParser::new(&section(), &Common::default(), params, quoted).expect("a parser")
    }

    #[test]
    fn quoted_empty_is_a_string_and_unquoted_empty_nil() {
        let mut csv = parser(&["a", "b", "c", "d"], true);
        for (line, record) in [
            (
                &b"1,\"\",,4,extra"[..],
                json!({"a": "1", "b": "", "c": null, "d": "4"}),
            ),
            (b"1,2", json!({"a": "1", "b": "2", "c": null, "d": null})),
            (
                b"\"x, \"\"y\"\"\",2,3,4",
                json!({"a": "x, \"y\"", "b": "2", "c": "3", "d": "4"}),
            ),
        ] {
            assert_eq!(json_of(&mut csv, line).1, record);
        }
    }

    #[test]
    fn malformed_quotes_are_invalid_and_an_empty_line_unmatched() {
        let mut csv = parser(&["a", "b"], true);
        let mut batch = Entries::default();
        let now = EventTime { sec: 0, nsec: 0 };
        for line in [&b"a\"b,c"[..], b"\"a", b"\"a\"b,c"] {
            let parsed = csv.parse(line, now, Extra::default(), &mut batch);
            assert!(matches!(parsed, Parsed::Invalid(_)), "{line:?}");
        }
        let parsed = csv.parse(b"", now, Extra::default(), &mut batch);
        assert_eq!(parsed, Parsed::Unmatched);
        assert!(batch.is_empty());
    }

    #[test]
    fn the_last_column_of_tsv_swallows_the_rest() {
        let mut tsv = parser(&["a", "b"], false);
        assert_eq!(
            json_of(&mut tsv, b"1\t2\t3").1,
            json!({"a": "1", "b": "2\t3"})
        );
        assert_eq!(json_of(&mut tsv, b"1").1, json!({"a": "1", "b": null}));
    }

    proptest! {
        #[test]
        fn columns_that_are_written_quoted_are_read_back(columns in proptest::collection::vec("[ -~\\n]{0,12}", 1..6)) {
            let keys: Vec<String> = (0..columns.len()).map(|at| at.to_string()).collect();
            let names: Vec<&str> = keys.iter().map(String::as_str).collect();
            let quoted: Vec<String> = columns.iter().map(|text| format!("\"{}\"", text.replace('"', "\"\""))).collect();
            let (_, record) = json_of(&mut parser(&names, true), quoted.join(",").as_bytes());
            for (key, text) in keys.iter().zip(&columns) {
                prop_assert_eq!(record[key].as_str(), Some(text.as_str()));
            }
        }

        #[test]
        fn no_line_panics(line in "[a,\"\t ]{0,30}", rubbish in proptest::collection::vec(any::<u8>(), 0..40)) {
            let mut batch = Entries::default();
            let now = EventTime { sec: 0, nsec: 0 };
            for quoted in [true, false] {
                for line in [line.as_bytes(), &rubbish] {
                    parser(&["a", "b"], quoted).parse(line, now, Extra::default(), &mut batch);
                }
            }
        }
    }
}
