//! What the values of `<buffer>` must be.

use super::params::{MOST_THREADS, Params, check_memory};
use crate::config::{self, ConfigErrors, Element, Result};

/// Their waits are summed up one by one.
const MOST_RETRIES: u32 = 1_000_000;
/// What a number of seconds must be.
pub const SECONDS: &str = "must be a time between 0 and 100 years, in seconds";

/// Whether the values make sense, each for itself.
pub fn check(params: &Params, section: &Element) -> Result<()> {
    let mut errors = ConfigErrors::new();
    let mut require = |holds: bool, key: &str, message: &str| {
        if !holds {
            errors.push(section.error_at(key, format!("'{key}' {message}")));
        }
    };
    require(
        params.flush_thread_count > 0,
        "flush_thread_count",
        "must be at least 1: with 0 nothing is ever flushed",
    );
    require(
        params.flush_thread_count <= MOST_THREADS,
        "flush_thread_count",
        "must be at most 64",
    );
    require(
        params
            .retry_max_times
            .is_none_or(|times| times <= MOST_RETRIES),
        "retry_max_times",
        "must be at most 1000000: for no limit there is retry_forever",
    );
    require(
        params.queued_chunks_limit_size != Some(0),
        "queued_chunks_limit_size",
        "must be greater than 0: with 0 no chunk is ever flushed by time",
    );
    require(
        config::seconds(params.flush_thread_interval).is_some(),
        "flush_thread_interval",
        SECONDS,
    );
    require(
        config::seconds(params.flush_thread_burst_interval).is_some(),
        "flush_thread_burst_interval",
        SECONDS,
    );
    require(
        params.chunk_limit_size.0 > 0,
        "chunk_limit_size",
        "must be greater than 0",
    );
    require(
        params.total_limit_size.0 > 0,
        "total_limit_size",
        "must be greater than 0",
    );
    require(
        params.queue_limit_length != Some(0),
        "queue_limit_length",
        "must be greater than 0",
    );
    require(
        params.chunk_limit_records != Some(0),
        "chunk_limit_records",
        "must be greater than 0",
    );
    let part = |value: f64| value > 0.0 && value <= 1.0;
    require(
        part(params.chunk_full_threshold),
        "chunk_full_threshold",
        "must be between 0 and 1",
    );
    require(
        part(params.retry_secondary_threshold),
        "retry_secondary_threshold",
        "must be between 0 and 1",
    );
    require(
        params.retry_exponential_backoff_base >= 1.0,
        "retry_exponential_backoff_base",
        "must be at least 1",
    );
    errors.collect(check_memory(params, section));
    errors.into_result()
}
