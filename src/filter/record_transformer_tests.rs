use super::*;
use crate::filter::testing::section;
use proptest::prelude::*;

type Pairs<'a> = &'a [(&'a str, &'a str)];

fn filter(params: Pairs<'_>, fields: Pairs<'_>) -> Box<dyn Filter> {
    configure(&section(
        "filter",
        params,
        vec![section("record", fields, vec![])],
    ))
    .expect("valid")
}

fn refusal(params: Pairs<'_>, fields: Pairs<'_>) -> String {
    let section = section("filter", params, vec![section("record", fields, vec![])]);
    configure(&section).err().expect("refused").to_string()
}

fn batch(fields: Pairs<'_>) -> Bytes {
    let mut batch = Entries::default();
    let mut record = batch.begin(EventTime { sec: 1, nsec: 2 });
    fields
        .iter()
        .for_each(|(key, value)| record.bin(key, value.as_bytes()));
    record.finish();
    batch.freeze().0
}

/// The only record of what the filter made: keys with encoded values.
fn fields(filter: &dyn Filter, input: Pairs<'_>) -> Vec<(String, Vec<u8>)> {
    let filtered = filter.apply(&Tag::new("a.b"), batch(input), 1);
    let entry = entries(&filtered.entries)
        .next()
        .expect("one")
        .expect("whole");
    let field = |field: record::Field<'_>| {
        (
            String::from_utf8_lossy(field.key).into_owned(),
            field.value.to_vec(),
        )
    };
    record::fields(entry.record)
        .expect("a map")
        .map(|one| field(one.expect("whole")))
        .collect()
}

fn bin(value: &str) -> Vec<u8> {
    encoded(|out| crate::event::msgpack::write_bin(out, value.as_bytes()))
}

fn string(value: &str) -> Vec<u8> {
    encoded(|out| write_str(out, value.as_bytes()))
}

#[test]
fn replaced_fields_keep_their_place_and_new_ones_follow() {
    let filter = filter(
        &[],
        &[("z", "12"), ("b", "${tag}"), ("y", "${record[\"a\"]}")],
    );
    let made = fields(&*filter, &[("a", "1"), ("b", "2"), ("c", "3")]);
    let expected = [
        ("a", bin("1")),
        ("b", string("a.b")),
        ("c", bin("3")),
        ("z", string("12")),
        ("y", bin("1")),
    ];
    assert_eq!(made, expected.map(|(key, value)| (key.to_owned(), value)));
}

#[test]
fn without_typecast_everything_is_text() {
    let filter = filter(
        &[("auto_typecast", "false")],
        &[("y", "${record[\"a\"]}"), ("n", "${record[\"x\"]}")],
    );
    let made = fields(&*filter, &[("a", "1")]);
    assert_eq!(
        made[1..],
        [("y".to_owned(), string("1")), ("n".to_owned(), string(""))]
    );
}

#[test]
fn renew_record_keeps_what_it_is_told_to() {
    let filter = filter(
        &[("renew_record", "true"), ("keep_keys", "c,a")],
        &[("n", "${record[\"x\"]}")],
    );
    let made = fields(&*filter, &[("a", "1"), ("b", "2"), ("c", "3")]);
    let keys: Vec<&str> = made.iter().map(|(key, _)| key.as_str()).collect();
    assert_eq!(keys, ["c", "a", "n"]);
    assert_eq!(made[2].1, [0xc0]);
}

#[test]
fn removal_comes_last() {
    let filter = filter(
        &[("remove_keys", "a,n")],
        &[("n", "new"), ("m", "${record[\"a\"]}")],
    );
    assert_eq!(
        fields(&*filter, &[("a", "1")]),
        [("m".to_owned(), bin("1"))]
    );
}

#[test]
fn json_values_keep_their_structure_and_order() {
    let filter = filter(
        &[],
        &[(
            "j",
            r#"{"z${tag}": ["${tag_parts[0]}", 1, 2.5, null], "a": true}"#,
        )],
    );
    let made = fields(&*filter, &[]);
    let mut expected = b"\x82\xa4za.b\x94\xa1a\x01\xcb\x40\x04\0\0\0\0\0\0\xc0".to_vec();
    expected.extend_from_slice(b"\xa1a\xc3");
    assert_eq!(made, [("j".to_owned(), expected)]);
}

#[test]
fn json_that_is_none_is_text() {
    let filter = filter(&[], &[("j", "[${tag}")]);
    assert_eq!(fields(&*filter, &[]), [("j".to_owned(), string("[a.b"))]);
}

#[test]
fn renew_time_key_sets_the_time() {
    let filter = filter(&[("renew_time_key", "t")], &[]);
    for (text, expected) in [
        ("1700000000.5", (1_700_000_000, 500_000_000)),
        ("7 days", (7, 0)),
        ("soon", (0, 0)),
    ] {
        let filtered = filter.apply(&Tag::new("a"), batch(&[("t", text)]), 1);
        let time = entries(&filtered.entries)
            .next()
            .expect("one")
            .expect("whole")
            .time;
        assert_eq!((time.sec, time.nsec), expected, "{text}");
    }
}

#[test]
fn what_needs_ruby_is_refused_with_its_expression() {
    assert!(
        refusal(&[("enable_ruby", "true")], &[("a", "${Time.now.to_i}")]).contains("Time.now.to_i")
    );
    assert!(refusal(&[], &[("a", "${host}")]).contains("'host'"));
    assert!(refusal(&[], &[("a", r#"{"b": "${host}"}"#)]).contains("'host'"));
    assert!(refusal(&[("keep_keys", "a")], &[]).contains("renew_record"));
}

proptest! {
    #[test]
    fn fields_that_are_not_named_survive(values in proptest::collection::btree_map("[b-z]{1,5}", any::<Vec<u8>>(), 0..40)) {
        let filter = filter(&[], &[("a", "new")]);
        let mut batch = Entries::default();
        let mut record = batch.begin(EventTime { sec: 1, nsec: 2 });
        values.iter().for_each(|(key, value)| record.bin(key, value));
        record.finish();
        let filtered = filter.apply(&Tag::new("t"), batch.freeze().0, 1);
        let entry = entries(&filtered.entries).next().expect("one").expect("whole");
        for (key, value) in &values {
            prop_assert_eq!(record::find_text(entry.record, key), Some(&value[..]));
        }
        prop_assert_eq!(record::find_text(entry.record, "a"), Some(&b"new"[..]));
        prop_assert_eq!(record::fields(entry.record).expect("a map").count(), values.len() + 1);
    }
}
