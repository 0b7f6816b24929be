//! The `regexp` parser, and what nginx, apache and apache_error share with it: one field per named group.
//!
//! Groups that took no part are omitted, empty ones are kept. Keys are always MessagePack str. (Fluentd changes them to bin once
//! a line had a non-ASCII byte; receivers read both alike.)

use serde::Deserialize;

use crate::config::{Element, Result};
use crate::event::{Entries, EventTime, Label};

use super::super::common::{Common, RecordWriter, Rules};
use super::super::time::TimeType;
use super::super::{Extra, Parsed, Parser};
use super::{Captures, Flags, Pattern};

/// The parameters of `@type regexp`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
struct Params {
    /// The regexp; at least one group has a name.
    expression: Option<String>,
    /// Deprecated form of the flag `i`.
    ignorecase: bool,
    /// Deprecated form of the flag `m`.
    multiline: bool,
}

/// Matches a regexp and makes its named groups the fields.
#[derive(Debug)]
pub struct RegexpParser {
    pattern: Pattern,
    captures: Captures,
    rules: Rules,
}

/// Reads a `<parse>` section with `@type regexp`.
pub fn configure(section: &Element) -> Result<Box<dyn Parser>> {
    configured(section, Label::Bytes)
}

/// The same for texts that are UTF-8.
pub fn configure_text(section: &Element) -> Result<Box<dyn Parser>> {
    configured(section, Label::Text)
}

fn configured(section: &Element, label: Label) -> Result<Box<dyn Parser>> {
    let common = Common::read(section)?;
    let params: Params = section.params()?;
    let parser = RegexpParser::new(section, &common, &params, label)?;
    Ok(Box::new(parser))
}

/// The parser of a fixed regexp: a preset such as nginx. `time_format` counts where the section has none.
pub fn parser_of(
    section: &Element,
    expression: &str,
    time_format: Option<&str>,
) -> Result<Box<dyn Parser>> {
    let mut common = Common::read(section)?;
    if common.time_format.is_none() && common.time_type.is_none() {
        common.time_format = time_format.map(str::to_owned);
    }
    let params = Params {
        expression: Some(expression.to_owned()),
        ..Params::default()
    };
    let parser = RegexpParser::new(section, &common, &params, Label::Bytes)?;
    Ok(Box::new(parser))
}

impl RegexpParser {
    fn new(
        section: &Element,
        common: &Common,
        params: &Params,
        label: Label,
    ) -> Result<RegexpParser> {
        let Some(expression) = &params.expression else {
            return Err(section.error("'expression' parameter is required").into());
        };
        let mut pattern = Pattern::from_config_for(expression, label)
            .map_err(|error| section.error_at("expression", error.to_string()))?;
        if params.ignorecase || params.multiline {
            let flags = Flags {
                ignore_case: params.ignorecase,
                multi_line: params.multiline,
                characters: label == Label::Text,
            };
            pattern = Pattern::compile(pattern.as_str(), flags)
                .map_err(|error| section.error_at("expression", error.to_string()))?;
            section.warn("ignorecase and multiline are deprecated: write the flags i and m behind the expression's last slash");
        }
        RegexpParser::of(section, common, pattern, "expression")
    }

    /// A parser of this pattern, which stood at `key`.
    pub fn of(
        section: &Element,
        common: &Common,
        pattern: Pattern,
        key: &str,
    ) -> Result<RegexpParser> {
        if pattern.names().len() == 0 {
            let message = "No named captures in 'expression' parameter. The regexp must have at least one named capture";
            return Err(section.error_at(key, message).into());
        }
        Ok(RegexpParser {
            pattern,
            captures: Captures::default(),
            rules: Rules::configure(section, common, Some("time"), TimeType::String)?,
        })
    }

    /// Parses the first match in a text; with it comes where the match ends.
    pub fn parse_first(
        &mut self,
        text: &[u8],
        now: EventTime,
        extra: Extra<'_>,
        batch: &mut Entries,
    ) -> (Parsed, usize) {
        if !self.pattern.captures(text, &mut self.captures) {
            return (Parsed::Unmatched, 0);
        }
        let mut record = RecordWriter::begin(&mut self.rules, now, extra, batch);
        for (at, name) in self.pattern.names().enumerate() {
            if let Some(range) = self.captures.get(at) {
                record.bin(name.as_bytes(), &text[range]);
            }
        }
        (record.finish(), self.captures.whole().end)
    }
}

impl Parser for RegexpParser {
    fn parse(
        &mut self,
        text: &[u8],
        now: EventTime,
        extra: Extra<'_>,
        batch: &mut Entries,
    ) -> Parsed {
        self.parse_first(text, now, extra, batch).0
    }
}

#[cfg(test)]
#[path = "parser_tests.rs"]
mod tests;
