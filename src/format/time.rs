//! Event times as text: `time_format`, ISO 8601, unix time, in a configured zone.

use jiff::fmt::strtime;
use jiff::fmt::temporal::DateTimeParser;
use jiff::tz::TimeZone;
use jiff::{Timestamp, Zoned};
use serde::Deserialize;

use crate::config::{Element, Result};
use crate::event::EventTime;

/// The time parameters of a formatter.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct TimeParams {
    /// `string`, `unixtime` or `float`.
    pub time_type: TextType,
    /// strftime format; ISO 8601 without it.
    pub time_format: Option<String>,
    /// `+HH:MM`, `+HHMM`, `+HH` or `Region/City`.
    pub timezone: Option<String>,
    /// Whether to print local time (the default).
    pub localtime: Option<bool>,
    /// Whether to print UTC.
    pub utc: Option<bool>,
}

/// `time_type` of a formatter.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum TextType {
    /// In `time_format`.
    #[default]
    String,
    /// Whole seconds.
    Unixtime,
    /// Seconds, a point, nine digits.
    Float,
}

/// Prints event times.
#[derive(Debug)]
pub struct TimeText {
    form: Form,
    zone: TimeZone,
}

#[derive(Debug)]
enum Form {
    /// Whether UTC is written as `Z` (zone not named in the configuration).
    Iso8601 {
        utc: bool,
    },
    Format(Vec<Piece>),
    Unixtime,
    Float,
}

#[derive(Debug)]
enum Piece {
    /// For jiff's strftime.
    Directives(String),
    /// `%L`, `%N`, `%3N`, …: so many digits of the fraction.
    Fraction(usize),
}

impl TimeText {
    /// Checks zone and format.
    pub fn configure(section: &Element, params: &TimeParams) -> Result<TimeText> {
        let local = params.localtime.unwrap_or(true) && !params.utc.unwrap_or(false);
        if params.localtime == Some(true) && params.utc == Some(true) {
            let message = "both of utc and localtime are specified, use only one of them";
            return Err(section.error_at("utc", message).into());
        }
        let zone = match &params.timezone {
            Some(text) => zone_named(text).ok_or_else(|| {
                let message = format!("unsupported timezone '{text}'");
                section
                    .error_at("timezone", message)
                    .help("write +HH:MM, +HHMM, +HH or Region/City")
            })?,
            None if local => TimeZone::system(),
            None => TimeZone::UTC,
        };
        let form = match (params.time_type, &params.time_format) {
            (TextType::Unixtime, _) => Form::Unixtime,
            (TextType::Float, _) => Form::Float,
            (TextType::String, None) => Form::Iso8601 {
                utc: params.timezone.is_none() && !local,
            },
            (TextType::String, Some(format)) => Form::Format(
                pieces(format).map_err(|message| section.error_at("time_format", message))?,
            ),
        };
        Ok(TimeText { form, zone })
    }

    /// A format that is part of this program, in local time.
    pub fn local(format: &str) -> TimeText {
        TimeText {
            form: Form::Format(pieces(format).unwrap_or_default()),
            zone: TimeZone::system(),
        }
    }

    /// Appends the time.
    pub fn write(&self, time: EventTime, out: &mut Vec<u8>) {
        let text = match &self.form {
            Form::Unixtime => time.sec.to_string(),
            Form::Float => format!("{}.{:09}", time.sec, time.nsec),
            Form::Iso8601 { utc } => self.iso8601(time, *utc),
            Form::Format(pieces) => self.formatted(pieces, time),
        };
        out.extend_from_slice(text.as_bytes());
    }

    fn zoned(&self, time: EventTime) -> Zoned {
        let stamp = Timestamp::from_second(i64::from(time.sec)).unwrap_or_default();
        stamp.to_zoned(self.zone.clone())
    }

    fn iso8601(&self, time: EventTime, utc: bool) -> String {
        let format = if utc { "%FT%TZ" } else { "%FT%T%:z" };
        self.zoned(time).strftime(format).to_string()
    }

    fn formatted(&self, pieces: &[Piece], time: EventTime) -> String {
        let zoned = self.zoned(time);
        pieces
            .iter()
            .map(|piece| match piece {
                Piece::Directives(format) => strtime::format(format, &zoned).unwrap_or_default(),
                Piece::Fraction(digits) => format!("{:09}", time.nsec)[..*digits].to_owned(),
            })
            .collect()
    }
}

fn zone_named(text: &str) -> Option<TimeZone> {
    // Abbreviations are refused, as in Fluentd.
    if !text.starts_with(['+', '-']) && !text.contains('/') {
        return None;
    }
    DateTimeParser::new().parse_time_zone(text).ok()
}

/// Cuts the fractions out of a Ruby format; an error names what cannot be printed.
fn pieces(format: &str) -> std::result::Result<Vec<Piece>, String> {
    let mut pieces = Vec::new();
    let mut plain = String::new();
    let mut rest = format;
    while let Some(at) = rest.find('%') {
        plain.push_str(&rest[..at]);
        rest = &rest[at + 1..];
        let fraction = [("3N", 3), ("6N", 6), ("9N", 9), ("L", 3), ("N", 9)]
            .into_iter()
            .find(|(directive, _)| rest.starts_with(directive));
        if let Some((directive, digits)) = fraction {
            pieces.push(Piece::Directives(std::mem::take(&mut plain)));
            pieces.push(Piece::Fraction(digits));
            rest = &rest[directive.len()..];
        } else if rest == "iso8601" {
            plain.push_str("%FT%T%:z");
            rest = "";
        } else {
            plain.push('%');
            // The directive itself, so that `%%L` is a percent sign and a letter.
            let length = rest.chars().next().map_or(0, char::len_utf8);
            plain.push_str(&rest[..length]);
            rest = &rest[length..];
        }
    }
    plain.push_str(rest);
    pieces.push(Piece::Directives(plain));
    let sample = Timestamp::UNIX_EPOCH.to_zoned(TimeZone::UTC);
    for piece in &pieces {
        if let Piece::Directives(format) = piece {
            strtime::format(format, &sample)
                .map_err(|error| format!("time_format cannot be printed: {error}"))?;
        }
    }
    Ok(pieces)
}
