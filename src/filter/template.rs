//! Values with placeholders: `${tag_parts[1]}-${record["k"]}`.
//!
//! No Ruby is evaluated. The placeholders of Fluentd's plain mode are known, and an `enable_ruby` configuration that uses no
//! others means the same. Anything else is an error when the configuration is read, not a crash at the first event.

use jiff::Timestamp;
use jiff::tz::TimeZone;

use crate::event::msgpack::{write_bin, write_str};
use crate::event::{EventTime, Tag, record, text};

/// What a placeholder may refer to.
#[derive(Debug)]
pub struct Scene<'a> {
    /// The event's tag.
    pub tag: &'a Tag,
    /// Its time.
    pub time: EventTime,
    /// Its encoded record, before any change.
    pub record: &'a [u8],
    /// This machine's name.
    pub hostname: &'a str,
}

/// How values are read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Placeholders only.
    Plain,
    /// `enable_ruby true`: placeholders only, too, but what Ruby would read differently is refused.
    Ruby,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Piece {
    Text(String),
    Tag,
    TagPart(i64),
    TagPrefix(i64),
    TagSuffix(i64),
    Hostname,
    Time,
    Field(String),
}

/// A value in pieces.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Template(Vec<Piece>);

impl Template {
    /// Reads a value; the error names the expression that is not supported.
    pub fn parse(value: &str, mode: Mode) -> Result<Template, String> {
        let mut pieces = Vec::new();
        let mut rest = value;
        while let Some((before, expression, behind)) = next_expression(rest) {
            push_text(&mut pieces, before, mode)?;
            pieces.push(placeholder(expression, mode).ok_or_else(|| unsupported(expression))?);
            rest = behind;
        }
        push_text(&mut pieces, rest, mode)?;
        Ok(Template(pieces))
    }

    /// The text, if it has no placeholder.
    pub fn constant(&self) -> Option<&str> {
        match &self.0[..] {
            [] => Some(""),
            [Piece::Text(text)] => Some(text),
            _ => None,
        }
    }

    /// Appends the encoded value: a single placeholder keeps its type where `typecast`, everything else is text.
    pub fn write(&self, scene: &Scene<'_>, typecast: bool, out: &mut Vec<u8>) {
        match &self.0[..] {
            [single] if typecast => write_typed(single, scene, out),
            _ => write_str(out, &self.text(scene)),
        }
    }

    /// The text with all placeholders replaced.
    pub fn text(&self, scene: &Scene<'_>) -> Vec<u8> {
        let mut text = Vec::new();
        for piece in &self.0 {
            append_text(piece, scene, &mut text);
        }
        text
    }
}

/// Text before, inside and behind the next `${…}`.
fn next_expression(text: &str) -> Option<(&str, &str, &str)> {
    let (before, rest) = text.split_once("${")?;
    let (expression, behind) = rest.split_once('}')?;
    Some((before, expression, behind))
}

fn push_text(pieces: &mut Vec<Piece>, text: &str, mode: Mode) -> Result<(), String> {
    if mode == Mode::Ruby && (text.contains('\\') || text.contains("#{")) {
        return Err(unsupported(text));
    }
    if !text.is_empty() {
        pieces.push(Piece::Text(text.to_owned()));
    }
    Ok(())
}

fn unsupported(expression: &str) -> String {
    format!(
        "'{expression}' is not supported: Ruby is not evaluated, the placeholders are ${{tag}}, ${{tag_parts[N]}}, ${{tag_prefix[N]}}, \
         ${{tag_suffix[N]}}, ${{hostname}}, ${{time}} and ${{record[\"key\"]}}"
    )
}

fn placeholder(expression: &str, mode: Mode) -> Option<Piece> {
    let index = |name: &str| {
        let inside = expression.strip_prefix(name)?.strip_prefix('[')?;
        inside.strip_suffix(']')?.parse().ok()
    };
    let field = |quote: char| {
        let inside = expression.strip_prefix("record[")?.strip_suffix(']')?;
        let key = inside.strip_prefix(quote)?.strip_suffix(quote)?;
        (!key.contains([quote, '\\', '#'])).then(|| Piece::Field(key.to_owned()))
    };
    match expression {
        "tag" => Some(Piece::Tag),
        "hostname" => Some(Piece::Hostname),
        // With Ruby this is a Time object, which cannot even be forwarded.
        "time" if mode == Mode::Plain => Some(Piece::Time),
        _ => index("tag_parts")
            .map(Piece::TagPart)
            .or_else(|| index("tag_prefix").map(Piece::TagPrefix))
            .or_else(|| index("tag_suffix").map(Piece::TagSuffix))
            .or_else(|| field('"'))
            .or_else(|| (mode == Mode::Ruby).then(|| field('\'')).flatten()),
    }
}

