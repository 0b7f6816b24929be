//! Where events come from: the trait and the table of inputs.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use serde::{Deserialize, Serialize};

use crate::config::{Element, Result};
use crate::event::{Collector, Extent};
use crate::stop::Stop;

pub mod tail;

/// Lines that gave no event, by why.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Skipped {
    /// The text does not have the parser's form.
    pub unmatched: u64,
    /// The form fits and a value does not.
    pub invalid: u64,
    /// Longer than `max_line_size`.
    pub too_long: u64,
}

impl Skipped {
    /// Adds others.
    pub fn add(&mut self, others: Skipped) {
        self.unmatched += others.unmatched;
        self.invalid += others.invalid;
        self.too_long += others.too_long;
    }

    /// All of them.
    pub fn sum(&self) -> u64 {
        self.unmatched + self.invalid + self.too_long
    }
}

/// What came of the lines of one path in this run: read = safe + forgotten + waiting.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Totals {
    /// Lines that were made into batches.
    pub lines: u64,
    /// Their bytes, newlines included.
    pub bytes: u64,
    /// Lines that are acknowledged, durable or stored, and skipped ones.
    pub safe_lines: u64,
    /// Their bytes.
    pub safe_bytes: u64,
    /// Lines that left the buffers without being safe: the next start reads them again.
    pub forgotten_lines: u64,
    /// Their bytes.
    pub forgotten_bytes: u64,
    /// Lines among those read that gave no event.
    pub skipped: Skipped,
}

impl Totals {
    /// Lines in buffers and in flight.
    pub fn waiting_lines(&self) -> u64 {
        self.lines - self.safe_lines - self.forgotten_lines
    }

    /// Their bytes.
    pub fn waiting_bytes(&self) -> u64 {
        self.bytes - self.safe_bytes - self.forgotten_bytes
    }

    /// Adds another path's.
    pub fn add(&mut self, other: &Totals) {
        self.lines += other.lines;
        self.bytes += other.bytes;
        self.safe_lines += other.safe_lines;
        self.safe_bytes += other.safe_bytes;
        self.forgotten_lines += other.forgotten_lines;
        self.forgotten_bytes += other.forgotten_bytes;
        self.skipped.add(other.skipped);
    }
}

/// One path of a source, as of the moment of asking.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileReport {
    /// The path.
    pub path: PathBuf,
    /// What was read and what came of it.
    #[serde(flatten)]
    pub totals: Totals,
    /// Lines in buffers and in flight.
    pub waiting_lines: u64,
    /// Bytes that were read and belong to no batch yet: an unfinished line, a text that waits for its last line.
    pub held_bytes: u64,
    /// Bytes that stand in the file, in all its generations, and were not read.
    pub behind_bytes: u64,
    /// Generations that are being read: more than one while a rotated one is not finished.
    pub generations: usize,
}

/// Reports on each path of a source.
pub type Report = Box<dyn Fn() -> Vec<FileReport> + Send + Sync>;

/// What an input tells while it runs. All counters are of this run.
#[derive(Default)]
pub struct Progress {
    /// Lines read.
    pub lines: AtomicU64,
    /// Bytes read, newlines included.
    pub bytes: AtomicU64,
    /// Lines that gave no event: unmatched, invalid, too long.
    pub skipped: AtomicU64,
    /// Bytes that stand in the files and were not read yet, as of the last look.
    pub behind: AtomicU64,
    /// Bytes read whose lines left the buffers without being safe: they are read again at the next start.
    pub forgotten: AtomicU64,
    /// Files open now.
    pub files: AtomicU64,
    /// Paths that cannot be read, each with the reason, as of the last look.
    unreadable: Mutex<Vec<String>>,
    /// Who reports on each file.
    report: OnceLock<Report>,
}

impl Progress {
    /// Adds to a counter.
    pub fn add(counter: &AtomicU64, amount: u64) {
        counter.fetch_add(amount, Ordering::Relaxed);
    }

    /// Reads a counter.
    pub fn read(counter: &AtomicU64) -> u64 {
        counter.load(Ordering::Relaxed)
    }

    /// Paths that cannot be read, each with the reason.
    pub fn unreadable(&self) -> Vec<String> {
        self.paths().clone()
    }

