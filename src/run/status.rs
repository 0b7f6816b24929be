//! `affluent status`: the running agent answers on an abstract socket that is named after its configuration file.
//!
//! An abstract socket needs no directory that the agent may write to and leaves nothing behind; since it has no mode either, the
//! agent answers its own user and root only, by the credentials that the kernel vouches for. The answer is one JSON document.

use std::io::{self, Read};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixListener, UnixStream};
use std::path::Path;
use std::process::ExitCode;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::Context;
use sha2::{Digest, Sha256};
use tokio::io::AsyncWriteExt;
use tokio::task::JoinSet;
use tracing::warn;

use crate::agent::{Status, View};

/// An asker who takes no bytes for so long is not told any more.
const TELL_TIME: Duration = Duration::from_secs(5);
/// How long an agent may take to look at all of its files.
const ANSWER_TIME: Duration = Duration::from_secs(30);
/// Askers that are answered at the same time.
const ASKERS: usize = 4;

/// Answers whoever asks for the status, as long as it lives.
pub struct Answers {
    view: Arc<Mutex<View>>,
    _tasks: JoinSet<()>,
}

impl Answers {
    /// Listens. A run goes on without where that is not possible, which is told.
    pub fn listen(config: &Path) -> Answers {
        let view = Arc::new(Mutex::new(View::default()));
        let mut tasks = JoinSet::new();
        match listener(config) {
            Ok(listener) => {
                tasks.spawn(answer(listener, view.clone()));
            }
            Err(error) => {
                warn!(%error, "cannot listen for 'affluent status': is another agent running with this configuration?");
            }
        }
        Answers {
            view,
            _tasks: tasks,
        }
    }

    /// This agent is the one that runs now.
    pub fn tell_of(&self, view: View) {
        // A view is put in as a whole.
        *self.view.lock().unwrap_or_else(PoisonError::into_inner) = view;
    }
}

fn address(config: &Path) -> io::Result<SocketAddr> {
    let config = std::fs::canonicalize(config)?;
    let digest = Sha256::digest(config.as_os_str().as_encoded_bytes());
    let name = digest.iter().take(16).map(|byte| format!("{byte:02x}"));
    SocketAddr::from_abstract_name(format!("affluent/status/{}", name.collect::<String>()))
}

fn listener(config: &Path) -> io::Result<tokio::net::UnixListener> {
    let listener = UnixListener::bind_addr(&address(config)?)?;
    listener.set_nonblocking(true)?;
    tokio::net::UnixListener::from_std(listener)
}

async fn answer(listener: tokio::net::UnixListener, view: Arc<Mutex<View>>) {
    let mut askers = JoinSet::new();
    loop {
        let Ok((stream, _)) = listener.accept().await else {
            // Out of descriptors, most likely: whoever asks waits a moment.
            tokio::time::sleep(TELL_TIME / 10).await;
            continue;
        };
        while askers.len() >= ASKERS {
            askers.join_next().await;
        }
        while askers.try_join_next().is_some() {}
        let view = view.lock().unwrap_or_else(PoisonError::into_inner).clone();
        askers.spawn(async move {
            // Whoever does not read the answer need not know it.
            let _ = tell(stream, view).await;
        });
    }
}

async fn tell(mut stream: tokio::net::UnixStream, view: View) -> anyhow::Result<()> {
    let asker = stream.peer_cred()?.uid();
    if asker != 0 && asker != nix::unistd::geteuid().as_raw() {
        return Ok(());
    }
    // It looks at every file.
    let status = tokio::task::spawn_blocking(move || view.status()).await?;
    let answer = serde_json::to_vec(&status)?;
    tokio::time::timeout(TELL_TIME, stream.write_all(&answer)).await??;
    Ok(())
}

/// `affluent status`: asks, prints, and tells by the exit code whether an agent answered.
pub fn show(config: &Path, json: bool) -> anyhow::Result<ExitCode> {
    let asked = address(config).and_then(|address| UnixStream::connect_addr(&address));
    let mut stream = match asked {
        Ok(stream) => stream,
        Err(error) => {
            eprintln!("no agent runs with {}: {error}", config.display());
            return Ok(ExitCode::from(1));
        }
    };
    stream.set_read_timeout(Some(ANSWER_TIME))?;
    let mut answer = Vec::new();
    stream
        .read_to_end(&mut answer)
        .context("the agent does not answer")?;
    if answer.is_empty() {
        eprintln!("the agent answers its own user and root only");
        return Ok(ExitCode::from(1));
    }
    let status: Status =
        serde_json::from_slice(&answer).context("the agent answers in another form")?;
    let text = if json {
        serde_json::to_string_pretty(&status)? + "\n"
    } else {
        status.text()
    };
    // A closed pipe is the reader's wish.
    let _ = io::Write::write_all(&mut io::stdout(), text.as_bytes());
    Ok(ExitCode::SUCCESS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(flavor = "multi_thread")]
    async fn a_running_agent_answers_and_a_second_one_on_the_same_file_does_not_disturb_it() {
        let dir = tempfile::tempdir().expect("a directory");
        let config = dir.path().join("affluent.conf");
        std::fs::write(&config, "").expect("a file");
        let first = Answers::listen(&config);
        let second = Answers::listen(&config);
        second.tell_of(View::default());
        first.tell_of(View::default());
        let show = tokio::task::spawn_blocking(move || show(&config, true));
        let code = show.await.expect("no panic").expect("an answer");
        assert_eq!(code, ExitCode::SUCCESS);
    }

    #[test]
    fn where_no_agent_runs_that_is_said() {
        let dir = tempfile::tempdir().expect("a directory");
        let config = dir.path().join("affluent.conf");
        std::fs::write(&config, "").expect("a file");
        let code = show(&config, false).expect("no answer is no error");
        assert_eq!(code, ExitCode::from(1));
    }
}
