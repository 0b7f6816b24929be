//! The real binary: started on a configuration in a directory of its own, measured from outside, and ended by its id.

use std::fs::{self, File, OpenOptions};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::sys::signal::{Signal, kill};
use nix::time::{ClockId, clock_getcpuclockid, clock_gettime};
use nix::unistd::Pid;
use tempfile::TempDir;

use crate::lines;

/// How often a condition outside this process is looked at.
const GLANCE: Duration = Duration::from_millis(2);
const QUIET: Duration = Duration::from_millis(500);
const LOG_LINES: usize = 20;

/// A directory for one scene: its logs, its configuration, its pos_file, what the agent prints.
pub struct Place {
    dir: TempDir,
}

impl Place {
    /// Makes one, on the disk of `target`.
    pub fn new() -> Result<Self> {
        let dir = tempfile::tempdir_in(lines::data_dir()?)?;
        Ok(Self { dir })
    }

    /// A path in it.
    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// A `<source>` that tails `path` from its head, with its pos_file in here.
    pub fn source(&self, path: &Path) -> String {
        format!(
            "<source>\n  @type tail\n  path {}\n  pos_file {}\n  tag bench.app\n  read_from_head true\n  format none\n</source>\n",
            path.display(),
            self.path("app.pos").display()
        )
    }

    /// What the agent said last, for an error.
    fn last_words(&self) -> String {
        let log = fs::read_to_string(self.path("agent.log")).unwrap_or_default();
        let from = log.lines().count().saturating_sub(LOG_LINES);
        log.lines().skip(from).collect::<Vec<_>>().join("\n")
    }
}

/// A `<match>` that forwards with ack: `params` are lines of it, then come the servers.
pub fn forward(params: &str, servers: &[SocketAddr]) -> String {
    let mut text =
        format!("<match bench.**>\n  @type forward\n  require_ack_response true\n  {params}\n");
    for (at, server) in servers.iter().enumerate() {
        let standby = if at == 0 { "" } else { "    standby\n" };
        let (host, port) = (server.ip(), server.port());
        text += &format!("  <server>\n    host {host}\n    port {port}\n{standby}  </server>\n");
    }
    text + "</match>\n"
}

/// A running agent. Dropping it kills the process.
pub struct Agent<'a> {
    place: &'a Place,
    child: Child,
    /// Just before the process was made.
    pub started: Instant,
}

