//! The queue's rules about handles, visibility and receive counts.

use std::time::Duration;

use crate::support::ec2::notification::{Notification, TERMINATING, Wrapper, test_notification};
use crate::support::ec2::queue::{Queue, Receipt};

fn at(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

fn queue() -> Queue {
    let mut queue = Queue::new("my-hook");
    queue.send("letter", 0, at(0));
    queue
}

fn receive(queue: &mut Queue, now: Duration) -> Vec<Receipt> {
    queue.receive(10, at(30), 0, now)
}

#[test]
fn a_received_message_is_hidden_until_its_visibility_ends() {
    let mut queue = queue();
    assert_eq!(receive(&mut queue, at(0)).len(), 1);
    assert_eq!(receive(&mut queue, at(29)).len(), 0);
    assert_eq!(queue.next_visible(at(29)), Some(at(30)));
    let again = receive(&mut queue, at(30));
    assert_eq!(again[0].message.receives, 2);
}

#[test]
fn a_handle_of_an_earlier_receive_succeeds_and_deletes_nothing() {
    let mut queue = queue();
    let old = receive(&mut queue, at(0)).remove(0);
    let new = receive(&mut queue, at(30)).remove(0);
    assert_eq!(queue.delete(&old.handle), Ok(None));
    assert_eq!(queue.messages().count(), 1);
    assert!(queue.delete(&new.handle).is_ok_and(|gone| gone.is_some()));
    assert_eq!(queue.messages().count(), 0);
    assert_eq!(
        queue.delete(&new.handle),
        Ok(None),
        "deleting twice is harmless"
    );
}

#[test]
fn what_is_no_handle_is_refused() {
    let refused = queue().delete("nonsense").expect_err("not a handle");
    assert_eq!(refused.code, "ReceiptHandleIsInvalid");
}

#[test]
fn a_message_given_back_is_visible_at_once_and_cannot_be_given_back_twice() {
    let mut queue = queue();
    let receipt = receive(&mut queue, at(0)).remove(0);
    queue
        .change_visibility(&receipt.handle, at(0), at(1))
        .expect("in flight");
    let refused = queue.change_visibility(&receipt.handle, at(0), at(1));
    assert_eq!(refused.expect_err("visible").code, "MessageNotInflight");
    assert_eq!(receive(&mut queue, at(1)).len(), 1);
}

#[test]
fn a_redrive_policy_takes_a_message_after_its_receives() {
    let mut queue = queue();
    queue.max_receives = Some(2);
    receive(&mut queue, at(0));
    receive(&mut queue, at(30));
    assert_eq!(receive(&mut queue, at(60)).len(), 0);
    assert_eq!(queue.dead.len(), 1);
}

#[test]
fn a_forgotten_delete_delivers_once_more() {
    let mut queue = queue();
    queue.next_delete_is_forgotten = true;
    let receipt = receive(&mut queue, at(0)).remove(0);
    assert!(
        queue
            .delete(&receipt.handle)
            .is_ok_and(|gone| gone.is_some())
    );
    assert_eq!(receive(&mut queue, at(30)).len(), 1);
}

#[test]
fn every_wrapper_holds_the_same_facts() {
    let notification = Notification {
        group: "web blue".to_string(),
        hook: "drain-logs".to_string(),
        instance: "i-0aa11bb22cc33dd44".to_string(),
        token: "5b6c7d8e-1f20-4a3b-9c4d-5e6f70819203".to_string(),
        metadata: Some("{\"env\":\"prod\"}".to_string()),
        destination: Default::default(),
        transition: TERMINATING,
        region: "ap-northeast-1".to_string(),
        time: "2026-03-01T09:15:42.118Z".parse().expect("a time"),
    };
    let parse = |body: &str| -> serde_json::Value { serde_json::from_str(body).expect("JSON") };
    let inner_of = |wrapper| {
        let mut body = parse(&notification.body(wrapper));
        while let Some(message) = body["Message"].as_str() {
            body = parse(message);
        }
        if body["detail"].is_object() {
            body["detail"].take()
        } else {
            body
        }
    };
    for wrapper in [
        Wrapper::Direct,
        Wrapper::EventBridge,
        Wrapper::EventBridgeDetail,
        Wrapper::Sns,
        Wrapper::SnsEventBridge,
        Wrapper::SnsRaw,
    ] {
        let inner = inner_of(wrapper);
        assert_eq!(inner["EC2InstanceId"], "i-0aa11bb22cc33dd44", "{wrapper:?}");
        assert_eq!(
            inner["LifecycleActionToken"], notification.token,
            "{wrapper:?}"
        );
        assert_eq!(
            inner["NotificationMetadata"], "{\"env\":\"prod\"}",
            "{wrapper:?}"
        );
    }
    let direct = inner_of(Wrapper::Direct);
    assert_eq!(direct["Time"], "2026-03-01T09:15:42.118Z");
    assert_eq!(
        parse(&test_notification("web", "eu-west-1")).get("EC2InstanceId"),
        None
    );
}
