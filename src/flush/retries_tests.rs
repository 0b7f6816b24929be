use std::time::SystemTime;

use proptest::prelude::*;

use super::*;
use crate::flush::retry::RetryType;

fn settings() -> RetrySettings {
    RetrySettings {
        retry_type: RetryType::ExponentialBackoff { base: 2.0 },
        wait: Duration::from_secs(1),
        max_interval: None,
        timeout: Some(Duration::from_secs(1000)),
        max_times: None,
        randomize: false,
        secondary_threshold: None,
    }
}

fn id() -> ChunkId {
    ChunkId::new(SystemTime::now())
}

fn fail(retries: &mut Retries, id: ChunkId, now: Instant) -> Verdict {
    let target = retries.target(id, now);
    retries.failed(id, target, now, 0.0)
}

#[test]
fn a_chunk_that_fails_alone_waits_alone() {
    let (mut retries, now) = (Retries::new(settings()), Instant::now());
    let (poison, good) = (id(), id());
    fail(&mut retries, poison, now);
    assert_eq!(retries.rank(poison, now), None);
    assert_eq!(retries.rank(good, now), Some(1));
    assert!(!retries.succeeded(good, Target::Primary, now));
    fail(&mut retries, poison, now + Duration::from_secs(1));
    assert!(!retries.at_fault());
    assert_eq!(retries.times(poison), 1);
    assert_eq!(retries.wake(now), Some(now + Duration::from_secs(3)));
    // Its own time has come: it goes first, so that it cannot starve.
    assert_eq!(retries.rank(poison, now + Duration::from_secs(3)), Some(0));
}

#[test]
fn two_chunks_that_fail_with_no_success_between_them_hold_up_all() {
    let (mut retries, now) = (Retries::new(settings()), Instant::now());
    let (first, second, fresh) = (id(), id(), id());
    fail(&mut retries, first, now);
    fail(&mut retries, second, now);
    assert!(retries.at_fault() && retries.holds(now));
    assert_eq!(retries.rank(fresh, now), None);
    let then = now + Duration::from_secs(1);
    assert_eq!(
        [fresh, first, second].map(|id| retries.rank(id, then)),
        [Some(0), Some(1), Some(2)]
    );
    assert!(retries.succeeded(fresh, Target::Primary, now));
    assert_eq!(retries.rank(id(), then), Some(1));
    assert!(retries.in_trouble() && !retries.at_fault());
}

#[test]
fn a_success_of_the_secondary_says_nothing_about_the_output() {
    let (mut retries, now) = (Retries::new(settings()), Instant::now());
    let (first, second) = (id(), id());
    fail(&mut retries, first, now);
    fail(&mut retries, second, now);
    assert!(retries.succeeded(first, Target::Secondary, now));
    assert!(retries.at_fault());
}

#[test]
fn an_output_at_fault_is_asked_at_least_once_a_minute() {
    let (mut retries, mut now) = (Retries::new(settings()), Instant::now());
    let start = now;
    let mut at = Vec::new();
    fail(&mut retries, id(), now);
    for _ in 0..10 {
        at.push((now - start).as_secs());
        fail(&mut retries, id(), now);
        while retries.rank(id(), now).is_none() {
            now += Duration::from_secs(1);
        }
    }
    assert_eq!(at, [0, 1, 3, 7, 15, 31, 63, 123, 183, 243]);
}

#[test]
fn a_chunk_at_its_limit_is_given_up_alone() {
    let limited = RetrySettings {
        max_times: Some(1),
        ..settings()
    };
    let (mut retries, now) = (Retries::new(limited), Instant::now());
    let (first, second) = (id(), id());
    fail(&mut retries, first, now);
    fail(&mut retries, second, now);
    let then = now + Duration::from_secs(1);
    assert_eq!(fail(&mut retries, first, then), Verdict::GiveUp);
    // Until somebody has taken it.
    assert_eq!(retries.waiting(), 2);
    assert!(retries.forget(first));
    assert_eq!(retries.times(second), 0);
}

