//! Keeps the lifecycle action alive: finds its names, then a heartbeat at once and every third of the hook's time-out.
//!
//! Runs beside the stages and tells them what it learns through the drain's [`Situation`](super::Situation): the names, how long
//! AWS waits, and that AWS itself confirmed the action.

use std::convert::Infallible;
use std::str::FromStr;
use std::time::{Duration, Instant};

use super::budget::HookClock;
use super::classifier::Letter;
use super::hook::{Action, HookInfo, Hooks, global};
use super::lifecycle::{self, Answer};
use super::notice::Cause;
use super::{Drain, Drainable, Names};

/// Assumed where nobody may tell us: the shortest that a hook can have.
const SHORTEST: Duration = Duration::from_secs(30);

/// The `heartbeat` parameter.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Setting {
    /// A third of the hook's time-out.
    #[default]
    Auto,
    /// This often.
    Every(Duration),
    /// Never.
    Off,
}

impl FromStr for Setting {
    type Err = String;

    fn from_str(text: &str) -> Result<Setting, String> {
        match text.trim() {
            "auto" => Ok(Setting::Auto),
            "off" => Ok(Setting::Off),
            number => match number.trim_end_matches('s').parse() {
                Ok(seconds @ 1..) => Ok(Setting::Every(Duration::from_secs(seconds))),
                _ => Err(format!(
                    "heartbeat is auto, off or a number of seconds, not '{number}'"
                )),
            },
        }
    }
}

/// When the next heartbeat is due after a good one: clamp(H/3, 5 s, 300 s) ± 10 %. `chance` in 0..1. `None`: never.
pub fn interval(setting: Setting, timeout: Duration, chance: f64) -> Option<Duration> {
    let every = match setting {
        Setting::Off => return None,
        Setting::Every(every) => every,
        Setting::Auto => (timeout / 3).clamp(Duration::from_secs(5), Duration::from_secs(300)),
    };
    Some(every.mul_f64(0.9 + 0.2 * chance.clamp(0.0, 1.0)))
}

/// Whose hook it is, and how long it waits.
enum Discovery {
    Found(Action, Option<HookInfo>),
    /// There is nothing to complete, and why.
    Nothing(String),
    /// Ask again.
    Later(anyhow::Error),
}

/// Finds the names and sends heartbeats until the drain is dropped.
pub(super) async fn keep<A: Drainable>(drain: &Drain<'_, A>) -> Infallible {
    let (action, info) = match names(drain).await {
        Ok(found) => found,
        Err(nothing) => {
            tracing::info!(
                stage = "heartbeat",
                elapsed = drain.elapsed(),
                reason = nothing,
                "no heartbeat: no lifecycle action to keep"
            );
            drain
                .situation
                .send_modify(|now| now.names = Names::Nothing(nothing));
            return std::future::pending().await;
        }
    };
    let timeout = info.as_ref().map_or(SHORTEST, |info| info.heartbeat);
    let waits = info.is_some();
    let global = info.map_or_else(|| global(timeout), |info| info.global);
    tracing::info!(
        stage = "heartbeat",
        elapsed = drain.elapsed(),
        group = action.group,
        hook = action.hook,
        heartbeat_timeout = timeout.as_secs(),
        "found the lifecycle hook"
    );
    drain.situation.send_modify(|now| {
        now.names = Names::Known(action);
        if drain.plan.heartbeat == Setting::Off && waits {
            // Nothing will move this end: the hook waits once, from the notice on.
            let began = now.began.unwrap_or(drain.start);
            now.hook = Some(HookClock {
                began,
                heartbeat: timeout,
                last_ok: began,
                global,
            });
        }
    });
    beat(drain, timeout, global).await
}

