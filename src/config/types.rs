//! Fluentd's value types, for the fields of `Params`. What each accepts is written in `convert`.

use std::fmt;
use std::marker::PhantomData;
use std::time::Duration;

use jiff::tz::TimeZone;
use serde::de::{Deserialize, Deserializer, Error, Visitor};

use super::convert;

/// A time: `90`, `90s`, `2m`, `1h`, `1d`, or a fraction without unit.
#[derive(Clone, Copy, Debug, PartialEq, PartialOrd)]
pub struct Time(pub Duration);

impl Time {
    /// So many seconds: for the defaults of `Params`.
    pub const fn seconds(seconds: u64) -> Time {
        Time(Duration::from_secs(seconds))
    }
}

/// A size in bytes: `512`, `8k`, `16m`, `1g`, `2t` (powers of 1024). Fluentd's `-1` ("no limit") is `u64::MAX`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Size(pub u64);

/// A time zone: `+09:00`, `+0900`, `+09` or `Asia/Tokyo`.
#[derive(Clone, Debug, PartialEq)]
pub struct Zone(pub TimeZone);

/// A secret: prints as `xxxxxx` everywhere.
#[derive(Clone, PartialEq, Eq, Default)]
pub struct Secret(pub String);

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(super::secret::MASK)
    }
}

/// A regular expression as the configuration gives it, `/source/flags` or a bare source; Ruby's dialect, not compiled here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Regexp {
    /// Between the slashes, unchanged.
    pub source: String,
    /// Any of `i` and `m`.
    pub flags: String,
}

impl<'de> Deserialize<'de> for Time {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Time, D::Error> {
        from_text(deserializer, |text| convert::time(text).map(Time))
    }
}

impl<'de> Deserialize<'de> for Size {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Size, D::Error> {
        from_text(deserializer, |text| convert::size(text).map(Size))
    }
}

impl<'de> Deserialize<'de> for Zone {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Zone, D::Error> {
        from_text(deserializer, |text| convert::zone(text).map(Zone))
    }
}

impl<'de> Deserialize<'de> for Secret {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Secret, D::Error> {
        from_text(deserializer, |text| Ok(Secret(text.to_owned())))
    }
}

impl<'de> Deserialize<'de> for Regexp {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Regexp, D::Error> {
        from_text(deserializer, |text| {
            convert::regexp(text).map(|(source, flags)| Regexp { source, flags })
        })
    }
}

/// For numbers where Fluentd's reading of the leading digits would be dangerous, as of ports: `#[serde(deserialize_with)]`.
pub fn whole_number<'de, D: Deserializer<'de>>(deserializer: D) -> Result<i64, D::Error> {
    from_text(deserializer, |text| {
        text.parse()
            .map_err(|_| "not a whole number, or too large".to_owned())
    })
}

/// Deserializes by converting the parameter's text.
fn from_text<'de, D, T, F>(deserializer: D, convert: F) -> Result<T, D::Error>
where
    D: Deserializer<'de>,
    F: Fn(&str) -> convert::Converted<T>,
{
    deserializer.deserialize_str(TextVisitor {
        convert,
        value: PhantomData,
    })
}

struct TextVisitor<T, F> {
    convert: F,
    value: PhantomData<T>,
}

impl<T, F: Fn(&str) -> convert::Converted<T>> Visitor<'_> for TextVisitor<T, F> {
    type Value = T;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a text")
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<T, E> {
        (self.convert)(text).map_err(E::custom)
    }
}
