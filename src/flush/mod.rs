//! THE loop: dequeue → write → purge, or take back and retry, or secondary, or backup.
//!
//! The only place that retries. An output's `write` tries once; what its failure leads to is decided by [`retry`], what is due by
//! [`due`]. An idle worker sleeps until something is due or arrives, never for a tick.

pub mod backup;
pub mod due;
pub mod params;
pub mod retry;

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::watch;
use tracing::{error, warn};

use crate::buffer::{Backlog, Buffer, InFlight};
use crate::output::{Output, WriteError};
use crate::stop::{Phase, Stop};

pub use backup::{Backup, Kept};
pub use due::FlushMode;
pub use retry::{RetrySettings, RetryType};

use retry::{Retry, Target, Verdict};

/// A hurried output tells its failures at most this often.
const QUIET: Duration = Duration::from_secs(60);

/// How one output is flushed: the flush part of its `<buffer>`.
#[derive(Clone, Debug)]
pub struct FlushSettings {
    /// `flush_mode` with its interval.
    pub mode: FlushMode,
    /// `flush_thread_count`: how many chunks are written at once.
    pub workers: usize,
    /// `flush_thread_burst_interval`: the pause between two chunks of one worker. Zero unless configured.
    pub burst_interval: Duration,
    /// `flush_at_shutdown`.
    pub at_shutdown: bool,
    /// `slow_flush_log_threshold`.
    pub slow_threshold: Duration,
    /// When to try again.
    pub retry: RetrySettings,
}

/// What became of the events of one output, since the start.
#[derive(Debug, Default)]
pub struct Delivered {
    /// Events written by the output itself.
    pub records: AtomicU64,
    /// Bytes of entries written by the output or its secondary.
    pub bytes: AtomicU64,
    /// Chunks written by the output itself.
    pub chunks: AtomicU64,
    /// Events written by the secondary.
    pub secondary_records: AtomicU64,
    /// Events that went to the backup directory.
    pub backup_records: AtomicU64,
    /// Events that were thrown away by `disable_chunk_backup`.
    pub discarded_records: AtomicU64,
    /// Attempts that failed.
    pub errors: AtomicU64,
}

/// One buffered output: its buffer, its destination, and what is owed between them.
pub struct Flusher {
    id: String,
    buffer: Arc<Buffer>,
    output: Arc<dyn Output>,
    secondary: Option<Arc<dyn Output>>,
    settings: FlushSettings,
    backup: Backup,
    retry: Mutex<Retry>,
    quiet: Mutex<Quiet>,
    hurried: AtomicBool,
    pace: watch::Sender<Pace>,
    delivered: Delivered,
}

/// What the workers of an output may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Pace {
    /// Whatever is due.
    Run,
    /// Finish what is being written, take nothing new.
    Settle,
    /// Nothing: even the write in progress is given up.
    Pause,
}

/// Makes one line of many failures: the first, then one a minute.
#[derive(Debug, Default)]
struct Quiet {
    until: Option<Instant>,
    failures: u64,
}

impl Quiet {
    /// How many failures a line stands for now; `None`: no line yet.
    fn failed(&mut self, now: Instant) -> Option<u64> {
        self.failures += 1;
        if self.until.is_some_and(|until| now < until) {
            return None;
        }
        self.until = Some(now + QUIET);
        Some(std::mem::take(&mut self.failures))
    }
}

enum Step {
    Write(InFlight),
    WaitUntil(Instant),
    Wait,
}

impl Flusher {
    /// Joins a buffer with its destination. `id` is the output's `@id`, for messages.
    pub fn new(
        id: String,
        buffer: Arc<Buffer>,
        output: Arc<dyn Output>,
        secondary: Option<Arc<dyn Output>>,
        settings: FlushSettings,
        backup: Backup,
    ) -> Arc<Flusher> {
        Arc::new(Flusher {
            id,
            buffer,
            output,
            secondary,
            settings,
            backup,
            retry: Mutex::default(),
            quiet: Mutex::default(),
            hurried: AtomicBool::new(false),
            pace: watch::Sender::new(Pace::Run),
            delivered: Delivered::default(),
        })
    }

