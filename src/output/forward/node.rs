//! One server's health: available or not, decided from heartbeats and from what became of the data sent to it. Pure: `now`
//! comes from the caller, who also writes the log lines.
//!
//! ```text
//!              data failed | phi > phi_threshold | silent for hard_timeout
//!   available ────────────────────────────────────────────────────────────► unavailable
//!       ▲                                                                        │
//!       └── heartbeats for recover_wait (or, without heartbeats, recover_wait) ◄─┘
//! ```
//!
//! As Fluentd's detector, with these differences. Failed data makes a server unavailable at once. Only heartbeats are
//! samples: in Fluentd data counts too and shrinks the mean until one missed heartbeat detaches a busy server. The mean is
//! never taken for less than one interval. A missed heartbeat of an unavailable server starts its recovery again.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// Fluentd's sample window.
const SAMPLES: usize = 1000;

/// What the detector goes by: parameters of out_forward.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// `heartbeat_interval`; `None` with `heartbeat_type none`.
    pub heartbeat_interval: Option<Duration>,
    /// `recover_wait`.
    pub recover_wait: Duration,
    /// `hard_timeout`.
    pub hard_timeout: Duration,
    /// `phi_threshold`; `None` with `phi_failure_detector false`.
    pub phi_threshold: Option<f64>,
}

/// Why heartbeats gave a server up.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Detached {
    /// No heartbeat for `hard_timeout`.
    HardTimeout,
    /// The suspicion went over `phi_threshold`.
    Phi(f64),
}

/// The health of one server.
#[derive(Debug)]
pub struct Health {
    limits: Limits,
    available: bool,
    /// The last heartbeat, or since when we wait for the first.
    last: Instant,
    /// Gaps between heartbeats, in microseconds, oldest first. Empty while no heartbeat came since the server went down.
    gaps: VecDeque<u64>,
}

impl Health {
    /// A server that nobody has heard of yet counts as available.
    pub fn new(limits: Limits, now: Instant) -> Health {
        let mut health = Health {
            limits,
            available: true,
            last: now,
            gaps: VecDeque::new(),
        };
        health.restart_samples(now);
        health
    }

    /// Whether data may go there. Without heartbeats a server that went down is tried again after `recover_wait`.
    pub fn is_available(&self, now: Instant) -> bool {
        let rested = self.limits.heartbeat_interval.is_none()
            && now.duration_since(self.last) >= self.limits.recover_wait;
        self.available || rested
    }

    /// Data could not be delivered. Says whether the server was available until now.
    pub fn failed(&mut self, now: Instant) -> bool {
        let was_available = self.available;
        self.available = false;
        self.last = now;
        self.gaps.clear();
        was_available
    }

    /// Data was delivered. Says whether that brought the server back: only without heartbeats, since with them the
    /// recovery has to last for `recover_wait`.
    pub fn delivered(&mut self) -> bool {
        let recovered = !self.available && self.limits.heartbeat_interval.is_none();
        self.available |= recovered;
        recovered
    }

    /// A heartbeat was answered. Says whether the server recovered by it.
    pub fn beat(&mut self, now: Instant) -> bool {
        let Some(interval) = self.limits.heartbeat_interval else {
            return false;
        };
        if self.gaps.is_empty() {
            self.restart_samples(now);
        } else {
            let gap = now.duration_since(self.last).as_micros();
            self.gaps.push_back(u64::try_from(gap).unwrap_or(u64::MAX));
            if self.gaps.len() > SAMPLES {
                self.gaps.pop_front();
            }
            self.last = now;
        }
        let needed = self.limits.recover_wait.as_secs_f64() / interval.as_secs_f64();
        let recovered = !self.available && self.gaps.len() as f64 > needed;
        self.available |= recovered;
        recovered
    }

    /// A heartbeat was not answered: a recovery that had begun starts again.
    pub fn missed(&mut self) {
        if !self.available {
            self.gaps.clear();
        }
    }

    /// Judges the silence since the last heartbeat; `Some` when the server is given up by it.
    pub fn tick(&mut self, now: Instant) -> Option<Detached> {
        if !self.available || self.limits.heartbeat_interval.is_none() {
            return None;
        }
        let why = if now.duration_since(self.last) > self.limits.hard_timeout {
            Detached::HardTimeout
        } else {
            let phi = self.phi(now);
            Detached::Phi(
                self.limits
                    .phi_threshold
                    .filter(|limit| phi > *limit)
                    .map(|_| phi)?,
            )
        };
        self.failed(now);
        Some(why)
    }

