//! One run of the agent: configuration → agent → wait → stop, reload or drain → exit code.

#[cfg_attr(not(feature = "aws"), path = "absent.rs")]
mod termination;

use std::collections::HashMap;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::{Arc, Mutex};

use anyhow::{Context, anyhow};
use tokio::runtime::{Builder, Runtime};
use tracing::{Level, error, info, warn};

use crate::agent::configure::{Settings, configure};
use crate::agent::{Agent, Plan};
use crate::args::{Args, Command};
use crate::config::system::{LogFormat, LogLevel, System};
use crate::config::{self, Config, ConfigErrors, Element, LoadOptions};
use crate::control;
use crate::drain;
use crate::flush::params::default_root_dir;
use crate::logger::{self, Format, Logger};
use crate::output::{self, LogStream, OutputContext};
use crate::process;
use crate::signal::{Ask, Signals};

use termination::{After, Ring, Termination};

/// The runtime's threads: sockets, timers and deadlines need no more; the reading is done by the sources' own threads.
const RUNTIME_WORKERS: usize = 2;

/// A configuration that was read and wired.
struct Ready {
    config: Config,
    system: System,
    plan: Plan,
    drain: Option<drain::Plan>,
    level: Level,
}

/// Runs as the command line says, until the process should end.
pub fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let ready = match read(args) {
        Ok(ready) => ready,
        Err(errors) => {
            eprintln!("{errors}");
            eprintln!("config error: nothing was started");
            return Ok(ExitCode::from(1));
        }
    };
    if let Some(Command::Drain { dry_run, reason }) = &args.command {
        return runtime()?.block_on(drain_by_hand(args, ready, *dry_run, reason));
    }
    process::prepare(args)?;
    let logger = start_log(args, &ready)?;
    announce(args, logger, &ready);
    if args.dry_run {
        info!("finished dry run mode");
        return Ok(ExitCode::SUCCESS);
    }
    runtime()?.block_on(serve(args, logger, ready))
}

fn runtime() -> anyhow::Result<Runtime> {
    let mut builder = Builder::new_multi_thread();
    builder
        .worker_threads(RUNTIME_WORKERS)
        .max_blocking_threads(16)
        .thread_name("runtime")
        .enable_all();
    builder.build().context("cannot start the runtime")
}

fn start_log(args: &Args, ready: &Ready) -> anyhow::Result<&'static Logger> {
    let configured = &ready.system.log;
    let path = args
        .log
        .clone()
        .or_else(|| configured.path.clone().map(PathBuf::from));
    let format = Format {
        json: configured.format == LogFormat::Json,
        time: configured.time_format.clone(),
    };
    let shown = path.clone().unwrap_or_default();
    logger::start(path, ready.level, format)
        .with_context(|| format!("cannot open log file {}", shown.display()))
}

/// Reads and wires the configuration: all its errors, or everything that is needed to start.
fn read(args: &Args) -> Result<Ready, ConfigErrors> {
    let options = LoadOptions {
        inline: args.inline_config.clone(),
        strict: args.strict_config_value,
        ..LoadOptions::default()
    };
    let config = config::load(&args.config, &options)?;
    let mut errors = ConfigErrors::new();
    let system = errors.collect(config.system()).unwrap_or_default();
    let root_dir = system
        .root_dir
        .as_ref()
        .map_or_else(default_root_dir, PathBuf::from);
    let outputs = OutputContext {
        log: LogStream::new(Arc::new(Mutex::new(logger::Raw))),
    };
    let drain = errors
        .collect(configure_drain(config.root(), &outputs))
        .flatten();
    let settings = Settings {
        root_dir,
        outputs,
        without_source: args.without_source,
    };
    let plan = errors.collect(configure(config.root(), &settings));
    match plan {
        Some(plan) if errors.is_empty() => Ok(Ready {
            level: level(args, &system),
            config,
            system,
            plan,
            drain,
        }),
        _ => Err(errors),
    }
}

fn configure_drain(root: &Element, outputs: &OutputContext) -> config::Result<Option<drain::Plan>> {
    let spill =
        |section: &Element| output::configure(section, outputs).map(|configured| configured.output);
    root.section("drain")?
        .map(|section| drain::configure(section, &spill))
        .transpose()
}

fn level(args: &Args, system: &System) -> Level {
    let configured = || match system.log_level.unwrap_or_default() {
        LogLevel::Trace => Level::TRACE,
        LogLevel::Debug => Level::DEBUG,
        LogLevel::Info => Level::INFO,
        LogLevel::Warn => Level::WARN,
        LogLevel::Error | LogLevel::Fatal => Level::ERROR,
    };
    args.level().unwrap_or_else(configured)
}

/// What start-up says: the file, what is not used, what happens instead of what was asked for.
fn announce(args: &Args, logger: &'static Logger, ready: &Ready) {
    logger.set_level(ready.level);
    let levels = ready.plan.log_levels.iter();
    let levels: HashMap<_, _> = levels
        .filter_map(|(id, name)| Some((id.clone(), logger::level(name)?)))
        .collect();
    logger.set_plugin_levels(levels);
    info!(path = %args.config.display(), "parsing config file is succeeded");
    if !args.suppress_config_dump && !ready.system.suppress_config_dump {
        info!("using configuration file:");
        ready
            .config
            .dump()
            .lines()
            .for_each(|line| info!("  {line}"));
    }
    args.unneeded
        .notes()
        .into_iter()
        .for_each(|note| warn!("{note}"));
    let said = ready
        .config
        .warnings()
        .into_iter()
        .chain(ready.config.unused());
    said.for_each(|warning| warn!("{}", warning.line()));
    for flusher in &ready.plan.flushers {
        if let Some(notice) = flusher.output().notice() {
            info!(plugin_id = flusher.id(), "{notice}");
        }
    }
}

