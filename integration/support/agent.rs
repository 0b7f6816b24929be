//! The real binary as a test or the quickstart runs it: a configuration in a temporary directory, its log lines, its signals.

use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt, AsyncRead, BufReader};
use tokio::process::{Child, Command};

use super::watched::Watched;

/// A line that the agent printed.
#[derive(Clone, Debug)]
pub struct LogLine {
    /// When it was read.
    pub at: Instant,
    /// Without its newline.
    pub text: String,
}

/// A running agent. Dropping it kills the process.
pub struct Agent {
    child: Child,
    log: Arc<Watched<Vec<LogLine>>>,
    dir: Option<TempDir>,
}

impl Agent {
    /// Starts the binary on a configuration text, which goes into a file in a directory of its own.
    ///
    /// # Errors
    /// When there is no binary or it cannot be started.
    pub async fn start(config: &str, env: &[(String, String)]) -> Result<Self> {
        let dir = tempfile::tempdir()?;
        let file = dir.path().join("affluent.conf");
        std::fs::write(&file, config)?;
        let mut agent = Self::start_file(&binary()?, &file, env)?;
        agent.dir = Some(dir);
        Ok(agent)
    }

    /// Starts a binary on a configuration file.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn start_file(binary: &Path, config: &Path, env: &[(String, String)]) -> Result<Self> {
        let mut command = Command::new(binary);
        command.arg("-c").arg(config);
        Self::spawn(command, env)
    }

    /// Starts any command line of the binary.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn spawn(mut command: Command, env: &[(String, String)]) -> Result<Self> {
        let mut child = command
            .envs(env.iter().map(|(name, value)| (name, value)))
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .with_context(|| format!("cannot start {:?}", command.as_std()))?;
        let log = Arc::new(Watched::default());
        if let Some(stdout) = child.stdout.take() {
            tokio::spawn(collect(stdout, log.clone()));
        }
        if let Some(stderr) = child.stderr.take() {
            tokio::spawn(collect(stderr, log.clone()));
        }
        Ok(Self {
            child,
            log,
            dir: None,
        })
    }

    /// The directory of the configuration, when [`Self::start`] made it.
    pub fn dir(&self) -> Option<&Path> {
        self.dir.as_ref().map(TempDir::path)
    }

    /// Rewrites the configuration that [`Self::start`] wrote; the agent reads it at the next HUP.
    ///
    /// # Errors
    /// When the agent was not started so, or the file cannot be written.
    pub fn rewrite_config(&self, config: &str) -> Result<()> {
        let dir = self
            .dir()
            .context("the configuration is not the test's own")?;
        Ok(std::fs::write(dir.join("affluent.conf"), config)?)
    }

    /// What it printed so far, both streams in order of arrival.
    pub fn log(&self) -> Vec<LogLine> {
        self.log.read(Vec::clone)
    }

    /// The same as one text, for a failed assertion.
    pub fn log_text(&self) -> String {
        let texts: Vec<String> = self.log().into_iter().map(|line| line.text).collect();
        texts.join("\n")
    }

    /// Waits for a line that contains `part`.
    ///
    /// # Errors
    /// After `deadline`, with everything that was printed instead.
    pub async fn wait_for_line(&self, part: &str, deadline: Duration) -> Result<LogLine> {
        let find = |lines: &Vec<LogLine>| lines.iter().find(|l| l.text.contains(part)).cloned();
        self.log
            .wait_some(&format!("a log line with {part:?}"), deadline, find)
            .await
            .with_context(|| format!("the agent printed:\n{}", self.log_text()))
    }

    /// The process id.
    ///
    /// # Errors
    /// When it has been waited for already.
    pub fn pid(&self) -> Result<u32> {
        self.child.id().context("the agent has ended")
    }

    /// Sends a signal: `SIGTERM`, `SIGUSR1`, `SIGHUP`, `SIGKILL`, …
    ///
    /// # Errors
    /// When the process is gone.
    pub fn signal(&self, signal: Signal) -> Result<()> {
        Ok(kill(Pid::from_raw(self.pid()?.try_into()?), signal)?)
    }

    /// `kill -9`, and waits until the process is gone.
    ///
    /// # Errors
    /// When it was gone before.
    pub async fn kill(&mut self) -> Result<()> {
        self.signal(Signal::SIGKILL)?;
        self.child.wait().await?;
        Ok(())
    }

    /// Waits for the end of the process.
    ///
    /// # Errors
    /// After `deadline`, with what was printed; the process runs on.
    pub async fn wait_exit(&mut self, deadline: Duration) -> Result<ExitStatus> {
        match tokio::time::timeout(deadline, self.child.wait()).await {
            Ok(status) => Ok(status?),
            Err(_) => bail!(
                "the agent did not end within {deadline:?}; it printed:\n{}",
                self.log_text()
            ),
        }
    }
}

async fn collect(stream: impl AsyncRead + Unpin, log: Arc<Watched<Vec<LogLine>>>) {
    let mut lines = BufReader::new(stream).lines();
    while let Ok(Some(text)) = lines.next_line().await {
        let at = Instant::now();
        log.change(|log| log.push(LogLine { at, text }));
    }
}

/// The binary: cargo names it to integration tests and benches; an example finds, and if need be builds, the one beside itself.
///
/// # Errors
/// When there is none and cargo cannot build it.
pub fn binary() -> Result<PathBuf> {
    match option_env!("CARGO_BIN_EXE_affluent") {
        Some(path) => Ok(PathBuf::from(path)),
        None => binary_beside_example(),
    }
}

/// `cargo run --example` builds the example only, so the binary is missing or old: cargo brings it up to date in the same profile.
fn binary_beside_example() -> Result<PathBuf> {
    let example = std::env::current_exe()?;
    let profile_dir = example.parent().and_then(Path::parent);
    let profile_dir = profile_dir.context("the example is not in a target directory")?;
    let binary = profile_dir.join("affluent");
    if let Some(cargo) = std::env::var_os("CARGO") {
        let profile = profile_dir.file_name().unwrap_or_default();
        let profile = if profile == "debug" {
            "dev".as_ref()
        } else {
            profile
        };
        let status = std::process::Command::new(cargo)
            // Named together with the example, the binary shares its dependencies' features and so their builds.
            .args(["build", "--quiet", "--bin", "affluent", "--example"])
            .arg(example.file_stem().unwrap_or_default())
            .arg("--profile")
            .arg(profile)
            .arg("--manifest-path")
            .arg(concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml"))
            .arg("--target-dir")
            .arg(profile_dir.parent().unwrap_or(profile_dir))
            .status()
            .context("cannot run cargo to build the agent")?;
        ensure!(status.success(), "cargo could not build the agent");
    }
    ensure!(
        binary.exists(),
        "no agent at {}: run `cargo build --bin affluent` first",
        binary.display()
    );
    Ok(binary)
}
