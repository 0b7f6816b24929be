//! From configuration text to typed parameters: file and `@include`s to [`Element`]s, elements to `Params`.
//!
//! Nothing here touches the world outside the configuration files; plugins are built from `Params` in `agent`.

mod convert;
mod element;
mod error;
mod json;
pub mod legacy;
mod literal;
mod load;
mod params;
mod parser;
mod ruby;
mod ruby_value;
mod secret;
mod source;
pub mod system;
mod tree;
pub mod types;

pub(crate) use convert::{seconds, zone};
pub use element::Element;
pub use error::{ConfigError, ConfigErrors};
pub(crate) use json::Json;
pub use load::{LoadOptions, load, parse_text};
pub use ruby::World;
pub use tree::Config;
pub(crate) use tree::misspelt;

/// The result of every step that reads configuration: all the errors of the step, not the first.
pub type Result<T, E = ConfigErrors> = std::result::Result<T, E>;

#[cfg(test)]
mod shapes;
#[cfg(test)]
mod shapes_tests;
