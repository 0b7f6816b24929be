//! Times without a `time_format`: the part of Ruby's `Time.parse` that logs need.
//!
//! Understood, in any order and with any text between: a clock `H:MM[:SS[.fraction]] [am|pm] [zone]`; a date as
//! `YYYY-MM-DD`, `YYYY/MM/DD`, `DD Mon YYYY`, `DD-Mon-YYYY`, `Mon DD YYYY`, `Mon DD, YYYY`, `Wkd Mon DD clock YYYY`; and the runs
//! `YYYYMMDD`, `YYYYMMDDHHMM`, `YYYYMMDDHHMMSS`, `YYYYMMDDTHHMMSS[.fraction][zone]`. Missing parts come from today, as in Ruby. Not
//! understood, where Ruby guesses: words that only begin like a month (`junk`), week dates, Japanese eras, day-of-year dates.

use super::parts::Parts;
use super::strptime::Cursor;

/// Reads the parts of a time, or nothing where the text is none.
pub fn read(text: &[u8]) -> Option<Parts> {
    let mut parts = Parts::default();
    let mut loose = Loose::default();
    let mut cursor = Cursor { text, at: 0 };
    while let Some(byte) = cursor.peek() {
        if byte.is_ascii_digit() {
            take_number(&mut cursor, &mut parts, &mut loose)?;
        } else if byte.is_ascii_alphabetic() {
            take_word(&mut cursor, &mut parts)?;
        } else {
            cursor.at += 1;
        }
    }
    loose.settle(&mut parts)?;
    let any = parts.hour.is_some() || parts.day.is_some() || parts.month.is_some();
    any.then_some(parts)
}

/// Numbers that are a day or a year, only the whole text tells which.
#[derive(Default)]
struct Loose {
    numbers: Vec<(u32, usize)>,
}

impl Loose {
    fn settle(self, parts: &mut Parts) -> Option<()> {
        for (number, digits) in self.numbers {
            if digits <= 2 && parts.day.is_none() && parts.month.is_some() {
                parts.day = Some(number).filter(|day| (1..=31).contains(day));
                parts.day?;
            } else if digits == 4 && parts.year.is_none() && parts.month.is_some() {
                parts.year = Some(i64::from(number));
            } else {
                return None;
            }
        }
        Some(())
    }
}

fn take_number(cursor: &mut Cursor<'_>, parts: &mut Parts, loose: &mut Loose) -> Option<()> {
    let digits = cursor.text[cursor.at..]
        .iter()
        .take_while(|b| b.is_ascii_digit())
        .count();
    let next = cursor.text.get(cursor.at + digits).copied();
    let after = cursor.text.get(cursor.at + digits + 1).copied();
    let number_follows = after.is_some_and(|b| b.is_ascii_digit());
    match (digits, next) {
        (1 | 2, Some(b':')) if number_follows => take_clock(cursor, parts),
        (_, Some(b':')) if number_follows => None,
        (4, Some(separator @ (b'-' | b'/'))) if number_follows => {
            take_date(cursor, separator, parts)
        }
        (8 | 12 | 14, _) => take_run(cursor, digits, parts),
        (1 | 2 | 4, _) => {
            let number = cursor.number(digits)?;
            loose.numbers.push((number, digits));
            Some(())
        }
        _ => None,
    }
}

fn take_clock(cursor: &mut Cursor<'_>, parts: &mut Parts) -> Option<()> {
    parts.hour = Some(cursor.number(2).filter(|hour| *hour <= 24)?);
    cursor.literal(b':')?;
    parts.minute = Some(cursor.number(2).filter(|minute| *minute <= 59)?);
    if cursor.literal(b':').is_some() {
        parts.second = Some(cursor.number(2).filter(|second| *second <= 60)?);
        take_fraction(cursor, parts);
    }
    take_suffix(cursor, parts)
}

fn take_fraction(cursor: &mut Cursor<'_>, parts: &mut Parts) {
    let start = cursor.at;
    if matches!(cursor.peek(), Some(b'.' | b',')) {
        cursor.at += 1;
        parts.nsec = cursor.fraction(usize::MAX);
        if parts.nsec.is_none() {
            cursor.at = start;
        }
    }
}

/// `am` or `pm` and a zone behind a clock. A word that is neither belongs to what follows.
fn take_suffix(cursor: &mut Cursor<'_>, parts: &mut Parts) -> Option<()> {
    let mut start = cursor.at;
    cursor.blanks();
    let mut ahead = Cursor { ..*cursor };
    if let Some(afternoon) = ahead.meridian() {
        parts.afternoon = Some(afternoon);
        cursor.at = ahead.at;
        start = cursor.at;
        cursor.blanks();
    }
    match cursor.zone(true) {
        Some(Some(offset)) => parts.zone = Some(offset),
        _ => cursor.at = start,
    }
    Some(())
}

fn take_date(cursor: &mut Cursor<'_>, separator: u8, parts: &mut Parts) -> Option<()> {
    parts.year = Some(i64::from(cursor.number(4)?));
    cursor.literal(separator)?;
    parts.month = Some(cursor.number(2).filter(|month| (1..=12).contains(month))?);
    cursor.literal(separator)?;
    parts.day = Some(cursor.number(2).filter(|day| (1..=31).contains(day))?);
    Some(())
}

fn take_run(cursor: &mut Cursor<'_>, digits: usize, parts: &mut Parts) -> Option<()> {
    parts.year = Some(i64::from(cursor.number(4)?));
    parts.month = Some(cursor.number(2).filter(|month| (1..=12).contains(month))?);
    parts.day = Some(cursor.number(2).filter(|day| (1..=31).contains(day))?);
    let clock_follows = cursor.peek() == Some(b'T')
        && cursor.text[cursor.at + 1..]
            .iter()
            .take_while(|b| b.is_ascii_digit())
            .count()
            == 6;
    if digits == 8 && !clock_follows {
        return Some(());
    }
    let _t = cursor.literal(b'T');
    parts.hour = Some(cursor.number(2).filter(|hour| *hour <= 24)?);
    parts.minute = Some(cursor.number(2).filter(|minute| *minute <= 59)?);
    if digits != 12 {
        parts.second = Some(cursor.number(2).filter(|second| *second <= 60)?);
    }
    take_fraction(cursor, parts);
    take_suffix(cursor, parts)
}

/// A month, a weekday, or the `T` between date and clock; any other word is not a time.
fn take_word(cursor: &mut Cursor<'_>, parts: &mut Parts) -> Option<()> {
    let start = cursor.at;
    let length = cursor.text[start..]
        .iter()
        .take_while(|b| b.is_ascii_alphabetic())
        .count();
    if length == 1 && cursor.text[start].eq_ignore_ascii_case(&b't') {
        cursor.at += 1;
        return Some(());
    }
    if let Some(month) = cursor.month_name() {
        parts.month = Some(month);
    } else {
        cursor.weekday()?;
    }
    // The name must be the whole word: `Junk` is not June.
    (cursor.at == start + length).then_some(())
}
