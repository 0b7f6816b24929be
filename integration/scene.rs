//! What most behaviour tests begin with: a log directory, one or two servers, the real agent on a configuration.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Result;
use tempfile::TempDir;

use crate::support::agent::Agent;
use crate::support::forward_server::ForwardServer;
use crate::support::log_writer::LogFile;

/// No single wait of a test may take longer: a bound for a broken agent, not an expectation.
pub const DEADLINE: Duration = Duration::from_secs(30);

/// A directory with a log file, and the servers.
pub struct Scene {
    dir: TempDir,
    /// The regular server.
    pub primary: ForwardServer,
    /// The standby.
    pub standby: ForwardServer,
}

impl Scene {
    /// Two servers that ack and an empty directory.
    pub async fn new() -> Result<Scene> {
        let (primary, standby) = (ForwardServer::start().await?, ForwardServer::start().await?);
        Ok(Scene {
            dir: tempfile::tempdir()?,
            primary,
            standby,
        })
    }

    /// The directory.
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// The tailed file.
    pub fn log(&self) -> PathBuf {
        self.dir().join("app.log")
    }

    /// The tailed file, opened for writing 150-byte lines.
    pub fn writer(&self) -> Result<LogFile> {
        Ok(LogFile::open(self.log(), 1, 150)?)
    }

    /// A tail source of the file, tag `app.log`, from its head.
    pub fn source(&self) -> String {
        let dir = self.dir().display();
        format!(
            "<source>\n  @type tail\n  path {dir}/app.log\n  pos_file {dir}/app.pos\n  read_from_head true\n  \
             refresh_interval 1\n  tag app.log\n  format none\n</source>\n"
        )
    }

    /// A `<match>` that forwards with acks to primary and standby; `extra` stands inside it.
    pub fn forward(&self, extra: &str) -> String {
        let (primary, standby) = (self.primary.port(), self.standby.port());
        format!(
            "<match app.**>\n  @type forward\n  require_ack_response true\n  heartbeat_interval 1s\n  recover_wait 1s\n  \
             <server>\n    name primary\n    host 127.0.0.1\n    port {primary}\n  </server>\n  \
             <server>\n    name standby\n    host 127.0.0.1\n    port {standby}\n    standby\n  </server>\n{extra}\n</match>\n"
        )
    }

    /// Source and match with `flush_mode immediate`.
    pub fn immediate(&self) -> String {
        self.source()
            + &self.forward(
                "  <buffer>\n    flush_mode immediate\n    retry_max_interval 1s\n  </buffer>",
            )
    }

    /// The real agent on a configuration.
    pub async fn agent(&self, config: &str) -> Result<Agent> {
        let agent = Agent::start(config, &[]).await?;
        agent
            .wait_for_line("worker is now running", DEADLINE)
            .await?;
        Ok(agent)
    }
}
