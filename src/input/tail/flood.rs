//! Whether events come so fast that the source's thread had better wait for more of them before it looks again: pure.

use std::time::{Duration, Instant};

/// More files than this within [`WINDOW`] are a flood.
const QUIET: usize = 50;
const WINDOW: Duration = Duration::from_millis(100);
/// How long the thread waits then: a thousand files with a line a second each cost 250 wake-ups, not a thousand.
const NAP: Duration = Duration::from_millis(4);

/// How many files were named lately.
#[derive(Debug)]
pub struct Flood {
    since: Instant,
    files: usize,
    is_on: bool,
}

impl Flood {
    /// Nothing came yet.
    pub fn new(now: Instant) -> Flood {
        Flood {
            since: now,
            files: 0,
            is_on: false,
        }
    }

    /// So many files were named.
    pub fn note(&mut self, files: usize, now: Instant) {
        let passed = now.saturating_duration_since(self.since);
        if passed >= WINDOW {
            self.is_on = self.files > QUIET && passed < 2 * WINDOW;
            (self.since, self.files) = (now, 0);
        }
        self.files += files;
        self.is_on |= self.files > QUIET;
    }

    /// How long to wait before the next look.
    pub fn nap(&self) -> Option<Duration> {
        self.is_on.then_some(NAP)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_flood_makes_the_thread_wait() {
        let start = Instant::now();
        let at = |millis| start + Duration::from_millis(millis);
        let mut flood = Flood::new(start);
        for millis in (0..1000).step_by(5) {
            flood.note(1, at(millis));
            assert_eq!(flood.nap(), None, "200 lines a second");
        }
        for millis in 1000..1200 {
            flood.note(2, at(millis));
        }
        assert_eq!(flood.nap(), Some(NAP));
        flood.note(0, at(1500));
        assert_eq!(flood.nap(), None, "it is over");
    }
}
