//! A tail source on real files, with a collector that plays the rest of the agent.

use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use super::*;
use crate::config::Config;
use crate::config::types::{Size, Time};
use crate::event::{
    Collector, Entries, EventStream, EventTime, Receipt, Room, Tag, msgpack, record,
};
use crate::input::Progress;
use crate::parse::{Extra, Parsed, multiline::Joining};
use crate::stop::{Phase, Stop};

#[path = "copies_tests.rs"]
mod copied;
#[path = "identity_tests.rs"]
mod identity;
#[path = "measure_tests.rs"]
mod measure;
#[path = "params_tests.rs"]
mod params_effects;
#[path = "rotation_tests.rs"]
mod rotation;

/// `{"message": text}`; texts with "bad" in them do not match.
/// Joins lines as the parser in it does.
struct Message(Option<Box<dyn Parser>>);

impl Parser for Message {
    fn parse(
        &mut self,
        text: &[u8],
        now: EventTime,
        extra: Extra<'_>,
        batch: &mut Entries,
    ) -> Parsed {
        if memchr::memmem::find(text, b"bad").is_some() {
            return Parsed::Unmatched;
        }
        match extra.field {
            None => batch.push_single(&msgpack::single_field_prefix(now, "message"), text),
            Some((key, path)) => {
                let mut record = batch.begin(now);
                record.bin("message", text);
                record.str(key, path);
                record.finish();
            }
        }
        Parsed::Events(1)
    }

    fn joining(&self) -> Option<&Joining> {
        self.0.as_ref()?.joining()
    }
}

#[derive(Default)]
struct Sink {
    lines: Mutex<Vec<(String, String)>>,
    /// The last entry, as it goes out.
    last: Mutex<Vec<u8>>,
    receipts: Mutex<Vec<Receipt>>,
    batches: AtomicUsize,
    holds: AtomicBool,
    full: AtomicBool,
}

impl Collector for Sink {
    fn room(&self, _tag: &Tag) -> Room {
        if self.full.load(Ordering::SeqCst) {
            Room::Full
        } else {
            Room::Ready
        }
    }

    fn emit(&self, stream: EventStream) {
        let mut lines = self.lines.lock().expect("no panic");
        self.batches.fetch_add(1, Ordering::SeqCst);
        let mut count = 0;
        for entry in msgpack::entries(&stream.entries) {
            let record = entry.expect("whole entries").record;
            *self.last.lock().expect("no panic") = record.to_vec();
            let text = record::find_text(record, "message")
                .or(record::find_text(record, "unmatched_line"));
            let path = record::find_text(record, "path").unwrap_or_default();
            let text = String::from_utf8_lossy(text.expect("a text")).into_owned();
            lines.push((
                text,
                format!("{}{}", stream.tag, String::from_utf8_lossy(path)),
            ));
            count += 1;
        }
        assert_eq!(count, stream.count);
        if self.holds.load(Ordering::SeqCst) {
            self.receipts.lock().expect("no panic").push(stream.receipt);
        } else {
            stream.receipt.release();
        }
    }
}

impl Sink {
    fn texts(&self) -> Vec<String> {
        self.lines
            .lock()
            .expect("no panic")
            .iter()
            .map(|(text, _)| text.clone())
            .collect()
    }

    fn holding() -> Arc<Sink> {
        let sink = Sink::default();
        sink.holds.store(true, Ordering::SeqCst);
        Arc::new(sink)
    }

    fn held(&self) -> Vec<Receipt> {
        std::mem::take(&mut *self.receipts.lock().expect("no panic"))
    }
}

