//! One section of a configuration: name, argument, parameters, child sections, each with its place in the text.
//!
//! Elements come from the parser and are read by `agent` and the plugins. Reading leaves marks that all clones share; what has no
//! mark after everything is configured is reported by [`super::Config::unused`].

use std::collections::{BTreeSet, HashMap};
use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde::de::DeserializeOwned;

use super::error::nearest;
use super::source::Span;
use super::{ConfigError, Result, params, secret};

/// What a parameter is set to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Value {
    Text(String),
    /// `use_nil`: no value, although there is a default.
    Nil,
    /// `use_default`: as if the parameter did not stand there.
    Default,
}

/// One parameter of a section.
#[derive(Clone)]
pub(crate) struct Param {
    pub(crate) key: String,
    pub(crate) value: Value,
    pub(crate) key_place: Option<Span>,
    pub(crate) value_place: Option<Span>,
    /// The text holds something from the environment or from a file, which must not be printed.
    pub(crate) foreign: bool,
    used: Arc<AtomicBool>,
}

impl Param {
    pub(crate) fn new(key: String, value: Value) -> Param {
        Param {
            key,
            value,
            key_place: None,
            value_place: None,
            foreign: false,
            used: Arc::default(),
        }
    }

    pub(crate) fn text(&self) -> Option<&str> {
        match &self.value {
            Value::Text(text) => Some(text),
            Value::Nil | Value::Default => None,
        }
    }

    pub(crate) fn mark_used(&self) {
        self.used.store(true, Ordering::Relaxed);
    }

    pub(crate) fn is_used(&self) -> bool {
        self.used.load(Ordering::Relaxed)
    }

    /// The name as the user wrote it: the v0.12 one where the legacy layer renamed it.
    pub(crate) fn written(&self) -> &str {
        match &self.key_place {
            Some(place) => place.text().trim_matches(['"', '\'']),
            None => &self.key,
        }
    }

    pub(crate) fn is_secret(&self) -> bool {
        secret::is_secret(&self.key) || secret::is_secret(self.written())
    }

    /// The value as it may be printed.
    pub(crate) fn shown(&self) -> String {
        match (&self.value, &self.value_place) {
            _ if self.is_secret() => secret::MASK.to_owned(),
            (_, Some(place)) if self.foreign => {
                let size = match self.text() {
                    None | Some("") => "empty".to_owned(),
                    Some(text) => format!("{} characters, not shown", text.chars().count()),
                };
                format!("{} ({size})", place.text())
            }
            (Value::Text(text), _) => text.clone(),
            (Value::Nil, _) => "nil".to_owned(),
            (Value::Default, _) => "use_default".to_owned(),
        }
    }
}

/// What reading a section leaves behind, shared by all clones.
#[derive(Debug, Default)]
struct Marks {
    used: AtomicBool,
    /// Parameter and section names that somebody asked for.
    known: Mutex<BTreeSet<String>>,
    known_sections: Mutex<BTreeSet<String>>,
}

/// A section. Clones share the record of which parameters were used.
#[derive(Clone, Default)]
pub struct Element {
    name: String,
    arg: Option<String>,
    /// The argument as messages show it, where its text comes from the environment.
    shown_arg: Option<String>,
    /// The sections around this one, as in messages: `<match a.**> > `.
    within: String,
    head: Option<Span>,
    /// Of the root: the file that it was read from.
    file: Option<String>,
    params: Vec<Param>,
    /// Where in `params` each key stands.
    index: HashMap<String, usize>,
    children: Vec<Element>,
    marks: Arc<Marks>,
    warnings: Arc<Mutex<Vec<ConfigError>>>,
    /// `--strict-config-value`: numbers with something behind them are errors, not warnings.
    strict: Arc<AtomicBool>,
}

impl fmt::Debug for Element {
    /// The head and the parameters as they may be printed.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let params = self.params.iter().map(|param| (&param.key, param.shown()));
        write!(f, "{} ", self.title())?;
        f.debug_map().entries(params).finish()?;
        f.debug_list().entries(&self.children).finish()
    }
}

