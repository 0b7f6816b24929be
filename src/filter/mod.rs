//! What changes or drops events on the way: the trait and the table of filters.

use bytes::Bytes;

use crate::config::{Element, Result};
use crate::event::Tag;

/// What a filter made of a batch.
#[derive(Debug)]
pub struct Filtered {
    /// The entries that are left.
    pub entries: Bytes,
    /// How many.
    pub count: usize,
}

/// Sees whole batches of raw entries and splices; it decodes only the values that it needs. A batch that it leaves alone is
/// returned as it came, without a copy.
pub trait Filter: Send + Sync {
    /// Filters a batch of `count` entries.
    fn apply(&self, tag: &Tag, entries: Bytes, count: usize) -> Filtered;
}

/// Reads a `<filter>` section.
pub fn configure(section: &Element) -> Result<Box<dyn Filter>> {
    let plugin_type = section.plugin_type()?;
    Err(section
        .error_at("@type", format!("unknown filter plugin '{plugin_type}'"))
        .into())
}
