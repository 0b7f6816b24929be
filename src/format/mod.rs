//! From an event to the text that an output writes: the table of formatters and what they share.
//!
//! Formatting happens when a chunk is written, never before: chunks hold forward entries. Used by the outputs; `<inject>` is
//! here too (`inject.rs`).

use crate::config::{Element, Result};
use crate::event::{EventTime, Tag};

mod columns;
pub mod inject;
pub mod json;
mod ltsv;
mod out_file;
mod plain;
mod single_value;
mod stdout;
pub mod time;

type Configure = fn(&Element) -> Result<Box<dyn Formatter>>;

/// Name → configure.
const FORMATTERS: &[(&str, Configure)] = &[
    ("json", json::configure),
    ("out_file", out_file::configure),
    ("ltsv", ltsv::configure),
    ("single_value", single_value::configure),
    ("csv", columns::configure_csv),
    ("tsv", columns::configure_tsv),
    ("msgpack", plain::configure_msgpack),
    ("hash", plain::configure_hash),
    ("stdout", stdout::configure),
];

/// Writes events in one form.
pub trait Formatter: Send + Sync {
    /// Appends one event. `record` is an encoded map.
    fn format(&self, tag: &Tag, time: EventTime, record: &[u8], out: &mut Vec<u8>);
}

/// Builds the formatter of a `<format>` section.
pub fn configure(section: &Element) -> Result<Box<dyn Formatter>> {
    let plugin_type = section.plugin_type()?;
    configure_type(section, plugin_type, "@type")
}

/// Builds the formatter of this name, which stands at `key`, with the parameters of the section: for outputs whose `<format>`
/// has a default type.
pub fn configure_type(section: &Element, name: &str, key: &str) -> Result<Box<dyn Formatter>> {
    if let Some((_, configure)) = FORMATTERS.iter().find(|(known, _)| *known == name) {
        return configure(section);
    }
    let known: Vec<&str> = FORMATTERS.iter().map(|(known, _)| *known).collect();
    let nearest = known
        .iter()
        .map(|known| (strsim::jaro_winkler(known, name), known))
        .max_by(|a, b| a.0.total_cmp(&b.0))
        .filter(|(likeness, _)| *likeness > 0.8)
        .map_or_else(String::new, |(_, known)| {
            format!("did you mean '{known}'? ")
        });
    Err(section
        .error_at(key, format!("Unknown formatter plugin '{name}'"))
        .help(format!("{nearest}known formatters: {}", known.join(", ")))
        .into())
}

/// How lines end.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Newline {
    /// `\n`
    #[default]
    Lf,
    /// `\r\n`
    Crlf,
}

impl Newline {
    /// The bytes.
    pub fn as_bytes(self) -> &'static [u8] {
        match self {
            Newline::Lf => b"\n",
            Newline::Crlf => b"\r\n",
        }
    }
}

/// `delimiter` as csv and tsv read it: `\t` and `TAB` mean a tab.
fn tab_or(text: &str) -> Vec<u8> {
    match text {
        "\\t" | "TAB" => b"\t".to_vec(),
        other => other.as_bytes().to_vec(),
    }
}

#[cfg(test)]
mod tests;
