use super::super::tests::{NOW, events_of, json_of, section};
use super::*;
use proptest::prelude::*;
use serde_json::json;
use std::collections::BTreeMap;

fn parser(common: Common) -> JsonParser {
    JsonParser::new(&section(), common).expect("a parser")
}

fn parse(text: &[u8]) -> (Parsed, Vec<u8>) {
    let mut batch = Entries::default();
    let parsed = parser(Common::default()).parse(text, NOW, Extra::default(), &mut batch);
    (parsed, batch.freeze().0.to_vec())
}

#[test]
fn objects_become_records_with_str_keys_and_values() {
    let (parsed, bytes) = parse(br#"{"a":"x","b":[1,-2,2.5,null,true],"c":{"d":{}}}"#);
    assert_eq!(parsed, Parsed::Events(1));
    assert!(bytes.ends_with(
        b"\x83\xa1a\xa1x\xa1b\x95\x01\xfe\xcb\x40\x04\0\0\0\0\0\0\xc0\xc3\xa1c\x81\xa1d\x80"
    ));
}

#[test]
fn the_time_field_is_a_float_unless_a_format_is_given() {
    let (time, record) = json_of(
        &mut parser(Common::default()),
        br#"{"time":1362020400.5,"a":1}"#,
    );
    assert_eq!(
        (time.sec, time.nsec, record),
        (1_362_020_400, 500_000_000, json!({"a": 1}))
    );
    let common = Common {
        time_key: Some("t".to_owned()),
        time_format: Some("%FT%T%z".to_owned()),
        keep_time_key: true,
        ..Common::default()
    };
    let (time, record) = json_of(
        &mut parser(common),
        br#"{"a":1,"t":"2013-02-28T12:00:00+0900"}"#,
    );
    assert_eq!(
        (time.sec, record),
        (
            1_362_020_400,
            json!({"a": 1, "t": "2013-02-28T12:00:00+0900"})
        )
    );
}

#[test]
fn a_time_that_is_none_makes_the_line_invalid() {
    for text in [r#"{"time":null}"#, r#"{"time":{}}"#, r#"{"time":-5}"#] {
        let (parsed, bytes) = parse(text.as_bytes());
        assert!(matches!(parsed, Parsed::Invalid(_)), "{text}: {parsed:?}");
        assert!(bytes.is_empty());
    }
}

#[test]
fn what_is_not_json_is_unmatched_and_leaves_no_trace() {
    for text in [
        "{\"a\":1",
        "{\"a\":1} x",
        "{\"a\":1}{\"b\":2}",
        "{\"a\":1,}",
        "{'a':1}",
        "\u{feff}{}",
        "",
        "1",
        "\"x\"",
        "{\"a\":\"\\ud800\"}",
        "[{\"a\":1},",
        "[{\"a\":1}] x",
    ] {
        assert_eq!(
            parse(text.as_bytes()),
            (Parsed::Unmatched, Vec::new()),
            "{text}"
        );
    }
}

#[test]
fn invalid_utf8_and_control_characters_in_strings_are_kept() {
    let (parsed, bytes) =
        parse(b"{\"a\":\"\xff\xe3\x81\",\"b\":\"x\ty\\\"\",\"\xfe\":\"\xc3\xa9\"}");
    assert_eq!(parsed, Parsed::Events(1));
    assert!(
        bytes.ends_with(b"\x83\xa1a\xa3\xff\xe3\x81\xa1b\xa4x\ty\"\xa1\xfe\xa2\xc3\xa9"),
        "{bytes:?}"
    );
    assert_eq!(parse(b"{\"a\":\xff}").0, Parsed::Unmatched);
}

#[test]
fn an_array_gives_one_event_per_object() {
    let events = events_of(
        &mut parser(Common::default()),
        br#" [{"a":1}, {"time":5,"b":[{"c":3}]}] "#,
    );
    assert_eq!(events[0], (NOW, json!({"a": 1})));
    assert_eq!(
        (events[1].0.sec, &events[1].1),
        (5, &json!({"b": [{"c": 3}]}))
    );
    assert!(events_of(&mut parser(Common::default()), b"[]").is_empty());
}

#[test]
fn what_is_no_event_in_an_array_is_told_beside_the_events() {
    for (text, events, unmatched, is_invalid) in [
        (r#"[{"a":1}, 2, {"b":3}, []]"#, 2, 2, false),
        ("[1, null]", 0, 2, false),
        (r#"[{"time":{}}, {"a":1}]"#, 1, 0, true),
        (r#"[{"time":{}}, true]"#, 0, 1, true),
    ] {
        let (parsed, bytes) = parse(text.as_bytes());
        let Parsed::Partly(partly) = parsed else {
            panic!("{text}: {parsed:?}");
        };
        assert_eq!(
            (partly.events, partly.unmatched),
            (events, unmatched),
            "{text}"
        );
        assert_eq!(partly.invalid.is_some(), is_invalid, "{text}");
        assert_eq!(
            crate::event::msgpack::entries(&bytes).count(),
            events,
            "{text}"
        );
    }
}

#[test]
fn types_and_null_rules_apply_to_json_values() {
    let common = Common {
        types: BTreeMap::from([
            ("n".to_owned(), "integer".to_owned()),
            ("s".to_owned(), "string".to_owned()),
        ]),
        null_value_pattern: Some("/^-$/".to_owned()),
        ..Common::default()
    };
    let (_, record) = json_of(
        &mut parser(common),
        br#"{"n":"12","s":5,"d":"-","k":"a-b"}"#,
    );
    assert_eq!(record, json!({"n": 12, "s": "5", "d": null, "k": "a-b"}));
}

#[test]
fn a_nil_path_is_replaced_and_another_one_stays() {
    for (text, path) in [
        (&br#"{"path":null,"a":1}"#[..], "/x"),
        (br#"{"path":"own"}"#, "own"),
        (b"{}", "/x"),
    ] {
        let mut batch = Entries::default();
        let extra = Extra {
            field: Some(("path", b"/x")),
        };
        parser(Common::default()).parse(text, NOW, extra, &mut batch);
        let (bytes, _) = batch.freeze();
        let entry = msgpack::entries(&bytes)
            .next()
            .expect("one")
            .expect("whole");
        let found = crate::event::record::find_text(entry.record, "path");
        assert_eq!(found, Some(path.as_bytes()));
    }
}

#[test]
fn integers_beyond_64_bit_become_floats() {
    let (_, record) = json_of(
        &mut parser(Common::default()),
        br#"{"a":18446744073709551615,"b":184467440737095516160}"#,
    );
    assert_eq!(
        record,
        json!({"a": u64::MAX, "b": 184_467_440_737_095_516_160.0_f64})
    );
}

fn value() -> impl Strategy<Value = serde_json::Value> {
    let leaf = prop_oneof![
        Just(serde_json::Value::Null),
        any::<bool>().prop_map(Into::into),
        any::<i64>().prop_map(Into::into),
        any::<u64>().prop_map(Into::into),
        any::<f64>()
            .prop_filter("finite", |f| f.is_finite())
            .prop_map(Into::into),
        ".{0,40}".prop_map(Into::into),
    ];
    leaf.prop_recursive(4, 64, 20, |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..20).prop_map(serde_json::Value::Array),
            proptest::collection::btree_map(".{0,8}", inner, 0..20)
                .prop_map(|map| serde_json::Value::Object(map.into_iter().collect())),
        ]
    })
}

proptest! {
    #[test]
    fn records_read_as_serde_json_reads_them(fields in proptest::collection::btree_map("[a-s].{0,8}", value(), 0..20)) {
        let text = serde_json::Value::Object(fields.into_iter().collect()).to_string();
        let expected: serde_json::Value = serde_json::from_str(&text).expect("json");
        let (_, record) = json_of(&mut parser(Common::default()), text.as_bytes());
        prop_assert_eq!(record, expected);
    }

    #[test]
    fn no_text_panics_and_only_whole_entries_are_left(text in proptest::collection::vec(any::<u8>(), 0..60), junk in r#"[\[{"a:,\\u\}\]0-9 -]{0,40}"#) {
        for text in [&text[..], junk.as_bytes()] {
            let (parsed, bytes) = parse(text);
            let entries = msgpack::entries(&bytes).filter(|entry| entry.is_ok()).count();
            prop_assert_eq!(entries, if let Parsed::Events(count) = parsed { count } else { 0 });
        }
    }
}

#[test]
fn floats_keep_the_digits_that_were_written() {
    // Read with a fast path that rounds, this came out as 90.33333333333331.
    let text = "90.33333333333333";
    let value: f64 = serde_json::from_str(text).expect("a number");
    assert_eq!(value.to_string(), text);
}
