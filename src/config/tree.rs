//! A whole configuration: the root element, what was said about it while it was read, and its dump for the log.

use std::fmt::Write as _;

use super::element::{Element, Param, Value};
use super::json::Json;
use super::load::{LoadOptions, parse_text};
use super::system::{self, System};
use super::{ConfigError, Result, legacy, secret};

/// What a configuration's files say.
#[derive(Clone, Debug)]
pub struct Config {
    root: Element,
}

impl Config {
    pub(crate) fn new(root: Element) -> Config {
        Config { root }
    }

    /// Reads a configuration from a text, for tests: embedded Ruby sees this process.
    pub fn from_text(text: &str) -> Result<Config> {
        parse_text("text", text, &LoadOptions::default())
    }

    /// The element named `ROOT`, whose children are the top-level sections.
    pub fn root(&self) -> &Element {
        &self.root
    }

    /// What `<system>` says, Fluentd's defaults without one.
    pub fn system(&self) -> Result<System> {
        system::read(&self.root)
    }

    /// What was warned about so far, by the parser and by plugins.
    pub fn warnings(&self) -> Vec<ConfigError> {
        self.root.warnings()
    }

    /// Parameters and sections that nobody has read: ask after everything is configured.
    pub fn unused(&self) -> Vec<ConfigError> {
        let mut found = Vec::new();
        for param in self.root.all_params() {
            note_unused(&self.root, param, &mut found);
        }
        unused_below(&self.root, &mut found);
        found
    }

    /// The configuration as it was understood, from `<ROOT>` to `</ROOT>`, for the start-up log. Secrets are `xxxxxx`; what comes from the environment is shown
    /// as the expression that fetches it.
    pub fn dump(&self) -> String {
        let mut text = String::from("<ROOT>\n");
        dump_body(&self.root, 1, &mut text);
        text + "</ROOT>"
    }

    /// One line for all v0.12 spellings, where Fluentd prints several for each.
    pub(crate) fn note_old_spellings(&self) {
        let sections = count_old(&self.root);
        if sections > 0 {
            tracing::debug!(
                sections,
                "'type' is deprecated parameter name. use '@type' instead."
            );
        }
    }
}

fn count_old(element: &Element) -> usize {
    let here = usize::from(element.has("type") && !element.has("@type"));
    here + element.children().map(count_old).sum::<usize>()
}

/// What nobody has read below this section and is a known name but for a letter or two.
pub(crate) fn misspelt(root: &Element) -> Vec<ConfigError> {
    let mut found = Vec::new();
    unused_below(root, &mut found);
    found.retain(ConfigError::has_help);
    found
}

fn unused_below(element: &Element, found: &mut Vec<ConfigError>) {
    for child in element.children() {
        if !child.is_used() {
            let message = format!(
                "section <{}> is not used in <{}>",
                child.name(),
                element.name()
            );
            let known = element.known_sections();
            let error = child.error(message);
            found.push(error.suggest(child.name(), known.iter().map(String::as_str)));
            continue;
        }
        for param in child.all_params() {
            note_unused(child, param, found);
        }
        unused_below(child, found);
    }
}

fn note_unused(element: &Element, param: &Param, found: &mut Vec<ConfigError>) {
    if param.is_used() {
        return;
    }
    let message = format!(
        "parameter '{}' in <{}> is not used",
        param.key,
        element.name()
    );
    let mut error = ConfigError::new(message);
    if let Some(place) = &param.key_place {
        error = error.at(place.clone());
    }
    if element.name() == "buffer"
        && let Some(hint) = legacy::hint_in_buffer(&param.key)
    {
        return found.push(error.help(hint));
    }
    let known = element.known();
    found.push(error.suggest(&param.key, known.iter().map(String::as_str)));
}

fn dump_body(element: &Element, depth: usize, text: &mut String) {
    let indent = "  ".repeat(depth);
    for param in element.all_params() {
        let key = word(&param.key, is_plain_key(&param.key));
        let line = match dump_value(param) {
            value if value.is_empty() => key,
            value => format!("{key} {value}"),
        };
        let _ = writeln!(text, "{indent}{line}");
    }
    for child in element.children() {
        let arg = match child.shown_arg() {
            Some(shown) => format!(" {shown}"),
            None => child.arg().map_or(String::new(), |arg| {
                format!(" {}", word(arg, is_plain_arg(arg)))
            }),
        };
        let _ = writeln!(text, "{indent}<{}{arg}>", child.name());
        dump_body(child, depth + 1, text);
        let _ = writeln!(text, "{indent}</{}>", child.name());
    }
}

fn dump_value(param: &Param) -> String {
    let text = match (&param.value, &param.value_place) {
        _ if param.is_secret() => return secret::MASK.to_owned(),
        (Value::Text(text), _) if !param.foreign => text,
        (_, Some(place)) => return place.text().to_owned(),
        (_, None) => return String::new(),
    };
    let is_json = text.starts_with(['[', '{'])
        && !text.contains('#')
        && Json::parse(text).is_ok_and(|json| json.to_string() == *text);
    match text.is_empty() {
        true => String::new(),
        false => word(text, is_json || is_plain_value(text)),
    }
}

/// A word as it stands, or in double quotes.
fn word(text: &str, plain: bool) -> String {
    if plain {
        return text.to_owned();
    }
    let mut quoted = String::from("\"");
    for c in text.chars() {
        match c {
            '"' => quoted.push_str("\\\""),
            '\\' => quoted.push_str("\\\\"),
            '#' => quoted.push_str("\\#"),
            '\r' => quoted.push_str("\\r"),
            '\n' => quoted.push_str("\\n"),
            '\t' => quoted.push_str("\\t"),
            '\u{c}' => quoted.push_str("\\f"),
            '\u{8}' => quoted.push_str("\\b"),
            '\0' => quoted.push_str("\\0"),
            c => quoted.push(c),
        }
    }
    quoted.push('"');
    quoted
}

fn is_plain_key(key: &str) -> bool {
    !key.is_empty()
        && key != "include"
        && !key.starts_with(['"', '\'', '<', '#', '\u{feff}'])
        && !key.contains(|c: char| c == ' ' || c.is_control())
}

fn is_plain_value(value: &str) -> bool {
    !value.starts_with(['"', '\'', '[', '{', ' '])
        && !value.ends_with(' ')
        && !value.contains(" #")
        && !value.contains(|c: char| c.is_control())
}

fn is_plain_arg(arg: &str) -> bool {
    !arg.starts_with(['"', '\'', ' '])
        && !arg.ends_with(' ')
        && !arg.contains(|c: char| c == '>' || c.is_control())
}
