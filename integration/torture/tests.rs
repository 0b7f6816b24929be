//! A few rounds of the torture, and its judges.

use std::time::SystemTime;

use anyhow::{Result, ensure};

use super::book::{Book, Generation};
use super::plan::Plan;
use super::verdict::{Kill, Verdict};
use super::writer::WRITER;
use crate::support::agent::binary;
use crate::support::forward_server::State;
use crate::support::ledger::LineId;

const ROUNDS: u64 = 5;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn kill_9_at_random_moments_under_rotation_loses_nothing() -> Result<()> {
    let binary = binary()?;
    let seed = fastrand::u64(..);
    for plan in (0..ROUNDS).map(|round| Plan::new(seed.wrapping_add(round))) {
        let round = super::run(&binary, &plan).await?;
        ensure!(
            round.verdict.is_good(),
            "{plan}\n{}\n{}\nits files were in {}",
            round.verdict,
            round.log,
            round.dir.path().display()
        );
    }
    Ok(())
}

/// Two generations of two lines, ten bytes each.
fn book() -> Book {
    let generation = |inode, first, born| Generation {
        inode,
        born: Some(SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(born)),
        first,
        ends: vec![10, 20],
    };
    Book {
        generations: vec![generation(7, 0, 100), generation(8, 2, 200)],
    }
}

fn pos_file(entries: &[(u64, u64)]) -> String {
    let line =
        |(inode, position): &(u64, u64)| format!("/app.log\t{position:016x}\t{inode:016x}\n");
    entries.iter().map(line).collect()
}

#[test]
fn a_pos_file_leaves_open_what_is_behind_it_and_everything_younger() {
    let claim = book().claim(Some(&pos_file(&[(7, 10)])));
    assert_eq!(claim.safe, [true, false, false, false]);
    assert_eq!(claim.open, [false, true, true, true]);
    assert_eq!(claim.open_bytes, 30);
    let claim = book().claim(Some(&pos_file(&[(8, 20)])));
    assert_eq!(claim.open, [false; 4]);
    let claim = book().claim(Some(&pos_file(&[(7, 10), (8, 10)])));
    assert_eq!(claim.open, [false, true, false, true]);
}

#[test]
fn no_pos_file_and_one_without_our_files_leave_everything_open() {
    for text in [None, Some(""), Some("/app.log\t0000\t00ff\n")] {
        let claim = book().claim(text);
        assert_eq!((claim.safe, claim.open), (vec![false; 4], vec![true; 4]));
    }
}

#[test]
fn a_stop_that_leaves_a_byte_is_seen() {
    assert!(book().is_finished(&pos_file(&[(8, 20)])));
    assert!(!book().is_finished(&pos_file(&[(8, 10)])));
    assert!(!book().is_finished(&pos_file(&[(7, 20)])));
    assert!(!book().is_finished(&pos_file(&[(7, 10), (8, 20)])));
}

fn state(numbers: &[u64]) -> State {
    let mut state = State::default();
    for number in numbers {
        let id = LineId {
            writer: WRITER,
            number: *number,
        };
        state.lines.push(id);
        state.distinct.insert(id);
    }
    state
}

#[test]
fn a_missing_line_is_told_though_another_came_twice() {
    let verdict = Verdict::new(&book(), &state(&[0, 1, 3, 3]), Vec::new());
    assert_eq!((verdict.arrived, verdict.missing.len()), (3, 1));
    assert!(!verdict.is_good());
    assert!(verdict.to_string().contains("line-1-00000002"), "{verdict}");
}

#[test]
fn a_line_may_repeat_once_for_each_kill_that_left_it_open() {
    let kill = || Kill {
        claim: book().claim(Some(&pos_file(&[(7, 10)]))),
        ..Kill::default()
    };
    let judged = |numbers: &[u64], kills| Verdict::new(&book(), &state(numbers), kills).is_good();
    assert!(!judged(&[0, 1, 2, 3, 3], vec![]));
    assert!(judged(&[0, 1, 2, 3, 3], vec![kill()]));
    assert!(!judged(&[0, 1, 2, 3, 3, 3], vec![kill()]));
    assert!(judged(&[0, 1, 2, 3, 3, 3], vec![kill(), kill()]));
    assert!(!judged(&[0, 0, 1, 2, 3], vec![kill()]));
}
