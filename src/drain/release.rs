//! The last two calls: complete the lifecycle action, then delete its message. Never the other way round (lifecycle.md §4.2).

use std::time::{Duration, Instant};

use serde::Serialize;

use super::hook::{Action, Verdict};
use super::lifecycle::{self, Answer, Next, State, Target, target};
use super::{Drain, Drainable, Names};

/// How long the completion is tried when the deadline is over already: it is never sacrificed.
const AT_LEAST: Duration = Duration::from_secs(10);
/// How long the letter is looked for after the release.
const LETTER: Duration = Duration::from_secs(20);
/// Refusals of the names or values before the call is given up.
const INVALID_TRIES: u32 = 3;

/// How the lifecycle action ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Release {
    /// Auto Scaling accepted our result.
    Completed(String),
    /// Somebody else ended it before.
    AlreadyReleased,
    /// Abandoned and kept alive: keep the agent running and deliver.
    Retained,
    /// The termination was called off.
    CalledOff,
    /// There is no action of ours, and why.
    Nothing(String),
    /// A rehearsal.
    DryRun,
    /// It was tried until the time was over; the hook ends by its own time-out.
    Failed(String),
}

impl Release {
    /// Whether the hook no longer needs its message.
    pub fn is_over(&self) -> bool {
        matches!(
            self,
            Release::Completed(_) | Release::AlreadyReleased | Release::Retained
        )
    }
}

/// Completes the action, by the rules of §2.1.
pub(super) async fn complete<A: Drainable>(drain: &Drain<'_, A>, verdict: Verdict) -> Release {
    if drain.plan.params.dry_run {
        return Release::DryRun;
    }
    let end = drain
        .budget(0, None)
        .deadline
        .max(Instant::now() + AT_LEAST);
    match tokio::time::timeout_at(end.into(), attempt(drain, verdict)).await {
        Ok(release) => release,
        Err(_) => Release::Failed("out of time".to_owned()),
    }
}

async fn attempt<A: Drainable>(drain: &Drain<'_, A>, verdict: Verdict) -> Release {
    if let Names::Nothing(why) = names(drain).await {
        return Release::Nothing(why);
    }
    let mut tries = Tries::default();
    loop {
        let Some(action) = drain.action() else {
            return Release::Nothing("no names".to_owned());
        };
        let (pause, text) = match drain.hooks().await {
            Err(error) => (
                lifecycle::pause(Answer::Weather, 1, fastrand::f64()),
                format!("{error:#}"),
            ),
            Ok(hooks) => {
                let reply = hooks.complete(&action, verdict).await;
                match decide(drain, &action, reply.answer, &mut tries).await {
                    Err(Release::Completed(_)) => return Release::Completed(verdict.to_string()),
                    Err(Release::Failed(_)) => return Release::Failed(reply.text),
                    Err(release) => return release,
                    Ok(pause) => (pause, reply.text),
                }
            }
        };
        tracing::warn!(
            stage = "complete",
            elapsed = drain.elapsed(),
            error = text,
            pause = pause.as_secs_f64(),
            "complete: not accepted yet, trying again"
        );
        tokio::time::sleep(pause).await;
    }
}

#[derive(Default)]
struct Tries {
    number: u32,
    invalid: u32,
    no_action_since: Option<Instant>,
    in_service_since: Option<Instant>,
}

/// `Ok`: pause and try again. `Err`: it is over.
async fn decide<A: Drainable>(
    drain: &Drain<'_, A>,
    action: &Action,
    answer: Answer,
    tries: &mut Tries,
) -> Result<Duration, Release> {
    tries.number += 1;
    let refused = matches!(answer, Answer::NoActiveAction | Answer::Invalid);
    if refused && action.token.is_some() {
        // A stale token makes a valid call fail: once more with the instance id alone.
        drain.forget_token();
        return Ok(Duration::ZERO);
    }
    match answer {
        Answer::Accepted => return Err(Release::Completed(String::new())),
        Answer::NoActiveAction => no_active_action(drain, tries).await?,
        Answer::Invalid => {
            tries.invalid += 1;
            if tries.invalid >= INVALID_TRIES {
                return Err(Release::Failed(String::new()));
            }
        }
        _ => {}
    }
    Ok(lifecycle::pause(answer, tries.number, fastrand::f64()))
}

async fn no_active_action<A: Drainable>(
    drain: &Drain<'_, A>,
    tries: &mut Tries,
) -> Result<(), Release> {
    let now = Instant::now();
    let since = *tries.no_action_since.get_or_insert(now);
    let state = match drain.hooks().await {
        Ok(hooks) => hooks.whereabouts().await.1,
        Err(_) => State::Unknown,
    };
    let word = drain
        .aws
        .imds()
        .get("autoscaling/target-lifecycle-state")
        .await;
    match word.ok().flatten().as_deref().map(target) {
        Some(Target::Stay) => tries.in_service_since = tries.in_service_since.or(Some(now)),
        Some(_) => tries.in_service_since = None,
        None => {}
    }
    let back = tries
        .in_service_since
        .map(|since| now.duration_since(since));
    match lifecycle::no_active_action(&state, now.duration_since(since), back) {
        Next::Again => Ok(()),
        Next::Released => {
            if state == State::Unknown {
                tracing::warn!(
                    stage = "complete",
                    "complete: no active lifecycle action for a minute and the state cannot be asked for, taking it as released"
                );
            }
            Err(Release::AlreadyReleased)
        }
        Next::Retained => Err(Release::Retained),
        Next::CalledOff => Err(Release::CalledOff),
    }
}

/// Deletes our letter, if there is one to be found. Whether it is gone.
pub(super) async fn delete_letter<A: Drainable>(drain: &Drain<'_, A>) -> bool {
    if drain.plan.params.dry_run || drain.queue_url().is_none() {
        return false;
    }
    let handle = tokio::time::timeout(LETTER, handle(drain)).await;
    let Ok(Some(handle)) = handle else {
        tracing::info!(
            stage = "delete",
            elapsed = drain.elapsed(),
            "delete: our message was not seen, it ends by the queue's retention"
        );
        return false;
    };
    for _ in 0..3 {
        let deleted = async { drain.queue().await?.delete(&handle).await };
        match tokio::time::timeout(Duration::from_secs(2), deleted).await {
            Ok(Ok(())) => {
                tracing::info!(
                    stage = "delete",
                    elapsed = drain.elapsed(),
                    "delete: the message is gone from the queue"
                );
                return true;
            }
            Ok(Err(error)) => {
                tracing::warn!(
                    stage = "delete",
                    elapsed = drain.elapsed(),
                    error = format!("{error:#}"),
                    "delete refused"
                );
            }
            Err(_) => tracing::warn!(
                stage = "delete",
                elapsed = drain.elapsed(),
                "delete: the queue does not answer"
            ),
        }
    }
    false
}

// The guard of a watched value stays within these: held across an await, it would keep the watchers from telling anything.

async fn names<A: Drainable>(drain: &Drain<'_, A>) -> Names {
    let mut changes = drain.situation.subscribe();
    let known = changes.wait_for(|now| now.names != Names::Unknown).await;
    known.map_or(Names::Unknown, |now| now.names.clone())
}

async fn handle<A: Drainable>(drain: &Drain<'_, A>) -> Option<String> {
    let mut changes = drain.situation.subscribe();
    let found = changes.wait_for(|now| now.letter.is_some()).await.ok()?;
    found
        .letter
        .as_ref()
        .map(|received| received.handle.clone())
}
