//! Which file is which: truncation that grew again, other lives of an inode, names that nobody expected, few descriptors.

use super::*;
use crate::input::FileReport;
use crate::input::tail::state_file;

#[test]
fn a_file_that_was_truncated_and_grew_past_the_position_is_read_from_its_head() {
    let place = Place::new();
    place.append("a.log", "one\ntwo\nthree\n");
    let params = Params {
        // Both changes are seen in one look.
        enable_stat_watcher: false,
        ..place.params("a.log")
    };
    let running = Running::start(params, Arc::default());
    running.expect(&["one", "two", "three"]);
    fs::write(place.at("a.log"), "A\nB\nC\nD\nE\nF\nG\nH\nI\nJ\n").expect("written");
    running.expect_count(13);
    running.close(Phase::Now);
    assert_eq!(place.position("a.log"), Some(20));
}

#[test]
fn a_file_that_was_rewritten_to_the_same_length_is_read_again() {
    let place = Place::new();
    place.append("a.log", "one\ntwo\n");
    let running = Running::start(place.params("a.log"), Arc::default());
    running.expect(&["one", "two"]);
    fs::write(place.at("a.log"), "ONE\nTWO\n").expect("written");
    running.expect(&["one", "two", "ONE", "TWO"]);
    running.close(Phase::Now);
}

#[test]
fn a_file_that_was_rewritten_while_stopped_is_known_by_its_first_bytes() {
    let place = Place::new();
    place.append("a.log", "one\ntwo\n");
    let running = Running::start(place.params("a.log"), Arc::default());
    running.expect(&["one", "two"]);
    running.close(Phase::Now);
    // The same inode; a line begins at the old position.
    fs::write(place.at("a.log"), "abc\ndef\nghi\n").expect("written");
    let running = Running::start(place.params("a.log"), Arc::default());
    running.expect(&["abc", "def", "ghi"]);
    running.close(Phase::Now);
}

#[test]
fn an_empty_or_cut_pos_file_is_made_good_from_its_side_file() {
    for damage in ["", "garbage\n", "/nowhere/a"] {
        let place = Place::new();
        place.append("a.log", "one\n");
        let running = Running::start(place.params("a.log"), Arc::default());
        running.expect(&["one"]);
        running.close(Phase::Now);
        fs::write(place.at("state/app.pos"), damage).expect("written");
        place.append("a.log", "two\n");
        let running = Running::start(place.params("a.log"), Arc::default());
        running.expect(&["two"]);
        running.close(Phase::Now);
        assert_eq!(place.position("a.log"), Some(8));
    }
}

#[test]
fn a_damaged_side_file_is_set_aside_and_nothing_is_lost() {
    let place = Place::new();
    place.append("a.log", "one\n");
    let running = Running::start(place.params("a.log"), Arc::default());
    running.expect(&["one"]);
    running.close(Phase::Now);
    let state = state_file::path_for(&place.at("state/app.pos"));
    fs::write(&state, "{\"affluent\":").expect("written");
    place.append("a.log", "two\n");
    let running = Running::start(place.params("a.log"), Arc::default());
    running.expect(&["two"]);
    running.close(Phase::Now);
    assert!(place.at("state/app.pos.state.damaged").exists());
    assert!(state.exists());
}

#[test]
fn what_is_safe_of_a_newer_generation_is_not_repeated_while_an_older_one_is_unfinished() {
    let place = Place::new();
    let sink = Sink::holding();
    place.append("a.log", "old\n");
    let running = Running::start(place.params("a.log"), sink.clone());
    running.expect(&["old"]);
    let oldest = sink.held();
    place.rename("a.log", "a.log.1");
    place.append("a.log", "new\n");
    running.expect(&["old", "new"]);
    sink.held().into_iter().for_each(Receipt::release);
    running.close(Phase::Now);
    drop(oldest);
    let running = Running::start(place.params("a.log"), Arc::default());
    running.expect(&["old"]);
    place.append("a.log", "newer\n");
    running.expect(&["old", "newer"]);
    running.close(Phase::Now);
}

#[test]
fn generations_under_names_that_nobody_expects_are_found_by_their_renames() {
    let place = Place::new();
    place.append("a.log", "line 0\n");
    let running = Running::start(place.params("a.log"), Arc::default());
    running.expect(&["line 0"]);
    for number in 1..=20 {
        // No tool names them so, and twenty come and go between two looks.
        place.rename("a.log", &format!("moved-{number}.txt"));
        place.append("a.log", &format!("line {number}\n"));
    }
    running.expect_count(21);
    let mut texts = running.sink.texts();
    texts.sort_by_key(|text| text.len());
    texts.dedup();
    assert_eq!(texts.len(), 21);
    running.close(Phase::Now);
}

#[test]
fn more_files_than_descriptors_are_read_in_turns() {
    let place = Place::new();
    let name = |number: usize| format!("file-{number}.log");
    for number in 0..200 {
        place.append(&name(number), &format!("first {number}\n"));
    }
    let mut running = Running::limited(place.params("*.log"), 20);
    running.expect_count(200);
    let open = || {
        fs::read_dir("/proc/self/fd")
            .map(Iterator::count)
            .unwrap_or_default()
    };
    assert!(open() < 500);
    for number in 0..200 {
        place.append(&name(number), &format!("second {number}\n"));
    }
    running.expect_count(400);
    // Rotated while its descriptor was lent.
    place.rename("file-7.log", "file-7.log.1");
    place.append("file-7.log.1", "third 7\n");
    place.append("file-7.log", "fourth 7\n");
    running.expect_count(402);
    let files = running.progress.report();
    assert_eq!(files.len(), 200);
    assert_eq!(files.iter().map(|file| file.totals.lines).sum::<u64>(), 402);
    running = running.stopped(Phase::Now);
    assert_eq!(running.sink.texts().len(), 402);
}

