//! From a line's bytes to an event: the table of parsers and what they share.
//!
//! A parser writes its entry straight into the batch; nothing is built in between. A field that a text has twice is written
//! twice: readers of a MessagePack map (Ruby's, ours) take the last one, as Fluentd's Hash does.

use crate::config::{Element, Result};
use crate::event::{Entries, EventTime, Label};

pub mod apache2;
pub mod common;
pub mod csv;
pub mod json;
pub mod ltsv;
pub mod multiline;
pub mod none;
mod presets;
pub mod regexp;
pub mod syslog;
pub mod time;
pub mod types;

type Configure = fn(&Element) -> Result<Box<dyn Parser>>;

/// Name → configure.
const PARSERS: &[(&str, Configure)] = &[
    ("none", none::configure),
    ("json", json::configure),
    ("regexp", regexp::configure),
    ("ltsv", ltsv::configure),
    ("nginx", presets::nginx),
    ("apache", presets::apache),
    ("apache2", apache2::configure),
    ("apache_error", presets::apache_error),
    ("syslog", syslog::configure),
    ("csv", csv::configure),
    ("tsv", csv::configure_tsv),
    ("multiline", multiline::configure),
];

/// What became of one text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Parsed {
    /// So many entries were appended.
    Events(usize),
    /// Some entries were appended, and something in the text is none.
    Partly(Partly),
    /// The text does not have the parser's form: Fluentd's "pattern not matched".
    Unmatched,
    /// The form fits and a value does not (a time, mostly): Fluentd's "invalid line found". Carries the reason.
    Invalid(String),
}

/// A text that did not become events as a whole.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Partly {
    /// Entries that were appended.
    pub events: usize,
    /// How often the form was not found: elements of a JSON array that are no objects, the rest of a multi-line text.
    pub unmatched: usize,
    /// Where the text begins that has not the form.
    pub from: usize,
    /// Why something that has the form is invalid.
    pub invalid: Option<String>,
}

/// What the source adds to each record, unless the record has it: the `path_key` of a tail source.
#[derive(Clone, Copy, Debug, Default)]
pub struct Extra<'a> {
    /// Key and text of the field.
    pub field: Option<(&'a str, &'a [u8])>,
}

/// Turns texts into entries. One per source thread: a parser may keep caches.
pub trait Parser: Send {
    /// Parses one text (a line without its line end, or a whole multi-line block) and appends its entries. `now` is the
    /// time of events whose text has none.
    fn parse(
        &mut self,
        text: &[u8],
        now: EventTime,
        extra: Extra<'_>,
        batch: &mut Entries,
    ) -> Parsed;

    /// How lines are joined to texts before [`Parser::parse`]; `None` for parsers of single lines.
    fn joining(&self) -> Option<&multiline::Joining> {
        None
    }
}

/// Builds the parser of a `<parse>` section for texts of this label: Ruby's regexps match characters where it knows them. The others
/// split texts at ASCII characters, which is the same for both.
pub fn configure_for(section: &Element, label: Label) -> Result<Box<dyn Parser>> {
    match (section.plugin_type()?, label) {
        ("regexp", Label::Text) => regexp::configure_text(section),
        ("multiline", Label::Text) => multiline::configure_text(section),
        _ => configure(section),
    }
}

/// Builds the parser of a `<parse>` section for unlabelled texts.
pub fn configure(section: &Element) -> Result<Box<dyn Parser>> {
    let plugin_type = section.plugin_type()?;
    if let Some((_, configure)) = PARSERS.iter().find(|(name, _)| *name == plugin_type) {
        return configure(section);
    }
    Err(section
        .error_at("@type", format!("Unknown parser plugin '{plugin_type}'"))
        .help(known_names(plugin_type))
        .into())
}

/// The nearest known name, if one is near, and all of them.
fn known_names(wrong: &str) -> String {
    let names: Vec<&str> = PARSERS.iter().map(|(name, _)| *name).collect();
    let list = names.join(", ");
    let nearest = names
        .into_iter()
        .map(|name| (strsim::jaro_winkler(name, wrong), name))
        .max_by(|a, b| a.0.total_cmp(&b.0))
        .filter(|(likeness, _)| *likeness > 0.8);
    match nearest {
        Some((_, name)) => format!("did you mean '{name}'? known parsers: {list}"),
        None => format!("known parsers: {list}"),
    }
}

#[cfg(test)]
mod tests;
