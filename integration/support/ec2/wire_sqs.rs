//! SQS's JSON protocol 1.0 in front of [`super::queue`] (lifecycle.md §2.2; names and limits [M]).

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use md5::{Digest, Md5};
use serde_json::{Value, json};

use super::hooks::Refused;
use super::http::{Answer, Request, Service, Site};
use super::notification::ACCOUNT;
use super::queue::Receipt;
use super::state::{Happening, Shared};

/// The queue service.
pub(super) struct SqsSite {
    pub shared: Arc<Shared>,
}

type Outcome = Result<Value, Refused>;

impl Site for SqsSite {
    const SERVICE: Service = Service::Sqs;

    fn operation(&self, request: &Request) -> String {
        let target = request.header("x-amz-target");
        target
            .strip_prefix("AmazonSQS.")
            .unwrap_or_default()
            .to_string()
    }

    async fn answer(&self, request: &Request) -> Answer {
        let operation = self.operation(request);
        match self.call(&operation, request).await {
            Ok(Value::Null) => json_answer(200, String::new()),
            Ok(body) => json_answer(200, body.to_string()),
            Err(refused) => self.refuse(&refused),
        }
    }

    /// The JSON name after `#`, and the old Query name in a header: clients match on either [M][X].
    fn refuse(&self, refused: &Refused) -> Answer {
        let query_name = match refused.code.as_str() {
            "QueueDoesNotExist" => "AWS.SimpleQueueService.NonExistentQueue",
            "MessageNotInflight" => "AWS.SimpleQueueService.MessageNotInflight",
            other => other,
        };
        let fault = if refused.status < 500 {
            "Sender"
        } else {
            "Receiver"
        };
        let kind = format!("com.amazonaws.sqs#{}", refused.code);
        let body = json!({"__type": kind, "message": refused.message});
        json_answer(refused.status, body.to_string())
            .with("x-amzn-query-error", &format!("{query_name};{fault}"))
    }
}

impl SqsSite {
    async fn call(&self, operation: &str, request: &Request) -> Outcome {
        if request.header("content-type") != "application/x-amz-json-1.0" {
            return Err(refused(
                "InvalidAction",
                "the content type is not application/x-amz-json-1.0",
            ));
        }
        let body: Value = serde_json::from_slice(&request.body)
            .map_err(|error| refused("SerializationException", &error.to_string()))?;
        if operation == "GetQueueUrl" {
            return self.queue_url(&body, request.header("host"));
        }
        self.check_queue(&body)?;
        match operation {
            "ReceiveMessage" => self.receive(&body).await,
            "DeleteMessage" => self.delete(&body),
            "ChangeMessageVisibility" => self.change_visibility(&body).map(|()| Value::Null),
            "ChangeMessageVisibilityBatch" => self.change_batch(&body),
            "GetQueueAttributes" => self.attributes(&body),
            other => Err(refused(
                "InvalidAction",
                &format!("the world does not know {other}"),
            )),
        }
    }

    fn queue_url(&self, body: &Value, host: &str) -> Outcome {
        let name = self.shared.state.read(|state| state.queue.name.clone());
        if body["QueueName"] != json!(name) {
            return Err(no_queue());
        }
        Ok(json!({"QueueUrl": format!("http://{host}/{ACCOUNT}/{name}")}))
    }

    fn check_queue(&self, body: &Value) -> Result<(), Refused> {
        let url = body["QueueUrl"].as_str().unwrap_or_default();
        let name = self.shared.state.read(|state| state.queue.name.clone());
        if url.rsplit('/').next() == Some(name.as_str()) {
            Ok(())
        } else {
            Err(no_queue())
        }
    }

    /// Long poll: returns as soon as there is a message, `Messages` absent when there was none.
    async fn receive(&self, body: &Value) -> Outcome {
        let max = number(body, "MaxNumberOfMessages", 1..=10, 1)?;
        let wait = number(body, "WaitTimeSeconds", 0..=20, 0)?;
        let default = self.shared.state.read(|state| state.queue.visibility);
        let visibility = number(body, "VisibilityTimeout", 0..=43_200, default.as_secs())?;
        let asked: Vec<&str> = ["MessageSystemAttributeNames", "AttributeNames"]
            .iter()
            .filter_map(|key| body[*key].as_array())
            .flatten()
            .filter_map(Value::as_str)
            .collect();
        let end = tokio::time::Instant::now() + Duration::from_secs(wait);
        loop {
            let receipts = self.try_receive(max as usize, Duration::from_secs(visibility));
            if !receipts.is_empty() {
                let messages: Vec<Value> = receipts.iter().map(|r| shape(r, &asked)).collect();
                return Ok(json!({ "Messages": messages }));
            }
            if tokio::time::Instant::now() >= end {
                return Ok(json!({}));
            }
            let clock = self.shared.clock;
            let next = self
                .shared
                .state
                .read(|s| s.queue.next_visible(clock.now()));
            let until = next.map_or(end, |next| end.min(clock.instant(next).into()));
            let visible = self
                .shared
                .state
                .wait_forever(|s| (s.queue.counts(clock.now()).0 > 0).then_some(()));
            tokio::select! {
                () = visible => {}
                () = tokio::time::sleep_until(until) => {}
            }
        }
    }

    fn try_receive(&self, max: usize, visibility: Duration) -> Vec<Receipt> {
        let now = self.shared.clock.now();
        if self
            .shared
            .state
            .read(|state| state.queue.counts(now).0 == 0)
        {
            return Vec::new();
        }
        self.shared.state.change(|state| {
            let now_ms = Timestamp::now().as_millisecond();
            let receipts = state.queue.receive(max, visibility, now_ms, now);
            for receipt in &receipts {
                let id = receipt.message.id.clone();
                state.note(Happening::MessageReceived { id });
            }
            receipts
        })
    }

