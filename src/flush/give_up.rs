//! What becomes of a chunk that its output does not take: the secondary, the backup directory, the queue.

use std::sync::atomic::Ordering;
use std::time::Instant;

use tracing::{error, warn};

use super::retry::Target;
use super::{Flusher, Kept};
use crate::buffer::InFlight;

impl Flusher {
    pub(super) async fn unrecoverable(
        &self,
        chunk: InFlight,
        target: Target,
        reason: &anyhow::Error,
    ) {
        self.delivered.errors.fetch_add(1, Ordering::Relaxed);
        warn!(
            plugin_id = self.id, chunk = %chunk.id(), records = chunk.records(), error = format!("{reason:#}"),
            "got unrecoverable error in {}.", if target == Target::Primary { "primary" } else { "secondary" }
        );
        self.give_up(chunk, target).await;
    }

    /// The last way of a chunk that its output does not take: once to the secondary, if that has not failed yet, or beside the buffer.
    pub(super) async fn give_up(&self, chunk: InFlight, target: Target) {
        if let (Target::Primary, Some(secondary)) = (target, &self.secondary) {
            match secondary.write(&chunk).await {
                Ok(()) => return self.succeeded(chunk, Target::Secondary),
                Err(reason) => warn!(
                    plugin_id = self.id, chunk = %chunk.id(), error = format!("{reason:#}"),
                    "failed to flush the buffer with secondary output."
                ),
            }
        }
        self.back_up(chunk).await;
    }

    /// Writes the chunk beside the buffer and lets it go. Where even that fails it stays in the queue.
    async fn back_up(&self, chunk: InFlight) {
        let records = chunk.records() as u64;
        match self.backup.store(&self.id, &chunk).await {
            Ok(kept) => {
                let counter = match kept {
                    Kept::InFile(path) => {
                        warn!(plugin_id = self.id, chunk = %chunk.id(), records, path = %path.display(), "bad chunk is moved to {}", path.display());
                        &self.delivered.backup_records
                    }
                    Kept::ThrownAway => {
                        error!(plugin_id = self.id, chunk = %chunk.id(), records, "disable_chunk_backup is true. chunk is thrown away.");
                        &self.delivered.discarded_records
                    }
                };
                counter.fetch_add(records, Ordering::Relaxed);
                self.retries().forget(chunk.id());
                chunk.purge();
            }
            Err(reason) => {
                self.retries().postpone(chunk.id(), Instant::now());
                error!(
                    plugin_id = self.id, chunk = %chunk.id(), error = format!("{reason:#}"),
                    "cannot back up the chunk, it stays in the queue and is tried again"
                );
            }
        }
    }
}
