//! One section of a configuration: name, argument, parameters, child sections, each with its place in the text.

use serde::de::DeserializeOwned;

use super::{ConfigError, Result};

/// A section. Clones share the record of which parameters were used.
#[derive(Clone, Debug, Default)]
pub struct Element {
    name: String,
    arg: Option<String>,
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

    /// All child sections, in order.
    pub fn children(&self) -> impl Iterator<Item = &Element> {
        std::iter::empty()
    }

    /// The child sections with this name, in order. Marks them as used.
    pub fn sections<'a>(&'a self, _name: &'a str) -> impl Iterator<Item = &'a Element> {
        std::iter::empty()
    }

    /// The only child section with this name; an error where there are several.
    pub fn section(&self, _name: &str) -> Result<Option<&Element>> {
        Ok(None)
    }

    /// `@type`, or the v0.12 spelling `type`; an error at the section's head where both are missing.
    pub fn plugin_type(&self) -> Result<&str> {
        Err(self.error("Missing '@type' parameter").into())
    }

    /// `@id` or `id`.
    pub fn id(&self) -> Option<&str> {
        None
    }

    /// The text of one parameter (the last one where it stands twice). Marks it as used.
    pub fn get(&self, _key: &str) -> Option<&str> {
        None
    }

    /// Whether the parameter stands here, without marking it as used.
    pub fn has(&self, _key: &str) -> bool {
        false
    }

    /// The typed parameters of a plugin: each serde field is a parameter of the same name, converted as Fluentd converts it.
    /// All wrong values of the section are reported at once. Marks the fields as used and remembers them as known names.
    pub fn params<T: DeserializeOwned>(&self) -> Result<T> {
        Err(self.error("not there yet").into())
    }

    /// An error that points at the head of this section.
    pub fn error(&self, message: impl Into<String>) -> ConfigError {
        ConfigError::new(message)
    }

    /// An error that points at the value of `key`, or at the section's head where the parameter does not stand.
    pub fn error_at(&self, _key: &str, message: impl Into<String>) -> ConfigError {
        ConfigError::new(message)
    }

    /// Says at start, with this section's line, what happens instead of what the configuration asks for.
    pub fn warn(&self, _message: impl Into<String>) {}

    /// The same, pointing at the value of `key`.
    pub fn warn_at(&self, _key: &str, _message: impl Into<String>) {}
}
