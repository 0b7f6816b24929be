//! The hook's state machine, on a clock that the tests hold.

use std::time::Duration;

use crate::support::ec2::autoscaling::{ActionName, AutoScaling, Effect, Group, Outcome};
use crate::support::ec2::hooks::{
    Delays, Destination, Hook, LifecycleResult, LifecycleState, Refused,
};

const ID: &str = "i-0aa11bb22cc33dd44";

fn at(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

/// A machine that waits 5 s for deregistration and has these hooks of 60 s.
fn machine(hooks: &[&str]) -> AutoScaling {
    let mut machine = AutoScaling {
        groups: vec![Group {
            name: "web".to_string(),
            hooks: hooks.iter().map(|name| Hook::new(name, at(60))).collect(),
            retain_on_abandon: false,
        }],
        delays: Delays {
            wait: at(5),
            ..Delays::default()
        },
        ..AutoScaling::default()
    };
    machine.launch(ID, "web");
    machine
}

fn name(hook: &str) -> ActionName {
    ActionName {
        group: "web".to_string(),
        hook: hook.to_string(),
        instance: Some(ID.to_string()),
        token: None,
    }
}

fn state(machine: &AutoScaling) -> LifecycleState {
    machine.instance(ID).expect("launched").state
}

fn no_active(result: Result<Vec<Effect>, Refused>) -> bool {
    result.is_err_and(|refused| {
        refused.code == "ValidationError"
            && refused
                .message
                .starts_with("No active Lifecycle Action found with instance ID")
    })
}

const CONTINUE: LifecycleResult = LifecycleResult::Continue;

#[test]
fn imds_announces_before_the_wait_and_the_letter_comes_after_it() {
    let mut machine = machine(&["drain"]);
    let effects = machine.terminate(ID, Destination::Ec2, at(0));
    assert!(effects.contains(&Effect::Announced {
        instance: ID.to_string()
    }));
    assert_eq!(state(&machine), LifecycleState::Terminating);
    assert_eq!(machine.step(at(4)), []);
    let effects = machine.step(at(6));
    assert_eq!(state(&machine), LifecycleState::TerminatingWait);
    let Some(Effect::Notify { token, .. }) = effects.last() else {
        panic!("no notification in {effects:?}");
    };
    assert_eq!(token.len(), 36);
}

#[test]
fn completion_is_refused_before_the_wait_and_after_the_end_with_the_same_words() {
    let mut machine = machine(&["drain"]);
    assert!(no_active(machine.complete(&name("drain"), CONTINUE, at(0))));
    machine.terminate(ID, Destination::Ec2, at(0));
    assert!(no_active(machine.complete(&name("drain"), CONTINUE, at(4))));
    machine
        .complete(&name("drain"), CONTINUE, at(6))
        .expect("the wait is on");
    assert_eq!(state(&machine), LifecycleState::TerminatingProceed);
    assert!(no_active(machine.complete(&name("drain"), CONTINUE, at(6))));
    machine.step(at(7));
    assert_eq!(state(&machine), LifecycleState::Terminated);
}

#[test]
fn a_heartbeat_restarts_the_clock_and_its_absence_ends_the_wait() {
    let mut machine = machine(&["drain"]);
    machine.terminate(ID, Destination::Ec2, at(0));
    machine.step(at(5));
    machine
        .heartbeat(&name("drain"), at(50))
        .expect("the wait is on");
    assert_eq!(machine.step(at(109)), []);
    let effects = machine.step(at(110));
    assert!(effects.iter().any(|effect| matches!(
        effect,
        Effect::Ended {
            outcome: Outcome::TimedOut(LifecycleResult::Continue),
            ..
        }
    )));
    assert!(no_active(machine.heartbeat(&name("drain"), at(111))));
}

#[test]
fn heartbeats_do_not_reach_beyond_the_global_timeout() {
    let mut machine = machine(&["drain"]);
    machine.groups[0].hooks[0].global_timeout = Some(at(100));
    machine.terminate(ID, Destination::Ec2, at(0));
    for second in (6..=104).step_by(10) {
        machine
            .heartbeat(&name("drain"), at(second))
            .expect("within G");
    }
    machine.step(at(105));
    assert_eq!(state(&machine), LifecycleState::TerminatingProceed);
}

#[test]
fn the_global_timeout_is_a_hundred_heartbeats_and_at_most_two_days() {
    assert_eq!(Hook::new("a", at(30)).global_timeout(), at(3000));
    assert_eq!(Hook::new("a", at(7200)).global_timeout(), at(48 * 3600));
}

#[test]
fn every_hook_must_be_completed_and_abandon_cancels_the_others() {
    let mut both = machine(&["drain", "other"]);
    both.terminate(ID, Destination::Ec2, at(0));
    both.complete(&name("drain"), CONTINUE, at(6))
        .expect("open");
    assert_eq!(state(&both), LifecycleState::TerminatingWait);
    both.complete(&name("other"), CONTINUE, at(7))
        .expect("open");
    assert_eq!(state(&both), LifecycleState::TerminatingProceed);

    let mut one = machine(&["drain", "other"]);
    one.terminate(ID, Destination::Ec2, at(0));
    one.complete(&name("drain"), LifecycleResult::Abandon, at(6))
        .expect("open");
    assert_eq!(state(&one), LifecycleState::TerminatingProceed);
    assert!(no_active(one.complete(&name("other"), CONTINUE, at(7))));
}

#[test]
fn abandon_keeps_the_instance_only_under_the_retain_policy() {
    let mut machine = machine(&["drain"]);
    machine.groups[0].retain_on_abandon = true;
    machine.terminate(ID, Destination::Ec2, at(0));
    machine
        .complete(&name("drain"), LifecycleResult::Abandon, at(6))
        .expect("open");
    assert_eq!(state(&machine), LifecycleState::TerminatingRetained);
    assert_eq!(machine.next_due(), None);
}

#[test]
fn the_first_calls_after_the_wait_began_may_still_be_refused() {
    let mut machine = machine(&["drain"]);
    machine.delays.lagging_calls = 2;
    machine.terminate(ID, Destination::Ec2, at(0));
    assert!(no_active(machine.heartbeat(&name("drain"), at(6))));
    assert!(no_active(machine.complete(&name("drain"), CONTINUE, at(7))));
    machine
        .complete(&name("drain"), CONTINUE, at(8))
        .expect("the stores agree now");
}

#[test]
fn a_stale_token_fails_a_right_instance_id_which_is_assumed() {
    let mut machine = machine(&["drain"]);
    machine.terminate(ID, Destination::Ec2, at(0));
    let stale = ActionName {
        token: Some("5b6c7d8e-1f20-4a3b-9c4d-5e6f70819203".to_string()),
        ..name("drain")
    };
    let refused = machine
        .complete(&stale, CONTINUE, at(6))
        .expect_err("stale");
    assert!(
        refused.message.contains("with token 5b6c7d8e"),
        "{}",
        refused.message
    );
}

#[test]
fn an_unknown_hook_or_group_is_another_validation_error() {
    let mut machine = machine(&["drain"]);
    machine.terminate(ID, Destination::Ec2, at(0));
    let refused = machine
        .complete(&name("nobody"), CONTINUE, at(6))
        .expect_err("unknown");
    assert_eq!(refused.code, "ValidationError");
    assert!(!refused.message.contains("No active Lifecycle Action"));
}

#[test]
fn a_deleted_hook_lets_the_instance_go() {
    let mut machine = machine(&["drain"]);
    machine.terminate(ID, Destination::Ec2, at(0));
    machine.step(at(6));
    machine.delete_hook("web", "drain", at(7));
    assert_eq!(state(&machine), LifecycleState::TerminatingProceed);
}

#[test]
fn a_return_to_the_warm_pool_passes_the_hook_and_does_not_end_in_death() {
    let mut machine = machine(&["drain"]);
    machine.terminate(ID, Destination::WarmPool, at(0));
    machine
        .complete(&name("drain"), CONTINUE, at(6))
        .expect("open");
    machine.step(at(7));
    assert_eq!(state(&machine), LifecycleState::WarmedStopped);
}
