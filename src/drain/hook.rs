//! The calls to Auto Scaling about this instance's lifecycle action.
//!
//! Each call tries once within five seconds and says how the answer is to be understood; `lifecycle` decides, `heartbeat` and
//! `release` repeat. The instance id goes into every call, since it cannot be stale; the token only where a message of the same
//! hook gave it (§2.1).

use std::fmt;
use std::time::Duration;

use aws_sdk_autoscaling::Client;
use aws_sdk_autoscaling::error::{DisplayErrorContext, ProvideErrorMetadata, SdkError};

use super::lifecycle::{Answer, State, answer};

const TERMINATING: &str = "autoscaling:EC2_INSTANCE_TERMINATING";

/// The names that a call needs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Action {
    /// `AutoScalingGroupName`.
    pub group: String,
    /// `LifecycleHookName`.
    pub hook: String,
    /// `LifecycleActionToken`, from a message of the same hook.
    pub token: Option<String>,
}

/// `LifecycleActionResult`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Go on with the termination.
    Continue,
    /// The same, unless the group retains abandoned instances; cancels other hooks.
    Abandon,
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Verdict::Continue => "CONTINUE",
            Verdict::Abandon => "ABANDON",
        })
    }
}

/// One terminating hook of the group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HookInfo {
    /// `LifecycleHookName`.
    pub name: String,
    /// `HeartbeatTimeout`.
    pub heartbeat: Duration,
    /// `GlobalTimeout`.
    pub global: Duration,
}

/// An answer and the text behind it.
#[derive(Clone, Debug)]
pub struct Reply {
    /// How to understand it.
    pub answer: Answer,
    /// What AWS or the connection said.
    pub text: String,
}

/// The client for one instance.
#[derive(Clone, Debug)]
pub struct Hooks {
    client: Client,
    instance: String,
}

impl Hooks {
    /// Calls about `instance`.
    pub fn new(client: Client, instance: &str) -> Hooks {
        Hooks {
            client,
            instance: instance.to_owned(),
        }
    }

    /// `CompleteLifecycleAction`.
    pub async fn complete(&self, action: &Action, verdict: Verdict) -> Reply {
        let request = self
            .client
            .complete_lifecycle_action()
            .auto_scaling_group_name(&action.group)
            .lifecycle_hook_name(&action.hook)
            .set_lifecycle_action_token(action.token.clone())
            .lifecycle_action_result(verdict.to_string())
            .instance_id(&self.instance);
        reply(request.send().await)
    }

    /// `RecordLifecycleActionHeartbeat`.
    pub async fn heartbeat(&self, action: &Action) -> Reply {
        let request = self
            .client
            .record_lifecycle_action_heartbeat()
            .auto_scaling_group_name(&action.group)
            .lifecycle_hook_name(&action.hook)
            .set_lifecycle_action_token(action.token.clone())
            .instance_id(&self.instance);
        reply(request.send().await)
    }

    /// Group and lifecycle state, from `DescribeAutoScalingInstances`.
    pub async fn whereabouts(&self) -> (Option<String>, State) {
        let request = self
            .client
            .describe_auto_scaling_instances()
            .instance_ids(&self.instance);
        match request.send().await {
            Ok(answer) => match answer.auto_scaling_instances().first() {
                Some(found) => (
                    found.auto_scaling_group_name().map(str::to_owned),
                    found
                        .lifecycle_state()
                        .map_or(State::Unknown, |state| State::Known(state.to_owned())),
                ),
                None => (None, State::Absent),
            },
            Err(error) => {
                tracing::debug!(error = %DisplayErrorContext(&error), "cannot ask for the lifecycle state");
                (None, State::Unknown)
            }
        }
    }

    /// The terminating hooks of `group`; an error where we may not look.
    pub async fn terminating(&self, group: &str) -> anyhow::Result<Vec<HookInfo>> {
        let request = self
            .client
            .describe_lifecycle_hooks()
            .auto_scaling_group_name(group);
        let answer = request.send().await;
        let answer = answer.map_err(|error| anyhow::anyhow!("{}", DisplayErrorContext(&error)))?;
        let seconds = |n: Option<i32>| {
            n.and_then(|n| u64::try_from(n).ok())
                .map(Duration::from_secs)
        };
        Ok(answer
            .lifecycle_hooks()
            .iter()
            .filter(|hook| hook.lifecycle_transition() == Some(TERMINATING))
            .filter_map(|hook| {
                let heartbeat =
                    seconds(hook.heartbeat_timeout()).unwrap_or(Duration::from_secs(30));
                Some(HookInfo {
                    name: hook.lifecycle_hook_name()?.to_owned(),
                    heartbeat,
                    global: seconds(hook.global_timeout()).unwrap_or_else(|| global(heartbeat)),
                })
            })
            .collect())
    }
}

/// The total wait that a heartbeat time-out allows: min(48 h, 100 × H).
pub fn global(heartbeat: Duration) -> Duration {
    (heartbeat * 100).min(Duration::from_secs(48 * 3600))
}

fn reply<T, E, R>(result: Result<T, SdkError<E, R>>) -> Reply
where
    E: ProvideErrorMetadata + std::error::Error + 'static,
    R: fmt::Debug + 'static,
    SdkError<E, R>: std::error::Error,
{
    match result {
        Ok(_) => Reply {
            answer: Answer::Accepted,
            text: String::new(),
        },
        Err(error) => {
            let service = error.as_service_error();
            let (code, message) = (
                service.and_then(|e| e.code()),
                service.and_then(|e| e.message()),
            );
            let answer = answer(code, message);
            let text = match (code, message) {
                (Some(code), message) => format!("{code}: {}", message.unwrap_or("no message")),
                _ => DisplayErrorContext(&error).to_string(),
            };
            Reply { answer, text }
        }
    }
}
