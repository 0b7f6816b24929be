//! Which output has which buffer files: no two write the same.

use std::collections::HashMap;
use std::path::PathBuf;

use crate::buffer::file::Settings;
use crate::config::{Element, Result};

/// Directories and prefixes of file names, each with its section.
#[derive(Default)]
pub struct BufferPaths(HashMap<(PathBuf, String), Element>);

impl BufferPaths {
    /// The files of an output are its own from here on; an error names the other where they are not free.
    pub fn claim(&mut self, section: &Element, disk: &Settings) -> Result<()> {
        let path = (disk.directory.clone(), disk.naming.prefix.clone());
        let Some(first) = self.0.insert(path, section.clone()) else {
            return Ok(());
        };
        let plugin = first.plugin_type().unwrap_or_default();
        let path = disk.directory.display();
        let message = format!(
            "Other '{plugin}' plugin already use same buffer path: plugin = {plugin}, buffer path = {path}"
        );
        Err(section.error(message).together_with(&first, "").into())
    }
}
