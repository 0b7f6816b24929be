//! The waiting: everything that can end or change a run, in one `select!`.

use std::process::ExitCode;

use anyhow::{Context, anyhow};
use tokio::task::JoinSet;
use tracing::{error, info, warn};

use super::termination::{After, Ring, Termination};
use super::{Ready, announce, read, wire};
use crate::agent::{Agent, Ledger};
use crate::args::Args;
use crate::config::Config;
use crate::config::system::System;
use crate::logger::Logger;
use crate::signal::{Ask, Signals};

/// What outlives an agent: the configuration that runs, to fall back to, and who watches beside it.
struct Run<'a> {
    args: &'a Args,
    logger: &'static Logger,
    config: Config,
    system: System,
    termination: Option<Termination>,
    signals: Signals,
}

/// How an attempt to change the agent ended.
enum Changed {
    Agent(Agent),
    Exit(ExitCode),
}

/// Runs the configuration until the process should end.
pub async fn serve(args: &Args, logger: &'static Logger, ready: Ready) -> anyhow::Result<ExitCode> {
    let signals = Signals::new().context("cannot take over signals")?;
    let mut agent = Agent::start(ready.plan).await?;
    let termination = ready.drain.map(Termination::watch).transpose()?;
    let mut run = Run {
        args,
        logger,
        config: ready.config,
        system: ready.system,
        termination,
        signals,
    };
    let mut flushes = JoinSet::new();
    info!(
        worker = 0,
        pid = std::process::id(),
        version = env!("CARGO_PKG_VERSION"),
        "affluent worker is now running"
    );
    loop {
        let changed = tokio::select! {
            ask = run.signals.next() => match ask {
                Ask::Stop => return run.stop(agent).await,
                Ask::Abort => return Ok(aborted()),
                Ask::Reload => run.reload(agent).await?,
                Ask::Flush => {
                    logger.reopen();
                    flush(&agent, &mut flushes);
                    continue;
                }
            },
            ring = rings(&mut run.termination) => run.drain(agent, ring?).await?,
            name = agent.died() => {
                return Err(anyhow!("{name} died unasked: ending, so that the supervisor starts again; nothing is lost"));
            }
        };
        match changed {
            Changed::Agent(next) => agent = next,
            Changed::Exit(code) => return Ok(code),
        }
    }
}

/// Forces a flush. One report at a time: what a second signal forces is part of the first one's report.
fn flush(agent: &Agent, flushes: &mut JoinSet<()>) {
    agent.force();
    while flushes.try_join_next().is_some() {}
    if flushes.is_empty() {
        flushes.spawn(agent.flush());
    }
}

async fn rings(termination: &mut Option<Termination>) -> anyhow::Result<Ring> {
    match termination {
        Some(termination) => termination.rings().await,
        None => std::future::pending().await,
    }
}

fn aborted() -> ExitCode {
    warn!("aborted: what was not acknowledged is read again at the next start");
    ExitCode::from(1)
}

fn tell(ledger: &Ledger) {
    info!(
        lines_read = ledger.lines_read,
        resumed = ledger.resumed,
        skipped = ledger.skipped,
        dropped = ledger.dropped,
        overflowed = ledger.overflowed,
        delivered = ledger.delivered,
        secondary = ledger.secondary,
        backed_up = ledger.backed_up,
        spilled = ledger.spilled,
        kept = ledger.kept,
        "stopped; what is kept is read again at the next start"
    );
}

impl Run<'_> {
    /// Ends in order; a second signal ends at once. What is not delivered by then stays behind the positions.
    async fn stop(&mut self, agent: Agent) -> anyhow::Result<ExitCode> {
        info!("stopping: sources stop reading, outputs flush");
        tokio::select! {
            ledger = agent.stop() => {
                tell(&ledger);
                Ok(ExitCode::SUCCESS)
            }
            () = self.signals.insisted() => Ok(aborted()),
        }
    }

    /// Reads the configuration again. A bad one leaves the old agent running; a good one takes over after the old agent stopped, from
    /// its positions.
    async fn reload(&mut self, old: Agent) -> anyhow::Result<Changed> {
        info!("reloading the configuration");
        match read(self.args) {
            Err(errors) => {
                errors.iter().for_each(|error| error!("{}", error.line()));
                error!("cannot reload the configuration, the old configuration goes on");
                Ok(Changed::Agent(old))
            }
            Ok(ready) => self.replace(old, ready).await,
        }
    }

    /// Stops one agent and starts the next. One that cannot start is replaced by what ran before.
    async fn replace(&mut self, old: Agent, ready: Ready) -> anyhow::Result<Changed> {
        announce(self.args, self.logger, &ready);
        if ready.system.log != self.system.log {
            warn!("<log> has changed: that takes effect at the next start of the process");
        }
        tokio::select! {
            _ = old.stop() => {}
            () = self.signals.insisted() => return Ok(Changed::Exit(aborted())),
        }
        // Dropped before the next begins: it listens on the same socket.
        self.termination = None;
        let (plan, drain) = (ready.plan, ready.drain);
        let (agent, drain) = match Agent::start(plan).await {
            Ok(agent) => {
                (self.config, self.system) = (ready.config, ready.system);
                info!("the new configuration is running");
                (agent, drain)
            }
            Err(error) => {
                error!(
                    "cannot start with the new configuration, the old configuration goes on: {error:#}"
                );
                let before = wire(self.args, self.config.clone());
                let before = before.map_err(|errors| anyhow!("cannot start again: {errors}"))?;
                (Agent::start(before.plan).await?, before.drain)
            }
        };
        self.termination = drain.map(Termination::watch).transpose()?;
        Ok(Changed::Agent(agent))
    }

    async fn drain(&mut self, agent: Agent, ring: Ring) -> anyhow::Result<Changed> {
        let Some(termination) = &mut self.termination else {
            return Ok(Changed::Agent(agent));
        };
        match termination.drain(&agent, ring, &mut self.signals).await {
            After::Wait => {
                info!("drained: waiting for the end of the instance");
                Ok(Changed::Agent(agent))
            }
            After::StartAgain => self.start_again(agent).await,
            After::Exit => self.stop(agent).await.map(Changed::Exit),
            After::Abort => Ok(Changed::Exit(aborted())),
        }
    }

    /// The instance lives on after a drain (warm pool, termination called off, rehearsal): its files are read again from their
    /// positions, with the configuration that ran.
    async fn start_again(&mut self, drained: Agent) -> anyhow::Result<Changed> {
        info!("the instance lives on: starting again");
        tokio::select! {
            _ = drained.stop() => {}
            () = self.signals.insisted() => return Ok(Changed::Exit(aborted())),
        }
        let again = wire(self.args, self.config.clone());
        let again = again.map_err(|errors| anyhow!("cannot start again: {errors}"))?;
        Ok(Changed::Agent(Agent::start(again.plan).await?))
    }
}
