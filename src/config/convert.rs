//! A parameter's text to a value, as Fluentd converts it, except where Fluentd silently reads something else than what stands
//! there: those are errors that say what Fluentd would have read. Pure; the places in the file are `params`' business.
//!
//! Rules: `config.md` of the reference, §4 (measured on Fluentd 1.18).

use std::time::Duration;

use jiff::tz::{Offset, TimeZone};

use super::json::Json;

/// A number and whether something stood behind it that was not read.
#[derive(Debug, PartialEq)]
pub(crate) struct Read<T> {
    pub(crate) value: T,
    pub(crate) trailing: bool,
}

/// A hundred years: more is a mistake, and adding it to a clock would not end well.
pub(crate) const LONGEST_TIME: Duration = Duration::from_secs(100 * 365 * 86400);

/// Why a text is no such value.
pub(crate) type Converted<T> = Result<T, String>;

/// A leading integer; underscores between digits are allowed, as in Ruby.
pub(crate) fn integer(text: &str) -> Converted<Read<i128>> {
    let digits = leading_digits(text.strip_prefix(['+', '-']).unwrap_or(text));
    let length = digits.len() + usize::from(text.starts_with(['+', '-']));
    if digits.is_empty() {
        return Err("not an integer".to_owned());
    }
    let value = text[..length].replace('_', "").parse::<i128>();
    Ok(Read {
        value: value.map_err(|_| "the number is too large".to_owned())?,
        trailing: length < text.len(),
    })
}

/// A leading decimal number.
pub(crate) fn float(text: &str) -> Converted<Read<f64>> {
    let unsigned = text.strip_prefix(['+', '-']).unwrap_or(text);
    let mut length = text.len() - unsigned.len();
    length += leading_digits(&text[length..]).len();
    if let Some(fraction) = text[length..].strip_prefix('.') {
        let digits = leading_digits(fraction).len();
        length += if digits > 0 { digits + 1 } else { 0 };
    }
    if let Some(exponent) = text[length..].strip_prefix(['e', 'E']) {
        let sign = usize::from(exponent.starts_with(['+', '-']));
        let digits = leading_digits(&exponent[sign..]).len();
        length += if digits > 0 { digits + sign + 1 } else { 0 };
    }
    let value = text[..length].replace('_', "").parse::<f64>();
    Ok(Read {
        value: value.map_err(|_| "not a number".to_owned())?,
        trailing: length < text.len(),
    })
}

/// `true`, `yes`, `false`, `no`; a parameter without a value is true.
pub(crate) fn boolean(text: &str) -> Converted<bool> {
    match text {
        "true" | "yes" | "" => Ok(true),
        "false" | "no" => Ok(false),
        comment if comment.starts_with('#') => Ok(true),
        _ => Err("not a boolean (use true or false)".to_owned()),
    }
}

/// Bytes: digits and `k`, `m`, `g`, `t`, with or without `b` or `ib` behind, powers of 1024. `-1` is Fluentd's "no limit".
pub(crate) fn size(text: &str) -> Converted<u64> {
    if text == "-1" {
        return Ok(u64::MAX);
    }
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let unit = text[digits..].to_ascii_lowercase();
    let unit = unit
        .strip_suffix("ib")
        .or_else(|| unit.strip_suffix('b'))
        .unwrap_or(&unit);
    let power = match unit {
        "" => 0,
        "k" => 1,
        "m" => 2,
        "g" => 3,
        "t" => 4,
        _ => return Err(wrong_size(text)),
    };
    if digits == 0 {
        return Err(wrong_size(text));
    }
    let number = text[..digits].parse::<u64>().ok();
    number
        .and_then(|number| number.checked_mul(1 << (10 * power)))
        .ok_or_else(|| "the size is too large".to_owned())
}

