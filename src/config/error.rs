//! Errors and warnings with their place in the text.
//!
//! One line says everything (`FILE:LINE: in <section>: parameter: what is wrong. Got: value`), then the line of the file
//! follows with the place underlined. Secret values appear in neither.

use std::fmt;

use annotate_snippets::{AnnotationKind, Group, Level, Renderer, Snippet};

use super::element::Element;
use super::source::Span;

/// Longer values are cut in messages.
const VALUE_SHOWN: usize = 120;

/// One thing that is wrong, where, and what would be right.
#[derive(Clone, Debug)]
pub struct ConfigError(Box<Details>);

#[derive(Clone, Debug, Default)]
struct Details {
    message: String,
    /// A file that could not be read has no place inside.
    file: Option<String>,
    place: Option<Span>,
    /// Earlier places that explain this one: the opening of a section, the including line.
    related: Vec<(Span, String)>,
    section: Option<String>,
    key: Option<String>,
    /// The value as it may be shown.
    got: Option<String>,
    help: Vec<String>,
}

impl ConfigError {
    /// An error that has no place in a file.
    pub fn new(message: impl Into<String>) -> ConfigError {
        ConfigError(Box::new(Details {
            message: message.into(),
            ..Details::default()
        }))
    }

    /// Adds a line that says what to do: the nearest known name, the allowed values.
    pub fn help(mut self, help: impl Into<String>) -> ConfigError {
        self.0.help.push(help.into());
        self
    }

    /// Adds the nearest of the `known` names to `word`, if one is near.
    pub fn suggest<'a>(self, word: &str, known: impl IntoIterator<Item = &'a str>) -> ConfigError {
        match nearest(word, known) {
            Some(name) => self.help(format!("did you mean '{name}'?")),
            None => self,
        }
    }

    /// Names another place that has a part in the mistake: the value of `key` in `other`, or that section's head.
    pub fn together_with(self, other: &Element, key: &str) -> ConfigError {
        match other.place(key) {
            Some(place) => {
                let at = format!("{}:{}", place.source.name(), place.line());
                self.help(format!("the other one is at {at}"))
                    .near(place.clone(), "the other one")
            }
            None => self,
        }
    }

    pub(crate) fn in_file(mut self, file: impl Into<String>) -> ConfigError {
        self.0.file = Some(file.into());
        self
    }

    pub(crate) fn at(mut self, place: Span) -> ConfigError {
        self.0.place = Some(place);
        self
    }

    pub(crate) fn near(mut self, place: Span, label: impl Into<String>) -> ConfigError {
        self.0.related.push((place, label.into()));
        self
    }

    pub(crate) fn in_section(mut self, section: impl Into<String>) -> ConfigError {
        self.0.section = Some(section.into());
        self
    }

    pub(crate) fn of_key(mut self, key: impl Into<String>) -> ConfigError {
        self.0.key = Some(key.into());
        self
    }

    pub(crate) fn got(mut self, value: &str) -> ConfigError {
        self.0.got = Some(shown(value));
        self
    }

    /// The one line: `FILE:LINE: in <section>: parameter: what is wrong (help). Got: value`.
    pub fn line(&self) -> String {
        let mut line = String::new();
        match (&self.0.place, &self.0.file) {
            (Some(place), _) => line += &format!("{}:{}: ", place.source.name(), place.line()),
            (None, Some(file)) => line += &format!("{file}: "),
            (None, None) => {}
        }
        if let Some(section) = &self.0.section {
            line += &format!("in {section}: ");
        }
        if let Some(key) = &self.0.key {
            line += &format!("{key}: ");
        }
        line += &self.0.message;
        if !self.0.help.is_empty() {
            line += &format!(" ({})", self.0.help.join("; "));
        }
        if let Some(got) = &self.0.got {
            let stop = if line.ends_with('.') { "" } else { "." };
            line += &format!("{stop} Got: {got}");
        }
        line
    }

    /// Whether it says what to do.
    pub(crate) fn has_help(&self) -> bool {
        !self.0.help.is_empty()
    }

    /// File and byte, for the order of messages; what has no place comes first.
    fn position(&self) -> (&str, usize) {
        match (&self.0.place, &self.0.file) {
            (Some(place), _) => (place.source.name(), place.start),
            (None, Some(file)) => (file, 0),
            (None, None) => ("", 0),
        }
    }

    /// The line and the underlined text, without colours.
    pub fn render(&self) -> String {
        self.render_with(&Renderer::plain())
    }

    /// The same with colours, for a terminal.
    pub fn render_styled(&self) -> String {
        self.render_with(&Renderer::styled())
    }

    fn render_with(&self, renderer: &Renderer) -> String {
        let title = Level::ERROR.no_name().primary_title(self.line());
        let mut group = Group::with_title(title);
        if let Some(place) = &self.0.place {
            group = group.element(snippet(place, AnnotationKind::Primary, ""));
        }
        for (place, label) in &self.0.related {
            group = group.element(snippet(place, AnnotationKind::Context, label));
        }
        renderer.render(&[group])
    }
}

