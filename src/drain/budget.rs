//! How long each stage may take (lifecycle.md §5.2), and whether anything moves. Pure: `now` comes in, ends come out.
//!
//! The deadline is the minimum of everything known, and every stage's end is computed backwards from it, again and again, so that a
//! failed heartbeat or a spot notice tightens all stages by itself.

use std::time::{Duration, Instant};

/// Kept back for the complete call and the deletion of the message. This and the other reserves shrink in a short window: a hook
/// of 30 seconds must leave time for the data.
const RESERVE: Duration = Duration::from_secs(10);
/// How far before the hook's global time-out the deadline lies.
const GLOBAL_MARGIN: Duration = Duration::from_secs(15);
/// How far before a missed heartbeat ends the wait.
const HEARTBEAT_MARGIN: Duration = Duration::from_secs(10);
/// How far before the machine goes, by spot or by its own shutdown.
const MACHINE_MARGIN: Duration = Duration::from_secs(5);
/// What the spill needs beside its bytes.
const SPILL_MARGIN: Duration = Duration::from_secs(5);
/// Post-hooks together get no more than this.
const POST_MAX: Duration = Duration::from_secs(30);
/// Assumed until measured.
const DEFAULT_RATE: f64 = 8.0 * 1024.0 * 1024.0;
/// An output whose servers have taken nothing for this long is not reachable.
pub const STALLED: Duration = Duration::from_secs(5);

/// What the wait on the lifecycle hook allows.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct HookClock {
    /// When the wait began: the message's time, else when the action was first seen.
    pub began: Instant,
    /// The heartbeat time-out H.
    pub heartbeat: Duration,
    /// The last heartbeat that AWS accepted (the beginning of the wait counts as one).
    pub last_ok: Instant,
    /// The global time-out G: min(48 h, 100 × H).
    pub global: Duration,
}

/// Everything that can end this drain. A line counts only when its trigger exists.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Clock {
    /// When the drain began.
    pub start: Instant,
    /// `max_drain` (or `max_hold` with `on_undelivered hold`).
    pub max_drain: Duration,
    /// Once the action has been seen.
    pub hook: Option<HookClock>,
    /// When EC2 takes the machine.
    pub spot: Option<Instant>,
    /// When the operating system kills us.
    pub stop: Option<Instant>,
}

impl Clock {
    /// When everything must be over: D.
    pub fn deadline(&self) -> Instant {
        self.window().0
    }

    /// The deadline, and the length of the time that it ends: the reserves are cut to fit into a short one.
    fn window(&self) -> (Instant, Duration) {
        let hook = self.hook.iter().flat_map(|hook| {
            let global = back(
                hook.began + hook.global,
                GLOBAL_MARGIN.min(hook.global / 10),
            );
            let missed = back(
                hook.last_ok + hook.heartbeat,
                HEARTBEAT_MARGIN.min(hook.heartbeat / 3),
            );
            [(global, hook.began), (missed, hook.last_ok)]
        });
        let machine = [self.spot, self.stop]
            .into_iter()
            .flatten()
            .map(|at| (back(at, MACHINE_MARGIN), self.start));
        let own = (self.start + self.max_drain, self.start);
        let (deadline, began) =
            hook.chain(machine).fold(
                own,
                |first, next| if next.0 < first.0 { next } else { first },
            );
        (deadline, deadline.saturating_duration_since(began))
    }
}

/// The limits of what runs before and after the data.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Limits {
    /// All commands before, together.
    pub before: Duration,
    /// All steps after, together.
    pub after: Duration,
}

/// When each stage ends at the latest.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Budget {
    /// The commands before.
    pub quiet: Instant,
    /// Forward alone; from here on the spill works beside it.
    pub flush: Instant,
    /// All data.
    pub spill: Instant,
    /// The steps after.
    pub post: Instant,
    /// Everything.
    pub deadline: Instant,
}

/// The formula. `left` is what is not safe yet in bytes, `rate` in bytes a second what the spill was measured to do.
pub fn budget(clock: &Clock, limits: Limits, now: Instant, left: u64, rate: Option<f64>) -> Budget {
    let (deadline, window) = clock.window();
    let post = back(deadline, RESERVE.min(window / 5));
    let spill = back(post, limits.after.min(POST_MAX).min(window / 4));
    let seconds = left as f64 / rate.filter(|rate| *rate > 0.0).unwrap_or(DEFAULT_RATE);
    let need = Duration::try_from_secs_f64(seconds).unwrap_or(Duration::MAX);
    let flush = back(spill, need.saturating_add(SPILL_MARGIN.min(window / 8)));
    let remains = flush.saturating_duration_since(now);
    let quiet = (clock.start + limits.before).min(back(flush, remains / 5));
    Budget {
        quiet,
        flush,
        spill,
        post,
        deadline,
    }
}

/// `at - by`, or as far back as the clock reaches: "already past" is all that the callers ask.
fn back(at: Instant, by: Duration) -> Instant {
    let mut by = by;
    loop {
        match at.checked_sub(by) {
            Some(earlier) => return earlier,
            None => by /= 2,
        }
    }
}

/// Whether the servers of one output take anything, judged by what they took.
#[derive(Clone, Copy, Debug)]
pub struct Progress {
    moved: u64,
    at: Instant,
    begin: (u64, Instant),
}

impl Progress {
    /// Watching begins: the output has moved `moved` bytes so far.
    pub fn new(moved: u64, now: Instant) -> Progress {
        Progress {
            moved,
            at: now,
            begin: (moved, now),
        }
    }

