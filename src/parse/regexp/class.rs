//! Bracket expressions and escapes of single characters: Ruby's to PCRE2's.
//!
//! In a bracket, Ruby nests (`[a[bc]]`), takes a `]` at the head literally and reads `\h` as a hex digit. In texts that are bytes,
//! a non-ASCII character is several of them and so an alternative beside the bracket.

use super::property::{POSIX, Unit, posix, property};
use super::translate::Problem;

/// The bracket expression at `start` and its length in the source.
pub fn translate(source: &str, start: usize, unit: Unit) -> Result<(String, usize), Problem> {
    let mut class = Class {
        source,
        unit,
        at: start + 1,
        items: String::new(),
        wide: Vec::new(),
        last: Last::Nothing,
    };
    let negated = class.negation();
    class.items(start)?;
    if negated && !class.wide.is_empty() {
        // A byte at which none of the characters begins.
        let byte = match class.items.as_str() {
            "" => r"[\x00-\xff]".to_owned(),
            items => format!("[^{items}]"),
        };
        let text = format!("(?:(?!{}){byte})", class.wide.join("|"));
        return Ok((text, class.at - start));
    }
    let mut text = match (negated, class.items.is_empty()) {
        (true, _) => format!("[^{}]", class.items),
        (false, true) => String::new(),
        (false, false) => format!("[{}]", class.items),
    };
    if !class.wide.is_empty() {
        let mut choices: Vec<&str> = class.wide.iter().map(String::as_str).collect();
        choices.extend(Some(text.as_str()).filter(|text| !text.is_empty()));
        text = format!("(?:{})", choices.join("|"));
    }
    Ok((text, class.at - start))
}

/// What stands before a `-`.
#[derive(PartialEq)]
enum Last {
    Nothing,
    /// A byte, or the number of a character.
    One(u32),
    Set,
    Wide,
}

struct Class<'a> {
    source: &'a str,
    unit: Unit,
    at: usize,
    items: String,
    wide: Vec<String>,
    last: Last,
}

impl Class<'_> {
    fn rest(&self) -> &str {
        &self.source[self.at..]
    }

    fn negation(&mut self) -> bool {
        let negated = self.rest().starts_with('^');
        self.at += usize::from(negated);
        negated
    }

    /// Everything up to the closing bracket, which is consumed.
    fn items(&mut self, start: usize) -> Result<(), Problem> {
        let head = self.at;
        loop {
            let at = self.at;
            let Some(next) = self.rest().chars().next() else {
                return Err(Problem::Wrong(start, "premature end of char-class".into()));
            };
            if next == ']' && at > head {
                self.at += 1;
                return Ok(());
            }
            if next == ']' && !self.rest()[1..].contains(']') {
                return Err(Problem::Wrong(start, "empty char-class".into()));
            }
            if self.rest().starts_with("&&") {
                return Err(Problem::Foreign(at, "a class intersection"));
            }
            match next {
                '[' => self.bracket()?,
                '-' => self.dash()?,
                _ => self.single()?,
            }
        }
    }

    /// `[:alpha:]` or a nested class.
    fn bracket(&mut self) -> Result<(), Problem> {
        let start = self.at;
        if self.rest().starts_with("[:")
            && let Some(end) = self.rest().find(":]")
        {
            let name = &self.rest()[2..end];
            let bare = name.trim_start_matches('^');
            if POSIX.contains(&bare) {
                let negated = name.len() > bare.len();
                let items = posix(bare, negated, self.unit);
                let foreign = Problem::Foreign(start, "a negated set within a class");
                self.items.push_str(&items.ok_or(foreign)?);
                self.at += end + 2;
                self.last = Last::Set;
                return Ok(());
            }
        }
        self.at += 1;
        if self.negation() {
            return Err(Problem::Foreign(start, "a negated class within a class"));
        }
        self.last = Last::Nothing;
        self.items(start)?;
        self.last = Last::Set;
        Ok(())
    }

    /// A range if a single character stands on both sides, a literal otherwise (older Rubies warn and do the same).
    fn dash(&mut self) -> Result<(), Problem> {
        let start = self.at;
        self.at += 1;
        let next = self.rest().chars().next();
        let Last::One(from) = self.last else {
            if self.last == Last::Wide && !matches!(next, Some(']') | None) {
                return Err(Problem::Foreign(start, "a range of non-ASCII characters"));
            }
            push_byte(&mut self.items, b'-');
            self.last = Last::Set;
            return Ok(());
        };
        if matches!(next, Some(']' | '[') | None) || self.rest().starts_with("&&") {
            push_byte(&mut self.items, b'-');
            self.last = Last::Set;
            return Ok(());
        }
        if let Some(set) = self.set()? {
            push_byte(&mut self.items, b'-');
            self.items.push_str(&set);
            self.last = Last::Set;
            return Ok(());
        }
        let (bytes, length) = self.character()?;
        let Some(to) = self.unit.number(&bytes) else {
            return Err(Problem::Foreign(start, "a range of non-ASCII characters"));
        };
        if to < from {
            return Err(Problem::Wrong(start, "empty range in char class".into()));
        }
        self.at += length;
        self.items.push('-');
        push_number(&mut self.items, to);
        self.last = Last::Set;
        Ok(())
    }

    fn single(&mut self) -> Result<(), Problem> {
        if let Some(set) = self.set()? {
            self.items.push_str(&set);
            self.last = Last::Set;
            return Ok(());
        }
        let (bytes, length) = self.character()?;
        self.at += length;
        if let Some(number) = self.unit.number(&bytes) {
            push_number(&mut self.items, number);
            self.last = Last::One(number);
        } else if self.unit == Unit::Characters {
            return Err(Problem::Foreign(self.at, "a byte that is no character"));
        } else {
            let mut text = String::new();
            push_bytes(&mut text, &bytes);
            self.wide.push(text);
            self.last = Last::Wide;
        }
        Ok(())
    }

    /// An escape that stands for several characters; consumed if there is one.
    fn set(&mut self) -> Result<Option<String>, Problem> {
        let mut characters = self.rest().chars();
        if characters.next() != Some('\\') {
            return Ok(None);
        }
        let text = match characters.next() {
            Some(kind @ ('d' | 'D' | 'w' | 'W' | 's' | 'S')) => format!("\\{kind}"),
            Some('h') => "0-9a-fA-F".to_owned(),
            Some('H') if self.unit == Unit::Characters => {
                r"\x00-\x2f\x3a-\x40\x47-\x60\x67-\x{10ffff}".to_owned()
            }
            Some('H') => r"\x00-\x2f\x3a-\x40\x47-\x60\x67-\xff".to_owned(),
            Some('R') => "R".to_owned(),
            Some('p' | 'P') => {
                let (name, length) = property(self.source, self.at, self.unit)?;
                self.at += length;
                return Ok(Some(name));
            }
            _ => return Ok(None),
        };
        self.at += 2;
        Ok(Some(text))
    }

    /// One character, escaped or not: its bytes and its length in the source.
    fn character(&self) -> Result<(Vec<u8>, usize), Problem> {
        let mut characters = self.rest().chars();
        let Some(next) = characters.next() else {
            return Err(Problem::Wrong(
                self.at,
                "premature end of char-class".into(),
            ));
        };
        if next != '\\' {
            return Ok((next.to_string().into_bytes(), next.len_utf8()));
        }
        if characters.next() == Some('b') {
            return Ok((vec![0x08], 2));
        }
        escaped_bytes(self.source, self.at)
    }
}

