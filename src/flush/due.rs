//! Which staged chunks are due: a pure decision.

use std::time::{Duration, Instant};

/// When a staged chunk goes to the queue without being full.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FlushMode {
    /// At once: a worker that is free takes the stage as it is.
    Immediate,
    /// When it is this old.
    Interval(Duration),
    /// Only when it is full, or by a forced flush.
    Lazy,
}

impl FlushMode {
    /// Whether a chunk of this age is due.
    pub fn is_due(self, created: Instant, now: Instant) -> bool {
        self.due_at(created).is_some_and(|due| due <= now)
    }

    /// When a chunk created then becomes due; `None` for never.
    pub fn due_at(self, created: Instant) -> Option<Instant> {
        match self {
            FlushMode::Immediate => Some(created),
            FlushMode::Interval(interval) => created.checked_add(interval),
            FlushMode::Lazy => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn interval_chunks_are_due_exactly_at_their_age() {
        let created = Instant::now();
        let mode = FlushMode::Interval(Duration::from_secs(60));
        assert!(!mode.is_due(created, created + Duration::from_millis(59_999)));
        assert!(mode.is_due(created, created + Duration::from_secs(60)));
    }

    #[test]
    fn immediate_is_always_due_and_lazy_never() {
        let created = Instant::now();
        assert!(FlushMode::Immediate.is_due(created, created));
        assert!(!FlushMode::Lazy.is_due(created, created + Duration::from_secs(1_000_000)));
    }
}