impl Element {
    /// `source`, `match`, `buffer`, …; the root is `ROOT`.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The text behind the name, as in `<match app.**>`.
    pub fn arg(&self) -> Option<&str> {
        self.arg.as_deref()
    }

    /// All child sections, in order. Marks nothing as used.
    pub fn children(&self) -> impl Iterator<Item = &Element> {
        self.children.iter()
    }

    /// The child sections with this name, in order. Marks them as used.
    pub fn sections<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a Element> {
        locked(&self.marks.known_sections).insert(name.to_owned());
        self.children
            .iter()
            .filter(move |child| child.name == name)
            .inspect(|child| child.mark_used())
    }

    /// The only child section with this name; an error where there are several.
    pub fn section(&self, name: &str) -> Result<Option<&Element>> {
        locked(&self.marks.known_sections).insert(name.to_owned());
        let mut found = self.children.iter().filter(|child| child.name == name);
        let first = found.next().inspect(|first| first.mark_used());
        let (Some(first), Some(second)) = (first, found.next()) else {
            return Ok(first);
        };
        let message = format!("'<{name}>' section cannot be written twice or more");
        let error = second.error(message);
        Err(match &first.head {
            Some(head) => error.near(head.clone(), "the first one"),
            None => error,
        }
        .into())
    }

    /// `@type`, or the v0.12 spelling `type`; an error at the section's head where both are missing.
    pub fn plugin_type(&self) -> Result<&str> {
        self.aliased("@type", "type")
            .ok_or_else(|| self.missing_type().into())
    }

    /// The same; the error lists the `known` types.
    pub fn plugin_type_of(&self, known: &[&str]) -> Result<&str> {
        let help = || format!("known types: {}", known.join(", "));
        self.aliased("@type", "type")
            .ok_or_else(|| self.missing_type().help(help()).into())
    }

    /// `@id` or `id`.
    pub fn id(&self) -> Option<&str> {
        self.aliased("@id", "id")
    }

    /// `@log_level` or `log_level`.
    pub fn log_level(&self) -> Option<&str> {
        self.aliased("@log_level", "log_level")
    }

    /// The text of one parameter (the last one where it stands twice). Marks it as used.
    pub fn get(&self, key: &str) -> Option<&str> {
        self.know(key);
        let param = self.param(key)?;
        param.mark_used();
        param.text()
    }

    /// Whether the parameter stands here (with a text or with nil), without marking it as used.
    pub fn has(&self, key: &str) -> bool {
        self.param(key)
            .is_some_and(|param| param.value != Value::Default)
    }

    /// Every parameter in the order of the file, `None` for nil: for sections whose keys are free, as `<record>`. Marks all as used.
    pub fn entries(&self) -> impl Iterator<Item = (&str, Option<&str>)> {
        self.params
            .iter()
            .inspect(|param| param.mark_used())
            .filter(|param| param.value != Value::Default)
            .map(|param| (param.key.as_str(), param.text()))
    }

    /// The typed parameters of a plugin: each serde field is a parameter of the same name, converted as Fluentd converts it.
    /// All wrong values of the section are reported at once. Marks the fields as used and remembers them as known names.
    ///
    /// Fields may be bool, numbers, `String`, `Option`, lists, maps, enums of unit variants and [`super::types`];
    /// `#[serde(flatten)]` does not work here.
    pub fn params<T: DeserializeOwned>(&self) -> Result<T> {
        params::read(self)
    }

    /// An error that points at the head of this section.
    pub fn error(&self, message: impl Into<String>) -> ConfigError {
        let error = ConfigError::new(message).in_section(self.title());
        match &self.head {
            Some(head) => error.at(head.clone()),
            None => error,
        }
    }

