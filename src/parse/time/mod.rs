//! The time of an event, from the value of its time field.
//!
//! Formats are compiled once (`strptime.rs`), the last two distinct texts are remembered, as Fluentd does: lines of the same
//! second come in runs. Deviations: a fraction of ten or more digits under `float` is cut to nanoseconds (Fluentd is then a
//! second off), and times before 1970 or after 2106, which an event time cannot hold, make the line invalid.

mod free_form;
mod parts;
mod strptime;
mod zone;

use jiff::tz::TimeZone;
use serde::Deserialize;

use crate::config::{ConfigErrors, Element, Result};
use crate::event::EventTime;
use parts::event_time;
use strptime::{Cursor, Format};

/// `time_type` of a parser.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum TimeType {
    /// Seconds since 1970 with a fraction.
    Float,
    /// Whole seconds since 1970.
    Unixtime,
    /// Text in `time_format`, or free-form.
    String,
    /// `time_format`, then each of `time_format_fallbacks`.
    Mixed,
}

/// The time parameters that a `<parse>` section shares with `types … time`.
#[derive(Clone, Debug, Default)]
pub struct TimeSettings {
    /// `time_type`.
    pub time_type: Option<TimeType>,
    /// `time_format`.
    pub time_format: Option<String>,
    /// `time_format_fallbacks`.
    pub time_format_fallbacks: Vec<String>,
    /// `timezone`.
    pub timezone: Option<String>,
    /// `localtime`.
    pub localtime: Option<bool>,
    /// `utc`.
    pub utc: Option<bool>,
}

/// The value of a time field.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Given<'a> {
    /// Text or bytes.
    Text(&'a [u8]),
    /// An integer.
    Integer(i64),
    /// A float.
    Float(f64),
    /// Anything else: nil, a boolean, an array, a map.
    Other,
}

/// Turns values of the time field into event times.
#[derive(Debug)]
pub struct TimeParser {
    ways: Vec<Way>,
    mixed: bool,
    recent: [(Vec<u8>, EventTime); 2],
    oldest: usize,
}

#[derive(Debug)]
enum Way {
    Float,
    Unixtime,
    Iso8601(TimeZone),
    FreeForm(TimeZone),
    Format(Format, TimeZone),
}

impl TimeParser {
    /// Checks the settings of a section and compiles its formats. `default` is the parser's own `time_type`.
    pub fn configure(
        section: &Element,
        settings: &TimeSettings,
        default: TimeType,
    ) -> Result<TimeParser> {
        let time_type = settings.time_type.unwrap_or(default);
        let zone = zone_of(section, settings, time_type)?;
        let formatted = |key: &str, format: &str| -> Result<Way> {
            let way = Way::of_format(format, zone.clone())
                .map_err(|message| section.error_at(key, message))?;
            if let Some(directive) = way.lenient() {
                section.warn_at(
                    key,
                    format!("Fluentd never matches '{directive}' in a time_format; its flag is ignored here"),
                );
            }
            Ok(way)
        };
        let ways = match (time_type, &settings.time_format) {
            (TimeType::Float, _) => vec![Way::Float],
            (TimeType::Unixtime, _) => vec![Way::Unixtime],
            (TimeType::String, Some(format)) => vec![formatted("time_format", format)?],
            (TimeType::String, None) => vec![Way::FreeForm(zone.clone())],
            (TimeType::Mixed, format) => {
                let mut ways = Vec::new();
                if let Some(format) = format {
                    ways.push(formatted("time_format", format)?);
                }
                for format in &settings.time_format_fallbacks {
                    ways.push(formatted("time_format_fallbacks", format)?);
                }
                ways
            }
        };
        if ways.is_empty() {
            let message = "time_type mixed needs time_format or time_format_fallbacks";
            return Err(section.error_at("time_type", message).into());
        }
        Ok(TimeParser::of(ways, time_type == TimeType::Mixed))
    }

    /// A parser of one format in local time, or where the format is `None` of free-form times.
    pub fn local(format: Option<&str>) -> std::result::Result<TimeParser, String> {
        TimeParser::in_zone(format, TimeZone::system())
    }

