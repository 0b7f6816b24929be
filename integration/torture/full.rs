//! A disk that is full: by chunks that nobody fetches, or by somebody else's file. The agent must wait, be killed and start again while it
//! is full, and go on by itself when there is room.

use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use super::PATIENCE;
use super::plan::Filling;
use super::scene::Scene;
use crate::support::agent::Agent;
use crate::support::forward_server::Mode;

/// What the agent says when the disk takes nothing.
pub const BEGINS: &str = "cannot write the buffer, reading paused";
/// One such line in so many seconds is no flapping.
const A_LINE: Duration = Duration::from_secs(5);

impl Scene<'_> {
    /// Waits until this life has found the disk full.
    ///
    /// # Errors
    /// When it never was: the round proves nothing.
    pub async fn until_full(&self, agent: &Agent) -> Result<()> {
        let (Some(full), Some(disk)) = (&self.plan.full, &self.disk) else {
            return Ok(());
        };
        if let Filling::Foreign(after) = full.by
            && !disk.is_filled()
        {
            tokio::time::sleep(after).await;
            disk.fill()?;
        }
        let waited = agent.wait_for_line(BEGINS, PATIENCE).await;
        waited.map(drop).with_context(|| {
            let free = disk.free().unwrap_or_default();
            format!("the disk never was full: {free} bytes are free on it")
        })
    }

    /// The server comes back, the foreign file goes.
    ///
    /// # Errors
    /// When it cannot be removed.
    pub async fn relieve(&self) -> Result<()> {
        match (&self.plan.full, &self.disk) {
            (Some(full), Some(disk)) if matches!(full.by, Filling::Foreign(_)) => {
                disk.give_back().context("cannot remove the foreign file")
            }
            (Some(_), _) => {
                self.receiver.set_mode(Mode::Ack).await;
                Ok(())
            }
            (None, _) => Ok(()),
        }
    }
}

/// What is wrong with what a life said of its disk.
pub fn flapping(agent: &Agent, born: Instant) -> Option<String> {
    let lines = agent.log();
    let said = lines.iter().filter(|line| line.text.contains(BEGINS));
    let (said, lived) = (said.count() as u64, born.elapsed());
    let most = 1 + lived.as_secs() / A_LINE.as_secs();
    (said > most).then(|| format!("a life of {lived:?} said {said} times that the disk is full"))
}
