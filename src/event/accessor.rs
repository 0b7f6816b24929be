//! `key`, `$.a.b`, `$['a'][0]`: where in a record a parameter points.

use std::fmt;

use super::msgpack::{Malformed, read_map_header, skip_value};
use super::record;

/// A place in a record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Accessor(Vec<Step>);

#[derive(Clone, Debug, PartialEq, Eq)]
enum Step {
    Key(String),
    Index(usize),
}

/// What stands at the place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Found<'a> {
    /// An encoded value, nil included.
    Value(&'a [u8]),
    /// Nothing.
    Missing,
    /// The path goes through a value that has no parts: Ruby raises there.
    NoParts,
}

impl Accessor {
    /// Reads an accessor: a plain key unless it begins with `$.` or `$[`.
    pub fn parse(text: &str) -> Result<Accessor, String> {
        let steps = if let Some(path) = text.strip_prefix("$.") {
            dotted(path)
        } else if text.starts_with("$[") {
            bracketed(&text[1..])
        } else {
            Some(vec![Step::Key(text.to_owned())])
        };
        let steps = steps.ok_or_else(|| {
            format!("'{text}' is no record accessor: use key, $.a.b or $['a']['b']")
        })?;
        Ok(Accessor(steps))
    }

    /// The key, if the place is a field of the record itself.
    pub fn top_level(&self) -> Option<&str> {
        match &self.0[..] {
            [Step::Key(key)] => Some(key),
            _ => None,
        }
    }

    /// Looks the place up in an encoded record.
    pub fn find<'a>(&self, record: &'a [u8]) -> Found<'a> {
        let mut value = record;
        for (depth, step) in self.0.iter().enumerate() {
            let part = match step {
                Step::Key(key) if is_map(value) => record::find(value, key),
                Step::Index(index) if is_array(value) => item(value, *index),
                // Ruby's dig stops at nil.
                _ if value == [0xc0] && depth > 0 => None,
                _ => return Found::NoParts,
            };
            match part {
                Some(part) => value = part,
                None => return Found::Missing,
            }
        }
        Found::Value(value)
    }
}

impl fmt::Display for Accessor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(key) = self.top_level() {
            return f.write_str(key);
        }
        f.write_str("$")?;
        self.0.iter().try_for_each(|step| match step {
            Step::Key(key) => write!(f, "['{key}']"),
            Step::Index(index) => write!(f, "[{index}]"),
        })
    }
}

fn dotted(path: &str) -> Option<Vec<Step>> {
    let mut steps = Vec::new();
    for part in path.split('.') {
        let (key, brackets) = part.split_at(part.find('[').unwrap_or(part.len()));
        (!key.is_empty()).then(|| steps.push(Step::Key(key.to_owned())))?;
        steps.extend(bracketed(brackets)?);
    }
    Some(steps)
}

fn bracketed(mut rest: &str) -> Option<Vec<Step>> {
    let mut steps = Vec::new();
    while !rest.is_empty() {
        let inner = rest.strip_prefix('[')?;
        let quote = inner.chars().next()?;
        if quote == '\'' || quote == '"' {
            let (key, behind) = inner[1..].split_once(quote)?;
            steps.push(Step::Key(key.to_owned()));
            rest = behind.strip_prefix(']')?;
        } else {
            let (index, behind) = inner.split_once(']')?;
            steps.push(Step::Index(index.parse().ok()?));
            rest = behind;
        }
    }
    Some(steps)
}

fn is_map(value: &[u8]) -> bool {
    matches!(read_map_header(value), Ok(Some(_)))
}

fn is_array(value: &[u8]) -> bool {
    array_head(value).is_some()
}

fn array_head(value: &[u8]) -> Option<(usize, usize)> {
    match value {
        [head @ 0x90..=0x9f, ..] => Some((1, usize::from(head & 0x0f))),
        [0xdc, a, b, ..] => Some((3, usize::from(u16::from_be_bytes([*a, *b])))),
        [0xdd, a, b, c, d, ..] => Some((5, u32::from_be_bytes([*a, *b, *c, *d]) as usize)),
        _ => None,
    }
}

/// The items of an encoded array; `None` for any other type.
pub fn items(value: &[u8]) -> Option<impl Iterator<Item = Result<&[u8], Malformed>>> {
    let (mut at, len) = array_head(value)?;
    Some((0..len).map(move |_| {
        let item = &value[at..];
        let end = skip_value(item)?;
        at += end;
        Ok(&item[..end])
    }))
}

fn item(value: &[u8], index: usize) -> Option<&[u8]> {
    items(value)?.nth(index)?.ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `{"a": {"b": [1, {"c d": "x"}]}, "n": nil}`
    const RECORD: &[u8] = b"\x82\xa1a\x81\xa1b\x92\x01\x81\xa3c d\xa1x\xa1n\xc0";

    fn find(accessor: &str) -> Found<'static> {
        Accessor::parse(accessor).expect("well formed").find(RECORD)
    }

    #[test]
    fn all_spellings_find_the_same_place() {
        for accessor in [
            "$.a.b[1]['c d']",
            "$['a']['b'][1][\"c d\"]",
            "$.a['b'][1]['c d']",
        ] {
            assert_eq!(find(accessor), Found::Value(b"\xa1x"), "{accessor}");
        }
        assert_eq!(find("n"), Found::Value(b"\xc0"));
    }

    #[test]
    fn absence_and_paths_through_scalars_are_told_apart() {
        assert_eq!(find("$.a.x"), Found::Missing);
        assert_eq!(find("$.n.x"), Found::Missing);
        assert_eq!(find("a.b"), Found::Missing);
        assert_eq!(find("$.a.b[7]"), Found::Missing);
        assert_eq!(find("$.a.b[0].x"), Found::NoParts);
    }

    #[test]
    fn malformed_accessors_are_refused() {
        for accessor in ["$.", "$[", "$['a'", "$[x]", "$.a..b"] {
            assert!(Accessor::parse(accessor).is_err(), "{accessor}");
        }
    }
}
