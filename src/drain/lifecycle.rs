//! What an answer of Auto Scaling means and what to do next (lifecycle.md §2.1). Pure: `hook` makes the calls.
//!
//! The hard case is *No active Lifecycle Action found*, which means "not yet" as well as "already over": never success by
//! itself.

use std::time::Duration;

/// How an answer is to be understood.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// 200.
    Accepted,
    /// *No active Lifecycle Action found*: too early, or already over.
    NoActiveAction,
    /// Another `ValidationError`: a group or hook of that name does not exist, a value is wrong.
    Invalid,
    /// The account's bucket is empty, or the group is being changed.
    Busy,
    /// The policy does not allow it.
    Denied,
    /// Credentials are old or unknown.
    Credentials,
    /// 5xx, time-outs, resets, bodies that are no XML.
    Weather,
}

/// Reads the error `code` and `message` of an answer; no code is weather.
pub fn answer(code: Option<&str>, message: Option<&str>) -> Answer {
    match code.unwrap_or_default() {
        "ValidationError"
            if message.is_some_and(|text| text.contains("No active Lifecycle Action")) =>
        {
            Answer::NoActiveAction
        }
        "ValidationError" => Answer::Invalid,
        "Throttling" | "ThrottlingException" | "RequestLimitExceeded" | "ResourceContention" => {
            Answer::Busy
        }
        "AccessDenied" | "AccessDeniedException" | "UnauthorizedOperation" => Answer::Denied,
        "ExpiredToken" | "InvalidClientTokenId" | "UnrecognizedClientException" => {
            Answer::Credentials
        }
        _ => Answer::Weather,
    }
}

/// How long to wait before the try number `attempt` (from 1) after an answer. `chance` in 0..1 spreads the fleet.
pub fn pause(answer: Answer, attempt: u32, chance: f64) -> Duration {
    match answer {
        Answer::NoActiveAction => Duration::from_secs(5),
        Answer::Denied => Duration::from_secs(30),
        // Credentials are fetched again by the SDK: the first retry is immediate.
        Answer::Credentials if attempt <= 1 => Duration::ZERO,
        _ => {
            let ceiling = 0.5 * f64::from(2u32.saturating_pow(attempt.min(16)));
            Duration::from_secs_f64(ceiling.min(10.0) * (0.5 + chance.clamp(0.0, 1.0) / 2.0))
        }
    }
}

/// Where the group says that this instance is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum State {
    /// `LifecycleState`.
    Known(String),
    /// Not in the list: gone, or never in a group.
    Absent,
    /// The call failed or is not permitted.
    Unknown,
}

/// What to do about *No active Lifecycle Action*.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// Try again in a few seconds.
    Again,
    /// Somebody else finished it: as good as released.
    Released,
    /// Abandoned and kept alive: stop the heartbeats, keep running, keep delivering.
    Retained,
    /// The termination was called off.
    CalledOff,
}

/// How long a state that cannot be asked for is waited for before it counts as released.
const BLIND: Duration = Duration::from_secs(60);
/// How long both stores must say `InService` before the termination counts as called off.
const CALLED_OFF: Duration = Duration::from_secs(120);

/// The state table. `tried` is how long this answer has been coming; `back_in_service` how long instance metadata has said
/// `InService` again.
pub fn no_active_action(state: &State, tried: Duration, back_in_service: Option<Duration>) -> Next {
    match state {
        State::Known(state) => match state.as_str() {
            "Terminating:Proceed"
            | "Terminated"
            | "Warmed:Terminated"
            | "Warmed:Terminating:Proceed" => Next::Released,
            "Terminating:Retained" | "Warmed:Terminating:Retained" => Next::Retained,
            "Standby" | "Detached" => Next::CalledOff,
            "InService" if back_in_service.is_some_and(|since| since >= CALLED_OFF) => {
                Next::CalledOff
            }
            _ => Next::Again,
        },
        State::Absent => Next::Released,
        State::Unknown if tried >= BLIND => Next::Released,
        State::Unknown => Next::Again,
    }
}

/// Whether the group itself says that this instance terminates: a witness (§5.3).
pub fn is_terminating(state: &State) -> bool {
    matches!(state, State::Known(state) if state.starts_with("Terminat") || state.starts_with("Warmed:Terminat"))
}

