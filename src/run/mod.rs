//! One run of the agent: configuration → agent → wait → stop, reload or drain → exit code. Here is what comes before the agent
//! runs; the waiting is in [`serve`].

mod chunk;
mod serve;
mod status;
#[cfg_attr(not(feature = "aws"), path = "absent.rs")]
mod termination;

use std::collections::HashMap;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::{Arc, Mutex};

use anyhow::Context;
use tokio::runtime::{Builder, Runtime};
use tracing::{Level, info, warn};

use crate::agent::configure::{Settings, configure};
use crate::agent::{Agent, Plan};
use crate::args::{Args, Command};
use crate::config::system::{LogFormat, LogLevel, System};
use crate::config::{self, Config, ConfigErrors, Element, LoadOptions};
use crate::control;
use crate::drain;
use crate::flush::params::default_root_dir;
use crate::logger::{self, Format, Logger};
use crate::output::{self, Chunks, LogStream, OutputContext};
use crate::process;

/// The most threads of the runtime: sockets, timers and deadlines need no more; the reading is done by the sources' own threads. One is
/// enough for one flush thread, and hands nothing to the other: that costs more than the work itself where lines come one by one.
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
    if let Some(Command::Chunk { what }) = &args.command
        && let Some(status) = chunk::run(what)?
    {
        return Ok(status);
    }
    if let Err(error) = std::fs::metadata(&args.config) {
        eprintln!(
            "affluent: cannot read configuration file {}: {error}",
            args.config.display()
        );
        eprintln!(
            "usage: affluent -c FILE [--dry-run] [-d PIDFILE] [-o LOG] [-v|-q]; affluent --help tells more"
        );
        return Ok(ExitCode::from(2));
    }
    if let Some(Command::Status { json }) = &args.command {
        return status::show(&args.config, *json);
    }
    let ready = match read(args) {
        Ok(ready) => ready,
        Err(errors) => {
            eprintln!("{errors}");
            eprintln!("config error: nothing was started");
            return Ok(ExitCode::from(1));
        }
    };
    if let Some(Command::Drain { dry_run, reason }) = &args.command {
        let rehearse = *dry_run || args.dry_run;
        return runtime(&ready.plan)?.block_on(drain_by_hand(args, ready, rehearse, reason));
    }
    if let Some(Command::Chunk { .. }) = &args.command {
        return chunk::text(&ready.plan);
    }
    if !args.dry_run {
        process::prepare(args)?;
    }
    let logger = start_log(args, &ready)?;
    announce(args, logger, &ready);
    if args.dry_run {
        info!("finished dry run mode");
        return Ok(ExitCode::SUCCESS);
    }
    runtime(&ready.plan)?.block_on(serve::serve(args, logger, ready))
}

fn runtime(plan: &Plan) -> anyhow::Result<Runtime> {
    let flushers = plan.flushers.iter();
    let flush_threads: usize = flushers.map(|flusher| flusher.settings().workers).sum();
    let mut builder = match flush_threads {
        0 | 1 => Builder::new_current_thread(),
        _ => Builder::new_multi_thread(),
    };
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
    wire(args, config::load(&args.config, &options)?)
}

/// Wires a configuration that was read.
fn wire(args: &Args, config: Config) -> Result<Ready, ConfigErrors> {
    let mut errors = ConfigErrors::new();
    let system = errors.collect(config.system()).unwrap_or_default();
    let root_dir = system
        .root_dir
        .as_ref()
        .map_or_else(default_root_dir, PathBuf::from);
    let outputs = OutputContext {
        chunks: Chunks::Any,
        log: LogStream::new(Arc::new(Mutex::new(logger::Raw))),
    };
    let drain = errors
        .collect(configure_drain(config.root(), &outputs))
        .flatten();
    let settings = Settings {
        root_dir,
        workers: system.workers,
        outputs,
        without_source: args.without_source,
        open_files: process::open_files(),
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
    let mut agent = Agent::start(ready.plan).await?;
    termination::drain_here(&mut agent, plan, rehearse)
        .await
        .map(code)
}
