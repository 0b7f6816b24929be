//! `cargo run --release --example quickstart`: the main job in ten seconds, on this machine alone.
//!
//! Runs the real agent on `conf/quickstart.conf` between a log writer, two forward servers and the EC2 world of the tests. It kills
//! the primary server, terminates the instance while lines are still written, and lets the standby refuse the last of them. Then it
//! prints what happened and where every line went; it ends with 0 only if none is missing.

#![allow(clippy::print_stdout, reason = "printing is what it is for")]

use std::collections::BTreeSet;
use std::path::Path;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use nix::sys::signal::Signal;

use support::agent::{Agent, binary};
use support::ec2::autoscaling::Outcome;
use support::ec2::hooks::LifecycleState;
use support::ec2::http::Service;
use support::ec2::state::Happening;
use support::ec2::{ASSUMED, Ec2World};
use support::forward_server::{ForwardServer, Received};
use support::ledger::{Ledger, LineId};
use support::log_writer::{LogFile, LogWriter, Pace};

mod support;

const CONFIG: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/conf/quickstart.conf");
const BUCKET: &str = "logs";
/// Lines until the primary is killed, and from then until the instance is terminated.
const STRETCH: u64 = 6_000;
/// Lines that the application writes on its way down, when no server listens any more.
const LAST_WORDS: u64 = 2_000;
/// More objects than these are told in one line.
const OBJECTS_SHOWN: usize = 6;
/// No step takes longer than this on a slow machine, unless something is broken.
const PATIENCE: Duration = Duration::from_secs(60);