fn until(what: &str, mut condition: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(30);
    while !condition() {
        assert!(Instant::now() < deadline, "never: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

struct Running {
    sink: Arc<Sink>,
    stop: Stop,
    progress: Arc<Progress>,
    finished: Arc<AtomicUsize>,
    thread: Option<JoinHandle<anyhow::Result<()>>>,
}

impl Running {
    fn start(params: Params, sink: Arc<Sink>) -> Running {
        Running::with(params, Message(None), sink)
    }

    /// With so few descriptors.
    fn limited(params: Params, open_files: usize) -> Running {
        let mut input = Tail::new(params, Box::new(Message(None)));
        input.limit_open_files(open_files);
        Running::of(Box::new(input), Arc::default())
    }

    fn with(params: Params, parser: Message, sink: Arc<Sink>) -> Running {
        Running::of(Box::new(Tail::new(params, Box::new(parser))), sink)
    }

    /// A source as the configuration has it.
    fn configured(text: &str, sink: Arc<Sink>) -> Running {
        let configured = super::configure(&section(text)).map_err(|errors| errors.to_string());
        Running::of(configured.expect("a good section").input, sink)
    }

    fn of(input: Box<dyn Input>, sink: Arc<Sink>) -> Running {
        let (stop, progress) = (Stop::new(), Arc::new(Progress::default()));
        let finished = Arc::new(AtomicUsize::new(0));
        let counter = finished.clone();
        let surroundings = Surroundings {
            collector: sink.clone(),
            hasten: Arc::new(|| {}),
            recalled: Arc::default(),
            started: Arc::new(|| {}),
            stop: stop.clone(),
            progress: progress.clone(),
            finished: Arc::new(move || {
                counter.fetch_add(1, Ordering::SeqCst);
            }),
        };
        let thread = std::thread::spawn(move || input.run(surroundings));
        Running {
            sink,
            stop,
            progress,
            finished,
            thread: Some(thread),
        }
    }

    fn expect(&self, wanted: &[&str]) {
        let deadline = Instant::now() + Duration::from_secs(30);
        while self.sink.texts() != wanted {
            assert!(
                Instant::now() < deadline,
                "wanted {wanted:?}, got {:?}",
                self.sink.texts()
            );
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    fn expect_count(&self, count: usize) {
        let len = || self.sink.lines.lock().expect("no panic").len();
        until(&format!("{count} lines"), || len() >= count);
        assert_eq!(len(), count);
    }

    fn finish(&self, phase: Phase) {
        self.stop.advance(phase);
        until("finished", || self.finished.load(Ordering::SeqCst) == 1);
    }

    fn close(self, phase: Phase) {
        self.stopped(phase);
    }

    fn stopped(mut self, phase: Phase) -> Running {
        self.finish(phase);
        self.stop.advance(Phase::Close);
        let thread = self.thread.take().expect("closed once");
        thread.join().expect("no panic").expect("no error");
        assert_eq!(self.finished.load(Ordering::SeqCst), 1);
        self
    }
}

struct Place {
    dir: tempfile::TempDir,
}

impl Place {
    fn new() -> Place {
        Place {
            dir: tempfile::tempdir().expect("a directory"),
        }
    }

    fn at(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn append(&self, name: &str, text: &(impl AsRef<[u8]> + ?Sized)) {
        let mut file = OpenOptions::new()
            .append(true)
            .create(true)
            .open(self.at(name))
            .expect("a file");
        file.write_all(text.as_ref()).expect("written");
    }

    fn rename(&self, from: &str, to: &str) {
        fs::rename(self.at(from), self.at(to)).expect("renamed");
    }

    fn params(&self, path: &str) -> Params {
        fs::create_dir_all(self.at("state")).expect("a directory");
        Params {
            path: self.at(path).to_string_lossy().into_owned(),
            tag: "app".into(),
            pos_file: Some(self.at("state/app.pos")),
            read_from_head: true,
            rotate_wait: Time(Duration::ZERO),
            refresh_interval: Time(Duration::from_secs(60)),
            ..Params::default()
        }
    }

    fn positions(&self) -> Vec<(PathBuf, u64)> {
        let text = fs::read(self.at("state/app.pos")).unwrap_or_default();
        let entries = pos_file::parse(&text).entries;
        entries
            .into_iter()
            .map(|entry| (entry.path, entry.position))
            .collect()
    }

    fn position(&self, name: &str) -> Option<u64> {
        let path = self.at(name);
        self.positions()
            .into_iter()
            .find(|(known, _)| *known == path)
            .map(|(_, position)| position)
    }
}

#[test]
fn lines_arrive_as_they_are_written_and_positions_follow_their_receipts() {
    let place = Place::new();
    place.append("a.log", "one\ntwo\r\n\nhal");
    let running = Running::start(place.params("a.log"), Sink::holding());
    running.expect(&["one", "two", ""]);
    place.append("a.log", "f\n");
    running.expect(&["one", "two", "", "half"]);
    until("two batches", || {
        running.sink.receipts.lock().expect("no panic").len() == 2
    });
    let mut receipts = running.sink.held();
    receipts.pop().expect("the second").release();
    until("the first positions", || place.position("a.log").is_some());
    assert_eq!(place.position("a.log"), Some(0));
    receipts.pop().expect("the first").release();
    until("both are safe", || place.position("a.log") == Some(15));
    assert_eq!(Progress::read(&running.progress.lines), 4);
    running.close(Phase::Now);
}

#[test]
fn a_new_file_that_a_pattern_matches_is_read_from_its_head() {
    let place = Place::new();
    let params = Params {
        tag: "x.*".into(),
        read_from_head: false,
        ..place.params("*.log")
    };
    place.append("a.log", "old\n");
    let running = Running::start(params, Arc::default());
    until("the first look is done", || {
        Progress::read(&running.progress.files) == 1
    });
    place.append("b.log", "one\n");
    running.expect(&["one"]);
    let tag = running.sink.lines.lock().expect("no panic")[0].1.clone();
    assert!(tag.starts_with("x.") && tag.ends_with(".b.log"), "{tag}");
    assert!(!tag.contains('/') && !tag.contains(".."), "{tag}");
    running.close(Phase::Now);
}

#[test]
fn a_full_collector_leaves_the_lines_in_the_file() {
    let place = Place::new();
    let running = Running::start(place.params("a.log"), Arc::default());
    running.sink.full.store(true, Ordering::SeqCst);
    place.append("a.log", "one\n");
    until("the file is open", || {
        Progress::read(&running.progress.files) == 1
    });
    until("the file is behind", || {
        Progress::read(&running.progress.behind) == 4
    });
    place.rename("a.log", "a.log.1");
    place.append("a.log", "two\n");
    until("both are open", || {
        Progress::read(&running.progress.files) == 2
    });
    assert!(running.sink.texts().is_empty());
    running.sink.full.store(false, Ordering::SeqCst);
    running.expect(&["one", "two"]);
    running.close(Phase::Now);
}

#[test]
fn reading_ahead_of_what_is_safe_is_bounded() {
    let place = Place::new();
    let line = format!("{}\n", "x".repeat(999));
    place.append("a.log", &line.repeat(1000));
    let sink = Sink::holding();
    let (stop, progress) = (Stop::new(), Arc::new(Progress::default()));
    let mut input: Box<dyn Input> =
        Box::new(Tail::new(place.params("a.log"), Box::new(Message(None))));
    input.limit_read_ahead(100_000);
    let surroundings = Surroundings {
        collector: sink.clone(),
        hasten: Arc::new(|| {}),
        recalled: Arc::default(),
        started: Arc::new(|| {}),
        stop: stop.clone(),
        progress,
        finished: Arc::new(|| ()),
    };
    let thread = std::thread::spawn(move || input.run(surroundings));
    let mut seen = 0;
    until("all lines, a bound at a time", || {
        let held = sink.held();
        let lines = sink.texts().len();
        assert!(
            lines - seen <= 100 + (1 << 20) / 1000,
            "{} lines at once",
            lines - seen
        );
        seen = lines;
        held.into_iter().for_each(Receipt::release);
        lines == 1000
    });
    stop.advance(Phase::Close);
    thread.join().expect("no panic").expect("no error");
    assert!(sink.batches.load(Ordering::SeqCst) > 1);
}

#[test]
fn lines_that_do_not_parse_or_are_too_long_are_skipped_and_passed() {
    let place = Place::new();
    place.append("a.log", "good\nbad\nfar too long a line\n");
    let params = Params {
        max_line_size: Some(Size(10)),
        ..place.params("a.log")
    };
    let running = Running::start(params.clone(), Arc::default());
    running.expect(&["good"]);
    until("skipped lines are passed", || {
        place.position("a.log") == Some(29)
    });
    assert_eq!(Progress::read(&running.progress.skipped), 2);
    running.close(Phase::Now);
    place.append("a.log", "bad\n");
    let params = Params {
        emit_unmatched_lines: true,
        path_key: Some("path".into()),
        ..params
    };
    let again = Running::start(params, Arc::default());
    again.expect(&["bad"]);
    let wanted = format!("app{}", place.at("a.log").display());
    assert_eq!(again.sink.lines.lock().expect("no panic")[0].1, wanted);
    again.close(Phase::Now);
}

fn section(text: &str) -> Element {
    let config = Config::from_text(text).expect("a configuration");
    config.root().children().next().expect("a section").clone()
}

fn joined_by_first_lines() -> Message {
    let parse = section(
        "<parse>\n@type multiline\nformat_firstline /^\\S/\nformat1 /^(?<message>.*)/\n</parse>\n",
    );
    Message(Some(parse::configure(&parse).expect("a parser")))
}

#[test]
fn a_held_text_is_not_passed_until_the_next_one_begins() {
    let place = Place::new();
    place.append("a.log", "one\n at x\n at y\ntwo\n at");
    let running = Running::with(
        place.params("a.log"),
        joined_by_first_lines(),
        Arc::default(),
    );
    running.expect(&["one\n at x\n at y"]);
    until("the first text is safe", || {
        place.position("a.log") == Some(16)
    });
    place.append("a.log", " z\nthree\n");
    running.expect(&["one\n at x\n at y", "two\n at z"]);
    running.finish(Phase::AtEnd);
    running.expect(&["one\n at x\n at y", "two\n at z", "three"]);
    running.close(Phase::AtEnd);
}

#[test]
fn a_held_text_is_flushed_when_no_line_follows() {
    let place = Place::new();
    place.append("a.log", "one\n at x\n");
    let params = Params {
        multiline_flush_interval: Some(Time(Duration::from_millis(100))),
        ..place.params("a.log")
    };
    let running = Running::with(params, joined_by_first_lines(), Arc::default());
    running.expect(&["one\n at x"]);
    until("it is passed", || place.position("a.log") == Some(10));
    running.close(Phase::Now);
}

#[test]
fn a_directory_under_the_pattern_is_no_file() {
    let place = Place::new();
    fs::create_dir(place.at("d.log")).expect("a directory");
    place.append("a.log", "one\n");
    let running = Running::start(place.params("*.log"), Arc::default());
    running.expect(&["one"]);
    running.close(Phase::AtEnd);
}

#[test]
fn a_pos_file_has_one_owner() {
    let place = Place::new();
    let running = Running::start(place.params("a.log"), Arc::default());
    until("the lock", || place.at("state/app.pos.lock").exists());
    let other = Tail::new(place.params("b.log"), Box::new(Message(None)));
    let surroundings = Surroundings {
        collector: Arc::new(Sink::default()),
        hasten: Arc::new(|| {}),
        recalled: Arc::default(),
        started: Arc::new(|| {}),
        stop: Stop::new(),
        progress: Arc::default(),
        finished: Arc::new(|| ()),
    };
    until("refused", || {
        Path::new(&place.at("state/app.pos.lock"))
            .metadata()
            .is_ok_and(|meta| meta.len() > 0)
    });
    let error = Box::new(other)
        .run(surroundings)
        .expect_err("one owner only");
    assert!(format!("{error:#}").contains("app.pos"), "{error:#}");
    running.close(Phase::Now);
}

#[test]
fn a_source_of_the_old_dialect_is_configured_with_its_flat_parser_parameters() {
    let place = Place::new();
    let text = format!(
        "<source>\ntype tail\npath {}\npos_file {}\ntag app\nformat none\nread_from_head\nrotate_wait 2s\n</source>\n",
        place.at("a.log").display(),
        place.at("a.pos").display()
    );
    let configured = super::super::configure(&section(&text)).map_err(|errors| errors.to_string());
    let input = configured.expect("configured").input;
    assert_eq!(input.pos_file(), Some(place.at("a.pos").as_path()));
}

#[test]
fn everything_that_is_wrong_is_told_in_one_run() {
    let place = Place::new();
    let text = format!(
        "<source>\n@type tail\npos_file {}\npath_timezone Nowhere/City\nfrom_encoding EUC-JP\n<parse>\n@type none\n</parse>\n</source>\n",
        place.dir.path().display(),
    );
    let errors = super::super::configure(&section(&text))
        .err()
        .expect("errors")
        .to_string();
    for word in [
        "path",
        "tag",
        "pos_file",
        "os error 21",
        "path_timezone",
        "from_encoding",
    ] {
        assert!(errors.contains(word), "{word} in {errors}");
    }
}
