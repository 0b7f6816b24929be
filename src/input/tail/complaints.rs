//! How often a source complains about lines: pure.

use crate::event::EventTime;

/// Keeps messages about lines rare: a few in each window, then only their number.
#[derive(Debug, Default)]
pub struct Complaints {
    window: u32,
    said: u32,
    unsaid: u64,
}

impl Complaints {
    /// Messages in one window of [`Complaints::WINDOW`] seconds.
    const BURST: u32 = 10;
    const WINDOW: u32 = 10;

    /// Whether a message may be written now; if so, how many were not since the last one.
    pub fn allow(&mut self, now: EventTime) -> Option<u64> {
        let window = now.sec / Self::WINDOW;
        if self.window != window {
            self.window = window;
            self.said = 0;
        }
        if self.said == Self::BURST {
            self.unsaid += 1;
            return None;
        }
        self.said += 1;
        Some(std::mem::take(&mut self.unsaid))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_beyond_a_burst_are_counted_and_told_later() {
        let mut complaints = Complaints::default();
        let at = |sec| EventTime { sec, nsec: 0 };
        let said = (0..25)
            .filter(|_| complaints.allow(at(100)).is_some())
            .count();
        assert_eq!(said, 10);
        assert_eq!(complaints.allow(at(110)), Some(15));
        assert_eq!(complaints.allow(at(110)), Some(0));
    }
}
