//! Ruby's regexp syntax (Onigmo) to PCRE2's, token by token, for texts that are bytes and for texts that are characters.
//!
//! Owns the syntax outside of brackets; `class.rs` owns bracket expressions. What has no counterpart in PCRE2 is
//! [`Problem::Foreign`]: `mod.rs` then leaves the expression to fancy-regex. What Ruby refuses too is [`Problem::Wrong`].
//!
//! The main differences: named groups become numbered ones (names stay in a list of ours: PCRE2 allows neither odd names nor the
//! same name twice), unnamed groups next to named ones do not capture, `(?m)` is `(?s)`, `{2}+` is not possessive and `{2}?` not
//! lazy, `\h` is a hex digit, a non-ASCII character is its bytes where texts are bytes.

use super::class;
use super::property::{self, Unit};

/// Why an expression cannot be translated.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Problem {
    /// Ruby refuses it as well; with the byte position.
    Wrong(usize, String),
    /// Ruby knows it, PCRE2 does not; with the byte position.
    Foreign(usize, &'static str),
}

/// A translated expression.
#[derive(Clone, Debug, Default)]
pub struct Translated {
    /// For PCRE2.
    pub text: String,
    /// The name of each capturing group, in order, from group 1.
    pub groups: Vec<Option<String>>,
    /// Pairs of positions (translated, original), for error messages.
    positions: Vec<(usize, usize)>,
}

impl Translated {
    /// The place in the original that became this place in the translation.
    pub fn original_position(&self, translated: usize) -> usize {
        let behind = self.positions.partition_point(|(at, _)| *at <= translated);
        behind.checked_sub(1).map_or(0, |at| self.positions[at].1)
    }

    fn has_names(&self) -> bool {
        self.groups.iter().any(Option::is_some)
    }
}

/// Translates the body of a Ruby regexp for texts of these units.
pub fn translate(source: &str, unit: Unit) -> Result<Translated, Problem> {
    let first = Translator::new(source, unit, false).run()?;
    if first.has_names() && first.groups.iter().any(Option::is_none) {
        return Translator::new(source, unit, true).run();
    }
    Ok(first)
}

struct Translator<'a> {
    source: &'a str,
    unit: Unit,
    at: usize,
    out: Translated,
    named_only: bool,
    /// One per open group: where it began in the output, its `x` option before it, and how many extra `)` it needs.
    open: Vec<Group>,
    extended: bool,
    extra_closers: usize,
    /// Where the last atom begins in the output, if a quantifier may follow.
    atom: Option<usize>,
    /// Whether the last token was a quantifier.
    quantified: bool,
}

struct Group {
    start: usize,
    extended: bool,
    extra_closers: usize,
}

impl<'a> Translator<'a> {
    fn new(source: &'a str, unit: Unit, named_only: bool) -> Translator<'a> {
        Translator {
            source,
            unit,
            at: 0,
            out: Translated::default(),
            named_only,
            open: Vec::new(),
            extended: false,
            extra_closers: 0,
            atom: None,
            quantified: false,
        }
    }

    fn run(mut self) -> Result<Translated, Problem> {
        while let Some(next) = self.peek() {
            self.out.positions.push((self.out.text.len(), self.at));
            self.token(next)?;
        }
        if let Some(group) = self.open.first() {
            let original = self.out.original_position(group.start);
            return Err(Problem::Wrong(
                original,
                "end pattern with unmatched parenthesis".into(),
            ));
        }
        self.close_options();
        Ok(self.out)
    }

    fn peek(&self) -> Option<char> {
        self.source[self.at..].chars().next()
    }

    fn rest(&self) -> &'a str {
        &self.source[self.at..]
    }

