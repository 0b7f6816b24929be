//! When a failed output is tried again, and when to give a chunk up: pure decisions with Fluentd's formulas.
//!
//! With *w* `retry_wait`, *b* the base, *M* `retry_max_interval`, *T* `retry_timeout`, *N* `retry_max_times`, *S* the time of the first
//! failure: the first wait is exactly *w*; failure *k* waits *w·bᵏ*, capped to *M*, randomised by ±12.5 %. The wait is cut at *S + T*
//! once, for one last attempt. Each chunk has a state of its own, unlike in Fluentd, where one is for the whole output and its limit
//! drops the whole queue; [`super::retries`] keeps them.

use std::time::{Duration, Instant};

/// The wait between attempts while the instance terminates.
const IN_A_HURRY: Duration = Duration::from_millis(200);

/// How waits grow.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum RetryType {
    /// By the base at each step.
    ExponentialBackoff {
        /// `retry_exponential_backoff_base`.
        base: f64,
    },
    /// Not at all.
    Periodic,
}

/// The retry parameters of a `<buffer>`.
#[derive(Clone, Debug)]
pub struct RetrySettings {
    /// `retry_type`.
    pub retry_type: RetryType,
    /// `retry_wait`.
    pub wait: Duration,
    /// `retry_max_interval`.
    pub max_interval: Option<Duration>,
    /// `retry_timeout`; `None` with `retry_forever`.
    pub timeout: Option<Duration>,
    /// `retry_max_times`; `None` with `retry_forever`.
    pub max_times: Option<u32>,
    /// `retry_randomize`.
    pub randomize: bool,
    /// `retry_secondary_threshold`, where there is a secondary.
    pub secondary_threshold: Option<f64>,
}

/// Who gets the next attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Target {
    /// The output itself.
    Primary,
    /// Its `<secondary>`.
    Secondary,
}

/// What a failure leads to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Try again then.
    RetryAt(Instant),
    /// The limit is reached: this chunk is given up.
    GiveUp,
}

#[derive(Clone, Copy, Debug)]
struct Pending {
    since: Instant,
    steps: u32,
    next: Instant,
    /// Somebody asked for an attempt before `next`.
    asked: Option<Instant>,
    last_attempt: bool,
    /// It was given up and nobody took it.
    is_postponed: bool,
    secondary_from: Option<u32>,
}

impl Pending {
    fn first(since: Instant, next: Instant) -> Pending {
        Pending {
            since,
            steps: 0,
            next,
            asked: None,
            last_attempt: false,
            is_postponed: false,
            secondary_from: None,
        }
    }
}

/// The retry state of one chunk.
#[derive(Debug, Default)]
pub struct Retry {
    pending: Option<Pending>,
}

impl Retry {
    /// When the next attempt may be made; `None` where nothing is pending.
    pub fn next(&self) -> Option<Instant> {
        (self.pending).map(|pending| pending.asked.unwrap_or(pending.next))
    }

    /// Failures since the last success, minus one (Fluentd's `retry_times`).
    pub fn times(&self) -> Option<u32> {
        self.pending.map(|pending| pending.steps)
    }

    /// Who gets an attempt that is made now.
    pub fn target(&self, now: Instant, settings: &RetrySettings) -> Target {
        match (self.pending, settings.secondary_threshold) {
            (Some(pending), Some(threshold))
                if secondary_begins(&pending, threshold, settings).is_some_and(|at| now >= at) =>
            {
                Target::Secondary
            }
            _ => Target::Primary,
        }
    }

    /// Whether the next attempt depends on how the output fares: not where it is the last one, or the secondary's, or one after that.
    pub fn waits_for_others(&self, settings: &RetrySettings) -> bool {
        self.pending.is_none_or(|pending| {
            let target = self.target(pending.next, settings);
            let is_special = pending.last_attempt || pending.is_postponed;
            !is_special && target == Target::Primary
        })
    }

    /// An attempt succeeded. Tells whether a retry was pending.
    pub fn succeeded(&mut self) -> bool {
        self.pending.take().is_some()
    }

    /// Somebody asked for an attempt now (a forced flush, a termination). It comes beside those of the formula: where it fails, nothing has
    /// changed.
    pub fn hurry(&mut self, now: Instant) {
        if let Some(pending) = &mut self.pending {
            pending.asked = Some(now.min(pending.next));
        }
    }