async fn beat<A: Drainable>(
    drain: &Drain<'_, A>,
    timeout: Duration,
    global: Duration,
) -> Infallible {
    let mut failures = 0u32;
    loop {
        if drain.plan.heartbeat == Setting::Off || drain.situation.borrow().released {
            return std::future::pending().await;
        }
        let Some(action) = drain.action() else {
            return std::future::pending().await;
        };
        let reply = match drain.hooks().await {
            Ok(hooks) => hooks.heartbeat(&action).await,
            Err(error) => {
                tracing::warn!(
                    stage = "heartbeat",
                    error = format!("{error:#}"),
                    "cannot send a heartbeat"
                );
                tokio::time::sleep(lifecycle::pause(Answer::Weather, 1, fastrand::f64())).await;
                continue;
            }
        };
        let pause = match reply.answer {
            Answer::Accepted => {
                failures = 0;
                accepted(drain, timeout, global);
                interval(drain.plan.heartbeat, timeout, fastrand::f64()).unwrap_or(timeout)
            }
            answer => {
                failures += 1;
                failed(drain, &reply.text, answer, failures, action.token.is_some());
                lifecycle::pause(answer, failures, fastrand::f64())
            }
        };
        tokio::time::sleep(pause).await;
    }
}

fn accepted<A: Drainable>(drain: &Drain<'_, A>, timeout: Duration, global: Duration) {
    tracing::info!(
        stage = "heartbeat",
        elapsed = drain.elapsed(),
        "heartbeat accepted"
    );
    drain.situation.send_modify(|now| {
        now.witness
            .get_or_insert("a heartbeat that Auto Scaling accepted");
        let began = now.began.unwrap_or(drain.start);
        now.hook = Some(HookClock {
            began,
            heartbeat: timeout,
            last_ok: Instant::now(),
            global,
        });
    });
}

fn failed<A: Drainable>(
    drain: &Drain<'_, A>,
    text: &str,
    answer: Answer,
    failures: u32,
    token: bool,
) {
    match answer {
        // Too early is normal: the doorbell rings before the hook exists.
        Answer::NoActiveAction if failures == 1 => {
            tracing::info!(
                stage = "heartbeat",
                elapsed = drain.elapsed(),
                "no active lifecycle action yet, trying the heartbeat again"
            );
        }
        Answer::NoActiveAction => {}
        _ => tracing::warn!(
            stage = "heartbeat",
            elapsed = drain.elapsed(),
            error = text,
            "heartbeat refused"
        ),
    }
    if token && matches!(answer, Answer::NoActiveAction | Answer::Invalid) {
        // A stale token makes a valid call fail; the instance id cannot be stale.
        drain.forget_token();
    }
}

/// The names of our action, asked for until they are known or known not to exist.
async fn names<A: Drainable>(drain: &Drain<'_, A>) -> Result<(Action, Option<HookInfo>), String> {
    let mut attempt = 0u32;
    loop {
        attempt = attempt.saturating_add(1);
        let later = match drain.hooks().await {
            Ok(hooks) => match discover(drain, hooks).await {
                Discovery::Found(action, info) => return Ok((action, info)),
                Discovery::Nothing(why) => return Err(why),
                Discovery::Later(error) => error,
            },
            Err(error) => error,
        };
        if attempt == 1 {
            tracing::warn!(
                stage = "heartbeat",
                error = format!("{later:#}"),
                "cannot find the lifecycle hook yet, trying again"
            );
        }
        // A letter may come at any time and bring the names.
        let mut changes = drain.situation.subscribe();
        let pause = lifecycle::pause(Answer::Weather, attempt, fastrand::f64());
        let _ = tokio::time::timeout(pause, changes.wait_for(|now| now.letter.is_some())).await;
    }
}

/// Which lifecycle action is ours, as far as it can be known now.
async fn discover<A: Drainable>(drain: &Drain<'_, A>, hooks: &Hooks) -> Discovery {
    if drain.notice.cause == Cause::ByHand
        && let Some(why) = nothing_by_hand(drain, hooks).await
    {
        return Discovery::Nothing(why);
    }
    let letter = drain
        .situation
        .borrow()
        .letter
        .clone()
        .map(|received| received.letter);
    let Some(group) = find_group(drain, hooks, letter.as_ref()).await else {
        let id = &drain.instance;
        return Discovery::Later(anyhow::anyhow!(
            "the Auto Scaling group of {id} is not known: set group_name"
        ));
    };
    let wanted = drain
        .plan
        .params
        .hook_name
        .clone()
        .or_else(|| letter.as_ref()?.hook.clone());
    let known = hooks.terminating(&group).await;
    pick_hook(group, wanted, known, letter.as_ref())
}

