//! When things are due in a source: pure.

use std::time::{Duration, Instant, SystemTime};

/// File times come from a coarse clock: a file may seem this much older than the moment in which it was made or written.
pub const CLOCK_SLACK: Duration = Duration::from_millis(50);
/// How often time is taken for files of which no event told.
pub const SWEEP: Duration = Duration::from_secs(1);
/// How often positions are written while they move.
const WRITE_POSITIONS: Duration = Duration::from_millis(500);
/// How soon a generation is written down that has just begun: a start after a crash finds it under any name.
const WRITE_BEGUN: Duration = Duration::from_millis(20);
/// The pause after positions were written is at least this many times its cost.
const WRITE_SHARE: u32 = 20;
/// How often a full collector is asked again: not every kind of room is told by a receipt.
const ASK_AGAIN: Duration = Duration::from_millis(50);

/// When things are due.
pub struct Clock {
    /// The next sweep.
    pub sweep: Instant,
    /// The next expansion of `path`.
    pub refresh: Instant,
    /// Names changed, and nobody knows which: the next look at all of them.
    pub names: Option<Instant>,
    /// Not before this.
    pub names_allowed: Instant,
    /// When positions may be written again.
    write: Instant,
    /// The same where a generation has begun since.
    write_begun: Instant,
    /// A generation has begun that is not written down.
    pub begun: bool,
    /// When a file that a limit holds back may be read again.
    pub throttled: Option<Instant>,
    /// When the last sweep began, by the clock of file times.
    pub last_sweep: SystemTime,
}

impl Clock {
    /// Everything is due.
    pub fn new(now: Instant, clock: SystemTime) -> Clock {
        Clock {
            sweep: now,
            refresh: now,
            names: None,
            names_allowed: now,
            write: now,
            write_begun: now,
            begun: false,
            throttled: None,
            last_sweep: clock,
        }
    }

    /// All names have to be looked at, as soon as that is allowed again.
    pub fn look_at_names(&mut self) {
        self.names.get_or_insert(self.names_allowed);
    }

    /// Whether `path` has to be expanded.
    pub fn is_refresh_due(&self, now: Instant) -> bool {
        self.refresh <= now || self.names.is_some_and(|due| due <= now)
    }

    /// Whether positions that moved are to be written.
    pub fn is_write_due(&self, now: Instant) -> bool {
        self.write_at() <= now
    }

    /// Positions were written, or could not be, from `begun` to `now`.
    pub fn wrote(&mut self, begun: Instant, now: Instant, is_written: bool) {
        let pause = WRITE_POSITIONS.max((now - begun) * WRITE_SHARE);
        self.write = now + if is_written { pause } else { 5 * pause };
        let pause = WRITE_BEGUN.max((now - begun) * WRITE_SHARE);
        self.write_begun = if is_written { now + pause } else { self.write };
        self.begun &= !is_written;
    }

    fn write_at(&self) -> Instant {
        match self.begun {
            true => self.write_begun,
            false => self.write,
        }
    }

    /// How long nothing is due. `moved` says that positions wait to be written, `blocked` that the collector is full.
    pub fn until_next(&self, now: Instant, moved: bool, blocked: bool) -> Duration {
        let mut next = self.sweep.min(self.refresh);
        for due in [self.names, self.throttled].into_iter().flatten() {
            next = next.min(due);
        }
        if moved {
            next = next.min(self.write_at());
        }
        let wait = next.saturating_duration_since(now);
        if blocked { wait.min(ASK_AGAIN) } else { wait }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn writing_positions_takes_a_small_share_of_the_time_however_many_there_are() {
        let start = Instant::now();
        let mut clock = Clock::new(start, SystemTime::UNIX_EPOCH);
        assert!(clock.is_write_due(start));
        clock.wrote(start, start + Duration::from_millis(1), true);
        assert!(!clock.is_write_due(start + Duration::from_millis(499)));
        assert!(clock.is_write_due(start + Duration::from_millis(501)));
        clock.begun = true;
        assert!(
            clock.is_write_due(start + Duration::from_millis(21)),
            "something new is written soon"
        );
        clock.wrote(start, start + Duration::from_millis(1), true);
        assert!(!clock.begun);
        clock.wrote(start, start + Duration::from_millis(100), true);
        assert!(!clock.is_write_due(start + Duration::from_secs(2)));
        clock.wrote(start, start, false);
        assert!(!clock.is_write_due(start + Duration::from_millis(2499)));
        assert!(clock.is_write_due(start + Duration::from_millis(2500)));
    }

    #[test]
    fn the_thread_sleeps_until_the_first_of_what_is_due() {
        let start = Instant::now();
        let mut clock = Clock::new(start, SystemTime::UNIX_EPOCH);
        let later = |millis| start + Duration::from_millis(millis);
        (clock.sweep, clock.refresh) = (later(900), later(60_000));
        assert_eq!(clock.until_next(start, true, false), Duration::ZERO);
        assert_eq!(
            clock.until_next(start, false, false),
            Duration::from_millis(900)
        );
        assert_eq!(clock.until_next(start, false, true), ASK_AGAIN);
        clock.names_allowed = later(30);
        clock.look_at_names();
        assert_eq!(
            clock.until_next(start, false, false),
            Duration::from_millis(30)
        );
        assert!(!clock.is_refresh_due(start));
        assert!(clock.is_refresh_due(later(30)));
    }
}
