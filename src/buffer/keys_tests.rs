use std::sync::Mutex;

use jiff::tz::offset;
use proptest::prelude::*;

use super::*;
use crate::event::{Creditor, Entries, EventTime, Receipt};

fn field(key: &str) -> KeyField {
    KeyField {
        key: Arc::from(key),
        accessor: Accessor::parse(key).expect("well formed"),
    }
}

fn keys(time: Option<u32>, fields: &[&str]) -> ChunkKeys {
    ChunkKeys {
        tag: true,
        time: time.map(|seconds| Timekey::new(seconds, TimeZone::UTC)),
        fields: fields.iter().map(|key| field(key)).collect(),
    }
}

/// A batch of events: second and the value of `host`, if any.
fn batch(events: &[(u32, Option<&str>)], receipt: Receipt) -> EventStream {
    let mut batch = Entries::default();
    for (n, (sec, host)) in events.iter().enumerate() {
        let mut record = batch.begin(EventTime { sec: *sec, nsec: 0 });
        record.bin("message", n.to_string().as_bytes());
        if let Some(host) = host {
            record.bin("host", host.as_bytes());
        }
        record.finish();
    }
    let (entries, count) = batch.freeze();
    EventStream {
        tag: Tag::new("app"),
        entries,
        count,
        receipt,
    }
}

fn host(key: &ChunkKey) -> &[u8] {
    &key.variables.as_ref().expect("fields")[0].value
}

#[test]
fn without_time_and_fields_the_bytes_move_in_whole() {
    let stream = batch(&[(1, None), (2, None)], Receipt::none());
    let address = stream.entries.as_ptr();
    let parts = ChunkKeys::default().split(stream);
    let [(key, part)] = &parts[..] else {
        panic!("one part: {parts:?}");
    };
    assert_eq!((part.entries.as_ptr(), part.count), (address, 2));
    assert_eq!(key.tag, Tag::new("app"));
    assert_eq!((key.metadata_tag(), key.timekey), (None, None));
    assert!(key.variables.is_none());
}

#[test]
fn events_of_one_key_move_in_whole_even_where_they_are_looked_into() {
    let stream = batch(&[(61, Some("a")), (119, Some("a"))], Receipt::none());
    let address = stream.entries.as_ptr();
    let parts = keys(Some(60), &["host"]).split(stream);
    let [(key, part)] = &parts[..] else {
        panic!("one part: {parts:?}");
    };
    assert_eq!((part.entries.as_ptr(), part.count), (address, 2));
    assert_eq!((key.timekey, host(key)), (Some(60), &b"\xa1a"[..]));
    assert_eq!(key.metadata_tag(), Some(&Tag::new("app")));
}

#[test]
fn a_missing_field_is_a_chunk_of_its_own() {
    let events = [(1, Some("a")), (1, None), (1, Some("b")), (1, Some("a"))];
    let parts = keys(None, &["host"]).split(batch(&events, Receipt::none()));
    let seen: Vec<_> = parts
        .iter()
        .map(|(key, part)| (host(key), part.count))
        .collect();
    assert_eq!(seen, [(&b"\xa1a"[..], 2), (NIL, 1), (&b"\xa1b"[..], 1)]);
}

#[test]
fn text_and_bytes_of_the_same_text_share_a_chunk() {
    let mut batch = Entries::default();
    let mut record = batch.begin(EventTime { sec: 1, nsec: 0 });
    record.bin("host", b"a");
    record.finish();
    let mut record = batch.begin(EventTime { sec: 1, nsec: 0 });
    record.str("host", b"a");
    record.finish();
    let (entries, count) = batch.freeze();
    let stream = EventStream {
        tag: Tag::new("app"),
        entries,
        count,
        receipt: Receipt::none(),
    };
    assert_eq!(keys(None, &["host"]).split(stream).len(), 1);
}