    /// The suspicion that the server is gone: 0 none; with steady heartbeats each 2.3 seconds of silence add one.
    pub fn phi(&self, now: Instant) -> f64 {
        let Some(interval) = self.limits.heartbeat_interval else {
            return 0.0;
        };
        if self.gaps.is_empty() {
            return 0.0;
        }
        // Newer gaps weigh more, as in Fluentd.
        let weighted = |(at, gap): (usize, &u64)| u128::from(*gap) * (at as u128 + 1);
        let sum: u128 = self.gaps.iter().enumerate().map(weighted).sum();
        let weights = self.gaps.len() as u128 * (self.gaps.len() as u128 + 1) / 2;
        let mean = (sum / weights) as f64 / 1e6;
        let interval = interval.as_secs_f64();
        let silence = now.duration_since(self.last).as_secs_f64() - interval + 1.0;
        silence / ((mean - interval + 1.0).max(1.0) * std::f64::consts::LN_10)
    }

    fn restart_samples(&mut self, now: Instant) {
        self.gaps.clear();
        self.gaps.extend(
            self.limits
                .heartbeat_interval
                .map(|interval| u64::try_from(interval.as_micros()).unwrap_or(u64::MAX)),
        );
        self.last = now;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn limits() -> Limits {
        Limits {
            heartbeat_interval: Some(SECOND),
            recover_wait: 10 * SECOND,
            hard_timeout: 60 * SECOND,
            phi_threshold: Some(16.0),
        }
    }

    #[test]
    fn steady_heartbeats_then_silence_detach_between_36_8_and_36_9_seconds() {
        let start = Instant::now();
        let mut health = Health::new(limits(), start);
        let mut now = start;
        for _ in 0..50 {
            now += SECOND;
            assert!(!health.beat(now));
        }
        assert_eq!(health.tick(now + Duration::from_millis(36_800)), None);
        let detached = health.tick(now + Duration::from_millis(36_900));
        assert!(matches!(detached, Some(Detached::Phi(phi)) if (16.0..16.1).contains(&phi)));
        assert!(!health.is_available(now + 37 * SECOND));
    }

    #[test]
    fn without_phi_only_the_hard_timeout_detaches() {
        let start = Instant::now();
        let mut health = Health::new(
            Limits {
                phi_threshold: None,
                ..limits()
            },
            start,
        );
        assert_eq!(health.tick(start + 60 * SECOND), None);
        let late = start + Duration::from_millis(60_001);
        assert_eq!(health.tick(late), Some(Detached::HardTimeout));
    }

    #[test]
    fn failed_data_makes_it_unavailable_at_once_and_eleven_heartbeats_bring_it_back() {
        let start = Instant::now();
        let mut health = Health::new(limits(), start);
        (1..30).for_each(|n| assert!(!health.beat(start + n * SECOND)));
        let down = start + 30 * SECOND;
        assert!(health.failed(down));
        assert!(!health.failed(down), "the second failure is no change");
        let recovered = (1..=20).find(|n| health.beat(down + *n * SECOND));
        assert_eq!(recovered, Some(11));
        assert!(health.is_available(down + 11 * SECOND));
    }

    #[test]
    fn a_missed_heartbeat_starts_the_recovery_again() {
        let start = Instant::now();
        let mut health = Health::new(limits(), start);
        health.failed(start);
        (1..=10).for_each(|n| assert!(!health.beat(start + n * SECOND)));
        health.missed();
        assert!(!health.beat(start + 12 * SECOND));
        assert!(!health.is_available(start + 12 * SECOND));
    }

    #[test]
    fn without_heartbeats_it_is_tried_again_after_recover_wait() {
        let start = Instant::now();
        let mut health = Health::new(
            Limits {
                heartbeat_interval: None,
                ..limits()
            },
            start,
        );
        health.failed(start);
        assert!(!health.is_available(start + 9 * SECOND));
        assert!(health.is_available(start + 10 * SECOND));
        assert!(health.delivered());
        assert!(!health.delivered());
        assert_eq!(health.tick(start + 1000 * SECOND), None);
    }

    proptest! {
        /// Whatever the rhythm of answered heartbeats, phi grows with silence, and a second without news never detaches.
        #[test]
        fn suspicion_grows_with_silence(gaps in proptest::collection::vec(1u64..3_000, 1..1500), silence in 0u64..100_000) {
            let start = Instant::now();
            let mut health = Health::new(limits(), start);
            let mut now = start;
            for gap in gaps {
                now += Duration::from_millis(gap);
                health.beat(now);
            }
            let quiet = now + Duration::from_millis(silence);
            prop_assert!(health.phi(quiet) <= health.phi(quiet + SECOND));
            prop_assert!(health.phi(now + SECOND) < 1.0);
        }
    }
}
