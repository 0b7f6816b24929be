use std::sync::Mutex;

use bytes::Bytes;

use super::copy::Copy;
use super::relabel::Relabel;
use super::*;
use crate::event::{Creditor, Receipt};
use crate::filter::Filtered;

#[derive(Default)]
struct Sink {
    taken: Mutex<Vec<(String, usize)>>,
    full: bool,
}

impl Collector for Sink {
    fn room(&self, _tag: &Tag) -> Room {
        if self.full { Room::Full } else { Room::Ready }
    }
    fn emit(&self, stream: EventStream) {
        self.taken
            .lock()
            .expect("whole")
            .push((stream.tag.to_string(), stream.count));
        stream.receipt.release();
    }
}

impl Sink {
    fn taken(&self) -> Vec<(String, usize)> {
        self.taken.lock().expect("whole").clone()
    }
}

/// Lets so many events of each batch through.
struct Only(usize);

impl Filter for Only {
    fn apply(&self, _tag: &Tag, entries: Bytes, count: usize) -> Filtered {
        Filtered {
            entries,
            count: count.min(self.0),
        }
    }
}

#[derive(Default)]
struct Book(Mutex<Vec<bool>>);

impl Creditor for Book {
    fn safe(&self, _batch: u64) {
        self.0.lock().expect("whole").push(true);
    }
    fn forgotten(&self, _batch: u64) {
        self.0.lock().expect("whole").push(false);
    }
}

fn to(pattern: &str, sink: &Arc<Sink>) -> Rule {
    Rule {
        pattern: Pattern::new(pattern).expect("compiles"),
        action: Action::Match(sink.clone()),
    }
}

fn through(pattern: &str, keep: usize) -> Rule {
    Rule {
        pattern: Pattern::new(pattern).expect("compiles"),
        action: Action::Filter(Arc::new(Only(keep))),
    }
}

fn batch(tag: &str, count: usize, receipt: Receipt) -> EventStream {
    EventStream {
        tag: Tag::new(tag),
        entries: Bytes::from_static(b"x"),
        count,
        receipt,
    }
}

#[test]
fn the_first_match_takes_it_and_filters_behind_it_never_apply() {
    let (first, second) = (Arc::new(Sink::default()), Arc::new(Sink::default()));
    let router = Router::new(
        "ROOT",
        vec![
            through("a.**", 5),
            to("a.b", &first),
            through("**", 0),
            to("**", &second),
        ],
    );
    router.emit(batch("a.b", 9, Receipt::none()));
    router.emit(batch("x", 9, Receipt::none()));
    assert_eq!(first.taken(), [("a.b".to_owned(), 5)]);
    assert_eq!(second.taken(), []);
    assert_eq!(router.filtered(), 4 + 9);
}

#[test]
fn unmatched_and_filtered_lines_are_counted_and_released() {
    let book = Arc::new(Book::default());
    let sink = Arc::new(Sink::default());
    let router = Router::new("ROOT", vec![through("gone", 0), to("gone", &sink)]);
    router.emit(batch("gone", 3, Receipt::new(book.clone(), 1)));
    router.emit(batch("nowhere", 2, Receipt::new(book.clone(), 2)));
    assert_eq!(*book.0.lock().expect("whole"), [true, true]);
    assert_eq!((router.filtered(), router.unmatched()), (3, 2));
}

#[test]
fn a_copy_is_full_when_one_store_is_and_safe_when_all_are() {
    let book = Arc::new(Book::default());
    let (open, full) = (
        Arc::new(Sink::default()),
        Arc::new(Sink {
            full: true,
            ..Sink::default()
        }),
    );
    let copy = Copy::new(vec![open.clone(), full.clone()]);
    assert_eq!(copy.room(&Tag::new("a")), Room::Full);
    copy.emit(batch("a", 1, Receipt::new(book.clone(), 1)));
    assert_eq!((open.taken().len(), full.taken().len()), (1, 1));
    assert_eq!(*book.0.lock().expect("whole"), [true]);
}

#[test]
fn a_relabel_leads_to_its_router_and_forgets_without_one() {
    let book = Arc::new(Book::default());
    let sink = Arc::new(Sink::default());
    let relabel = Relabel::default();
    relabel.emit(batch("a", 1, Receipt::new(book.clone(), 1)));
    assert_eq!(*book.0.lock().expect("whole"), [false]);
    let router = Arc::new(Router::new("@X", vec![to("**", &sink)]));
    relabel.lead_to(&router);
    relabel.emit(batch("a", 1, Receipt::none()));
    assert_eq!(sink.taken(), [("a".to_owned(), 1)]);
}

#[test]
fn ways_are_bounded_when_tags_never_end() {
    let sink = Arc::new(Sink::default());
    let router = Router::new("ROOT", vec![to("**", &sink)]);
    for number in 0..3000 {
        router.emit(batch(&format!("t{number}"), 1, Receipt::none()));
    }
    assert!(router.ways.read().expect("whole").len() <= REMEMBERED_TAGS);
    assert_eq!(sink.taken().len(), 3000);
}
