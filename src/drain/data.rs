//! Makes the data safe: inputs to their end, forward as long as it moves, and the spill for what no server takes.
//!
//! Nothing sleeps in the way: the stage ends with the last acknowledgement or the last stored chunk. What is left when its time is
//! over is the [`Residue`].

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant, SystemTime};

use serde::Serialize;
use tokio::task::JoinSet;
use tokio::time::MissedTickBehavior;

use super::Drain;
use super::budget::{Budget, Progress};
use super::drainable::{Drainable, OutputBacklog, Taken};
use super::params::{Place, Spill};
use crate::buffer::Chunk;
use crate::output::WriteError;
use crate::output::s3::{join, percent_encode};

/// How often progress is measured while nothing else happens.
const LOOK: Duration = Duration::from_millis(100);
/// Chunks that are stored at the same time.
const PARALLEL: usize = 4;
/// Before all data must be safe, what hangs in flight is fetched back this early.
const FETCH: Duration = Duration::from_secs(5);
/// The longest pause after the spill refused.
const PAUSE_MAX: Duration = Duration::from_secs(30);

/// What is not safe.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Residue {
    /// Chunks in buffers.
    pub chunks: usize,
    /// Their bytes.
    pub bytes: u64,
    /// Their events.
    pub records: u64,
    /// Bytes that no input has read.
    pub behind_bytes: u64,
    /// Where: one line each, for the operator.
    pub places: Vec<String>,
}

impl Residue {
    /// Whether everything is safe.
    pub fn is_empty(&self) -> bool {
        self.places.is_empty()
    }

    fn of<A: Drainable>(agent: &A) -> Residue {
        let behind_bytes = agent.ledger().behind_bytes;
        let mut residue = Residue {
            behind_bytes,
            ..Residue::default()
        };
        for output in agent.backlog().iter().filter(|output| output.chunks > 0) {
            residue.chunks += output.chunks;
            residue.bytes += output.bytes;
            residue.records += output.records;
            residue.places.push(format!(
                "output {}: {} chunks, {} bytes, {} records in its buffer",
                output.id, output.chunks, output.bytes, output.records
            ));
        }
        if behind_bytes > 0 {
            residue
                .places
                .push(format!("{behind_bytes} bytes of tailed files are unread"));
        }
        residue.places.extend(agent.not_safe());
        residue
    }
}

/// What the spill stored.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Spilled {
    /// Chunks.
    pub chunks: usize,
    /// Bytes of entries.
    pub bytes: u64,
    /// Events.
    pub records: u64,
    /// What the last refusal said.
    pub last_error: Option<String>,
}

/// Who may have an output's chunks now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// The output's own servers.
    Forward,
    /// Both, on different chunks.
    Both,
    /// The spill: what is in flight is fetched back.
    Spill,
}

/// Decides for one output. Pure.
pub fn side(stalled: bool, budget: &Budget, now: Instant) -> Side {
    if stalled || now + FETCH >= budget.spill {
        Side::Spill
    } else if now >= budget.flush {
        Side::Both
    } else {
        Side::Forward
    }
}

/// Runs the stage.
pub(super) async fn make_safe<A: Drainable>(drain: &Drain<'_, A>) -> (Residue, Spilled) {
    let agent = drain.agent;
    // Whether all that there will be stands in the buffers.
    let all_read = AtomicBool::new(false);
    let done = async {
        if !drain.plan.params.dry_run {
            agent.read_to_end();
            agent.inputs_finished().await;
            tracing::info!(
                stage = "flush",
                elapsed = drain.elapsed(),
                "flush: no input reads any more"
            );
        }
        all_read.store(true, Ordering::Relaxed);
        agent.emptied().await;
    };
    tokio::pin!(done);
    let mut mover = Mover::new(drain);
    let mut look = tokio::time::interval(LOOK);
    look.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            biased;
            () = &mut done => break,
            Some(stored) = mover.uploads.join_next(), if !mover.uploads.is_empty() => {
                mover.stored(drain, stored.unwrap_or_else(|_| Upload::Failed("the upload was cancelled".to_owned())));
                mover.feed(drain);
                if all_read.load(Ordering::Relaxed) && mover.only_aside(agent) {
                    break;
                }
            }
            _ = look.tick() => {
                if mover.look(drain) >= drain.budget(0, None).spill {
                    tracing::warn!(stage = "flush", elapsed = drain.elapsed(), "flush: the time for the data is over");
                    break;
                }
                mover.feed(drain);
            }
        }
    }
    mover.finish(drain).await;
    // Back to their queues: a server may take them yet, should the instance live on.
    let aside: Vec<String> = mover.aside.drain(..).map(|(_, place)| place).collect();
    let mut residue = Residue::of(agent);
    residue.places.extend(aside);
    (residue, mover.spilled)
}