    /// Notes the counter; an output with nothing to send cannot stall.
    pub fn observe(&mut self, moved: u64, backlog: u64, now: Instant) {
        if moved != self.moved || backlog == 0 {
            self.moved = moved;
            self.at = now;
        }
    }

    /// Whether nothing has moved for [`STALLED`].
    pub fn stalled(&self, now: Instant) -> bool {
        now.saturating_duration_since(self.at) >= STALLED
    }

    /// Bytes a second since watching began, once there is something to measure.
    pub fn rate(&self, now: Instant) -> Option<f64> {
        let (bytes, since) = self.begin;
        let seconds = now.saturating_duration_since(since).as_secs_f64();
        (self.moved > bytes && seconds > 0.2).then(|| (self.moved - bytes) as f64 / seconds)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const MIB: u64 = 1024 * 1024;

    fn seconds(n: u64) -> Duration {
        Duration::from_secs(n)
    }

    fn clock(start: Instant) -> Clock {
        Clock {
            start,
            max_drain: seconds(900),
            hook: None,
            spot: None,
            stop: None,
        }
    }

    #[test]
    fn the_worked_example_of_a_spot_notice_comes_out() {
        let start = Instant::now();
        let clock = Clock {
            spot: Some(start + seconds(115)),
            ..clock(start)
        };
        let limits = Limits {
            before: seconds(0),
            after: seconds(10),
        };
        let budget = budget(&clock, limits, start, 200 * MIB, None);
        let ends = [budget.flush, budget.spill, budget.post, budget.deadline];
        assert_eq!(ends.map(|end| (end - start).as_secs()), [60, 90, 100, 110]);
    }

    #[test]
    fn the_deadline_moves_only_with_good_heartbeats() {
        let start = Instant::now();
        let mut hook = HookClock {
            began: start,
            heartbeat: seconds(60),
            last_ok: start,
            global: seconds(6000),
        };
        let before = Clock {
            hook: Some(hook),
            ..clock(start)
        }
        .deadline();
        hook.last_ok = start + seconds(20);
        let after = Clock {
            hook: Some(hook),
            ..clock(start)
        }
        .deadline();
        assert_eq!((before - start, after - start), (seconds(50), seconds(70)));
    }

    #[test]
    fn an_output_stalls_only_while_it_has_something_to_send() {
        let start = Instant::now();
        let mut progress = Progress::new(0, start);
        progress.observe(0, 0, start + seconds(60));
        assert!(!progress.stalled(start + seconds(60)));
        progress.observe(0, 10, start + seconds(65));
        assert!(progress.stalled(start + seconds(65)));
        progress.observe(5, 10, start + seconds(66));
        assert!(!progress.stalled(start + seconds(66)));
    }

    #[test]
    fn a_hook_of_thirty_seconds_leaves_more_than_half_of_its_time_to_the_data() {
        let start = Instant::now();
        let hook = HookClock {
            began: start,
            heartbeat: seconds(30),
            last_ok: start,
            global: seconds(3000),
        };
        let clock = Clock {
            hook: Some(hook),
            ..clock(start)
        };
        let limits = Limits {
            before: seconds(0),
            after: seconds(30),
        };
        let budget = budget(&clock, limits, start, MIB, None);
        assert!(
            budget.spill >= start + seconds(10),
            "{:?}",
            budget.spill - start
        );
        assert!(
            budget.flush >= start + seconds(7),
            "{:?}",
            budget.flush - start
        );
    }

    proptest! {
        #[test]
        fn stages_end_in_order_and_never_after_any_known_end(
            now in 0u64..4000, max in 1u64..4000, spot in proptest::option::of(0u64..4000),
            stop in proptest::option::of(0u64..4000), heartbeat in proptest::option::of((30u64..7200, 0u64..4000)),
            left in 0u64..u64::MAX, rate in proptest::option::of(0.0f64..1e9), before in 0u64..100, after in 0u64..100,
        ) {
            let start = Instant::now();
            let clock = Clock {
                start,
                max_drain: seconds(max),
                hook: heartbeat.map(|(heartbeat, ok)| HookClock {
                    began: start, heartbeat: seconds(heartbeat), last_ok: start + seconds(ok), global: seconds(heartbeat * 100),
                }),
                spot: spot.map(|at| start + seconds(at)),
                stop: stop.map(|at| start + seconds(at)),
            };
            let limits = Limits { before: seconds(before), after: seconds(after) };
            let b = budget(&clock, limits, start + seconds(now), left, rate);
            prop_assert!(b.quiet <= b.flush && b.flush <= b.spill && b.spill <= b.post && b.post <= b.deadline);
            prop_assert!(b.deadline <= start + seconds(max));
            if let Some(at) = clock.spot { prop_assert!(b.deadline <= at); }
            if let Some(at) = clock.stop { prop_assert!(b.deadline <= at); }
            if let Some(hook) = clock.hook { prop_assert!(b.deadline <= hook.last_ok + hook.heartbeat); }
        }

        #[test]
        fn more_bytes_never_give_the_forward_servers_more_time(left in 0u64..1u64 << 40, more in 0u64..1u64 << 40) {
            let start = Instant::now();
            let few = budget(&clock(start), Limits::default(), start, left, None);
            let many = budget(&clock(start), Limits::default(), start, left + more, None);
            prop_assert!(many.flush <= few.flush);
        }
    }
}
