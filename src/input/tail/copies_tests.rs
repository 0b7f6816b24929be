//! Copies that are made of a file before it is truncated.

use super::*;

/// Copies a file as logrotate's copytruncate does, and writes the first text of its new life.
fn copytruncate(place: &Place, from: &str, to: &str, next: &str) {
    fs::copy(place.at(from), place.at(to)).expect("copied");
    let file = File::options().write(true).open(place.at(from));
    file.expect("a file").set_len(0).expect("truncated");
    place.append(from, next);
}

/// Starts again, and tells what it read to the end.
fn read_again(place: &Place, pattern: &str) -> Vec<(String, String)> {
    let params = Params {
        tag: "*".into(),
        ..place.params(pattern)
    };
    let again = Running::start(params, Arc::default()).stopped(Phase::AtEnd);
    let lines = again.sink.lines.lock().expect("no panic");
    // The last two parts: the name of a log.
    let short = |tag: &str| {
        let parts: Vec<&str> = tag.rsplitn(3, '.').collect();
        format!("{}.{}", parts[1], parts[0])
    };
    let all = lines.iter().map(|(text, tag)| (text.clone(), short(tag)));
    all.collect()
}

fn texts(lines: &[(String, String)]) -> Vec<&str> {
    lines.iter().map(|(text, _)| text.as_str()).collect()
}

fn read_before(place: &Place, pattern: &str, wanted: &[&str]) {
    let running = Running::start(place.params(pattern), Arc::default());
    running.expect(wanted);
    running.close(Phase::Now);
}

#[test]
fn copytruncate_loses_nothing_that_is_in_the_copy_and_repeats_nothing() {
    for (pattern, copy) in [("a.log", "a.log"), ("a.log*", "a.log"), ("a.log", "odd")] {
        let place = Place::new();
        let running = Running::start(place.params(pattern), Arc::default());
        let mut wanted = Vec::new();
        for round in 1..=10 {
            place.append("a.log", &format!("{round} first\n{round} hal"));
            wanted.push(format!("{round} first"));
            until("it is followed", || {
                running.sink.texts().len() >= wanted.len()
            });
            // Not read yet, as a rule, when the copy is made.
            place.append("a.log", &format!("f\n{round} last\n"));
            wanted.extend([format!("{round} half"), format!("{round} last")]);
            for old in (1..round).rev() {
                place.rename(&format!("{copy}.{old}"), &format!("{copy}.{}", old + 1));
            }
            fs::copy(place.at("a.log"), place.at(&format!("{copy}.1"))).expect("copied");
            let file = File::options().write(true).open(place.at("a.log"));
            file.expect("a file").set_len(0).expect("truncated");
        }
        until("all lines", || running.sink.texts().len() >= wanted.len());
        running.finish(Phase::AtEnd);
        assert_eq!(running.sink.texts(), wanted, "{pattern}");
        running.close(Phase::AtEnd);
        let again = Running::start(place.params(pattern), Arc::default());
        let again = again.stopped(Phase::AtEnd);
        assert_eq!(again.sink.texts(), Vec::<String>::new(), "{pattern}");
    }
}

#[test]
fn copytruncate_while_nobody_runs_loses_nothing_and_repeats_nothing() {
    for (pattern, copies) in [
        ("a.log", ["a.log.2", "a.log.1"]),
        ("a.log*", ["a.log.2", "a.log.1"]),
        ("a*.log", ["a-1.log", "a-2.log"]),
    ] {
        let place = Place::new();
        place.append("a.log", "read\n");
        let running = Running::start(place.params(pattern), Arc::default());
        running.expect(&["read"]);
        place.append("a.log", "hal");
        running.stopped(Phase::Now);
        place.append("a.log", "f\nunread\n");
        for (copy, next) in copies
            .iter()
            .zip(["between\n", "a longer line than before\n"])
        {
            fs::copy(place.at("a.log"), place.at(copy)).expect("copied");
            let file = File::options().write(true).open(place.at("a.log"));
            file.expect("a file").set_len(0).expect("truncated");
            place.append("a.log", next);
        }
        let again = Running::start(place.params(pattern), Arc::default());
        let wanted = ["half", "unread", "between", "a longer line than before"];
        again.expect(&wanted);
        let again = again.stopped(Phase::AtEnd);
        assert_eq!(again.sink.texts(), wanted, "{pattern}");
        let third = Running::start(place.params(pattern), Arc::default());
        assert_eq!(
            third.stopped(Phase::AtEnd).sink.texts(),
            Vec::<String>::new()
        );
    }
}

