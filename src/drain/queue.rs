//! One queue, many instances: finding our own letter without keeping anybody else's (lifecycle.md §6.3).
//!
//! [`Rules`] decide what becomes of each message and how long to pause (pure); [`Queue`] makes the calls. A foreign message
//! is given back at once and never deleted, however old: retention does that.

use std::collections::HashSet;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use aws_sdk_sqs::Client;
use aws_sdk_sqs::error::{DisplayErrorContext, ProvideErrorMetadata, SdkError};
use aws_sdk_sqs::types::ChangeMessageVisibilityBatchRequestEntry;
use jiff::{SignedDuration, Timestamp};

use super::classifier::{Letter, Verdict, classify};

/// How long one receive waits for messages, in seconds.
pub const WAIT: i32 = 20;
/// The least time between two receives that find nothing.
const HASTY: Duration = Duration::from_secs(1);
/// How long a received message stays hidden from the others, in seconds.
const HIDDEN: i32 = 20;
/// A foreign letter older than the longest global time-out that is usual (H = 300 s) is nobody's any more.
const FRESH: SignedDuration = SignedDuration::from_mins(500);
/// How many foreign ids are remembered.
const REMEMBERED: usize = 10_000;

/// One message as it was received.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    /// `MessageId`.
    pub id: String,
    /// `ReceiptHandle`: belongs to this receive.
    pub handle: String,
    /// `Body`.
    pub body: String,
}

/// Our own letter, with what is needed to delete it at the very end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Received {
    /// `MessageId`.
    pub message_id: String,
    /// `ReceiptHandle`.
    pub handle: String,
    /// What it says.
    pub letter: Letter,
}

/// What a queue told us about this instance.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Found {
    /// A lifecycle action.
    Letter(Received),
    /// A spot interruption. Its message stays for the queue's retention: it is no retry token of anything.
    Spot {
        /// `terminate`, `stop` or `hibernate`.
        action: String,
        /// When EC2 takes the machine.
        time: Option<Timestamp>,
    },
}

/// Who polls: that decides the pauses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Polling {
    /// Only after the doorbell rang: few instances do.
    AfterDoorbell,
    /// All the time: every instance of the group does.
    Always,
}

/// What to do after one receive.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Round {
    /// What is ours, in the order received.
    pub found: Vec<Found>,
    /// Handles of test notifications, and of letters that were answered before.
    pub delete: Vec<String>,
    /// Handles to make visible again at once.
    pub give_back: Vec<String>,
    /// How many messages stay hidden until their time is over.
    pub left: usize,
    /// How long to wait before the next receive.
    pub pause: Duration,
}

/// The memory of a poller.
#[derive(Debug)]
pub struct Rules {
    polling: Polling,
    seen: HashSet<String>,
    handled: HashSet<String>,
    foreign_rounds: u32,
}

impl Rules {
    /// Nothing seen yet.
    pub fn new(polling: Polling) -> Rules {
        Rules {
            polling,
            seen: HashSet::new(),
            handled: HashSet::new(),
            foreign_rounds: 0,
        }
    }

    /// The letter with this message id has been answered: seen again, it is only deleted.
    pub fn handled(&mut self, message_id: &str) {
        self.handled.insert(message_id.to_owned());
    }

    /// Decides about one receive. `chance` in 0..1 spreads the pollers.
    pub fn scan(&mut self, messages: &[Message], id: &str, now: Timestamp, chance: f64) -> Round {
        let mut round = Round::default();
        let mut again = false;
        for message in messages {
            let handle = message.handle.clone();
            match classify(&message.body, id) {
                _ if self.handled.contains(&message.id) => round.delete.push(handle),
                Verdict::Test => round.delete.push(handle),
                Verdict::Ours(letter) => round.found.push(Found::Letter(Received {
                    message_id: message.id.clone(),
                    handle,
                    letter,
                })),
                Verdict::OurSpot { action, time } => {
                    round.found.push(Found::Spot { action, time });
                }
                Verdict::Foreign { time } if fresh(time, now) && self.remember(&message.id) => {
                    round.give_back.push(handle);
                }
                Verdict::Foreign { .. } => {
                    again = true;
                    round.left += 1;
                }
                Verdict::Leave(what) => {
                    tracing::debug!(message_id = message.id, what, "left a message in the queue");
                    again = true;
                    round.left += 1;
                }
            }
        }
        round.pause = self.pause(&round, again, chance);
        round
    }

    /// Whether the id is new.
    fn remember(&mut self, id: &str) -> bool {
        if self.seen.len() >= REMEMBERED {
            self.seen.clear();
        }
        self.seen.insert(id.to_owned())
    }

    fn pause(&mut self, round: &Round, again: bool, chance: f64) -> Duration {
        let foreign = round.left + round.give_back.len() > 0;
        if !foreign || !round.found.is_empty() {
            self.foreign_rounds = 0;
            return Duration::ZERO;
        }
        self.foreign_rounds = self.foreign_rounds.saturating_add(1);
        let chance = chance.clamp(0.0, 1.0);
        let stale = if again {
            Duration::from_secs_f64(0.5 + 1.5 * chance)
        } else {
            Duration::ZERO
        };
        let crowded = match self.polling {
            Polling::AfterDoorbell => Duration::ZERO,
            Polling::Always => {
                let grown = 1.5f64.powi(self.foreign_rounds.min(20) as i32 - 1);
                Duration::from_secs_f64((grown * (1.0 + chance)).clamp(1.0, 15.0))
            }
        };
        stale.max(crowded)
    }
}

fn fresh(time: Option<Timestamp>, now: Timestamp) -> bool {
    time.is_none_or(|time| now.duration_since(time) < FRESH)
}