    /// An error that points at the value of `key`, or at the section's head where the parameter does not stand.
    pub fn error_at(&self, key: &str, message: impl Into<String>) -> ConfigError {
        let Some(param) = self.param(key) else {
            return self.error(message).of_key(key);
        };
        let name = match param.written() {
            written if written == key => key.to_owned(),
            written => format!("{written} ({key})"),
        };
        let error = self.error(message).of_key(name).got(&param.shown());
        let place = [&param.value_place, &param.key_place]
            .into_iter()
            .flatten()
            .find(|place| place.start < place.end);
        match place {
            Some(place) => error.at(place.clone()),
            None => error,
        }
    }

    /// That the parameter is required. Names the parameter that probably was meant to be it: one that nobody knows.
    pub fn missing(&self, key: &str) -> ConfigError {
        let error = self.error(format!("'{key}' parameter is required"));
        match self.stranger_like(key) {
            Some(name) => error.help(format!("'{name}' stands here: did you mean '{key}'?")),
            None => error,
        }
    }

    /// Says at start, with this section's line, what happens instead of what the configuration asks for.
    pub fn warn(&self, message: impl Into<String>) {
        self.add_warning(self.error(message));
    }

    /// The same, pointing at the value of `key`.
    pub fn warn_at(&self, key: &str, message: impl Into<String>) {
        self.add_warning(self.error_at(key, message));
    }

    /// A copy with one more child section at the end.
    pub fn with_section(&self, child: Element) -> Element {
        let mut element = self.clone();
        element.children.push(child);
        element
    }

    /// A section that does not stand in the file: made from the parameters of `parent`, whose child it will be. Its messages point at
    /// the parent's head.
    pub fn synthetic(parent: &Element, name: &str, arg: Option<&str>) -> Element {
        Element {
            name: name.to_owned(),
            arg: arg.map(str::to_owned),
            within: format!("{} > ", parent.title()),
            head: parent.head.clone(),
            warnings: parent.warnings.clone(),
            strict: parent.strict.clone(),
            ..Element::default()
        }
    }

    /// Takes over a parameter of `from` under another name: same value, place and used mark. Nothing where it does not stand.
    pub fn copy_param(&mut self, from: &Element, key: &str, new_key: &str) {
        if let Some(param) = from.param(key) {
            let mut param = param.clone();
            param.key = new_key.to_owned();
            self.put(param);
        }
    }

    /// Sets a parameter to a text that stands for `cause`'s parameter `cause_key`, at whose place its messages point.
    pub fn set_param(&mut self, key: &str, text: &str, cause: &Element, cause_key: &str) {
        self.copy_param(cause, cause_key, key);
        self.set_text(key, text);
    }

    /// Sets a parameter of a synthetic section to a text that stands nowhere in the file.
    pub fn set_text(&mut self, key: &str, text: &str) {
        let value = Value::Text(text.to_owned());
        let mut param = match self.param(key) {
            Some(param) => param.clone(),
            None => Param::new(key.to_owned(), Value::Default),
        };
        param.value = value;
        param.foreign = false;
        self.put(param);
    }

    /// `<match a.**> > <buffer tag>`, as messages name the section.
    pub(crate) fn title(&self) -> String {
        match self.shown_arg.as_ref().or(self.arg.as_ref()) {
            Some(arg) if !arg.is_empty() => format!("{}<{} {arg}>", self.within, self.name),
            _ => format!("{}<{}>", self.within, self.name),
        }
    }

    /// Where the value of `key` stands, or the section's head.
    pub(crate) fn place(&self, key: &str) -> Option<&Span> {
        let param = self.param(key);
        param
            .and_then(|param| param.value_place.as_ref())
            .filter(|place| place.start < place.end)
            .or(self.head.as_ref())
    }

    /// The file that the root was read from.
    pub(crate) fn file(&self) -> Option<&str> {
        self.file.as_deref()
    }

    pub(crate) fn set_file(&mut self, file: String) {
        self.file = Some(file);
    }

    pub(crate) fn shown_arg(&self) -> Option<&str> {
        self.shown_arg.as_deref()
    }

