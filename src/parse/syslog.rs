//! `@type syslog`: RFC 3164 and RFC 5424 lines, and `auto`, which looks at each line.
//!
//! Both of Fluentd's engines for RFC 3164 are kept apart where they read a line differently (`parser_engine`); RFC 5424 is one
//! regexp for both. Deviation: the string engine's deletion of backslashes from structured data is not copied.

use serde::Deserialize;

use crate::config::{Element, Result};
use crate::event::msgpack::write_int;
use crate::event::{Entries, EventTime};

use super::common::{Common, KeyLabel, RecordWriter, Rules};
use super::regexp::{Captures, Flags, Pattern};
use super::time::{TimeType, leading_integer};
use super::{Extra, Parsed, Parser};

const RFC3164_TIME: &str = "%b %d %H:%M:%S";
const RFC5424_TIME_WHOLE_SECONDS: &str = "%Y-%m-%dT%H:%M:%S%z";

const RFC5424: &str = concat!(
    r"\A(?<time>[^ ]*) (?<host>[!-~]{1,255}) (?<ident>[!-~]{1,48}) (?<pid>[!-~]{1,128})",
    r" (?<msgid>[!-~]{1,32}) (?<extradata>-|(?:\[.*?(?<!\\)\])+)(?: (?<message>.+))?\z",
);

/// The parameters of `@type syslog`.
#[derive(Clone, Debug, Deserialize)]
#[serde(default)]
struct Params {
    /// Which of the formats lines have.
    message_format: MessageFormat,
    /// The time of RFC 5424 lines.
    rfc5424_time_format: String,
    /// Whether lines begin with `<priority>`.
    with_priority: bool,
    /// How RFC 3164 lines are taken apart.
    parser_engine: Engine,
    /// Old name of `parser_engine`.
    parser_type: Option<Engine>,
    /// Whether the word behind the host is the ident even without a colon (string engine).
    support_colonless_ident: bool,
}