#[test]
fn nested_fields_and_several_keys_are_told_apart() {
    // {"k": {"pod": "x"}, "n": 7}
    let record = b"\x82\xa1k\x81\xa3pod\xc4\x01x\xa1n\x07";
    let mut entries = vec![0x92, 0x01];
    entries.extend_from_slice(record);
    let stream = EventStream {
        tag: Tag::new("app"),
        entries: Bytes::from(entries),
        count: 1,
        receipt: Receipt::none(),
    };
    let parts = keys(None, &["$.k.pod", "n", "$.n.x"]).split(stream);
    let variables: Vec<_> = parts[0]
        .0
        .variables
        .iter()
        .flat_map(|all| all.iter())
        .map(|one| (&*one.key, &*one.value))
        .collect();
    let expected = [
        ("$.k.pod", &b"\xa1x"[..]),
        ("n", &b"\x07"[..]),
        ("$.n.x", NIL),
    ];
    assert_eq!(variables, expected);
}

#[test]
fn bytes_that_are_no_event_stay_in_a_part_of_their_own() {
    let good = batch(&[(61, Some("a"))], Receipt::none());
    let mut entries = good.entries.to_vec();
    entries.push(0xc1);
    let stream = EventStream {
        entries: Bytes::from(entries),
        count: 2,
        ..good
    };
    let parts = keys(Some(60), &["host"]).split(stream);
    let [_, (key, part)] = &parts[..] else {
        panic!("two parts: {parts:?}");
    };
    assert_eq!((key.timekey, host(key)), (Some(60), NIL));
    assert_eq!((&part.entries[..], part.count), (&b"\xc1"[..], 1));
}

#[test]
fn slices_are_cut_in_local_time() {
    // 2024-01-02 03:04:05 UTC is noon in Tokyo.
    let tokyo = Timekey::new(86_400, TimeZone::fixed(offset(9)));
    assert_eq!(tokyo.start_of(1_704_164_645), 1_704_121_200);
    let utc = Timekey::new(86_400, TimeZone::UTC);
    assert_eq!(utc.start_of(1_704_164_645), 1_704_153_600);
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

#[test]
fn a_batch_is_safe_only_when_all_its_parts_are() {
    let book = Arc::new(Book::default());
    let stream = batch(
        &[(1, Some("a")), (1, Some("b"))],
        Receipt::new(book.clone(), 1),
    );
    let mut parts = keys(None, &["host"]).split(stream);
    let (_, second) = parts.pop().expect("two");
    second.receipt.release();
    assert!(book.0.lock().expect("whole").is_empty());
    let (_, first) = parts.pop().expect("two");
    first.receipt.release();
    assert_eq!(*book.0.lock().expect("whole"), [true]);
}

proptest! {
    /// Parts are what sorting the events by their key gives: nothing is lost, doubled or put out of order.
    #[test]
    fn parts_hold_each_event_once_under_its_own_key(
        events in proptest::collection::vec((0u32..300, proptest::option::of("[ab]")), 1..40),
        slice in 1u32..120,
    ) {
        let events: Vec<_> = events.iter().map(|(sec, host)| (*sec, host.as_deref())).collect();
        let stream = batch(&events, Receipt::none());
        let whole = stream.entries.len();
        let parts = keys(Some(slice), &["host"]).split(stream);
        prop_assert_eq!(parts.iter().map(|(_, part)| part.entries.len()).sum::<usize>(), whole);
        let mut seen = 0;
        for (at, (key, part)) in parts.iter().enumerate() {
            prop_assert!(parts[..at].iter().all(|(other, _)| other != key));
            let expected: Vec<_> = events
                .iter()
                .enumerate()
                .filter(|(_, (sec, name))| {
                    let mut text = Vec::new();
                    match name {
                        Some(name) => msgpack::write_str(&mut text, name.as_bytes()),
                        None => text.push(0xc0),
                    }
                    key.timekey == Some(i64::from(sec - sec % slice)) && host(key) == text
                })
                .map(|(n, _)| n.to_string())
                .collect();
            let held: Vec<_> = entries(&part.entries)
                .map(|entry| {
                    let record = entry.expect("well formed").record;
                    let text = crate::event::record::find_text(record, "message").expect("a message");
                    String::from_utf8_lossy(text).into_owned()
                })
                .collect();
            prop_assert_eq!(part.count, held.len());
            seen += held.len();
            prop_assert_eq!(held, expected);
        }
        prop_assert_eq!(seen, events.len());
    }
}
