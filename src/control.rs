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

/// An ask is one short line; nobody may keep the agent waiting for it.
const ASK_BYTES: u64 = 4096;
const ASK_TIME: Duration = Duration::from_secs(2);

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
    /// Tells the asker one line. An asker who has gone is no reason to stop.
    pub async fn tell(&mut self, line: &str) {
        let _ = self.stream.write_all(format!("{line}\n").as_bytes()).await;
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
            let mut request = control.next().await;
            assert!(request.rehearse);
            request.tell(&format!("because {}", request.reason)).await;
            request.tell("done").await;
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