    /// It was given up and nobody took it: it is tried again, at most `longest` later, whatever the limits say.
    pub fn postpone(&mut self, now: Instant, settings: &RetrySettings, longest: Duration) {
        let pending = self.pending.get_or_insert(Pending::first(now, now));
        pending.next = now + settings.interval(pending.steps, 0.0).min(longest);
        pending.asked = None;
        pending.is_postponed = true;
    }

    /// An attempt failed while the instance terminates: the next comes soon and nothing is given up, since the drain
    /// stores elsewhere what no server takes.
    pub fn failed_in_hurry(&mut self, now: Instant) -> Verdict {
        let next = now + IN_A_HURRY;
        let steps = self.pending.map_or(0, |pending| pending.steps + 1);
        let since = self.pending.map_or(now, |pending| pending.since);
        self.pending = Some(Pending {
            steps,
            ..Pending::first(since, next)
        });
        Verdict::RetryAt(next)
    }

    /// An attempt failed at `now`. `luck` is a random number from −1 to 1. What is given up stays pending until it is gone.
    pub fn failed(&mut self, now: Instant, settings: &RetrySettings, luck: f64) -> Verdict {
        let Some(mut pending) = self.pending else {
            let next = now + settings.wait;
            self.pending = Some(Pending::first(now, next));
            return match settings.max_times {
                Some(0) => Verdict::GiveUp,
                _ => Verdict::RetryAt(next),
            };
        };
        pending.asked = None;
        if now < pending.next {
            self.pending = Some(pending);
            return Verdict::RetryAt(pending.next);
        }
        pending.steps += 1;
        if settings.max_times.is_some_and(|max| pending.steps >= max) || pending.last_attempt {
            self.pending = Some(pending);
            return Verdict::GiveUp;
        }
        if self.target(now, settings) == Target::Secondary && pending.secondary_from.is_none() {
            pending.secondary_from = Some(pending.steps);
        }
        pending.next =
            now + settings.interval(pending.steps - pending.secondary_from.unwrap_or(0), luck);
        let begins = settings
            .secondary_threshold
            .and_then(|threshold| secondary_begins(&pending, threshold, settings));
        if let Some(begins) = begins.filter(|begins| now < *begins) {
            pending.next = pending.next.min(begins);
        }
        if let Some(timeout) = settings.timeout
            && pending.next >= pending.since + timeout
        {
            pending.next = pending.since + timeout;
            pending.last_attempt = true;
        }
        self.pending = Some(pending);
        Verdict::RetryAt(pending.next)
    }
}

fn secondary_begins(
    pending: &Pending,
    threshold: f64,
    settings: &RetrySettings,
) -> Option<Instant> {
    let by_times = settings.max_times.map(|times| {
        (0..times)
            .map(|step| settings.interval(step, 0.0))
            .sum::<Duration>()
    });
    let whole = [settings.timeout, by_times].into_iter().flatten().min()?;
    Some(pending.since + whole.mul_f64(threshold))
}

