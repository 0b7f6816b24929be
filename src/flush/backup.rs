//! Where a chunk goes that no output takes: Fluentd's backup directory.
//!
//! ```text
//! (root_dir or $FLUENT_BACKUP_DIR or /tmp/fluent)/backup/worker0/<plugin id>/<chunk id>.log      the chunk's entries as they are
//! ```

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::PathBuf;

use anyhow::Context;

use crate::buffer::Chunk;

/// Keeps chunks that were given up.
#[derive(Clone, Debug)]
pub struct Backup {
    directory: Option<PathBuf>,
}

impl Backup {
    /// Keeps them under this directory (`root_dir`).
    pub fn under(root: impl Into<PathBuf>) -> Backup {
        Backup {
            directory: Some(root.into().join("backup/worker0")),
        }
    }

    /// `disable_chunk_backup`: they are thrown away, by configuration.
    pub fn disabled() -> Backup {
        Backup { directory: None }
    }

    /// Stores the chunk and syncs it. Storing it twice is harmless: the second replaces the first.
    pub fn store(&self, plugin_id: &str, chunk: &Chunk) -> anyhow::Result<PathBuf> {
        let Some(directory) = &self.directory else {
            return Ok(PathBuf::from("/dev/null"));
        };
        let directory = directory.join(plugin_id.replace(
            [' ', '"', '/', '\\', ':', ';', '|', '*', '<', '>', '?'],
            "_",
        ));
        let made = DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&directory);
        made.with_context(|| format!("cannot create backup directory {}", directory.display()))?;
        let path = directory.join(format!("{}.log", chunk.id()));
        let partial = directory.join(format!("{}.part", chunk.id()));
        let write = || -> std::io::Result<()> {
            let mut file = OpenOptions::new()
                .write(true)
                .create(true)
                .truncate(true)
                .mode(0o600)
                .open(&partial)?;
            chunk
                .segments()
                .iter()
                .try_for_each(|segment| file.write_all(segment))?;
            file.sync_all()?;
            fs::rename(&partial, &path)?;
            File::open(&directory)?.sync_all()
        };
        write().with_context(|| format!("cannot write backup file {}", path.display()))?;
        Ok(path)
    }
}
