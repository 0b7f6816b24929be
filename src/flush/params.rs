//! The `<buffer>` section: how an output collects, flushes and retries.

use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Deserialize;

use super::backup::Backup;
use super::due::{Due, FlushMode};
use super::retry::{RetrySettings, RetryType};
use super::{FlushSettings, checks};
use crate::buffer::file::params::{self as file, Home};
use crate::buffer::file::{self as disk, Kind};
use crate::buffer::{ChunkKeys, Compress, Limits, OverflowAction};
use crate::config::types::{Size, Time};
use crate::config::{self, ConfigErrors, Element, Result};

/// A memory chunk goes to the queue at this size even where `chunk_limit_size` is larger: lines wait in their files, not in memory, and
/// sending overlaps reading.
pub(super) const FULL_CHUNK: usize = 8 << 20;
/// More workers for one output than this are a mistake: each may hold a chunk and a connection.
pub(super) const MOST_THREADS: usize = 64;

/// Parameters of `<buffer>`, spelled as Fluentd spells them.
#[derive(Debug, Deserialize)]
#[serde(default)]
pub struct Params {
    /// `memory`; `file` or `file_single` keep chunks on disk as Fluentd does.
    #[serde(rename = "@type")]
    pub buffer_type: String,
    /// `default` (by the output: interval, or immediate for outputs that Fluentd does not buffer), `lazy`, `interval`, `immediate`.
    pub flush_mode: ModeName,
    /// Age at which a chunk is flushed in mode interval.
    pub flush_interval: Time,
    /// Flush at a stop. Where it is off, what is not delivered stays on disk, or behind the position and is read again. Unset: on for a
    /// memory buffer, off on disk.
    pub flush_at_shutdown: Option<bool>,
    /// How many chunks are written at once.
    pub flush_thread_count: usize,
    /// Least time between two looks for chunks that are due by time, in seconds. Fluentd's default is one second; ours is 0: an idle thread
    /// wakes when a chunk is due.
    pub flush_thread_interval: f64,
    /// Pause between two chunks of one thread, in seconds. Fluentd's default of one second is a ceiling of one chunk a second; ours is 0.
    pub flush_thread_burst_interval: f64,
    /// While so many chunks are queued, those that are due by time stay in the stage and grow. Unset: `flush_thread_count`.
    pub queued_chunks_limit_size: Option<usize>,
    /// How long after the end of its time slice a chunk is flushed: for events that come late.
    pub timekey_wait: Time,
    /// How chunks are kept: `text`, `gzip` or `zstd`. out_forward with the same `compress` sends them as they are.
    pub compress: Compress,
    /// What a full buffer means: `block` and `throw_exception` pause a tail source, `drop_oldest_chunk` drops, counts and reports.
    pub overflow_action: OverflowName,
    /// How the waits between attempts grow.
    pub retry_type: RetryName,
    /// The first wait.
    pub retry_wait: Time,
    /// Growth of the wait.
    pub retry_exponential_backoff_base: f64,
    /// Longest wait.
    pub retry_max_interval: Option<Time>,
    /// After this time a chunk is given up.
    pub retry_timeout: Time,
    /// After so many repeated attempts a chunk is given up.
    pub retry_max_times: Option<u32>,
    /// Never give up.
    pub retry_forever: bool,
    /// Spread the waits by 12.5 %.
    pub retry_randomize: bool,
    /// The part of the retry time after which the `<secondary>` is used, between 0 and 1.
    pub retry_secondary_threshold: f64,
    /// A chunk's size limit. Unset: 8m in memory, 256m on disk.
    pub chunk_limit_size: Option<Size>,
    /// A chunk's limit in events.
    pub chunk_limit_records: Option<usize>,
    /// The part of the limits at which a chunk is full.
    pub chunk_full_threshold: f64,
    /// The limit of stage, queue and in flight together. Unset: 512m in memory, 64g on disk.
    pub total_limit_size: Option<Size>,
    /// If set, `total_limit_size` is `chunk_limit_size` times this, whatever it says itself: Fluentd's meaning.
    pub queue_limit_length: Option<u64>,
    /// Throw a chunk away at the retry limit instead of keeping it in the backup directory.
    pub disable_chunk_backup: bool,
}

