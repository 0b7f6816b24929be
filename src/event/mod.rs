//! What flows: a tag and its events, as one batch of MessagePack entries with a receipt.
//!
//! Every room passes [`EventStream`]s to the next by [`Collector::emit`]. Nothing here knows where events come from
//! (`input`) or where they go (`route`, `buffer`).

pub mod accessor;
mod extent;
pub mod formatted;
pub mod msgpack;
pub mod receipt;
pub mod record;
pub mod text;
pub mod time;

use std::fmt;
use std::sync::Arc;

use bytes::Bytes;

pub use extent::{Extent, FileLife};
pub use msgpack::{Entries, Label, MapWriter};
pub use receipt::{Creditor, Receipt, Trace};
pub use time::EventTime;

/// A tag: dot-separated parts that routing matches. Cheap to clone, since one tag serves many batches.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Tag(Arc<str>);

impl Tag {
    /// A tag from its text.
    pub fn new(text: &str) -> Tag {
        Tag(Arc::from(text))
    }

    /// The text as configured or received.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Tag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Tag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

/// One batch of events under one tag.
///
/// `entries` are contiguous MessagePack `[time, record]` arrays, exactly as the forward protocol carries them and as
/// Fluentd's chunks hold them: nobody on the way encodes them again.
#[derive(Clone, Debug)]
pub struct EventStream {
    /// What routing matches.
    pub tag: Tag,
    /// Contiguous `[EventTime, record]` entries.
    pub entries: Bytes,
    /// How many entries there are.
    pub count: usize,
    /// Who waits to hear that they are safe.
    pub receipt: Receipt,
}

/// Whether a collector takes a batch now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Room {
    /// The batch may be emitted.
    Ready,
    /// A bound is reached: the source keeps its bytes where they are (unread in the file) and asks again later.
    Full,
}

/// Whoever takes event streams: a router, a buffer, a copy of several.
///
/// A source asks [`Collector::room`] *before* it reads, so that [`Collector::emit`] never has to refuse: a bound may be
/// exceeded by one batch per source, as in Fluentd, and no read line is ever without an owner.
pub trait Collector: Send + Sync {
    /// Whether a batch under this tag can be taken now.
    fn room(&self, tag: &Tag) -> Room;

    /// Takes the batch and with it the debt of its receipt.
    fn emit(&self, stream: EventStream);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tags_with_equal_text_are_equal() {
        assert_eq!(Tag::new("app.access"), Tag::new("app.access"));
        assert_ne!(Tag::new("app.access"), Tag::new("app.error"));
        assert_eq!(Tag::new("a.b").to_string(), "a.b");
    }
}
