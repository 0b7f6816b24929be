//! Zones: the `timezone` parameter, and offsets and names within a time's text.

use jiff::tz::TimeZone;

use super::strptime::Cursor;
use crate::config;

/// The zone names that Ruby's strptime knows and that logs use, with their offsets in minutes.
const NAMES: &[(&str, i32)] = &[
    ("utc", 0),
    ("gmt", 0),
    ("ut", 0),
    ("z", 0),
    ("est", -300),
    ("edt", -240),
    ("cst", -360),
    ("cdt", -300),
    ("mst", -420),
    ("mdt", -360),
    ("pst", -480),
    ("pdt", -420),
    ("akst", -540),
    ("akdt", -480),
    ("hst", -600),
    ("brt", -180),
    ("wet", 0),
    ("west", 60),
    ("bst", 60),
    ("cet", 60),
    ("cest", 120),
    ("eet", 120),
    ("eest", 180),
    ("msk", 180),
    ("ist", 330),
    ("jst", 540),
    ("kst", 540),
    ("nzst", 720),
    ("nzdt", 780),
];

/// The zone of a `timezone` parameter: `+HH:MM`, `+HHMM`, `+HH` or `Region/City`. Abbreviations are refused, as in Fluentd.
pub fn configured(text: &str) -> Option<TimeZone> {
    config::zone(text).ok()
}

impl Cursor<'_> {
    /// An offset (`Z`, `+hh`, `+hhmm`, `+hh:mm`) in seconds, or with `names` a zone's name. `Some(None)` is a name that nobody
    /// knows: Ruby then takes the default zone.
    pub(super) fn zone(&mut self, names: bool) -> Option<Option<i32>> {
        if let Some(sign @ (b'+' | b'-')) = self.peek() {
            self.at += 1;
            let seconds = self.offset()?;
            return Some(Some(if sign == b'-' { -seconds } else { seconds }));
        }
        let letters = self.text[self.at..]
            .iter()
            .take_while(|b| b.is_ascii_alphabetic())
            .count();
        let word = &self.text[self.at..self.at + letters];
        if !names {
            self.literal(b'Z').or_else(|| self.literal(b'z'))?;
            return Some(Some(0));
        }
        if letters == 0 {
            return None;
        }
        self.at += letters;
        let known = NAMES
            .iter()
            .find(|(name, _)| word.eq_ignore_ascii_case(name.as_bytes()))
            .map(|(_, minutes)| minutes * 60);
        // `UTC+09:00` is an offset with decoration.
        if known == Some(0) && matches!(self.peek(), Some(b'+' | b'-')) {
            return self.zone(true);
        }
        Some(known)
    }

    /// `hh`, `hhmm` or `hh:mm`, in seconds.
    fn offset(&mut self) -> Option<i32> {
        let hours = self.number(2)?;
        let before = self.at;
        let _colon = self.literal(b':');
        let minutes = match self.number(2) {
            Some(minutes) => minutes,
            None => {
                self.at = before;
                0
            }
        };
        i32::try_from(hours * 3600 + minutes * 60).ok()
    }
}