/// The lines of a place, nothing else of its file, and no secret in them.
fn snippet<'a>(
    place: &Span,
    kind: AnnotationKind,
    label: &'a str,
) -> Snippet<'a, annotate_snippets::Annotation<'a>> {
    let (text, range) = place.source.masked(place.start..place.end);
    let is_break = |c| c == '\n' || c == '\r';
    let from = text[..range.start].rfind(is_break).map_or(0, |at| at + 1);
    let line_end = text[range.start..]
        .find(is_break)
        .map_or(text.len(), |at| range.start + at);
    let end = range.end.clamp(range.start, line_end);
    let label = Some(label).filter(|label| !label.is_empty());
    Snippet::source(text[from..line_end].to_owned())
        .line_start(place.line())
        .path(place.source.name().to_owned())
        .annotation(kind.span(range.start - from..end - from).label(label))
}

/// A value on one line, cut where it is long.
fn shown(value: &str) -> String {
    if value.is_empty() {
        return "an empty value".to_owned();
    }
    let mut shown: String = value
        .chars()
        .take(VALUE_SHOWN)
        .flat_map(|c| match c {
            c if c.is_control() => c.escape_default().collect::<Vec<_>>(),
            c => vec![c],
        })
        .collect();
    if value.chars().nth(VALUE_SHOWN).is_some() {
        shown.push('…');
    }
    shown
}

/// The known name that a misspelt word most likely means.
pub(crate) fn nearest<'a>(word: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let limit = 1 + word.chars().count() / 4;
    known
        .into_iter()
        .filter(|&name| name != word)
        .map(|name| (strsim::damerau_levenshtein(word, name), name))
        .filter(|(distance, _)| *distance <= limit)
        .min()
        .map(|(_, name)| name)
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.render())
    }
}

/// Everything that is wrong in one run.
#[derive(Clone, Debug, Default)]
pub struct ConfigErrors {
    errors: Vec<ConfigError>,
    /// What was warned about on the way: it may explain an error.
    notes: Vec<ConfigError>,
}

impl ConfigErrors {
    /// Nothing wrong yet.
    pub fn new() -> ConfigErrors {
        ConfigErrors::default()
    }

    /// Adds the errors of a failed step and gives the value of one that went well: lets a caller go on and report all.
    pub fn collect<T>(&mut self, step: Result<T, ConfigErrors>) -> Option<T> {
        step.map_err(|errors| {
            self.errors.extend(errors.errors);
            self.notes.extend(errors.notes);
        })
        .ok()
    }

    /// Adds one error.
    pub fn push(&mut self, error: ConfigError) {
        self.errors.push(error);
    }

    /// Adds warnings that are shown behind the errors, if there are errors.
    pub fn note(&mut self, warnings: impl IntoIterator<Item = ConfigError>) {
        self.notes.extend(warnings);
    }

    /// Each error, by file and place.
    pub fn iter(&self) -> impl Iterator<Item = &ConfigError> {
        let mut sorted: Vec<_> = self.errors.iter().collect();
        sorted.sort_by_key(|error| error.position());
        sorted.into_iter()
    }

    /// Whether nothing is wrong.
    pub fn is_empty(&self) -> bool {
        self.errors.is_empty()
    }

    /// `Ok` where nothing is wrong.
    pub fn into_result(self) -> Result<(), ConfigErrors> {
        if self.errors.is_empty() {
            Ok(())
        } else {
            Err(self)
        }
    }
}

impl From<ConfigError> for ConfigErrors {
    fn from(error: ConfigError) -> ConfigErrors {
        ConfigErrors {
            errors: vec![error],
            notes: vec![],
        }
    }
}

impl fmt::Display for ConfigErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.iter().try_for_each(|error| writeln!(f, "{error}"))?;
        let mut notes: Vec<_> = self.notes.iter().collect();
        notes.sort_by_key(|note| note.position());
        notes
            .iter()
            .try_for_each(|note| writeln!(f, "warning: {}", note.line()))
    }
}

impl std::error::Error for ConfigErrors {}

#[cfg(test)]
#[path = "error_tests.rs"]
mod tests;
