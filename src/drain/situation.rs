//! One drain: what it was started with, and what its watchers have learnt so far.

use std::convert::Infallible;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use anyhow::{Context, Result, anyhow};
use tokio::sync::{OnceCell, watch};

use super::View;
use super::budget::{Budget, Clock, HookClock, Limits, budget};
use super::drainable::Drainable;
use super::hook::{Action, Hooks, Verdict};
use super::journal::{self, Entry, Journal, Stage};
use super::letter::instant;
use super::lifecycle;
use super::notice::{self, Cause, Notice, SpotWatch};
use super::params::{OnUndelivered, Plan, Source, Step};
use super::queue::{Queue, Received};
use crate::aws::Aws;

/// How long the start waits for our instance id: the data does not wait for it at all.
const IDENTITY: Duration = Duration::from_secs(2);

/// Whose lifecycle action it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Names {
    /// Not known yet.
    Unknown,
    /// This one.
    Known(Action),
    /// There is none to complete, and why.
    Nothing(String),
}

/// What the watchers have learnt.
#[derive(Clone, Debug)]
pub(super) struct Situation {
    pub names: Names,
    pub letter: Option<Received>,
    /// When the wait on the hook began.
    pub began: Option<Instant>,
    pub hook: Option<HookClock>,
    pub spot: Option<Instant>,
    pub stop: Option<Instant>,
    /// What AWS itself said.
    pub witness: Option<&'static str>,
    pub warm_pool: bool,
    pub released: bool,
}

/// One drain.
pub(super) struct Drain<'a, A> {
    pub agent: &'a A,
    pub plan: &'a Plan,
    pub aws: &'a Aws,
    pub notice: Notice,
    /// Our instance id; the host name where it cannot be learnt.
    pub instance: String,
    pub start: Instant,
    pub began: SystemTime,
    pub situation: watch::Sender<Situation>,
    known: bool,
    resumed: Option<Stage>,
    journal: Journal,
    entry: Mutex<Entry>,
    hooks: OnceCell<Hooks>,
    queue: OnceCell<Queue>,
}

