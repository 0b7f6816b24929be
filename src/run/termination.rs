//! The `<drain>` of a run: who may say that the instance terminates, and what is done then.

use std::convert::Infallible;
use std::io::Write;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::anyhow;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;
use tracing::{error, info, warn};

use crate::agent::Agent;
use crate::aws::{self, Aws};
use crate::control::{Control, Request};
use crate::drain::archive::not_archived;
use crate::drain::release::Release;
use crate::drain::{self, DrainReport, Notice, Plan, View};
use crate::signal::{Ask, Signals};

/// How long the operating system waits for us after TERM: systemd's default, less what the exit itself takes.
const SYSTEM_STOP: Duration = Duration::from_secs(85);

/// Why a drain begins.
pub enum Ring {
    /// AWS says that the instance terminates.
    Notice(Notice),
    /// `affluent drain` asked for it.
    ByHand(Request),
}

/// How a drain ended for the process around it.
pub enum After {
    /// Wait for the end that AWS brings.
    Wait,
    /// The instance lives on: start again.
    StartAgain,
    /// The operating system stopped us meanwhile.
    Exit,
    /// A second stop signal came.
    Abort,
}

/// Watches for the end of the instance.
pub struct Termination {
    plan: Arc<Plan>,
    aws: Arc<Aws>,
    control: Option<Control>,
    notices: mpsc::Receiver<Notice>,
    watcher: JoinHandle<()>,
}

impl Termination {
    /// Starts watching. What an earlier run left unfinished rings at once.
    pub fn watch(plan: Plan) -> anyhow::Result<Termination> {
        let (plan, aws) = (
            Arc::new(plan),
            Arc::new(Aws::new(aws::Settings::default())?),
        );
        let path = socket(&plan);
        let control = Control::listen(&path)
            .inspect_err(
                |error| warn!(path = %path.display(), %error, "cannot listen for 'affluent drain'"),
            )
            .ok();
        let (tell, notices) = mpsc::channel(1);
        let watcher = tokio::spawn(watch(plan.clone(), aws.clone(), tell, false));
        Ok(Termination {
            plan,
            aws,
            control,
            notices,
            watcher,
        })
    }

