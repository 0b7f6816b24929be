//! What a queue message is: ours, somebody else's, a test, or nothing that we know (lifecycle.md §1). Pure.
//!
//! Takes a body and our instance id, and answers what to do with the message; `queue` does it. A message is only ever a
//! reason to start harmless work: it can be forged or stale, so it is never a witness (§5.3).

use jiff::{SignedDuration, Timestamp};
use serde_json::{Map, Value};

/// How often an envelope may lie in an envelope (EventBridge in SNS in SNS).
const LEVELS: usize = 3;
/// What a spot interruption warning gives us.
const SPOT_NOTICE: SignedDuration = SignedDuration::from_secs(120);

/// A lifecycle action on this instance, as a message tells it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Letter {
    /// `AutoScalingGroupName`.
    pub group: Option<String>,
    /// `LifecycleHookName`.
    pub hook: Option<String>,
    /// `LifecycleActionToken`, only where it has its 36 characters.
    pub token: Option<String>,
    /// `Time`: when the wait began.
    pub time: Option<Timestamp>,
    /// `Destination` is the warm pool: the instance does not die.
    pub warm_pool: bool,
}

/// What a message is and what that asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// A termination of this instance: start the drain, delete the message at its very end.
    Ours(Letter),
    /// A spot interruption of this instance: `action` at about `time`.
    OurSpot {
        /// `terminate`, `stop` or `hibernate`.
        action: String,
        /// When.
        time: Option<Timestamp>,
    },
    /// About another instance, or about a launch: give it back, never delete it.
    Foreign {
        /// When it was written, if it says so.
        time: Option<Timestamp>,
    },
    /// `autoscaling:TEST_NOTIFICATION`, addressed to nobody: delete it, or it comes back for ever.
    Test,
    /// Nothing that we understand: leave it, count it. The text says what it looked like.
    Leave(&'static str),
}

/// Classifies one message body for the instance `id`.
pub fn classify(body: &str, id: &str) -> Verdict {
    let mut text = body.to_owned();
    for _ in 0..=LEVELS {
        let Ok(Value::Object(object)) = serde_json::from_str(&text) else {
            return Verdict::Leave("not a JSON object");
        };
        match (string(&object, "Type"), string(&object, "Message")) {
            (Some("Notification"), Some(inner)) => text = inner.to_owned(),
            (Some("SubscriptionConfirmation"), _) => {
                return Verdict::Leave("a subscription that waits for its confirmation");
            }
            _ => return classify_inner(&object, id),
        }
    }
    Verdict::Leave("too many envelopes")
}

fn classify_inner(object: &Map<String, Value>, id: &str) -> Verdict {
    if let Some(event) = string(object, "Event") {
        return match event {
            "autoscaling:TEST_NOTIFICATION" => Verdict::Test,
            _ if event.starts_with("autoscaling:EC2_INSTANCE_") => {
                Verdict::Leave("a group notification, sent after the fact")
            }
            _ => Verdict::Leave("an unknown event"),
        };
    }
    let bridged = object.contains_key("detail-type") || object.contains_key("source");
    let detail = match object.get("detail") {
        Some(Value::Object(detail)) if bridged => detail,
        _ => object,
    };
    let time = string(object, "time")
        .or_else(|| string(detail, "Time"))
        .and_then(|text| text.parse().ok());
    match string(detail, "LifecycleTransition") {
        Some("autoscaling:EC2_INSTANCE_TERMINATING") => lifecycle(detail, time, id),
        Some("autoscaling:EC2_INSTANCE_LAUNCHING") => Verdict::Foreign { time },
        Some(_) => Verdict::Leave("an unknown lifecycle transition"),
        None => spot(object, detail, time, id),
    }
}

fn lifecycle(detail: &Map<String, Value>, time: Option<Timestamp>, id: &str) -> Verdict {
    let about = string(detail, "EC2InstanceId").or_else(|| string(detail, "instance-id"));
    match about {
        Some(about) if about == id => Verdict::Ours(Letter {
            group: string(detail, "AutoScalingGroupName").map(str::to_owned),
            hook: string(detail, "LifecycleHookName").map(str::to_owned),
            token: string(detail, "LifecycleActionToken")
                .filter(|token| token.len() == 36)
                .map(str::to_owned),
            time,
            warm_pool: string(detail, "Destination") == Some("WarmPool"),
        }),
        Some(_) => Verdict::Foreign { time },
        None => Verdict::Leave("a lifecycle transition without an instance"),
    }
}

fn spot(
    object: &Map<String, Value>,
    detail: &Map<String, Value>,
    time: Option<Timestamp>,
    id: &str,
) -> Verdict {
    match (string(object, "detail-type"), string(detail, "instance-id")) {
        (Some("EC2 Spot Instance Interruption Warning"), Some(about)) if about == id => {
            Verdict::OurSpot {
                action: string(detail, "instance-action")
                    .unwrap_or("terminate")
                    .to_owned(),
                time: time.and_then(|time| time.checked_add(SPOT_NOTICE).ok()),
            }
        }
        (Some("EC2 Spot Instance Interruption Warning"), Some(_)) => Verdict::Foreign { time },
        (Some("EC2 Instance Rebalance Recommendation"), _) => {
            Verdict::Leave("a rebalance recommendation: higher risk, no termination")
        }
        _ => Verdict::Leave("unknown"),
    }
}

fn string<'a>(object: &'a Map<String, Value>, key: &str) -> Option<&'a str> {
    object.get(key)?.as_str()
}

#[cfg(test)]
#[path = "classifier_tests.rs"]
mod tests;
