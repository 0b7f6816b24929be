//! Tag patterns of `<match>` and `<filter>`: Fluentd's, including the corners that its documentation does not mention.

use pcre2::bytes::{Regex, RegexBuilder};

/// A list of alternatives, as it stands behind `<match`.
#[derive(Debug)]
pub struct Pattern {
    alternatives: Vec<Regex>,
    everything: bool,
}

impl Pattern {
    /// Compiles the argument of a section; an empty one means `**`. The error is a sentence for the operator.
    pub fn new(text: &str) -> Result<Pattern, String> {
        let mut parts = text.split_whitespace().peekable();
        let everything = parts.peek().is_none() || text.split_whitespace().any(|part| part == "**");
        let alternatives = parts.map(compile).collect::<Result<_, _>>()?;
        Ok(Pattern {
            alternatives,
            everything,
        })
    }

    /// Whether an event with this tag matches.
    pub fn matches(&self, tag: &str) -> bool {
        // A match error means the match limit of a user's own /regexp/: such a tag does not match.
        self.everything
            || self
                .alternatives
                .iter()
                .any(|regex| regex.is_match(tag.as_bytes()).unwrap_or(false))
    }
}

fn compile(part: &str) -> Result<Regex, String> {
    let source = match part.strip_prefix('/') {
        Some(rest) => match rest.strip_suffix('/') {
            // Without a group, as Fluentd has it: /a|b/ is \Aa or b\Z.
            Some(body) => format!(r"\A{body}\Z"),
            None => {
                return Err(format!(
                    "invalid match - regex: {part} begins with / and does not end with it"
                ));
            }
        },
        None => format!(r"\A{}\Z", translate(part)),
    };
    let mut builder = RegexBuilder::new();
    builder
        .jit_if_available(true)
        .build(&source)
        .map_err(|error| format!("invalid tag pattern {part}: {error}"))
}

/// The body of a regular expression for a glob pattern.
fn translate(pattern: &str) -> String {
    let mut chars = pattern.chars().collect::<Vec<_>>();
    if chars.last() == Some(&'.') {
        chars.pop();
    }
    let mut out = String::new();
    let mut depth = 0;
    let mut dot = false;
    let mut at = 0;
    while at < chars.len() {
        let rest = &chars[at..];
        if rest.starts_with(&['*', '*']) {
            at += 2;
            let before_dot = chars.get(at) == Some(&'.');
            if before_dot {
                at += 1;
                // Zero or more whole parts: anything that ends in a dot, or the start of the tag.
                out.push_str(if dot {
                    r"\.(?:.*\.|\A)?"
                } else {
                    r"(?:.*\.|\A)"
                });
            } else {
                out.push_str(if dot { r"(?:(?![^\.]).*)" } else { ".*" });
            }
            dot = false;
            continue;
        }
        if dot {
            out.push_str(r"\.");
            dot = false;
        }
        at += 1;
        match rest[0] {
            '.' => dot = true,
            '*' => out.push_str(r"[^\.]*"),
            '\\' => {
                if let Some(next) = chars.get(at) {
                    out.push_str(&escape(*next));
                    at += 1;
                }
            }
            '{' => {
                depth += 1;
                out.push_str("(?:");
            }
            '}' if depth > 0 => {
                depth -= 1;
                out.push(')');
            }
            ',' if depth > 0 => out.push('|'),
            other => out.push_str(&escape(other)),
        }
    }
    if dot {
        out.push_str(r"\.");
    }
    // An unclosed brace ends with the pattern.
    (0..depth).for_each(|_| out.push(')'));
    out
}

fn escape(character: char) -> String {
    if character.is_ascii_alphanumeric() || character == '_' || !character.is_ascii() {
        character.to_string()
    } else {
        format!("\\{character}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn matches(pattern: &str, tag: &str) -> bool {
        Pattern::new(pattern).expect("compiles").matches(tag)
    }

    /// Each row was checked on a running Fluentd 1.18: pattern, tags that match, tags that do not.
    const TABLE: &[(&str, &[&str], &[&str])] = &[
        ("a.*", &["a.b", "a."], &["a", "a.b.c", "ab"]),
        ("a.**", &["a", "a.b", "a.b.c", "a."], &["ab", "b.a"]),
        ("a**", &["a", "ab", "a.b"], &[]),
        ("**.a", &["a", "b.a", "b.c.a", ".a"], &["ba"]),
        ("a.**.c", &["a.c", "a.b.c", "a.b.d.c"], &["ac", "a.bc"]),
        ("a.**b", &["a.b", "a.xb", "a.x.b"], &["ab", "axb"]),
        ("**a", &["a", "ba", "b.a"], &[]),
        ("*", &["", "a"], &["a.b"]),
        ("*.*", &["a.b"], &["a", "a.b.c"]),
        ("{a,b}.**", &["a", "a.x", "b.x.y"], &["c"]),
        ("a.{b.*,c.**}", &["a.b.1", "a.c", "a.c.d"], &["a.b"]),
        ("a.{b", &["a.b"], &["a.{b"]),
        ("**.**", &["", "a", "a.b", "x.y.z"], &[]),
        ("**", &["", "a", "a.b.c"], &[]),
        ("a.", &["a"], &["a."]),
        ("a,b", &["a,b"], &["a", "b"]),
        ("a.** b.*", &["a.x.y", "b.c"], &["b.c.d", "c"]),
        ("/a|b/", &["ax", "xb"], &["xa", "bx"]),
        ("[ab]", &["[ab]"], &["a"]),
        ("", &["", "anything.at.all"], &[]),
        (r"a\*", &["a*"], &["ab"]),
    ];

    #[test]
    fn patterns_match_as_fluentds_do() {
        for (pattern, yes, no) in TABLE {
            for tag in *yes {
                assert!(matches(pattern, tag), "{pattern:?} should match {tag:?}");
            }
            for tag in *no {
                assert!(
                    !matches(pattern, tag),
                    "{pattern:?} should not match {tag:?}"
                );
            }
        }
    }

    #[test]
    fn a_regexp_that_is_not_closed_is_an_error() {
        assert!(
            Pattern::new("/abc")
                .expect_err("not closed")
                .contains("invalid match - regex")
        );
        assert!(Pattern::new("/a(/").is_err());
    }
}
