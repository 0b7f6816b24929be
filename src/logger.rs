//! Fluentd's log line and levels, from `tracing` events: ours, the SDK's, the TLS library's.
//!
//! ```text
//! 2026-11-23 02:26:36 +0000 [warn]: #0 [to_server] failed to flush the buffer. retry_times=0 chunk="5f…"
//! ```
//!
//! or, with `<log> format json`, `{"time":…,"level":…,"message":…}` with the worker and plugin where there is one.
//!
//! Levels are Fluentd's: `fatal` does not exist for us, an `error` is the highest. A plugin's own `@log_level` applies to events
//! that carry its `plugin_id`.

use std::collections::HashMap;
use std::fmt::{self, Write as _};
use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::path::PathBuf;
use std::sync::{Mutex, OnceLock, PoisonError, RwLock};

use jiff::Timestamp;
use jiff::tz::TimeZone;
use tracing::field::{Field, Visit};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::layer::{Context, Layer, SubscriberExt};

/// How lines look.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Format {
    /// One JSON object a line instead of Fluentd's text.
    pub json: bool,
    /// strftime's format of a line's time.
    pub time: String,
}

impl Default for Format {
    fn default() -> Format {
        Format {
            json: false,
            time: "%Y-%m-%d %H:%M:%S %z".into(),
        }
    }
}

/// Where lines go and which ones.
pub struct Logger {
    path: Option<PathBuf>,
    format: Format,
    sink: Mutex<Option<File>>,
    level: RwLock<Level>,
    plugin_levels: RwLock<HashMap<String, Level>>,
    zone: TimeZone,
}

static LOGGER: OnceLock<Logger> = OnceLock::new();

/// Starts logging, once per process: to `path` (`-o`, or `<log> path`), or to standard output.
pub fn start(path: Option<PathBuf>, level: Level, format: Format) -> io::Result<&'static Logger> {
    let path = path.filter(|path| path.as_os_str() != "-");
    let sink = path.as_ref().map(open).transpose()?;
    let zone = TimeZone::system();
    let logger = LOGGER.get_or_init(|| Logger {
        path,
        format,
        sink: Mutex::new(sink),
        level: RwLock::new(level),
        plugin_levels: RwLock::default(),
        zone,
    });
    // A second call keeps the first subscriber.
    let _ =
        tracing::subscriber::set_global_default(tracing_subscriber::registry().with(Lines(logger)));
    Ok(logger)
}

/// The level with this name in Fluentd's spelling.
pub fn level(name: &str) -> Option<Level> {
    Some(match name {
        "trace" => Level::TRACE,
        "debug" => Level::DEBUG,
        "info" => Level::INFO,
        "warn" => Level::WARN,
        "error" | "fatal" => Level::ERROR,
        _ => return None,
    })
}

impl Logger {
    /// Changes the level of everything that has no level of its own.
    pub fn set_level(&self, level: Level) {
        *self.level.write().unwrap_or_else(PoisonError::into_inner) = level;
    }

    /// Replaces the `@log_level`s of plugins, by plugin id.
    pub fn set_plugin_levels(&self, levels: HashMap<String, Level>) {
        *self
            .plugin_levels
            .write()
            .unwrap_or_else(PoisonError::into_inner) = levels;
    }

    /// Opens the log file anew: what logrotate asks for with `USR1`.
    pub fn reopen(&self) {
        let Some(path) = &self.path else { return };
        match open(path) {
            Ok(file) => *self.sink.lock().unwrap_or_else(PoisonError::into_inner) = Some(file),
            Err(error) => {
                tracing::error!(path = %path.display(), %error, "cannot reopen the log file, going on with the old one")
            }
        }
    }

    fn wants(&self, level: Level, plugin: Option<&str>) -> bool {
        let own = plugin.and_then(|id| {
            self.plugin_levels
                .read()
                .unwrap_or_else(PoisonError::into_inner)
                .get(id)
                .copied()
        });
        let general = || *self.level.read().unwrap_or_else(PoisonError::into_inner);
        level <= own.unwrap_or_else(general)
    }

    fn print(&self, line: &str) {
        let mut sink = self.sink.lock().unwrap_or_else(PoisonError::into_inner);
        // A log that cannot be written must not stop the delivery: there is nobody left to tell.
        let _ = match &mut *sink {
            Some(file) => file.write_all(line.as_bytes()),
            None => io::stdout().lock().write_all(line.as_bytes()),
        };
    }
}

/// The log's stream for lines that are not log lines: what out_stdout prints, as in Fluentd.
pub struct Raw;