    /// A parser of one format (`unixtime` and `float` included) for texts of this zone.
    pub fn in_zone(
        format: Option<&str>,
        zone: TimeZone,
    ) -> std::result::Result<TimeParser, String> {
        let way = match format {
            Some(format) => Way::of_format(format, zone)?,
            None => Way::FreeForm(zone),
        };
        Ok(TimeParser::of(vec![way], false))
    }

    fn of(ways: Vec<Way>, mixed: bool) -> TimeParser {
        let never = EventTime { sec: 0, nsec: 0 };
        TimeParser {
            ways,
            mixed,
            recent: [(Vec::new(), never), (Vec::new(), never)],
            oldest: 0,
        }
    }

    /// The event time, or why the value is none. `now` gives the parts that the text lacks (year, date).
    pub fn parse(
        &mut self,
        given: Given<'_>,
        now: EventTime,
    ) -> std::result::Result<EventTime, String> {
        match given {
            Given::Text(text) => self.parse_text(text, now),
            Given::Integer(_) | Given::Float(_) => {
                let way = self.ways.first().filter(|_| !self.mixed);
                way.and_then(|way| way.number(given)).ok_or_else(|| {
                    format!("value must be a string or a number in range: {given:?}")
                })
            }
            Given::Other => Err("value must be a string or a number".to_owned()),
        }
    }

    fn parse_text(
        &mut self,
        text: &[u8],
        now: EventTime,
    ) -> std::result::Result<EventTime, String> {
        for (known, time) in &self.recent {
            if !text.is_empty() && known == text {
                return Ok(*time);
            }
        }
        let time = self
            .ways
            .iter()
            .filter(|way| !self.mixed || way.fits(text))
            .find_map(|way| way.text(text, now))
            .ok_or_else(|| {
                let value = String::from_utf8_lossy(text);
                format!("invalid time format: value = {value}")
            })?;
        let (known, known_time) = &mut self.recent[self.oldest];
        known.clear();
        known.extend_from_slice(text);
        *known_time = time;
        self.oldest ^= 1;
        Ok(time)
    }
}

impl Way {
    fn of_format(format: &str, zone: TimeZone) -> std::result::Result<Way, String> {
        Ok(match format {
            "unixtime" => Way::Unixtime,
            "float" => Way::Float,
            "%iso8601" => Way::Iso8601(zone),
            _ => Way::Format(Format::compile(format)?, zone),
        })
    }

    fn lenient(&self) -> Option<&str> {
        match self {
            Way::Format(format, _) => format.lenient(),
            _ => None,
        }
    }

    /// Whether `mixed` tries this way: a numeric one only if the text is a number as a whole.
    fn fits(&self, text: &[u8]) -> bool {
        match self {
            Way::Float | Way::Unixtime => std::str::from_utf8(text)
                .is_ok_and(|text| text.parse::<f64>().is_ok_and(f64::is_finite)),
            _ => true,
        }
    }

    fn text(&self, text: &[u8], now: EventTime) -> Option<EventTime> {
        match self {
            Way::Unixtime => event_time(leading_integer(text).0, 0),
            Way::Float => float_text(text),
            Way::Iso8601(zone) => iso8601(text)?.resolve(zone, now, false),
            Way::FreeForm(zone) => free_form::read(text)?.resolve(zone, now, false),
            Way::Format(format, zone) => format.read(text)?.resolve(zone, now, format.by_gem()),
        }
    }

    fn number(&self, given: Given<'_>) -> Option<EventTime> {
        let keeps_fraction = match self {
            Way::Float => true,
            Way::Unixtime => false,
            _ => return None,
        };
        match given {
            Given::Integer(seconds) => event_time(seconds, 0),
            Given::Float(value) if value >= 0.0 && value <= f64::from(u32::MAX) => {
                let nsec = (value.fract() * 1e9) as u32;
                event_time(value as i64, if keeps_fraction { nsec } else { 0 })
            }
            _ => None,
        }
    }
}