/// What is wrong with a size, with what Fluentd would have read.
fn wrong_size(text: &str) -> String {
    let units = [('k', 1u32), ('m', 2), ('g', 3), ('t', 4)];
    let lower = text.to_ascii_lowercase();
    let found = units.iter().find_map(|&(unit, power)| {
        let number = digits_before(&lower, unit)?.parse::<u64>().ok()?;
        number.checked_mul(1 << (10 * power))
    });
    let fluentd = match (found, integer(text)) {
        (Some(bytes), _) => format!("{bytes} bytes"),
        (None, Ok(read)) => format!("{} bytes", read.value),
        (None, Err(_)) => "0 bytes".to_owned(),
    };
    format!(
        "not a size (write a whole number with k, m, g or t behind it, as 8m; Fluentd would read {fluentd})"
    )
}

/// Seconds: a number, or a whole number with `s`, `m`, `h` or `d` behind it.
pub(crate) fn time(text: &str) -> Converted<Duration> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let factor = match &text[digits..] {
        "s" => Some(1),
        "m" => Some(60),
        "h" => Some(3600),
        "d" => Some(86400),
        _ => None,
    };
    let too_long = || "the time is too long (at most 100 years)".to_owned();
    if let (Some(factor), true) = (factor, digits > 0) {
        let number = text[..digits].parse::<u64>().map_err(|_| too_long())?;
        let seconds = number.checked_mul(factor).ok_or_else(too_long)?;
        return bounded(Duration::from_secs(seconds)).ok_or_else(too_long);
    }
    match float(text) {
        Ok(read) if !read.trailing && read.value >= 0.0 => seconds(read.value).ok_or_else(too_long),
        _ => Err(wrong_time(text)),
    }
}

/// So many seconds, if that is a time that a clock can reach.
pub(crate) fn seconds(value: f64) -> Option<Duration> {
    Duration::try_from_secs_f64(value).ok().and_then(bounded)
}

fn bounded(time: Duration) -> Option<Duration> {
    Some(time).filter(|time| *time <= LONGEST_TIME)
}

/// What is wrong with a time, with what Fluentd would have read and how to write what was probably meant.
fn wrong_time(text: &str) -> String {
    let units = [('s', 1u64), ('m', 60), ('h', 3600), ('d', 86400)];
    let found = units.iter().find_map(|&(unit, factor)| {
        let number = digits_before(text, unit)?.parse::<u64>().ok()?;
        number.checked_mul(factor)
    });
    let fluentd = match (found, float(text)) {
        (Some(seconds), _) => format!("{seconds} seconds"),
        (None, Ok(read)) => format!("{} seconds", read.value),
        (None, Err(_)) => "0 seconds".to_owned(),
    };
    let mut message = format!(
        "not a time (write seconds as 90 or 1.5, or a whole number with s, m, h or d behind it; Fluentd would read {fluentd})"
    );
    if let Some(meant) = meant_seconds(text) {
        message += &format!(". For {text} write {meant}");
    }
    message
}

/// `500ms` is 0.5, `1.5h` is 5400, `1m30s` is 90: what a person means by it.
fn meant_seconds(text: &str) -> Option<f64> {
    let (mut rest, mut seconds) = (text, 0.0);
    while !rest.is_empty() {
        let number_end = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let number: f64 = rest[..number_end].parse().ok()?;
        rest = &rest[number_end..];
        let unit_end = rest
            .find(|c: char| !c.is_ascii_alphabetic())
            .unwrap_or(rest.len());
        let thousandths = match &rest[..unit_end] {
            "ms" => 1.0,
            "s" | "sec" => 1e3,
            "m" | "min" => 60e3,
            "h" => 3600e3,
            "d" => 86_400e3,
            "w" => 604_800e3,
            _ => return None,
        };
        seconds += number * thousandths / 1e3;
        rest = &rest[unit_end..];
    }
    Some(seconds)
}

/// `+HH:MM`, `+HHMM`, `+HH` or `Region/City`. Abbreviations are refused, as in Fluentd.
pub(crate) fn zone(text: &str) -> Converted<TimeZone> {
    let zone = match text.starts_with(['+', '-']) {
        true => offset(text),
        false if text.contains('/') => TimeZone::get(text).ok(),
        false => None,
    };
    zone.ok_or_else(|| format!("Unsupported timezone '{text}' (write +09:00, +0900 or Asia/Tokyo)"))
}