    /// The output's `@id`.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// The buffer that sources emit into.
    pub fn buffer(&self) -> &Arc<Buffer> {
        &self.buffer
    }

    /// The destination.
    pub fn output(&self) -> &Arc<dyn Output> {
        &self.output
    }

    /// How it is flushed.
    pub fn settings(&self) -> &FlushSettings {
        &self.settings
    }

    /// What became of its events.
    pub fn delivered(&self) -> &Delivered {
        &self.delivered
    }

    /// Where its chunks go that are given up; `None` where they are thrown away.
    pub fn backup_directory(&self) -> Option<PathBuf> {
        self.backup.directory(&self.id)
    }

    /// What is still owed.
    pub fn backlog(&self) -> Backlog {
        self.buffer.backlog()
    }

    /// Whether the last attempt failed and the next waits for its time.
    pub fn is_in_trouble(&self) -> bool {
        self.retry().next().is_some()
    }

    /// A forced flush: everything staged goes to the queue and a pending back-off ends.
    pub fn force(&self) {
        self.retry().hurry(Instant::now());
        self.buffer.enqueue_all();
    }

    /// The instance terminates: from now on nothing waits for a flush interval, and a failure is retried within a second.
    pub fn hurry(&self) {
        self.hurried.store(true, Ordering::Relaxed);
        self.output.hurry();
        self.force();
    }

    /// Gives up the write in progress, whose chunk goes back to the head of the queue, and takes no more until
    /// [`Flusher::resume`]: a silent server must not keep a chunk from the spill of a drain.
    pub fn pause(&self) {
        self.pace.send_replace(Pace::Pause);
    }

    /// Ends a pause.
    pub fn resume(&self) {
        self.pace.send_replace(Pace::Run);
    }

    /// Bytes of entries that the destination has taken since the start, acknowledged or not: it grows while anybody listens.
    pub fn moved(&self) -> u64 {
        self.output
            .moved()
            .max(self.delivered.bytes.load(Ordering::Relaxed))
    }

