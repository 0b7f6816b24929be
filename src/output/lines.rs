//! Events as text, for outputs that write lines: `<inject>` and then `<format>`.

use crate::config::legacy::{flat_format, flat_inject};
use crate::config::{Element, Result};
use crate::event::{EventTime, Tag, formatted};
use crate::format::inject::Inject;
use crate::format::{self, Formatter};

/// How one output writes its events.
pub struct Lines {
    formatter: Box<dyn Formatter>,
    inject: Option<Inject>,
}

impl Lines {
    /// Reads `<inject>` and `<format>` of an output, or their v0.12 parameters; without a type the format is `default_type`.
    pub fn configure(section: &Element, default_type: &str) -> Result<Lines> {
        let section = &flat_inject(&flat_format(section)?)?;
        let formatter = match section.section("format")? {
            Some(format) if format.has("@type") || format.has("type") => format::configure(format)?,
            Some(format) => format::configure_type(format, default_type, "@type")?,
            None => {
                let format = Element::synthetic(section, "format", None);
                format::configure_type(&format, default_type, "@type")?
            }
        };
        let inject = Inject::configure(section)?;
        Ok(Lines { formatter, inject })
    }

    /// Appends one event, or a line that was formatted before.
    pub fn append(&self, tag: &Tag, time: EventTime, record: &[u8], out: &mut Vec<u8>) {
        if let Some(line) = formatted::line(record) {
            return out.extend_from_slice(line);
        }
        let Some(inject) = &self.inject else {
            return self.formatter.format(tag, time, record, out);
        };
        let mut injected = Vec::with_capacity(2 * record.len());
        inject.write(tag, time, record, &mut injected);
        self.formatter.format(tag, time, &injected, out);
    }
}
