//! What stands around the agent of a round: its configuration, the receivers, what it keeps on disk; and its lives.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use fastrand::Rng;
use nix::sys::signal::Signal;
use tempfile::TempDir;

use super::book::Book;
use super::damage::{self, Damage};
use super::plan::{Filling, Full, Kind, Moment, Plan, Storage};
use super::truncating;
use super::verdict::{self, Copied, Kill, OF_A_FILE_BUFFER, Repeats, chunk_id};
use super::writer::{Shared, WRITER};
use super::{GLANCE, PATIENCE, chunks, full};
use crate::support::agent::Agent;
use crate::support::forward_server::{ForwardServer, Mode, State};
use crate::support::ledger::{Ledger, LineId};
use crate::support::tiny_disk::TinyDisk;

/// How often a kill with a chunk in flight is tried again where the ack was quicker.
const ATTEMPTS: usize = 10;
/// What the agent says when it has begun to read.
pub const RUNNING: &str = "worker is now running";

/// Between two lives in the log of a round.
pub const KILLED: &str = "\n--- killed;";

/// What stands around the agent.
pub struct Scene<'a> {
    /// Everything on disk.
    pub dir: TempDir,
    /// For the lines that are judged.
    pub receiver: Arc<ForwardServer>,
    /// What is done here.
    pub plan: &'a Plan,
    /// Where the chunks are, where it is tiny.
    pub disk: Option<TinyDisk>,
    binary: &'a Path,
    config: PathBuf,
    /// For the lines of the file with copytruncate.
    other: ForwardServer,
}