    fn token(&mut self, next: char) -> Result<(), Problem> {
        match next {
            '\\' => self.escape(),
            '[' => {
                let (text, length) = class::translate(self.source, self.at, self.unit)?;
                self.at += length;
                self.atom_text(&text);
                Ok(())
            }
            '(' => self.group(),
            ')' => self.close(),
            '*' | '+' | '?' => {
                self.at += 1;
                self.quantifier(&next.to_string(), true)
            }
            '{' => self.brace(),
            '|' => {
                self.at += 1;
                self.out.text.push('|');
                self.no_atom();
                Ok(())
            }
            '#' if self.extended => {
                let line = self
                    .rest()
                    .find('\n')
                    .map_or(self.rest().len(), |end| end + 1);
                self.at += line;
                Ok(())
            }
            blank if self.extended && blank.is_ascii_whitespace() => {
                self.at += 1;
                Ok(())
            }
            '^' | '$' | '.' => {
                self.at += 1;
                self.atom_text(&next.to_string());
                Ok(())
            }
            other => {
                self.at += other.len_utf8();
                self.literal(other);
                Ok(())
            }
        }
    }

    fn atom_text(&mut self, text: &str) {
        self.atom = Some(self.out.text.len());
        self.quantified = false;
        self.out.text.push_str(text);
    }

    fn no_atom(&mut self) {
        self.atom = None;
        self.quantified = false;
    }

    fn literal(&mut self, character: char) {
        self.bytes(character.encode_utf8(&mut [0; 4]).as_bytes());
    }

    /// Bytes that mean themselves, together one atom.
    fn bytes(&mut self, bytes: &[u8]) {
        let mut text = String::new();
        match self.unit.number(bytes) {
            Some(number) => class::push_number(&mut text, number),
            None => class::push_bytes(&mut text, bytes),
        }
        self.atom_text(&text);
    }

    /// A quantifier behind the last atom. One behind another (`{2}+`, `**`) applies to both together.
    fn quantifier(&mut self, text: &str, takes_suffix: bool) -> Result<(), Problem> {
        let Some(atom) = self.atom else {
            let message = "target of repeat operator is not specified".to_owned();
            return Err(Problem::Wrong(self.at - text.len(), message));
        };
        if self.quantified {
            self.wrap(atom);
        }
        self.out.text.push_str(text);
        self.quantified = true;
        if takes_suffix && let Some(suffix @ ('?' | '+')) = self.peek() {
            self.out.text.push(suffix);
            self.at += 1;
        }
        Ok(())
    }

    fn wrap(&mut self, atom: usize) {
        self.out.text.insert_str(atom, "(?:");
        self.out.text.push(')');
        for (at, _) in &mut self.out.positions {
            if *at > atom {
                *at += 3;
            }
        }
    }

    /// `{n}`, `{n,}`, `{,m}`, `{n,m}`, or else a literal brace.
    fn brace(&mut self) -> Result<(), Problem> {
        let Some((low, high, length)) = interval(self.rest()) else {
            self.at += 1;
            self.literal('{');
            return Ok(());
        };
        self.at += length;
        let text = match high {
            None => format!("{{{low}}}"),
            Some("") => format!("{{{low},}}"),
            Some(high) => format!("{{{low},{high}}}"),
        };
        self.quantifier(&text, false)?;
        // Ruby: `{n,m}?` is lazy, `{n}?` is an optional `{n}`, `{n,m}+` repeats.
        if self.peek() == Some('?') && high.is_some() {
            self.out.text.push('?');
            self.at += 1;
        }
        Ok(())
    }

    fn close(&mut self) -> Result<(), Problem> {
        let Some(group) = self.open.pop() else {
            return Err(Problem::Wrong(
                self.at,
                "unmatched close parenthesis".into(),
            ));
        };
        self.close_options();
        self.at += 1;
        self.out.text.push(')');
        self.extended = group.extended;
        self.extra_closers = group.extra_closers;
        self.atom = Some(group.start);
        self.quantified = false;
        Ok(())
    }

    fn close_options(&mut self) {
        for _ in 0..std::mem::take(&mut self.extra_closers) {
            self.out.text.push(')');
        }
    }

    fn open_group(&mut self, head: &str) {
        self.open.push(Group {
            start: self.out.text.len(),
            extended: self.extended,
            extra_closers: std::mem::take(&mut self.extra_closers),
        });
        self.out.text.push_str(head);
        self.no_atom();
    }

