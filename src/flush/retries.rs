//! Which chunk of an output may be tried now, when those that failed lately have to wait: pure decisions.
//!
//! Limits, waits and the change to the secondary count for each chunk ([`Retry`], with Fluentd's formulas). A chunk that fails alone waits
//! alone: the others go around it. When two chunks have failed and none has passed between them, the output itself is at fault: then all
//! wait together, by the same formula but for at most [`LONGEST_HOLD`] and not for their own time, and the chunk that waits longest for its
//! turn is the next to try. When one passes, all others are tried. A chunk that is due at its secondary, or for its last attempt, does not
//! wait for the others.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use super::retry::{Retry, RetrySettings, Target, Verdict};
use crate::buffer::ChunkId;

/// An output that is back is noticed within this time, whatever its chunks' own waits have grown to.
const LONGEST_HOLD: Duration = Duration::from_secs(60);

/// The retry state of one output's chunks.
#[derive(Debug)]
pub struct Retries {
    settings: RetrySettings,
    failed: HashMap<ChunkId, Failed>,
    /// Pending while the output is at fault.
    hold: Retry,
    /// Failed last, with no success since.
    suspect: Option<ChunkId>,
    attempts: u64,
}

#[derive(Debug)]
struct Failed {
    retry: Retry,
    /// The number of its last attempt: the smallest has waited longest.
    turn: u64,
}

impl Retries {
    /// Of an output that has not failed yet.
    pub fn new(settings: RetrySettings) -> Retries {
        Retries {
            settings,
            failed: HashMap::new(),
            hold: Retry::default(),
            suspect: None,
            attempts: 0,
        }
    }

    /// Whether the output has failed and not recovered.
    pub fn in_trouble(&self) -> bool {
        !self.failed.is_empty() || self.at_fault()
    }

    /// Whether the output itself is at fault: several chunks fail and none passes.
    pub fn at_fault(&self) -> bool {
        self.hold.next().is_some()
    }

    /// How many chunks wait for another attempt.
    pub fn waiting(&self) -> usize {
        self.failed.len()
    }

    /// Whether new chunks have to wait now.
    pub fn holds(&self, now: Instant) -> bool {
        self.hold.next().is_some_and(|next| next > now)
    }

    /// The order in which chunks are tried, the smallest number first and 0 before all; `None`: not now.
    pub fn rank(&self, id: ChunkId, now: Instant) -> Option<u64> {
        let Some(failed) = self.failed.get(&id) else {
            let alone = u64::from(!self.failed.is_empty() && !self.at_fault());
            return (!self.holds(now)).then_some(alone);
        };
        let ready = self.ready_at(failed).is_none_or(|at| at <= now);
        let turn = if self.at_fault() { failed.turn } else { 0 };
        ready.then_some(turn)
    }

    /// When the next chunk that cannot be tried yet may be tried; `None` where none waits.
    pub fn wake(&self, now: Instant) -> Option<Instant> {
        let own = (self.failed.values()).filter_map(|failed| self.ready_at(failed));
        own.chain(self.hold.next()).filter(|at| *at > now).min()
    }

    /// Who gets an attempt of this chunk that is made now.
    pub fn target(&self, id: ChunkId, now: Instant) -> Target {
        let failed = self.failed.get(&id);
        failed.map_or(Target::Primary, |failed| {
            failed.retry.target(now, &self.settings)
        })
    }

    /// How often this chunk has failed, minus one (Fluentd's `retry_times`).
    pub fn times(&self, id: ChunkId) -> u32 {
        self.failed
            .get(&id)
            .and_then(|failed| failed.retry.times())
            .unwrap_or(0)
    }

    /// The chunk has left the buffer another way than by a write.
    pub fn forget(&mut self, id: ChunkId) -> bool {
        if self.suspect == Some(id) {
            self.suspect = None;
        }
        self.failed.remove(&id).is_some()
    }

    /// The chunk was written. Tells whether it, or the whole output, had failed before.
    pub fn succeeded(&mut self, id: ChunkId, target: Target, now: Instant) -> bool {
        let known = self.failed.remove(&id).is_some();
        if target == Target::Secondary {
            // This says nothing about the output itself.
            return known;
        }
        self.suspect = None;
        let was_at_fault = self.hold.succeeded();
        if was_at_fault {
            // They failed because of the output.
            self.hurry(now);
        }
        was_at_fault || known
    }

    /// The chunk was given up and nobody took it.
    pub fn postpone(&mut self, id: ChunkId, now: Instant) {
        let (settings, longest) = (self.settings.clone(), self.longest_hold());
        self.entry(id).retry.postpone(now, &settings, longest);
    }

    /// Somebody asked for attempts now (a forced flush, a termination): the waits end, the counts go on.
    pub fn hurry(&mut self, now: Instant) {
        self.hold.hurry(now);
        self.failed
            .values_mut()
            .for_each(|failed| failed.retry.hurry(now));
    }

    /// An attempt failed while the instance terminates.
    pub fn failed_in_hurry(&mut self, id: ChunkId, now: Instant) -> Verdict {
        let verdict = self.entry(id).retry.failed_in_hurry(now);
        if self.blames_output(id) {
            self.hold.failed_in_hurry(now);
        }
        verdict
    }

    /// An attempt failed. `luck` is a random number from −1 to 1.
    pub fn failed(&mut self, id: ChunkId, target: Target, now: Instant, luck: f64) -> Verdict {
        let settings = self.settings.clone();
        let verdict = self.entry(id).retry.failed(now, &settings, luck);
        if target == Target::Primary && self.blames_output(id) {
            let hold = RetrySettings {
                max_interval: Some(self.longest_hold()),
                timeout: None,
                max_times: None,
                secondary_threshold: None,
                ..settings
            };
            self.hold.failed(now, &hold, luck);
        }
        match (verdict, self.failed.get(&id)) {
            (Verdict::RetryAt(next), Some(failed)) => {
                Verdict::RetryAt(self.ready_at(failed).unwrap_or(next))
            }
            _ => verdict,
        }
    }

    fn longest_hold(&self) -> Duration {
        let longest = LONGEST_HOLD.max(self.settings.wait);
        self.settings
            .max_interval
            .map_or(longest, |max| max.min(longest))
    }

    fn entry(&mut self, id: ChunkId) -> &mut Failed {
        self.attempts += 1;
        let failed = self.failed.entry(id).or_insert_with(|| Failed {
            retry: Retry::default(),
            turn: 0,
        });
        failed.turn = self.attempts;
        failed
    }

    fn blames_output(&mut self, id: ChunkId) -> bool {
        let another = self.suspect.is_some_and(|suspect| suspect != id);
        self.suspect.get_or_insert(id);
        another || self.at_fault()
    }

    fn ready_at(&self, failed: &Failed) -> Option<Instant> {
        match self.hold.next() {
            Some(held) if failed.retry.waits_for_others(&self.settings) => Some(held),
            _ => failed.retry.next(),
        }
    }
}

#[cfg(test)]
#[path = "retries_tests.rs"]
mod tests;