impl Write for Raw {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let Some(logger) = LOGGER.get() else {
            return io::stdout().write(bytes);
        };
        match &mut *logger.sink.lock().unwrap_or_else(PoisonError::into_inner) {
            Some(file) => file.write(bytes),
            None => io::stdout().write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        io::stdout().flush()
    }
}

fn open(path: &PathBuf) -> io::Result<File> {
    if let Some(directory) = path.parent() {
        std::fs::create_dir_all(directory)?;
    }
    OpenOptions::new().append(true).create(true).open(path)
}

struct Lines(&'static Logger);

impl<S: Subscriber> Layer<S> for Lines {
    fn enabled(&self, metadata: &tracing::Metadata<'_>, _context: Context<'_, S>) -> bool {
        let ours = metadata.target().starts_with("affluent");
        // Libraries speak at debug and trace about each packet; only their warnings concern an operator.
        ours || *metadata.level() <= Level::WARN
    }

    fn on_event(&self, event: &Event<'_>, _context: Context<'_, S>) {
        let level = *event.metadata().level();
        let mut fields = Fields::default();
        event.record(&mut fields);
        if self.0.wants(level, fields.plugin.as_deref()) {
            let now = Timestamp::now().to_zoned(self.0.zone.clone());
            let time = now.strftime(&self.0.format.time).to_string();
            self.0.print(&if self.0.format.json {
                fields.json(&time, level)
            } else {
                fields.line(&time, level)
            });
        }
    }
}

#[derive(Default)]
struct Fields {
    message: String,
    plugin: Option<String>,
    rest: String,
}

impl Fields {
    fn line(&self, time: &str, level: Level) -> String {
        let level = level.as_str().to_ascii_lowercase();
        let plugin = self
            .plugin
            .as_ref()
            .map_or_else(String::new, |id| format!("#0 [{id}] "));
        // One event is one line, whatever a file name or an error text contains.
        let text = format!("{}{}", self.message, self.rest).replace('\n', "\\n");
        format!("{time} [{level}]: {plugin}{text}\n")
    }

    fn json(&self, time: &str, level: Level) -> String {
        let level = level.as_str().to_ascii_lowercase();
        let message = format!("{}{}", self.message, self.rest);
        let mut line = serde_json::json!({ "time": time, "level": level, "message": message });
        if let Some(plugin) = &self.plugin {
            line["worker_id"] = 0.into();
            line["plugin_id"] = plugin.as_str().into();
        }
        format!("{line}\n")
    }

    fn pair(&mut self, field: &Field, value: fmt::Arguments<'_>) {
        // Writing to a string cannot fail.
        let _ = write!(self.rest, " {}={value}", field.name());
    }
}

impl Visit for Fields {
    fn record_str(&mut self, field: &Field, value: &str) {
        match field.name() {
            "message" => value.clone_into(&mut self.message),
            "plugin_id" => self.plugin = Some(value.to_owned()),
            _ => self.pair(field, format_args!("{value:?}")),
        }
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        match field.name() {
            "message" => self.message = format!("{value:?}"),
            "plugin_id" => self.plugin = Some(format!("{value:?}").trim_matches('"').to_owned()),
            _ => self.pair(field, format_args!("{value:?}")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_fluentds() {
        let fields = Fields {
            message: "failed to flush the buffer.".into(),
            plugin: Some("to_server".into()),
            rest: " retry_times=0 chunk=\"5f\"".into(),
        };
        assert_eq!(
            fields.line("2026-11-23 02:26:36 +0000", Level::WARN),
            "2026-11-23 02:26:36 +0000 [warn]: #0 [to_server] failed to flush the buffer. retry_times=0 chunk=\"5f\"\n"
        );
    }

    #[test]
    fn an_event_stays_one_line() {
        let fields = Fields {
            message: "two\nlines".into(),
            ..Fields::default()
        };
        assert_eq!(fields.line("T", Level::INFO), "T [info]: two\\nlines\n");
    }

    #[test]
    fn a_json_line_is_one_object() {
        let fields = Fields {
            message: "two\nlines".into(),
            rest: " n=1".into(),
            ..Fields::default()
        };
        let line: serde_json::Value =
            serde_json::from_str(&fields.json("T", Level::WARN)).expect("an object");
        assert_eq!(
            line,
            serde_json::json!({ "time": "T", "level": "warn", "message": "two\nlines n=1" })
        );
    }

    #[test]
    fn levels_have_fluentds_names() {
        assert_eq!(level("warn"), Some(Level::WARN));
        assert_eq!(level("fatal"), Some(Level::ERROR));
        assert_eq!(level("loud"), None);
    }
}
