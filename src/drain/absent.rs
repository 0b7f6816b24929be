//! The drain of a build without the feature `aws`: there is none, and a configuration that asks for one is refused.

use std::sync::Arc;

use crate::config::{self, Element};
use crate::output::Output;

/// A plan that cannot be made.
#[derive(Clone, Debug)]
pub enum Plan {}

/// Refuses `<drain>`.
pub fn configure(
    section: &Element,
    _output: &dyn Fn(&Element) -> config::Result<Arc<dyn Output>>,
) -> config::Result<Plan> {
    Err(section
        .error("<drain> needs a build with the feature 'aws', and this one is without")
        .help("build with --features aws, or take the section out")
        .into())
}
