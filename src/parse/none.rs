//! `@type none`: the whole text becomes one field. The hot path: a copy of a prefix and of the text.

use serde::Deserialize;

use crate::config::{Element, Result};
use crate::event::msgpack::single_field_prefix;
use crate::event::{Entries, EventTime};

use super::common::Common;
use super::{Extra, Parsed, Parser};

/// The parameters of `@type none`.
#[derive(Clone, Debug, Deserialize)]
#[serde(default)]
struct Params {
    /// The field that gets the text.
    message_key: String,
}

impl Default for Params {
    fn default() -> Params {
        Params {
            message_key: "message".to_owned(),
        }
    }
}

/// Wraps texts.
#[derive(Debug)]
pub struct NoneParser {
    message_key: String,
    estimate_current_event: bool,
    /// Everything of an entry before the text, for events of `prefix_time`: one per read, not per line.
    prefix: Vec<u8>,
    prefix_time: EventTime,
}

/// Reads a `<parse>` section with `@type none`.
pub fn configure(section: &Element) -> Result<Box<dyn Parser>> {
    let common = Common::read(section)?;
    common.warn_unused_conversions(section, "none");
    for key in ["time_key", "time_format", "time_type", "keep_time_key"] {
        if section.has(key) {
            section.warn_at(
                key,
                format!("the none parser has no time field: {key} is not used"),
            );
        }
    }
    let params: Params = section.params()?;
    Ok(Box::new(NoneParser::new(
        params.message_key,
        common.estimate_current_event,
    )))
}

impl NoneParser {
    fn new(message_key: String, estimate_current_event: bool) -> NoneParser {
        let prefix_time = EventTime { sec: 0, nsec: 0 };
        NoneParser {
            prefix: single_field_prefix(prefix_time, &message_key),
            prefix_time,
            message_key,
            estimate_current_event,
        }
    }
}

impl Parser for NoneParser {
    #[inline]
    fn parse(
        &mut self,
        text: &[u8],
        now: EventTime,
        extra: Extra<'_>,
        batch: &mut Entries,
    ) -> Parsed {
        if !self.estimate_current_event {
            return Parsed::Unmatched;
        }
        if let Some((key, value)) = extra.field {
            let mut record = batch.begin(now);
            record.bin(&self.message_key, text);
            if key != self.message_key {
                record.str(key, value);
            }
            record.finish();
            return Parsed::Events(1);
        }
        if now != self.prefix_time {
            self.prefix = single_field_prefix(now, &self.message_key);
            self.prefix_time = now;
        }
        batch.push_single(&self.prefix, text);
        Parsed::Events(1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::{msgpack, record};

    const NOW: EventTime = EventTime { sec: 5, nsec: 6 };

    #[test]
    fn the_whole_line_is_the_message_as_bin() {
        let mut parser = NoneParser::new("message".to_owned(), true);
        let mut batch = Entries::default();
        for text in [&b"\xff\x00 a"[..], b""] {
            let parsed = parser.parse(text, NOW, Extra::default(), &mut batch);
            assert_eq!(parsed, Parsed::Events(1));
        }
        let (bytes, count) = batch.freeze();
        assert_eq!(count, 2);
        assert!(bytes.ends_with(b"\x81\xa7message\xc4\x00"));
        let first = msgpack::entries(&bytes)
            .next()
            .expect("one")
            .expect("whole");
        assert_eq!(
            (first.time, first.record),
            (NOW, &b"\x81\xa7message\xc4\x04\xff\x00 a"[..])
        );
    }

    #[test]
    fn the_path_is_added_as_text_unless_it_is_the_message() {
        let mut parser = NoneParser::new("message".to_owned(), true);
        let mut batch = Entries::default();
        for key in ["path", "message"] {
            let extra = Extra {
                field: Some((key, b"/var/log/x")),
            };
            parser.parse(b"a", NOW, extra, &mut batch);
        }
        let (bytes, _) = batch.freeze();
        let read: Vec<_> = msgpack::entries(&bytes)
            .map(|e| e.expect("whole").record)
            .collect();
        assert_eq!(record::find(read[0], "path"), Some(&b"\xaa/var/log/x"[..]));
        assert_eq!(record::find_text(read[1], "message"), Some(&b"a"[..]));
    }

    #[test]
    fn without_an_estimated_time_nothing_matches() {
        let mut batch = Entries::default();
        let mut parser = NoneParser::new("message".to_owned(), false);
        let parsed = parser.parse(b"a", NOW, Extra::default(), &mut batch);
        assert_eq!((parsed, batch.count()), (Parsed::Unmatched, 0));
    }
}
