//! The command line: Fluentd's flag names, so that a unit file that starts td-agent works with the path changed.

use std::path::PathBuf;

use clap::{ArgAction, Parser, Subcommand};

/// A log agent for EC2 instances that come and go, configured like Fluentd.
#[derive(Debug, Parser)]
#[command(name = "affluent", version, max_term_width = 120)]
pub struct Args {
    /// Configuration file
    #[arg(
        short,
        long,
        value_name = "PATH",
        env = "FLUENT_CONF",
        default_value = "/etc/affluent/affluent.conf",
        global = true
    )]
    pub config: PathBuf,

    /// Check the configuration and exit: everything that needs no network
    #[arg(long)]
    pub dry_run: bool,

    /// Run in the background and write the process id to PIDFILE
    #[arg(short, long, value_name = "PIDFILE")]
    pub daemon: Option<PathBuf>,

    /// Log to PATH instead of standard output
    #[arg(short = 'o', long = "log", value_name = "PATH")]
    pub log: Option<PathBuf>,

    /// Append CONFIG to the configuration; the two characters \n mean a new line
    #[arg(short, long, value_name = "CONFIG")]
    pub inline_config: Option<String>,

    /// More log: -v debug, -vv trace
    #[arg(short, long, action = ArgAction::Count)]
    pub verbose: u8,

    /// Less log: -q warn, -qq error
    #[arg(short, long, action = ArgAction::Count)]
    pub quiet: u8,

    /// Change to this user before anything is opened but the log
    #[arg(long, value_name = "USER")]
    pub user: Option<String>,

    /// Change to this group
    #[arg(long, value_name = "GROUP")]
    pub group: Option<String>,

    /// File mode creation mask, octal
    #[arg(long, value_name = "UMASK")]
    pub umask: Option<String>,

    /// Refuse lenient values (integers, floats, booleans) as Fluentd's strict mode does
    #[arg(long)]
    pub strict_config_value: bool,

    /// Do not print the configuration at start
    #[arg(long)]
    pub suppress_config_dump: bool,

    /// Start without the sources
    #[arg(long)]
    pub without_source: bool,

    /// Fluentd's flags without effect here
    #[command(flatten)]
    pub unneeded: Unneeded,

    /// What to do instead of running
    #[command(subcommand)]
    pub command: Option<Command>,
}

/// Fluentd's flags that mean nothing to one process without Ruby. They are accepted, and start-up says so.
#[derive(Debug, clap::Args)]
pub struct Unneeded {
    #[arg(short = 'p', long = "plugin", value_name = "DIR", hide = true)]
    plugin: Vec<PathBuf>,
    #[arg(short = 'I', value_name = "PATH", hide = true)]
    load_path: Vec<PathBuf>,
    #[arg(short = 'r', value_name = "NAME", hide = true)]
    require: Vec<String>,
    #[arg(short = 'g', long, value_name = "GEMFILE", hide = true)]
    gemfile: Option<PathBuf>,
    #[arg(short = 'G', long, value_name = "PATH", hide = true)]
    gem_path: Option<PathBuf>,
    #[arg(long, value_name = "N", hide = true)]
    workers: Option<u32>,
    #[arg(long, value_name = "AGE", hide = true)]
    log_rotate_age: Option<String>,
    #[arg(long, value_name = "BYTES", hide = true)]
    log_rotate_size: Option<String>,
    #[arg(long, hide = true)]
    log_event_verbose: bool,
    #[arg(long, value_name = "SECONDS", hide = true)]
    emit_error_log_interval: Option<String>,
    #[arg(long, value_name = "BOOL", num_args = 0..=1, default_missing_value = "true", hide = true)]
    suppress_repeated_stacktrace: Option<String>,
    #[arg(long, value_name = "ENCODING", hide = true)]
    conf_encoding: Option<String>,
    #[arg(long, value_name = "TYPE", hide = true)]
    config_file_type: Option<String>,
    #[arg(long, hide = true)]
    no_supervisor: bool,
    #[arg(long, hide = true)]
    use_v1_config: bool,
    #[arg(long, hide = true)]
    enable_input_metrics: bool,
    #[arg(long, hide = true)]
    disable_input_metrics: bool,
    #[arg(long, hide = true)]
    enable_size_metrics: bool,
    #[arg(long, hide = true)]
    disable_shared_socket: bool,
}

/// What affluent does beside running.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Drain this instance now, as its termination would: flush, spill, complete the lifecycle hook
    Drain {
        /// Go through every stage except commands, complete and delete
        #[arg(long)]
        dry_run: bool,
        /// Why, for the manifest and the log
        #[arg(long, value_name = "TEXT", default_value = "asked for by hand")]
        reason: String,
    },
    /// Ask the agent that runs with this configuration for its account of every line and file
    Status {
        /// As one JSON document
        #[arg(long)]
        json: bool,
    },
    /// Look into a buffer directory of Affluent or Fluentd: one JSON line each. Only requeue and text change anything
    Chunk {
        /// What to do with it
        #[command(subcommand)]
        what: Chunk,
    },
}