impl<'a, A: Drainable> Drain<'a, A> {
    /// Opens the journal and says that it begins.
    pub async fn begin(agent: &'a A, plan: &'a Plan, aws: &'a Aws, notice: Notice) -> Drain<'a, A> {
        let (start, began) = (Instant::now(), SystemTime::now());
        let asked = tokio::time::timeout(IDENTITY, notice::instance_id(plan, aws)).await;
        let asked = asked
            .context("instance metadata does not answer")
            .and_then(|answer| answer);
        let (instance, known) = match asked {
            Ok(id) => (id, true),
            Err(error) => {
                let host = nix::unistd::gethostname()
                    .unwrap_or_default()
                    .to_string_lossy()
                    .into_owned();
                tracing::error!(
                    error = format!("{error:#}"),
                    instead = host,
                    "no instance id: objects are named by the host, and no lifecycle action is completed"
                );
                (host, false)
            }
        };
        let resumed = match &notice.cause {
            Cause::Resumed(entry) => Some(entry.clone()),
            _ => None,
        };
        let entry = resumed.as_deref().cloned().unwrap_or_default();
        let drain = Drain {
            situation: watch::Sender::new(Situation::new(&notice)),
            resumed: resumed.map(|entry| entry.stage),
            journal: Journal::new(&plan.params.journal_path),
            entry: Mutex::new(entry),
            hooks: OnceCell::new(),
            queue: OnceCell::new(),
            agent,
            plan,
            aws,
            notice,
            instance,
            start,
            began,
            known,
        };
        if let Some(place) = plan.place() {
            place.store.know_instance(&drain.instance);
        }
        tracing::info!(
            stage = "notice",
            elapsed = drain.elapsed(),
            cause = drain.cause(),
            instance = drain.instance,
            dry_run = plan.params.dry_run,
            seconds = drain
                .clock()
                .deadline()
                .saturating_duration_since(start)
                .as_secs(),
            "notice: the drain begins"
        );
        drain.record(|entry| {
            entry.instance = drain.instance.clone();
            entry.boot = journal::boot_id();
            entry.cause = drain.cause();
            entry.began = jiff::Timestamp::try_from(began)
                .map(|at| at.to_string())
                .unwrap_or_default();
        });
        drain
    }

    /// Seconds since the notice, as log lines carry them.
    pub fn elapsed(&self) -> f64 {
        (self.start.elapsed().as_secs_f64() * 1000.0).round() / 1000.0
    }

    /// Who told us, in a word.
    pub fn cause(&self) -> String {
        match &self.notice.cause {
            Cause::Doorbell => "doorbell".to_owned(),
            Cause::Queue => "queue".to_owned(),
            Cause::Spot(action) => format!("spot {action}"),
            Cause::ByHand => "by hand".to_owned(),
            Cause::Resumed(entry) => {
                format!("resumed: {}", entry.cause.trim_start_matches("resumed: "))
            }
        }
    }

    /// What ends this drain, as far as it is known now.
    pub fn clock(&self) -> Clock {
        let now = self.situation.borrow();
        let params = &self.plan.params;
        let max_drain = match params.on_undelivered {
            OnUndelivered::Hold => params.max_hold.0.max(params.max_drain.0),
            _ => params.max_drain.0,
        };
        Clock {
            start: self.start,
            max_drain,
            hook: now.hook,
            spot: now.spot,
            stop: now.stop,
        }
    }

    /// When each stage ends.
    pub fn budget(&self, left: u64, rate: Option<f64>) -> Budget {
        let after = self.plan.after.iter().map(|step| match step {
            Step::Command(command) => command.timeout,
            Step::Zabbix(zabbix) => zabbix.limit(),
        });
        let limits = Limits {
            before: self.plan.before.iter().map(|command| command.timeout).sum(),
            after: after.sum(),
        };
        budget(&self.clock(), limits, Instant::now(), left, rate)
    }

    /// What is not safe, in bytes.
    pub fn bytes_left(&self) -> u64 {
        let buffered: u64 = self.agent.backlog().iter().map(|output| output.bytes).sum();
        buffered + self.agent.ledger().behind_bytes
    }

    /// Writes the journal: everything before `stage` is done.
    pub fn reach(&self, stage: Stage) {
        self.record(|entry| {
            entry.stage = stage.max(entry.stage);
            let now = self.situation.borrow();
            if let Names::Known(action) = &now.names {
                entry.group = Some(action.group.clone());
                entry.hook = Some(action.hook.clone());
                entry.token = action.token.clone();
            }
            entry.message_id = now
                .letter
                .as_ref()
                .map(|received| received.message_id.clone());
        });
    }

    /// Changes the journal. A failure is told and stops nothing: without a journal, steps are repeated after a crash.
    pub fn record(&self, change: impl FnOnce(&mut Entry)) {
        let mut entry = self.entry.lock().unwrap_or_else(PoisonError::into_inner);
        change(&mut entry);
        if !self.plan.params.dry_run
            && let Err(error) = self.journal.write(&entry)
        {
            tracing::warn!(
                error = format!("{error:#}"),
                "the drain goes on without its journal"
            );
        }
    }

    /// Whether an earlier run did this stage already.
    pub fn was_done(&self, stage: Stage) -> bool {
        self.resumed.is_some_and(|reached| reached > stage)
    }

    /// The calls to Auto Scaling.
    pub async fn hooks(&self) -> Result<&Hooks> {
        if !self.known {
            return Err(anyhow!("our instance id is not known"));
        }
        let connect = || async { Ok(Hooks::new(self.aws.autoscaling().await?, &self.instance)) };
        self.hooks.get_or_try_init(connect).await
    }

    /// The queue to look for our letter in, if this source reads one.
    pub fn queue_url(&self) -> Option<&str> {
        let reads =
            matches!(self.plan.params.source, Source::Doorbell | Source::Queue) && self.known;
        self.plan.params.queue_url.as_deref().filter(|_| reads)
    }

    /// The calls to the queue.
    pub async fn queue(&self) -> Result<&Queue> {
        let url = self.queue_url().context("no queue is read")?;
        let connect = || async { Ok(Queue::new(self.aws.sqs().await?, url)) };
        self.queue.get_or_try_init(connect).await
    }

    /// The names, once known.
    pub fn action(&self) -> Option<Action> {
        match &self.situation.borrow().names {
            Names::Known(action) => Some(action.clone()),
            _ => None,
        }
    }

    /// The token was refused: from now on by instance id alone.
    pub fn forget_token(&self) {
        self.situation.send_modify(|now| {
            if let Names::Known(action) = &mut now.names {
                action.token = None;
            }
        });
    }

    /// Whether AWS itself has said that this instance dies; else why not.
    pub async fn dies(&self, verdict: Verdict) -> Result<(), String> {
        let now = self.situation.borrow().clone();
        match &self.notice.cause {
            _ if now.warm_pool => return Err("the instance returns to the warm pool".to_owned()),
            Cause::Spot(action) if action != "terminate" => {
                return Err(format!("a spot {action} is no death"));
            }
            _ if verdict == Verdict::Abandon => {
                return Err("the instance may be retained".to_owned());
            }
            _ if now.witness.is_some() => return Ok(()),
            _ => {}
        }
        let hooks = self.hooks().await.map_err(|error| format!("{error:#}"))?;
        match lifecycle::is_terminating(&hooks.whereabouts().await.1) {
            true => Ok(()),
            false => Err("AWS itself has not confirmed the termination".to_owned()),
        }
    }

    /// A spot notice during the drain pulls its end in.
    pub async fn watch_spot(&self) -> Infallible {
        let mut spot = SpotWatch::new(self.plan);
        while self.situation.borrow().spot.is_none() {
            if let Some(Notice {
                spot: Some(at),
                witness,
                ..
            }) = spot.look(self.aws.imds()).await
            {
                tracing::warn!(
                    stage = "notice",
                    elapsed = self.elapsed(),
                    "notice: EC2 takes the machine, the drain has to be over before"
                );
                self.situation.send_modify(|now| {
                    now.spot = Some(instant(at));
                    now.witness = now.witness.or(witness);
                });
            }
            tokio::time::sleep(self.plan.params.imds_interval.0).await;
        }
        std::future::pending().await
    }

    /// What it is doing.
    pub fn view(&self) -> View {
        let stage = self
            .entry
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .stage;
        View {
            stage,
            elapsed: self.start.elapsed(),
            left: self
                .clock()
                .deadline()
                .saturating_duration_since(Instant::now()),
            backlog: self.agent.backlog(),
            ledger: self.agent.ledger(),
        }
    }
}

impl Situation {
    fn new(notice: &Notice) -> Situation {
        let mut situation = Situation {
            names: Names::Unknown,
            letter: None,
            began: None,
            hook: None,
            spot: notice.spot.map(instant),
            stop: None,
            witness: notice.witness,
            warm_pool: notice.warm_pool,
            released: false,
        };
        if let Some(received) = notice.letter.clone() {
            situation.learn(received);
        }
        situation
    }
}
