//! What the tests of all parsers share, and properties of all of them.

use super::*;
use crate::event::msgpack;

/// A fixed moment: 2023-11-14 22:13:20 UTC.
pub(super) const NOW: EventTime = EventTime {
    sec: 1_700_000_000,
    nsec: 0,
};

/// A section without parameters: errors and warnings need one.
pub(super) fn section() -> Element {
    Element::default()
}

/// The only event that a text gives: its time, and its record as JSON (bin as text, lossily).
pub(super) fn json_of(parser: &mut dyn Parser, text: &[u8]) -> (EventTime, serde_json::Value) {
    let mut events = events_of(parser, text);
    assert_eq!(events.len(), 1, "{events:?}");
    events.remove(0)
}

/// All events of a text.
pub(super) fn events_of(
    parser: &mut dyn Parser,
    text: &[u8],
) -> Vec<(EventTime, serde_json::Value)> {
    let mut batch = Entries::default();
    let parsed = parser.parse(text, NOW, Extra::default(), &mut batch);
    let (bytes, count) = batch.freeze();
    assert_eq!(parsed, Parsed::Events(count));
    msgpack::entries(&bytes)
        .map(|entry| {
            let entry = entry.expect("well formed");
            (entry.time, json(entry.record).0)
        })
        .collect()
}

/// MessagePack as JSON, and how long the value was.
pub(super) fn json(bytes: &[u8]) -> (serde_json::Value, usize) {
    use serde_json::Value;
    if let Some((text, length)) = msgpack::read_text(bytes).expect("whole") {
        return (String::from_utf8_lossy(text).into_owned().into(), length);
    }
    if let Some((head, pairs)) = msgpack::read_map_header(bytes).expect("whole") {
        let mut at = head;
        let mut map = serde_json::Map::new();
        for _ in 0..pairs {
            let (key, key_length) = json(&bytes[at..]);
            let (value, value_length) = json(&bytes[at + key_length..]);
            at += key_length + value_length;
            map.insert(key.as_str().expect("text").to_owned(), value);
        }
        return (Value::Object(map), at);
    }
    let length = msgpack::skip_value(bytes).expect("whole");
    let mut cursor = bytes;
    let value = match bytes[0] {
        0xc0 => Value::Null,
        0xc2 | 0xc3 => Value::Bool(bytes[0] == 0xc3),
        0xcb => rmp::decode::read_f64(&mut cursor).expect("a float").into(),
        0xcf => rmp::decode::read_u64(&mut cursor)
            .expect("an integer")
            .into(),
        0x90..=0x9f | 0xdc | 0xdd => {
            let items = rmp::decode::read_array_len(&mut cursor).expect("an array");
            let mut at = bytes.len() - cursor.len();
            let mut list = Vec::new();
            for _ in 0..items {
                let (value, length) = json(&bytes[at..]);
                at += length;
                list.push(value);
            }
            Value::Array(list)
        }
        0xd7 => Value::String("event time".to_owned()),
        _ => rmp::decode::read_int::<i64, _>(&mut cursor)
            .expect("an integer")
            .into(),
    };
    (value, length)
}

#[test]
fn a_wrong_name_gets_the_nearest_one_and_the_list() {
    let help = known_names("regex");
    assert!(help.starts_with("did you mean 'regexp'?"), "{help}");
    assert!(help.contains("known parsers: none, json, regexp"), "{help}");
    assert!(known_names("grok_pattern_x").starts_with("known parsers"));
}

/// Whether any text in this value is bin.
fn has_bin(value: &rmpv::Value) -> bool {
    match value {
        rmpv::Value::Binary(_) => true,
        rmpv::Value::Array(items) => items.iter().any(has_bin),
        rmpv::Value::Map(pairs) => pairs
            .iter()
            .any(|(key, value)| has_bin(key) || has_bin(value)),
        _ => false,
    }
}

#[test]
fn no_parser_writes_bin_into_a_labelled_batch_and_all_but_json_do_into_another() {
    let parsers = [
        ("none", "", "a line"),
        ("json", "", r#"{"a": "b"}"#),
        ("regexp", "expression /^(?<a>.*)$/", "a line"),
        ("ltsv", "", "a:b\tc:d"),
        ("nginx", "", NGINX),
        ("apache", "", APACHE),
        ("apache2", "", APACHE),
        (
            "apache_error",
            "",
            "[Mon Jan 02 03:04:05 2023] [error] oh no",
        ),
        ("syslog", "", "Jan  2 03:04:05 host app[12]: text"),
        ("csv", "keys a,b", "\"1\",2"),
        ("tsv", "keys a,b\ntypes a:array:x", "1x2\t2"),
        ("multiline", "format1 /(?<a>.*)/", "a\nb"),
    ];
    assert!(
        PARSERS
            .iter()
            .all(|(name, _)| parsers.iter().any(|(known, ..)| known == name))
    );
    for (name, params, line) in parsers {
        let text = format!("<parse>\n@type {name}\n{params}\n</parse>\n");
        let config = crate::config::Config::from_text(&text).expect("a configuration");
        let section = config.root().children().next().expect("a section");
        for label in [Label::Text, Label::Bytes] {
            let mut parser = configure_for(section, label)
                .map_err(|error| error.to_string())
                .expect(name);
            for field in [None, Some(("path", &b"/x"[..]))] {
                let mut batch = Entries::default().labelled(label);
                let parsed = parser.parse(line.as_bytes(), NOW, Extra { field }, &mut batch);
                assert_eq!(parsed, Parsed::Events(1), "{name}");
                let (bytes, _) = batch.freeze();
                let entry = rmpv::decode::read_value(&mut &bytes[..]).expect("MessagePack");
                let bin = label == Label::Bytes && name != "json";
                assert_eq!(has_bin(&entry), bin, "{name} {label:?}: {entry}");
            }
        }
    }
}

const APACHE: &str =
    r#"192.168.0.1 - - [28/Feb/2013:12:00:00 +0900] "GET / HTTP/1.1" 200 777 "-" "Opera""#;
const NGINX: &str = r#"127.0.0.1 192.168.0.1 - [28/Feb/2013:12:00:00 +0900] "GET / HTTP/1.1" 200 777 "-" "Opera/12.0" -"#;
