//! The words of Auto Scaling: hooks, results, states, delays. [`super::autoscaling`] is the machine that uses them.
//!
//! Marks as in lifecycle.md: [D] documentation, [M] service model, [F] field report, [X] measured, [A] assumed.

use std::time::Duration;

/// A hook of type `autoscaling:EC2_INSTANCE_TERMINATING`.
#[derive(Clone, Debug)]
pub struct Hook {
    /// `LifecycleHookName`, `[A-Za-z0-9\-_\/]`, 1–255 [M].
    pub name: String,
    /// H: without a heartbeat for this long the default result applies. 30–7200 s at AWS [M]; tests may go below.
    pub heartbeat_timeout: Duration,
    /// G: the end whatever the heartbeats. `None`: min(48 h, 100 × H) [M].
    pub global_timeout: Option<Duration>,
    /// What a time-out counts as; `ABANDON` in the API [M].
    pub default_result: LifecycleResult,
    /// `NotificationMetadata`, only in messages if set [D].
    pub metadata: Option<String>,
    /// Whether the hook has a notification target.
    pub notifies: bool,
}

impl Hook {
    /// A hook as the seeds create it, with a target: H as given, default result `CONTINUE`.
    pub fn new(name: &str, heartbeat_timeout: Duration) -> Self {
        Self {
            name: name.to_string(),
            heartbeat_timeout,
            global_timeout: None,
            default_result: LifecycleResult::Continue,
            metadata: None,
            notifies: true,
        }
    }

    /// G with its default filled in.
    pub fn global_timeout(&self) -> Duration {
        let default = (self.heartbeat_timeout * 100).min(Duration::from_secs(48 * 3600));
        self.global_timeout.unwrap_or(default)
    }
}

/// `LifecycleActionResult`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LifecycleResult {
    /// Go on with the termination.
    Continue,
    /// For a termination the same, but the group's other hooks for the instance are cancelled; with the retain policy the
    /// instance is kept [D].
    Abandon,
}

impl LifecycleResult {
    /// The API's word.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Continue => "CONTINUE",
            Self::Abandon => "ABANDON",
        }
    }
}

/// `LifecycleState` of an instance, the part of the list [M] that a termination passes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LifecycleState {
    /// Running.
    InService,
    /// Chosen; connections drain [D].
    Terminating,
    /// Hooks hold it.
    TerminatingWait,
    /// Hooks are done.
    TerminatingProceed,
    /// Abandoned under the retain policy: keeps running.
    TerminatingRetained,
    /// Gone.
    Terminated,
    /// Left the group for a while.
    Standby,
    /// Left the group.
    Detached,
    /// Back in the warm pool.
    WarmedStopped,
}

impl LifecycleState {
    /// The API's word.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::InService => "InService",
            Self::Terminating => "Terminating",
            Self::TerminatingWait => "Terminating:Wait",
            Self::TerminatingProceed => "Terminating:Proceed",
            Self::TerminatingRetained => "Terminating:Retained",
            Self::Terminated => "Terminated",
            Self::Standby => "Standby",
            Self::Detached => "Detached",
            Self::WarmedStopped => "Warmed:Stopped",
        }
    }
}

/// Where a terminating instance goes: the message's `Destination` [D].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Destination {
    /// It dies.
    #[default]
    Ec2,
    /// It returns to the warm pool, and does not die.
    WarmPool,
}

/// How long AWS takes between the steps, in world time. None of these has been measured (lifecycle.md §13) [A].
#[derive(Clone, Copy, Debug)]
pub struct Delays {
    /// Decision to IMDS `Terminated`.
    pub metadata: Duration,
    /// Decision to `Terminating:Wait`: the deregistration from the load balancer [D]; IMDS already says `Terminated` [F].
    pub wait: Duration,
    /// `Terminating:Wait` to the message in the queue.
    pub notification: Duration,
    /// The last completion to `Terminated`.
    pub terminated: Duration,
    /// Calls that still get *No active Lifecycle Action* after `Terminating:Wait` (PrairieLearn #15586) [F].
    pub lagging_calls: u32,
}

impl Default for Delays {
    fn default() -> Self {
        Self {
            metadata: Duration::ZERO,
            wait: Duration::from_millis(200),
            notification: Duration::from_millis(50),
            terminated: Duration::from_millis(100),
            lagging_calls: 0,
        }
    }
}

/// An error as the Query protocol reports it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refused {
    /// HTTP status.
    pub status: u16,
    /// `Code`.
    pub code: String,
    /// `Message`.
    pub message: String,
}

impl Refused {
    /// 400 `ValidationError` with a text.
    pub fn validation(message: impl Into<String>) -> Self {
        Self {
            status: 400,
            code: "ValidationError".to_string(),
            message: message.into(),
        }
    }
}
