//! The torture: the real binary is killed with SIGKILL again and again while an application writes and rotates, and in the end every
//! line must have arrived.
//!
//! One round is a [`plan::Plan`] drawn from a seed. An application ([`writer`]) writes numbered, self-checking lines and knows
//! where each stands; a receiver keeps what comes before it acks, late. When the process is dead its pos_file is read ([`book`]):
//! what it calls safe must have arrived, and only what it leaves open may come again ([`verdict`]). At last everything quiets
//! down, what was written has to arrive, and SIGTERM has to end the agent with nothing left to read.
//!
//! The kinds of rounds ([`plan::Kind`]): chunks in memory; chunks on disk ([`chunks`] reads them); chunks on a disk that is full ([`full`]);
//! chunks whose files are damaged before the next start ([`damage`], [`side`]).
//!
//! `cargo run --release --example torture -- --rounds 100 [--seed N] [--kind KIND]` runs as many rounds as asked for, all kinds in turn;
//! `cargo test` a few of each.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result};
use tempfile::TempDir;

use crate::support::tiny_disk::TinyDisk;

use plan::Plan;
use scene::Scene;
use truncating::Truncating;
use verdict::Verdict;
use writer::Writer;

pub mod book;
pub mod chunks;
pub mod damage;
pub mod full;
pub mod plan;
pub mod scene;
pub mod side;
pub mod truncating;
pub mod verdict;
pub mod writer;

/// No wait of a round may take longer: a bound for a broken agent, not an expectation.
const PATIENCE: Duration = Duration::from_secs(30);
/// How often the pos_file is looked at.
const GLANCE: Duration = Duration::from_millis(10);

/// A finished round.
pub struct Round {
    /// What was judged.
    pub verdict: Verdict,
    /// What every life of the agent printed.
    pub log: String,
    /// Where everything stands; removed when dropped.
    pub dir: TempDir,
}

/// Why this machine cannot run a round of this plan, if so.
///
/// # Errors
/// When that cannot be found out.
pub fn cannot_play(plan: &Plan) -> Result<Option<String>> {
    let Some(full) = &plan.full else {
        return Ok(None);
    };
    let place = tempfile::tempdir()?;
    let disk = TinyDisk::new(place.path(), full.size);
    Ok(disk.err().map(|error| format!("{error:#}")))
}

/// Runs the round of this plan with this binary.
///
/// # Errors
/// When the round could not be run: the agent does not start, or ends by itself.
pub async fn run(binary: &Path, plan: &Plan) -> Result<Round> {
    let scene = Scene::new(binary, plan).await?;
    let (own, foreign) = (
        scene.dir.path().join("own"),
        scene.dir.path().join("copied"),
    );
    let writer = Writer::start(&own, scene.pos_file("own"), plan, scene.receiver.clone())?;
    let truncating = Truncating::start(&foreign, plan.seed)?;
    let mut log = String::new();
    let mut kills = Vec::new();
    let killed = scene
        .kill_again_and_again(writer.shared(), &mut kills, &mut log)
        .await;
    let last = match killed {
        Ok(()) => scene.last_life(&mut log).await.map(Some),
        Err(error) => Err(error),
    };
    let (book, _) = writer.stop().await?;
    let copied = truncating.stop().await?;
    let mut agent = last
        .with_context(|| format!("the agent printed:\n{log}"))?
        .context("started")?;
    let may_lose = verdict::may_lose(&kills);
    let mut faults = scene.quiet_down(&mut agent, &book, &may_lose).await;
    log += &agent.log_text();
    let lives: Vec<&str> = log.split(scene::KILLED).collect();
    faults.extend(verdict::unnamed(&kills, &lives));
    let mut verdict = scene
        .receiver
        .state()
        .read(|state| Verdict::new(&book, state, kills, plan.storage));
    verdict.faults.append(&mut faults);
    verdict.copied = scene.count_copied(copied);
    Ok(Round {
        verdict,
        log,
        dir: scene.dir,
    })
}

#[cfg(test)]
mod tests;
