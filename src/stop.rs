//! How far a run has come to its end, for threads and tasks alike.
//!
//! Phases only ever go forward. Tasks await [`Stop::reached`]; threads ask [`Stop::phase`] when they wake and register a
//! waker with [`Stop::on_change`] so that they do wake.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::watch;

/// What an input has been asked to do. Later phases include the earlier ones.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Phase {
    /// Nothing: go on.
    Run,
    /// Read every file to its end, then stop reading: the instance terminates and there is no next start.
    AtEnd,
    /// Stop reading where you are: the positions keep the rest for the next start.
    Now,
    /// Outputs have done what they could: write the last positions and return.
    Close,
}

type Waker = Box<dyn Fn() + Send + Sync>;

/// The shared phase. Clones see the same one.
#[derive(Clone)]
pub struct Stop {
    phase: watch::Sender<Phase>,
    wakers: Arc<Mutex<Vec<Waker>>>,
}

impl Default for Stop {
    fn default() -> Self {
        Stop {
            phase: watch::Sender::new(Phase::Run),
            wakers: Arc::default(),
        }
    }
}

impl Stop {
    /// A run that has just begun.
    pub fn new() -> Stop {
        Stop::default()
    }

    /// Where the run is now.
    pub fn phase(&self) -> Phase {
        *self.phase.borrow()
    }

    /// Goes forward to `phase`; a run that is already there or further stays where it is.
    pub fn advance(&self, phase: Phase) {
        let moved = self.phase.send_if_modified(|now| {
            let later = phase > *now;
            *now = phase.max(*now);
            later
        });
        if moved {
            for wake in self
                .wakers
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .iter()
            {
                wake();
            }
        }
    }

    /// Completes when the run is at `phase` or further.
    pub async fn reached(&self, phase: Phase) {
        // The sender is part of `self`, so the channel cannot close while we wait.
        let _ = self.phase.subscribe().wait_for(|now| *now >= phase).await;
    }

    /// Calls `wake` at every later change of phase. For threads, which cannot await.
    pub fn on_change(&self, wake: impl Fn() + Send + Sync + 'static) {
        self.wakers
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(Box::new(wake));
    }
}

impl fmt::Debug for Stop {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Stop({:?})", self.phase())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicUsize, Ordering};

    #[test]
    fn phases_only_go_forward() {
        let stop = Stop::new();
        stop.advance(Phase::Now);
        stop.advance(Phase::AtEnd);
        assert_eq!(stop.phase(), Phase::Now);
    }

    #[test]
    fn threads_are_woken_once_per_change() {
        let stop = Stop::new();
        let woken = Arc::new(AtomicUsize::new(0));
        let counter = woken.clone();
        stop.on_change(move || {
            counter.fetch_add(1, Ordering::Relaxed);
        });
        stop.advance(Phase::AtEnd);
        stop.advance(Phase::AtEnd);
        assert_eq!(woken.load(Ordering::Relaxed), 1);
    }

    #[tokio::test]
    async fn tasks_waiting_for_an_earlier_phase_are_released_by_a_later_one() {
        let stop = Stop::new();
        let waiting = tokio::spawn({
            let stop = stop.clone();
            async move { stop.reached(Phase::AtEnd).await }
        });
        stop.advance(Phase::Close);
        waiting.await.expect("the task ends");
    }
}
