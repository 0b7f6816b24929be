//! One run of the agent: configuration → agent → wait → stop, reload or drain → exit code.

use std::collections::HashMap;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::{Arc, Mutex};

use anyhow::{Context, anyhow};
use tracing::{Level, error, info, warn};

use crate::agent::configure::{Settings, configure};
use crate::agent::{Agent, Plan};
use crate::args::Args;
use crate::config::system::{LogFormat, LogLevel, System};
use crate::config::{self, Config, ConfigErrors, LoadOptions};
use crate::flush::params::default_root_dir;
use crate::logger::{self, Format, Logger};
use crate::output::{LogStream, OutputContext};
use crate::process;
use crate::signal::{Ask, Signals};

/// The runtime's threads: sockets, timers and deadlines need no more; the reading is done by the sources' own threads.
const RUNTIME_WORKERS: usize = 2;

/// A configuration that was read and wired.
struct Ready {
    config: Config,
    system: System,
    plan: Plan,
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
    process::prepare(args)?;
    let log = args
        .log
        .clone()
        .or_else(|| ready.system.log.path.clone().map(PathBuf::from));
    let format = Format {
        json: ready.system.log.format == LogFormat::Json,
        time: ready.system.log.time_format.clone(),
    };
    let logger = logger::start(log.clone(), ready.level, format)
        .with_context(|| format!("cannot open log file {}", log.unwrap_or_default().display()))?;
    announce(args, logger, &ready);
    if args.dry_run {
        info!("finished dry run mode");
        return Ok(ExitCode::SUCCESS);
    }
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(RUNTIME_WORKERS)
        .max_blocking_threads(16)
        .thread_name("runtime")
        .enable_all()
        .build()
        .context("cannot start the runtime")?;
    runtime.block_on(serve(args, logger, ready))
}

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
    let log = LogStream::new(Arc::new(Mutex::new(logger::Raw)));
    let settings = Settings {
        root_dir,
        outputs: OutputContext { log },
        without_source: args.without_source,
    };
    let plan = errors.collect(configure(config.root(), &settings));
    match plan {
        Some(plan) if errors.is_empty() => Ok(Ready {
            level: level(args, &system),
            config,
            system,
            plan,
        }),
        _ => Err(errors),
    }
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
    let levels: HashMap<_, _> = ready
        .plan
        .log_levels
        .iter()
        .filter_map(|(id, name)| Some((id.clone(), logger::level(name)?)))
        .collect();
    logger.set_plugin_levels(levels);
    info!(path = %args.config.display(), "parsing config file is succeeded");
    if !args.suppress_config_dump && !ready.system.suppress_config_dump {
        info!("using configuration file: <ROOT>");
        ready
            .config
            .dump()
            .lines()
            .for_each(|line| info!("  {line}"));
        info!("</ROOT>");
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
    running();
    loop {
        tokio::select! {
            ask = signals.next() => match ask {
                Ask::Stop => return stop(agent, &mut signals).await,
                Ask::Abort => return Ok(aborted()),
                Ask::Reload => agent = reload(args, logger, agent).await?,
                Ask::Flush => {
                    logger.reopen();
                    tokio::spawn(agent.flush());
                }
            },
            name = agent.died() => return Err(anyhow!("{name} died unasked: ending, so that the supervisor starts again; nothing is lost")),
        }
    }
}

fn running() {
    info!(
        worker = 0,
        pid = std::process::id(),
        version = env!("CARGO_PKG_VERSION"),
        "affluent worker is now running"
    );
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
async fn reload(args: &Args, logger: &'static Logger, old: Agent) -> anyhow::Result<Agent> {
    info!("reloading the configuration");
    match read(args) {
        Err(errors) => {
            for line in errors.iter() {
                error!("{}", line.line());
            }
            error!("cannot reload the configuration, the old configuration goes on");
            Ok(old)
        }
        Ok(ready) => {
            announce(args, logger, &ready);
            old.stop().await;
            let agent = Agent::start(ready.plan)?;
            info!("the new configuration is running");
            Ok(agent)
        }
    }
}
