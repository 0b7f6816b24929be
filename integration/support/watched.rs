//! A value behind a lock that others can wait on: how every wait in the tests waits for a condition and not for a time.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::{Result, anyhow};
use tokio::sync::Notify;

/// A value, and the means to wait until it satisfies a condition.
#[derive(Debug, Default)]
pub struct Watched<T> {
    value: Mutex<T>,
    changed: Notify,
}

impl<T> Watched<T> {
    /// Starts with `value`.
    pub fn new(value: T) -> Self {
        Self {
            value: Mutex::new(value),
            changed: Notify::new(),
        }
    }

    /// Looks at the value.
    pub fn read<R>(&self, look: impl FnOnce(&T) -> R) -> R {
        look(&self.lock())
    }

    /// Changes the value and wakes everybody who waits on it.
    pub fn change<R>(&self, change: impl FnOnce(&mut T) -> R) -> R {
        let result = change(&mut self.lock());
        self.changed.notify_waiters();
        result
    }

    /// Waits until `find` returns something.
    ///
    /// # Errors
    /// After `deadline`, with `what` in the text: it names what did not happen.
    pub async fn wait_some<R>(
        &self,
        what: &str,
        deadline: Duration,
        find: impl FnMut(&T) -> Option<R>,
    ) -> Result<R> {
        tokio::time::timeout(deadline, self.wait_forever(find))
            .await
            .map_err(|_| anyhow!("waited {deadline:?} in vain: {what}"))
    }

    /// Waits until `holds` is true.
    ///
    /// # Errors
    /// After `deadline`, with `what` in the text.
    pub async fn wait_for(
        &self,
        what: &str,
        deadline: Duration,
        mut holds: impl FnMut(&T) -> bool,
    ) -> Result<()> {
        self.wait_some(what, deadline, |value| holds(value).then_some(()))
            .await
    }

    /// Waits, without an end of its own, until `find` returns something.
    pub async fn wait_forever<R>(&self, mut find: impl FnMut(&T) -> Option<R>) -> R {
        loop {
            let mut changed = std::pin::pin!(self.changed.notified());
            changed.as_mut().enable();
            if let Some(found) = self.read(&mut find) {
                return found;
            }
            changed.await;
        }
    }

    fn lock(&self) -> MutexGuard<'_, T> {
        self.value.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
