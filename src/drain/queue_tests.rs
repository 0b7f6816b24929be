use super::*;
use proptest::prelude::*;
use serde_json::json;

const ID: &str = "i-0aa11bb22cc33dd44";

fn now() -> Timestamp {
    "2026-03-01T09:16:00Z".parse().expect("a time")
}

fn letter(message: &str, about: &str, time: &str) -> Message {
    let body = json!({"LifecycleTransition":"autoscaling:EC2_INSTANCE_TERMINATING","EC2InstanceId":about,
        "LifecycleHookName":"drain","AutoScalingGroupName":"web","Time":time});
    Message {
        id: message.to_owned(),
        handle: format!("handle of {message}"),
        body: body.to_string(),
    }
}

fn foreign(message: &str) -> Message {
    letter(message, "i-other", "2026-03-01T09:15:42Z")
}

#[test]
fn foreign_letters_go_back_at_once_and_stay_hidden_at_the_second_sight() {
    let mut rules = Rules::new(Polling::AfterDoorbell);
    let first = rules.scan(&[foreign("a"), foreign("b")], ID, now(), 0.5);
    assert_eq!(first.give_back, ["handle of a", "handle of b"]);
    assert_eq!((first.left, first.pause), (0, Duration::ZERO));
    let second = rules.scan(&[foreign("a")], ID, now(), 0.5);
    assert_eq!((second.give_back.len(), second.left), (0, 1));
    assert_eq!(second.pause, Duration::from_millis(1250));
}

#[test]
fn stale_letters_of_dead_instances_do_not_spin() {
    let mut rules = Rules::new(Polling::AfterDoorbell);
    let old = letter("a", "i-other", "2026-02-20T00:00:00Z");
    let round = rules.scan(&[old], ID, now(), 0.0);
    assert!(round.give_back.is_empty() && round.delete.is_empty());
    assert!(round.pause >= Duration::from_millis(500));
}

#[test]
fn our_letter_is_found_among_foreign_ones_and_the_others_still_go_back() {
    let mut rules = Rules::new(Polling::Always);
    let ours = letter("mine", ID, "2026-03-01T09:15:42Z");
    let round = rules.scan(&[foreign("a"), ours, foreign("b")], ID, now(), 0.5);
    assert!(matches!(&round.found[..], [Found::Letter(received)] if received.message_id == "mine"));
    assert_eq!(round.give_back.len(), 2);
    assert!(round.delete.is_empty());
}

#[test]
fn a_letter_that_was_answered_is_only_deleted() {
    let mut rules = Rules::new(Polling::Always);
    rules.handled("mine");
    let round = rules.scan(
        &[letter("mine", ID, "2026-03-01T09:15:42Z")],
        ID,
        now(),
        0.5,
    );
    assert!(round.found.is_empty());
    assert_eq!(round.delete, ["handle of mine"]);
}

#[test]
fn who_polls_always_slows_down_to_fifteen_seconds_in_a_crowd() {
    let mut rules = Rules::new(Polling::Always);
    let mut pauses = Vec::new();
    for n in 0..20 {
        pauses.push(rules.scan(&[foreign(&n.to_string())], ID, now(), 0.0).pause);
    }
    assert_eq!(pauses[0], Duration::from_secs(1));
    assert!(pauses.windows(2).all(|pair| pair[0] <= pair[1]));
    assert_eq!(pauses[19], Duration::from_secs(15));
    assert_eq!(rules.scan(&[], ID, now(), 0.0).pause, Duration::ZERO);
}

proptest! {
    #[test]
    fn no_history_deletes_or_keeps_two_ways_a_foreign_message(
        history in proptest::collection::vec(proptest::collection::vec((0u8..20, any::<bool>()), 0..10), 0..30),
        always in any::<bool>(),
    ) {
        let mut rules = Rules::new(if always { Polling::Always } else { Polling::AfterDoorbell });
        for messages in history {
            let messages: Vec<Message> = messages.iter().map(|(n, ours)| match ours {
                true => letter(&format!("o{n}"), ID, "2026-03-01T09:15:42Z"),
                false => foreign(&format!("f{n}")),
            }).collect();
            let round = rules.scan(&messages, ID, now(), 0.3);
            prop_assert!(round.delete.is_empty());
            prop_assert_eq!(round.found.len() + round.give_back.len() + round.left, messages.len());
            prop_assert!(round.give_back.iter().all(|handle| handle.starts_with("handle of f")));
            prop_assert!(round.pause <= Duration::from_secs(15));
        }
    }
}