enum Upload<T> {
    Stored {
        bytes: u64,
        records: u64,
        took: Duration,
    },
    Failed(String),
    /// This chunk will never be stored.
    Hopeless(T, String),
}

struct Watched {
    progress: Progress,
    side: Side,
}

/// Moves chunks to the spill.
struct Mover<'a, T> {
    spill: Option<&'a Spill>,
    began: SystemTime,
    outputs: HashMap<String, Watched>,
    uploads: JoinSet<Upload<T>>,
    /// Chunks that cannot be stored, kept from the others' way, each with its line for the operator.
    aside: Vec<(T, String)>,
    spilled: Spilled,
    busy: Duration,
    failures: u32,
    paused_until: Option<Instant>,
}

impl<'a, T: Taken> Mover<'a, T> {
    fn new<A: Drainable<Taken = T>>(drain: &Drain<'a, A>) -> Mover<'a, T> {
        Mover {
            spill: drain.plan.spill.as_ref(),
            began: drain.began,
            aside: Vec::new(),
            outputs: HashMap::new(),
            uploads: JoinSet::new(),
            spilled: Spilled::default(),
            busy: Duration::ZERO,
            failures: 0,
            paused_until: None,
        }
    }

    /// Measures every output and decides who has its chunks. Gives the time that it looked.
    fn look<A: Drainable>(&mut self, drain: &Drain<'_, A>) -> Instant {
        let now = Instant::now();
        if self.spill.is_none() {
            return now;
        }
        let backlog = drain.agent.backlog();
        let left = backlog.iter().map(|output| output.bytes).sum::<u64>()
            + drain.agent.ledger().behind_bytes;
        let budget = drain.budget(left, self.rate());
        let refused = self.paused_until.is_some_and(|until| now < until);
        for output in &backlog {
            let watched = self
                .outputs
                .entry(output.id.clone())
                .or_insert_with(|| Watched {
                    progress: Progress::new(output.moved, now),
                    side: Side::Forward,
                });
            watched.progress.observe(output.moved, output.bytes, now);
            let side = match refused {
                true => Side::Forward,
                false => side(watched.progress.stalled(now), &budget, now),
            };
            // An output that went to the spill stays there: its servers had their chance, and its counter no longer moves.
            if side != watched.side && (watched.side != Side::Spill || refused) {
                turn(drain, output, watched.side, side);
                watched.side = side;
            }
        }
        now
    }

    /// Starts uploads while there is room and something to take.
    fn feed<A: Drainable<Taken = T>>(&mut self, drain: &Drain<'_, A>) {
        let Some(spill) = self.spill else { return };
        if self
            .paused_until
            .is_some_and(|until| Instant::now() < until)
        {
            return;
        }
        let ids: Vec<&String> = self
            .outputs
            .iter()
            .filter(|(_, watched)| watched.side != Side::Forward)
            .map(|(id, _)| id)
            .collect();
        for id in ids {
            while self.uploads.len() < PARALLEL {
                let Some(taken) = drain.agent.take(id) else {
                    break;
                };
                self.uploads.spawn(upload(spill.clone(), self.began, taken));
            }
        }
    }

    fn stored<A: Drainable>(&mut self, drain: &Drain<'_, A>, upload: Upload<T>) {
        match upload {
            Upload::Stored {
                bytes,
                records,
                took,
            } => {
                if self.spilled.chunks == 0 {
                    tracing::info!(
                        stage = "spill",
                        elapsed = drain.elapsed(),
                        bytes,
                        "spill: stored the first chunk"
                    );
                }
                self.spilled.chunks += 1;
                self.spilled.bytes += bytes;
                self.spilled.records += records;
                self.busy += took;
                self.failures = 0;
                self.paused_until = None;
            }
            Upload::Failed(error) => {
                self.failures += 1;
                let pause = Duration::from_secs(1 << self.failures.min(6)).min(PAUSE_MAX);
                self.paused_until = Some(Instant::now() + pause);
                let residue = Residue::of(drain.agent);
                tracing::error!(
                    stage = "spill",
                    elapsed = drain.elapsed(),
                    error,
                    bytes = residue.bytes,
                    behind_bytes = residue.behind_bytes,
                    pause = pause.as_secs(),
                    "spill refused: its chunks stay in their buffers, the servers get another chance meanwhile"
                );
                self.spilled.last_error = Some(error);
            }
            Upload::Hopeless(taken, error) => {
                let chunk = taken.chunk();
                let place = format!(
                    "chunk {} ({} records): cannot be stored: {error}",
                    chunk.id(),
                    chunk.records()
                );
                tracing::error!(
                    stage = "spill",
                    elapsed = drain.elapsed(),
                    place,
                    "spill: this chunk cannot be stored, going on with the others"
                );
                self.spilled.last_error = Some(error);
                self.aside.push((taken, place));
            }
        }
    }

    /// Whether nothing is left but chunks that cannot be stored.
    fn only_aside<A: Drainable>(&self, agent: &A) -> bool {
        let left: usize = agent.backlog().iter().map(|output| output.chunks).sum();
        self.uploads.is_empty() && !self.aside.is_empty() && left == self.aside.len()
    }

    /// Cuts the uploads in progress: their chunks go back to their queues and count as not safe. What comes later is the servers' again.
    async fn finish<A: Drainable>(&mut self, drain: &Drain<'_, A>) {
        self.uploads.abort_all();
        while let Some(ended) = self.uploads.join_next().await {
            if let Ok(upload) = ended {
                self.stored(drain, upload);
            }
        }
        for (id, _) in self
            .outputs
            .iter()
            .filter(|(_, watched)| watched.side == Side::Spill)
        {
            drain.agent.resume_flush(id);
        }
    }

    /// Bytes a second that the spill stores, over all that run at once.
    fn rate(&self) -> Option<f64> {
        let seconds = self.busy.as_secs_f64() / PARALLEL as f64;
        (self.spilled.bytes > 0 && seconds > 0.0).then(|| self.spilled.bytes as f64 / seconds)
    }
}

/// Stores one chunk: as configured, or else as the entries that it is made of.
async fn upload<T: Taken>(spill: Spill, began: SystemTime, taken: T) -> Upload<T> {
    let start = Instant::now();
    let (bytes, records) = (taken.chunk().len() as u64, taken.chunk().records() as u64);
    let mut written = spill.output.write(taken.chunk()).await;
    if let (Err(WriteError::Unrecoverable(error)), Some(place)) = (&written, &spill.place) {
        tracing::warn!(
            stage = "spill", chunk = %taken.chunk().id(), records, error = format!("{error:#}"),
            "spill: a chunk has no form as configured, storing its MessagePack entries as they are"
        );
        written = raw(place, began, taken.chunk())
            .await
            .map_err(WriteError::Retry);
    }
    match written {
        Ok(()) => {
            taken.purge();
            Upload::Stored {
                bytes,
                records,
                took: start.elapsed(),
            }
        }
        Err(WriteError::Retry(error)) => Upload::Failed(format!("{error:#}")),
        Err(WriteError::Unrecoverable(error)) => Upload::Hopeless(taken, format!("{error:#}")),
    }
}

/// What a forward server would have received, whatever is in it: `<path>/chunks/<tag>/<chunk id>.msgpack`.
async fn raw(place: &Place, began: SystemTime, chunk: &Chunk) -> anyhow::Result<()> {
    let tag = percent_encode(chunk.tag().as_str());
    let prefix = place.prefix(began).await?;
    let key = join(&prefix, &format!("chunks/{tag}/{}.msgpack", chunk.id()));
    place
        .store
        .put_new(&key, chunk.read_or_kept().await?.concat().into())
        .await
}

fn turn<A: Drainable>(drain: &Drain<'_, A>, output: &OutputBacklog, from: Side, to: Side) {
    let (elapsed, id) = (drain.elapsed(), output.id.as_str());
    match to {
        Side::Spill => {
            tracing::warn!(
                stage = "spill",
                elapsed,
                output = id,
                bytes = output.bytes,
                "spill: no server takes the data in time, storing it"
            );
            drain.agent.pause_flush(id);
        }
        Side::Both => tracing::warn!(
            stage = "spill",
            elapsed,
            output = id,
            bytes = output.bytes,
            "spill: time is short, storing beside the flush"
        ),
        Side::Forward => {}
    }
    if from == Side::Spill {
        drain.agent.resume_flush(id);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn forward_has_the_chunks_while_it_moves_and_time_allows() {
        let now = Instant::now();
        let at = |seconds| now + Duration::from_secs(seconds);
        let budget = Budget {
            quiet: at(10),
            flush: at(60),
            spill: at(90),
            post: at(100),
            deadline: at(110),
        };
        assert_eq!(side(false, &budget, now), Side::Forward);
        assert_eq!(side(true, &budget, now), Side::Spill);
        assert_eq!(side(false, &budget, at(60)), Side::Both);
        assert_eq!(side(false, &budget, at(85)), Side::Spill);
    }
}
