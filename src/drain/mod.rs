//! The termination of an EC2 instance, told as one function: [`run`].
//!
//! ```text
//! notice: heartbeat → before → inputs to end of file while flush and spill keep the queue moving
//!         → archive → manifest → after → complete → delete the message
//! ```
//!
//! Above the agent, which does not know it ([`Drainable`] is all that is asked of one). Stages go forward only, each has an end that
//! `budget` computes backwards from the deadline, and the journal makes each harmless to repeat. Whoever decides is pure
//! (`classifier`, `budget`, `lifecycle`, `queue::Rules`, `heartbeat::interval`, `data::side`, `journal::judge`); the rest makes calls.

mod agent;
pub mod archive;
pub mod budget;
pub mod classifier;
pub mod command;
pub mod data;
mod drainable;
pub mod heartbeat;
pub mod hook;
pub mod journal;
mod letter;
pub mod lifecycle;
mod manifest;
pub mod notice;
pub mod params;
pub mod queue;
pub mod release;
mod situation;
mod startup;
pub mod zabbix;

use std::convert::Infallible;
use std::future::Future;
use std::time::{Duration, Instant};

use archive::FileResult;
use command::Outcome;
use data::{Residue, Spilled};
pub use drainable::{Drainable, Ledger, OutputBacklog, Taken};
use hook::Verdict;
use journal::Stage;
pub use notice::{Cause, Notice, first, resume};
use params::{OnUndelivered, Step};
pub use params::{Plan, configure};
use release::Release;
use situation::{Drain, Names, Situation};
pub use startup::check;

use crate::aws::Aws;

/// How a drain ended.
#[derive(Clone, Debug)]
pub struct DrainReport {
    /// The lifecycle action.
    pub release: Release,
    /// What is not safe, and where.
    pub residue: Residue,
    /// What the spill stored.
    pub spilled: Spilled,
    /// The commands before.
    pub before: Vec<Outcome>,
    /// The archived files.
    pub files: Vec<FileResult>,
    /// The key of the manifest.
    pub manifest: Option<String>,
    /// The steps after; empty where they were skipped.
    pub after: Vec<Outcome>,
    /// Our message is gone from the queue.
    pub deleted: bool,
    /// The count of every line, at the end.
    pub ledger: Ledger,
    /// How long it took.
    pub took: Duration,
    /// The instance lives on (warm pool, called off, drained by hand for no end that anybody knows of): the agent should start its inputs again.
    pub lives_on: bool,
}

/// What a drain is doing, for whoever watches.
#[derive(Clone, Debug)]
pub struct View {
    /// The stage.
    pub stage: Stage,
    /// Since the notice.
    pub elapsed: Duration,
    /// Until everything must be over.
    pub left: Duration,
    /// What is not delivered, by output.
    pub backlog: Vec<OutputBacklog>,
    /// The count of every line.
    pub ledger: Ledger,
}

/// Drains: from the notice to the deleted message. `stopping` completes with the moment at which the operating system kills
/// us, once it has said so (SIGTERM); pass a pending future where nobody can know.
pub async fn run<A: Drainable>(
    agent: &A,
    plan: &Plan,
    aws: &Aws,
    notice: Notice,
    stopping: impl Future<Output = Instant>,
) -> DrainReport {
    agent.hurry();
    let drain = Drain::begin(agent, plan, aws, notice).await;
    drive(&drain, stopping).await
}

/// The same, started by hand: completes a lifecycle action only if the instance terminates. `show` is called twice a second.
pub async fn by_hand<A: Drainable>(
    agent: &A,
    plan: &Plan,
    aws: &Aws,
    stopping: impl Future<Output = Instant>,
    mut show: impl FnMut(&View),
) -> DrainReport {
    agent.hurry();
    let drain = Drain::begin(agent, plan, aws, Notice::new(Cause::ByHand)).await;
    let mut ticks = tokio::time::interval(Duration::from_millis(500));
    let watch = async {
        loop {
            ticks.tick().await;
            show(&drain.view());
        }
    };
    let report = tokio::select! {
        report = drive(&drain, stopping) => report,
        never = watch => never,
    };
    show(&drain.view());
    report
}

/// The stages, and beside them what keeps the time: heartbeats, our letter, spot and SIGTERM.
async fn drive<A: Drainable>(
    drain: &Drain<'_, A>,
    stopping: impl Future<Output = Instant>,
) -> DrainReport {
    tokio::select! {
        report = stages(drain) => report,
        never = heartbeat::keep(drain) => match never {},
        never = letter::watch(drain) => match never {},
        never = drain.watch_spot() => match never {},
        never = watch_stop(drain, stopping) => match never {},
    }
}

/// The whole story.
async fn stages<A: Drainable>(drain: &Drain<'_, A>) -> DrainReport {
    let before = before(drain).await;

    drain.reach(Stage::Flush);
    tracing::info!(
        stage = "flush",
        elapsed = drain.elapsed(),
        "flush: reading to the end and sending everything"
    );
    let (residue, spilled) = data::make_safe(drain).await;
    tell(drain, &residue, &spilled);

    drain.reach(Stage::Archive);
    let files = match drain.was_done(Stage::Archive) {
        true => Vec::new(),
        false => archive::upload(drain).await,
    };
    let not_archived = archive::not_archived(&files);
    drain.record(|entry| entry.not_safe.extend(not_archived));

    drain.reach(Stage::Manifest);
    let manifest = manifest::store(drain, &before, &residue, &spilled, &files).await;

    drain.reach(Stage::After);
    let verdict = verdict(drain.plan.params.on_undelivered, &residue);
    let after = after(drain, verdict).await;

    drain.reach(Stage::Complete);
    let release = match drain.was_done(Stage::Complete) {
        true => Release::AlreadyReleased,
        false => release::complete(drain, verdict).await,
    };
    tracing::info!(stage = "complete", elapsed = drain.elapsed(), release = ?release, "complete: the lifecycle action is done with");
    drain.situation.send_modify(|now| now.released = true);

    let mut deleted = false;
    if release.is_over() {
        drain.reach(Stage::Delete);
        deleted = release::delete_letter(drain).await;
    }
    if !matches!(release, Release::Failed(_)) {
        drain.reach(Stage::Done);
    }
    let lives_on = lives_on(drain, &release);
    DrainReport {
        release,
        residue,
        spilled,
        before,
        files,
        manifest,
        after,
        deleted,
        lives_on,
        ledger: drain.agent.ledger(),
        took: drain.start.elapsed(),
    }
}

