//! The socket on which a running agent is asked to drain: what `affluent drain` talks to.
//!
//! ```text
//! ask       drain REASON        or        rehearse REASON
//! answer    one line per step, while it goes on
//!           done | failed       the last line
//! ```
//!
//! A Unix socket beside the drain's journal, mode 0600: whoever can open it may already stop the agent.

use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tracing::info;

/// An ask is one short line; nobody may keep the agent waiting for it.
const ASK_BYTES: u64 = 4096;
const ASK_TIME: Duration = Duration::from_secs(2);
/// An asker who takes no line for so long is not told any more.
const TELL_TIME: Duration = Duration::from_secs(1);
/// Lines that wait for a slow asker; of what comes meanwhile it sees nothing.
const LINES: usize = 16;

/// Somebody asked for a drain.
#[derive(Debug)]
pub struct Request {
    /// Go through everything that changes nothing outside.
    pub rehearse: bool,
    /// Why, for the log.
    pub reason: String,
    stream: UnixStream,
}

impl Request {
    /// Answers whoever cannot be served now.
    pub async fn refuse(mut self, why: &str) {
        // Whoever does not even read a refusal need not know.
        let _ = self.tell(&format!("{why}\nfailed")).await;
    }

    /// From now on the asker is told by a task of its own: what is being done never waits for a terminal that is stopped.
    pub fn follow(mut self) -> Asker {
        let (lines, mut told) = mpsc::channel::<String>(LINES);
        let telling = tokio::spawn(async move {
            while let Some(line) = told.recv().await {
                if let Err(error) = self.tell(&line).await {
                    info!(%error, "whoever asked for the drain reads no more, the drain goes on");
                    return;
                }
            }
        });
        Asker { lines, telling }
    }

    async fn tell(&mut self, line: &str) -> io::Result<()> {
        let line = format!("{line}\n");
        let told = self.stream.write_all(line.as_bytes());
        tokio::time::timeout(TELL_TIME, told).await?
    }
}

/// An asker who is told how it goes, as far as it reads.
#[derive(Debug)]
pub struct Asker {
    lines: mpsc::Sender<String>,
    telling: JoinHandle<()>,
}

impl Asker {
    /// Tells it a line of progress, at once or not at all.
    pub fn show(&self, line: String) {
        // Full or gone: progress is not worth a wait.
        let _ = self.lines.try_send(line);
    }

    /// Tells it the last lines. Takes a moment at most where nobody reads.
    pub async fn end(self, lines: impl IntoIterator<Item = String>) {
        for line in lines {
            if self.lines.send(line).await.is_err() {
                break;
            }
        }
        drop(self.lines);
        // It ends with the last line or with the first that is not taken in time.
        let _ = self.telling.await;
    }
}

/// The agent's side.
#[derive(Debug)]
pub struct Control {
    listener: UnixListener,
    path: PathBuf,
}