    /// Replaces them, by path and reason. One that stands there no more is no trouble.
    pub fn tell_unreadable<'a>(&self, paths: impl Iterator<Item = (&'a PathBuf, &'a String)>) {
        *self.paths() = paths
            .filter(|(path, _)| path.try_exists().unwrap_or(true))
            .map(|(path, reason)| format!("{}: {reason}", path.display()))
            .collect();
    }

    /// Says who reports on each file; once.
    pub fn report_by(&self, report: Report) {
        // A second one would be of the same source.
        let _ = self.report.set(report);
    }

    /// A report on each file. It looks at all of them: not for an asynchronous thread.
    pub fn report(&self) -> Vec<FileReport> {
        self.report.get().map(|report| report()).unwrap_or_default()
    }

    fn paths(&self) -> MutexGuard<'_, Vec<String>> {
        self.unreadable
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

/// What the agent gives to a running input.
#[derive(Clone)]
pub struct Surroundings {
    /// Where batches go.
    pub collector: Arc<dyn Collector>,
    /// To be called when the input waits for what it already emitted (its read-ahead is used up): open chunks go now instead
    /// of at their flush time, or the input would wait for the clock.
    pub hasten: Arc<dyn Fn() + Send + Sync>,
    /// What buffers on disk remember of files that were being read when the last run ended.
    pub recalled: Arc<[Extent]>,
    /// When to stop, and how (see [`crate::stop::Phase`]).
    pub stop: Stop,
    /// What to tell.
    pub progress: Arc<Progress>,
    /// To be called once, when the input has what it needs (its pos_file) and has looked for its files: the start is complete.
    pub started: Arc<dyn Fn() + Send + Sync>,
    /// To be called once, when nothing more will be emitted. The input goes on writing positions until `Phase::Close`.
    pub finished: Arc<dyn Fn() + Send + Sync>,
}

/// A file source: runs on a thread of its own.
pub trait Input: Send {
    /// Runs until the stop phase `Close`. An error ends the process: the supervisor restarts it and nothing is lost.
    fn run(self: Box<Self>, surroundings: Surroundings) -> anyhow::Result<()>;

    /// How many bytes it may read ahead of what is safe. The agent lowers it to the smallest `total_limit_size` behind it.
    fn limit_read_ahead(&mut self, bytes: u64);

    /// The most memory that it takes for what it has read and not emitted, unfinished lines aside.
    fn most_memory(&self) -> usize;

    /// How many files it may keep open at once.
    fn limit_open_files(&mut self, files: usize);

    /// Where it keeps its positions: two inputs must not share one.
    fn pos_file(&self) -> Option<&Path>;
}

/// A configured input, not started.
pub struct Configured {
    /// `tail`, …
    pub plugin_type: &'static str,
    /// `@id`, or `tail.0`, `tail.1`, … by order.
    pub id: Option<String>,
    /// `@label`.
    pub label: Option<String>,
    /// The input.
    pub input: Box<dyn Input>,
}

/// How a `<source>` section becomes an input.
type Configure = fn(&Element) -> Result<Configured>;

/// Every input, by its `@type`.
const INPUTS: [(&str, Configure); 1] = [("tail", tail::configure)];

/// Inputs that Fluentd users may expect and that are not there yet.
const EXPECTED: [&str; 18] = [
    "forward",
    "http",
    "syslog",
    "tcp",
    "udp",
    "unix",
    "exec",
    "monitor_agent",
    "sample",
    "dummy",
    "debug_agent",
    "prometheus",
    "prometheus_monitor",
    "prometheus_output_monitor",
    "prometheus_tail_monitor",
    "systemd",
    "s3",
    "windows_eventlog",
];

/// Reads a `<source>` section.
pub fn configure(section: &Element) -> Result<Configured> {
    let known: Vec<&str> = INPUTS.iter().map(|(name, _)| *name).collect();
    let plugin_type = section.plugin_type_of(&known)?;
    if let Some((_, configure)) = INPUTS.iter().find(|(name, _)| *name == plugin_type) {
        return configure(section);
    }
    let known_list = known.join(", ");
    let message = if EXPECTED.contains(&plugin_type) {
        format!("input plugin '{plugin_type}' is not supported yet (supported: {known_list})")
    } else {
        format!("unknown input plugin '{plugin_type}' (known: {known_list})")
    };
    let error = section.error_at("@type", message);
    Err(error.suggest(plugin_type, known).into())
}