/// The calls.
#[derive(Clone, Debug)]
pub struct Queue {
    client: Client,
    url: String,
}

impl Queue {
    /// The queue at `url`.
    pub fn new(client: Client, url: &str) -> Queue {
        Queue {
            client,
            url: url.to_owned(),
        }
    }

    /// Polls until something about this instance is there. Failures are told and waited out; it only ends by success.
    pub async fn find(&self, rules: &mut Rules, id: &str) -> Vec<Found> {
        let mut failures = 0u32;
        loop {
            let asked = Instant::now();
            let messages = match self.receive().await {
                Ok(messages) => messages,
                Err((error, pause)) => {
                    failures += 1;
                    if failures == 1 {
                        tracing::warn!(
                            queue_url = self.url,
                            error = format!("{error:#}"),
                            "cannot read the queue, trying again"
                        );
                    }
                    tokio::time::sleep(
                        pause.unwrap_or_else(|| Duration::from_secs(u64::from(failures.min(10)))),
                    )
                    .await;
                    continue;
                }
            };
            failures = 0;
            let round = rules.scan(&messages, id, Timestamp::now(), fastrand::f64());
            self.settle(&round).await;
            if !round.found.is_empty() {
                return round.found;
            }
            // A queue that answers "nothing" without waiting for it is not asked more than once a second.
            let hasty = match messages.is_empty() {
                true => HASTY.saturating_sub(asked.elapsed()),
                false => Duration::ZERO,
            };
            tokio::time::sleep(round.pause.max(hasty)).await;
        }
    }

    /// Deletes what is to be deleted and gives back what is not ours. A failure only costs the others a visibility time-out.
    async fn settle(&self, round: &Round) {
        for handle in &round.delete {
            tracing::info!(
                queue_url = self.url,
                "deleted a test notification or a letter answered before"
            );
            if let Err(error) = self.delete(handle).await {
                tracing::warn!(
                    queue_url = self.url,
                    error = format!("{error:#}"),
                    "cannot delete a message"
                );
            }
        }
        if round.give_back.is_empty() {
            return;
        }
        let entries = round
            .give_back
            .iter()
            .enumerate()
            .filter_map(|(n, handle)| {
                ChangeMessageVisibilityBatchRequestEntry::builder()
                    .id(n.to_string())
                    .receipt_handle(handle)
                    .visibility_timeout(0)
                    .build()
                    .ok()
            });
        let request = self
            .client
            .change_message_visibility_batch()
            .queue_url(&self.url);
        if let Err(error) = request.set_entries(Some(entries.collect())).send().await {
            tracing::warn!(
                queue_url = self.url, messages = round.give_back.len(), error = %DisplayErrorContext(&error),
                "cannot give foreign messages back: they stay hidden for twenty seconds"
            );
        }
    }

    /// Deletes one message.
    pub async fn delete(&self, handle: &str) -> Result<()> {
        let request = self
            .client
            .delete_message()
            .queue_url(&self.url)
            .receipt_handle(handle);
        request
            .send()
            .await
            .map_err(|error| anyhow::anyhow!("{}", DisplayErrorContext(&error)))?;
        Ok(())
    }

    /// Keeps a message hidden for `time`, at most twelve hours.
    pub async fn hold(&self, handle: &str, time: Duration) -> Result<()> {
        let seconds = i32::try_from(time.as_secs())
            .unwrap_or(i32::MAX)
            .min(43_200);
        let request = self
            .client
            .change_message_visibility()
            .queue_url(&self.url)
            .receipt_handle(handle);
        let sent = request.visibility_timeout(seconds).send().await;
        sent.map_err(|error| anyhow::anyhow!("{}", DisplayErrorContext(&error)))?;
        Ok(())
    }

    /// Whether a redrive policy would move letters away from their owners; `None` where we may not know.
    pub async fn has_redrive_policy(&self) -> Option<bool> {
        use aws_sdk_sqs::types::QueueAttributeName::RedrivePolicy;
        let request = self.client.get_queue_attributes().queue_url(&self.url);
        let answer = request.attribute_names(RedrivePolicy).send().await.ok()?;
        Some(
            answer
                .attributes()
                .is_some_and(|all| all.contains_key(&RedrivePolicy)),
        )
    }

    async fn receive(&self) -> Result<Vec<Message>, (anyhow::Error, Option<Duration>)> {
        let request = self
            .client
            .receive_message()
            .queue_url(&self.url)
            .max_number_of_messages(10)
            .wait_time_seconds(WAIT)
            .visibility_timeout(HIDDEN);
        let limit = Duration::from_secs(WAIT as u64 + 5);
        let answer = tokio::time::timeout(limit, request.send())
            .await
            .context("the queue does not answer")
            .map_err(|error| (error, None))?
            .map_err(|error| {
                let pause = slow(&error);
                (anyhow::anyhow!("{}", DisplayErrorContext(&error)), pause)
            })?;
        let messages = answer.messages.unwrap_or_default().into_iter();
        Ok(messages
            .filter_map(|message| {
                Some(Message {
                    id: message.message_id.unwrap_or_default(),
                    handle: message.receipt_handle?,
                    body: message.body.unwrap_or_default(),
                })
            })
            .collect())
    }
}

/// Errors that only a person or much time mends: once a minute.
fn slow<E: ProvideErrorMetadata, R>(error: &SdkError<E, R>) -> Option<Duration> {
    let code = error.as_service_error()?.code()?;
    let patient = ["QueueDoesNotExist", "NonExistentQueue", "OverLimit"];
    patient
        .iter()
        .any(|known| code.ends_with(known))
        .then_some(Duration::from_secs(60))
}

#[cfg(test)]
#[path = "queue_tests.rs"]
mod tests;
