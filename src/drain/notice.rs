//! Who may tell us that the instance terminates: the first notice wins.
//!
//! Instance metadata is the doorbell: local, free, and addressed to this instance alone. The queue is polled here only with `source
//! queue`; with `source doorbell` it is read during the drain, to learn the token and to delete our letter.

use std::time::{Duration, SystemTime};

use anyhow::{Context, Result, anyhow};
use jiff::Timestamp;
use serde::Deserialize;
use tokio::time::MissedTickBehavior;

use super::journal::{self, Entry, Found as JournalFound, Journal, Stage};
use super::lifecycle::{Target, target};
use super::params::{Plan, Source, Spot};
use super::queue::{Found, Polling, Queue, Received, Rules};
use crate::aws::{Aws, Imds};

/// Who told us.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Cause {
    /// `target-lifecycle-state`: a witness.
    Doorbell,
    /// Our letter in the queue: not a witness, it can be forged.
    Queue,
    /// EC2 takes the machine; the text is `terminate`, `stop` or `hibernate`.
    Spot(String),
    /// `affluent drain`.
    ByHand,
    /// The journal of a run that did not end, and instance metadata that still says so.
    Resumed(Box<Entry>),
}

/// A notice.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Notice {
    /// Who told us.
    pub cause: Cause,
    /// Our letter, where the queue told us.
    pub letter: Option<Received>,
    /// When EC2 takes the machine.
    pub spot: Option<SystemTime>,
    /// The instance returns to the warm pool: it does not die.
    pub warm_pool: bool,
    /// What AWS itself said, if it did (§5.3).
    pub witness: Option<&'static str>,
}

impl Notice {
    /// A notice without particulars.
    pub fn new(cause: Cause) -> Notice {
        Notice {
            cause,
            letter: None,
            spot: None,
            warm_pool: false,
            witness: None,
        }
    }
}

/// The body of `spot/instance-action`.
#[derive(Debug, Deserialize)]
struct InstanceAction {
    action: String,
    time: String,
}

/// Waits for the first notice of the plan's source. Never returns with `source none`; failures are told and waited out. Keep the future
/// (pin it) where it is one branch of a loop: a receive that is dropped hides its messages for twenty seconds.
pub async fn first(plan: &Plan, aws: &Aws) -> Notice {
    let bell = async {
        match plan.params.source {
            Source::Doorbell | Source::Imds => doorbell(aws.imds(), plan).await,
            Source::Queue if plan.params.spot == Spot::Auto => spot_only(aws.imds(), plan).await,
            Source::Queue | Source::None => std::future::pending().await,
        }
    };
    let letter = async {
        match plan.params.source {
            Source::Queue => queue(plan, aws).await,
            _ => std::future::pending().await,
        }
    };
    tokio::select! {
        notice = bell => notice,
        notice = letter => notice,
    }
}

/// Completes when instance metadata says that this instance is in service. After a drain that the instance survived (warm pool, called
/// off), wait for it before [`first`]: the bell that was answered still rings.
pub async fn in_service(plan: &Plan, aws: &Aws) {
    let mut ticks = ticks(plan.params.imds_interval.0);
    loop {
        ticks.tick().await;
        if let Ok(Some(word)) = aws.imds().get("autoscaling/target-lifecycle-state").await
            && word == "InService"
        {
            return;
        }
    }
}

/// What a journal of an earlier run asks for at start. History is put aside and said.
pub async fn resume(plan: &Plan, aws: &Aws) -> Option<Notice> {
    let journal = Journal::new(&plan.params.journal_path);
    let entry = match journal.read() {
        Ok(entry) => entry?,
        Err(error) => {
            tracing::error!(
                error = format!("{error:#}"),
                "ignoring the drain journal: a termination starts from its beginning"
            );
            return None;
        }
    };
    let instance = instance_id(plan, aws).await.ok()?;
    let word = aws
        .imds()
        .get("autoscaling/target-lifecycle-state")
        .await
        .ok()?;
    let ring = word.as_deref().map(target);
    let terminating = matches!(ring, Some(Target::Terminate | Target::WarmPool));
    match journal::judge(&entry, &instance, &journal::boot_id(), terminating) {
        JournalFound::Resume => {
            let warm_pool = ring == Some(Target::WarmPool);
            tracing::warn!(stage = ?entry.stage, "notice: an earlier run was draining, going on where it stopped");
            Some(Notice {
                warm_pool,
                witness: Some("instance metadata"),
                ..Notice::new(Cause::Resumed(Box::new(entry)))
            })
        }
        JournalFound::History => {
            tracing::info!(
                instance = entry.instance,
                "the drain journal is history, putting it aside"
            );
            if let Err(error) = journal.put_aside() {
                tracing::warn!(
                    error = format!("{error:#}"),
                    "the drain journal stays where it is"
                );
            }
            None
        }
    }
}

/// Our instance id: from the configuration, else from instance metadata; never from a message.
pub async fn instance_id(plan: &Plan, aws: &Aws) -> Result<String> {
    if let Some(id) = &plan.params.instance_id {
        return Ok(id.clone());
    }
    let id = aws
        .imds()
        .get("instance-id")
        .await
        .context("cannot learn the instance id")?;
    id.ok_or_else(|| anyhow!("instance metadata has no instance id: set instance_id"))
}

