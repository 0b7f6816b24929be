//! A few rounds of the torture, and its judges.

use std::io::{self, Write};
use std::sync::Arc;
use std::time::{Instant, SystemTime};

use anyhow::{Result, ensure};
use rmpv::Value;

use super::book::{Book, Generation};
use super::chunks;
use super::plan::{Kind, Plan, Storage};
use super::verdict::{Kill, Repeats, Verdict};
use super::writer::WRITER;
use crate::support::agent::binary;
use crate::support::forward_server::{Received, State};
use crate::support::forward_wire::{Carrier, Delivery, Event, Time};
use crate::support::ledger::LineId;

async fn play(kind: Kind, rounds: u64) -> Result<()> {
    let binary = binary()?;
    let seed = fastrand::u64(..);
    for plan in (0..rounds).map(|round| Plan::new(kind, seed.wrapping_add(round))) {
        if let Some(reason) = super::cannot_play(&plan)? {
            // A test runner keeps what macros print.
            writeln!(io::stderr(), "NOT TESTED on a full disk: {reason}")?;
            continue;
        }
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

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn kill_9_at_random_moments_under_rotation_loses_nothing() -> Result<()> {
    play(Kind::Memory, 5).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn kill_9_with_chunks_on_disk_loses_nothing_and_sends_them_again_under_their_ids()
-> Result<()> {
    play(Kind::File, 2).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn kill_9_and_a_start_while_the_disk_is_full_lose_nothing() -> Result<()> {
    play(Kind::Full, 1).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn torn_writes_and_lost_metadata_or_side_files_cost_no_line() -> Result<()> {
    play(Kind::Harmed, 1).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn destroyed_bytes_of_chunks_cost_at_most_the_lines_in_them_and_a_message_names_the_file()
-> Result<()> {
    play(Kind::Wounded, 1).await
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
    let verdict = Verdict::new(&book(), &state(&[0, 1, 3, 3]), Vec::new(), Storage::Memory);
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
    let judged = |numbers: &[u64], kills| {
        Verdict::new(&book(), &state(numbers), kills, Storage::Memory).is_good()
    };
    assert!(!judged(&[0, 1, 2, 3, 3], vec![]));
    assert!(judged(&[0, 1, 2, 3, 3], vec![kill()]));
    assert!(!judged(&[0, 1, 2, 3, 3, 3], vec![kill()]));
    assert!(judged(&[0, 1, 2, 3, 3, 3], vec![kill(), kill()]));
    assert!(!judged(&[0, 0, 1, 2, 3], vec![kill()]));
}

/// Deliveries, each a chunk id and the lines in it.
fn delivered(chunks: &[(&str, &[u64])]) -> State {
    let mut state = State::default();
    for (chunk, numbers) in chunks {
        let event = |number: &u64| {
            let id = LineId {
                writer: WRITER,
                number: *number,
            };
            Event {
                time: Time::Integer(1),
                record: Value::Map(vec![("message".into(), id.line(60).into())]),
            }
        };
        state.lines.extend(self::state(numbers).lines);
        state.deliveries.push(Received {
            delivery: Arc::new(Delivery {
                tag: "own".to_owned(),
                carrier: Carrier::Forward,
                events: numbers.iter().map(event).collect(),
                chunk: Some((*chunk).into()),
                size: None,
                compressed: None,
                wire_length: 0,
            }),
            at: Instant::now(),
            acked: true,
        });
    }
    state
}

fn judged_on_disk(chunks: &[(&str, &[u64])], kill: Kill) -> Verdict {
    Verdict::new(&book(), &delivered(chunks), vec![kill], Storage::File)
}

#[test]
fn with_chunks_on_disk_a_line_may_repeat_in_a_known_chunk_and_else_only_where_the_kill_says_so() {
    let kill = |repeats| Kill {
        claim: book().claim(Some(&pos_file(&[(7, 10)]))),
        repeats,
        ..Kill::default()
    };
    let again: &[(&str, &[u64])] = &[("a", &[0, 1]), ("a", &[0, 1]), ("b", &[2, 3])];
    let anew: &[(&str, &[u64])] = &[("a", &[0, 1]), ("b", &[1, 2, 3])];
    assert!(judged_on_disk(again, kill(Repeats::Nothing)).is_good());
    assert!(judged_on_disk(anew, kill(Repeats::LeftOpen)).is_good());
    let verdict = judged_on_disk(anew, kill(Repeats::Nothing));
    assert_eq!(verdict.unexplained.len(), 1, "{verdict}");
}

#[test]
fn a_known_chunk_with_new_lines_in_it_is_seen() {
    let grown: &[(&str, &[u64])] = &[("a", &[0, 1]), ("a", &[0, 1, 2]), ("b", &[3])];
    let verdict = judged_on_disk(grown, Kill::default());
    assert_eq!(verdict.faults.len(), 1, "{verdict}");
}

#[test]
fn a_chunk_in_flight_that_does_not_come_again_is_seen() {
    let kill = || Kill {
        in_flight: vec!["\"a\"".to_owned()],
        stays: true,
        ..Kill::default()
    };
    let rest: (&str, &[u64]) = ("b", &[2, 3]);
    assert!(judged_on_disk(&[("a", &[0, 1]), ("a", &[0, 1]), rest], kill()).is_good());
    assert!(!judged_on_disk(&[("a", &[0, 1]), rest], kill()).is_good());
}

#[test]
fn chunks_are_told_from_what_stands_beside_them() -> Result<()> {
    let place = tempfile::tempdir()?;
    let id = "660d594200885010eead92f8e879e0bd";
    let chunks = [format!("buffer.b{id}.log"), format!("fsb.own.q{id}.buf")];
    let others = [
        format!("buffer.b{id}.log.meta"),
        format!("buffer.b{id}.log.broken"),
        format!("buffer.{id}.affluent"),
        format!("buffer.{id}.part"),
        "buffer.lock".to_owned(),
    ];
    for name in chunks.iter().chain(&others) {
        std::fs::write(place.path().join(name), "")?;
    }
    assert_eq!(chunks::read(place.path())?.len(), chunks.len());
    Ok(())
}

#[test]
fn lines_are_found_in_chunks_as_far_as_they_are_whole() {
    let line = |number| {
        let writer = WRITER;
        LineId { writer, number }.line(80)
    };
    let data = format!(
        "\u{92}{}\u{1}\u{92}{}\u{2}{}",
        line(7),
        line(8),
        &line(9)[..70]
    );
    let found = chunks::lines(data.as_bytes());
    let numbers: Vec<_> = found.iter().map(|held| held.number).collect();
    assert_eq!(numbers, [7, 8]);
    assert!(data[..found[0].end].ends_with(&line(7)));
}
