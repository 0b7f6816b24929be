//! A buffer on disk at its start and at its end: what an earlier run left comes back, what this run leaves stays in order.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::Context;
use tracing::info;

use super::file::{self, Fate, Left, Letter, MOST_PENDING};
use super::{Buffer, Chunk, enqueue};
use crate::event::Extent;

/// The thread (`resume.<id>`) that checks queued chunks of an earlier run, so that a start does not wait for gigabytes.
#[derive(Debug, Default)]
pub struct Resuming {
    thread: Mutex<Option<JoinHandle<()>>>,
    stop: AtomicBool,
}

impl Resuming {
    fn join(&self) {
        self.stop.store(true, Ordering::Relaxed);
        let thread = self
            .thread
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        if let Some(thread) = thread {
            // What it had not checked is found by the next start.
            let _ = thread.join();
        }
    }
}

impl Buffer {
    /// Makes of its chunks what a Fluentd keeps that formats before it buffers: for who goes back to one. The buffer must not be open.
    /// Nothing for one in memory.
    pub fn give_back(&self, format: file::Format<'_>) -> anyhow::Result<Vec<file::Given>> {
        match &self.storage {
            Some(storage) => storage.give_back(self.limits.compress, format),
            None => Ok(Vec::new()),
        }
    }

    /// Takes the directory, brings back what is there, and begins to write. Nothing to do for a buffer in memory.
    pub fn open(self: &Arc<Self>) -> anyhow::Result<()> {
        let Some(storage) = &self.storage else {
            return Ok(());
        };
        let broken = || self.state().lost.broken_chunks += 1;
        let left = storage.open(&self.name, &self.keys, broken)?;
        self.expect(&left);
        let (staged, mut queued): (Vec<_>, Vec<_>) = left
            .into_iter()
            .partition(|chunk| chunk.is_staged() && !self.is_full(chunk));
        // Full ones would have been queued next.
        queued.sort_by_key(|chunk| chunk.letter == Letter::Staged);
        // These are few, and the flush has to know when they are due.
        staged.into_iter().for_each(|chunk| self.bring_back(chunk));
        storage.start(&self.name)?;
        if queued.is_empty() {
            return Ok(());
        }
        self.state().awaited = queued.len();
        let buffer = self.clone();
        let thread = thread::Builder::new().name(format!("resume.{}", self.name));
        let thread = thread.spawn(move || {
            let go_on = |_: &Left| !buffer.resuming.stop.load(Ordering::Relaxed);
            for chunk in queued.into_iter().take_while(go_on) {
                buffer.bring_back(chunk);
                buffer.state().awaited -= 1;
                buffer.work.notify_one();
            }
        });
        let thread = thread.context("cannot start the thread that resumes a file buffer")?;
        self.resuming
            .thread
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .replace(thread);
        Ok(())
    }

    /// What chunks of an earlier run claim of tailed files: to be asked once, when it is open, and answered by [`Buffer::taken_up`].
    pub fn recalled(&self) -> Vec<Extent> {
        self.storage
            .as_ref()
            .map_or_else(Vec::new, file::Storage::recalled)
    }

    /// Every source has written down what was recalled.
    pub fn taken_up(&self) {
        if let Some(storage) = &self.storage {
            storage.taken_up();
        }
    }

    /// Every source has ended: what stands on the disk only for them may go.
    pub fn tidy(&self) {
        if let Some(storage) = &self.storage {
            storage.tidy();
        }
    }

    /// Writes what is left and gives the directory back. Nothing may be emitted any more.
    pub fn close(&self) {
        let Some(storage) = &self.storage else {
            return;
        };
        self.resuming.join();
        let state = self.state();
        let staged: Vec<_> = state
            .stage
            .values()
            .chain(&state.left)
            .filter_map(Chunk::content)
            .cloned()
            .collect();
        drop(state);
        storage.close(staged.iter());
    }

    /// The most memory that it takes: everything in it; on disk what is on its way there, twice, since the allocator keeps what one group took
    /// while the next comes.
    pub fn most_memory(&self) -> usize {
        match &self.storage {
            None => self.limits.total_bytes,
            Some(_) => 2 * self.limits.total_bytes.min(MOST_PENDING),
        }
    }

    /// Whether its chunks are files.
    pub fn is_on_disk(&self) -> bool {
        self.storage.is_some()
    }

    /// Bytes of the largest chunk that an earlier run left, as it is kept; 0 where none did.
    pub fn largest_found(&self) -> usize {
        self.state().largest_found
    }

    /// Events of earlier runs that were found on disk and go on.
    pub fn resumed(&self) -> u64 {
        self.state().resumed
    }

    /// They count before they are checked.
    pub(super) fn expect(&self, left: &[Left]) {
        let mut state = self.state();
        let largest = left.iter().map(|chunk| chunk.len as usize).max();
        state.largest_found = largest.unwrap_or_default();
        let level = &mut state.level;
        level.chunks += left.len();
        level.bytes += left.iter().map(|chunk| chunk.len as usize).sum::<usize>();
        level.records += left
            .iter()
            .map(|chunk| chunk.records as usize)
            .sum::<usize>();
        let level = *level;
        drop(state);
        if level.chunks > 0 {
            info!(
                plugin_id = self.name,
                chunks = level.chunks,
                bytes = level.bytes,
                "found chunks of an earlier run in the buffer, they are delivered first"
            );
        }
    }

    fn is_full(&self, left: &Left) -> bool {
        left.len >= self.limits.full_bytes as u64 || left.records >= self.limits.full_records as u64
    }

    pub(super) fn bring_back(&self, left: Left) {
        let Some(storage) = &self.storage else {
            return;
        };
        let fate = left.check(storage.work());
        let mut state = self.state();
        state.level.bytes -= left.len as usize;
        state.level.records -= left.records as usize;
        match fate {
            Fate::Stays => {
                state.level.chunks -= 1;
                state.lost.broken_chunks += 1;
            }
            Fate::Goes { len, records, lost } => {
                state.level.bytes += len as usize;
                state.level.records += records as usize;
                state.resumed += records;
                state.lost.salvaged_chunks += u64::from(lost > 0);
                state.lost.unreadable_bytes += lost;
                let (created, is_staged) = (instant_of(left.content.created), left.is_staged());
                let chunk = Chunk::on_disk(left.content, len as usize, records as usize, created);
                if !is_staged || self.is_complete(&chunk) {
                    enqueue(&mut state.queue, chunk);
                } else {
                    state.left.push(chunk);
                }
            }
        }
        drop(state);
        self.work.notify_one();
        self.progress.notify_waiters();
    }
}

/// When that was on the clock that ages are measured with.
fn instant_of(unix: i64) -> Instant {
    let at = UNIX_EPOCH + Duration::from_secs(u64::try_from(unix).unwrap_or(0));
    let age = SystemTime::now().duration_since(at).unwrap_or_default();
    let now = Instant::now();
    now.checked_sub(age).unwrap_or(now)
}
