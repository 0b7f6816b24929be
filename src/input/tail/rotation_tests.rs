//! Rotation, truncation, restart and the end.

use super::*;

#[test]
fn a_renamed_file_is_read_to_its_end_and_the_new_one_from_its_head() {
    let place = Place::new();
    place.append("a.log", "one\n");
    let params = Params {
        rotate_wait: Time(Duration::from_secs(60)),
        ..place.params("a.log")
    };
    let running = Running::start(params, Arc::default());
    running.expect(&["one"]);
    place.rename("a.log", "a.log.1");
    place.append("a.log", "three\n");
    running.expect(&["one", "three"]);
    place.append("a.log.1", "late\n");
    running.expect(&["one", "three", "late"]);
    running.close(Phase::Now);
    assert_eq!(place.position("a.log"), Some(6));
}

#[test]
fn five_renames_without_a_pause_lose_nothing_and_repeat_nothing() {
    let place = Place::new();
    place.append("a.log", "0\n");
    let running = Running::start(place.params("a.log"), Arc::default());
    running.expect(&["0"]);
    for round in 1..=5 {
        place.append("a.log", &format!("{round} before\n"));
        for old in (1..round).rev() {
            place.rename(&format!("a.log.{old}"), &format!("a.log.{}", old + 1));
        }
        place.rename("a.log", "a.log.1");
        place.append("a.log", &format!("{round} after\n"));
    }
    place.append("a.log", "last\n");
    running.expect_count(12);
    let mut texts = running.sink.texts();
    texts.sort();
    texts.dedup();
    assert_eq!(texts.len(), 12, "{texts:?}");
    running.close(Phase::AtEnd);
}

#[test]
fn a_rotated_name_that_matches_the_pattern_is_not_read_twice() {
    let place = Place::new();
    place.append("a.log", "one\n");
    let params = place.params("a.log*");
    let running = Running::start(params.clone(), Arc::default());
    running.expect(&["one"]);
    place.rename("a.log", "a.log.1");
    place.append("a.log", "two\n");
    running.expect(&["one", "two"]);
    until("the rotated file is known by its name", || {
        place.position("a.log.1") == Some(4)
    });
    place.rename("a.log.1", "a.log.2");
    place.rename("a.log", "a.log.1");
    place.append("a.log", "three\n");
    running.expect(&["one", "two", "three"]);
    running.close(Phase::AtEnd);
    let again = Running::start(params, Arc::default());
    place.append("a.log", "four\n");
    again.expect(&["four"]);
    again.close(Phase::AtEnd);
}

#[test]
fn a_rotated_file_with_an_entry_of_its_own_goes_on_there_though_a_new_path_searches_what_came_and_went()
 {
    let place = Place::new();
    place.append("a.log.1", "one\n");
    let running = Running::start(place.params("a.log*"), Arc::default());
    running.expect(&["one"]);
    running.close(Phase::AtEnd);
    // Rotated once more while nobody looked, and written to, so that it is young enough for the search.
    place.rename("a.log.1", "a.log.2");
    place.append("a.log.2", "late\n");
    place.append("a.log", "two\n");
    let again = Running::start(place.params("a.log*"), Arc::default());
    again.expect_count(2);
    again.close(Phase::AtEnd);
}

#[test]
fn a_generation_between_two_unfinished_ones_is_found_though_the_run_that_knew_them_missed_it() {
    let place = Place::new();
    place.append("a.log", "oldest\n");
    let running = Running::start(place.params("a.log"), Sink::holding());
    running.expect(&["oldest"]);
    running.close(Phase::Now);
    place.rename("a.log", "a.log.2");
    // Its name moved while the directory was listed: the run did not see it.
    place.append("unseen", "between\n");
    let born = |name: &str| fs::metadata(place.at(name)).expect("a file").created().ok();
    until("the clock of the file system has moved", || {
        place.append("probe", "");
        let moved = born("probe") > born("unseen") || born("probe").is_none();
        fs::remove_file(place.at("probe")).expect("removed");
        moved
    });
    place.append("a.log", "youngest\n");
    let running = Running::start(place.params("a.log"), Sink::holding());
    running.expect_count(2);
    running.close(Phase::Now);
    place.rename("a.log.2", "a.log.3");
    place.rename("unseen", "a.log.2");
    place.rename("a.log", "a.log.1");
    place.append("a.log", "new\n");
    let running = Running::start(place.params("a.log"), Arc::default());
    running.expect_count(4);
    running.close(Phase::Now);
}

