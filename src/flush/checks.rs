//! What the values of `<buffer>` must be.

use super::params::{MOST_THREADS, Params, check_memory};
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
