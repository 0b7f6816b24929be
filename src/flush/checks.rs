//! What the values of `<buffer>` must be.

use super::params::{FULL_CHUNK, MOST_THREADS, Params, check_memory};
use crate::buffer::ChunkKeys;
use crate::config::{self, ConfigErrors, Element, Result};

/// Their waits are summed up one by one.
const MOST_RETRIES: u32 = 1_000_000;
/// What a number of seconds must be.
pub const SECONDS: &str = "must be a time between 0 and 100 years, in seconds";
/// What a limit must be.
const SOME: &str = "must be greater than 0";
/// What a part must be.
const PART: &str = "must be between 0 and 1";

/// A parameter, whether its value is good, and what it must be.
type Check = (&'static str, bool, &'static str);

/// Whether the values make sense, each for itself.
pub fn check(params: &Params, section: &Element) -> Result<()> {
    let mut errors = ConfigErrors::new();
    let checks = [
        flushing(params).as_slice(),
        &limits(params),
        &retries(params),
    ]
    .concat();
    for (key, _, message) in checks.iter().filter(|(_, holds, _)| !holds) {
        errors.push(section.error_at(key, format!("'{key}' {message}")));
    }
    errors.collect(check_memory(params, section));
    errors.into_result()
}

/// What one parameter takes from another, or the agent from all.
pub fn say_what_is_overridden(params: &Params, section: &Element, has_secondary: bool) {
    if params.retry_forever {
        for key in ["retry_timeout", "retry_max_times"] {
            if section.has(key) {
                let message = format!("'{key}' has no effect beside 'retry_forever'");
                section.warn_at(key, message);
            }
        }
        if has_secondary {
            section.warn_at(
                "retry_forever",
                "with 'retry_forever' the <secondary> gets only chunks that can never be written",
            );
        }
    }
    if params.queue_limit_length.is_some() && params.total_limit_size.is_some() {
        let message = "'total_limit_size' has no effect beside 'queue_limit_length', which is counted in chunks of 'chunk_limit_size'";
        section.warn_at("total_limit_size", message);
    }
    if (params.chunk_limit_size).is_some_and(|size| size.0 > 2 * FULL_CHUNK as u64) {
        let message = format!(
            "chunks are queued at {FULL_CHUNK} bytes, however large they may be: sending overlaps reading, and memory stays small"
        );
        section.warn_at("chunk_limit_size", message);
    }
}

/// What the file names of file_single can hold.
pub fn single_key(keys: &ChunkKeys, section: &Element) -> Result<()> {
    let message = match keys.fields.len() {
        0 => return Ok(()),
        1 if !keys.tag => return Ok(()),
        1 => "chunk keys must be tag or one field",
        _ => "2 or more chunk keys is not allowed",
    };
    let message = format!("{message} with @type file_single: @type file takes any");
    Err(section.error_at("@type", message).into())
}

fn flushing(params: &Params) -> [Check; 5] {
    let is_time = |value| config::seconds(value).is_some();
    [
        (
            "flush_thread_count",
            params.flush_thread_count > 0,
            "must be at least 1: with 0 nothing is ever flushed",
        ),
        (
            "flush_thread_count",
            params.flush_thread_count <= MOST_THREADS,
            "must be at most 64",
        ),
        (
            "queued_chunks_limit_size",
            params.queued_chunks_limit_size != Some(0),
            "must be greater than 0: with 0 no chunk is ever flushed by time",
        ),
        (
            "flush_thread_interval",
            is_time(params.flush_thread_interval),
            SECONDS,
        ),
        (
            "flush_thread_burst_interval",
            is_time(params.flush_thread_burst_interval),
            SECONDS,
        ),
    ]
}

fn limits(params: &Params) -> [Check; 5] {
    [
        (
            "chunk_limit_size",
            params.chunk_limit_size.is_none_or(|size| size.0 > 0),
            SOME,
        ),
        (
            "total_limit_size",
            params.total_limit_size.is_none_or(|size| size.0 > 0),
            SOME,
        ),
        (
            "queue_limit_length",
            params.queue_limit_length != Some(0),
            SOME,
        ),
        (
            "chunk_limit_records",
            params.chunk_limit_records != Some(0),
            SOME,
        ),
        (
            "chunk_full_threshold",
            is_part(params.chunk_full_threshold),
            PART,
        ),
    ]
}

fn retries(params: &Params) -> [Check; 3] {
    let times = params.retry_max_times;
    [
        (
            "retry_max_times",
            times.is_none_or(|times| times <= MOST_RETRIES),
            "must be at most 1000000: for no limit there is retry_forever",
        ),
        (
            "retry_secondary_threshold",
            is_part(params.retry_secondary_threshold),
            PART,
        ),
        (
            "retry_exponential_backoff_base",
            params.retry_exponential_backoff_base >= 1.0,
            "must be at least 1",
        ),
    ]
}

fn is_part(value: f64) -> bool {
    value > 0.0 && value <= 1.0
}
