//! A chunk on its way into files, part by part: only one of them is in memory.

use std::sync::Arc;

use anyhow::Context;
use bytes::Bytes;
use tokio::sync::{Mutex, OwnedMutexGuard};
use tokio::task::spawn_blocking;

use super::WriteError;
use super::disk::Writing;
use crate::buffer::{Chunk, Parts};

/// What goes to the file of this path.
pub type Piece = (String, Vec<u8>);
/// Opens the file of a path.
pub type Open = fn(path: &str, gzip: bool) -> std::io::Result<Writing>;

/// Files that are being written, by nobody else meanwhile: two flush threads may have the same file.
struct Files {
    parts: Parts,
    open: Open,
    gzip: bool,
    files: Vec<(String, Writing)>,
    _alone: OwnedMutexGuard<()>,
}

/// Writes what `make` makes of each part of a chunk; all of it or nothing.
pub async fn write(
    chunk: &Chunk,
    writing: &Arc<Mutex<()>>,
    (open, gzip): (Open, bool),
    make: impl Fn(&Bytes) -> anyhow::Result<Vec<Piece>>,
) -> Result<(), WriteError> {
    let mut files = Files {
        _alone: writing.clone().lock_owned().await,
        parts: chunk.parts().await.map_err(WriteError::of_reading)?,
        open,
        gzip,
        files: Vec::new(),
    };
    let mut pieces = Vec::new();
    loop {
        // A slow disk is not to hold the threads that keep the sockets moving.
        let step = spawn_blocking(move || files.step(&pieces).map(|next| (next, files)));
        let (next, back) = step.await??;
        let Some(part) = next else {
            return Ok(spawn_blocking(move || back.finish()).await??);
        };
        files = back;
        let part = part.map_err(WriteError::of_reading)?;
        pieces = make(&part).map_err(WriteError::Unrecoverable)?;
    }
}

impl Files {
    /// Writes the pieces and reads the next part.
    fn step(&mut self, pieces: &[Piece]) -> anyhow::Result<Option<std::io::Result<Bytes>>> {
        for (path, bytes) in pieces {
            self.write(path, bytes)
                .with_context(|| format!("cannot write {path}"))?;
        }
        Ok(self.parts.next())
    }

    fn write(&mut self, path: &str, bytes: &[u8]) -> std::io::Result<()> {
        let at = match self.files.iter().position(|(open, _)| open == path) {
            Some(at) => at,
            None => {
                let file = (self.open)(path, self.gzip)?;
                self.files.push((path.to_owned(), file));
                self.files.len() - 1
            }
        };
        self.files[at].1.write(bytes)
    }

    fn finish(self) -> anyhow::Result<()> {
        for (path, file) in self.files {
            file.finish()
                .with_context(|| format!("cannot write {path}"))?;
        }
        Ok(())
    }
}