/// What instance metadata's `target-lifecycle-state` asks for (§1.6).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Target {
    /// The group decided to terminate this instance.
    Terminate,
    /// It returns to the warm pool: drain and complete, but it does not die.
    WarmPool,
    /// Nothing to do.
    Stay,
    /// A word that did not exist when this was written: told once.
    New,
}

/// Reads the word.
pub fn target(word: &str) -> Target {
    match word {
        "Terminated" | "Warmed:Terminated" => Target::Terminate,
        "Warmed:Stopped" | "Warmed:Hibernated" | "Warmed:Running" => Target::WarmPool,
        "InService" | "Standby" | "Detached" => Target::Stay,
        _ => Target::New,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn known(state: &str) -> State {
        State::Known(state.to_owned())
    }

    #[test]
    fn answers_are_read_by_code_and_message() {
        let table = [
            (
                Some("ValidationError"),
                Some("No active Lifecycle Action found with instance ID i-1"),
                Answer::NoActiveAction,
            ),
            (
                Some("ValidationError"),
                Some("AutoScalingGroup name not found"),
                Answer::Invalid,
            ),
            (Some("Throttling"), Some("Rate exceeded"), Answer::Busy),
            (Some("ResourceContention"), None, Answer::Busy),
            (
                Some("AccessDenied"),
                Some("User is not authorized"),
                Answer::Denied,
            ),
            (Some("ExpiredToken"), None, Answer::Credentials),
            (Some("InternalFailure"), None, Answer::Weather),
            (None, None, Answer::Weather),
        ];
        for (code, message, expected) in table {
            assert_eq!(answer(code, message), expected, "{code:?} {message:?}");
        }
    }

    #[test]
    fn no_active_action_is_decided_by_the_state() {
        let soon = Duration::from_secs(1);
        let late = Duration::from_secs(61);
        let table = [
            (known("Terminating"), late, None, Next::Again),
            (known("Terminating:Wait"), late, None, Next::Again),
            (known("Warmed:Terminating:Wait"), late, None, Next::Again),
            (known("InService"), late, None, Next::Again),
            (
                known("InService"),
                late,
                Some(Duration::from_secs(119)),
                Next::Again,
            ),
            (
                known("InService"),
                late,
                Some(Duration::from_secs(120)),
                Next::CalledOff,
            ),
            (known("Terminating:Proceed"), soon, None, Next::Released),
            (known("Terminated"), soon, None, Next::Released),
            (State::Absent, soon, None, Next::Released),
            (known("Terminating:Retained"), soon, None, Next::Retained),
            (known("Standby"), soon, None, Next::CalledOff),
            (known("Detached"), soon, None, Next::CalledOff),
            (State::Unknown, soon, None, Next::Again),
            (State::Unknown, late, None, Next::Released),
        ];
        for (state, tried, back, expected) in table {
            assert_eq!(
                no_active_action(&state, tried, back),
                expected,
                "{state:?} {tried:?} {back:?}"
            );
        }
    }

    #[test]
    fn only_the_groups_own_word_is_a_witness() {
        assert!(is_terminating(&known("Terminating:Wait")));
        assert!(is_terminating(&known("Warmed:Terminating:Wait")));
        assert!(!is_terminating(&known("InService")));
        assert!(!is_terminating(&State::Absent));
        assert!(!is_terminating(&State::Unknown));
    }

    #[test]
    fn the_bell_rings_for_death_and_for_the_warm_pool() {
        assert_eq!(target("Terminated"), Target::Terminate);
        assert_eq!(target("Warmed:Terminated"), Target::Terminate);
        assert_eq!(target("Warmed:Stopped"), Target::WarmPool);
        assert_eq!(target("InService"), Target::Stay);
        assert_eq!(target("Elsewhere"), Target::New);
    }

    proptest! {
        #[test]
        fn pauses_are_bounded(attempt in 0u32..10_000, chance in 0.0f64..1.0) {
            for kind in [Answer::Busy, Answer::Weather, Answer::Invalid, Answer::Credentials] {
                prop_assert!(pause(kind, attempt, chance) <= Duration::from_secs(10));
            }
        }

        #[test]
        fn a_terminating_instance_is_never_given_up(tried in 0u64..100_000, back in proptest::option::of(0u64..100_000)) {
            let next = no_active_action(&known("Terminating:Wait"), Duration::from_secs(tried), back.map(Duration::from_secs));
            prop_assert_eq!(next, Next::Again);
        }
    }
}
