//! Every line accounted for: read + resumed = delivered + kept + backed up + dropped or discarded by the configuration (+ what the drain spilled).

use std::sync::atomic::{AtomicU64, Ordering};

use serde::Serialize;

/// The agent's account since its start, in lines and events.
///
/// With `copy` an event counts once for each store in what was delivered and kept, so the sum is then larger than what was read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Ledger {
    /// Lines read from files.
    pub lines_read: u64,
    /// Bytes of these lines, newlines included.
    pub bytes_read: u64,
    /// Events of earlier runs that were found in file buffers.
    pub resumed: u64,
    /// Lines that gave no event: unmatched, invalid or too long.
    pub skipped: u64,
    /// Events that a filter removed or that no `<match>` took.
    pub dropped: u64,
    /// Events dropped by `overflow_action drop_oldest_chunk`, or because one alone is larger than `chunk_limit_size`.
    pub overflowed: u64,
    /// Events that an output took.
    pub delivered: u64,
    /// Events that a `<secondary>` took.
    pub secondary: u64,
    /// Events in the backup directory.
    pub backed_up: u64,
    /// Events that were thrown away by `disable_chunk_backup`.
    pub discarded: u64,
    /// Events that the drain stored elsewhere.
    pub spilled: u64,
    /// Events in buffers: not safe yet.
    pub kept: u64,
    /// Bytes in the files that were not read, as of the last look.
    pub behind_bytes: u64,
    /// Bytes that were read and stand in no buffer, although their lines are not safe: the next start reads them again.
    pub forgotten_bytes: u64,
}

/// Adds what a counter shows now.
pub(super) fn add(sum: &mut u64, counter: &AtomicU64) {
    *sum += counter.load(Ordering::Relaxed);
}
