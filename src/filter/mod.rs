//! What changes or drops events on the way: the trait and the table of filters.

use bytes::Bytes;

use crate::config::{Element, Result};
use crate::event::Tag;

mod grep;
mod record_transformer;
mod template;

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

type Configure = fn(&Element) -> Result<Box<dyn Filter>>;

const FILTERS: &[(&str, Configure)] = &[
    ("grep", grep::configure),
    ("record_transformer", record_transformer::configure),
];

/// Filters that Fluentd users may expect and that are not there yet.
const EXPECTED: &[&str] = &[
    "parser",
    "stdout",
    "record_modifier",
    "prometheus",
    "geoip",
    "concat",
    "anonymizer",
    "ua_parser",
    "kubernetes_metadata",
    "detect_exceptions",
];

/// Reads a `<filter>` section.
pub fn configure(section: &Element) -> Result<Box<dyn Filter>> {
    let known: Vec<&str> = FILTERS.iter().map(|(name, _)| *name).collect();
    let plugin_type = section.plugin_type_of(&known)?;
    if let Some((_, configure)) = FILTERS.iter().find(|(name, _)| *name == plugin_type) {
        return configure(section);
    }
    let known_list = known.join(", ");
    let message = if EXPECTED.contains(&plugin_type) {
        format!("filter plugin '{plugin_type}' is not supported yet (supported: {known_list})")
    } else {
        format!("unknown filter plugin '{plugin_type}' (known: {known_list})")
    };
    let error = section
        .error_at("@type", message)
        .suggest(plugin_type, known);
    Err(error.into())
}

#[cfg(test)]
mod testing {
    use crate::config::Element;

    /// A section as the configuration parser would give it.
    pub fn section(name: &str, params: &[(&str, &str)], children: Vec<Element>) -> Element {
        let nothing = Element::default();
        let mut element = Element::synthetic(&nothing, name, None);
        for (key, value) in params {
            element.set_param(key, value, &nothing, key);
        }
        children
            .into_iter()
            .fold(element, |element, child| element.with_section(child))
    }
}

#[cfg(test)]
mod tests {
    use super::testing::section;
    use super::*;

    #[test]
    fn unknown_filters_are_named_with_what_is_known() {
        let message = |plugin_type| {
            let section = section("filter", &[("@type", plugin_type)], vec![]);
            configure(&section).err().expect("unknown").to_string()
        };
        assert!(
            message("grpe")
                .contains("unknown filter plugin 'grpe' (known: grep, record_transformer)")
        );
        assert!(message("parser").contains("not supported yet"));
    }
}
