//! Errors and warnings with their place in the text.

use std::fmt;

/// One thing that is wrong, where, and what would be right.
#[derive(Clone, Debug)]
pub struct ConfigError {
    message: String,
}

impl ConfigError {
    /// An error that has no place in a file.
    pub fn new(message: impl Into<String>) -> ConfigError {
        ConfigError {
            message: message.into(),
        }
    }

    /// Adds a line that says what to do: the nearest known name, the allowed values.
    pub fn help(self, _help: impl Into<String>) -> ConfigError {
        self
    }
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

/// Everything that is wrong in one run.
#[derive(Clone, Debug, Default)]
pub struct ConfigErrors(Vec<ConfigError>);

impl ConfigErrors {
    /// Nothing wrong yet.
    pub fn new() -> ConfigErrors {
        ConfigErrors::default()
    }

    /// Adds the errors of a failed step and gives the value of one that went well: lets a caller go on and report all.
    pub fn collect<T>(&mut self, step: Result<T, ConfigErrors>) -> Option<T> {
        step.map_err(|errors| self.0.extend(errors.0)).ok()
    }

    /// Adds one error.
    pub fn push(&mut self, error: ConfigError) {
        self.0.push(error);
    }

    /// `Ok` where nothing is wrong.
    pub fn into_result(self) -> Result<(), ConfigErrors> {
        if self.0.is_empty() { Ok(()) } else { Err(self) }
    }
}

impl From<ConfigError> for ConfigErrors {
    fn from(error: ConfigError) -> ConfigErrors {
        ConfigErrors(vec![error])
    }
}

impl fmt::Display for ConfigErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|error| writeln!(f, "{error}"))
    }
}

impl std::error::Error for ConfigErrors {}