/// What to do with a buffer directory.
#[derive(Debug, Subcommand)]
pub enum Chunk {
    /// List its chunks
    Ls {
        /// The directory
        directory: PathBuf,
    },
    /// Print the events of its chunks
    Cat {
        /// The directory
        directory: PathBuf,
        /// Only chunks whose file name contains this
        #[arg(long, value_name = "TEXT")]
        chunk: Option<String>,
    },
    /// Read all data and say which chunks are damaged; exit status 1 if any is
    Verify {
        /// The directory
        directory: PathBuf,
    },
    /// Queue again what can be read of chunks that were set aside. The agent must not run
    Requeue {
        /// The directory
        directory: PathBuf,
        /// The tag of chunks whose own is lost
        #[arg(long)]
        tag: Option<String>,
    },
    /// Before going back to Fluentd: make of the chunks of out_file and s3 in the configuration (-c) the text that Fluentd keeps. The agent
    /// must not run
    Text,
}

impl Unneeded {
    /// One sentence for each flag that was given and changes nothing.
    pub fn notes(&self) -> Vec<&'static str> {
        let ruby = !self.plugin.is_empty()
            || !self.load_path.is_empty()
            || !self.require.is_empty()
            || self.gemfile.is_some()
            || self.gem_path.is_some();
        let metrics =
            self.enable_input_metrics || self.disable_input_metrics || self.enable_size_metrics;
        [
            (ruby, "-p, -I, -r, -g, -G: Ruby plugins are not loaded; the plugins are built in"),
            (self.workers.is_some_and(|n| n > 1), "--workers: one process does the work of all workers"),
            (
                self.log_rotate_age.is_some() || self.log_rotate_size.is_some(),
                "--log-rotate-age, --log-rotate-size: rotate with logrotate and send USR1, the log is reopened",
            ),
            (self.log_event_verbose, "--log-event-verbose: log lines are not emitted as events"),
            (self.emit_error_log_interval.is_some(), "--emit-error-log-interval: has no effect, as in Fluentd 1.x"),
            (self.suppress_repeated_stacktrace.is_some(), "--suppress-repeated-stacktrace: there are no stack traces"),
            (
                self.conf_encoding.as_deref().is_some_and(|name| !name.eq_ignore_ascii_case("utf-8")),
                "--conf-encoding: the configuration is read as UTF-8",
            ),
            (
                self.config_file_type.as_deref().is_some_and(|kind| kind.starts_with('y')),
                "--config-file-type: YAML is not read, the file is taken as v1 syntax",
            ),
            (metrics, "--enable-input-metrics, --enable-size-metrics: records and bytes are always counted"),
        ]
        .into_iter()
        .filter_map(|(given, note)| given.then_some(note))
        .collect()
    }
}

impl Args {
    /// The log level that the flags ask for; `None` leaves it to `<system>`.
    pub fn level(&self) -> Option<tracing::Level> {
        match (self.verbose, self.quiet) {
            (0, 0) => None,
            (0, 1) => Some(tracing::Level::WARN),
            (0, _) => Some(tracing::Level::ERROR),
            (1, _) => Some(tracing::Level::DEBUG),
            _ => Some(tracing::Level::TRACE),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str) -> Result<Args, clap::Error> {
        Args::try_parse_from(line.split_whitespace())
    }

    #[test]
    fn the_command_line_of_a_td_agent_unit_is_understood() {
        let line = "affluent --log /var/log/td-agent/td-agent.log --daemon /run/td-agent.pid --use-v1-config -c a.conf -vv";
        let args = parse(line).expect("understood");
        assert_eq!(args.daemon, Some(PathBuf::from("/run/td-agent.pid")));
        assert_eq!(args.level(), Some(tracing::Level::TRACE));
        assert!(args.unneeded.notes().is_empty());
    }

    #[test]
    fn flags_without_effect_say_so() {
        let args = parse("affluent -p /etc/td-agent/plugin --workers 4").expect("understood");
        let notes = args.unneeded.notes();
        assert_eq!(notes.len(), 2);
        assert!(notes[0].contains("Ruby plugins are not loaded"));
    }

    #[test]
    fn an_unknown_flag_is_refused_with_usage_status() {
        assert_eq!(
            parse("affluent --frobnicate")
                .expect_err("refused")
                .exit_code(),
            2
        );
    }

    #[test]
    fn drain_is_a_command() {
        let args = parse("affluent -c a.conf drain --dry-run").expect("understood");
        assert!(matches!(
            args.command,
            Some(Command::Drain { dry_run: true, .. })
        ));
    }
}
