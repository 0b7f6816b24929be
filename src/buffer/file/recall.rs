//! Side files that stay when their chunks are gone, and what a start finds in them.
//!
//! A chunk may be delivered before the source has written down how far it has read. Until then the side file is what tells the next start
//! that these lines are not to be read again.

use std::io::{self, ErrorKind};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use tracing::debug;

use super::name::Name;
use super::side::Side;
use super::work::Work;
use crate::buffer::ChunkId;
use crate::event::{Extent, Trace};

/// What side files claim of tailed files.
#[derive(Debug, Default)]
pub struct Recall {
    /// What those of an earlier run claim, until somebody asks.
    extents: Mutex<Vec<Extent>>,
    /// Sources have written that down.
    taken_up: AtomicBool,
    /// Side files of chunks that are gone.
    lingering: Mutex<Vec<Lingering>>,
}

/// The side file of a chunk that is gone.
#[derive(Debug)]
pub struct Lingering {
    /// The chunk.
    pub id: ChunkId,
    /// It has claims of an earlier run.
    pub recalled: bool,
    /// Of the batches that it claims.
    pub traces: Vec<Trace>,
}

impl Recall {
    /// Chunks of an earlier run claim this.
    pub fn note(&self, extents: impl Iterator<Item = Extent>) {
        self.extents().extend(extents);
    }

    /// What they claim; once.
    pub fn take(&self) -> Vec<Extent> {
        std::mem::take(&mut self.extents())
    }

    /// Sources have written that down.
    pub fn taken_up(&self) {
        self.taken_up.store(true, Ordering::Release);
    }

    /// A side file stays for a while.
    pub fn linger(&self, one: Lingering) {
        self.lingering().push(one);
    }

    /// Those that need not stay any longer.
    pub fn recorded(&self) -> Vec<Lingering> {
        let mut all = self.lingering();
        all.extract_if(.., |one| self.is_recorded(one)).collect()
    }

    /// Whether sources have written down what it claims.
    pub fn is_recorded(&self, one: &Lingering) -> bool {
        (!one.recalled || self.taken_up.load(Ordering::Acquire))
            && one.traces.iter().all(Trace::is_recorded)
    }

    /// Whether some may go any moment: not those that wait for a start to be complete, which is told.
    pub fn is_waiting(&self) -> bool {
        let started = self.taken_up.load(Ordering::Acquire);
        self.lingering().iter().any(|one| started || !one.recalled)
    }

    fn extents(&self) -> MutexGuard<'_, Vec<Extent>> {
        self.extents.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn lingering(&self) -> MutexGuard<'_, Vec<Lingering>> {
        self.lingering
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

/// What a crash left of a chunk that was delivered: its side file may claim what no source has written down.
pub fn end(work: &Work, name: &Name, side: &Side) -> io::Result<()> {
    for file in [name.data(), name.meta()] {
        match work.disk.remove(&file) {
            Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
            _ => debug!(
                path = work.options.path,
                file, "removing what a crash left of a delivered chunk"
            ),
        }
    }
    linger(work, name.id(), side);
    Ok(())
}

/// The side file of a chunk that is gone claims something.
pub fn linger(work: &Work, id: ChunkId, side: &Side) {
    work.recall.note(side.safe_within(u64::MAX));
    work.recall.linger(Lingering {
        id,
        recalled: true,
        traces: Vec::new(),
    });
}