impl RetrySettings {
    /// The wait after failure `step`.
    fn interval(&self, step: u32, luck: f64) -> Duration {
        let factor = match self.retry_type {
            RetryType::ExponentialBackoff { base } => {
                base.powi(i32::try_from(step).unwrap_or(i32::MAX))
            }
            RetryType::Periodic => 1.0,
        };
        // A wait beyond ten years is as good as for ever, and keeps the sum representable.
        let seconds = (self.wait.as_secs_f64() * factor).min(315_360_000.0);
        let capped = self
            .max_interval
            .map_or(seconds, |max| seconds.min(max.as_secs_f64()));
        let spread = if self.randomize {
            1.0 + 0.125 * luck
        } else {
            1.0
        };
        Duration::from_secs_f64(capped * spread)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn settings() -> RetrySettings {
        RetrySettings {
            retry_type: RetryType::ExponentialBackoff { base: 2.0 },
            wait: Duration::from_secs(1),
            max_interval: None,
            timeout: Some(Duration::from_secs(10)),
            max_times: None,
            randomize: false,
            secondary_threshold: None,
        }
    }

    /// The offsets of all attempts, in seconds, when each fails.
    fn attempts(settings: &RetrySettings) -> Vec<f64> {
        let start = Instant::now();
        let (mut retry, mut now, mut offsets) = (Retry::default(), start, vec![]);
        for _ in 0..100 {
            offsets.push((now - start).as_secs_f64());
            match retry.failed(now, settings, 0.0) {
                Verdict::RetryAt(next) => now = next,
                Verdict::GiveUp => break,
            }
        }
        offsets
    }

    #[test]
    fn attempts_are_made_when_fluentd_makes_them() {
        // Observed on a running Fluentd 1.18 with retry_wait 1, retry_timeout 10.
        assert_eq!(attempts(&settings()), [0.0, 1.0, 3.0, 7.0, 10.0]);
    }

    #[test]
    fn max_times_n_means_n_plus_one_attempts() {
        let limited = |times| RetrySettings {
            max_times: Some(times),
            timeout: None,
            ..settings()
        };
        assert_eq!(attempts(&limited(3)).len(), 4);
        assert_eq!(attempts(&limited(0)).len(), 1);
    }

    #[test]
    fn max_interval_caps_the_growth() {
        let capped = RetrySettings {
            max_interval: Some(Duration::from_secs(2)),
            ..settings()
        };
        assert_eq!(attempts(&capped), [0.0, 1.0, 3.0, 5.0, 7.0, 9.0, 10.0]);
    }

    #[test]
    fn forever_never_gives_up() {
        let forever = RetrySettings {
            timeout: None,
            ..settings()
        };
        assert_eq!(attempts(&forever).len(), 100);
    }

    #[test]
    fn the_secondary_takes_over_at_the_threshold() {
        let settings = RetrySettings {
            secondary_threshold: Some(0.8),
            ..settings()
        };
        let start = Instant::now();
        let (mut retry, mut now) = (Retry::default(), start);
        while retry.target(now, &settings) == Target::Primary {
            match retry.failed(now, &settings, 0.0) {
                Verdict::RetryAt(next) => now = next,
                Verdict::GiveUp => panic!("given up before the secondary was tried"),
            }
        }
        assert_eq!((now - start).as_secs(), 8);
    }

    #[test]
    fn an_attempt_that_was_asked_for_costs_none_of_the_formulas() {
        let limited = RetrySettings {
            max_times: Some(2),
            ..settings()
        };
        for settings in [settings(), limited] {
            let start = Instant::now();
            let (mut retry, mut now, mut offsets) = (Retry::default(), start, vec![]);
            loop {
                offsets.push((now - start).as_secs_f64());
                let Verdict::RetryAt(next) = retry.failed(now, &settings, 0.0) else {
                    break;
                };
                let early = now + (next - now) / 2;
                retry.hurry(early);
                assert_eq!(retry.next(), Some(early));
                assert_eq!(retry.failed(early, &settings, 0.0), Verdict::RetryAt(next));
                assert_eq!(retry.next(), Some(next));
                now = next;
            }
            assert_eq!(offsets, attempts(&settings));
        }
    }

    #[test]
    fn what_nobody_takes_is_tried_again_ever_more_slowly() {
        for max_times in [0, 3] {
            let limited = RetrySettings {
                max_times: Some(max_times),
                timeout: None,
                ..settings()
            };
            let (mut retry, mut now, mut waits) = (Retry::default(), Instant::now(), vec![]);
            let longest = Duration::from_secs(60);
            for _ in 0..30 {
                now = match retry.failed(now, &limited, 0.0) {
                    Verdict::RetryAt(next) => next,
                    Verdict::GiveUp => {
                        retry.postpone(now, &limited, longest);
                        let next = retry.next().expect("pending");
                        waits.push((next - now).as_secs());
                        next
                    }
                };
            }
            assert!(waits.is_sorted() && waits[0] > 0, "{waits:?}");
            assert_eq!(waits.last(), Some(&60));
        }
    }

    #[test]
    fn success_clears_and_says_whether_there_was_trouble() {
        let mut retry = Retry::default();
        assert!(!retry.succeeded());
        retry.failed(Instant::now(), &settings(), 0.0);
        assert!(retry.succeeded());
        assert_eq!(retry.next(), None);
    }

    proptest! {
        #[test]
        fn waits_stay_within_an_eighth_of_the_formula(step in 0..40u32, luck in -1.0..1.0f64) {
            let settings = RetrySettings { randomize: true, ..settings() };
            let exact = settings.interval(step, 0.0).as_secs_f64();
            let spread = settings.interval(step, luck).as_secs_f64();
            prop_assert!((spread - exact).abs() <= exact * 0.1251);
        }
    }
}