fn offset(text: &str) -> Option<TimeZone> {
    let digits: String = text[1..].chars().filter(|c| *c != ':').collect();
    if !matches!(text.len(), 3 | 5 | 6) || !digits.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    let number: i32 = digits.parse().ok()?;
    let minutes = match digits.len() {
        2 => number * 60,
        4 => number / 100 * 60 + number % 100,
        _ => return None,
    };
    let seconds = if text.starts_with('-') { -60 } else { 60 } * minutes;
    Some(TimeZone::fixed(Offset::from_seconds(seconds).ok()?))
}

/// The items of a list: JSON, or text between commas, blanks trimmed, empty items at the end dropped. `None` is JSON's null.
pub(crate) fn array(text: &str) -> Converted<Vec<Option<String>>> {
    if text.trim_start().starts_with('[') {
        return match Json::parse(text) {
            Ok(Json::Array(items)) => Ok(items.into_iter().map(Json::into_text).collect()),
            Ok(_) => Err("not a JSON array".to_owned()),
            Err(error) => Err(format!("not a JSON array: {error}")),
        };
    }
    let mut items: Vec<&str> = text.split(',').map(str::trim).collect();
    while items.last().is_some_and(|item| item.is_empty()) {
        items.pop();
    }
    Ok(items
        .into_iter()
        .map(|item| Some(item.to_owned()))
        .collect())
}

/// The pairs of a hash: JSON, or `k:v,k:v`, each split at its first colon. A key without a colon has no value.
pub(crate) fn hash(text: &str) -> Converted<Vec<(String, Option<String>)>> {
    if text.trim_start().starts_with('{') {
        return match Json::parse(text) {
            Ok(Json::Object(pairs)) => Ok(pairs
                .into_iter()
                .map(|(key, value)| (key, value.into_text()))
                .collect()),
            Ok(_) => Err("not a JSON object".to_owned()),
            Err(error) => Err(format!("not a JSON object: {error}")),
        };
    }
    let pairs = text.split(',').filter(|pair| !pair.is_empty());
    Ok(pairs
        .map(|pair| match pair.split_once(':') {
            Some((key, value)) => (key.to_owned(), Some(value.to_owned())),
            None => (pair.to_owned(), None),
        })
        .collect())
}

/// `/source/flags`, or a whole text without slashes. The source is Ruby's; its translation is the parse room's business.
pub(crate) fn regexp(text: &str) -> Converted<(String, String)> {
    let Some(rest) = text.strip_prefix('/') else {
        return Ok((text.to_owned(), String::new()));
    };
    let Some((source, flags)) = rest.rsplit_once('/') else {
        return Err("the closing slash of the regular expression is missing".to_owned());
    };
    match flags.chars().find(|flag| !matches!(flag, 'i' | 'm')) {
        None => Ok((source.to_owned(), flags.to_owned())),
        Some(flag) => Err(format!(
            "unknown flag '{flag}' behind the regular expression (allowed are i and m)"
        )),
    }
}

/// The first run of digits that has `unit` right behind it: how Fluentd finds a unit anywhere in a text.
fn digits_before(text: &str, unit: char) -> Option<&str> {
    text.match_indices(unit).find_map(|(at, _)| {
        let digits = text[..at].bytes().rev().take_while(u8::is_ascii_digit);
        let from = at - digits.count();
        (from < at).then(|| &text[from..at])
    })
}

/// Digits with single underscores between them.
fn leading_digits(text: &str) -> &str {
    let bytes = text.as_bytes();
    let mut end = 0;
    while end < bytes.len() {
        let between = bytes[end] == b'_'
            && end > 0
            && bytes[end - 1] != b'_'
            && bytes.get(end + 1).is_some_and(u8::is_ascii_digit);
        if !bytes[end].is_ascii_digit() && !between {
            break;
        }
        end += 1;
    }
    &text[..end]
}