#[test]
fn a_search_that_a_stop_cut_off_goes_on_at_the_next_start() {
    let place = Place::new();
    place.append("a.log", "oldest\n");
    let running = Running::start(place.params("a.log"), Sink::holding());
    running.expect(&["oldest"]);
    running.close(Phase::Now);
    place.rename("a.log", "a.log.1");
    place.append("unseen", "between\n");
    place.append("a.log", "youngest\n");
    // All that it found is safe when it ends.
    let running = Running::start(place.params("a.log"), Arc::default());
    running.expect_count(2);
    running.close(Phase::Now);
    place.rename("a.log.1", "a.log.2");
    place.rename("unseen", "a.log.1");
    let running = Running::start(place.params("a.log"), Arc::default());
    running.expect(&["between"]);
    running.close(Phase::Now);
}

#[test]
fn a_truncated_file_is_read_from_its_head() {
    let place = Place::new();
    place.append("a.log", "one\ntwo\n");
    let running = Running::start(place.params("a.log"), Sink::holding());
    running.expect(&["one", "two"]);
    File::options()
        .write(true)
        .open(place.at("a.log"))
        .expect("a file")
        .set_len(0)
        .expect("truncated");
    until("the truncation is seen", || {
        place.position("a.log") == Some(0)
    });
    place.append("a.log", "three\n");
    running.expect(&["one", "two", "three"]);
    running.sink.held().into_iter().for_each(Receipt::release);
    until("the new life's position", || {
        place.position("a.log") == Some(6)
    });
    running.close(Phase::Now);
}

#[test]
fn an_entry_whose_path_cannot_be_read_now_is_kept() {
    let place = Place::new();
    let params = place.params("a.log");
    fs::create_dir(place.at("a.log")).expect("a directory");
    let entry = format!("{}\t{:016x}\t{:016x}\n", params.path, 7, 1_u64 << 40);
    fs::write(place.at("state/app.pos"), entry).expect("a pos_file");
    until("the directory is steady", || {
        let changed = fs::metadata(place.dir.path()).and_then(|meta| meta.modified());
        let age = changed.expect("a time").elapsed();
        age.is_ok_and(|age| age > Duration::from_millis(100))
    });
    Running::start(params, Arc::default()).close(Phase::Now);
    assert_eq!(place.position("a.log"), Some(7));
}

#[test]
fn a_file_that_begins_like_another_is_read_at_the_end() {
    let place = Place::new();
    place.append("a.log", "same\n");
    let running = Running::start(place.params("a.log*"), Arc::default());
    running.expect(&["same"]);
    place.append("a.log.1", "same\nbut no copy\n");
    let mut texts = running.stopped(Phase::AtEnd).sink.texts();
    texts.sort();
    assert_eq!(texts, ["but no copy", "same", "same"]);
}

#[test]
fn only_the_very_first_start_skips_what_is_there() {
    let place = Place::new();
    place.append("a.log", "old\n");
    let params = Params {
        read_from_head: false,
        ..place.params("*.log")
    };
    let running = Running::start(params.clone(), Arc::default());
    until("the position", || place.position("a.log") == Some(4));
    place.append("a.log", "new\n");
    running.expect(&["new"]);
    running.close(Phase::Now);
    place.append("b.log", "made while stopped\n");
    let again = Running::start(params, Arc::default());
    again.expect(&["made while stopped"]);
    again.close(Phase::Now);
}

#[test]
fn a_restart_goes_on_where_the_last_run_was_safe() {
    let place = Place::new();
    place.append("a.log", "one\ntwo\n");
    let first = Running::start(place.params("a.log"), Arc::default());
    first.expect(&["one", "two"]);
    first.close(Phase::Now);
    place.append("a.log", "three\n");
    let second = Running::start(place.params("a.log"), Arc::default());
    second.expect(&["three"]);
    second.close(Phase::Now);
    assert_eq!(place.position("a.log"), Some(14));
}

#[test]
fn what_was_forgotten_is_read_again_after_a_restart() {
    let place = Place::new();
    place.append("a.log", "one\n");
    let first = Running::start(place.params("a.log"), Arc::default());
    first.expect(&["one"]);
    first.sink.holds.store(true, Ordering::SeqCst);
    place.append("a.log", "two\n");
    first.expect(&["one", "two"]);
    drop(first.sink.held());
    first.sink.holds.store(false, Ordering::SeqCst);
    place.append("a.log", "three\n");
    first.expect(&["one", "two", "three"]);
    first.close(Phase::Now);
    assert_eq!(place.position("a.log"), Some(4));
    let second = Running::start(place.params("a.log"), Arc::default());
    second.expect(&["two", "three"]);
    second.close(Phase::Now);
}

