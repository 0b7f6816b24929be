//! The words of the v1 grammar: keys, section arguments and values, with their quotes, escapes, JSON and embedded Ruby.
//!
//! `parser` knows the lines and sections around them. Rules: `config.md` of the reference, §2.1.

use std::sync::Arc;

use super::ConfigError;
use super::element::Value;
use super::json::Json;
use super::ruby::{self, Outcome, World};
use super::source::{Source, Span};

/// A syntax error: either the next line can be read again, or the rest of the file makes no sense.
pub(crate) enum Fault {
    Line(ConfigError),
    Rest(ConfigError),
}

/// A word and whether something of the environment or of a file is in it.
#[derive(Debug, PartialEq)]
pub(crate) struct Literal {
    pub(crate) value: Value,
    pub(crate) foreign: bool,
}

/// What ends a word without quotes, besides the end of the line.
#[derive(Clone, Copy)]
pub(crate) enum Until {
    /// Keys: the first blank.
    Blank,
    /// Values: blanks before a comment or before the end of the line.
    Comment,
    /// Section arguments: `>`, with or without blanks before it.
    Bracket,
}

/// A position in a source.
pub(crate) struct Cursor {
    pub(crate) source: Arc<Source>,
    pub(crate) at: usize,
}

impl Cursor {
    pub(crate) fn rest(&self) -> &str {
        &self.source.text()[self.at..]
    }

    pub(crate) fn peek(&self) -> Option<char> {
        self.rest().chars().next()
    }

    /// Takes the next character.
    pub(crate) fn next(&mut self) -> Option<char> {
        let next = self.peek()?;
        self.at += next.len_utf8();
        Some(next)
    }

    /// Takes `text` if it comes next.
    pub(crate) fn eat(&mut self, text: &str) -> bool {
        let comes = self.rest().starts_with(text);
        if comes {
            self.at += text.len();
        }
        comes
    }

    /// Takes characters as long as they fit.
    pub(crate) fn take_while(&mut self, fits: impl Fn(char) -> bool) -> &str {
        let rest = &self.source.text()[self.at..];
        let length = rest.find(|c| !fits(c)).unwrap_or(rest.len());
        self.at += length;
        &rest[..length]
    }

    pub(crate) fn blanks(&mut self) {
        self.take_while(is_blank);
    }

    /// Whether the line, or the text, ends here.
    pub(crate) fn at_line_end(&self) -> bool {
        self.peek().is_none_or(is_break)
    }

    /// Takes a CR, LF or CRLF.
    pub(crate) fn line_end(&mut self) {
        if !self.eat("\r\n") && !self.eat("\n") {
            self.eat("\r");
        }
    }

    pub(crate) fn skip_line(&mut self) {
        self.take_while(|c| !is_break(c));
        self.line_end();
    }

    /// From `start` to here.
    pub(crate) fn since(&self, start: usize) -> Span {
        Span::new(&self.source, start..self.at)
    }

    /// The next character, or the end of the text.
    pub(crate) fn here(&self) -> Span {
        let length = self
            .peek()
            .filter(|c| !is_break(*c))
            .map_or(0, char::len_utf8);
        Span::new(&self.source, self.at..self.at + length)
    }

    /// An error at the next character.
    pub(crate) fn error(&self, message: impl Into<String>) -> ConfigError {
        ConfigError::new(message).at(self.here())
    }

    /// A value: JSON, or a word.
    pub(crate) fn value(&mut self, world: &World) -> Result<Literal, Fault> {
        match self.peek() {
            Some('[') => self.json(world, "array"),
            Some('{') => self.json(world, "hash"),
            _ => self.word(Until::Comment, world),
        }
    }

    /// A word in quotes of either kind, or without.
    pub(crate) fn word(&mut self, until: Until, world: &World) -> Result<Literal, Fault> {
        match self.peek() {
            Some('"') => self.double_quoted(world),
            Some('\'') => self.single_quoted(),
            _ => Ok(text(self.plain(until))),
        }
    }

    fn plain(&mut self, until: Until) -> String {
        let mut word = String::new();
        while let Some(next) = self.peek().filter(|c| !is_break(*c)) {
            if matches!(until, Until::Bracket) && next == '>' {
                break;
            }
            if !is_blank(next) {
                word.push(next);
                self.at += next.len_utf8();
                continue;
            }
            let start = self.at;
            self.blanks();
            let ends = match until {
                Until::Blank => true,
                Until::Comment => self.at_line_end() || self.peek() == Some('#'),
                Until::Bracket => self.at_line_end() || self.peek() == Some('>'),
            };
            if ends {
                self.at = start;
                break;
            }
            word.push_str(&self.source.text()[start..self.at]);
        }
        word
    }

    fn single_quoted(&mut self) -> Result<Literal, Fault> {
        let start = self.at;
        self.at += 1;
        let mut word = String::new();
        loop {
            if self.at_line_end() {
                let error = ConfigError::new("the single-quoted string does not end on its line");
                return Err(Fault::Line(error.at(self.since(start))));
            }
            if self.eat("'") {
                return Ok(text(word));
            }
            if self.eat("\\'") {
                word.push('\'');
            } else if self.eat("\\\\") {
                word.push('\\');
            } else {
                word.extend(self.next());
            }
        }
    }

