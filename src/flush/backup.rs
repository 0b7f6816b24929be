//! Where a chunk goes that no output takes: Fluentd's backup directory.
//!
//! ```text
//! (root_dir or $FLUENT_BACKUP_DIR or /tmp/fluent)/backup/worker0/<plugin id>/<chunk id>.log      the chunk's entries as they are
//! ```

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, ErrorKind, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use anyhow::Context;
use bytes::Bytes;
use tokio::task::spawn_blocking;

use crate::buffer::{Chunk, ChunkId};

/// What became of a chunk that was given up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Kept {
    /// It stands in this file.
    InFile(PathBuf),
    /// Nowhere: `disable_chunk_backup`.
    ThrownAway,
}

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

    /// Where the chunks of this plugin go; `None` where they are thrown away.
    pub fn directory(&self, plugin_id: &str) -> Option<PathBuf> {
        let unusual = [' ', '"', '/', '\\', ':', ';', '|', '*', '<', '>', '?'];
        let directory = self.directory.as_ref()?;
        Some(directory.join(plugin_id.replace(unusual, "_")))
    }

    /// Stores the chunk and syncs it. Storing it twice is harmless: the second replaces the first.
    pub async fn store(&self, plugin_id: &str, chunk: &Chunk) -> anyhow::Result<Kept> {
        let Some(directory) = self.directory(plugin_id) else {
            return Ok(Kept::ThrownAway);
        };
        let (id, parts) = (chunk.id(), chunk.parts().await);
        let place = directory.clone();
        // A slow disk is not to hold the threads that keep the sockets moving.
        let writing = spawn_blocking(move || write(&place, id, parts?));
        let written = writing.await.context("the backup was cancelled")?;
        let written = match written {
            Err(error) if is_unreadable(&error) => {
                let kept = chunk.raw().await?.into_iter().map(Ok);
                let writing = spawn_blocking(move || write(&directory, id, kept));
                writing.await.context("the backup was cancelled")?
            }
            written => written,
        };
        written.map(Kept::InFile)
    }
}

/// What cannot be inflated now never can.
fn is_unreadable(error: &anyhow::Error) -> bool {
    let error = error.downcast_ref::<io::Error>();
    error.is_some_and(|error| error.kind() == ErrorKind::InvalidData)
}

fn write(
    directory: &Path,
    id: ChunkId,
    mut parts: impl Iterator<Item = io::Result<Bytes>>,
) -> anyhow::Result<PathBuf> {
    let made = DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(directory);
    made.with_context(|| format!("cannot create backup directory {}", directory.display()))?;
    let path = directory.join(format!("{id}.log"));
    let partial = directory.join(format!("{id}.part"));
    let mut write = || -> io::Result<()> {
        let mut file = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(&partial)?;
        parts.try_for_each(|part| file.write_all(&part?))?;
        file.sync_all()?;
        fs::rename(&partial, &path)?;
        File::open(directory)?.sync_all()
    };
    write().with_context(|| format!("cannot write backup file {}", path.display()))?;
    Ok(path)
}
