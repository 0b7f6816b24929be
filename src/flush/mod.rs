//! THE loop: dequeue → write → purge, or take back and retry, or secondary, or backup.
//!
//! The only place that retries. An output's `write` tries once; what its failure leads to is decided by [`retry`] and [`retries`], what is
//! due by [`due`]. An idle worker sleeps until something is due or arrives, never for a tick.

pub mod backup;
mod checks;
mod counters;
pub mod due;
mod give_up;
mod memory;
pub mod params;
mod retries;
pub mod retry;

use std::convert::Infallible;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use anyhow::Context;
use tokio::sync::watch;
use tracing::{error, warn};

use crate::buffer::file::Given;
use crate::buffer::{Backlog, Buffer, InFlight, Lull};
use crate::event::Tag;
use crate::output::{Output, WriteError};
use crate::stop::{Phase, Stop};

pub use backup::{Backup, Kept};
pub use counters::Delivered;
pub use due::{Due, FlushMode};
pub use retry::{RetrySettings, RetryType};

use counters::Quiet;
use due::{Now, When};
use retries::Retries;
use retry::{Target, Verdict};

/// How one output is flushed: the flush part of its `<buffer>`.
#[derive(Clone, Debug)]
pub struct FlushSettings {
    /// `flush_mode` with its interval, and the length of a time slice.
    pub due: Due,
    /// `flush_thread_count`: how many chunks are written at once.
    pub workers: usize,
    /// `flush_thread_burst_interval`: the pause between two chunks of one worker. Zero unless configured.
    pub burst_interval: Duration,
    /// `flush_thread_interval`: the least time between two looks for chunks that are due by time. Zero unless configured.
    pub thread_interval: Duration,
    /// `queued_chunks_limit_size`: chunks that are due by time stay in the stage while so many are queued.
    pub queued_limit: usize,
    /// `flush_at_shutdown`.
    pub at_shutdown: bool,
    /// `slow_flush_log_threshold`.
    pub slow_threshold: Duration,
    /// When to try again.
    pub retry: RetrySettings,
}

/// One buffered output: its buffer, its destination, and what is owed between them.
pub struct Flusher {
    id: String,
    buffer: Arc<Buffer>,
    output: Arc<dyn Output>,
    secondary: Option<Arc<dyn Output>>,
    settings: FlushSettings,
    backup: Backup,
    retries: Mutex<Retries>,
    next_look: Mutex<Option<Instant>>,
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
            retries: Mutex::new(Retries::new(settings.retry.clone())),
            next_look: Mutex::default(),
            settings,
            backup,
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

    /// Whether some attempt has failed whose chunk is still here.
    pub fn is_in_trouble(&self) -> bool {
        self.retries().in_trouble()
    }

    /// A forced flush: everything staged goes to the queue and a pending back-off ends.
    pub fn force(&self) {
        self.retries().hurry(Instant::now());
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
        let taken = self.buffer.dequeue().or_else(|| {
            self.buffer.enqueue_all();
            self.buffer.dequeue()
        })?;
        self.retries().forget(taken.id());
        Some(taken)
    }

    /// Makes of the chunks on disk the text that a Fluentd keeps, where its output of this name formats before it buffers; of others nothing.
    /// The agent must not run.
    pub fn give_back(&self) -> anyhow::Result<Vec<Given>> {
        if self.output.formatted(&Tag::new(""), &[]).is_none() {
            return Ok(Vec::new());
        }
        self.buffer.give_back(&|tag, entries| {
            let lines = self.output.formatted(tag, entries);
            lines.context("the output does not format")?
        })
    }

    /// One flush worker (`flush.<id>.<n>`): runs until `stop` reaches [`Phase::Close`]. A chunk that is being written then
    /// goes back to the queue.
    pub async fn work(self: Arc<Self>, stop: Stop) {
        let closed = stop.reached(Phase::Close);
        tokio::pin!(closed);
        let mut pace = self.pace.subscribe();
        let mut lull = Lull::of(&self.buffer);
        loop {
            // A pause drops the step, and with it the chunk that it holds.
            tokio::select! {
                biased;
                () = &mut closed => return,
                () = reach(&mut pace, Pace::Pause) => {}
                never = self.go_on(&stop, &mut lull) => match never {},
            }
            tokio::select! {
                biased;
                () = &mut closed => return,
                () = reach(&mut pace, Pace::Run) => {}
            }
        }
    }

    /// Step by step.
    async fn go_on(&self, stop: &Stop, lull: &mut Lull) -> Infallible {
        loop {
            let in_hurry = self.hurried.load(Ordering::Relaxed) || stop.phase() > Phase::Run;
            match self.next(Now::read()) {
                Step::Write(chunk) if in_hurry => self.attempt(chunk, None).await,
                Step::Write(chunk) => self.attempt(chunk, Some(lull)).await,
                Step::WaitUntil(due) => tokio::select! {
                    () = self.buffer.work() => {}
                    () = tokio::time::sleep_until(due.into()) => {}
                },
                Step::Wait => self.buffer.work().await,
            }
        }
    }