    /// The next reason to drain. An error where nobody watches any more: the end of the instance would not be noticed.
    pub async fn rings(&mut self) -> anyhow::Result<Ring> {
        let by_hand = async {
            match &self.control {
                Some(control) => control.next().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            notice = self.notices.recv() => match notice {
                Some(notice) => Ok(Ring::Notice(notice)),
                None => Err(anyhow!(
                    "the watch for the end of the instance died unasked: ending, so that the supervisor starts again; nothing is lost"
                )),
            },
            request = by_hand => Ok(Ring::ByHand(request)),
        }
    }

    /// Drains. Signals are heard meanwhile: TERM shortens the time, a second one ends everything.
    pub async fn drain(&mut self, agent: &Agent, ring: Ring, signals: &mut Signals) -> After {
        let (tell, told) = oneshot::channel();
        let stopping = async move {
            match told.await {
                Ok(end) => end,
                Err(_) => std::future::pending().await,
            }
        };
        let mut tell = Some(tell);
        let mut refusing = Box::pin(self.refuse());
        let mut drained = Box::pin(self.drained(agent, ring, stopping));
        let report = loop {
            tokio::select! {
                report = &mut drained => break report,
                never = &mut refusing => match never {},
                ask = signals.next() => match ask {
                    Ask::Stop => match tell.take() {
                        // The drain listens until it has ended.
                        Some(tell) => drop(tell.send(Instant::now() + SYSTEM_STOP)),
                        None => return After::Abort,
                    },
                    Ask::Abort => return After::Abort,
                    Ask::Reload => info!("the instance is drained: no reload"),
                    Ask::Flush => info!("the instance is drained: everything is being flushed already"),
                },
            }
        };
        drop((drained, refusing));
        let after = match (&tell, report.lives_on) {
            (None, _) => After::Exit,
            (_, true) => After::StartAgain,
            (_, false) => After::Wait,
        };
        if matches!(after, After::StartAgain) {
            self.watch_again();
        }
        after
    }

    /// Whoever asks for a drain while one goes on is told so at once.
    async fn refuse(&self) -> Infallible {
        let Some(control) = &self.control else {
            return std::future::pending().await;
        };
        loop {
            let request = control.next().await;
            info!(reason = request.reason, "refused another drain by hand");
            request.refuse("a drain is going on").await;
        }
    }

    async fn drained(
        &self,
        agent: &Agent,
        ring: Ring,
        stopping: impl Future<Output = Instant>,
    ) -> DrainReport {
        match ring {
            Ring::Notice(notice) => {
                drain::run(agent, &self.plan, &self.aws, notice, stopping).await
            }
            Ring::ByHand(request) => self.by_hand(agent, request, stopping).await,
        }
    }

    async fn by_hand(
        &self,
        agent: &Agent,
        request: Request,
        stopping: impl Future<Output = Instant>,
    ) -> DrainReport {
        info!(
            reason = request.reason,
            rehearse = request.rehearse,
            "drain asked for by hand"
        );
        let plan = rehearsed(&self.plan, request.rehearse);
        let asker = request.follow();
        let show = |view: &View| asker.show(line(view));
        let report = drain::by_hand(agent, &plan, &self.aws, stopping, show).await;
        let last = if ended_well(&report) {
            "done"
        } else {
            "failed"
        };
        let lines = summary(&report).into_iter();
        asker.end(lines.chain([last.to_owned()])).await;
        report
    }

    fn watch_again(&mut self) {
        self.watcher.abort();
        let (tell, notices) = mpsc::channel(1);
        self.notices = notices;
        self.watcher = tokio::spawn(watch(self.plan.clone(), self.aws.clone(), tell, true));
    }
}

impl Drop for Termination {
    fn drop(&mut self) {
        self.watcher.abort();
    }
}

async fn watch(plan: Arc<Plan>, aws: Arc<Aws>, tell: mpsc::Sender<Notice>, again: bool) {
    if again {
        drain::notice::in_service(&plan, &aws).await;
    } else {
        drain::check(&plan, &aws).await;
    }
    let notice = match drain::resume(&plan, &aws).await {
        Some(notice) => notice,
        None => drain::first(&plan, &aws).await,
    };
    // The receiver is gone only when the run is over.
    let _ = tell.send(notice).await;
    // A sender that goes means a death: this task is only ever aborted.
    std::future::pending().await
}

/// `affluent drain` where no agent runs: this process is the agent.
pub async fn drain_here(agent: &mut Agent, plan: &Plan, rehearse: bool) -> anyhow::Result<bool> {
    let aws = Aws::new(aws::Settings::default())?;
    let plan = rehearsed(plan, rehearse);
    let report = drain::by_hand(agent, &plan, &aws, std::future::pending(), |view| {
        print(&line(view))
    })
    .await;
    summary(&report).iter().for_each(|line| print(line));
    agent.close().await;
    Ok(ended_well(&report))
}

/// Prints a line of progress; a terminal that is gone does not stop a drain.
pub fn print(line: &str) {
    let _ = writeln!(std::io::stdout(), "{line}");
}

/// Where the agent listens for `affluent drain`: beside its journal.
pub fn socket(plan: &Plan) -> PathBuf {
    plan.params.journal_path.with_extension("sock")
}

fn rehearsed(plan: &Plan, rehearse: bool) -> Plan {
    let mut plan = plan.clone();
    plan.params.dry_run |= rehearse;
    plan
}

fn line(view: &View) -> String {
    let (mut chunks, mut bytes) = (0, 0);
    for output in &view.backlog {
        chunks += output.chunks;
        bytes += output.bytes;
    }
    format!(
        "{:>7.1}s  {:<10} read {} lines, delivered {}, spilled {}; to go: {chunks} chunks, {bytes} bytes, {} bytes unread; {}s left",
        view.elapsed.as_secs_f64(),
        format!("{:?}", view.stage).to_lowercase(),
        view.ledger.lines_read,
        view.ledger.delivered,
        view.ledger.spilled,
        view.ledger.behind_bytes,
        view.left.as_secs(),
    )
}

fn summary(report: &DrainReport) -> Vec<String> {
    let mut lines = vec![format!(
        "{:>7.1}s  {:?}; read {} lines, delivered {}, spilled {}, backed up {}, discarded {}, dropped {}, kept {}",
        report.took.as_secs_f64(),
        report.release,
        report.ledger.lines_read,
        report.ledger.delivered,
        report.ledger.spilled,
        report.ledger.backed_up,
        report.ledger.discarded,
        report.ledger.dropped + report.ledger.skipped,
        report.ledger.kept,
    )];
    lines.extend(report.manifest.iter().map(|key| format!("manifest: {key}")));
    lines.extend(
        report
            .residue
            .places
            .iter()
            .map(|place| format!("not safe: {place}")),
    );
    lines.extend(not_archived(&report.files));
    lines
}

fn ended_well(report: &DrainReport) -> bool {
    let released = !matches!(report.release, Release::Failed(_));
    if !released {
        error!(release = ?report.release, "the drain ended and the hook is not released");
    }
    released && report.residue.is_empty() && not_archived(&report.files).is_empty()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::drain::archive::FileResult;
    use crate::drain::params::{Params, Source};

    #[test]
    fn a_drain_that_did_not_archive_everything_did_not_end_well() {
        let mut report = DrainReport {
            release: Release::Nothing("nobody waits".to_owned()),
            residue: Default::default(),
            spilled: Default::default(),
            before: vec![],
            files: vec![],
            manifest: None,
            after: vec![],
            deleted: false,
            ledger: Default::default(),
            took: Duration::ZERO,
            lives_on: false,
        };
        assert!(ended_well(&report));
        report.files.push(FileResult {
            path: "/var/log/a.log".to_owned(),
            key: None,
            bytes: 0,
            truncated: false,
            error: Some("AccessDenied".to_owned()),
        });
        assert!(!ended_well(&report));
        assert_eq!(
            summary(&report).last().map(String::as_str),
            Some("not archived: /var/log/a.log: AccessDenied")
        );
    }

    #[tokio::test]
    async fn a_watch_that_panics_is_an_error_and_not_a_silence() {
        let params = Params {
            source: Source::None,
            ..Params::default()
        };
        let (tell, notices) = mpsc::channel(1);
        let mut termination = Termination {
            plan: Arc::new(Plan::new(params).expect("a plan")),
            aws: Arc::new(Aws::new(aws::Settings::default()).expect("a client")),
            control: None,
            notices,
            watcher: tokio::spawn(async move {
                let _tell = tell;
                panic!("a scripted panic");
            }),
        };
        let rung = termination.rings().await;
        assert!(rung.is_err_and(|error| error.to_string().contains("died unasked")));
    }
}