#[test]
fn rotated_files_lend_their_descriptors_too_and_are_read_once_more_before_they_are_given_up() {
    let place = Place::new();
    let name = |number: usize| format!("file-{number}.log");
    (0..60).for_each(|number| place.append(&name(number), "first\n"));
    let params = Params {
        rotate_wait: Time(Duration::from_secs(5)),
        enable_stat_watcher: false,
        ..place.params("*.log")
    };
    let running = Running::limited(params, 20);
    running.expect_count(60);
    for number in 0..60 {
        let rotated = format!("{}.1", name(number));
        place.rename(&name(number), &rotated);
        place.append(&name(number), "second\n");
    }
    let open = || {
        let all = fs::read_dir("/proc/self/fd")
            .into_iter()
            .flatten()
            .flatten();
        let targets = all.filter_map(|entry| fs::read_link(entry.path()).ok());
        let rotated = |path: &PathBuf| {
            path.starts_with(place.dir.path()) && path.extension().is_some_and(|end| end == "1")
        };
        targets.filter(rotated).count()
    };
    running.expect_count(120);
    until("rotated files are lent", || open() < 20);
    (0..60).for_each(|number| place.append(&format!("{}.1", name(number)), "late\n"));
    running.expect_count(180);
    running.close(Phase::Now);
}

#[test]
fn each_line_of_each_file_is_accounted_for_at_any_moment() {
    let place = Place::new();
    let sink = Sink::holding();
    place.append("a.log", "one\nbad\ntwo\n");
    place.append("b.log", "three\nhalf");
    let running = Running::start(place.params("*.log"), sink.clone());
    running.expect_count(3);
    let report = |name: &str| -> FileReport {
        let all = running.progress.report();
        let path = place.at(name);
        all.into_iter()
            .find(|file| file.path == path)
            .expect("followed")
    };
    let a = report("a.log");
    assert_eq!((a.totals.lines, a.totals.bytes), (3, 12));
    assert_eq!((a.totals.safe_lines, a.waiting_lines), (0, 3));
    assert_eq!(a.totals.skipped.unmatched, 1);
    let b = report("b.log");
    assert_eq!((b.totals.lines, b.waiting_lines), (1, 1));
    assert_eq!((b.held_bytes, b.behind_bytes), (4, 0));
    let mut receipts = sink.held();
    receipts.pop().expect("two batches").release();
    receipts.clear();
    let both = [report("a.log").totals, report("b.log").totals];
    let sum = |field: fn(&crate::input::Totals) -> u64| both.iter().map(field).sum::<u64>();
    assert_eq!(sum(|t| t.safe_lines) + sum(|t| t.forgotten_lines), 4);
    assert!(sum(|t| t.safe_lines) > 0 && sum(|t| t.forgotten_lines) > 0);
    running.close(Phase::Now);
}

#[test]
fn lines_of_one_length_that_end_alike_do_not_hide_a_truncation() {
    let place = Place::new();
    let line = |number: u32| format!("{number:08} GET /health HTTP/1.1 200 OK\n");
    let lines = |range: std::ops::Range<u32>| range.map(line).collect::<String>();
    place.append("a.log", &lines(0..5));
    let params = Params {
        // Both changes are seen in one look.
        enable_stat_watcher: false,
        ..place.params("a.log")
    };
    let running = Running::start(params, Arc::default());
    running.expect_count(5);
    fs::write(place.at("a.log"), lines(5..13)).expect("written");
    running.expect_count(13);
    running.close(Phase::Now);
}

#[test]
fn a_file_whose_name_is_not_utf8_is_read_and_gone_on_with() {
    use std::os::unix::ffi::OsStrExt;
    let place = Place::new();
    let path = place
        .at("")
        .join(std::ffi::OsStr::from_bytes(b"caf\xe9.log"));
    fs::write(&path, "one\n").expect("written");
    let running = Running::start(place.params("*.log"), Arc::default());
    running.expect(&["one"]);
    running.close(Phase::Now);
    fs::write(&path, "one\ntwo\n").expect("written");
    let running = Running::start(place.params("*.log"), Arc::default());
    running.expect(&["two"]);
    running.close(Phase::Now);
}

#[test]
fn a_path_with_slashes_too_many_is_followed_and_written_down_as_it_is_configured() {
    let place = Place::new();
    place.append("a.log", "one\n");
    let params = || Params {
        path: format!("{}//./a.log", place.at("").display()),
        ..place.params("a.log")
    };
    let running = Running::start(params(), Arc::default());
    running.expect(&["one"]);
    fs::rename(place.at("a.log"), place.at("a.log.1")).expect("renamed");
    place.append("a.log", "two\n");
    running.expect(&["one", "two"]);
    running.close(Phase::Now);
    let positions = fs::read_to_string(place.at("state/app.pos")).expect("a pos_file");
    assert!(positions.starts_with(&params().path), "{positions}");
}
