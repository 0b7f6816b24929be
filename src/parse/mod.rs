//! From a line's bytes to an event: the table of parsers and what they share.
//!
//! A parser writes its entry straight into the batch; nothing is built in between.

use crate::config::{Element, Result};
use crate::event::{Entries, EventTime};

/// What became of one text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Parsed {
    /// So many entries were appended.
    Events(usize),
    /// The text does not have the parser's form: Fluentd's "pattern not matched".
    Unmatched,
    /// The form fits and a value does not (a time, mostly): Fluentd's "invalid line found". Carries the reason.
    Invalid(String),
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

/// Builds the parser of a `<parse>` section.
pub fn configure(_section: &Element) -> Result<Box<dyn Parser>> {
    unimplemented!("the parse room")
}

/// Placeholder until the room is furnished.
pub mod multiline {
    /// How a multi-line parser joins lines.
    #[derive(Debug)]
    pub struct Joining {
        /// `format_firstline`: whether a line (with its newline) begins a text. Without it a text ends where it parses.
        pub begins_text: Option<fn(&[u8]) -> bool>,
    }

    impl Joining {
        /// Whether `line` begins a text; `None` without `format_firstline`.
        pub fn begins_text(&self, line: &[u8]) -> Option<bool> {
            self.begins_text.map(|begins| begins(line))
        }
    }
}