/// `flush_mode`.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "snake_case")]
#[allow(missing_docs, reason = "the words of the configuration say it")]
pub enum ModeName {
    Default,
    Lazy,
    Interval,
    Immediate,
}

/// `overflow_action`.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(rename_all = "snake_case")]
#[allow(missing_docs, reason = "the words of the configuration say it")]
pub enum OverflowName {
    ThrowException,
    Block,
    DropOldestChunk,
}

/// `retry_type`.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(rename_all = "snake_case")]
#[allow(missing_docs, reason = "the words of the configuration say it")]
pub enum RetryName {
    ExponentialBackoff,
    Periodic,
}

impl Default for Params {
    fn default() -> Params {
        Params {
            buffer_type: "memory".into(),
            flush_mode: ModeName::Default,
            flush_interval: Time(Duration::from_secs(60)),
            flush_at_shutdown: None,
            flush_thread_count: 1,
            flush_thread_interval: 0.0,
            flush_thread_burst_interval: 0.0,
            queued_chunks_limit_size: None,
            timekey_wait: Time(Duration::from_secs(600)),
            compress: Compress::Text,
            overflow_action: OverflowName::ThrowException,
            retry_type: RetryName::ExponentialBackoff,
            retry_wait: Time(Duration::from_secs(1)),
            retry_exponential_backoff_base: 2.0,
            retry_max_interval: None,
            retry_timeout: Time(Duration::from_secs(72 * 3600)),
            retry_max_times: None,
            retry_forever: false,
            retry_randomize: true,
            retry_secondary_threshold: 0.8,
            chunk_limit_size: None,
            chunk_limit_records: None,
            chunk_full_threshold: 0.95,
            total_limit_size: None,
            queue_limit_length: None,
            disable_chunk_backup: false,
        }
    }
}

/// Parameters that mean nothing to a memory buffer.
const ON_DISK: &[(&str, &str)] = &[
    (
        "path",
        "chunks live in memory and their lines in the tailed files until they are acknowledged; nothing is written here",
    ),
    (
        "path_suffix",
        "chunks live in memory; nothing is written to disk",
    ),
    (
        "file_permission",
        "chunks live in memory; nothing is written to disk",
    ),
    (
        "dir_permission",
        "chunks live in memory; nothing is written to disk",
    ),
    (
        "decompression_size_limit",
        "a chunk that this agent has compressed is read whole",
    ),
    ("fsync", "chunks live in memory; nothing is written to disk"),
];

/// Parameters that Fluentd takes and that mean nothing to workers that are woken: said, not ignored in silence.
const WITHOUT_EFFECT: &[(&str, &str)] = &[
    (
        "delayed_commit_timeout",
        "a chunk waits for its acknowledgement as long as the output's own timeout says (ack_response_timeout), as in Fluentd",
    ),
    ("calc_num_records", "records are always counted"),
    ("chunk_format", "chunks always hold MessagePack entries"),
];

/// What an output's buffer is made of.
#[derive(Clone, Debug)]
pub struct Settings {
    /// For the buffer.
    pub limits: Limits,
    /// For the flush loop.
    pub flush: FlushSettings,
    /// Where chunks go that are given up.
    pub backup: Backup,
    /// Where chunks are on disk; `None`: in memory.
    pub disk: Option<disk::Settings>,
}

/// What the output around the section brings.
#[derive(Clone, Copy, Debug)]
pub struct Owner<'a> {
    /// The `<match>` or `<store>` section.
    pub section: &'a Element,
    /// Whether Fluentd does not buffer it, as it stands there: its chunks are flushed at once.
    pub unbuffered: bool,
    /// The chunk keys of its buffer.
    pub keys: &'a ChunkKeys,
    /// Whether it has a `<secondary>`.
    pub has_secondary: bool,
    /// `root_dir` of `<system>`, or Fluentd's default.
    pub root_dir: &'a Path,
    /// `workers` of `<system>`.
    pub workers: u32,
    /// Whether it keeps chunks on disk, at its own `path`, unless its `<buffer>` says otherwise: out_file.
    pub keeps_files: bool,
}

