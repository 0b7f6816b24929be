//! What a flusher counts: what became of the events, and the failures that one log line stands for.

use std::sync::atomic::AtomicU64;
use std::time::{Duration, Instant};

/// A hurried output tells its failures at most this often.
const QUIET: Duration = Duration::from_secs(60);

/// What became of the events of one output, since the start.
#[derive(Debug, Default)]
pub struct Delivered {
    /// Events written by the output itself.
    pub records: AtomicU64,
    /// Bytes of entries written by the output or its secondary.
    pub bytes: AtomicU64,
    /// Chunks written by the output itself.
    pub chunks: AtomicU64,
    /// Events written by the secondary.
    pub secondary_records: AtomicU64,
    /// Events that went to the backup directory.
    pub backup_records: AtomicU64,
    /// Events that were thrown away by `disable_chunk_backup`.
    pub discarded_records: AtomicU64,
    /// Attempts that failed.
    pub errors: AtomicU64,
    /// Attempts that took longer than `slow_flush_log_threshold`.
    pub slow: AtomicU64,
}

/// Makes one line of many failures: the first, then one a minute.
#[derive(Debug, Default)]
pub struct Quiet {
    until: Option<Instant>,
    failures: u64,
}

impl Quiet {
    /// How many failures a line stands for now; `None`: no line yet.
    pub fn failed(&mut self, now: Instant) -> Option<u64> {
        self.failures += 1;
        if self.until.is_some_and(|until| now < until) {
            return None;
        }
        self.until = Some(now + QUIET);
        Some(std::mem::take(&mut self.failures))
    }
}
