//! From configuration text to typed parameters: file and `@include`s to [`Element`]s, elements to `Params`.
//!
//! Nothing here touches the world outside the configuration files; plugins are built from `Params` in `agent`.

mod element;
mod error;
pub mod types;

pub use element::Element;
pub use error::{ConfigError, ConfigErrors};

/// The result of every step that reads configuration: all the errors of the step, not the first.
pub type Result<T> = std::result::Result<T, ConfigErrors>;