impl<'a> Scene<'a> {
    /// Nothing runs yet but the receivers.
    ///
    /// # Errors
    /// When it cannot be set up.
    pub async fn new(binary: &'a Path, plan: &'a Plan) -> Result<Scene<'a>> {
        let dir = tempfile::tempdir()?;
        for folder in ["own", "copied", "state", "buffer", "tiny"] {
            std::fs::create_dir(dir.path().join(folder))?;
        }
        let full = plan.full.as_ref();
        let disk = full.map(|full| TinyDisk::new(&dir.path().join("tiny"), full.size));
        let scene = Scene {
            config: dir.path().join("affluent.conf"),
            dir,
            disk: disk.transpose()?,
            binary,
            plan,
            receiver: Arc::new(ForwardServer::start().await?),
            other: ForwardServer::start().await?,
        };
        let (least, most) = plan.ack;
        let mode = match plan.full.map(|full| full.by) {
            Some(Filling::Away) => Mode::Refuse,
            _ => Mode::Late(least, most),
        };
        scene.receiver.set_mode(mode).await;
        if let Some(disk) = &scene.disk {
            std::fs::create_dir(disk.path().join("state"))?;
            if matches!(
                plan.full,
                Some(Full {
                    by: Filling::Foreign(Duration::ZERO),
                    ..
                })
            ) {
                disk.fill()?;
            }
        }
        std::fs::write(&scene.config, scene.config())?;
        Ok(scene)
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
            extra,
            ..
        } = self.plan;
        let dir = self.dir.path().display();
        let source = |path: &str, tag: &str| {
            let pos_file = self.pos_file(tag);
            let pos_file = pos_file.display();
            format!(
                "<source>\n  @type tail\n  path {dir}/{path}\n  pos_file {pos_file}\n  tag {tag}\n  read_from_head true\n  \
                 refresh_interval 1\n  rotate_wait {rotate_wait}\n  enable_stat_watcher {events}\n  <parse>\n    @type none\n  </parse>\n</source>\n"
            )
        };
        let forward = |tag: &str, port: u16| {
            let storage = match (tag, &self.disk) {
                ("copied", Some(_)) => Storage::Memory,
                _ => self.plan.storage,
            };
            let storage = storage.params(&self.buffer(tag));
            format!(
                "<match {tag}>\n  @type forward\n  require_ack_response true\n  heartbeat_type none\n  <server>\n    host 127.0.0.1\n    \
                 port {port}\n  </server>\n  <buffer>\n    {storage}\n    {extra}\n    {flush}\n    flush_thread_count {flush_threads}\n    chunk_limit_size \
                 {chunk_limit}\n    total_limit_size {total_limit}\n    retry_max_interval 1s\n  </buffer>\n</match>\n"
            )
        };
        source(&format!("own/{pattern}"), "own")
            + &source(&format!("copied/{}", truncating::LOG), "copied")
            + &forward("own", self.receiver.port())
            + &forward("copied", self.other.port())
    }

    fn buffer(&self, tag: &str) -> PathBuf {
        match &self.disk {
            Some(disk) => disk.path().join("buffer"),
            None => self.dir.path().join("buffer").join(tag),
        }
    }

    /// The pos_file of the source with this tag.
    pub fn pos_file(&self, tag: &str) -> PathBuf {
        let state_too = self.plan.full.is_some_and(|full| full.state_too);
        let dir = match &self.disk {
            Some(disk) if state_too && tag == "own" => disk.path(),
            _ => self.dir.path(),
        };
        dir.join("state").join(format!("{tag}.pos"))
    }

    /// Another life.
    ///
    /// # Errors
    /// When the process cannot be made.
    pub fn start(&self) -> Result<Agent> {
        Agent::start_file(self.binary, &self.config, &[])
    }

    /// The lives that end by SIGKILL.
    ///
    /// # Errors
    /// When the agent ended by itself, or the kills met neither a chunk in flight nor a full disk, as the plan has it.
    pub async fn kill_again_and_again(
        &self,
        shared: &Shared,
        kills: &mut Vec<Kill>,
        log: &mut String,
    ) -> Result<()> {
        for life in &self.plan.lives {
            for _ in 0..ATTEMPTS {
                let kill = self.live(shared, life.until, kills, log).await?;
                let enough = match life.until {
                    Moment::InFlight => !kill.in_flight.is_empty(),
                    Moment::Kept(_) => !kill.damage.is_empty(),
                    Moment::After(_) | Moment::Full(_) => true,
                };
                kills.push(kill);
                if enough {
                    break;
                }
            }
            tokio::time::sleep(life.pause).await;
        }
        self.proves_something(kills)
    }

    /// A round in which nothing was in flight at any kill, or nothing damaged, would be won by an agent that never sends or never keeps.
    /// That the disk was full is seen in each life.
    fn proves_something(&self, kills: &[Kill]) -> Result<()> {
        let holds = |what: fn(&Kill) -> bool| kills.iter().any(what);
        match self.plan.kind {
            Kind::Memory | Kind::File => ensure!(
                holds(|kill| !kill.in_flight.is_empty()),
                "no chunk was in flight at any of {} kills",
                kills.len()
            ),
            Kind::Harmed | Kind::Wounded => ensure!(
                holds(|kill| !kill.damage.is_empty()),
                "no chunk was there to be damaged at any of {} kills",
                kills.len()
            ),
            Kind::Full => {}
        }
        Ok(())
    }

    /// The life that ends by SIGTERM, as long as the application writes.
    ///
    /// # Errors
    /// When it cannot begin, or the disk was to be full and is not.
    pub async fn last_life(&self, log: &mut String) -> Result<Agent> {
        let agent = self.start()?;
        let full = self.until_full(&agent).await;
        if full.is_err() {
            *log += &agent.log_text();
        }
        full?;
        self.relieve().await?;
        tokio::time::sleep(self.plan.last).await;
        Ok(agent)
    }

    /// One of them.
    async fn live(
        &self,
        shared: &Shared,
        until: Moment,
        kills: &[Kill],
        log: &mut String,
    ) -> Result<Kill> {
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
        let flapping = full::flapping(&agent, born);
        // The process is gone: nobody writes the pos_file any more.
        let pos_file = self.positions()?;
        let shown = pos_file.as_deref().unwrap_or("there is none");
        *log += &format!("{KILLED} the pos_file says:\n{shown}---\n");
        let mut kill = self.look(shared, born, pos_file.as_deref(), kills)?;
        kill.faults.extend(flapping);
        let damage = self.damage(&kill.claim.safe)?;
        for done in &damage {
            *log += &format!("--- {} {}\n", done.file, done.what);
        }
        if !damage.is_empty() {
            (kill.stays, kill.repeats) = (false, Repeats::LeftOpen);
            kill.damage = damage;
        }
        Ok(kill)
    }

    /// Damages the buffer as the plan has it.
    fn damage(&self, safe: &[bool]) -> Result<Vec<Damage>> {
        let directory = self.buffer("own");
        let mut rng = Rng::new();
        match self.plan.kind {
            Kind::Memory | Kind::File | Kind::Full => Ok(Vec::new()),
            Kind::Harmed => {
                let pos_file = self.pos_file("own");
                let mut state = pos_file.clone().into_os_string();
                state.push(".state");
                damage::harm(&directory, &[pos_file, state.into()], safe, &mut rng)
            }
            Kind::Wounded => damage::wound(&directory, &mut rng),
        }
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
                let up = agent.wait_for_line(RUNNING, time).await;
                shared.set_agent_is_up(up.is_ok());
                // The moment itself is what the plan asks for, whatever the agent does then.
                tokio::time::sleep(time.saturating_sub(born.elapsed())).await;
                Ok(())
            }
            Moment::Full(time) => {
                agent.wait_for_line(RUNNING, PATIENCE).await?;
                shared.set_agent_is_up(true);
                self.until_full(agent).await?;
                tokio::time::sleep(time).await;
                Ok(())
            }
            Moment::Kept(time) => {
                agent.wait_for_line(RUNNING, PATIENCE).await?;
                shared.set_agent_is_up(true);
                let end = Instant::now() + PATIENCE;
                while !chunks::any(&self.buffer("own"))? && Instant::now() < end {
                    tokio::time::sleep(GLANCE).await;
                }
                tokio::time::sleep(time).await;
                Ok(())
            }
            Moment::InFlight => {
                agent.wait_for_line(RUNNING, PATIENCE).await?;
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
    fn look(
        &self,
        shared: &Shared,
        born: Instant,
        pos_file: Option<&str>,
        kills: &[Kill],
    ) -> Result<Kill> {
        let claim = shared.book().claim(pos_file);
        let kept = chunks::read(&self.buffer("own"))?;
        let held: BTreeSet<u64> = kept.iter().flat_map(chunks::ChunkFile::numbers).collect();
        // What an earlier damage took is judged there.
        let taken = verdict::may_lose(kills);
        let line = |number| LineId {
            writer: WRITER,
            number,
        };
        Ok(self.receiver.state().read(|state| Kill {
            in_flight: state
                .deliveries
                .iter()
                .rev()
                .take_while(|d| d.at > born)
                .filter(|d| !d.acked)
                .map(chunk_id)
                .collect(),
            too_early: (0..)
                .zip(&claim.safe)
                .filter(|(number, safe)| {
                    **safe
                        && !held.contains(number)
                        && !taken.contains(number)
                        && !state.distinct.contains(&line(*number))
                })
                .map(|(number, _)| number)
                .collect(),
            claim,
            held: held.len(),
            stays: !matches!(self.plan.kind, Kind::Memory | Kind::Full),
            damage: Vec::new(),
            repeats: match self.plan.kind {
                Kind::File | Kind::Harmed | Kind::Wounded => OF_A_FILE_BUFFER,
                // While the disk takes nothing, chunks are sent from memory.
                Kind::Memory | Kind::Full => Repeats::LeftOpen,
            },
            faults: Vec::new(),
        }))
    }

    fn positions(&self) -> Result<Option<String>> {
        match std::fs::read(self.pos_file("own")) {
            Ok(text) => Ok(Some(String::from_utf8_lossy(&text).into_owned())),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error).context("cannot read the pos_file"),
        }
    }

    /// Nothing more is written: everything has to arrive, and the agent to end. Returns what went wrong.
    /// Lines that `may_lose` names are not waited for.
    pub async fn quiet_down(
        &self,
        agent: &mut Agent,
        book: &Book,
        may_lose: &BTreeSet<u64>,
    ) -> Vec<String> {
        let mut faults = Vec::new();
        self.receiver.set_mode(Mode::Ack).await;
        let lines = usize::try_from(book.lines()).unwrap_or(usize::MAX) - may_lose.len();
        let line = |number: &u64| LineId {
            writer: WRITER,
            number: *number,
        };
        let all = |state: &State| {
            let came = may_lose
                .iter()
                .filter(|number| state.distinct.contains(&line(number)));
            state.distinct.len() - came.count() >= lines
        };
        // What is missing is told by its ids; what is still being repeated then, by the pos_file.
        let _ = self.receiver.wait_for("all lines", PATIENCE, all).await;
        let is_empty = || matches!(chunks::any(&self.buffer("own")), Ok(false));
        let finished =
            || matches!(self.positions(), Ok(Some(text)) if book.is_finished(&text)) && is_empty();
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
                "after the stop something is left: pos_file {:?}, files {:?}, chunks {:?}",
                self.positions(),
                last_files(book),
                chunks::read(&self.buffer("own"))
                    .map(|all| all.into_iter().map(|chunk| chunk.path).collect::<Vec<_>>())
            ));
        }
        faults
    }

    /// What became of the other application's lines.
    pub fn count_copied(&self, written: Vec<LineId>) -> Copied {
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
fn last_files(book: &Book) -> Vec<(String, u64)> {
    let last = book.generations.iter().rev().take(3);
    last.map(|g| (format!("{:x}", g.inode), g.size())).collect()
}
