//! `@type csv` and `@type tsv`: some fields as columns.

use serde::Deserialize;

use crate::config::{Element, Result};
use crate::event::record::find;
use crate::event::{EventTime, Tag};

use super::{Formatter, Newline, json, tab_or};

/// The parameters of `@type csv`; tsv has `keys` instead of `fields` and does not quote.
#[derive(Clone, Debug, Deserialize)]
#[serde(default)]
struct Params {
    /// csv: the fields, in order.
    fields: Vec<String>,
    /// tsv: the fields, in order.
    keys: Vec<String>,
    /// What stands between columns; `\t` and `TAB` mean a tab.
    delimiter: Option<String>,
    /// Whether all columns are quoted, or only those that need it.
    force_quotes: bool,
    /// Whether each record ends with a newline.
    add_newline: bool,
    /// Which one.
    newline: Newline,
}

impl Default for Params {
    fn default() -> Params {
        Params {
            fields: Vec::new(),
            keys: Vec::new(),
            delimiter: None,
            force_quotes: true,
            add_newline: true,
            newline: Newline::Lf,
        }
    }
}

/// When columns are quoted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Quotes {
    Always,
    WhereNeeded,
    Never,
}

/// Writes columns.
#[derive(Debug)]
struct Columns {
    keys: Vec<String>,
    delimiter: Vec<u8>,
    quotes: Quotes,
    end: &'static [u8],
}

/// Reads a `<format>` section with `@type csv`.
pub fn configure_csv(section: &Element) -> Result<Box<dyn Formatter>> {
    let params: Params = section.params()?;
    let quotes = if params.force_quotes {
        Quotes::Always
    } else {
        Quotes::WhereNeeded
    };
    if let Some(nested) = params.fields.iter().find(|field| field.starts_with('$')) {
        let message = format!(
            "nested field '{nested}' is not supported: name a field at the top of the record"
        );
        return Err(section.error_at("fields", message).into());
    }
    let keys = params.fields.clone();
    Ok(Box::new(Columns::new(
        section, "fields", keys, &params, quotes, ",",
    )?))
}

/// Reads a `<format>` section with `@type tsv`.
pub fn configure_tsv(section: &Element) -> Result<Box<dyn Formatter>> {
    let params: Params = section.params()?;
    let keys = params.keys.clone();
    Ok(Box::new(Columns::new(
        section,
        "keys",
        keys,
        &params,
        Quotes::Never,
        "\t",
    )?))
}

impl Columns {
    fn new(
        section: &Element,
        key: &str,
        keys: Vec<String>,
        params: &Params,
        quotes: Quotes,
        delimiter: &str,
    ) -> Result<Columns> {
        if keys.is_empty() {
            return Err(section
                .error_at(key, format!("'{key}' parameter is required"))
                .into());
        }
        Ok(Columns {
            keys,
            delimiter: tab_or(params.delimiter.as_deref().unwrap_or(delimiter)),
            quotes,
            end: if params.add_newline {
                params.newline.as_bytes()
            } else {
                b""
            },
        })
    }

    fn write_column(&self, value: Option<&[u8]>, out: &mut Vec<u8>) {
        let mut text = Vec::new();
        json::write_plain(&mut text, value.unwrap_or(&[0xc0]));
        let absent = matches!(value, None | Some([0xc0]));
        let needed = text.iter().any(|b| b"\"\r\n".contains(b))
            || text.is_empty() && !absent
            || text.first().is_some_and(u8::is_ascii_whitespace)
            || text.last().is_some_and(u8::is_ascii_whitespace)
            || memchr::memmem::find(&text, &self.delimiter).is_some();
        let quoted = match self.quotes {
            Quotes::Always => true,
            Quotes::WhereNeeded => needed,
            Quotes::Never => false,
        };
        if !quoted {
            return out.extend_from_slice(&text);
        }
        out.push(b'"');
        for byte in text {
            out.push(byte);
            if byte == b'"' {
                out.push(byte);
            }
        }
        out.push(b'"');
    }
}

impl Formatter for Columns {
    fn format(&self, _tag: &Tag, _time: EventTime, record: &[u8], out: &mut Vec<u8>) {
        for (at, key) in self.keys.iter().enumerate() {
            if at > 0 {
                out.extend_from_slice(&self.delimiter);
            }
            self.write_column(find(record, key), out);
        }
        out.extend_from_slice(self.end);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_quoted_as_configured() {
        for (quotes, expected) in [
            (Quotes::Always, &b"\"1\",\"x\"\"y\",\"\",\"\"\n"[..]),
            (Quotes::WhereNeeded, b"1,\"x\"\"y\",,\"\"\n"),
            (Quotes::Never, b"1,x\"y,,\n"),
        ] {
            let columns = Columns {
                keys: ["a", "b", "c", "d"].map(str::to_owned).to_vec(),
                delimiter: b",".to_vec(),
                quotes,
                end: b"\n",
            };
            let mut out = Vec::new();
            let record = b"\x83\xa1a\x01\xa1b\xa3x\"y\xa1d\xa0";
            let time = EventTime { sec: 0, nsec: 0 };
            columns.format(&Tag::new("t"), time, record, &mut out);
            assert_eq!(out, expected, "{quotes:?}");
        }
    }
}
