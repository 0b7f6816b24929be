//! The torture: the real binary is killed with SIGKILL again and again while an application writes and rotates, and in the end every
//! line must have arrived.
//!
//! One round is a [`plan::Plan`] drawn from a seed. An application ([`writer`]) writes numbered, self-checking lines and knows
//! where each stands; a receiver keeps what comes before it acks, late. When the process is dead its pos_file is read ([`book`]):
//! what it calls safe must have arrived, and only what it leaves open may come again ([`verdict`]). At last everything quiets
//! down, what was written has to arrive, and SIGTERM has to end the agent with nothing left to read.
//!
//! `cargo run --release --example torture -- --rounds 100 [--seed N]` runs as many rounds as asked for; `cargo test` a few.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use nix::sys::signal::Signal;
use tempfile::TempDir;

use crate::support::agent::Agent;
use crate::support::forward_server::{ForwardServer, Mode};
use crate::support::ledger::{Ledger, LineId};

use plan::{Moment, Plan};
use truncating::Truncating;
use verdict::{Copied, Kill, Verdict};
use writer::{Shared, WRITER, Writer};

pub mod book;
pub mod plan;
pub mod truncating;
pub mod verdict;
pub mod writer;

/// No wait of a round may take longer: a bound for a broken agent, not an expectation.
const PATIENCE: Duration = Duration::from_secs(30);
/// How often the pos_file is looked at.
const GLANCE: Duration = Duration::from_millis(10);
/// How often a kill with a chunk in flight is tried again where the ack was quicker.
const ATTEMPTS: usize = 10;

/// A finished round.
pub struct Round {
    /// What was judged.
    pub verdict: Verdict,
    /// What every life of the agent printed.
    pub log: String,
    /// Where everything stands; removed when dropped.
    pub dir: TempDir,
}

/// Runs the round of this plan with this binary.
///
/// # Errors
/// When the round could not be run: the agent does not start, or ends by itself.
pub async fn run(binary: &Path, plan: &Plan) -> Result<Round> {
    let scene = Scene::new(binary, plan).await?;
    let (own, foreign) = (
        scene.dir.path().join("own"),
        scene.dir.path().join("copied"),
    );
    let writer = Writer::start(&own, plan, scene.receiver.clone())?;
    let truncating = Truncating::start(&foreign, plan.seed)?;
    let mut log = String::new();
    let mut kills = Vec::new();
    let killed = scene
        .kill_again_and_again(writer.shared(), &mut kills, &mut log)
        .await;
    let last = match killed {
        Ok(()) => scene.start().map(Some),
        Err(error) => Err(error),
    };
    if let Ok(Some(_)) = &last {
        tokio::time::sleep(plan.last).await;
    }
    let (book, _) = writer.stop().await?;
    let copied = truncating.stop().await?;
    let mut agent = last
        .with_context(|| format!("the agent printed:\n{log}"))?
        .context("started")?;
    let mut faults = scene.quiet_down(&mut agent, &book).await;
    log += &agent.log_text();
    let mut verdict = scene
        .receiver
        .state()
        .read(|state| Verdict::new(&book, state, kills));
    verdict.faults.append(&mut faults);
    verdict.copied = scene.count_copied(copied);
    Ok(Round {
        verdict,
        log,
        dir: scene.dir,
    })
}

/// What stands around the agent.
struct Scene<'a> {
    dir: TempDir,
    binary: &'a Path,
    plan: &'a Plan,
    config: PathBuf,
    receiver: Arc<ForwardServer>,
    /// For the lines of the file with copytruncate.
    other: ForwardServer,
}