#[test]
fn a_file_rotated_while_stopped_is_finished_under_its_new_name() {
    let place = Place::new();
    place.append("a.log", "one\n");
    let first = Running::start(place.params("a.log"), Arc::default());
    first.expect(&["one"]);
    first.close(Phase::Now);
    place.append("a.log", "two\n");
    place.rename("a.log", "a.log.2");
    place.append("a.log.1", "three\n");
    place.append("a.log", "four\n");
    let second = Running::start(place.params("a.log"), Arc::default());
    second.expect_count(3);
    let mut texts = second.sink.texts();
    texts.sort();
    assert_eq!(texts, ["four", "three", "two"]);
    second.close(Phase::AtEnd);
    assert_eq!(place.position("a.log"), Some(5));
}

#[test]
fn the_pos_file_names_the_oldest_unfinished_generation() {
    let place = Place::new();
    place.append("a.log", "one\n");
    let running = Running::start(place.params("a.log"), Sink::holding());
    running.expect(&["one"]);
    place.rename("a.log", "a.log.1");
    place.append("a.log", "second\n");
    running.expect(&["one", "second"]);
    let mut receipts = running.sink.held();
    receipts.pop().expect("of the new file").release();
    until("positions are written", || {
        place.position("a.log").is_some()
    });
    assert_eq!(place.position("a.log"), Some(0));
    receipts.pop().expect("of the old file").release();
    until("the new file's position", || {
        place.position("a.log") == Some(7)
    });
    running.close(Phase::Now);
}

#[test]
fn a_file_that_is_deleted_unread_is_read_to_its_end() {
    let place = Place::new();
    let running = Running::start(place.params("a.log"), Arc::default());
    running.sink.full.store(true, Ordering::SeqCst);
    place.append("a.log", "one\n");
    until("the file is open", || {
        Progress::read(&running.progress.files) == 1
    });
    fs::remove_file(place.at("a.log")).expect("removed");
    running.sink.full.store(false, Ordering::SeqCst);
    running.expect(&["one"]);
    until("the file is closed", || {
        Progress::read(&running.progress.files) == 0
    });
    place.append("a.log", "two\n");
    running.expect(&["one", "two"]);
    running.close(Phase::Now);
}

#[test]
fn at_the_end_everything_is_read_and_the_unfinished_line_too() {
    let place = Place::new();
    place.append("a.log", "one\nunfinished");
    let running = Running::start(place.params("*.log"), Arc::default());
    running.expect(&["one"]);
    running.sink.full.store(true, Ordering::SeqCst);
    place.append("b.log", "two\n");
    running.stop.advance(Phase::AtEnd);
    until("the new file is found", || {
        Progress::read(&running.progress.files) == 2
    });
    assert_eq!(running.finished.load(Ordering::SeqCst), 0);
    running.sink.full.store(false, Ordering::SeqCst);
    running.finish(Phase::AtEnd);
    let mut texts = running.sink.texts();
    texts.sort();
    assert_eq!(texts, ["one", "two", "unfinished"]);
    running.close(Phase::AtEnd);
    assert_eq!(place.position("a.log"), Some(14));
}

#[test]
fn a_stop_leaves_the_unfinished_line_for_the_next_start() {
    let place = Place::new();
    place.append("a.log", "one\nunfin");
    let first = Running::start(place.params("a.log"), Arc::default());
    first.expect(&["one"]);
    first.close(Phase::Now);
    assert_eq!(place.position("a.log"), Some(4));
    place.append("a.log", "ished\n");
    let second = Running::start(place.params("a.log"), Arc::default());
    second.expect(&["unfinished"]);
    second.close(Phase::Now);
}

#[test]
fn a_known_generation_that_grew_while_stopped_is_not_repeated_beside_a_new_file() {
    let place = Place::new();
    place.append("a.log.1", "one\n");
    let first = Running::start(place.params("a.log*"), Arc::default());
    first.expect(&["one"]);
    first.close(Phase::Now);
    place.append("a.log.1", "two\n");
    place.append("a.log", "three\n");
    let second = Running::start(place.params("a.log*"), Arc::default());
    second.expect_count(2);
    let mut texts = second.sink.texts();
    texts.sort();
    assert_eq!(texts, ["three", "two"]);
    second.close(Phase::Now);
}