async fn serve(args: &Args, logger: &'static Logger, ready: Ready) -> anyhow::Result<ExitCode> {
    let mut signals = Signals::new().context("cannot take over signals")?;
    let mut agent = Agent::start(ready.plan)?;
    let mut termination = ready.drain.map(Termination::watch).transpose()?;
    info!(
        worker = 0,
        pid = std::process::id(),
        version = env!("CARGO_PKG_VERSION"),
        "affluent worker is now running"
    );
    loop {
        tokio::select! {
            ask = signals.next() => match ask {
                Ask::Stop => return stop(agent, &mut signals).await,
                Ask::Abort => return Ok(aborted()),
                Ask::Reload => agent = reload(args, logger, agent, &mut termination).await?,
                Ask::Flush => {
                    logger.reopen();
                    tokio::spawn(agent.flush());
                }
            },
            ring = rings(&mut termination) => if let Some(termination) = &mut termination {
                match termination.drain(&agent, ring, &mut signals).await {
                    After::Wait => info!("drained: waiting for the end of the instance"),
                    After::StartAgain => agent = start_again(args, logger, agent).await?,
                    After::Exit => return stop(agent, &mut signals).await,
                    After::Abort => return Ok(aborted()),
                }
            },
            name = agent.died() => {
                return Err(anyhow!("{name} died unasked: ending, so that the supervisor starts again; nothing is lost"));
            }
        }
    }
}

async fn rings(termination: &mut Option<Termination>) -> Ring {
    match termination {
        Some(termination) => termination.rings().await,
        None => std::future::pending().await,
    }
}

/// Ends in order; a second signal ends at once. What is not delivered by then stays behind the positions.
async fn stop(agent: Agent, signals: &mut Signals) -> anyhow::Result<ExitCode> {
    info!("stopping: sources stop reading, outputs flush");
    tokio::select! {
        ledger = agent.stop() => {
            info!(
                lines_read = ledger.lines_read, delivered = ledger.delivered, kept = ledger.kept,
                "stopped; what is kept is read again at the next start"
            );
            Ok(ExitCode::SUCCESS)
        }
        () = signals.insisted() => Ok(aborted()),
    }
}

fn aborted() -> ExitCode {
    warn!("aborted: what was not acknowledged is read again at the next start");
    ExitCode::from(1)
}

/// Reads the configuration again. A bad one leaves the old agent running; a good one takes over after the old agent stopped, from its
/// positions.
async fn reload(
    args: &Args,
    logger: &'static Logger,
    old: Agent,
    termination: &mut Option<Termination>,
) -> anyhow::Result<Agent> {
    info!("reloading the configuration");
    match read(args) {
        Err(errors) => {
            errors.iter().for_each(|error| error!("{}", error.line()));
            error!("cannot reload the configuration, the old configuration goes on");
            Ok(old)
        }
        Ok(ready) => {
            announce(args, logger, &ready);
            old.stop().await;
            let agent = Agent::start(ready.plan)?;
            // Dropped first: the new one listens on the same socket.
            drop(termination.take());
            *termination = ready.drain.map(Termination::watch).transpose()?;
            info!("the new configuration is running");
            Ok(agent)
        }
    }
}

/// The instance lives on after a drain (warm pool, termination called off, rehearsal): its files are read again from their positions.
async fn start_again(
    args: &Args,
    logger: &'static Logger,
    drained: Agent,
) -> anyhow::Result<Agent> {
    info!("the instance lives on: starting again");
    drained.stop().await;
    let ready = read(args).map_err(|errors| anyhow!("cannot start again: {errors}"))?;
    announce(args, logger, &ready);
    Agent::start(ready.plan)
}

/// `affluent drain`: asks the agent that runs with this configuration, or is that agent where none runs.
async fn drain_by_hand(
    args: &Args,
    ready: Ready,
    rehearse: bool,
    reason: &str,
) -> anyhow::Result<ExitCode> {
    let Some(plan) = &ready.drain else {
        eprintln!(
            "{}: no <drain> section: there is nothing that a drain could do",
            args.config.display()
        );
        return Ok(ExitCode::from(1));
    };
    let code = |well: bool| {
        if well {
            ExitCode::SUCCESS
        } else {
            ExitCode::from(1)
        }
    };
    let socket = termination::socket(plan);
    let asked = control::ask(&socket, rehearse, reason, termination::print).await;
    if let Some(well) =
        asked.with_context(|| format!("cannot ask the agent at {}", socket.display()))?
    {
        return Ok(code(well));
    }
    termination::print("no agent runs with this configuration: draining in this process");
    logger::start(
        args.log.clone(),
        args.level().unwrap_or(Level::WARN),
        Format::default(),
    )?;
    let mut agent = Agent::start(ready.plan)?;
    termination::drain_here(&mut agent, plan, rehearse)
        .await
        .map(code)
}