    fn group(&mut self) -> Result<(), Problem> {
        let start = self.at;
        for head in ["(?:", "(?=", "(?!", "(?>", "(?<=", "(?<!"] {
            if self.rest().starts_with(head) {
                self.at += head.len();
                self.open_group(head);
                return Ok(());
            }
        }
        if self.rest().starts_with("(?#") {
            let end = self.rest().find(')');
            let message = || Problem::Wrong(start, "end pattern in group".into());
            self.at += end.ok_or_else(message)? + 1;
            return Ok(());
        }
        if let Some(close) = named_close(self.rest()) {
            return self.named_group(close);
        }
        if self.rest().starts_with("(?~") || self.rest().starts_with("(?(") {
            return Err(Problem::Foreign(start, "a conditional or absence group"));
        }
        if self.rest().starts_with("(?") {
            return self.options();
        }
        self.at += 1;
        if self.named_only {
            self.open_group("(?:");
        } else {
            self.out.groups.push(None);
            self.open_group("(");
        }
        Ok(())
    }

    /// `(?<name>…` or `(?'name'…`.
    fn named_group(&mut self, close: char) -> Result<(), Problem> {
        let start = self.at;
        self.at += "(?<".len();
        let length = self.rest().find(close);
        let message = || Problem::Wrong(start, "the name of the group does not end".into());
        let length = length.ok_or_else(message)?;
        let name = &self.rest()[..length];
        let odd = |c: char| c == ')' || c == '(' || c.is_whitespace();
        if name.is_empty() || name.starts_with(|c: char| c.is_ascii_digit()) || name.contains(odd) {
            return Err(Problem::Wrong(
                start,
                format!("invalid group name <{name}>"),
            ));
        }
        self.at += length + 1;
        self.out.groups.push(Some(name.to_owned()));
        self.open_group("(");
        Ok(())
    }

    /// `(?imx-imx)` up to the end of the group around it, `(?imx-imx:…)` for its own.
    fn options(&mut self) -> Result<(), Problem> {
        let start = self.at;
        self.at += "(?".len();
        let mut head = String::from("(?");
        let mut extended = self.extended;
        let mut on = true;
        loop {
            let option = self.peek();
            self.at += option.map_or(0, char::len_utf8);
            match option {
                Some('-') if on => {
                    on = false;
                    head.push('-');
                }
                Some('i') => head.push('i'),
                Some('m') => head.push('s'),
                Some('x') => extended = on,
                Some('a' | 'd') if on => {}
                Some('u') if on => return Err(Problem::Foreign(start, "the option u")),
                Some(end @ (':' | ')')) => {
                    head.push(':');
                    if end == ':' {
                        self.open_group(&head);
                    } else {
                        // Ruby: the rest of the group, alternatives included, is inside the option.
                        self.out.text.push_str(&head);
                        self.extra_closers += 1;
                        self.no_atom();
                    }
                    self.extended = extended;
                    return Ok(());
                }
                _ => return Err(Problem::Wrong(start, "undefined group option".into())),
            }
        }
    }

    fn escape(&mut self) -> Result<(), Problem> {
        let start = self.at;
        self.at += 1;
        let Some(next) = self.peek() else {
            return Err(Problem::Wrong(start, "end pattern at escape".into()));
        };
        match next {
            'k' => return self.named_reference(start),
            'g' => return Err(Problem::Foreign(start, "a subexpression call")),
            'X' => return Err(Problem::Foreign(start, r"\X")),
            '1'..='9' => return self.numbered_reference(start),
            _ => self.at += next.len_utf8(),
        }
        match next {
            'b' | 'B' if self.unit == Unit::Characters => self.word_boundary(next == 'B'),
            'A' | 'Z' | 'z' | 'b' | 'B' | 'G' | 'K' => {
                self.atom_text(&format!("\\{next}"));
            }
            'd' | 'D' | 'w' | 'W' | 's' | 'S' => self.atom_text(&format!("\\{next}")),
            'h' => self.atom_text("[0-9a-fA-F]"),
            'H' => self.atom_text("[^0-9a-fA-F]"),
            'R' if self.unit == Unit::Characters => {
                self.atom_text(r"(?>\r\n|[\n-\r\x{85}\x{2028}\x{2029}])");
            }
            'R' => self.atom_text(r"(?>\r\n|[\n-\r])"),
            'p' | 'P' => {
                let (name, length) = property::property(self.source, start, self.unit)?;
                self.at = start + length;
                self.atom_text(&format!("[{name}]"));
            }
            _ => return self.escaped_bytes(start),
        }
        Ok(())
    }

