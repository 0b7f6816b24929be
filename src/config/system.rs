//! `<system>`: what Affluent honours, and for everything else that Fluentd knows there, what happens instead.

use serde::Deserialize;

use super::element::Element;
use super::{ConfigErrors, Result};

/// Fluentd's parameters that have no effect here, and why.
const WITHOUT_EFFECT: [(&str, &str); 21] = [
    (
        "restart_worker_interval",
        "there are no worker processes: systemd restarts the agent",
    ),
    (
        "suppress_repeated_stacktrace",
        "the agent's log has no stack traces",
    ),
    (
        "ignore_repeated_log_interval",
        "every log line is written, repeated ones too",
    ),
    (
        "ignore_same_log_interval",
        "every log line is written, repeated ones too",
    ),
    (
        "emit_error_log_interval",
        "every log line is written, repeated ones too",
    ),
    (
        "log_event_verbose",
        "log lines of start and stop are not emitted as events",
    ),
    ("without_source", "all sources are started"),
    ("with_source_only", "all outputs are started"),
    ("rpc_endpoint", "there is no RPC server: use signals"),
    ("enable_get_dump", "there is no RPC server"),
    ("process_name", "the process keeps its name"),
    (
        "enable_msgpack_time_support",
        "event times are always Fluentd's own type",
    ),
    (
        "disable_shared_socket",
        "there is one process, which shares no socket",
    ),
    (
        "enable_input_metrics",
        "what is counted does not depend on it",
    ),
    (
        "enable_size_metrics",
        "what is counted does not depend on it",
    ),
    ("enable_jit", "there is no Ruby"),
    (
        "file_permission",
        "file modes are fixed: 0600 for position and backup files, 0644 for files of out_file",
    ),
    (
        "dir_permission",
        "directory modes are fixed: 0755 around position files and files of out_file, 0700 for backups",
    ),
    (
        "config_include_dir",
        "only files named by @include are read",
    ),
    ("umask", "the umask of the process is kept"),
    ("use_v1_config", "the v1 syntax is always used"),
];

/// Sections below `<system>` that have no effect here.
const SECTIONS_WITHOUT_EFFECT: [&str; 4] = [
    "counter_server",
    "counter_client",
    "metrics",
    "source_only_buffer",
];

/// `<log>` parameters that have no effect here, and why.
const LOG_WITHOUT_EFFECT: [(&str, &str); 3] = [
    (
        "rotate_age",
        "the agent does not rotate its log: logrotate does, with USR1 behind it",
    ),
    (
        "rotate_size",
        "the agent does not rotate its log: logrotate does, with USR1 behind it",
    ),
    (
        "forced_stacktrace_level",
        "the agent's log has no stack traces",
    ),
];

/// What the agent's log shows at least.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogLevel {
    /// Everything.
    Trace,
    /// For whoever looks for an error.
    Debug,
    /// Rare changes of state.
    #[default]
    Info,
    /// Degraded, nothing lost.
    Warn,
    /// An operator must act.
    Error,
    /// The agent ends.
    Fatal,
}

/// How a log line is written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// Fluentd's line.
    #[default]
    Text,
    /// One JSON object a line.
    Json,
}

/// The parameters of `<system>` that are honoured.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct System {
    /// The agent is one process whatever stands here; below 1 is an error.
    pub workers: u32,
    /// Base of the plugins' own directories.
    pub root_dir: Option<String>,
    /// The lowest level that is logged; `None` where the command line alone decides (info).
    pub log_level: Option<LogLevel>,
    /// Do not log the configuration at start.
    pub suppress_config_dump: bool,
    /// Numbers with something behind them are errors.
    pub strict_config_value: bool,
    /// `<log>`.
    #[serde(skip)]
    pub log: Log,
}

impl Default for System {
    fn default() -> System {
        System {
            workers: 1,
            root_dir: None,
            log_level: None,
            suppress_config_dump: false,
            strict_config_value: false,
            log: Log::default(),
        }
    }
}

/// The parameters of `<system> <log>` that are honoured.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct Log {
    /// Where to log, unless the command line says it; `-` is standard output.
    pub path: Option<String>,
    /// text or json.
    pub format: LogFormat,
    /// strftime's format of a line's time.
    pub time_format: String,
}