/// Whether the agent is needed after the drain: it would be deaf for ever.
fn lives_on<A: Drainable>(drain: &Drain<'_, A>, release: &Release) -> bool {
    let now = drain.situation.borrow();
    match release {
        _ if now.warm_pool => true,
        Release::CalledOff | Release::DryRun => true,
        // Somebody wanted a drain, and nobody has said that the instance ends.
        Release::Nothing(_) | Release::Retained | Release::Failed(_) => {
            drain.notice.cause == Cause::ByHand && now.witness.is_none()
        }
        Release::Completed(_) | Release::AlreadyReleased => false,
    }
}

/// The commands before, in order. One that fails is told; the data is what matters.
async fn before<A: Drainable>(drain: &Drain<'_, A>) -> Vec<Outcome> {
    if drain.plan.params.dry_run || drain.was_done(Stage::Before) {
        return Vec::new();
    }
    let mut outcomes = Vec::new();
    for command in &drain.plan.before {
        tracing::info!(
            stage = "before",
            elapsed = drain.elapsed(),
            command = command.line,
            "before: running a command"
        );
        let end = drain.budget(drain.bytes_left(), None).quiet;
        let outcome = command.run(end).await;
        tell_outcome(drain, "before", &outcome);
        outcomes.push(outcome);
    }
    outcomes
}

/// The steps after, only once AWS itself has confirmed that the instance dies (§5.3).
async fn after<A: Drainable>(drain: &Drain<'_, A>, verdict: Verdict) -> Vec<Outcome> {
    let steps = &drain.plan.after;
    if steps.is_empty() || drain.plan.params.dry_run || drain.was_done(Stage::After) {
        return Vec::new();
    }
    if let Err(why) = drain.dies(verdict).await {
        tracing::warn!(
            stage = "after",
            elapsed = drain.elapsed(),
            reason = why,
            "after: skipped"
        );
        return Vec::new();
    }
    let mut outcomes = Vec::new();
    for step in steps {
        let end = drain.budget(0, None).post;
        let outcome = match step {
            Step::Command(command) => command.run(end).await,
            Step::Zabbix(zabbix) => zabbix.run(end).await,
        };
        tell_outcome(drain, "after", &outcome);
        outcomes.push(outcome);
    }
    outcomes
}

/// CONTINUE or ABANDON (§4.4). `hold` has held until now: its time is over.
fn verdict(on_undelivered: OnUndelivered, residue: &Residue) -> Verdict {
    match on_undelivered {
        OnUndelivered::Abandon if !residue.is_empty() => Verdict::Abandon,
        _ => Verdict::Continue,
    }
}

async fn watch_stop<A: Drainable>(
    drain: &Drain<'_, A>,
    stopping: impl Future<Output = Instant>,
) -> Infallible {
    let end = stopping.await;
    tracing::warn!(
        elapsed = drain.elapsed(),
        seconds = end.saturating_duration_since(Instant::now()).as_secs(),
        "the operating system stops us: the drain has to be over before"
    );
    drain.situation.send_modify(|now| now.stop = Some(end));
    std::future::pending().await
}

fn tell<A: Drainable>(drain: &Drain<'_, A>, residue: &Residue, spilled: &Spilled) {
    let elapsed = drain.elapsed();
    drain.record(|entry| {
        entry.not_safe = residue.places.clone();
        entry.ledger = Some(drain.agent.ledger());
    });
    if spilled.chunks > 0 {
        tracing::info!(
            stage = "spill",
            elapsed,
            chunks = spilled.chunks,
            bytes = spilled.bytes,
            records = spilled.records,
            "spill: done"
        );
    }
    if residue.is_empty() {
        tracing::info!(stage = "flush", elapsed, "flush: everything is safe");
        return;
    }
    let rule = drain.plan.params.on_undelivered;
    tracing::error!(
        stage = "flush", elapsed, chunks = residue.chunks, bytes = residue.bytes, records = residue.records,
        behind_bytes = residue.behind_bytes, on_undelivered = ?rule, spill_error = ?spilled.last_error,
        "flush: not everything is safe at the deadline"
    );
    for place in &residue.places {
        tracing::error!(stage = "flush", elapsed, place, "flush: not safe");
    }
}

fn tell_outcome<A: Drainable>(drain: &Drain<'_, A>, stage: &str, outcome: &Outcome) {
    let (elapsed, seconds) = (drain.elapsed(), outcome.seconds);
    let (step, result) = (&outcome.step, &outcome.result);
    match outcome.ok {
        true => tracing::info!(stage, elapsed, step, result, seconds, "{stage}: done"),
        false => tracing::warn!(
            stage,
            elapsed,
            step,
            result,
            seconds,
            "{stage}: failed, going on"
        ),
    }
}

#[cfg(test)]
mod fake_agent;
#[cfg(test)]
mod fakes;
#[cfg(test)]
mod services_tests;
#[cfg(test)]
mod tests;