/// The bytes of the escaped character whose backslash is at `start`, and its length in the source. A letter without meaning is
/// itself.
pub fn escaped_bytes(source: &str, start: usize) -> Result<(Vec<u8>, usize), Problem> {
    let rest = &source[start + 1..];
    let Some(letter) = rest.chars().next() else {
        return Err(Problem::Wrong(start, "end pattern at escape".into()));
    };
    let single = |byte: u8| Ok((vec![byte], 2));
    match letter {
        't' => single(b'\t'),
        'n' => single(b'\n'),
        'r' => single(b'\r'),
        'f' => single(0x0c),
        'v' => single(0x0b),
        'a' => single(0x07),
        'e' => single(0x1b),
        '0'..='7' => {
            let digits = count(rest, 3, |b| (b'0'..=b'7').contains(&b));
            let value = u32::from_str_radix(&rest[..digits], 8).unwrap_or(0);
            Ok((vec![(value & 0xff) as u8], 1 + digits))
        }
        'x' => {
            let digits = count(&rest[1..], 2, |b| b.is_ascii_hexdigit());
            let value = u8::from_str_radix(&rest[1..=digits], 16);
            let wrong = |_| Problem::Wrong(start, "invalid hex escape".into());
            Ok((vec![value.map_err(wrong)?], 2 + digits))
        }
        'u' => unicode(rest, start),
        'c' => match rest.as_bytes().get(1) {
            Some(control @ b'?'..=b'~') => Ok((vec![control & 0x1f], 3)),
            _ => Err(Problem::Wrong(start, "too short control sequence".into())),
        },
        'C' | 'M' if rest[1..].starts_with('-') => {
            Err(Problem::Foreign(start, "a control or meta escape"))
        }
        other => Ok((other.to_string().into_bytes(), 1 + other.len_utf8())),
    }
}

fn unicode(rest: &str, start: usize) -> Result<(Vec<u8>, usize), Problem> {
    let wrong = || Problem::Wrong(start, "invalid Unicode escape".into());
    let (digits, length) = match rest[1..].strip_prefix('{') {
        Some(braced) => {
            let end = braced.find('}').ok_or_else(wrong)?;
            (braced[..end].trim(), end + 4)
        }
        None => (rest.get(1..5).ok_or_else(wrong)?, 6),
    };
    let number = u32::from_str_radix(digits, 16).map_err(|_| wrong())?;
    let character = char::from_u32(number).ok_or_else(wrong)?;
    Ok((character.to_string().into_bytes(), length))
}

fn count(text: &str, limit: usize, is: impl Fn(u8) -> bool) -> usize {
    text.bytes().take(limit).take_while(|b| is(*b)).count()
}

/// A character that means itself, in either unit.
pub fn push_number(out: &mut String, number: u32) {
    match u8::try_from(number) {
        Ok(byte) => push_byte(out, byte),
        Err(_) => out.push_str(&format!("\\x{{{number:x}}}")),
    }
}

/// Bytes as one atom of PCRE2.
pub fn push_bytes(out: &mut String, bytes: &[u8]) {
    if let [byte] = bytes {
        return push_byte(out, *byte);
    }
    out.push_str("(?:");
    for byte in bytes {
        push_byte(out, *byte);
    }
    out.push(')');
}

fn push_byte(out: &mut String, byte: u8) {
    match byte {
        b'0'..=b'9'
        | b'A'..=b'Z'
        | b'a'..=b'z'
        | b' '
        | b'"'
        | b'\''
        | b'_'
        | b','
        | b'/'
        | b':'
        | b';'
        | b'<'
        | b'='
        | b'>'
        | b'@'
        | b'%'
        | b'!'
        | b'~'
        | b'`' => {
            out.push(char::from(byte));
        }
        0x20..=0x7e => {
            out.push('\\');
            out.push(char::from(byte));
        }
        _ => out.push_str(&format!("\\x{byte:02x}")),
    }
}