/// A drain by hand completes an action only where the instance terminates.
async fn nothing_by_hand<A: Drainable>(drain: &Drain<'_, A>, hooks: &Hooks) -> Option<String> {
    let (_, state) = hooks.whereabouts().await;
    if !lifecycle::is_terminating(&state) {
        return Some(format!(
            "started by hand, and the instance does not terminate ({state:?})"
        ));
    }
    drain.situation.send_modify(|now| {
        now.witness
            .get_or_insert("the state that Auto Scaling reports");
    });
    None
}

/// Configuration → instance tag → Auto Scaling → letter (§5.4).
async fn find_group<A: Drainable>(
    drain: &Drain<'_, A>,
    hooks: &Hooks,
    letter: Option<&Letter>,
) -> Option<String> {
    if let Some(group) = &drain.plan.params.group_name {
        return Some(group.clone());
    }
    match drain
        .aws
        .imds()
        .get("tags/instance/aws:autoscaling:groupName")
        .await
    {
        Ok(Some(group)) => Some(group),
        _ => hooks
            .whereabouts()
            .await
            .0
            .or_else(|| letter?.group.clone()),
    }
}

/// Configuration → letter → the only terminating one (§5.4). Never another team's.
fn pick_hook(
    group: String,
    wanted: Option<String>,
    known: anyhow::Result<Vec<HookInfo>>,
    letter: Option<&Letter>,
) -> Discovery {
    let action = |group: String, hook: String| {
        let token = letter
            .filter(|letter| letter.hook.as_deref() == Some(&hook))
            .and_then(|letter| letter.token.clone());
        Action { group, hook, token }
    };
    match (wanted, known) {
        (Some(hook), known) => {
            let info = known
                .ok()
                .and_then(|known| known.into_iter().find(|info| info.name == hook));
            Discovery::Found(action(group, hook), info)
        }
        (None, Ok(known)) => match <[HookInfo; 1]>::try_from(known) {
            Ok([info]) => Discovery::Found(action(group, info.name.clone()), Some(info)),
            Err(none) if none.is_empty() => {
                Discovery::Nothing(format!("group {group} has no terminating hook"))
            }
            Err(several) => {
                let names: Vec<_> = several.into_iter().map(|info| info.name).collect();
                tracing::error!(hooks = ?names, group, "several terminating hooks: set hook_name. This drain completes none of them");
                Discovery::Nothing(format!(
                    "group {group} has several terminating hooks and hook_name is not set"
                ))
            }
        },
        (None, Err(error)) => Discovery::Later(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_parameter_is_auto_off_or_seconds() {
        assert_eq!("auto".parse(), Ok(Setting::Auto));
        assert_eq!("off".parse(), Ok(Setting::Off));
        assert_eq!("15".parse(), Ok(Setting::Every(Duration::from_secs(15))));
        assert_eq!("15s".parse(), Ok(Setting::Every(Duration::from_secs(15))));
        assert!("0".parse::<Setting>().is_err());
        assert!("often".parse::<Setting>().is_err());
    }

    proptest! {
        #[test]
        fn three_heartbeats_fit_into_every_timeout_that_aws_allows(timeout in 30u64..7200, chance in 0.0f64..1.0) {
            let timeout = Duration::from_secs(timeout);
            let every = interval(Setting::Auto, timeout, chance).expect("not off");
            prop_assert!(every * 2 < timeout);
            prop_assert!(every <= Duration::from_secs(330) && every >= Duration::from_millis(4500));
        }
    }
}
