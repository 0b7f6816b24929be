//! `@type stdout`: `2013-02-28 12:00:00.000000000 +0900 app.x: ` and another formatter's text.

use serde::Deserialize;

use crate::config::{Element, Result};
use crate::event::{EventTime, Tag};

use super::time::{TimeParams, TimeText};
use super::{Formatter, configure_type};

const TIME: &str = "%Y-%m-%d %H:%M:%S.%9N %z";

/// The parameters of `@type stdout`.
#[derive(Clone, Debug, Deserialize)]
#[serde(default)]
struct Params {
    /// The formatter of the record.
    output_type: String,
}

impl Default for Params {
    fn default() -> Params {
        Params {
            output_type: "json".to_owned(),
        }
    }
}

struct Stdout {
    time: TimeText,
    record: Box<dyn Formatter>,
}

/// Reads a `<format>` section with `@type stdout`.
pub fn configure(section: &Element) -> Result<Box<dyn Formatter>> {
    let params: Params = section.params()?;
    if params.output_type == "stdout" {
        let message = "output_type of the stdout formatter must be another formatter";
        return Err(section.error_at("output_type", message).into());
    }
    let mut time: TimeParams = section.params()?;
    time.time_format.get_or_insert_with(|| TIME.to_owned());
    Ok(Box::new(Stdout {
        time: TimeText::configure(section, &time)?,
        record: configure_type(section, &params.output_type, "output_type")?,
    }))
}

impl Formatter for Stdout {
    fn format(&self, tag: &Tag, time: EventTime, record: &[u8], out: &mut Vec<u8>) {
        self.time.write(time, out);
        out.push(b' ');
        out.extend_from_slice(tag.as_str().as_bytes());
        out.extend_from_slice(b": ");
        self.record.format(tag, time, record, out);
    }
}

#[cfg(test)]
mod tests {
    use super::super::json::write;
    use super::*;

    struct Bare;

    impl Formatter for Bare {
        fn format(&self, _tag: &Tag, _time: EventTime, record: &[u8], out: &mut Vec<u8>) {
            write(out, record);
        }
    }

    #[test]
    fn a_line_begins_with_time_and_tag() {
        let params = TimeParams {
            timezone: Some("+09:00".to_owned()),
            time_format: Some(TIME.to_owned()),
            ..TimeParams::default()
        };
        let formatter = Stdout {
            time: TimeText::configure(&Element::default(), &params).expect("a time"),
            record: Box::new(Bare),
        };
        let mut out = Vec::new();
        let time = EventTime {
            sec: 1_362_020_400,
            nsec: 12,
        };
        formatter.format(&Tag::new("app.x"), time, b"\x80", &mut out);
        assert_eq!(out, b"2013-02-28 12:00:00.000000012 +0900 app.x: {}");
    }
}
