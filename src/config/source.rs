//! The texts a configuration was read from, and places in them.
//!
//! Every key, value and section head keeps a [`Span`], so that each message can show the line. A [`Source`] also knows
//! which of its bytes are secret: nothing here gives those to anybody who prints.

use std::fmt;
use std::ops::Range;
use std::sync::{Arc, Mutex, PoisonError};

use super::secret;

/// One file, or one text given on the command line.
pub(crate) struct Source {
    name: String,
    text: String,
    /// Values of secret parameters, as the parser found them.
    secrets: Mutex<Vec<Range<usize>>>,
}

impl fmt::Debug for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Source").field(&self.name).finish()
    }
}

impl Source {
    pub(crate) fn new(name: impl Into<String>, text: String) -> Arc<Source> {
        Arc::new(Source {
            name: name.into(),
            text,
            secrets: Mutex::default(),
        })
    }

    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    pub(crate) fn text(&self) -> &str {
        &self.text
    }

    /// The line of a byte, from 1. CR, LF and CRLF end a line.
    pub(crate) fn line(&self, at: usize) -> usize {
        let bytes = &self.text.as_bytes()[..at.min(self.text.len())];
        let line_feeds = bytes.iter().filter(|&&byte| byte == b'\n').count();
        let returns = bytes
            .windows(2)
            .filter(|pair| pair[0] == b'\r' && pair[1] != b'\n')
            .count();
        1 + line_feeds + returns
    }

    /// Never print these bytes.
    pub(crate) fn hide(&self, range: Range<usize>) {
        self.secrets
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(range);
    }

    /// Whether this byte is hidden so far.
    pub(crate) fn hides(&self, at: usize) -> bool {
        let secrets = self.secrets.lock().unwrap_or_else(PoisonError::into_inner);
        secrets.iter().any(|range| range.contains(&at))
    }

    /// The parts of a range that stand on one line each, without the line ends; empty ones left out.
    fn lines_of(&self, range: Range<usize>) -> Vec<Range<usize>> {
        let mut start = range.start;
        let mut lines = Vec::new();
        for line in self.text[range].split(['\n', '\r']) {
            lines.push(start..start + line.len());
            start += line.len() + 1;
        }
        lines.retain(|line| !line.is_empty());
        lines
    }

    /// The text with every secret replaced by `xxxxxx`, and `place` moved to where it is now.
    pub(crate) fn masked(&self, place: Range<usize>) -> (String, Range<usize>) {
        let mut hidden = self
            .secrets
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone();
        hidden.extend(secret::lines(&self.text));
        // Line by line, so that each line of the file stays one.
        let mut hidden: Vec<_> = hidden
            .into_iter()
            .flat_map(|range| self.lines_of(range))
            .collect();
        hidden.sort_by_key(|range| (range.start, range.end));
        hidden.dedup_by(|next, range| {
            let meets = next.start <= range.end;
            if meets {
                range.end = range.end.max(next.end);
            }
            meets
        });
        let (mut text, mut at) = (String::with_capacity(self.text.len()), 0);
        let (mut start, mut end) = (place.start, place.end);
        for range in hidden {
            text.push_str(&self.text[at..range.start]);
            let from = text.len();
            text.push_str(secret::MASK);
            let to = from + secret::MASK.len();
            start = moved(place.start, start, &range, from, to);
            end = match place.end {
                inside if range.start < inside && inside <= range.end => to,
                _ => moved(place.end, end, &range, from, to),
            };
            at = range.end;
        }
        text.push_str(&self.text[at..]);
        (text, start..end.max(start))
    }
}

/// Where the byte `original` stands once `range` has become `from..to`.
fn moved(original: usize, now: usize, range: &Range<usize>, from: usize, to: usize) -> usize {
    match original {
        before if before <= range.start => now,
        inside if inside < range.end => from,
        after => to + (after - range.end),
    }
}

/// Bytes of one source.
#[derive(Clone, Debug)]
pub(crate) struct Span {
    pub(crate) source: Arc<Source>,
    pub(crate) start: usize,
    pub(crate) end: usize,
}

impl Span {
    pub(crate) fn new(source: &Arc<Source>, range: Range<usize>) -> Span {
        Span {
            source: source.clone(),
            start: range.start,
            end: range.end,
        }
    }

    pub(crate) fn text(&self) -> &str {
        &self.source.text[self.start..self.end]
    }

    pub(crate) fn line(&self) -> usize {
        self.source.line(self.start)
    }
}
