//! The bodies that Auto Scaling, EventBridge and SNS put into a queue (lifecycle.md §1.1 to §1.4).

use jiff::Timestamp;
use jiff::fmt::strtime;
use serde_json::{Value, json};

use super::hooks::Destination;

/// The account of the world.
pub const ACCOUNT: &str = "123456789012";

/// What lies around the message of a hook.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Wrapper {
    /// Hook → SQS: the bare object of §1.1 [D][F].
    #[default]
    Direct,
    /// EventBridge → SQS: §1.3 [D].
    EventBridge,
    /// EventBridge with the input path `$.detail` [D].
    EventBridgeDetail,
    /// Hook → SNS → SQS: the envelope of §1.4 [F].
    Sns,
    /// EventBridge → SNS → SQS: one envelope in the other.
    SnsEventBridge,
    /// Hook → SNS → SQS with raw message delivery: the same bytes as `Direct` [D].
    SnsRaw,
}

/// The facts of one hook's notification.
#[derive(Clone, Debug)]
pub struct Notification {
    /// `AutoScalingGroupName`
    pub group: String,
    /// `LifecycleHookName`
    pub hook: String,
    /// `EC2InstanceId`
    pub instance: String,
    /// `LifecycleActionToken`
    pub token: String,
    /// `NotificationMetadata`
    pub metadata: Option<String>,
    /// `Destination`
    pub destination: Destination,
    /// `LifecycleTransition`; a hook of a terminating instance unless a test says otherwise.
    pub transition: &'static str,
    /// Of the EventBridge form.
    pub region: String,
    /// When the wait began.
    pub time: Timestamp,
}

/// The transition that matters.
pub const TERMINATING: &str = "autoscaling:EC2_INSTANCE_TERMINATING";
/// The one that never does.
pub const LAUNCHING: &str = "autoscaling:EC2_INSTANCE_LAUNCHING";

impl Notification {
    /// The body of the SQS message.
    pub fn body(&self, wrapper: Wrapper) -> String {
        match wrapper {
            Wrapper::Direct | Wrapper::SnsRaw => self.direct(),
            Wrapper::EventBridge => self.event_bridge(),
            Wrapper::EventBridgeDetail => self.detail(),
            Wrapper::Sns => self.sns(&self.direct()),
            Wrapper::SnsEventBridge => self.sns(&self.event_bridge()),
        }
        .to_string()
    }

    fn direct(&self) -> Value {
        let mut body = self.detail();
        body["Service"] = json!("AWS Auto Scaling");
        body["Time"] = json!(milliseconds(self.time));
        body["RequestId"] = json!(uuid());
        body["AccountId"] = json!(ACCOUNT);
        body
    }

    fn detail(&self) -> Value {
        let mut detail = json!({
            "LifecycleActionToken": self.token,
            "AutoScalingGroupName": self.group,
            "LifecycleHookName": self.hook,
            "EC2InstanceId": self.instance,
            "LifecycleTransition": self.transition,
            "Origin": "AutoScalingGroup",
            "Destination": match self.destination {
                Destination::Ec2 => "EC2",
                Destination::WarmPool => "WarmPool",
            },
        });
        if let Some(metadata) = &self.metadata {
            detail["NotificationMetadata"] = json!(metadata);
        }
        detail
    }

    fn event_bridge(&self) -> Value {
        let detail_type = match self.transition {
            LAUNCHING => "EC2 Instance-launch Lifecycle Action",
            _ => "EC2 Instance-terminate Lifecycle Action",
        };
        json!({
            "version": "0",
            "id": uuid(),
            "detail-type": detail_type,
            "source": "aws.autoscaling",
            "account": ACCOUNT,
            "time": seconds(self.time),
            "region": self.region,
            "resources": [group_arn(&self.region, &self.group)],
            "detail": self.detail(),
        })
    }

    fn sns(&self, inner: &Value) -> Value {
        json!({
            "Type": "Notification",
            "MessageId": uuid(),
            "TopicArn": format!("arn:aws:sns:{}:{ACCOUNT}:hooks", self.region),
            "Subject": format!("Auto Scaling:  Lifecycle action 'TERMINATING' for instance {} in progress.", self.instance),
            "Message": inner.to_string(),
            "Timestamp": milliseconds(self.time),
            "SignatureVersion": "1",
            "Signature": "EXAMPLE",
            "SigningCertURL": "https://sns.example.com/cert.pem",
            "UnsubscribeURL": "https://sns.example.com/unsubscribe",
        })
    }
}

/// `autoscaling:TEST_NOTIFICATION`: sent once when a hook with a target is put, addressed to nobody (§1.2) [D].
pub fn test_notification(group: &str, region: &str) -> String {
    json!({
        "Event": "autoscaling:TEST_NOTIFICATION",
        "Service": "AWS Auto Scaling",
        "Time": milliseconds(Timestamp::now()),
        "RequestId": uuid(),
        "AccountId": ACCOUNT,
        "AutoScalingGroupName": group,
        "AutoScalingGroupARN": group_arn(region, group),
    })
    .to_string()
}

/// The ARN of a group.
pub fn group_arn(region: &str, group: &str) -> String {
    format!(
        "arn:aws:autoscaling:{region}:{ACCOUNT}:autoScalingGroup:aaaaaaaa-bbbb-4ccc-8ddd-eeeeeeeeeeee:autoScalingGroupName/{group}"
    )
}

/// `2026-03-01T09:15:42.118Z`
pub fn milliseconds(time: Timestamp) -> String {
    strtime::format("%Y-%m-%dT%H:%M:%S%.3fZ", time).expect("the format is right")
}

/// `2026-03-01T09:15:42Z`
pub fn seconds(time: Timestamp) -> String {
    strtime::format("%Y-%m-%dT%H:%M:%SZ", time).expect("the format is right")
}

/// A random version 4 UUID: 36 characters, as tokens and request ids have.
pub fn uuid() -> String {
    let bits = fastrand::u128(..);
    format!(
        "{:08x}-{:04x}-4{:03x}-{:x}{:03x}-{:012x}",
        (bits >> 96) as u32,
        (bits >> 80) as u16,
        (bits >> 64) & 0xfff,
        8 | ((bits >> 62) & 0x3),
        (bits >> 50) & 0xfff,
        bits & 0xffff_ffff_ffff
    )
}