impl Default for Params {
    fn default() -> Params {
        Params {
            message_format: MessageFormat::Rfc3164,
            rfc5424_time_format: "%Y-%m-%dT%H:%M:%S.%L%z".to_owned(),
            with_priority: false,
            parser_engine: Engine::Regexp,
            parser_type: None,
            support_colonless_ident: true,
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
enum MessageFormat {
    Rfc3164,
    Rfc5424,
    Auto,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Engine {
    Regexp,
    String,
}

/// Parses syslog lines.
#[derive(Debug)]
pub struct SyslogParser {
    message_format: MessageFormat,
    with_priority: bool,
    engine: Engine,
    support_colonless_ident: bool,
    /// How many words the time of an RFC 3164 line has.
    time_words: usize,
    /// Whether that time is one of the two standard ones, of fifteen characters.
    standard_time: bool,
    rfc3164: Rules,
    rfc5424: Rules,
    pattern: Pattern,
    captures: Captures,
}

/// Reads a `<parse>` section with `@type syslog`.
pub fn configure(section: &Element) -> Result<Box<dyn Parser>> {
    let common = Common::read(section)?;
    common.warn_unused_conversions(section, "syslog");
    let params: Params = section.params()?;
    Ok(Box::new(SyslogParser::new(section, &common, &params)?))
}

impl SyslogParser {
    fn new(section: &Element, common: &Common, params: &Params) -> Result<SyslogParser> {
        let own = common.time_format.clone();
        let format = own.clone().unwrap_or_else(|| RFC3164_TIME.to_owned());
        let rfc5424_format = match params.message_format {
            MessageFormat::Rfc5424 => own.unwrap_or_else(|| params.rfc5424_time_format.clone()),
            _ => params.rfc5424_time_format.clone(),
        };
        let plain = Common {
            types: Default::default(),
            null_value_pattern: None,
            null_empty_string: false,
            time_key: None,
            time_format: Some(format.clone()),
            ..common.clone()
        };
        let newer = Common {
            time_type: Some(TimeType::Mixed),
            time_format: Some(rfc5424_format),
            time_format_fallbacks: vec![RFC5424_TIME_WHOLE_SECONDS.to_owned()],
            ..plain.clone()
        };
        Ok(SyslogParser {
            message_format: params.message_format,
            with_priority: params.with_priority,
            engine: params.parser_type.unwrap_or(params.parser_engine),
            support_colonless_ident: params.support_colonless_ident,
            time_words: format.split(' ').filter(|word| !word.is_empty()).count(),
            standard_time: matches!(format.as_str(), RFC3164_TIME | "%b %d %H:%M:%S.%N"),
            rfc3164: Rules::configure(section, &plain, Some("time"), TimeType::String)?,
            rfc5424: Rules::configure(section, &newer, Some("time"), TimeType::String)?,
            pattern: Pattern::compile(
                RFC5424,
                Flags {
                    multi_line: true,
                    ..Flags::default()
                },
            )
            .map_err(|error| section.error(error.to_string()))?,
            captures: Captures::default(),
        })
    }

    fn parse_rfc3164(
        &mut self,
        text: &[u8],
        now: EventTime,
        extra: Extra<'_>,
        batch: &mut Entries,
    ) -> Parsed {
        let Some((priority, rest)) = self.priority(text) else {
            return Parsed::Unmatched;
        };
        let by_width = self.engine == Engine::String && self.standard_time;
        let cut = if by_width {
            time_by_width(rest)
        } else {
            time_by_words(rest, self.time_words)
        };
        let Some((time, rest)) = cut else {
            return match self.engine {
                Engine::Regexp => Parsed::Invalid("the line has too few words".to_owned()),
                Engine::String => Parsed::Unmatched,
            };
        };
        let parts = match self.engine {
            Engine::Regexp => Parts::of_regexp(rest),
            Engine::String => Parts::of_string(rest, self.support_colonless_ident),
        };
        let Some(parts) = parts else {
            return Parsed::Unmatched;
        };
        let mut record = RecordWriter::begin(&mut self.rfc3164, now, extra, batch);
        write_priority(&mut record, priority);
        record.bin(b"time", &time);
        record.bin(b"host", parts.host);
        for (key, value) in [("ident", parts.ident), ("pid", parts.pid)] {
            if let Some(value) = value {
                record.bin(key.as_bytes(), value);
            }
        }
        record.bin(b"message", chomp(parts.message));
        record.finish()
    }

    fn parse_rfc5424(
        &mut self,
        text: &[u8],
        now: EventTime,
        extra: Extra<'_>,
        batch: &mut Entries,
    ) -> Parsed {
        let Some((priority, mut rest)) = self.priority(text) else {
            return Parsed::Unmatched;
        };
        if priority.is_some() {
            let digits = rest.iter().take_while(|b| b.is_ascii_digit()).count();
            let blank = rest.get(digits).is_some_and(u8::is_ascii_whitespace);
            if !(1..=3).contains(&digits) || !blank {
                return Parsed::Unmatched;
            }
            rest = &rest[digits + 1..];
        }
        if !self.pattern.captures(rest, &mut self.captures) {
            return Parsed::Unmatched;
        }
        let mut record = RecordWriter::begin(&mut self.rfc5424, now, extra, batch);
        write_priority(&mut record, priority);
        for (at, name) in self.pattern.names().enumerate() {
            let Some(range) = self.captures.get(at) else {
                continue;
            };
            let value = &rest[range];
            let value = if name == "message" {
                chomp(value)
            } else {
                value
            };
            record.bin(name.as_bytes(), value);
        }
        record.finish()
    }

    /// The priority, if lines have one, and what is behind it; `None` where it must be there and is not.
    fn priority<'a>(&self, text: &'a [u8]) -> Option<(Option<i64>, &'a [u8])> {
        if !self.with_priority {
            return Some((None, text));
        }
        let inner = text.strip_prefix(b"<")?;
        let digits = inner.iter().take_while(|b| b.is_ascii_digit()).count();
        if !(1..=3).contains(&digits) {
            return None;
        }
        let rest = inner[digits..].strip_prefix(b">")?;
        Some((Some(leading_integer(inner).0), rest))
    }
}

impl Parser for SyslogParser {
    fn parse(
        &mut self,
        text: &[u8],
        now: EventTime,
        extra: Extra<'_>,
        batch: &mut Entries,
    ) -> Parsed {
        let newer = match self.message_format {
            MessageFormat::Rfc3164 => false,
            MessageFormat::Rfc5424 => true,
            MessageFormat::Auto => has_version(text),
        };
        if newer {
            self.parse_rfc5424(text, now, extra, batch)
        } else {
            self.parse_rfc3164(text, now, extra, batch)
        }
    }
}

/// Whether a version stands behind the priority: what tells RFC 5424 from RFC 3164.
fn has_version(text: &[u8]) -> bool {
    let Some(inner) = text.strip_prefix(b"<") else {
        return false;
    };
    let digits = inner.iter().take_while(|b| b.is_ascii_digit()).count();
    (1..=3).contains(&digits) && matches!(inner.get(digits..), Some([b'>', b'1'..=b'9', ..]))
}

fn write_priority(record: &mut RecordWriter<'_, '_>, priority: Option<i64>) {
    if let Some(priority) = priority {
        let field = record.begin_field(b"pri", KeyLabel::Str);
        write_int(record.buffer(), priority);
        record.end_field(field);
    }
}

/// The time as so many words, runs of blanks squeezed, and what is behind the blank after them.
fn time_by_words(text: &[u8], words: usize) -> Option<(Vec<u8>, &[u8])> {
    let mut time = Vec::new();
    let mut rest = text;
    for word in 0..words {
        rest = &rest[rest.iter().take_while(|b| **b == b' ').count()..];
        let end = memchr::memchr(b' ', rest)?;
        if word > 0 {
            time.push(b' ');
        }
        time.extend_from_slice(&rest[..end]);
        rest = &rest[end + usize::from(word + 1 == words)..];
    }
    Some((time, rest))
}

/// The time as fifteen characters, or as far as the next blank where a fraction follows.
fn time_by_width(text: &[u8]) -> Option<(Vec<u8>, &[u8])> {
    let end = match text.get(15)? {
        b' ' => 15,
        b'.' => 15 + memchr::memchr(b' ', &text[15..])?,
        _ => return None,
    };
    Some((text[..end].to_vec(), &text[end + 1..]))
}

fn chomp(text: &[u8]) -> &[u8] {
    let text = text.strip_suffix(b"\n").unwrap_or(text);
    text.strip_suffix(b"\r").unwrap_or(text)
}

/// What follows the time of an RFC 3164 line.
struct Parts<'a> {
    host: &'a [u8],
    ident: Option<&'a [u8]>,
    pid: Option<&'a [u8]>,
    message: &'a [u8],
}

impl<'a> Parts<'a> {
    /// The regexp engine: ident up to blank, colon or bracket, then everything up to the next colon is skipped.
    fn of_regexp(text: &'a [u8]) -> Option<Parts<'a>> {
        let (host, rest) = text.split_at(memchr::memchr(b' ', text)?);
        let rest = &rest[1..];
        let end = rest.iter().position(|b| b" :[".contains(b));
        let (ident, mut rest) = rest.split_at(end.unwrap_or(rest.len()));
        let mut pid = None;
        if let Some(inner) = rest.strip_prefix(b"[") {
            let digits = inner.iter().take_while(|b| b.is_ascii_digit()).count();
            if digits > 0 && inner.get(digits) == Some(&b']') {
                pid = Some(&inner[..digits]);
                rest = &inner[digits + 1..];
            }
        }
        if let Some(colon) = memchr::memchr(b':', rest) {
            rest = &rest[colon + 1..];
        }
        rest = &rest[rest.iter().take_while(|b| **b == b' ').count()..];
        let line = memchr::memchr(b'\n', rest).unwrap_or(rest.len());
        Some(Parts {
            host,
            ident: Some(ident),
            pid,
            message: &rest[..line],
        })
    }

    /// The string engine: the word behind the host is the ident if it ends in a colon or a bracketed pid, or in nothing where
    /// that is allowed. The message may have several lines.
    fn of_string(text: &'a [u8], colonless: bool) -> Option<Parts<'a>> {
        let (host, rest) = text.split_at(memchr::memchr(b' ', text)?);
        let rest = &rest[1..];
        let unnamed = Parts {
            host,
            ident: None,
            pid: None,
            message: rest,
        };
        let Some(end) = memchr::memchr(b' ', rest) else {
            return Some(unnamed);
        };
        let (word, message) = (&rest[..end], &rest[end + 1..]);
        let bare = word.strip_suffix(b":").unwrap_or(word);
        let bracketed = bare.strip_suffix(b"]").and_then(|inner| {
            let at = memchr::memchr(b'[', inner)?;
            Some((&inner[..at], &inner[at + 1..]))
        });
        if let Some((ident, pid)) = bracketed {
            return Some(Parts {
                host,
                ident: Some(ident),
                pid: Some(pid),
                message,
            });
        }
        if bare.len() < word.len() || colonless {
            return Some(Parts {
                host,
                ident: Some(bare),
                pid: None,
                message,
            });
        }
        Some(unnamed)
    }
}

#[cfg(test)]
#[path = "syslog_tests.rs"]
mod tests;
