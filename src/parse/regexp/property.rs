//! What texts consist of, and sets of it with a name: `[:alpha:]`, `\p{Alpha}`, `\p{Han}`.
//!
//! For bytes only POSIX names have a meaning, and that of ASCII. For characters Ruby means Unicode by them (though not by `\w`, `\d`
//! and `\s`), and knows categories, scripts and some properties besides.

use super::translate::Problem;

/// What a text consists of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unit {
    /// Bytes of an unknown encoding.
    Bytes,
    /// Characters, in UTF-8.
    Characters,
}

impl Unit {
    /// The one unit that these bytes of an expression are, as a number; `None` where they are several, or none.
    pub fn number(self, bytes: &[u8]) -> Option<u32> {
        match (self, bytes) {
            (_, [byte @ 0..0x80]) | (Unit::Bytes, [byte]) => Some(u32::from(*byte)),
            (Unit::Bytes, _) => None,
            (Unit::Characters, _) => {
                let mut characters = std::str::from_utf8(bytes).ok()?.chars();
                let first = characters.next()?;
                characters.next().is_none().then_some(u32::from(first))
            }
        }
    }
}

/// POSIX names, as `[:name:]` and as `\p{Name}`.
pub const POSIX: [&str; 14] = [
    "alnum", "alpha", "ascii", "blank", "cntrl", "digit", "graph", "lower", "print", "punct",
    "space", "upper", "xdigit", "word",
];

/// Properties that are neither a category nor a script.
const PROPERTIES: [&str; 6] = [
    "any",
    "emoji",
    "ideographic",
    "alphabetic",
    "lowercase",
    "uppercase",
];

/// The items of a class that a POSIX name stands for; `None` where PCRE2 cannot negate them inside of one.
pub fn posix(name: &str, negated: bool, unit: Unit) -> Option<String> {
    if unit == Unit::Bytes || matches!(name, "ascii" | "xdigit") {
        let sign = if negated { "^" } else { "" };
        return Some(format!("[:{sign}{name}:]"));
    }
    let items = match name {
        "alpha" => r"\p{Alphabetic}",
        "digit" => r"\p{Nd}",
        "lower" => r"\p{Lowercase}",
        "upper" => r"\p{Uppercase}",
        "cntrl" => r"\p{Cc}",
        "space" => r"\p{White_Space}",
        _ if negated => return None,
        "alnum" => r"\p{Alphabetic}\p{Nd}",
        "blank" => r"\p{Zs}\t",
        "punct" => r"\p{P}$+<=>\^`|~",
        "graph" => GRAPH,
        "print" => return Some(format!(r"{GRAPH}\p{{Zs}}")),
        _ => WORD,
    };
    Some(if negated {
        items.replace(r"\p", r"\P")
    } else {
        items.to_owned()
    })
}

const GRAPH: &str = r"\p{L}\p{M}\p{N}\p{P}\p{S}\p{Cf}\p{Co}";

/// What words are made of, as far as `[:word:]` and `\b` are concerned.
pub const WORD: &str = r"\p{Alphabetic}\p{M}\p{Nd}\p{Pc}";

/// `\p{Alpha}`, `\p{^Alpha}` or `\P{Alpha}` at `start` as an item of a class, and its length.
pub fn property(source: &str, start: usize, unit: Unit) -> Result<(String, usize), Problem> {
    let wrong = || Problem::Wrong(start, "invalid character property name".into());
    let rest = &source[start..];
    let end = rest.find('}').filter(|_| rest[2..].starts_with('{'));
    let end = end.ok_or_else(wrong)?;
    let name = rest[3..end].to_ascii_lowercase();
    let bare = name.trim_start_matches('^');
    let negated = (bare.len() < name.len()) != rest.starts_with("\\P");
    if POSIX.contains(&bare) {
        let foreign = Problem::Foreign(start, "a negated set");
        let items = posix(bare, negated, unit).ok_or(foreign)?;
        return Ok((items, end + 1));
    }
    if unit == Unit::Bytes {
        return Err(Problem::Foreign(start, "a Unicode property"));
    }
    if bare.is_empty()
        || !bare
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || b"_- ".contains(&b))
    {
        return Err(wrong());
    }
    let kind = if negated { 'P' } else { 'p' };
    // Ruby means by a script the characters of that script alone.
    let of = if bare.len() <= 2 || PROPERTIES.contains(&bare) {
        ""
    } else {
        "sc:"
    };
    Ok((format!(r"\{kind}{{{of}{bare}}}"), end + 1))
}