    pub(crate) fn root(strict: bool) -> Element {
        Element {
            name: "ROOT".to_owned(),
            strict: Arc::new(AtomicBool::new(strict)),
            ..Element::default()
        }
    }

    /// An empty child to be filled by the parser.
    pub(crate) fn child(
        &self,
        name: String,
        (arg, shown_arg): (Option<String>, Option<String>),
        head: Span,
    ) -> Element {
        let within = match self.name.as_str() {
            "ROOT" => String::new(),
            _ => format!("{} > ", self.title()),
        };
        Element {
            name,
            arg,
            shown_arg,
            within,
            head: Some(head),
            warnings: self.warnings.clone(),
            strict: self.strict.clone(),
            ..Element::default()
        }
    }

    pub(crate) fn push_child(&mut self, child: Element) {
        self.children.push(child);
    }

    /// Adds a parameter; one of the same name keeps its position and takes the new value.
    pub(crate) fn put(&mut self, param: Param) {
        match self.index.get(&param.key) {
            Some(&at) => self.params[at] = param,
            None => {
                self.index.insert(param.key.clone(), self.params.len());
                self.params.push(param);
            }
        }
    }

    pub(crate) fn param(&self, key: &str) -> Option<&Param> {
        self.index.get(key).map(|&at| &self.params[at])
    }

    /// The text of a parameter, without marking it as used.
    pub(crate) fn text(&self, key: &str) -> Option<&str> {
        self.param(key)?.text()
    }

    pub(crate) fn all_params(&self) -> &[Param] {
        &self.params
    }

    pub(crate) fn is_strict(&self) -> bool {
        self.strict.load(Ordering::Relaxed)
    }

    /// Makes the whole configuration strict.
    pub(crate) fn be_strict(&self) {
        self.strict.store(true, Ordering::Relaxed);
    }

    /// A copy whose child sections named `name` are changed.
    pub(crate) fn map_sections(&self, name: &str, change: impl Fn(&mut Element)) -> Element {
        let mut element = self.clone();
        let named = |child: &&mut Element| child.name == name;
        element.children.iter_mut().filter(named).for_each(change);
        element
    }

    pub(crate) fn add_warning(&self, warning: ConfigError) {
        let mut warnings = locked(&self.warnings);
        let line = warning.line();
        // A section may be configured more than once.
        if !warnings.iter().any(|old| old.line() == line) {
            warnings.push(warning);
        }
    }

    pub(crate) fn warnings(&self) -> Vec<ConfigError> {
        locked(&self.warnings).clone()
    }

    pub(crate) fn know(&self, key: &str) {
        locked(&self.marks.known).insert(key.to_owned());
    }

    pub(crate) fn known(&self) -> BTreeSet<String> {
        locked(&self.marks.known).clone()
    }

    pub(crate) fn known_sections(&self) -> BTreeSet<String> {
        locked(&self.marks.known_sections).clone()
    }

    pub(crate) fn mark_used(&self) {
        self.marks.used.store(true, Ordering::Relaxed);
    }

    pub(crate) fn is_used(&self) -> bool {
        self.marks.used.load(Ordering::Relaxed)
    }

    fn missing_type(&self) -> ConfigError {
        let message = format!("Missing '@type' parameter on <{}> directive", self.name);
        let error = self.error(message);
        match self.stranger_like("type") {
            Some(name) => error.help(format!("'{name}' stands here: did you mean '@type'?")),
            None => error,
        }
    }

    /// The unused parameter that is likest to `key`.
    fn stranger_like(&self, key: &str) -> Option<&str> {
        let strangers = self.params.iter().filter(|param| !param.is_used());
        nearest(key, strangers.map(|param| param.key.as_str()))
    }

    /// The `@` name, or its v0.12 spelling where the former is missing.
    fn aliased(&self, key: &str, old: &str) -> Option<&str> {
        match self.param(key) {
            Some(_) => self.get(key),
            None => {
                self.know(key);
                self.param(old)?.mark_used();
                self.param(old)?.text()
            }
        }
    }
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
