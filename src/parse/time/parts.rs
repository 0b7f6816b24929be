//! What was read of a time, and which instant it means: missing parts, leap seconds, days that no month has.

use jiff::civil::{Date, DateTime};
use jiff::tz::TimeZone;
use jiff::{Timestamp, ToSpan};

use crate::event::EventTime;

/// The parts of a time that stood in a text.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Parts {
    /// Year with century.
    pub year: Option<i64>,
    /// 1 to 12.
    pub month: Option<u32>,
    /// 1 to 31.
    pub day: Option<u32>,
    /// 1 to 366.
    pub day_of_year: Option<u32>,
    /// 0 to 24.
    pub hour: Option<u32>,
    /// Whether `PM` stood there.
    pub afternoon: Option<bool>,
    /// 0 to 59.
    pub minute: Option<u32>,
    /// 0 to 60.
    pub second: Option<u32>,
    /// Nanoseconds of the second.
    pub nsec: Option<u32>,
    /// Seconds east of UTC.
    pub zone: Option<i32>,
    /// Milliseconds since 1970, where the format is `%s` or `%Q`.
    pub epoch_ms: Option<i64>,
}

impl Parts {
    /// The instant. `zone` counts where the text has no offset; a missing year is this year, a missing date today. With
    /// `roll`, the 30th of February is the 2nd (or 1st) of March, as in the strptime gem; without, hour 24 is the next midnight.
    pub fn resolve(&self, zone: &TimeZone, now: EventTime, roll: bool) -> Option<EventTime> {
        if let Some(ms) = self.epoch_ms {
            let nsec = u32::try_from(ms.rem_euclid(1000)).ok()? * 1_000_000;
            return event_time(ms.div_euclid(1000), nsec + self.nsec.unwrap_or(0));
        }
        let date = self.date(zone, now, roll)?;
        let mut hour = self.hour.unwrap_or(0);
        if let Some(afternoon) = self.afternoon {
            hour = hour % 12 + if afternoon { 12 } else { 0 };
        }
        let (minute, second) = (self.minute.unwrap_or(0), self.second.unwrap_or(0));
        let next_day = hour == 24;
        if next_day && (roll || minute + second > 0) {
            return None;
        }
        // A leap second is the first of the next minute.
        let extra = i64::from(second / 60) + if next_day { 86_400 } else { 0 };
        let at = |value: u32| i8::try_from(value).ok();
        let civil = date.at(at(hour % 24)?, at(minute)?, at(second.min(59))?, 0);
        let seconds = match self.zone {
            Some(offset) => seconds(&TimeZone::UTC, civil)? - i64::from(offset),
            None => seconds(zone, civil)?,
        };
        event_time(seconds + extra, self.nsec.unwrap_or(0))
    }

    fn date(&self, zone: &TimeZone, now: EventTime, roll: bool) -> Option<Date> {
        let today = || self.today(zone, now);
        let year = match self.year {
            Some(year) => i16::try_from(year).ok()?,
            None => today()?.year(),
        };
        if let Some(day) = self.day_of_year {
            let first = Date::new(year, 1, 1).ok()?;
            let date = first.checked_add((i64::from(day) - 1).days()).ok()?;
            return (date.year() == year && day > 0).then_some(date);
        }
        let month = match (self.year, self.month) {
            (_, Some(month)) => i8::try_from(month).ok()?,
            (Some(_), None) => 1,
            (None, None) => today()?.month(),
        };
        let day = match (self.year, self.month, self.day) {
            (_, _, Some(day)) => i8::try_from(day).ok()?,
            (None, None, None) => today()?.day(),
            _ => 1,
        };
        if roll {
            let first = Date::new(year, month, 1).ok()?;
            return first.checked_add((i64::from(day) - 1).days()).ok();
        }
        Date::new(year, month, day).ok()
    }

    /// Today where the text is from.
    fn today(&self, zone: &TimeZone, now: EventTime) -> Option<Date> {
        let offset = i64::from(self.zone.unwrap_or(0));
        let zone = if self.zone.is_some() {
            &TimeZone::UTC
        } else {
            zone
        };
        let now = Timestamp::from_second(i64::from(now.sec) + offset).ok()?;
        Some(zone.to_datetime(now).date())
    }
}

fn seconds(zone: &TimeZone, civil: DateTime) -> Option<i64> {
    Some(zone.to_timestamp(civil).ok()?.as_second())
}

/// An event time, where the wire has room for it: 1970 to 2106.
pub fn event_time(seconds: i64, nsec: u32) -> Option<EventTime> {
    Some(EventTime {
        sec: u32::try_from(seconds).ok()?,
        nsec: nsec.min(999_999_999),
    })
}