    /// `\b` is Unicode's, unlike `\w`.
    fn word_boundary(&mut self, negated: bool) {
        let word = property::WORD;
        let (behind_one, behind_other) = if negated { ('=', '!') } else { ('!', '=') };
        self.atom_text(&format!(
            "(?:(?<=[{word}])(?{behind_one}[{word}])|(?<![{word}])(?{behind_other}[{word}]))"
        ));
    }

    /// An escape that stands for one character.
    fn escaped_bytes(&mut self, start: usize) -> Result<(), Problem> {
        let (bytes, length) = class::escaped_bytes(self.source, start)?;
        if self.unit == Unit::Characters && self.unit.number(&bytes).is_none() {
            return Err(Problem::Foreign(start, "a byte that is no character"));
        }
        self.at = start + length;
        self.bytes(&bytes);
        Ok(())
    }

    /// `\k<name>`; with several groups of the name, the last one that matched.
    fn named_reference(&mut self, start: usize) -> Result<(), Problem> {
        let rest = &self.source[start + 2..];
        let close = match rest.chars().next() {
            Some('<') => '>',
            Some('\'') => '\'',
            _ => return Err(Problem::Wrong(start, "invalid backref number/name".into())),
        };
        let length = rest[1..].find(close);
        let message = || Problem::Wrong(start, "invalid backref number/name".into());
        let name = &rest[1..=length.ok_or_else(message)?];
        if name.starts_with(|c: char| c.is_ascii_digit() || c == '-') || name.contains('+') {
            return Err(Problem::Foreign(start, "a reference by number or level"));
        }
        let groups = self.out.groups.iter().enumerate().rev();
        let numbers: Vec<String> = groups
            .filter(|(_, group)| group.as_deref() == Some(name))
            .map(|(at, _)| format!("\\g{{{}}}", at + 1))
            .collect();
        if numbers.is_empty() {
            return Err(Problem::Wrong(
                start,
                format!("undefined name <{name}> reference"),
            ));
        }
        self.at = start + 2 + name.len() + 2;
        self.atom_text(&format!("(?:{})", numbers.join("|")));
        Ok(())
    }

    /// `\1`: a reference, or the octal number of a byte where there are not so many groups.
    fn numbered_reference(&mut self, start: usize) -> Result<(), Problem> {
        let digits = self.rest().bytes().take_while(u8::is_ascii_digit).count();
        let number: usize = self.rest()[..digits].parse().unwrap_or(usize::MAX);
        if number > 9 && number > self.out.groups.len() {
            return self.escaped_bytes(start);
        }
        if self.named_only || self.out.has_names() {
            let message = "numbered backref/call is not allowed. (use name)";
            return Err(Problem::Wrong(start, message.into()));
        }
        self.at += digits;
        self.atom_text(&format!("\\g{{{number}}}"));
        Ok(())
    }
}

/// What ends the name if a named group begins here.
fn named_close(rest: &str) -> Option<char> {
    if rest.starts_with("(?<") {
        return Some('>');
    }
    rest.starts_with("(?'").then_some('\'')
}

/// Low and high bound (`None` without comma) of an interval, and its length.
fn interval(rest: &str) -> Option<(&str, Option<&str>, usize)> {
    let end = rest.find('}')?;
    let body = &rest[1..end];
    let number = |text: &str| text.bytes().all(|b| b.is_ascii_digit());
    let (low, high) = match body.split_once(',') {
        Some((low, high)) => (low, Some(high)),
        None => (body, None),
    };
    let bare = low.is_empty() && high.unwrap_or("").is_empty();
    if bare || !number(low) || !number(high.unwrap_or("")) {
        return None;
    }
    Some((if low.is_empty() { "0" } else { low }, high, end + 1))
}