#[tokio::main]
async fn main() -> ExitCode {
    match run().await {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            println!("quickstart could not finish: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Everything outside the agent.
struct Stage {
    dir: tempfile::TempDir,
    world: Ec2World,
    primary: ForwardServer,
    standby: ForwardServer,
}

async fn run() -> Result<bool> {
    let binary = tokio::task::spawn_blocking(binary).await??;
    let stage = Stage {
        dir: tempfile::tempdir()?,
        world: Ec2World::start().await?,
        primary: ForwardServer::start().await?,
        standby: ForwardServer::start().await?,
    };
    let begin = Instant::now();
    let mut story = Story::new(begin);
    let mut agent = Agent::start_file(&binary, Path::new(CONFIG), &stage.env())?;
    let played = play(&stage, &mut story, &mut agent).await;
    story.tell_world(&stage);
    println!("{}", story.text());
    let (written, error) = match played {
        Ok(log) => (log.written(), None),
        Err((written, error)) => (written, Some(error)),
    };
    let (ledger, complete) = book(&stage, written)?;
    println!("\nWhere every line went (each counted where it arrived first)\n{ledger}");
    if let Some(error) = error {
        println!("\nthe agent's last words:");
        let log = agent.log();
        for line in &log[log.len().saturating_sub(8)..] {
            println!("  {}", line.text);
        }
        return Err(error);
    }
    println!(
        "\n{}. The AWS of this run is simulated; {} of its behaviours are assumed, not documented.",
        if complete {
            "Nothing is missing"
        } else {
            "LINES ARE MISSING"
        },
        ASSUMED.len()
    );
    Ok(complete)
}

type Played = Result<LogFile, (Vec<LineId>, anyhow::Error)>;

/// The writer's life around the story: whatever fails, what was written is known.
async fn play(stage: &Stage, story: &mut Story, agent: &mut Agent) -> Played {
    let nothing = |error| (Vec::new(), error);
    let pace = Pace {
        rate: 4_000,
        ..Pace::default()
    };
    let log = stage.dir.path().join("app.log");
    let writer = LogWriter::start(log, 1, pace).map_err(nothing)?;
    let until_stop = tokio::select! {
        done = until_app_is_stopped(stage, story, &writer) => done,
        ended = agent.wait_exit(PATIENCE * 10) => {
            ended.and_then(|status| bail!("the agent ended before its time, {status}"))
        }
    };
    let mut log = writer.stop().await.map_err(nothing)?;
    let ended = match until_stop {
        Ok(()) => until_end(stage, story, agent, &mut log).await,
        Err(error) => Err(error),
    };
    match ended {
        Ok(()) => Ok(log),
        Err(error) => Err((log.written(), error)),
    }
}

/// Runs until the drain has asked the application to stop.
async fn until_app_is_stopped(stage: &Stage, story: &mut Story, writer: &LogWriter) -> Result<()> {
    let (primary, standby) = (&stage.primary, &stage.standby);
    story.note("the application writes 4000 lines a second");
    primary.wait_for_lines(STRETCH as usize, PATIENCE).await?;
    primary.stop().await;
    story.note("the primary server is killed");
    let more = writer.count() + STRETCH;
    standby.wait_for_lines(1, PATIENCE).await?;
    writer.wait_for_count(more, PATIENCE).await?;
    stage.world.terminate(stage.world.instance());
    stage.appears("stop-app").await?;
    story.note("<before>: the application is told to stop");
    // The flush goes on while the application is being stopped; a drain that pauses it is slower, not wrong.
    let (known, soon) = (
        standby.state().read(|s| s.distinct.len()),
        Duration::from_secs(3),
    );
    let _ = standby.wait_for_lines(known + 1, soon).await;
    Ok(())
}

/// The application's last lines find no server; then the drain runs to its end, and the instance with it.
async fn until_end(
    stage: &Stage,
    story: &mut Story,
    agent: &mut Agent,
    log: &mut LogFile,
) -> Result<()> {
    stage.standby.stop().await;
    story.note("the standby refuses");
    log.lines(LAST_WORDS)?;
    std::fs::write(stage.dir.path().join("app-stopped"), "")?;
    story.note(&format!(
        "the application has stopped, after {LAST_WORDS} last lines"
    ));
    let gone = |what: &Happening| matches!(what, Happening::Entered { state, .. } if *state == LifecycleState::Terminated);
    let world = &stage.world;
    world
        .wait_moment("the instance to be released", PATIENCE, gone)
        .await?;
    let letter = |what: &Happening| matches!(what, Happening::MessageDeleted { .. });
    world
        .wait_moment("the message to be deleted", PATIENCE, letter)
        .await?;
    agent.signal(Signal::SIGTERM)?;
    let status = agent.wait_exit(PATIENCE).await?;
    story.note(&format!("the agent ends, {status}"));
    Ok(())
}

impl Stage {
    fn env(&self) -> Vec<(String, String)> {
        let in_dir = |name: &str| self.dir.path().join(name).display().to_string();
        // What `systemctl stop app` does on an instance: tell the application, and wait until it is gone.
        let stop = format!(
            "touch {0}/stop-app; while [ ! -e {0}/app-stopped ]; do sleep 0.02; done",
            self.dir.path().display()
        );
        let own = [
            ("APP_LOG", in_dir("app.log")),
            ("APP_POS", in_dir("app.log.pos")),
            ("PRIMARY_HOST", "127.0.0.1".to_string()),
            ("PRIMARY_PORT", self.primary.port().to_string()),
            ("STANDBY_HOST", "127.0.0.1".to_string()),
            ("STANDBY_PORT", self.standby.port().to_string()),
            ("HOOK_QUEUE_URL", self.world.queue_url()),
            ("DRAIN_JOURNAL", in_dir("drain.json")),
            ("MAX_DRAIN", "30s".to_string()),
            ("STOP_APP", stop),
            ("LOG_BUCKET", BUCKET.to_string()),
        ];
        let own = own.map(|(name, value)| (name.to_string(), value));
        self.world.env().into_iter().chain(own).collect()
    }

    /// Waits until the agent's child process has made a file.
    async fn appears(&self, name: &str) -> Result<()> {
        let file = self.dir.path().join(name);
        let look = async {
            while !file.exists() {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::time::timeout(PATIENCE, look).await.with_context(|| {
            format!("the drain did not run its <before> command within {PATIENCE:?}")
        })
    }
}

/// Every place where lines are, and whether all written ones are in one of them.
fn book(stage: &Stage, written: Vec<LineId>) -> Result<(Ledger, bool)> {
    let mut ledger = Ledger::new(written);
    ledger.arrived(
        "primary server",
        stage.primary.state().read(|s| s.lines.clone()),
    );
    ledger.arrived(
        "standby server",
        stage.standby.state().read(|s| s.lines.clone()),
    );
    let mut rest = (0, Vec::new());
    for (index, object) in stage.world.objects()?.iter().enumerate() {
        let lines: Vec<LineId> = LineId::find_all(&object.text()?).collect();
        if lines.is_empty() {
            continue;
        }
        if index < OBJECTS_SHOWN {
            ledger.arrived(format!("s3://{}/{}", object.bucket, object.key), lines);
        } else {
            rest.0 += 1;
            rest.1.extend(lines);
        }
    }
    if rest.0 > 0 {
        ledger.arrived(format!("s3://{BUCKET}/…, {} more objects", rest.0), rest.1);
    }
    let complete = ledger.missing().is_empty() && ledger.unknown().is_empty();
    Ok((ledger, complete))
}

/// The timeline: what we did, what the world and the servers saw.
struct Story {
    begin: Instant,
    lines: Vec<(Instant, String)>,
}

impl Story {
    fn new(begin: Instant) -> Self {
        let lines = Vec::new();
        Self { begin, lines }
    }

    fn note(&mut self, what: &str) {
        self.lines.push((Instant::now(), what.to_string()));
    }

    fn tell_world(&mut self, stage: &Stage) {
        let moments = stage.world.timeline();
        let notice = moments
            .iter()
            .find(|m| matches!(m.what, Happening::NoticeRead { .. }));
        let first = |server: &ForwardServer| server.received().first().map(|r: &Received| r.at);
        let last_ack = |server: &ForwardServer| {
            let acked = server.received().into_iter().filter(|r| r.acked);
            acked.map(|r| r.at).last()
        };
        let mut told = BTreeSet::new();
        let mut objects = 0;
        for moment in &moments {
            let text = match &moment.what {
                Happening::Stored { path, bytes } => {
                    objects += 1;
                    let manifest = path.contains("/drain-");
                    let what = if manifest { "manifest" } else { "spill" };
                    (objects <= OBJECTS_SHOWN || manifest)
                        .then(|| format!("{what}: {bytes} bytes to s3:/{path}"))
                }
                other => tell(other).filter(|text| told.insert(text.clone())),
            };
            self.lines.extend(text.map(|text| (moment.at, text)));
        }
        let marks = [
            (first(&stage.primary), "first lines on the primary"),
            (
                first(&stage.standby),
                "fail-over: first lines on the standby",
            ),
            (
                last_ack(&stage.standby).filter(|at| notice.is_some_and(|n| n.at < *at)),
                "flush: last ack of the standby",
            ),
        ];
        for (at, text) in marks {
            self.lines.extend(at.map(|at| (at, text.to_string())));
        }
    }

    fn text(&self) -> String {
        let mut lines = self.lines.clone();
        lines.sort_by_key(|(at, _)| *at);
        let shown = lines.iter().map(|(at, text)| {
            let since = at.saturating_duration_since(self.begin);
            format!("  {:>9.3} s  {text}", since.as_secs_f64())
        });
        let shown: Vec<String> = shown.collect();
        format!("What happened\n{}", shown.join("\n"))
    }
}

/// One line for what the world saw; nothing for what a newcomer need not see.
fn tell(what: &Happening) -> Option<String> {
    let text = match what {
        Happening::NoticeRead { .. } => {
            "notice: the agent reads Terminated in the metadata".to_string()
        }
        Happening::Entered {
            state: LifecycleState::Terminating,
            ..
        } => "the group decides to terminate the instance".to_string(),
        Happening::Entered {
            state: LifecycleState::TerminatingWait,
            ..
        } => "Terminating:Wait: the hook holds the instance".to_string(),
        Happening::Entered {
            state: LifecycleState::Terminated,
            ..
        } => "the instance is terminated".to_string(),
        Happening::Heartbeat { .. } => "first heartbeat: the hook is kept waiting".to_string(),
        Happening::Completed { hook, result } => {
            format!("complete: hook {hook} is released with {}", result.as_str())
        }
        Happening::Ended {
            hook,
            outcome: Outcome::TimedOut(_),
        } => {
            format!("hook {hook} timed out")
        }
        Happening::MessageDeleted { .. } => {
            "delete: the hook's message leaves the queue".to_string()
        }
        Happening::Refused {
            service,
            operation,
            status,
        } if *service != Service::Imds => {
            format!("{} refuses {operation}: {status}", service.as_str())
        }
        _ => return None,
    };
    Some(text)
}