/// Reads the `<buffer>` section of an output; one that has none gets the defaults.
pub fn configure(owner: Owner<'_>) -> Result<Settings> {
    let absent = Element::synthetic(owner.section, "buffer", None);
    let mut section = owner.section.section("buffer")?.unwrap_or(&absent).clone();
    let root_dir = (owner.root_dir != default_root_dir()).then_some(owner.root_dir);
    let home = Home {
        root_dir,
        id: owner.section.id(),
        workers: owner.workers,
    };
    if owner.keeps_files {
        at_path_of_output(&mut section, owner.section, home);
    }
    let section = &section;
    let on_disk = kind(section);
    let not_there = if on_disk.is_some() { &[] } else { ON_DISK };
    for (name, instead) in WITHOUT_EFFECT
        .iter()
        .chain(not_there)
        .filter(|(name, _)| section.get(name).is_some())
    {
        section.warn_at(name, format!("'{name}' has no effect: {instead}"));
    }
    let mut errors = ConfigErrors::new();
    let slow = errors.collect(slow_threshold(owner.section));
    let params = errors.collect(section.params::<Params>());
    if let Some(params) = &params {
        errors.collect(checks::check(params, section));
        checks::say_what_is_overridden(params, section, owner.has_secondary);
    }
    if on_disk == Some(Kind::Single) {
        errors.collect(checks::single_key(owner.keys, section));
    }
    let disk = on_disk.map(|kind| file::configure(section, kind, home));
    let disk = errors.collect(disk.transpose()).flatten();
    errors.into_result()?;
    let (Some(params), Some(slow_threshold)) = (params, slow) else {
        return Err(section.error("the parameters cannot be read").into());
    };
    let limits = limits(&params, disk.is_some());
    let retry = retry(&params, owner.has_secondary);
    let slice = (owner.keys.time.as_ref()).map(|time| time.length() + params.timekey_wait.0);
    let flush = FlushSettings {
        due: Due {
            mode: mode(&params, owner, section)?,
            slice,
        },
        workers: params.flush_thread_count,
        thread_interval: config::seconds(params.flush_thread_interval).unwrap_or_default(),
        queued_limit: (params.queued_chunks_limit_size).unwrap_or(params.flush_thread_count),
        burst_interval: config::seconds(params.flush_thread_burst_interval).unwrap_or_default(),
        at_shutdown: params.flush_at_shutdown.unwrap_or(disk.is_none()),
        slow_threshold,
        retry,
    };
    let backup = if params.disable_chunk_backup {
        Backup::disabled()
    } else {
        Backup::under(owner.root_dir)
    };
    Ok(Settings {
        limits,
        flush,
        backup,
        disk,
    })
}

/// out_file's defaults: chunks are files at the output's own `path`.
fn at_path_of_output(section: &mut Element, output: &Element, home: Home<'_>) {
    if !section.has("@type") {
        section.set_param("@type", "file", output, "@type");
    }
    let has_home = home.root_dir.is_some() && home.id.is_some();
    if !section.has("path") && !has_home && kind(section).is_some() {
        section.copy_param(output, "path", "path");
    }
}

/// The one flush parameter that stands on the `<match>` itself.
#[derive(Deserialize)]
#[serde(default)]
struct SlowFlush {
    /// Seconds after which a flush is reported as slow.
    slow_flush_log_threshold: f64,
}

impl Default for SlowFlush {
    fn default() -> SlowFlush {
        SlowFlush {
            slow_flush_log_threshold: 20.0,
        }
    }
}

fn slow_threshold(section: &Element) -> Result<Duration> {
    let slow: SlowFlush = section.params()?;
    config::seconds(slow.slow_flush_log_threshold).ok_or_else(|| {
        let key = "slow_flush_log_threshold";
        let message = format!("'{key}' {}", checks::SECONDS);
        section.error_at(key, message).into()
    })
}