#[test]
fn an_output_that_is_back_gets_all_that_failed_while_it_was_away() {
    let (mut retries, start) = (Retries::new(settings()), Instant::now());
    let (first, second) = (id(), id());
    let mut now = start;
    // Until their own waits are far longer than the output is held.
    for _ in 0..12 {
        fail(&mut retries, first, now);
        fail(&mut retries, second, now);
        now += Duration::from_secs(60);
    }
    let ready = [first, second].map(|id| retries.rank(id, now).is_some());
    assert_eq!(ready, [true, true], "the output is asked once a minute");
    retries.succeeded(first, Target::Primary, now);
    assert_eq!(retries.rank(second, now), Some(0));
}

#[test]
fn the_turn_to_the_secondary_does_not_wait_for_an_output_at_fault() {
    let with_secondary = RetrySettings {
        timeout: Some(Duration::from_secs(10)),
        secondary_threshold: Some(0.5),
        ..settings()
    };
    let (mut retries, now) = (Retries::new(with_secondary), Instant::now());
    let chunk = id();
    fail(&mut retries, chunk, now);
    fail(&mut retries, chunk, now + Duration::from_secs(1));
    fail(&mut retries, chunk, now + Duration::from_secs(3));
    let half = now + Duration::from_secs(5);
    for after in [3, 4, 4] {
        fail(&mut retries, id(), now + Duration::from_secs(after));
    }
    assert!(retries.at_fault());
    assert!(retries.rank(chunk, half).is_some());
    assert_eq!(retries.target(chunk, half), Target::Secondary);
}

#[test]
fn a_chunk_that_nobody_takes_waits_though_the_output_may_be_asked() {
    let (mut retries, now) = (Retries::new(settings()), Instant::now());
    let chunk = id();
    fail(&mut retries, id(), now);
    fail(&mut retries, id(), now);
    let asked = now + Duration::from_secs(10);
    assert!(retries.at_fault() && retries.rank(chunk, asked).is_some());
    for _ in 0..2 {
        retries.postpone(chunk, asked);
        assert_eq!(retries.rank(chunk, asked), None);
    }
    let then = asked + Duration::from_secs(60);
    assert!(retries.rank(chunk, then).is_some());
}

#[test]
fn a_chunk_that_is_gone_is_forgotten() {
    let (mut retries, now) = (Retries::new(settings()), Instant::now());
    let chunk = id();
    fail(&mut retries, chunk, now);
    assert!(retries.forget(chunk) && !retries.forget(chunk));
    assert!(!retries.in_trouble());
    assert_eq!(
        (retries.wake(now), retries.rank(id(), now)),
        (None, Some(0))
    );
    // The next failure is the first again, of a chunk alone.
    fail(&mut retries, id(), now);
    assert!(!retries.at_fault());
}

#[test]
fn a_forced_flush_ends_all_waits() {
    let (mut retries, now) = (Retries::new(settings()), Instant::now());
    let (first, second) = (id(), id());
    fail(&mut retries, first, now);
    fail(&mut retries, second, now);
    retries.hurry(now);
    assert!([first, second, id()].map(|id| retries.rank(id, now).is_some()) == [true; 3]);
}

proptest! {
    /// Whatever fails and passes in whatever order: where no chunk may be tried now, one may be after `wake`, or after the one behind it.
    #[test]
    fn nobody_waits_for_ever(fates in proptest::collection::vec(prop::bool::weighted(0.7), 1..60)) {
        let mut retries = Retries::new(RetrySettings { timeout: None, ..settings() });
        let chunks: Vec<ChunkId> = (0..5).map(|_| id()).collect();
        let (mut now, mut idle) = (Instant::now(), 0);
        for fails in fates {
            let ready = chunks.iter().filter_map(|id| Some((retries.rank(*id, now)?, *id))).min();
            let Some((_, chosen)) = ready else {
                let wake = retries.wake(now);
                prop_assert!(wake.is_some_and(|wake| wake > now));
                now = wake.unwrap_or(now);
                // The end of a hold alone helps only chunks that have not failed yet.
                idle += 1;
                prop_assert!(idle <= 2);
                continue;
            };
            idle = 0;
            if fails {
                prop_assert!(matches!(fail(&mut retries, chosen, now), Verdict::RetryAt(next) if next > now));
            } else {
                retries.succeeded(chosen, Target::Primary, now);
                prop_assert!(!retries.at_fault());
            }
        }
    }
}