#[test]
fn a_backup_of_a_file_that_is_not_truncated_is_not_read() {
    let place = Place::new();
    place.append("a.log", "read\n");
    let running = Running::start(place.params("a.log"), Arc::default());
    running.expect(&["read"]);
    running.stopped(Phase::AtEnd);
    place.append("a.log", "unread\n");
    fs::copy(place.at("a.log"), place.at("a.log.1")).expect("copied");
    let again = Running::start(place.params("a.log"), Arc::default());
    assert_eq!(again.stopped(Phase::AtEnd).sink.texts(), ["unread"]);
}

#[test]
fn a_copy_that_begins_as_the_file_does_now_is_read_all_the_same() {
    let place = Place::new();
    place.append("a.log", "#header\nread\n");
    read_before(&place, "a.log", &["#header", "read"]);
    place.append("a.log", "unread\n");
    copytruncate(&place, "a.log", "a.log.2", "#header\nbetween\nand more\n");
    copytruncate(&place, "a.log", "a.log.1", "#header\n");
    let read = read_again(&place, "a.log");
    let wanted = ["unread", "#header", "between", "and more", "#header"];
    assert_eq!(texts(&read), wanted);
}

#[test]
fn a_copy_that_was_begun_before_the_last_look_and_written_after_it_is_read() {
    let place = Place::new();
    place.append("a.log", "read\n");
    place.append("a.log.1", "");
    read_before(&place, "a.log", &["read"]);
    place.append("a.log", "unread\n");
    copytruncate(&place, "a.log", "a.log.1", "new\n");
    assert_eq!(texts(&read_again(&place, "a.log")), ["unread", "new"]);
}

#[test]
fn a_neighbour_that_is_asked_for_is_no_copy() {
    let place = Place::new();
    place.append("worker-1.log", "read\n");
    read_before(&place, "worker-*.log", &["read"]);
    place.append("worker-1.log", "unread\n");
    copytruncate(&place, "worker-1.log", "worker-1.log.1", "new\n");
    place.append("worker-10.log", "other\n");
    let mut read = read_again(&place, "worker-*.log");
    read.sort();
    let wanted = [
        ("new", "worker-1.log"),
        ("other", "worker-10.log"),
        ("unread", "worker-1.log"),
    ];
    let wanted: Vec<(String, String)> = wanted.map(|(a, b)| (a.into(), b.into())).to_vec();
    assert_eq!(read, wanted);
}

#[test]
fn a_copy_made_during_an_image_swap_is_read_on_without_repeating_anything() {
    let place = Place::new();
    place.append("a.log", "read\n");
    let inode =
        std::os::unix::fs::MetadataExt::ino(&fs::metadata(place.at("a.log")).expect("there"));
    // As td-agent leaves it: nothing but path, position and inode.
    let entry = format!(
        "{}\t{:016x}\t{:016x}\n",
        place.params("a.log").path,
        5,
        inode
    );
    fs::write(place.at("state/app.pos"), entry).expect("a pos_file");
    place.append("a.log", "unread\n");
    copytruncate(&place, "a.log", "a.log.1", "new\n");
    assert_eq!(texts(&read_again(&place, "a.log")), ["unread", "new"]);
}
