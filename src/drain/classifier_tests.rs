use super::*;
use proptest::prelude::*;
use serde_json::json;

const ID: &str = "i-0aa11bb22cc33dd44";
const TOKEN: &str = "5b6c7d8e-1f20-4a3b-9c4d-5e6f70819203";

fn direct(id: &str) -> Value {
    json!({"Service":"AWS Auto Scaling","Time":"2026-03-01T09:15:42.118Z","RequestId":"0a4b1f52-9d3e-4c17-b0a2-5f6e7d8c9b10",
        "AccountId":"123456789012","AutoScalingGroupName":"web blue","LifecycleHookName":"drain-logs",
        "LifecycleTransition":"autoscaling:EC2_INSTANCE_TERMINATING","EC2InstanceId":id,
        "LifecycleActionToken":TOKEN,"Origin":"AutoScalingGroup","Destination":"EC2"})
}

fn bridged(detail_type: &str, detail: Value) -> Value {
    json!({"version":"0","id":"c0ffee00-1111-4222-8333-444455556666","detail-type":detail_type,
        "source":"aws.autoscaling","account":"123456789012","time":"2026-03-01T09:15:42Z","region":"ap-northeast-1",
        "resources":[],"detail":detail})
}

fn enveloped(inner: &Value) -> Value {
    json!({"Type":"Notification","MessageId":"9d0f3c1a-0000-5111-9222-333344445555","TopicArn":"arn:aws:sns:x:1:hooks",
        "Subject":"Auto Scaling:  Lifecycle action 'TERMINATING'","Message":inner.to_string(),"Signature":"…"})
}

fn ours(body: &Value) -> Letter {
    match classify(&body.to_string(), ID) {
        Verdict::Ours(letter) => letter,
        other => panic!("{other:?} for {body}"),
    }
}

#[test]
fn our_own_letter_is_recognised_in_every_wrapper() {
    let mut detail = direct(ID);
    detail.as_object_mut().expect("an object").remove("Time");
    let bridge = bridged("EC2 Instance-terminate Lifecycle Action", detail);
    let bodies = [
        direct(ID),
        enveloped(&direct(ID)),
        bridge.clone(),
        enveloped(&bridge),
        enveloped(&enveloped(&bridge)),
    ];
    for body in bodies {
        let letter = ours(&body);
        assert_eq!(letter.group.as_deref(), Some("web blue"));
        assert_eq!(letter.hook.as_deref(), Some("drain-logs"));
        assert_eq!(letter.token.as_deref(), Some(TOKEN));
        assert!(letter.time.is_some(), "{body}");
        assert!(!letter.warm_pool);
    }
}

#[test]
fn a_return_to_the_warm_pool_is_no_death() {
    let mut body = direct(ID);
    body["Destination"] = "WarmPool".into();
    assert!(ours(&body).warm_pool);
}

#[test]
fn a_token_of_another_length_is_not_used() {
    let mut body = direct(ID);
    body["LifecycleActionToken"] = "short".into();
    assert_eq!(ours(&body).token, None);
}

#[test]
fn other_instances_and_launches_are_foreign() {
    let other = direct("i-0aa11bb22cc33dd45");
    let mut launch = direct(ID);
    launch["LifecycleTransition"] = "autoscaling:EC2_INSTANCE_LAUNCHING".into();
    let longer = direct(&format!("{ID}0"));
    for body in [other.clone(), enveloped(&other), launch, longer] {
        assert!(matches!(
            classify(&body.to_string(), ID),
            Verdict::Foreign { time: Some(_) }
        ));
    }
}

#[test]
fn test_notifications_are_known_in_their_envelope_too() {
    let test = json!({"Event":"autoscaling:TEST_NOTIFICATION","Service":"AWS Auto Scaling","AutoScalingGroupName":"web"});
    assert_eq!(classify(&test.to_string(), ID), Verdict::Test);
    assert_eq!(classify(&enveloped(&test).to_string(), ID), Verdict::Test);
}

#[test]
fn a_spot_warning_leaves_two_minutes() {
    let detail = json!({"instance-id":ID,"instance-action":"terminate"});
    let body = bridged("EC2 Spot Instance Interruption Warning", detail);
    let Verdict::OurSpot { action, time } = classify(&body.to_string(), ID) else {
        panic!("a spot notice");
    };
    assert_eq!(action, "terminate");
    assert_eq!(time.expect("a time").to_string(), "2026-03-01T09:17:42Z");
}

#[test]
fn what_we_do_not_know_is_left_alone() {
    let bodies = [
        "key: value".to_owned(),
        "[]".to_owned(),
        "{}".to_owned(),
        String::new(),
        json!({"Type":"SubscriptionConfirmation","Message":"You have chosen"}).to_string(),
        json!({"Event":"autoscaling:EC2_INSTANCE_TERMINATE","EC2InstanceId":ID}).to_string(),
        json!({"LifecycleTransition":"autoscaling:EC2_INSTANCE_TERMINATING"}).to_string(),
        bridged(
            "EC2 Instance Rebalance Recommendation",
            json!({"instance-id":ID}),
        )
        .to_string(),
        enveloped(&Value::String("plain text".into())).to_string(),
    ];
    for body in bodies {
        assert!(matches!(classify(&body, ID), Verdict::Leave(_)), "{body}");
    }
}

fn json_value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        prop_oneof![Just(ID.to_owned()), ".{0,12}"].prop_map(Value::from),
        Just(Value::from("autoscaling:EC2_INSTANCE_TERMINATING")),
    ];
    let key = prop_oneof![
        Just("EC2InstanceId"),
        Just("LifecycleTransition"),
        Just("Event"),
        Just("Type"),
        Just("Message"),
        Just("detail"),
        Just("detail-type"),
        Just("instance-id"),
        Just("time"),
        Just("other"),
    ];
    leaf.prop_recursive(3, 24, 6, move |inner| {
        proptest::collection::vec((key.clone(), inner), 0..6).prop_map(|pairs| {
            Value::Object(
                pairs
                    .into_iter()
                    .map(|(key, value)| (key.to_owned(), value))
                    .collect(),
            )
        })
    })
}

proptest! {
    #[test]
    fn no_body_makes_us_panic(body in ".{0,200}") {
        classify(&body, ID);
    }

    #[test]
    fn nothing_is_ours_that_does_not_name_us(value in json_value()) {
        let body = value.to_string();
        let verdict = classify(&body, ID);
        if matches!(verdict, Verdict::Ours(_) | Verdict::OurSpot { .. }) {
            prop_assert!(body.contains(ID), "{}", body);
        }
        let is_ours = matches!(classify(&body, "i-somebody-else"), Verdict::Ours(_));
        prop_assert!(!is_ours);
    }

    #[test]
    fn unknown_keys_and_their_order_do_not_matter(extra in proptest::collection::btree_map("x[a-z]{1,8}", ".{0,10}", 0..8)) {
        let mut body = direct(ID);
        for (key, value) in extra {
            body[key] = value.into();
        }
        prop_assert_eq!(ours(&body), ours(&direct(ID)));
    }
}