fn write_typed(piece: &Piece, scene: &Scene<'_>, out: &mut Vec<u8>) {
    match piece {
        Piece::Field(key) => {
            out.extend_from_slice(record::find(scene.record, key).unwrap_or(&[0xc0]));
        }
        // Ruby labels what gethostname returns as bytes.
        Piece::Hostname => write_bin(out, scene.hostname.as_bytes()),
        Piece::TagPart(n) | Piece::TagPrefix(n) | Piece::TagSuffix(n)
            if part(scene.tag, *n).is_none() =>
        {
            out.push(0xc0);
        }
        other => {
            let mut text = Vec::new();
            append_text(other, scene, &mut text);
            write_str(out, &text);
        }
    }
}

fn append_text(piece: &Piece, scene: &Scene<'_>, out: &mut Vec<u8>) {
    let tag = scene.tag.as_str();
    let slice = |n: &i64, take: fn(usize, usize) -> (usize, Option<usize>)| {
        let (start, end) = part(scene.tag, *n)?;
        let (from, to) = take(start, end);
        Some(&tag[from..to.unwrap_or(tag.len())])
    };
    let text = match piece {
        Piece::Text(text) => Some(text.as_str()),
        Piece::Tag => Some(tag),
        Piece::TagPart(n) => slice(n, |start, end| (start, Some(end))),
        Piece::TagPrefix(n) => slice(n, |_, end| (0, Some(end))),
        Piece::TagSuffix(n) => slice(n, |start, _| (start, None)),
        Piece::Hostname => Some(scene.hostname),
        Piece::Time => return append_time(scene.time, out),
        Piece::Field(key) => {
            let value = record::find(scene.record, key).unwrap_or(&[0xc0]);
            return text::append(value, out);
        }
    };
    out.extend_from_slice(text.unwrap_or_default().as_bytes());
}

/// Where the `n`-th part of the tag begins and ends; negative numbers count from the end.
fn part(tag: &Tag, n: i64) -> Option<(usize, usize)> {
    let parts = tag.as_str().split('.');
    let len = parts.clone().count();
    let n = usize::try_from(if n < 0 { n + len as i64 } else { n }).ok()?;
    let start: usize = parts.clone().take(n).map(|part| part.len() + 1).sum();
    parts.clone().nth(n).map(|part| (start, start + part.len()))
}

fn append_time(time: EventTime, out: &mut Vec<u8>) {
    let seconds = Timestamp::from_second(i64::from(time.sec)).unwrap_or(Timestamp::UNIX_EPOCH);
    let local = seconds.to_zoned(TimeZone::system());
    out.extend_from_slice(
        local
            .strftime("%Y-%m-%d %H:%M:%S %z")
            .to_string()
            .as_bytes(),
    );
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn parse(value: &str) -> Template {
        Template::parse(value, Mode::Plain).expect("supported")
    }

    fn text(value: &str) -> String {
        let scene = Scene {
            tag: &Tag::new("a.bb.ccc"),
            time: EventTime { sec: 0, nsec: 0 },
            record: b"\x82\xa1k\xc4\x01v\xa1n\x07",
            hostname: "host",
        };
        String::from_utf8(parse(value).text(&scene)).expect("UTF-8")
    }

    #[test]
    fn placeholders_are_replaced_inside_text() {
        assert_eq!(text("${tag}|${hostname}"), "a.bb.ccc|host");
        assert_eq!(
            text("${tag_parts[1]} ${tag_parts[-1]} ${tag_parts[9]}."),
            "bb ccc ."
        );
        assert_eq!(text("${tag_prefix[1]} ${tag_suffix[1]}"), "a.bb bb.ccc");
        assert_eq!(text("${tag_prefix[-1]} ${tag_suffix[-1]}"), "a.bb.ccc ccc");
        assert_eq!(
            text("<${record[\"k\"]}${record[\"n\"]}${record[\"x\"]}>"),
            "<v7>"
        );
        assert_eq!(text("$x ${"), "$x ${");
    }

    #[test]
    fn time_is_local_without_a_fraction() {
        assert_eq!(text("${time}").len(), "1970-01-01 00:00:00 +0000".len());
    }

    #[test]
    fn other_expressions_are_named() {
        for expression in [
            "k",
            "record['k']",
            "record[\"a\"][\"b\"]",
            "Time.now.to_i",
            "tag_parts[x]",
        ] {
            let error =
                Template::parse(&format!("a ${{{expression}}}"), Mode::Plain).expect_err("refused");
            assert!(error.contains(expression), "{error}");
        }
    }

    #[test]
    fn with_ruby_the_same_placeholders_mean_the_same() {
        for value in [
            "${tag}",
            "x ${record[\"k\"]}",
            "${record['k']}",
            "${tag_parts[0]}",
        ] {
            assert!(Template::parse(value, Mode::Ruby).is_ok(), "{value}");
        }
        for value in ["${time}", "a\\n${tag}", "${record[\"k\"].to_s}"] {
            assert!(Template::parse(value, Mode::Ruby).is_err(), "{value}");
        }
    }

    proptest! {
        #[test]
        fn text_without_placeholders_is_a_constant(value in "[^$]{0,40}") {
            let template = parse(&value);
            prop_assert_eq!(template.constant(), Some(value.as_str()));
        }
    }
}