    fn next(&self, now: Now) -> Step {
        if *self.pace.borrow() == Pace::Settle {
            return Step::Wait;
        }
        let mut retries = self.retries();
        for id in self.buffer.dropped() {
            retries.forget(id);
        }
        let take = || {
            self.buffer
                .dequeue_by(|chunk| retries.rank(chunk.id(), now.instant))
        };
        if let Some(chunk) = take() {
            return Step::Write(chunk);
        }
        let mut wake = retries.wake(now.instant);
        if !retries.holds(now.instant) {
            // One chunk that waits for its own next attempt must not keep the others in the stage.
            let aside = match retries.at_fault() {
                true => 0,
                false => retries.waiting(),
            };
            let next = self.enqueue_due(now, aside);
            if let Some(chunk) = take() {
                return Step::Write(chunk);
            }
            wake = wake.into_iter().chain(next).min();
        }
        wake.map_or(Step::Wait, Step::WaitUntil)
    }

    /// Queues what is due by time; tells when to look again. `aside` queued chunks do not count for `queued_chunks_limit_size`.
    fn enqueue_due(&self, now: Now, aside: usize) -> Option<Instant> {
        let hurried = self.hurried.load(Ordering::Relaxed);
        if !hurried && let Some(look) = self.before_next_look(now.instant) {
            return Some(look);
        }
        let due = match hurried {
            true => Due {
                mode: FlushMode::Immediate,
                slice: None,
            },
            false => self.settings.due,
        };
        let queued = self.buffer.queued().saturating_sub(aside);
        let room = match hurried {
            true => usize::MAX,
            false => self.settings.queued_limit.saturating_sub(queued),
        };
        let mut next: Option<Instant> = None;
        self.buffer.enqueue_due(room, |chunk| {
            match due.when(chunk.created(), chunk.key().timekey, now) {
                When::Now => return true,
                When::At(due) => next = next.into_iter().chain([due]).min(),
                When::Never => {}
            }
            false
        });
        next
    }

    /// With `flush_thread_interval`: the time of the next look, where it has not come.
    fn before_next_look(&self, now: Instant) -> Option<Instant> {
        if self.settings.thread_interval.is_zero() {
            return None;
        }
        let mut next = (self.next_look.lock()).unwrap_or_else(PoisonError::into_inner);
        let wait = next.filter(|next| *next > now);
        if wait.is_none() {
            *next = Some(now + self.settings.thread_interval);
        }
        wait
    }

    async fn attempt(&self, chunk: InFlight, lull: Option<&mut Lull>) {
        let began = Instant::now();
        let target = self.retries().target(chunk.id(), began);
        let output = match (target, &self.secondary) {
            (Target::Secondary, Some(secondary)) => secondary,
            _ => &self.output,
        };
        let result = match lull {
            Some(lull) => output.write_in_lull(&chunk, lull).await,
            None => output.write(&chunk).await,
        };
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
        if (self.retries()).succeeded(chunk.id(), target, Instant::now()) {
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
            let mut retries = self.retries();
            let verdict = if self.hurried.load(Ordering::Relaxed) {
                retries.failed_in_hurry(chunk.id(), now)
            } else {
                retries.failed(chunk.id(), target, now, fastrand::f64() * 2.0 - 1.0)
            };
            (verdict, retries.times(chunk.id()))
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
                self.give_up(chunk, target).await;
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

    fn warn_if_slow(&self, elapsed: Duration) {
        if elapsed > self.settings.slow_threshold {
            self.delivered.slow.fetch_add(1, Ordering::Relaxed);
            warn!(
                plugin_id = self.id,
                elapsed_time = elapsed.as_secs_f64(),
                slow_flush_log_threshold = self.settings.slow_threshold.as_secs_f64(),
                "buffer flush took longer time than slow_flush_log_threshold:"
            );
        }
    }

    fn retries(&self) -> MutexGuard<'_, Retries> {
        self.retries.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Completes when the workers have this pace. The sender is part of the flusher, so the channel does not close while one of them waits.
async fn reach(pace: &mut watch::Receiver<Pace>, wanted: Pace) {
    let _ = pace.wait_for(|pace| *pace == wanted).await;
}

/// Completes when the output has delivered all it can: the buffer is empty, or the output is at fault, or every chunk that is left has failed
/// (their lines stay where they are), or nothing has left the buffer for `patience`.
pub async fn flushed(flusher: &Flusher, patience: Duration) {
    let errors = || flusher.delivered.errors.load(Ordering::Relaxed);
    let failed_before = errors();
    let has_failed = |chunks| {
        let retries = flusher.retries();
        errors() > failed_before && (retries.at_fault() || retries.waiting() >= chunks)
    };
    let mut last = (flusher.backlog(), Instant::now());
    while last.0.chunks > 0 && !has_failed(last.0.chunks) && last.1.elapsed() < patience {
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