impl Default for Log {
    fn default() -> Log {
        Log {
            path: None,
            format: LogFormat::Text,
            time_format: "%Y-%m-%d %H:%M:%S %z".to_owned(),
        }
    }
}

/// Reads `<system>`, warns about what has no effect, and makes the configuration strict where it asks for that.
pub(crate) fn read(root: &Element) -> Result<System> {
    let Some(section) = root.section("system")? else {
        return Ok(System::default());
    };
    let mut errors = ConfigErrors::new();
    let system = errors.collect(section.params::<System>());
    let log = errors.collect(section.section("log"));
    let log = log.flatten().and_then(|log| {
        warn_without_effect(log, &LOG_WITHOUT_EFFECT);
        errors.collect(log.params::<Log>())
    });
    warn_without_effect(section, &WITHOUT_EFFECT);
    for name in SECTIONS_WITHOUT_EFFECT {
        for child in section.sections(name) {
            child.entries().for_each(drop);
            child.warn("this section has no effect here");
        }
    }
    if system.as_ref().is_some_and(|system| system.workers < 1) {
        errors.push(section.error_at("workers", "invalid number of workers (1 or more)"));
    }
    errors.into_result()?;
    let mut system = system.unwrap_or_default();
    system.log = log.unwrap_or_default();
    if system.workers > 1 {
        section.warn_at("workers", "one process does the work of all workers");
    }
    if system.strict_config_value {
        root.be_strict();
    }
    Ok(system)
}

fn warn_without_effect(section: &Element, names: &[(&str, &str)]) {
    for (name, instead) in names {
        // Reading it marks it as used: one warning is enough.
        if section.has(name) && section.get(name).is_some() {
            section.warn_at(name, format!("has no effect here: {instead}"));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;

    #[test]
    fn what_is_honoured_is_typed_and_the_rest_is_warned_about() {
        let config = Config::from_text(
            "<system>\nlog_level debug\nworkers 4\nroot_dir /srv\nrpc_endpoint 127.0.0.1:1\nwrokers 1\n\
             <log>\nformat json\nrotate_age 5\n</log>\n<metrics>\n@type local\n</metrics>\n</system>",
        )
        .expect("config");
        let system = config.system().expect("system");
        assert_eq!(system.log_level, Some(LogLevel::Debug));
        assert_eq!(system.root_dir.as_deref(), Some("/srv"));
        assert_eq!(system.log.format, LogFormat::Json);
        let warned: Vec<_> = config.warnings().iter().map(|w| w.line()).collect();
        assert_eq!(warned.len(), 4, "{warned:#?}");
        assert!(warned[0].contains(":9: in <system> > <log>: rotate_age: has no effect"));
        let unused: Vec<_> = config.unused().iter().map(|w| w.line()).collect();
        assert_eq!(unused.len(), 1, "{unused:#?}");
        assert!(unused[0].starts_with("text:6: parameter 'wrokers' in <system> is not used"));
    }

    #[test]
    fn wrong_values_of_the_section_and_its_log_are_reported_together() {
        let config = Config::from_text(
            "<system>\nworkers 0\nlog_level loud\n<log>\nformat xml\n</log>\n</system>",
        );
        let errors = config.expect("config").system().expect_err("errors");
        let lines: Vec<_> = errors.iter().map(|error| error.line()).collect();
        assert_eq!(lines.len(), 2, "{lines:#?}");
        assert!(
            lines[0].ends_with("valid options are trace,debug,info,warn,error,fatal. Got: loud")
        );
        assert!(lines[1].ends_with("valid options are text,json. Got: xml"));
    }

    #[test]
    fn a_strict_configuration_refuses_numbers_with_something_behind() {
        let text =
            |strict| format!("<system>\nstrict_config_value {strict}\nworkers 2x\n</system>");
        let lenient = Config::from_text(&text("false")).expect("config");
        assert_eq!(lenient.system().expect("system").workers, 2);
        let strict = Config::from_text(&text("true")).expect("config");
        strict
            .system()
            .expect("the section itself is read leniently");
        assert!(strict.system().is_err());
    }
}
