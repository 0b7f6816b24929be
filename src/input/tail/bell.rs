//! The place where the source's thread sleeps, and what it is told there. What wakes it are file events, receipts that came back, and
//! the stop phase.

use std::collections::HashSet;
use std::path::PathBuf;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// More than this is remembered as "everything".
const MOST: usize = 4096;

/// What happened since the thread looked last.
#[derive(Debug, Default)]
pub struct Seen {
    /// Files that were written to.
    pub dirty: HashSet<PathBuf>,
    /// Names that appeared, went or changed in a watched directory.
    pub names: HashSet<PathBuf>,
    /// Files that were renamed within the watched directories: from, to; in order.
    pub renames: Vec<(PathBuf, PathBuf)>,
    /// Names changed, and nobody knows which.
    pub names_changed: bool,
    /// Events were lost: every file and directory must be looked at.
    pub everything: bool,
    /// The thread was called for another reason.
    pub woken: bool,
}

impl Seen {
    /// Whether nothing happened.
    pub fn is_quiet(&self) -> bool {
        !self.woken
            && !self.names_changed
            && !self.everything
            && self.dirty.is_empty()
            && self.names.is_empty()
            && self.renames.is_empty()
    }

    /// Notes a change. What comes too fast is remembered as "everything".
    pub fn note(&mut self, change: Change, mut paths: Vec<PathBuf>) {
        if self.dirty.len() + self.names.len() + self.renames.len() > MOST {
            self.everything = true;
            return;
        }
        match change {
            Change::Written => self.dirty.extend(paths),
            Change::Name => self.names.extend(paths),
            Change::Renamed => {
                if let (Some(to), Some(from)) = (paths.pop(), paths.pop()) {
                    self.names.extend([from.clone(), to.clone()]);
                    self.renames.push((from, to));
                }
            }
            Change::Unknown => self.names_changed = true,
            Change::Lost => self.everything = true,
        }
    }
}

/// What an event is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// Files were written to.
    Written,
    /// Names appeared or went.
    Name,
    /// One name became another: from, to.
    Renamed,
    /// Names changed, of directories perhaps.
    Unknown,
    /// Events were lost.
    Lost,
}

/// Where the source's thread sleeps, and what wakes it.
#[derive(Debug, Default)]
pub struct Bell {
    seen: Mutex<Seen>,
    rung: Condvar,
}

impl Bell {
    /// Wakes the thread without naming a file: receipts came back, the stop phase changed.
    pub fn ring(&self) {
        self.tell(|seen| seen.woken = true);
    }

    /// What happened since the last call, waiting for it no longer than `timeout`.
    pub fn wait(&self, timeout: Duration) -> Seen {
        let (mut seen, _) = self
            .rung
            .wait_timeout_while(self.lock(), timeout, |seen| seen.is_quiet())
            .unwrap_or_else(PoisonError::into_inner);
        std::mem::take(&mut *seen)
    }

    /// Notes what happened and wakes the thread.
    pub fn tell(&self, what: impl FnOnce(&mut Seen)) {
        what(&mut self.lock());
        self.rung.notify_one();
    }

    fn lock(&self) -> MutexGuard<'_, Seen> {
        // A half-told event is at worst a hint too few, and the sweep makes up for it.
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ring_before_the_wait_is_not_lost() {
        let bell = Bell::default();
        bell.ring();
        assert!(bell.wait(Duration::from_secs(60)).woken);
    }

    #[test]
    fn a_flood_is_everything_and_takes_no_more_memory() {
        let mut seen = Seen::default();
        for number in 0..2 * MOST {
            seen.note(Change::Name, vec![PathBuf::from(number.to_string())]);
        }
        assert!(seen.everything);
        assert!(seen.names.len() <= MOST + 1);
    }
}
