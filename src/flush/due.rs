//! Which staged chunks are due: a pure decision.
//!
//! A chunk is due by its age (`flush_interval`), at once, or when its time slice is over and `timekey_wait` has passed for what comes late.
//! Where both an interval and a slice are configured, the earlier counts, as in Fluentd.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// A clock that is set forward must not leave a chunk of an ended slice lying: a slice's end is looked at again after this time.
const LOOK_AGAIN: Duration = Duration::from_secs(60);

/// When a staged chunk goes to the queue without being full.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FlushMode {
    /// At once: a worker that is free takes the stage as it is.
    Immediate,
    /// When it is this old.
    Interval(Duration),
    /// Only when it is full, at the end of its time slice, or by a forced flush.
    Lazy,
}

/// The present, on both clocks.
#[derive(Clone, Copy, Debug)]
pub struct Now {
    /// For ages.
    pub instant: Instant,
    /// For time slices.
    pub clock: SystemTime,
}

impl Now {
    /// The present.
    pub fn read() -> Now {
        Now {
            instant: Instant::now(),
            clock: SystemTime::now(),
        }
    }
}

/// When chunks are due.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Due {
    /// By age.
    pub mode: FlushMode,
    /// From the begin of a time slice until its chunk is due: `timekey` and `timekey_wait` together. `None` without the chunk key `time`.
    pub slice: Option<Duration>,
}

/// Whether a chunk is due.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum When {
    /// It is.
    Now,
    /// Look again then.
    At(Instant),
    /// Time alone will not make it due.
    Never,
}

impl Due {
    /// When a chunk becomes due that was created then and holds the slice that begins at `timekey` (Unix seconds).
    pub fn when(self, created: Instant, timekey: Option<i64>, now: Now) -> When {
        let by_age = match self.mode {
            FlushMode::Immediate => return When::Now,
            FlushMode::Interval(interval) => created.checked_add(interval),
            FlushMode::Lazy => None,
        };
        if self.slice.is_some() && timekey.is_none() && by_age.is_none() {
            // An earlier configuration had no slices, and no time will come.
            return When::Now;
        }
        let slice = self.slice.zip(timekey);
        let left = slice.map(|(slice, timekey)| until(timekey, slice, now.clock));
        let by_slice = left.map(|left| now.instant + left.min(LOOK_AGAIN));
        match [by_age, by_slice].into_iter().flatten().min() {
            Some(due) if due <= now.instant => When::Now,
            Some(due) => When::At(due),
            None => When::Never,
        }
    }
}

fn until(timekey: i64, slice: Duration, clock: SystemTime) -> Duration {
    let begin = match u64::try_from(timekey) {
        Ok(after) => UNIX_EPOCH.checked_add(Duration::from_secs(after)),
        Err(_) => UNIX_EPOCH.checked_sub(Duration::from_secs(timekey.unsigned_abs())),
    };
    let end = begin.and_then(|begin| begin.checked_add(slice));
    // An end that no clock can show never comes.
    end.map_or(Duration::MAX, |end| {
        end.duration_since(clock).unwrap_or_default()
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const MINUTE: FlushMode = FlushMode::Interval(Duration::from_secs(60));

    fn at(clock: u64) -> Now {
        Now {
            instant: Instant::now(),
            clock: UNIX_EPOCH + Duration::from_secs(clock),
        }
    }

    fn later(now: Now, by: Duration) -> Now {
        Now {
            instant: now.instant + by,
            clock: now.clock + by,
        }
    }

    fn due(mode: FlushMode, slice: Option<u64>) -> Due {
        Due {
            mode,
            slice: slice.map(Duration::from_secs),
        }
    }

    #[test]
    fn interval_chunks_are_due_exactly_at_their_age() {
        let now = at(1000);
        let when = |after| due(MINUTE, None).when(now.instant, None, later(now, after));
        let end = now.instant + Duration::from_secs(60);
        assert_eq!(when(Duration::from_millis(59_999)), When::At(end));
        assert_eq!(when(Duration::from_secs(60)), When::Now);
    }

    #[test]
    fn immediate_is_always_due_and_lazy_never() {
        let now = at(1000);
        let when = |mode| due(mode, None).when(now.instant, None, now);
        assert_eq!(when(FlushMode::Immediate), When::Now);
        assert_eq!(when(FlushMode::Lazy), When::Never);
    }

    #[test]
    fn a_slice_is_due_when_it_is_over_and_its_wait_has_passed() {
        // An hour from 7200 and ten minutes for what comes late.
        let by_slice = due(FlushMode::Lazy, Some(3600 + 600));
        let when = |clock| {
            let now = at(clock);
            by_slice.when(now.instant, Some(7200), now)
        };
        assert!(matches!(when(11_399), When::At(_)));
        assert_eq!(when(11_400), When::Now);
        assert_eq!(when(100_000), When::Now);
    }

    #[test]
    fn a_chunk_of_no_slice_does_not_wait_where_only_slices_are_due() {
        let now = at(100_000);
        let due = due(FlushMode::Lazy, Some(60));
        assert_eq!(due.when(now.instant, None, now), When::Now);
    }

    #[test]
    fn a_chunk_without_a_slice_waits_for_its_age_only() {
        let now = at(100_000);
        let both = due(MINUTE, Some(60));
        assert_ne!(both.when(now.instant, None, now), When::Now);
        assert_eq!(both.when(now.instant, Some(60), now), When::Now);
    }

    proptest! {
        /// Whoever sleeps until the answer and asks again finds the chunk due within one look of the earlier of both ends, and not before.
        #[test]
        fn sleeping_until_the_answer_finds_the_chunk_due_at_its_end(
            interval in proptest::option::of(1u64..10_000),
            slice in proptest::option::of(1u64..10_000),
            began in 0u64..5_000,
        ) {
            let start = at(100_000);
            let timekey = i64::try_from(100_000 - began).expect("small");
            let mode = interval.map_or(FlushMode::Lazy, |seconds| FlushMode::Interval(Duration::from_secs(seconds)));
            let ends = [interval, slice.map(|slice| slice.saturating_sub(began))];
            let expected = ends.into_iter().flatten().min();
            let mut now = start;
            for _ in 0..400 {
                match due(mode, slice).when(start.instant, Some(timekey), now) {
                    When::At(next) => {
                        prop_assert!(next > now.instant);
                        now = later(now, next - now.instant);
                    }
                    When::Now => {
                        prop_assert_eq!(Some((now.instant - start.instant).as_secs()), expected);
                        return Ok(());
                    }
                    When::Never => {
                        prop_assert_eq!(expected, None);
                        return Ok(());
                    }
                }
            }
            prop_assert!(false, "never due");
        }
    }
}
