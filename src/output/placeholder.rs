//! `${tag}`, `${tag[n]}`, `${field}`, `${chunk_id}` and strftime in what an output takes, filled in for one chunk. Pure.
//!
//! In Fluentd's order: with the chunk key `time` the whole text goes through strftime, with the begin of the chunk's time slice; then the
//! placeholders. A value that would lead out of a path makes the chunk unrecoverable.

use jiff::Timestamp;
use jiff::tz::TimeZone;
use tracing::warn;

use super::Chunks;
use crate::buffer::{Chunk, ChunkKeys, Timekey};
use crate::event::text;

/// What Fluentd looks for in a text with time placeholders: the finest first, in seconds.
const UNITS: [(i64, &str); 4] = [(1, "%S"), (60, "%M"), (3600, "%H"), (86_400, "%d")];
/// A midnight at the begin of a year: what changes with a second there changes nothing else.
const BASE: i64 = 1_451_606_400;

/// A parameter with placeholders.
#[derive(Clone, Debug)]
pub struct Template {
    text: String,
    zone: Option<TimeZone>,
}

impl Template {
    /// Takes a text; strftime is applied where there is a `time`. Fails where it has a conversion that is not known.
    pub fn new(text: &str, time: Option<&Timekey>) -> Result<Template, String> {
        let zone = time.map(|time| time.zone().clone());
        if zone.is_some() {
            strftime(text, BASE, TimeZone::UTC)?;
        }
        Ok(Template {
            text: text.to_owned(),
            zone,
        })
    }

    /// The text for a chunk whose time slice begins at `start`.
    pub fn fill(&self, start: i64, chunk: &Chunk) -> anyhow::Result<String> {
        let text = match &self.zone {
            Some(zone) => strftime(&self.text, start, zone.clone()).map_err(anyhow::Error::msg)?,
            None => self.text.clone(),
        };
        fill(&text, chunk, |value| {
            if leads_out(&value) {
                anyhow::bail!("the value '{value}' would lead out of the configured path");
            }
            Ok(value)
        })
    }
}

/// Fills in all placeholders but those of time; `quote` makes of each value what may stand there.
pub fn fill(
    text: &str,
    chunk: &Chunk,
    quote: impl Fn(String) -> anyhow::Result<String>,
) -> anyhow::Result<String> {
    let mut filled = String::with_capacity(2 * text.len());
    let mut rest = text;
    while let Some((before, behind)) = rest.split_once("${") {
        filled.push_str(before);
        let Some((name, behind)) = behind.split_once('}') else {
            filled.push_str("${");
            rest = behind;
            continue;
        };
        match value(name, chunk) {
            Some(value) => filled.push_str(&quote(value)?),
            None => filled.push_str(&format!("${{{name}}}")),
        }
        rest = behind;
    }
    filled.push_str(rest);
    Ok(filled)
}

/// What stands for a placeholder; `None` for what is none.
fn value(name: &str, chunk: &Chunk) -> Option<String> {
    if name == "chunk_id" {
        return Some(chunk.id().to_string());
    }
    if let Some(part) = tag_part(name) {
        return Some(part_of(chunk.tag().as_str(), part).to_owned());
    }
    let mut variables = chunk.key().variables.iter().flat_map(|all| all.iter());
    if let Some(variable) = variables.find(|variable| *variable.key == *name) {
        let mut text = Vec::new();
        text::append(&variable.value, &mut text);
        return Some(String::from_utf8_lossy(&text).into_owned());
    }
    is_field(name).then(|| {
        warn!(chunk = %chunk.id(), "chunk key placeholder '{name}' not replaced: the chunk has no such key");
        String::new()
    })
}

/// Whether the parameter `name` has what the chunk keys ask for, in Fluentd's words where not.
///
/// An output's own keys must all be there and no others; a secondary may leave out its primary's. Where any chunk may come, anything goes.
pub fn check(name: &str, text: &str, chunks: &Chunks) -> Result<(), String> {
    let wrong = |what: String| Err(format!("Parameter '{name}: {text}' {what}"));
    let (keys, exact) = match chunks {
        Chunks::Own(keys) => (keys, true),
        Chunks::Primarys(keys) => (keys, false),
        Chunks::Any => return Ok(()),
    };
    if let Err(what) = check_time(text, keys, exact) {
        return wrong(what);
    }
    let tagged = names(text).any(|name| tag_part(name).is_some());
    if tagged && !keys.tag && exact {
        return wrong("has tag placeholders, but chunk key 'tag' is not configured".into());
    }
    if !tagged && keys.tag && exact {
        return wrong("doesn't have tag placeholder".into());
    }
    check_fields(name, text, keys)?;
    let absent: Vec<_> = (keys.fields.iter().map(|field| &*field.key))
        .filter(|key| !names(text).any(|name| name == *key))
        .collect();
    if exact && !absent.is_empty() {
        let names = absent.join(", ");
        return wrong(format!("doesn't have enough placeholders for keys {names}"));
    }
    Ok(())
}