/// Which zone counts for texts without an offset; refuses what Fluentd refuses.
fn zone_of(section: &Element, settings: &TimeSettings, time_type: TimeType) -> Result<TimeZone> {
    if settings.localtime == Some(true) && settings.utc == Some(true) {
        let message = "both of utc and localtime are specified, use only one of them";
        return Err(section.error_at("utc", message).into());
    }
    let local = settings.localtime.unwrap_or(true) && !settings.utc.unwrap_or(false);
    let zoned = settings.timezone.is_some() || !local;
    if time_type == TimeType::String && settings.time_format.is_none() && zoned {
        let key = ["timezone", "utc", "localtime"]
            .into_iter()
            .find(|key| section.has(key))
            .unwrap_or("timezone");
        let message = "specifying timezone requires time format";
        return Err(section.error_at(key, message).into());
    }
    match &settings.timezone {
        Some(text) => zone::configured(text).ok_or_else(|| {
            let error = section.error_at("timezone", format!("unsupported timezone '{text}'"));
            ConfigErrors::from(error.help("write +HH:MM, +HHMM, +HH or Region/City"))
        }),
        None if local => Ok(TimeZone::system()),
        None => Ok(TimeZone::UTC),
    }
}

/// The zone of a `timezone` value, for `types … time:ZONE:FORMAT`.
pub fn zone_named(text: &str) -> Option<TimeZone> {
    zone::configured(text)
}

/// Ruby's `to_i`: the integer at the head of a text (blanks before it, `_` between digits), and how many bytes it takes.
pub fn leading_integer(text: &[u8]) -> (i64, usize) {
    let blanks = text.iter().take_while(|b| b.is_ascii_whitespace()).count();
    let signed = usize::from(matches!(text.get(blanks), Some(b'+' | b'-')));
    let negative = text.get(blanks) == Some(&b'-');
    let mut value: i64 = 0;
    let mut at = blanks + signed;
    while let Some(byte) = text.get(at) {
        match byte {
            b'0'..=b'9' => {
                value = value
                    .saturating_mul(10)
                    .saturating_add(i64::from(byte - b'0'));
            }
            b'_' if at > blanks + signed && text[at - 1] != b'_' => {}
            _ => break,
        }
        at += 1;
    }
    (if negative { -value } else { value }, at)
}

/// `sec.fraction`: the fraction's first nine digits, padded on the right.
fn float_text(text: &[u8]) -> Option<EventTime> {
    let (seconds, end) = leading_integer(text);
    let mut cursor = Cursor { text, at: end };
    let nsec = cursor
        .literal(b'.')
        .and_then(|()| cursor.fraction(usize::MAX));
    event_time(seconds, nsec.unwrap_or(0))
}

/// Ruby's `Time.iso8601`: a date, `T`, a clock, perhaps a fraction, perhaps an offset, and nothing else.
fn iso8601(text: &[u8]) -> Option<parts::Parts> {
    let mut cursor = Cursor {
        text: text.trim_ascii(),
        at: 0,
    };
    let mut read = parts::Parts {
        year: Some(i64::from(cursor.number(4)?)),
        ..Default::default()
    };
    cursor.literal(b'-')?;
    read.month = Some(cursor.number(2)?);
    cursor.literal(b'-')?;
    read.day = Some(cursor.number(2)?);
    cursor.literal(b'T').or_else(|| cursor.literal(b't'))?;
    read.hour = Some(cursor.number(2).filter(|hour| *hour <= 24)?);
    cursor.literal(b':')?;
    read.minute = Some(cursor.number(2).filter(|minute| *minute <= 59)?);
    cursor.literal(b':')?;
    read.second = Some(cursor.number(2).filter(|second| *second <= 60)?);
    if cursor.literal(b'.').is_some() {
        read.nsec = Some(cursor.fraction(usize::MAX)?);
    }
    if cursor.peek().is_some() {
        read.zone = cursor.zone(false)?;
    }
    (cursor.at == cursor.text.len()).then_some(read)
}

#[cfg(test)]
#[path = "tests.rs"]
mod tests;