    fn double_quoted(&mut self, world: &World) -> Result<Literal, Fault> {
        let start = self.at;
        self.at += 1;
        let mut string = Collected::default();
        loop {
            if self.eat("\"") {
                return Ok(string.literal());
            }
            if self.eat("#{") {
                string.add(self.embedded(world)?);
                continue;
            }
            match self.next() {
                Some('\\') if self.at_line_end() && self.peek().is_some() => self.line_end(),
                Some('\\') => string.text.extend(self.escaped(start)?),
                Some(c) => string.text.push(c),
                None => {
                    let quote = Span::new(&self.source, start..start + 1);
                    let error =
                        ConfigError::new("the double-quoted string that starts here does not end");
                    return Err(Fault::Rest(error.at(quote)));
                }
            }
        }
    }

    /// The character behind a backslash.
    fn escaped(&mut self, start: usize) -> Result<Option<char>, Fault> {
        let place = Span::new(&self.source, self.at - 1..self.at);
        let Some(c) = self.next() else {
            let place = Span::new(&self.source, start..start + 1);
            let error = ConfigError::new("the double-quoted string that starts here does not end");
            return Err(Fault::Rest(error.at(place)));
        };
        Ok(Some(match c {
            'r' => '\r',
            'n' => '\n',
            't' => '\t',
            'f' => '\u{c}',
            'b' => '\u{8}',
            '0' => '\0',
            c if c.is_ascii_alphanumeric() => {
                let message = format!("unexpected back-slash escape character '{c}'");
                let error = ConfigError::new(message)
                    .at(place)
                    .help("write \\\\ for a backslash, or use single quotes");
                return Err(Fault::Line(error));
            }
            c => c,
        }))
    }

    /// The code behind `#{` and its closing brace.
    fn embedded(&mut self, world: &World) -> Result<ruby::Evaluated, Fault> {
        let start = self.at;
        let Some(length) = ruby::code_length(self.rest()) else {
            let place = Span::new(&self.source, start - 2..start);
            let error = ConfigError::new(
                "the embedded Ruby that starts here is not valid Ruby, or does not end",
            );
            return Err(Fault::Rest(error.at(place).help(ruby::SUPPORTED)));
        };
        let result = ruby::evaluate(&self.rest()[..length], world);
        self.at += length + 1;
        result.map_err(|refusal| {
            let place = start + refusal.place.start..start + refusal.place.end;
            let error = ConfigError::new(refusal.message)
                .at(Span::new(&self.source, place))
                .help(ruby::SUPPORTED);
            Fault::Line(error)
        })
    }

    /// Reads until the brackets are closed; what stands there must then be JSON. Comments may stand between any two elements.
    fn json(&mut self, world: &World, kind: &str) -> Result<Literal, Fault> {
        let start = self.at;
        let mut read = Collected::default();
        let (mut depth, mut in_string) = (0_usize, false);
        loop {
            if self.eat("#{") {
                let mut evaluated = self.embedded(world)?;
                if let (true, Outcome::Text(text)) = (in_string, &mut evaluated.outcome) {
                    let quoted = serde_json::Value::from(text.as_str()).to_string();
                    *text = quoted[1..quoted.len() - 1].to_owned();
                }
                read.add(evaluated);
                continue;
            }
            let Some(next) = self.next() else {
                let bracket = Span::new(&self.source, start..start + 1);
                let message = format!("got incomplete JSON {kind} configuration");
                let error = ConfigError::new(message).at(bracket);
                return Err(Fault::Rest(
                    error.help("a value that is not JSON must be quoted"),
                ));
            };
            match next {
                '#' if !in_string => {
                    self.take_while(|c| !is_break(c));
                    continue;
                }
                '\\' if in_string => {
                    read.text.push(next);
                    read.text.extend(self.next());
                    continue;
                }
                '"' => in_string = !in_string,
                '[' | '{' if !in_string => depth += 1,
                ']' | '}' if !in_string => depth -= 1,
                _ => {}
            }
            read.text.push(next);
            if depth == 0 {
                break;
            }
        }
        self.json_value(start, kind, read)
    }

    fn json_value(&self, start: usize, kind: &str, read: Collected) -> Result<Literal, Fault> {
        let mut literal = read.literal();
        if let Value::Text(text) = &mut literal.value {
            *text = Json::parse(text)
                .map(|json| json.to_string())
                .map_err(|error| {
                    // The line and column are those of the evaluated text, and its words could hold a secret.
                    let reason = match error.classify() {
                        serde_json::error::Category::Eof => "it is not complete",
                        _ => "check commas, quotes and brackets",
                    };
                    let error = ConfigError::new(format!("not a JSON {kind}: {reason}"))
                        .at(self.since(start))
                        .help("a value that is not JSON must be quoted");
                    Fault::Line(error)
                })?;
        }
        Ok(literal)
    }
}

/// A quoted text while it is read.
#[derive(Default)]
struct Collected {
    text: String,
    foreign: bool,
    /// `use_nil` or `use_default`: the text around it does not count.
    instead: Option<Value>,
}

impl Collected {
    fn add(&mut self, evaluated: ruby::Evaluated) {
        self.foreign |= evaluated.foreign;
        match evaluated.outcome {
            Outcome::Text(text) => self.text.push_str(&text),
            Outcome::Nil => self.instead = Some(Value::Nil),
            Outcome::Default if self.instead.is_none() => self.instead = Some(Value::Default),
            Outcome::Default => {}
        }
    }

    fn literal(self) -> Literal {
        Literal {
            value: self.instead.unwrap_or(Value::Text(self.text)),
            foreign: self.foreign,
        }
    }
}

fn text(text: String) -> Literal {
    Literal {
        value: Value::Text(text),
        foreign: false,
    }
}

pub(crate) fn is_blank(c: char) -> bool {
    c == ' ' || c == '\t'
}

pub(crate) fn is_break(c: char) -> bool {
    c == '\r' || c == '\n'
}