impl<'a> Agent<'a> {
    /// Starts the binary on a configuration text.
    pub fn start(place: &'a Place, config: &str, env: &[(String, String)]) -> Result<Self> {
        let file = place.path("affluent.conf");
        fs::write(&file, config)?;
        let log = OpenOptions::new()
            .create(true)
            .append(true)
            .open(place.path("agent.log"))?;
        let mut command = Command::new(env!("CARGO_BIN_EXE_affluent"));
        command.arg("-c").arg(&file).envs(env.iter().cloned());
        command
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log);
        let started = Instant::now();
        let child = command.spawn().context("cannot start the agent")?;
        Ok(Self {
            place,
            child,
            started,
        })
    }

    /// Processor time of all its threads so far.
    pub fn cpu(&self) -> Result<Duration> {
        let clock = clock_getcpuclockid(self.pid())?;
        Ok(Duration::from(clock_gettime(clock)?))
    }

    /// Resident memory now, in bytes.
    pub fn resident(&self) -> Result<u64> {
        self.status("VmRSS:")
    }

    /// The most resident memory so far, in bytes.
    pub fn peak(&self) -> Result<u64> {
        self.status("VmHWM:")
    }

    /// Bytes that it got from read(2) and its kin so far.
    pub fn bytes_read(&self) -> Result<u64> {
        field(&fs::read_to_string(self.proc("io"))?, "rchar:")
    }

    /// Waits until `is` holds, looking every two milliseconds; fails after `limit`, or when the agent ended.
    pub fn wait_until(
        &mut self,
        what: &str,
        limit: Duration,
        mut is: impl FnMut(&Self) -> Result<bool>,
    ) -> Result<()> {
        let end = Instant::now() + limit;
        while !is(self)? {
            if let Some(status) = self.child.try_wait()? {
                return self.explain(Err(anyhow!("the agent ended: {status}")));
            }
            if Instant::now() > end {
                return self.explain(Err(anyhow!("not within {limit:?}: {what}")));
            }
            std::thread::sleep(GLANCE);
        }
        Ok(())
    }

    /// Waits until it reads nothing more for a while: it has its libraries and its configuration. Returns what it has read.
    pub fn settle(&mut self, limit: Duration) -> Result<u64> {
        let (mut bytes, mut since) = (0, Instant::now());
        self.wait_until("the agent has started", limit, |agent| {
            let now = agent.bytes_read()?;
            if now != bytes {
                (bytes, since) = (now, Instant::now());
            }
            Ok(since.elapsed() >= QUIET)
        })?;
        Ok(bytes)
    }

    /// Lets it stand still.
    pub fn pause(&self) -> Result<()> {
        Ok(kill(self.pid(), Signal::SIGSTOP)?)
    }

    /// Lets it go on.
    pub fn resume(&self) -> Result<()> {
        Ok(kill(self.pid(), Signal::SIGCONT)?)
    }

    /// Adds what the agent said last to an error.
    pub fn explain<T>(&self, result: Result<T>) -> Result<T> {
        result.with_context(|| format!("the agent says:\n{}", self.place.last_words()))
    }

    /// SIGTERM, and waits for the end.
    pub fn terminate(self, limit: Duration) -> Result<ExitStatus> {
        self.end(Signal::SIGTERM, limit)
    }

    /// SIGKILL, and waits for the end.
    pub fn kill(self) -> Result<ExitStatus> {
        self.end(Signal::SIGKILL, Duration::from_secs(10))
    }

    /// Waits until it ends by itself.
    pub fn wait_exit(mut self, limit: Duration) -> Result<ExitStatus> {
        let end = Instant::now() + limit;
        loop {
            if let Some(status) = self.child.try_wait()? {
                return Ok(status);
            }
            if Instant::now() > end {
                return self.explain(Err(anyhow!("the agent did not end within {limit:?}")));
            }
            std::thread::sleep(GLANCE);
        }
    }

    fn end(self, signal: Signal, limit: Duration) -> Result<ExitStatus> {
        kill(self.pid(), signal)?;
        self.wait_exit(limit)
    }

    fn pid(&self) -> Pid {
        Pid::from_raw(self.child.id().cast_signed())
    }

    fn proc(&self, file: &str) -> PathBuf {
        PathBuf::from(format!("/proc/{}/{file}", self.child.id()))
    }

    fn status(&self, key: &str) -> Result<u64> {
        Ok(field(&fs::read_to_string(self.proc("status"))?, key)? << 10)
    }
}

impl Drop for Agent<'_> {
    fn drop(&mut self) {
        // Both fail only where it has ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Processor time of this thread so far.
pub fn thread_cpu() -> Result<Duration> {
    Ok(clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID)?.into())
}

/// Raises the number of files that this process, and so the agent that it starts, may open, as far as the hard limit. Returns it.
pub fn raise_open_files() -> Result<u64> {
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE)?;
    setrlimit(Resource::RLIMIT_NOFILE, hard, hard)?;
    Ok(hard)
}

/// Opens a log as an application does.
pub fn append_to(path: &Path) -> Result<File> {
    Ok(OpenOptions::new().create(true).append(true).open(path)?)
}

/// The number behind `key` in a file of `/proc`.
fn field(text: &str, key: &str) -> Result<u64> {
    let value = text.lines().find_map(|line| line.strip_prefix(key));
    let value = value
        .and_then(|value| value.split_whitespace().next())
        .context("no such field in /proc")?;
    Ok(value.parse()?)
}
