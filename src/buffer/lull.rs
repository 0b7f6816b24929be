//! The quiet after a write.

use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, Sleep, sleep};

use super::Buffer;

/// How long an answer may lie unread while nothing else happens: far below what a position or an operator would notice, long enough
/// that at twenty chunks a second each one's answer is read with the next one's wake-up.
const LULL: Duration = Duration::from_millis(50);

/// Lets a flush worker that only awaits an answer sleep on until there is something else to do. One for each worker, used again and
/// again: its timer is only ever put off, which costs no system call.
pub struct Lull {
    buffer: Arc<Buffer>,
    nap: Pin<Box<Sleep>>,
    took_news: bool,
}

impl Lull {
    /// For a worker of this buffer.
    pub fn of(buffer: &Arc<Buffer>) -> Lull {
        Lull {
            buffer: buffer.clone(),
            nap: Box::pin(sleep(LULL)),
            took_news: false,
        }
    }

    /// Completes when there may be something new to write, or [`LULL`] has passed.
    pub async fn pass(&mut self) {
        self.nap.as_mut().reset(Instant::now() + LULL);
        self.took_news = tokio::select! {
            biased;
            () = self.buffer.work() => true,
            () = &mut self.nap => false,
        };
    }

    /// The answer is still awaited: whatever is new is another worker's.
    pub fn hand_on(&mut self) {
        if std::mem::take(&mut self.took_news) {
            self.buffer.wake();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::buffer::{ChunkKeys, Limits};

    fn buffer() -> Arc<Buffer> {
        Buffer::new("forward.0", ChunkKeys::default(), Limits::ROOMY)
    }

    async fn is_over_at_once(wait: impl Future<Output = ()>) -> bool {
        tokio::select! {
            biased;
            () = wait => true,
            () = std::future::ready(()) => false,
        }
    }

    #[tokio::test]
    async fn news_end_a_lull_at_once_and_time_ends_it_otherwise() {
        let buffer = buffer();
        let mut lull = Lull::of(&buffer);
        for _ in 0..2 {
            buffer.wake();
            assert!(is_over_at_once(lull.pass()).await);
            assert!(!is_over_at_once(lull.pass()).await);
            lull.pass().await;
        }
    }

    #[tokio::test]
    async fn news_that_a_waiting_worker_took_are_handed_on_to_another_once() {
        let buffer = buffer();
        let mut lull = Lull::of(&buffer);
        buffer.wake();
        lull.pass().await;
        assert!(!is_over_at_once(buffer.work()).await);
        lull.hand_on();
        assert!(is_over_at_once(buffer.work()).await);
        lull.hand_on();
        assert!(!is_over_at_once(buffer.work()).await);
    }
}
