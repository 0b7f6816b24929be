//! The v1 grammar's lines: sections, parameters, comments and `@include`, into an [`Element`].
//!
//! The words on the lines are read by `literal`; the files behind `@include` come from `load`. A line that cannot be read is remembered and
//! the next one tried, so that one run shows all of them. Rules: `config.md` of the reference, §2.

use std::path::PathBuf;

use super::element::{Element, Param, Value};
use super::literal::{Cursor, Fault, Literal, Until, is_blank, is_break};
use super::load::Reader;
use super::source::{Source, Span};
use super::{ConfigError, secret};

/// Sections inside each other.
const DEEPEST: usize = 64;
/// Keys with `@` that exist.
const RESERVED: [&str; 4] = ["@type", "@id", "@label", "@log_level"];
/// Where other keys with `@` are errors.
const STRICT_KEYS: [&str; 5] = ["ROOT", "match", "source", "filter", "system"];

/// Nothing more of this text can be read; the errors are with the [`Reader`].
pub(crate) struct GivenUp;

/// One text on its way into an element.
pub(crate) struct Parser<'r> {
    reader: &'r mut Reader,
    cursor: Cursor,
    /// What relative `@include`s are relative to.
    directory: PathBuf,
}

impl<'r> Parser<'r> {
    pub(crate) fn new(
        reader: &'r mut Reader,
        source: std::sync::Arc<Source>,
        directory: PathBuf,
    ) -> Parser<'r> {
        let at = if source.text().starts_with('\u{feff}') {
            '\u{feff}'.len_utf8()
        } else {
            0
        };
        Parser {
            reader,
            cursor: Cursor { source, at },
            directory,
        }
    }

    /// Reads the whole text into `element`, which may have come from another text.
    pub(crate) fn all(&mut self, element: &mut Element, depth: usize) -> Result<(), GivenUp> {
        self.body(element, None, depth)
    }

    /// Reads lines up to the end tag of the section whose head is `open`, or to the end of the text.
    fn body(
        &mut self,
        element: &mut Element,
        open: Option<&Span>,
        depth: usize,
    ) -> Result<(), GivenUp> {
        loop {
            self.skip_empty_lines();
            if self.cursor.peek().is_none() {
                return match open {
                    None => Ok(()),
                    Some(head) => self.give_up(not_closed(element, head, self.cursor.here())),
                };
            }
            if self.cursor.rest().starts_with("</") {
                return self.end_tag(element, open);
            }
            let line = match self.cursor.peek() {
                Some('<') => self.section(element, depth),
                _ => self.parameter(element, open.is_none(), depth),
            };
            match line {
                Ok(()) => {}
                Err(Stop::GivenUp) => return Err(GivenUp),
                Err(Stop::Fault(Fault::Rest(error))) => {
                    return self.give_up(error.in_section(element.title()));
                }
                Err(Stop::Fault(Fault::Line(error))) => {
                    self.reader.errors.push(error.in_section(element.title()));
                    self.cursor.skip_line();
                }
            }
        }
    }

    fn give_up(&mut self, error: ConfigError) -> Result<(), GivenUp> {
        self.reader.errors.push(error);
        Err(GivenUp)
    }

    /// Blank lines, comments and the blanks before anything else.
    fn skip_empty_lines(&mut self) {
        loop {
            self.cursor.take_while(|c| is_blank(c) || is_break(c));
            if self.cursor.peek() != Some('#') {
                return;
            }
            self.cursor.skip_line();
        }
    }

    /// `<name arg>`, its lines and its end tag.
    fn section(&mut self, parent: &mut Element, depth: usize) -> Result<(), Stop> {
        let start = self.cursor.at;
        self.cursor.eat("<");
        let name = self.cursor.take_while(is_name).to_owned();
        if self.cursor.peek() == Some('-') {
            let message = "section names consist of letters, digits and underscores";
            return Err(Fault::Rest(self.cursor.error(message)).into());
        }
        self.cursor.blanks();
        let arg_at = self.cursor.at;
        // Without its head nobody knows what the section's lines belong to.
        let arg = self.cursor.word(Until::Bracket, &self.reader.world);
        let arg = arg.map_err(|(Fault::Line(error) | Fault::Rest(error))| Fault::Rest(error))?;
        let arg_place = self.cursor.since(arg_at);
        self.cursor.blanks();
        if !self.cursor.eat(">") {
            return Err(Fault::Rest(self.cursor.error("expected '>'")).into());
        }
        let head = self.cursor.since(start);
        self.tag_end("expected end of line after tag", parent);
        if depth >= DEEPEST {
            let error = ConfigError::new(format!("more than {DEEPEST} sections in each other"));
            return Err(Fault::Rest(error.at(head)).into());
        }
        let mut child = parent.child(name, argument(arg, arg_place), head.clone());
        self.body(&mut child, Some(&head), depth + 1)
            .map_err(|GivenUp| Stop::GivenUp)?;
        parent.push_child(child);
        Ok(())
    }

    fn end_tag(&mut self, element: &Element, open: Option<&Span>) -> Result<(), GivenUp> {
        let start = self.cursor.at;
        self.cursor.eat("</");
        let name = self.cursor.take_while(is_name).to_owned();
        self.cursor.blanks();
        let closed = self.cursor.eat(">");
        let tag = self.cursor.since(start);
        let Some(head) = open else {
            let error = ConfigError::new("unmatched end tag: no section is open here");
            return self.give_up(error.at(tag));
        };
        if !closed {
            let error = self.cursor.error("expected character in tag name");
            return self.give_up(error.in_section(element.title()));
        }
        if name != element.name() {
            let message = format!(
                "unmatched end tag: expected '</{}>' but got '</{name}>'",
                element.name()
            );
            let error = ConfigError::new(message).at(tag);
            let error = error.near(head.clone(), "the section that is open");
            return self.give_up(error.in_section(element.title()));
        }
        self.tag_end("expected end of line after end tag", element);
        Ok(())
    }

    /// Blanks and a comment behind a tag. Anything else is an error, but the tag counts.
    fn tag_end(&mut self, message: &str, element: &Element) {
        if let Err(error) = self.line_end(message) {
            self.reader.errors.push(error.in_section(element.title()));
            self.cursor.skip_line();
        }
    }

    /// `key value`, `key`, or `@include target`.
    fn parameter(&mut self, element: &mut Element, top: bool, depth: usize) -> Result<(), Stop> {
        let start = self.cursor.at;
        let quoted = matches!(self.cursor.peek(), Some('"' | '\''));
        let Value::Text(key) = self.cursor.word(Until::Blank, &self.reader.world)?.value else {
            let error = ConfigError::new("a parameter name cannot be nil or a default");
            return Err(fault(error.at(self.cursor.since(start))));
        };
        let key_place = self.cursor.since(start);
        let separated = self
            .cursor
            .peek()
            .is_none_or(|c| is_blank(c) || is_break(c));
        if !separated {
            return Err(fault(
                self.cursor
                    .error("expected a blank after the parameter name"),
            ));
        }
        self.cursor.blanks();
        let plain_include = top && !quoted && key == "include" && !self.cursor.at_line_end();
        if key == "@include" || plain_include {
            return self.include(element, key_place, depth);
        }
        self.check_reserved(element, &key, &key_place)?;
        let value_at = self.cursor.at;
        // Behind a broken secret this may be no name but a part of it.
        let is_name = !self.cursor.source.hides(key_place.start);
        let name = |error: ConfigError| if is_name { error.of_key(&key) } else { error };
        let literal = self.value(&key, value_at).map_err(|fault| match fault {
            Fault::Line(error) => Fault::Line(name(error)),
            Fault::Rest(error) => Fault::Rest(name(error)),
        })?;
        let mut param = Param::new(key, literal.value);
        param.foreign = literal.foreign;
        param.key_place = Some(key_place);
        param.value_place = Some(self.cursor.since(value_at));
        self.line_end("expected end of line").map_err(fault)?;
        element.put(param);
        Ok(())
    }

    /// The value of a parameter, nothing where the line ends. A secret's bytes are hidden from every message.
    fn value(&mut self, key: &str, start: usize) -> Result<Literal, Fault> {
        if self.cursor.at_line_end() {
            return Ok(Literal {
                value: Value::Text(String::new()),
                foreign: false,
            });
        }
        let read = self.cursor.value(&self.reader.world);
        if secret::is_secret(key) {
            // With an error inside nobody knows where the secret ends; what stands behind its end may be a part of it.
            let text = self.cursor.source.text();
            let line_end = text[self.cursor.at..].find(is_break);
            let end = line_end.map_or(text.len(), |length| self.cursor.at + length);
            let end = if read.is_ok() { end } else { text.len() };
            self.cursor.source.hide(start..end);
        }
        read
    }

    fn check_reserved(&self, element: &Element, key: &str, place: &Span) -> Result<(), Stop> {
        if !key.starts_with('@') || RESERVED.contains(&key) {
            return Ok(());
        }
        let message = format!(
            "'@' is the system reserved prefix. Don't use '@' prefix in the configuration: {key}"
        );
        let error = ConfigError::new(message)
            .at(place.clone())
            .suggest(key, RESERVED.into_iter().chain(["@include"]));
        if STRICT_KEYS.contains(&element.name()) {
            return Err(fault(error));
        }
        element.add_warning(error.in_section(element.title()));
        Ok(())
    }

    fn include(&mut self, element: &mut Element, key: Span, depth: usize) -> Result<(), Stop> {
        let start = self.cursor.at;
        let target = self.cursor.word(Until::Comment, &self.reader.world)?;
        let mut place = self.cursor.since(start);
        if place.start == place.end {
            place = key.clone();
        }
        self.line_end("expected end of line").map_err(fault)?;
        let Value::Text(target) = target.value else {
            let error = ConfigError::new("the target of an @include cannot be nil or a default");
            return Err(fault(error.at(place)));
        };
        if key.text() == "include" {
            let message = "'include' is deprecated. Use '@include' instead";
            element.add_warning(ConfigError::new(message).at(key));
        }
        let directory = self.directory.clone();
        // Each included file that cannot be read is an error of its own; the rest of this one is still looked at.
        self.reader
            .include(&target, &place, &directory, element, depth);
        Ok(())
    }

    /// Blanks, a comment, and the end of the line; anything else is an error.
    fn line_end(&mut self, message: &str) -> Result<(), ConfigError> {
        self.cursor.blanks();
        if self.cursor.peek() == Some('#') {
            self.cursor.take_while(|c| !is_break(c));
        }
        if !self.cursor.at_line_end() {
            return Err(self.cursor.error(message));
        }
        Ok(())
    }
}

/// Why a line was not read.
enum Stop {
    Fault(Fault),
    GivenUp,
}

impl From<Fault> for Stop {
    fn from(fault: Fault) -> Stop {
        Stop::Fault(fault)
    }
}

fn fault(error: ConfigError) -> Stop {
    Stop::Fault(Fault::Line(error))
}

fn not_closed(element: &Element, head: &Span, end: Span) -> ConfigError {
    let message = format!(
        "expected end tag '</{}>' but got end of file",
        element.name()
    );
    ConfigError::new(message)
        .at(head.clone())
        .near(end, "the end tag is missed here")
        .in_section(element.title())
}

/// The argument of a section, and how messages show it: as it stands in the file where it comes from the environment.
fn argument(literal: Literal, place: Span) -> (Option<String>, Option<String>) {
    match literal.value {
        Value::Text(arg) if arg.is_empty() => (None, None),
        Value::Text(arg) if literal.foreign => (Some(arg), Some(place.text().to_owned())),
        Value::Text(arg) => (Some(arg), None),
        Value::Nil | Value::Default => (None, None),
    }
}

fn is_name(c: char) -> bool {
    c.is_ascii_alphanumeric() || c == '_'
}

#[cfg(test)]
#[path = "parser_tests.rs"]
mod tests;