impl Control {
    /// Listens at `path`. A socket that a dead agent left is replaced; one that answers is an error.
    pub fn listen(path: &Path) -> io::Result<Control> {
        if std::os::unix::net::UnixStream::connect(path).is_ok() {
            return Err(io::Error::new(
                io::ErrorKind::AddrInUse,
                "another agent listens there",
            ));
        }
        if let Some(directory) = path.parent() {
            fs::create_dir_all(directory)?;
        }
        match fs::remove_file(path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let listener = UnixListener::bind(path)?;
        fs::set_permissions(path, fs::Permissions::from_mode(0o600))?;
        Ok(Control {
            listener,
            path: path.to_owned(),
        })
    }

    /// The next ask that makes sense.
    pub async fn next(&self) -> Request {
        loop {
            if let Ok((stream, _)) = self.listener.accept().await
                && let Ok(Ok(Some(request))) =
                    tokio::time::timeout(ASK_TIME, read_ask(stream)).await
            {
                return request;
            }
        }
    }
}

impl Drop for Control {
    fn drop(&mut self) {
        // Left behind, it would only be found dead and replaced.
        let _ = fs::remove_file(&self.path);
    }
}

async fn read_ask(mut stream: UnixStream) -> io::Result<Option<Request>> {
    let mut line = String::new();
    BufReader::new((&mut stream).take(ASK_BYTES))
        .read_line(&mut line)
        .await?;
    let (verb, reason) = line
        .trim_end()
        .split_once(' ')
        .unwrap_or((line.trim_end(), ""));
    let rehearse = match verb {
        "drain" => false,
        "rehearse" => true,
        _ => {
            stream.write_all(b"unknown ask\nfailed\n").await?;
            return Ok(None);
        }
    };
    Ok(Some(Request {
        rehearse,
        reason: reason.to_owned(),
        stream,
    }))
}

/// The asker's side: asks the agent that listens at `path` and gives each line of its answer to `show`. `None` where no agent
/// listens, else whether it ended well.
pub async fn ask(
    path: &Path,
    rehearse: bool,
    reason: &str,
    mut show: impl FnMut(&str),
) -> io::Result<Option<bool>> {
    let mut stream = match UnixStream::connect(path).await {
        Ok(stream) => stream,
        Err(error)
            if matches!(
                error.kind(),
                io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused
            ) =>
        {
            return Ok(None);
        }
        Err(error) => return Err(error),
    };
    let verb = if rehearse { "rehearse" } else { "drain" };
    stream
        .write_all(format!("{verb} {}\n", reason.replace('\n', " ")).as_bytes())
        .await?;
    let mut lines = BufReader::new(stream).lines();
    while let Some(line) = lines.next_line().await? {
        match line.as_str() {
            "done" => return Ok(Some(true)),
            "failed" => return Ok(Some(false)),
            line => show(line),
        }
    }
    Err(io::Error::new(
        io::ErrorKind::UnexpectedEof,
        "the agent ended before the drain did",
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn an_ask_reaches_the_agent_and_its_lines_come_back() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("drain.sock");
        let control = Control::listen(&path).expect("listens");
        let agent = tokio::spawn(async move {
            let request = control.next().await;
            assert!(request.rehearse);
            let reason = request.reason.clone();
            let asker = request.follow();
            asker.show(format!("because {reason}"));
            asker.end(["done".to_owned()]).await;
        });
        let mut shown = Vec::new();
        let ended = ask(&path, true, "a test", |line| shown.push(line.to_owned()))
            .await
            .expect("answers");
        assert_eq!(
            (ended, shown),
            (Some(true), vec!["because a test".to_owned()])
        );
        agent.await.expect("ends");
        assert!(!path.exists());
    }

    #[tokio::test]
    async fn an_asker_who_never_reads_holds_up_nothing() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("drain.sock");
        let control = Control::listen(&path).expect("listens");
        let mut silent = UnixStream::connect(&path).await.expect("connects");
        silent.write_all(b"drain x\n").await.expect("asks");
        let asker = control.next().await.follow();
        for _ in 0..1000 {
            asker.show("a line of progress ".repeat(1000));
            tokio::task::yield_now().await;
        }
        asker.end((0..1000).map(|_| "a place ".repeat(1000))).await;
        drop(silent);
    }

    #[tokio::test]
    async fn nobody_listens_is_not_an_error() {
        let dir = tempfile::tempdir().expect("a directory");
        let ended = ask(&dir.path().join("drain.sock"), false, "", |_| {})
            .await
            .expect("no error");
        assert_eq!(ended, None);
    }

    #[tokio::test]
    async fn a_dead_socket_is_replaced_and_a_living_one_is_not() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("drain.sock");
        drop(std::os::unix::net::UnixListener::bind(&path).expect("binds"));
        let control = Control::listen(&path).expect("replaces the dead one");
        assert_eq!(
            Control::listen(&path).expect_err("living").kind(),
            io::ErrorKind::AddrInUse
        );
        drop(control);
    }
}