    fn delete(&self, body: &Value) -> Outcome {
        self.shared.state.change(|state| {
            if let Some((id, _)) = state.queue.delete(text(body, "ReceiptHandle")?)? {
                state.note(Happening::MessageDeleted { id });
            }
            Ok(Value::Null)
        })
    }

    fn change_visibility(&self, body: &Value) -> Result<(), Refused> {
        let handle = text(body, "ReceiptHandle")?;
        let seconds = number(body, "VisibilityTimeout", 0..=43_200, 0)?;
        let (now, visibility) = (self.shared.clock.now(), Duration::from_secs(seconds));
        self.shared.state.change(|state| {
            let id = state.queue.change_visibility(handle, visibility, now)?;
            if seconds == 0 {
                state.note(Happening::MessageGivenBack { id });
            }
            Ok(())
        })
    }

    fn change_batch(&self, body: &Value) -> Outcome {
        let entries = body["Entries"].as_array().cloned().unwrap_or_default();
        if !(1..=10).contains(&entries.len()) {
            return Err(refused(
                "TooManyEntriesInBatchRequest",
                "a batch has 1 to 10 entries",
            ));
        }
        let (mut good, mut bad) = (Vec::new(), Vec::new());
        for entry in &entries {
            let id = &entry["Id"];
            match self.change_visibility(entry) {
                Ok(()) => good.push(json!({ "Id": id })),
                Err(refused) => bad.push(json!({
                    "Id": id,
                    "SenderFault": true,
                    "Code": refused.code,
                    "Message": refused.message,
                })),
            }
        }
        Ok(json!({"Successful": good, "Failed": bad}))
    }

    fn attributes(&self, body: &Value) -> Outcome {
        let names = body["AttributeNames"]
            .as_array()
            .cloned()
            .unwrap_or_default();
        let now = self.shared.clock.now();
        let (queue, region) = self
            .shared
            .state
            .read(|state| (state.queue.clone(), state.region.clone()));
        let (visible, hidden) = queue.counts(now);
        let arn = |name: &str| format!("arn:aws:sqs:{region}:{ACCOUNT}:{name}");
        let mut all = vec![
            ("QueueArn", arn(&queue.name)),
            ("VisibilityTimeout", queue.visibility.as_secs().to_string()),
            ("ApproximateNumberOfMessages", visible.to_string()),
            ("ApproximateNumberOfMessagesNotVisible", hidden.to_string()),
            ("MessageRetentionPeriod", "345600".to_string()),
        ];
        if let Some(max) = queue.max_receives {
            let dead = arn(&format!("{}-dead", queue.name));
            let policy = json!({"deadLetterTargetArn": dead, "maxReceiveCount": max});
            all.push(("RedrivePolicy", policy.to_string()));
        }
        let wanted = |name: &str| names.iter().any(|n| n == name || n == "All");
        let found: serde_json::Map<String, Value> = all
            .into_iter()
            .filter(|(name, _)| wanted(name))
            .map(|(name, value)| (name.to_string(), json!(value)))
            .collect();
        // Without a single attribute the member is absent, as for `Messages`.
        Ok(if found.is_empty() {
            json!({})
        } else {
            json!({ "Attributes": found })
        })
    }
}

fn shape(receipt: &Receipt, asked: &[&str]) -> Value {
    let message = &receipt.message;
    let digest = Md5::digest(message.body.as_bytes());
    let mut shape = json!({
        "MessageId": message.id,
        "ReceiptHandle": receipt.handle,
        "MD5OfBody": digest.iter().map(|byte| format!("{byte:02x}")).collect::<String>(),
        "Body": message.body,
    });
    let all = [
        ("ApproximateReceiveCount", message.receives.to_string()),
        ("SentTimestamp", message.sent_ms.to_string()),
        (
            "ApproximateFirstReceiveTimestamp",
            message.first_receive_ms.to_string(),
        ),
        ("SenderId", "AIDAEXAMPLEAUTOSCALING".to_string()),
    ];
    for (name, value) in all {
        if asked.iter().any(|a| *a == name || *a == "All") {
            shape["Attributes"][name] = json!(value);
        }
    }
    shape
}

fn number(
    body: &Value,
    key: &str,
    range: std::ops::RangeInclusive<u64>,
    default: u64,
) -> Result<u64, Refused> {
    let value = &body[key];
    if value.is_null() {
        return Ok(default);
    }
    value.as_u64().filter(|n| range.contains(n)).ok_or_else(|| {
        let text = format!(
            "Value {value} for parameter {key} is invalid. Reason: Must be between {} and {}, if provided.",
            range.start(),
            range.end()
        );
        refused("InvalidParameterValue", &text)
    })
}

fn text<'a>(body: &'a Value, key: &str) -> Result<&'a str, Refused> {
    body[key].as_str().ok_or_else(|| {
        refused(
            "MissingParameter",
            &format!("The request must contain the parameter {key}."),
        )
    })
}

fn no_queue() -> Refused {
    refused("QueueDoesNotExist", "The specified queue does not exist.")
}

fn refused(code: &str, message: &str) -> Refused {
    Refused {
        status: 400,
        code: code.to_string(),
        message: message.to_string(),
    }
}

fn json_answer(status: u16, body: String) -> Answer {
    Answer::new(status, "application/x-amz-json-1.0", body)
        .with("x-amzn-requestid", &super::notification::uuid())
}