impl<'a> Scene<'a> {
    async fn new(binary: &'a Path, plan: &'a Plan) -> Result<Scene<'a>> {
        let scene = Scene {
            dir: tempfile::tempdir()?,
            binary,
            plan,
            config: PathBuf::new(),
            receiver: Arc::new(ForwardServer::start().await?),
            other: ForwardServer::start().await?,
        };
        let (least, most) = plan.ack;
        scene.receiver.set_mode(Mode::Late(least, most)).await;
        for folder in ["own", "copied", "state"] {
            std::fs::create_dir(scene.dir.path().join(folder))?;
        }
        let config = scene.dir.path().join("affluent.conf");
        std::fs::write(&config, scene.config())?;
        Ok(Scene { config, ..scene })
    }

    fn config(&self) -> String {
        let Plan {
            pattern,
            flush,
            chunk_limit,
            total_limit,
            flush_threads,
            rotate_wait,
            events,
            ..
        } = self.plan;
        let dir = self.dir.path().display();
        let storage = self.plan.storage.params();
        let source = |path: &str, tag: &str| {
            format!(
                "<source>\n  @type tail\n  path {dir}/{path}\n  pos_file {dir}/state/{tag}.pos\n  tag {tag}\n  read_from_head true\n  \
                 refresh_interval 1\n  rotate_wait {rotate_wait}\n  enable_stat_watcher {events}\n  <parse>\n    @type none\n  </parse>\n</source>\n"
            )
        };
        let forward = |tag: &str, port: u16| {
            format!(
                "<match {tag}>\n  @type forward\n  require_ack_response true\n  heartbeat_type none\n  <server>\n    host 127.0.0.1\n    \
                 port {port}\n  </server>\n  <buffer>\n    {storage}\n    {flush}\n    flush_thread_count {flush_threads}\n    chunk_limit_size \
                 {chunk_limit}\n    total_limit_size {total_limit}\n    retry_max_interval 1s\n  </buffer>\n</match>\n"
            )
        };
        source(&format!("own/{pattern}"), "own")
            + &source(&format!("copied/{}", truncating::LOG), "copied")
            + &forward("own", self.receiver.port())
            + &forward("copied", self.other.port())
    }

    fn start(&self) -> Result<Agent> {
        Agent::start_file(self.binary, &self.config, &[])
    }

    /// The lives that end by SIGKILL.
    async fn kill_again_and_again(
        &self,
        shared: &Shared,
        kills: &mut Vec<Kill>,
        log: &mut String,
    ) -> Result<()> {
        for life in &self.plan.lives {
            for _ in 0..ATTEMPTS {
                let kill = self.live(shared, life.until, log).await?;
                let enough = kill.in_flight > 0 || life.until != Moment::InFlight;
                kills.push(kill);
                if enough {
                    break;
                }
            }
            tokio::time::sleep(life.pause).await;
        }
        // Without this the round would be won by an agent that never sends.
        ensure!(
            kills.iter().any(|kill| kill.in_flight > 0),
            "no chunk was in flight at any of {} kills",
            kills.len()
        );
        Ok(())
    }

    /// One of them.
    async fn live(&self, shared: &Shared, until: Moment, log: &mut String) -> Result<Kill> {
        let born = Instant::now();
        let mut agent = self.start()?;
        let lived = self.until(&agent, born, until, shared).await;
        shared.set_agent_is_up(false);
        let killed = match lived {
            Ok(()) => agent.kill().await,
            Err(error) => Err(error),
        };
        *log += &agent.log_text();
        killed?;
        // The process is gone: nobody writes the pos_file any more.
        let pos_file = self.pos_file()?;
        let shown = pos_file.as_deref().unwrap_or("there is none");
        *log += &format!("\n--- killed; the pos_file says:\n{shown}---\n");
        Ok(self.look(shared, born, pos_file.as_deref()))
    }

    async fn until(
        &self,
        agent: &Agent,
        born: Instant,
        until: Moment,
        shared: &Shared,
    ) -> Result<()> {
        match until {
            Moment::After(time) => {
                let up = agent.wait_for_line("worker is now running", time).await;
                shared.set_agent_is_up(up.is_ok());
                // The moment itself is what the plan asks for, whatever the agent does then.
                tokio::time::sleep(time.saturating_sub(born.elapsed())).await;
                Ok(())
            }
            Moment::InFlight => {
                agent
                    .wait_for_line("worker is now running", PATIENCE)
                    .await?;
                shared.set_agent_is_up(true);
                self.receiver
                    .wait_for("a chunk in flight", PATIENCE, |state| {
                        state
                            .deliveries
                            .iter()
                            .rev()
                            .take_while(|d| d.at > born)
                            .any(|d| !d.acked)
                    })
                    .await
            }
        }
    }

    /// What is to be seen of a kill.
    fn look(&self, shared: &Shared, born: Instant, pos_file: Option<&str>) -> Kill {
        let claim = shared.book().claim(pos_file);
        let line = |number| LineId {
            writer: WRITER,
            number,
        };
        self.receiver.state().read(|state| Kill {
            in_flight: state
                .deliveries
                .iter()
                .rev()
                .take_while(|d| d.at > born)
                .filter(|d| !d.acked)
                .count(),
            too_early: (0..)
                .zip(&claim.safe)
                .filter(|(number, safe)| **safe && !state.distinct.contains(&line(*number)))
                .map(|(number, _)| number)
                .collect(),
            claim,
        })
    }

    fn pos_file(&self) -> Result<Option<String>> {
        match std::fs::read(self.dir.path().join("state/own.pos")) {
            Ok(text) => Ok(Some(String::from_utf8_lossy(&text).into_owned())),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error).context("cannot read the pos_file"),
        }
    }

    /// Nothing more is written: everything has to arrive, and the agent to end. Returns what went wrong.
    async fn quiet_down(&self, agent: &mut Agent, book: &book::Book) -> Vec<String> {
        let mut faults = Vec::new();
        let lines = usize::try_from(book.lines()).unwrap_or(usize::MAX);
        // What is missing is told by its ids; what is still being repeated then, by the pos_file.
        let _ = self.receiver.wait_for_lines(lines, PATIENCE).await;
        let finished = || matches!(self.pos_file(), Ok(Some(text)) if book.is_finished(&text));
        let end = Instant::now() + PATIENCE;
        while !finished() && Instant::now() < end {
            tokio::time::sleep(GLANCE).await;
        }
        let ended = match agent.signal(Signal::SIGTERM) {
            Ok(()) => agent.wait_exit(PATIENCE).await,
            Err(error) => Err(error),
        };
        match ended {
            Ok(status) if status.success() => {}
            Ok(status) => faults.push(format!("the agent ended with {status} at SIGTERM")),
            Err(error) => faults.push(format!("{error:#}")),
        }
        if !finished() {
            faults.push(format!(
                "after the stop something is left to read: pos_file {:?}, files {:?}",
                self.pos_file(),
                last_files(book)
            ));
        }
        faults
    }

    fn count_copied(&self, written: Vec<LineId>) -> Copied {
        self.other.state().read(|state| {
            let mut ledger = Ledger::new(written.iter().copied());
            ledger.arrived("the other receiver", state.lines.iter().copied());
            Copied {
                written: written.len(),
                lost: ledger.missing().len(),
                duplicated: ledger.duplicates(),
                damaged: state.damaged.len(),
            }
        })
    }
}

/// Inode and size of the last generations, for a message.
fn last_files(book: &book::Book) -> Vec<(String, u64)> {
    let last = book.generations.iter().rev().take(3);
    last.map(|g| (format!("{:x}", g.inode), g.size())).collect()
}

#[cfg(test)]
mod tests;
