//! `@type out_file`: time, tag, JSON, between tabs.

use serde::Deserialize;

use crate::config::{Element, Result};
use crate::event::{EventTime, Tag};

use super::time::{TimeParams, TimeText};
use super::{Formatter, Newline, json};

/// The parameters of `@type out_file`.
#[derive(Clone, Debug, Deserialize)]
#[serde(default)]
struct Params {
    /// Whether lines begin with the time.
    output_time: bool,
    /// Whether the tag follows.
    output_tag: bool,
    /// `SPACE` or `COMMA`; anything else means a tab.
    delimiter: Option<String>,
    /// How lines end.
    newline: Newline,
}

impl Default for Params {
    fn default() -> Params {
        Params {
            output_time: true,
            output_tag: true,
            delimiter: None,
            newline: Newline::Lf,
        }
    }
}

/// Writes lines of files.
#[derive(Debug)]
struct OutFile {
    time: Option<TimeText>,
    output_tag: bool,
    delimiter: u8,
    newline: Newline,
}

/// Reads a `<format>` section with `@type out_file`.
pub fn configure(section: &Element) -> Result<Box<dyn Formatter>> {
    let params: Params = section.params()?;
    let time: TimeParams = section.params()?;
    let time = TimeText::configure(section, &time)?;
    let delimiter = params.delimiter.unwrap_or_default();
    let upper = delimiter.to_ascii_uppercase();
    let delimiter = match upper {
        upper if upper.contains("SPACE") => b' ',
        upper if upper.contains("COMMA") => b',',
        other => {
            if !matches!(other.as_str(), "" | "\t" | "\\T" | "TAB") {
                section.warn_at(
                    "delimiter",
                    "a delimiter other than SPACE and COMMA means a tab, as in Fluentd",
                );
            }
            b'\t'
        }
    };
    Ok(Box::new(OutFile {
        time: params.output_time.then_some(time),
        output_tag: params.output_tag,
        delimiter,
        newline: params.newline,
    }))
}

impl Formatter for OutFile {
    fn format(&self, tag: &Tag, time: EventTime, record: &[u8], out: &mut Vec<u8>) {
        if let Some(text) = &self.time {
            text.write(time, out);
            out.push(self.delimiter);
        }
        if self.output_tag {
            out.extend_from_slice(tag.as_str().as_bytes());
            out.push(self.delimiter);
        }
        json::write(out, record);
        out.extend_from_slice(self.newline.as_bytes());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_time_tag_and_json() {
        let params = TimeParams {
            utc: Some(true),
            ..TimeParams::default()
        };
        let formatter = OutFile {
            time: Some(TimeText::configure(&Element::default(), &params).expect("a time")),
            output_tag: true,
            delimiter: b'\t',
            newline: Newline::Lf,
        };
        let mut out = Vec::new();
        let time = EventTime {
            sec: 1_362_020_400,
            nsec: 5,
        };
        formatter.format(&Tag::new("app.x"), time, b"\x81\xa1a\x01", &mut out);
        assert_eq!(out, b"2013-02-28T03:00:00Z\tapp.x\t{\"a\":1}\n");
    }
}
