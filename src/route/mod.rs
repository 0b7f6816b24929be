//! From a tag to its filters and its output.
//!
//! One router per label and one for the root: an ordered list of rules. For a tag every matching filter joins the way and the
//! first matching `<match>` ends it; later filters never apply. The way is worked out once per tag.

pub mod circle;
pub mod copy;
pub mod pattern;
pub mod relabel;

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};

use tracing::warn;

pub use pattern::Pattern;

use crate::event::{Collector, EventStream, Room, Tag};
use crate::filter::Filter;

/// Ways are remembered for so many tags (Fluentd's number): a bound, since tags may come from file names.
const REMEMBERED_TAGS: usize = 1024;

/// What a rule does with the events that it matches.
pub enum Action {
    /// They pass through it and go on.
    Filter(Arc<dyn Filter>),
    /// They end here.
    Match(Arc<dyn Collector>),
}

/// One `<filter>` or `<match>`.
pub struct Rule {
    /// Which tags.
    pub pattern: Pattern,
    /// What then.
    pub action: Action,
}

#[derive(Clone)]
struct Way {
    filters: Arc<[Arc<dyn Filter>]>,
    end: Option<Arc<dyn Collector>>,
}

/// The rules of one label, or of the root.
pub struct Router {
    name: String,
    rules: Vec<Rule>,
    ways: RwLock<HashMap<Tag, Way>>,
    unmatched: AtomicU64,
    filtered: AtomicU64,
}

impl Router {
    /// A router with these rules, in the order of the configuration. `name` is the label's, or `ROOT`.
    pub fn new(name: impl Into<String>, rules: Vec<Rule>) -> Router {
        Router {
            name: name.into(),
            rules,
            ways: RwLock::default(),
            unmatched: AtomicU64::new(0),
            filtered: AtomicU64::new(0),
        }
    }

    /// Events that no pattern matched: dropped by the configuration.
    pub fn unmatched(&self) -> u64 {
        self.unmatched.load(Ordering::Relaxed)
    }

    /// Events that filters removed: dropped by the configuration.
    pub fn filtered(&self) -> u64 {
        self.filtered.load(Ordering::Relaxed)
    }

    fn way(&self, tag: &Tag) -> Way {
        if let Some(way) = self
            .ways
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .get(tag)
        {
            return way.clone();
        }
        let way = self.find_way(tag);
        let mut ways = self.ways.write().unwrap_or_else(PoisonError::into_inner);
        if ways.len() >= REMEMBERED_TAGS {
            ways.clear();
        }
        ways.insert(tag.clone(), way.clone());
        way
    }

    fn find_way(&self, tag: &Tag) -> Way {
        let mut filters = Vec::new();
        for rule in self
            .rules
            .iter()
            .filter(|rule| rule.pattern.matches(tag.as_str()))
        {
            match &rule.action {
                Action::Filter(filter) => filters.push(filter.clone()),
                Action::Match(end) => {
                    return Way {
                        filters: filters.into(),
                        end: Some(end.clone()),
                    };
                }
            }
        }
        Way {
            filters: filters.into(),
            end: None,
        }
    }

    fn drop_unmatched(&self, stream: EventStream) {
        let before = self
            .unmatched
            .fetch_add(stream.count as u64, Ordering::Relaxed);
        let after = before + stream.count as u64;
        // Fluentd's rhythm: at 1, 2, 4, … 512 and then every 512 events.
        let mark = |count: u64| {
            if count < 512 {
                u64::from(u64::BITS - count.leading_zeros())
            } else {
                10 + count / 512
            }
        };
        if mark(before) != mark(after) {
            warn!(label = self.name, tag = %stream.tag, dropped = after, "no patterns matched tag=\"{}\"", stream.tag);
        }
        stream.receipt.release();
    }
}

impl Collector for Router {
    fn room(&self, tag: &Tag) -> Room {
        self.way(tag).end.map_or(Room::Ready, |end| end.room(tag))
    }

    fn emit(&self, mut stream: EventStream) {
        let way = self.way(&stream.tag);
        let Some(end) = way.end else {
            return self.drop_unmatched(stream);
        };
        for filter in way.filters.iter() {
            let before = stream.count;
            let filtered = filter.apply(&stream.tag, stream.entries, stream.count);
            (stream.entries, stream.count) = (filtered.entries, filtered.count);
            self.filtered.fetch_add(
                before.saturating_sub(stream.count) as u64,
                Ordering::Relaxed,
            );
            if stream.count == 0 {
                return stream.receipt.release();
            }
        }
        end.emit(stream);
    }
}

#[cfg(test)]
mod tests;
