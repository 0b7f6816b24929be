use super::*;
use proptest::prelude::*;

const NOON: EventTime = EventTime {
    sec: 1_700_000_000,
    nsec: 123_456_789,
};

#[test]
fn an_entry_is_what_fluentd_sends() {
    let mut batch = Entries::default();
    let mut record = batch.begin(NOON);
    record.str("message", b"hi");
    record.finish();
    let (bytes, count) = batch.freeze();
    let expected: &[u8] = b"\x92\xd7\x00\x65\x53\xf1\x00\x07\x5b\xcd\x15\x81\xa7message\xa2hi";
    assert_eq!(&bytes[..], expected);
    assert_eq!(count, 1);
}

#[test]
fn push_single_writes_the_same_bytes_as_the_field_writer() {
    for label in [Label::Bytes, Label::Text] {
        let mut slow = Entries::default().labelled(label);
        let mut record = slow.begin(NOON);
        record.bin("message", b"a line");
        record.finish();
        let mut fast = Entries::with_capacity(9).labelled(label);
        fast.push_single(&single_field_prefix(NOON, "message"), b"a line");
        assert_eq!(slow.freeze(), fast.freeze());
    }
}

#[test]
fn an_entry_that_is_not_finished_leaves_no_trace() {
    let mut batch = Entries::default();
    let mut record = batch.begin(NOON);
    record.str("half", b"done");
    drop(record);
    assert!(batch.is_empty());
    assert_eq!(batch.len(), 0);
}

#[test]
fn more_than_fifteen_fields_get_the_longer_header() {
    let mut batch = Entries::default();
    let mut record = batch.begin(NOON);
    for field in 0..20 {
        record.str(&format!("k{field}"), b"v");
    }
    record.finish();
    let (bytes, _) = batch.freeze();
    let entry = entries(&bytes)
        .next()
        .expect("one entry")
        .expect("well formed");
    assert_eq!(read_map_header(entry.record), Ok(Some((3, 20))));
}

#[test]
fn times_of_every_form_are_read() {
    assert_eq!(read_time(&NOON.to_bytes()), Ok(NOON));
    assert_eq!(
        read_time(b"\xc7\x08\x00\x65\x53\xf1\x00\x07\x5b\xcd\x15"),
        Ok(NOON)
    );
    assert_eq!(
        read_time(b"\xce\x65\x53\xf1\x00"),
        Ok(EventTime {
            sec: 1_700_000_000,
            nsec: 0
        })
    );
    assert_eq!(
        read_time(b"\xd6\x00\x00\x00\x00\x00"),
        Err(Malformed::Invalid)
    );
}

#[test]
fn nesting_beyond_the_limit_is_refused_and_not_recursed() {
    let deep = vec![0x91; 100_000];
    assert_eq!(skip_value(&deep), Err(Malformed::Invalid));
}

#[test]
fn a_header_that_announces_gigabytes_is_only_truncated() {
    assert_eq!(
        skip_value(b"\xdd\xff\xff\xff\xff\xc0"),
        Err(Malformed::Truncated)
    );
    assert_eq!(
        skip_value(b"\xdb\xff\xff\xff\xffabc"),
        Err(Malformed::Truncated)
    );
}

proptest! {
    #[test]
    fn skipping_never_panics_and_never_passes_the_end(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        if let Ok(len) = skip_value(&bytes) {
            prop_assert!(len <= bytes.len());
        }
        for entry in entries(&bytes).flatten() {
            prop_assert!(!entry.bytes.is_empty());
        }
    }

    #[test]
    fn what_is_written_is_read_back(fields in proptest::collection::vec(("[a-z]{1,40}", proptest::collection::vec(any::<u8>(), 0..400)), 0..30)) {
        let mut batch = Entries::default();
        for _ in 0..2 {
            let mut record = batch.begin(NOON);
            for (key, value) in &fields {
                record.bin(key, value);
            }
            record.finish();
        }
        let (bytes, count) = batch.freeze();
        let read: Vec<_> = entries(&bytes).collect::<Result<_, _>>().expect("well formed");
        prop_assert_eq!(read.len(), count);
        for entry in read {
            prop_assert_eq!(entry.time, NOON);
            let (mut at, pairs) = read_map_header(entry.record).expect("a head").expect("a map");
            prop_assert_eq!(pairs, fields.len());
            for (key, value) in &fields {
                let (text, len) = read_text(&entry.record[at..]).expect("whole").expect("text");
                prop_assert_eq!(text, key.as_bytes());
                at += len;
                let (text, len) = read_text(&entry.record[at..]).expect("whole").expect("bytes");
                prop_assert_eq!(text, &value[..]);
                at += len;
            }
        }
    }

    #[test]
    fn every_cut_of_a_value_is_truncated(value in proptest::collection::vec(any::<u8>(), 0..300), cut in any::<prop::sample::Index>()) {
        let mut bytes = Vec::new();
        write_bin(&mut bytes, &value);
        let cut = cut.index(bytes.len());
        prop_assert_eq!(skip_value(&bytes[..cut]), Err(Malformed::Truncated));
    }
}