/// What is asked of a buffer on disk or of one that survives a stop, and what a memory buffer does instead.
pub(super) fn check_memory(params: &Params, section: &Element) -> Result<()> {
    let in_memory = kind(section).is_none();
    if in_memory && params.flush_at_shutdown == Some(false) {
        section.warn_at(
            "flush_at_shutdown",
            "chunks are in memory: what is not flushed at a stop stays behind the positions of its files and is read again at the next start",
        );
    }
    match params.buffer_type.as_str() {
        "memory" | "file" | "file_single" => {}
        other => {
            let error = section.error_at("@type", format!("unknown buffer plugin '{other}'"));
            return Err(error
                .suggest(other, ["memory", "file", "file_single"])
                .into());
        }
    }
    Ok(())
}

/// Which buffer on disk it is, if one.
fn kind(section: &Element) -> Option<Kind> {
    match section.get("@type") {
        Some("file") => Some(Kind::File),
        Some("file_single") => Some(Kind::Single),
        _ => None,
    }
}

fn mode(params: &Params, owner: Owner<'_>, section: &Element) -> Result<FlushMode> {
    let interval = FlushMode::Interval(params.flush_interval.0);
    let given = section.has("flush_interval");
    match params.flush_mode {
        ModeName::Interval => Ok(interval),
        ModeName::Default if owner.keys.time.is_some() => {
            if given {
                section.warn_at(
                    "flush_interval",
                    "'flush_interval' is ignored because default 'flush_mode' is not 'interval': 'lazy'. Chunks leave at the end of their \
                     time slice; with flush_mode interval they leave at both",
                );
            }
            Ok(FlushMode::Lazy)
        }
        ModeName::Default if owner.unbuffered => Ok(FlushMode::Immediate),
        ModeName::Default => Ok(interval),
        ModeName::Lazy | ModeName::Immediate if given => Err(section
            .error_at(
                "flush_interval",
                "'flush_interval' can be specified only when 'flush_mode' is interval or default",
            )
            .into()),
        ModeName::Lazy => Ok(FlushMode::Lazy),
        ModeName::Immediate => Ok(FlushMode::Immediate),
    }
}

fn limits(params: &Params, on_disk: bool) -> Limits {
    let bytes = |size: u64| usize::try_from(size).unwrap_or(usize::MAX);
    let (chunk, total) = if on_disk {
        (Size(256 << 20), Size(64 << 30))
    } else {
        (Size(8 << 20), Size(512 << 20))
    };
    let chunk = params.chunk_limit_size.unwrap_or(chunk).0;
    let chunk_bytes = bytes(chunk);
    let chunk_records = params.chunk_limit_records.unwrap_or(usize::MAX);
    let part = |whole: usize| (whole as f64 * params.chunk_full_threshold).ceil() as usize;
    let total = params
        .queue_limit_length
        .map_or(params.total_limit_size.unwrap_or(total).0, |n| {
            chunk.saturating_mul(n)
        });
    Limits {
        chunk_bytes,
        chunk_records,
        full_bytes: part(chunk_bytes).clamp(1, FULL_CHUNK),
        full_records: part(chunk_records).max(1),
        total_bytes: bytes(total),
        compress: params.compress,
        overflow: match params.overflow_action {
            OverflowName::ThrowException => OverflowAction::ThrowException,
            OverflowName::Block => OverflowAction::Block,
            OverflowName::DropOldestChunk => OverflowAction::DropOldestChunk,
        },
    }
}

fn retry(params: &Params, has_secondary: bool) -> RetrySettings {
    let limited = !params.retry_forever;
    RetrySettings {
        retry_type: match params.retry_type {
            RetryName::ExponentialBackoff => RetryType::ExponentialBackoff {
                base: params.retry_exponential_backoff_base,
            },
            RetryName::Periodic => RetryType::Periodic,
        },
        wait: params.retry_wait.0,
        max_interval: params.retry_max_interval.map(|time| time.0),
        timeout: limited.then_some(params.retry_timeout.0),
        max_times: params.retry_max_times.filter(|_| limited),
        randomize: params.retry_randomize,
        secondary_threshold: has_secondary.then_some(params.retry_secondary_threshold),
    }
}

/// Fluentd's root for backups where `<system>` names none.
pub fn default_root_dir() -> PathBuf {
    std::env::var_os("FLUENT_BACKUP_DIR")
        .map_or_else(|| PathBuf::from("/tmp/fluent"), PathBuf::from)
}

#[cfg(test)]
#[path = "params_tests.rs"]
mod tests;