async fn doorbell(imds: &Imds, plan: &Plan) -> Notice {
    let mut ticks = ticks(plan.params.imds_interval.0);
    let mut spot = SpotWatch::new(plan);
    let mut last = String::new();
    loop {
        ticks.tick().await;
        if let Some(notice) = spot.look(imds).await {
            return notice;
        }
        // A failure is told by the reader, and 404 is normal outside of a group.
        let Ok(Some(word)) = imds.get("autoscaling/target-lifecycle-state").await else {
            continue;
        };
        match target(&word) {
            Target::Terminate | Target::WarmPool => {
                return Notice {
                    warm_pool: target(&word) == Target::WarmPool,
                    witness: Some("instance metadata"),
                    ..Notice::new(Cause::Doorbell)
                };
            }
            Target::New if word != last => {
                tracing::warn!(
                    state = word,
                    "unknown target lifecycle state: nothing is done about it"
                );
            }
            Target::Stay if word != last && !last.is_empty() => {
                tracing::info!(state = word, "the target lifecycle state changed")
            }
            Target::New | Target::Stay => {}
        }
        last = word;
    }
}

async fn spot_only(imds: &Imds, plan: &Plan) -> Notice {
    let mut ticks = ticks(plan.params.imds_interval.0);
    let mut spot = SpotWatch::new(plan);
    loop {
        ticks.tick().await;
        if let Some(notice) = spot.look(imds).await {
            return notice;
        }
    }
}

fn ticks(every: Duration) -> tokio::time::Interval {
    let mut ticks = tokio::time::interval(every);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    ticks
}

/// Spot notices, looked for on spot instances only.
pub(super) struct SpotWatch {
    /// `None` until `instance-life-cycle` is known.
    wanted: Option<bool>,
}

impl SpotWatch {
    pub(super) fn new(plan: &Plan) -> SpotWatch {
        SpotWatch {
            wanted: (plan.params.spot == Spot::Off).then_some(false),
        }
    }

    pub(super) async fn look(&mut self, imds: &Imds) -> Option<Notice> {
        if self.wanted.is_none() {
            self.wanted = imds
                .get("instance-life-cycle")
                .await
                .ok()
                .map(|kind| kind.as_deref() == Some("spot"));
        }
        if self.wanted != Some(true) {
            return None;
        }
        let body = imds.get("spot/instance-action").await.ok()??;
        let notice = read_instance_action(&body);
        if notice.is_none() {
            tracing::debug!(body, "spot/instance-action is not understood");
        }
        notice
    }
}

fn read_instance_action(body: &str) -> Option<Notice> {
    let InstanceAction { action, time } = serde_json::from_str(body).ok()?;
    let time: Timestamp = time.parse().ok()?;
    Some(Notice {
        witness: (action == "terminate").then_some("a spot interruption"),
        spot: Some(SystemTime::from(time)),
        ..Notice::new(Cause::Spot(action))
    })
}

async fn queue(plan: &Plan, aws: &Aws) -> Notice {
    let mut rules = Rules::new(Polling::Always);
    // A deleted message may come once more: the letter that the last drain answered starts no second one.
    if let Ok(Some(Entry {
        stage: Stage::Delete | Stage::Done,
        message_id: Some(message),
        ..
    })) = Journal::new(&plan.params.journal_path).read()
    {
        rules.handled(&message);
    }
    let (queue, id) = loop {
        match connect(plan, aws).await {
            Ok(found) => break found,
            Err(error) => {
                tracing::warn!(
                    error = format!("{error:#}"),
                    "cannot poll the queue yet, trying again"
                );
                tokio::time::sleep(Duration::from_secs(5)).await;
            }
        }
    };
    if queue.has_redrive_policy().await == Some(true) {
        tracing::warn!(
            "the queue has a redrive policy: with many instances, letters end in the dead-letter queue before their owner sees them"
        );
    }
    let found = queue.find(&mut rules, &id).await;
    let mut notice = Notice::new(Cause::Queue);
    for found in found {
        match found {
            Found::Letter(received) => {
                notice.warm_pool = received.letter.warm_pool;
                notice.letter = Some(received);
            }
            Found::Spot { action, time } => {
                notice.spot = time.map(SystemTime::from);
                notice.cause = Cause::Spot(action);
            }
        }
    }
    notice
}

async fn connect(plan: &Plan, aws: &Aws) -> Result<(Queue, String)> {
    let url = plan.params.queue_url.as_deref().context("no queue_url")?;
    Ok((
        Queue::new(aws.sqs().await?, url),
        instance_id(plan, aws).await?,
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_spot_notice_says_when_and_whether_the_machine_dies() {
        let dies = read_instance_action(r#"{"action":"terminate","time":"2026-03-01T09:17:42Z"}"#)
            .expect("a notice");
        assert_eq!(dies.cause, Cause::Spot("terminate".to_owned()));
        assert!(dies.witness.is_some() && dies.spot.is_some());
        let stops = read_instance_action(r#"{"action":"stop","time":"2026-03-01T09:17:42Z"}"#)
            .expect("a notice");
        assert!(stops.witness.is_none());
        assert!(read_instance_action("2026-03-01T09:17:42Z").is_none());
    }
}