/// Whether every record field in the parameter `name` is a chunk key.
pub fn check_fields(name: &str, text: &str, keys: &ChunkKeys) -> Result<(), String> {
    let known = |name: &str| keys.fields.iter().any(|field| *field.key == *name);
    let strangers: Vec<_> = names(text)
        .filter(|name| *name != "chunk_id" && tag_part(name).is_none())
        .filter(|name| is_field(name) && !known(name))
        .collect();
    if strangers.is_empty() {
        return Ok(());
    }
    Err(format!(
        "Parameter '{name}: {text}' has placeholders, but chunk keys doesn't have keys {}",
        strangers.join(", ")
    ))
}

fn check_time(text: &str, keys: &ChunkKeys, exact: bool) -> Result<(), String> {
    let (finest, there) = time_unit(text);
    let Some(time) = &keys.time else {
        let message = "has timestamp placeholders, but chunk key 'time' is not configured";
        return if there { Err(message.into()) } else { Ok(()) };
    };
    let timekey = time.length().as_secs();
    if exact && !there {
        return Err(format!(
            "doesn't have timestamp placeholders for timekey {timekey}"
        ));
    }
    match finest {
        Some((seconds, unit)) if exact && seconds.unsigned_abs() > timekey => Err(format!(
            "doesn't have timestamp placeholder for timekey {timekey}: its finest is {unit}"
        )),
        _ => Ok(()),
    }
}

/// The finest unit of time in a text, and whether there is any, a month or a year included.
fn time_unit(text: &str) -> (Option<(i64, &'static str)>, bool) {
    let at = |after: i64| strftime(text, BASE + after, TimeZone::UTC).ok();
    let Some(base) = at(0) else {
        return (None, false);
    };
    let changes = |after: i64| at(after).is_some_and(|text| text != base);
    let finest = UNITS.into_iter().find(|(seconds, _)| changes(*seconds));
    let coarse = changes(32 * 86_400) || changes(367 * 86_400);
    (finest, finest.is_some() || coarse)
}

/// Ruby's strftime, as far as it is known.
pub fn strftime(text: &str, sec: i64, zone: TimeZone) -> Result<String, String> {
    let local = Timestamp::from_second(sec)
        .unwrap_or(Timestamp::UNIX_EPOCH)
        .to_zoned(zone);
    jiff::fmt::strtime::format(text, &local)
        .map_err(|error| format!("the time format is not supported: {error}"))
}

/// What stands between `${` and `}`.
fn names(text: &str) -> impl Iterator<Item = &str> {
    let placeholders = text.split("${").skip(1);
    placeholders.filter_map(|rest| Some(rest.split_once('}')?.0))
}

fn is_field(name: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.@$".contains(&byte);
    !name.is_empty() && name.bytes().all(allowed)
}

/// `None` for the whole tag, `Some(n)` for a part of it.
fn tag_part(placeholder: &str) -> Option<Option<i64>> {
    if placeholder == "tag" {
        return Some(None);
    }
    let n = placeholder.strip_prefix("tag[")?.strip_suffix(']')?;
    n.parse().ok().map(Some)
}

fn part_of(tag: &str, part: Option<i64>) -> &str {
    let Some(n) = part else { return tag };
    let mut parts = tag.split('.');
    let found = match usize::try_from(n) {
        Ok(n) => parts.nth(n),
        Err(_) => parts.rev().nth(n.unsigned_abs() as usize - 1),
    };
    found.unwrap_or_else(|| {
        warn!(tag, "out of range placeholder in tag: ${{tag[{n}]}}");
        ""
    })
}

fn leads_out(value: &str) -> bool {
    value.contains("../") || value.contains("..\\") || value.starts_with('/') || value == ".."
}

#[cfg(test)]
#[path = "placeholder_tests.rs"]
mod tests;