    /// Takes nothing new and waits, at most for `patience`, until what is being written has its answer: a stop without
    /// `flush_at_shutdown` must not repeat what a server is about to acknowledge.
    pub async fn settle(&self, patience: Duration) {
        self.pace.send_replace(Pace::Settle);
        let settled = async {
            while self.backlog().in_flight > 0 {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        // What is in flight after that goes back to the buffer and is repeated after the next start.
        let _ = tokio::time::timeout(patience, settled).await;
    }

    /// Takes the oldest chunk that is not being written, for the spill of a drain.
    pub fn take(&self) -> Option<InFlight> {
        self.buffer.dequeue().or_else(|| {
            self.buffer.enqueue_due(|_| true);
            self.buffer.dequeue()
        })
    }

    /// One flush worker (`flush.<id>.<n>`): runs until `stop` reaches [`Phase::Close`]. A chunk that is being written then
    /// goes back to the queue.
    pub async fn work(self: Arc<Self>, stop: Stop) {
        let closed = stop.reached(Phase::Close);
        tokio::pin!(closed);
        loop {
            let step = async {
                match self.next(Instant::now()) {
                    Step::Write(chunk) => self.attempt(chunk).await,
                    Step::WaitUntil(due) => tokio::select! {
                        () = self.buffer.work() => {}
                        () = tokio::time::sleep_until(due.into()) => {}
                    },
                    Step::Wait => self.buffer.work().await,
                }
            };
            // A pause drops the step, and with it the chunk that it holds.
            tokio::select! {
                biased;
                () = &mut closed => return,
                () = self.at(Pace::Pause) => {}
                () = step => continue,
            }
            tokio::select! {
                biased;
                () = &mut closed => return,
                () = self.at(Pace::Run) => {}
            }
        }
    }

    /// Completes when the workers have this pace.
    async fn at(&self, wanted: Pace) {
        // The sender is part of `self`, so the channel cannot close while we wait.
        let _ = self.pace.subscribe().wait_for(|pace| *pace == wanted).await;
    }

    fn next(&self, now: Instant) -> Step {
        if *self.pace.borrow() == Pace::Settle {
            return Step::Wait;
        }
        if let Some(next) = self.retry().next()
            && next > now
        {
            return Step::WaitUntil(next);
        }
        if let Some(chunk) = self.buffer.dequeue() {
            return Step::Write(chunk);
        }
        let mode = if self.hurried.load(Ordering::Relaxed) {
            FlushMode::Immediate
        } else {
            self.settings.mode
        };
        let oldest = self
            .buffer
            .enqueue_due(|chunk| mode.is_due(chunk.created(), now));
        match (
            self.buffer.dequeue(),
            oldest.and_then(|created| mode.due_at(created)),
        ) {
            (Some(chunk), _) => Step::Write(chunk),
            (None, Some(due)) => Step::WaitUntil(due),
            (None, None) => Step::Wait,
        }
    }

    async fn attempt(&self, chunk: InFlight) {
        let began = Instant::now();
        let target = self.retry().target(began, &self.settings.retry);
        let output = match (target, &self.secondary) {
            (Target::Secondary, Some(secondary)) => secondary,
            _ => &self.output,
        };
        let result = output.write(&chunk).await;
        self.warn_if_slow(began.elapsed());
        match result {
            Ok(()) => self.succeeded(chunk, target),
            Err(WriteError::Retry(reason)) => self.failed(chunk, target, &reason).await,
            Err(WriteError::Unrecoverable(reason)) => {
                self.unrecoverable(chunk, target, &reason).await
            }
        }
        if !self.settings.burst_interval.is_zero() && !self.hurried.load(Ordering::Relaxed) {
            tokio::time::sleep(self.settings.burst_interval).await;
        }
    }

    fn succeeded(&self, chunk: InFlight, target: Target) {
        let counter = match target {
            Target::Primary => &self.delivered.records,
            Target::Secondary => &self.delivered.secondary_records,
        };
        counter.fetch_add(chunk.records() as u64, Ordering::Relaxed);
        self.delivered
            .bytes
            .fetch_add(chunk.len() as u64, Ordering::Relaxed);
        self.delivered.chunks.fetch_add(1, Ordering::Relaxed);
        if self.retry().succeeded() {
            let by = if target == Target::Primary {
                ""
            } else {
                " by secondary"
            };
            warn!(plugin_id = self.id, chunk = %chunk.id(), "retry succeeded{by}.");
        }
        chunk.purge();
    }

    async fn failed(&self, chunk: InFlight, target: Target, reason: &anyhow::Error) {
        self.delivered.errors.fetch_add(1, Ordering::Relaxed);
        let now = Instant::now();
        let (verdict, retry_times) = {
            let mut retry = self.retry();
            let verdict = if self.hurried.load(Ordering::Relaxed) {
                retry.failed_in_hurry(now)
            } else {
                retry.failed(now, &self.settings.retry, fastrand::f64() * 2.0 - 1.0)
            };
            (verdict, retry.times().unwrap_or(0))
        };
        match verdict {
            Verdict::RetryAt(next) => {
                let Some(failures) = self.said(now) else {
                    return;
                };
                let wait = next.saturating_duration_since(now).as_secs_f64();
                let with = if target == Target::Primary {
                    ""
                } else {
                    " with secondary output"
                };
                warn!(
                    plugin_id = self.id, failures, retry_times, backlog_bytes = self.backlog().bytes, retry_in = format!("{wait:.1}s"), chunk = %chunk.id(),
                    error = format!("{reason:#}"), "failed to flush the buffer{with}."
                );
            }
            Verdict::GiveUp => {
                error!(
                    plugin_id = self.id, chunk = %chunk.id(), records = chunk.records(), error = format!("{reason:#}"),
                    "hit limit for retries. this chunk is given up, the others stay in the queue."
                );
                self.back_up(chunk).await;
            }
        }
    }

    /// How many failures the next line stands for; `None` where it is too early for one. Only a hurried output keeps
    /// silent: it tries five times a second.
    fn said(&self, now: Instant) -> Option<u64> {
        let mut quiet = self.quiet.lock().unwrap_or_else(PoisonError::into_inner);
        match self.hurried.load(Ordering::Relaxed) {
            true => quiet.failed(now),
            false => Some(1),
        }
    }

    async fn unrecoverable(&self, chunk: InFlight, target: Target, reason: &anyhow::Error) {
        self.delivered.errors.fetch_add(1, Ordering::Relaxed);
        warn!(
            plugin_id = self.id, chunk = %chunk.id(), records = chunk.records(), error = format!("{reason:#}"),
            "got unrecoverable error in {}.", if target == Target::Primary { "primary" } else { "secondary" }
        );
        if let (Target::Primary, Some(secondary)) = (target, &self.secondary)
            && secondary.write(&chunk).await.is_ok()
        {
            return self.succeeded(chunk, Target::Secondary);
        }
        self.back_up(chunk).await;
    }

    /// Writes the chunk beside the buffer and lets it go. Where even that fails it stays in the queue.
    async fn back_up(&self, chunk: InFlight) {
        let records = chunk.records() as u64;
        match self.backup.store(&self.id, &chunk).await {
            Ok(kept) => {
                let counter = match kept {
                    Kept::InFile(path) => {
                        warn!(plugin_id = self.id, chunk = %chunk.id(), records, path = %path.display(), "bad chunk is moved to {}", path.display());
                        &self.delivered.backup_records
                    }
                    Kept::ThrownAway => {
                        error!(plugin_id = self.id, chunk = %chunk.id(), records, "disable_chunk_backup is true. chunk is thrown away.");
                        &self.delivered.discarded_records
                    }
                };
                counter.fetch_add(records, Ordering::Relaxed);
                self.retry().succeeded();
                chunk.purge();
            }
            Err(reason) => {
                self.retry()
                    .failed(Instant::now(), &self.settings.retry, 0.0);
                error!(
                    plugin_id = self.id, chunk = %chunk.id(), error = format!("{reason:#}"),
                    "cannot back up the chunk, it stays in the queue and is tried again"
                );
            }
        }
    }

    fn warn_if_slow(&self, elapsed: Duration) {
        if elapsed > self.settings.slow_threshold {
            warn!(
                plugin_id = self.id,
                elapsed_time = elapsed.as_secs_f64(),
                slow_flush_log_threshold = self.settings.slow_threshold.as_secs_f64(),
                "buffer flush took longer time than slow_flush_log_threshold:"
            );
        }
    }

    fn retry(&self) -> MutexGuard<'_, Retry> {
        self.retry.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Completes when the output has delivered all it can without a failure: the buffer is empty, or an attempt failed (its
/// lines stay where they are), or nothing has left the buffer for `patience`.
pub async fn flushed(flusher: &Flusher, patience: Duration) {
    let errors = || flusher.delivered.errors.load(Ordering::Relaxed);
    let failed_before = errors();
    let mut last = (flusher.backlog(), Instant::now());
    while flusher.backlog().chunks > 0 && errors() == failed_before && last.1.elapsed() < patience {
        tokio::select! {
            () = flusher.buffer.emptied() => return,
            () = tokio::time::sleep(Duration::from_millis(20)) => {}
        }
        let level = flusher.backlog();
        if level != last.0 {
            last = (level, Instant::now());
        }
    }
}

#[cfg(test)]
mod tests;
