//! out_null: chunks are thrown away, as the configuration asks.

use super::{Boxed, Configured, Output, OutputContext, WriteError};
use crate::buffer::{Chunk, Compress};
use crate::config::{Element, Result};

/// The output.
#[derive(Debug)]
struct Null;

/// Reads a `<match>` or `<store>` section of type null.
pub fn configure(section: &Element, _context: &OutputContext) -> Result<Configured> {
    if section.get("never_flush").is_some() {
        let message = "'never_flush' is for Fluentd's own tests and not supported";
        return Err(section.error_at("never_flush", message).into());
    }
    Ok(Configured::unbuffered("null", Null))
}

impl Output for Null {
    fn write<'a>(&'a self, _chunk: &'a Chunk) -> Boxed<'a, std::result::Result<(), WriteError>> {
        Box::pin(async { Ok(()) })
    }

    fn looks_into(&self, _kept: Compress) -> bool {
        false
    }
}
