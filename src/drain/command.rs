//! One command of the operator, with its time limit.

use std::process::Stdio;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use serde::Serialize;

/// A line for `/bin/sh -c`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Command {
    /// The line.
    pub line: String,
    /// How long it may take; then its process group is killed.
    pub timeout: Duration,
}

/// What became of a step, as the manifest says it.
#[derive(Clone, Debug, Serialize)]
pub struct Outcome {
    /// The command, or what the step is called.
    pub step: String,
    /// Whether it did what it should.
    pub ok: bool,
    /// How it ended.
    pub result: String,
    /// How long it took.
    pub seconds: f64,
}

impl Command {
    /// Runs it until it ends, its limit is over, or `end` comes.
    pub async fn run(&self, end: Instant) -> Outcome {
        let began = Instant::now();
        let limit = self.timeout.min(end.saturating_duration_since(began));
        let (ok, result) = self.attempt(limit).await;
        Outcome {
            step: self.line.clone(),
            ok,
            result,
            seconds: began.elapsed().as_secs_f64(),
        }
    }

    async fn attempt(&self, limit: Duration) -> (bool, String) {
        let child = tokio::process::Command::new("/bin/sh")
            .arg("-c")
            .arg(&self.line)
            .stdin(Stdio::null())
            .process_group(0)
            .kill_on_drop(true)
            .spawn();
        let mut child = match child {
            Ok(child) => child,
            Err(error) => return (false, format!("cannot start: {error}")),
        };
        let group = child.id().and_then(|id| i32::try_from(id).ok());
        match tokio::time::timeout(limit, child.wait()).await {
            Ok(Ok(status)) => (status.success(), status.to_string()),
            Ok(Err(error)) => (false, format!("cannot wait for it: {error}")),
            Err(_) => {
                if let Some(group) = group {
                    // It may have ended this instant: then there is nothing to kill.
                    let _ = killpg(Pid::from_raw(group), Signal::SIGKILL);
                }
                (
                    false,
                    format!("killed after {:.1} seconds", limit.as_secs_f64()),
                )
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn command(line: &str, timeout: Duration) -> Command {
        Command {
            line: line.to_owned(),
            timeout,
        }
    }

    fn far() -> Instant {
        Instant::now() + Duration::from_secs(60)
    }

    #[tokio::test]
    async fn a_command_tells_how_it_ended() {
        let minute = Duration::from_secs(60);
        assert!(command("true", minute).run(far()).await.ok);
        let failed = command("exit 3", minute).run(far()).await;
        assert!(!failed.ok);
        assert!(failed.result.contains('3'), "{}", failed.result);
    }

    #[tokio::test]
    async fn a_command_that_hangs_is_killed_with_its_children() {
        let dir = tempfile::tempdir().expect("a directory");
        let pid = dir.path().join("pid");
        let line = format!("sleep 1000 & echo $! > {}; wait", pid.display());
        let outcome = command(&line, Duration::from_millis(300)).run(far()).await;
        assert!(!outcome.ok);
        assert!(outcome.result.contains("killed"), "{}", outcome.result);
        let child: i32 = std::fs::read_to_string(pid)
            .expect("started")
            .trim()
            .parse()
            .expect("a pid");
        let gone = async {
            while is_running(child) {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(30), gone)
            .await
            .expect("the child is killed too");
    }

    fn is_running(pid: i32) -> bool {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        !stat.is_empty() && !stat.contains(") Z")
    }
}
