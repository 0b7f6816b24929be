//! Waits that become short when the instance terminates.

use std::io::{self, ErrorKind};
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::sleep;

/// Whether the instance terminates: shortens waits that have begun, too.
#[derive(Debug)]
pub struct Hurry(watch::Sender<bool>);

impl Default for Hurry {
    fn default() -> Hurry {
        Hurry(watch::Sender::new(false))
    }
}

impl Hurry {
    /// It terminates.
    pub fn begin(&self) {
        self.0.send_replace(true);
    }

    /// Waits for `work` no longer than `limit`, and from the moment of hurry on no longer than `hurried`.
    pub async fn within<T>(
        &self,
        limit: Duration,
        hurried: Duration,
        work: impl Future<Output = T>,
    ) -> Option<T> {
        let mut hurry = self.0.subscribe();
        let hurried = async {
            // The sender is part of `self`, so the channel cannot close while we wait.
            let _ = hurry.wait_for(|begun| *begun).await;
            sleep(hurried).await;
        };
        tokio::select! {
            biased;
            done = work => Some(done),
            () = sleep(limit) => None,
            () = hurried => None,
        }
    }

    /// The same for reading and writing, where a wait that is over is an error.
    pub async fn io<T>(
        &self,
        limit: Duration,
        hurried: Duration,
        work: impl Future<Output = io::Result<T>>,
    ) -> io::Result<T> {
        let timed_out = || Err(io::Error::from(ErrorKind::TimedOut));
        self.within(limit, hurried, work)
            .await
            .unwrap_or_else(timed_out)
    }
}
