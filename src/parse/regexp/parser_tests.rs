use super::super::super::presets;
use super::super::super::tests::{NOW, json_of, section};
use super::*;
use serde_json::json;
use std::collections::BTreeMap;

fn parser(expression: &str, common: Common) -> RegexpParser {
    let pattern = Pattern::from_config(expression).expect("a pattern");
    RegexpParser::of(&section(), &common, pattern, "expression").expect("a parser")
}

fn preset(expression: &str) -> RegexpParser {
    let common = Common {
        time_format: Some(presets::ACCESS_TIME.to_owned()),
        ..Common::default()
    };
    parser(expression, common)
}

#[test]
fn groups_become_fields_and_the_time_leaves_the_record() {
    let common = Common {
        time_format: Some("%Y-%m-%d %H:%M:%S %z".to_owned()),
        types: BTreeMap::from([("code".to_owned(), "integer".to_owned())]),
        null_empty_string: true,
        ..Common::default()
    };
    let mut parser = parser(
        r"/^(?<time>[^|]*)\|(?<code>\d+)\|(?<rest>.*?)(?<gone>x)?$/",
        common,
    );
    let (time, record) = json_of(&mut parser, b"2013-02-28 12:00:00 +0900|200|");
    assert_eq!(
        (time.sec, record),
        (1_362_020_400, json!({"code": 200, "rest": null}))
    );
}

#[test]
fn values_are_bin_and_keys_str() {
    let mut batch = Entries::default();
    parser("/(?<a>.)/", Common::default()).parse(b"x", NOW, Extra::default(), &mut batch);
    assert!(batch.freeze().0.ends_with(b"\x81\xa1a\xc4\x01x"));
}

#[test]
fn a_wrong_time_is_invalid_and_a_missing_one_is_now_or_unmatched() {
    let mut batch = Entries::default();
    let expression = "/^(?<a>.)(?<time>.+)?$/";
    let parsed = preset(expression).parse(b"x?", NOW, Extra::default(), &mut batch);
    assert!(matches!(parsed, Parsed::Invalid(_)), "{parsed:?}");
    let (time, _) = json_of(&mut preset(expression), b"x");
    assert_eq!(time, NOW);
    let common = Common {
        estimate_current_event: false,
        ..Common::default()
    };
    let parsed = parser(expression, common).parse(b"x", NOW, Extra::default(), &mut batch);
    assert_eq!(parsed, Parsed::Unmatched);
    assert!(batch.is_empty());
}

#[test]
fn the_extra_field_is_added_unless_the_record_has_it() {
    let extra = Extra {
        field: Some(("path", b"/x")),
    };
    for (expression, tail) in [
        ("/(?<a>.)/", &b"\x82\xa1a\xc4\x01y\xa4path\xa2/x"[..]),
        ("/(?<path>.)/", b"\x81\xa4path\xc4\x01y"),
    ] {
        let mut batch = Entries::default();
        parser(expression, Common::default()).parse(b"y", NOW, extra, &mut batch);
        assert!(batch.freeze().0.ends_with(tail), "{expression}");
    }
}

#[test]
fn a_regexp_without_named_groups_is_a_configuration_error() {
    let pattern = Pattern::from_config("/(a)/").expect("a pattern");
    assert!(RegexpParser::of(&section(), &Common::default(), pattern, "expression").is_err());
}

#[test]
fn nginx_lines_are_read() {
    let mut nginx = preset(presets::NGINX);
    let line = br#"127.0.0.1 192.168.0.1 - [28/Feb/2013:12:00:00 +0900] "GET /a b HTTP/1.1" 200 777 "-" "Opera/12.0" "10.0.0.1""#;
    let (time, record) = json_of(&mut nginx, line);
    assert_eq!(time.sec, 1_362_020_400);
    assert_eq!(
        record,
        json!({"remote": "127.0.0.1", "host": "192.168.0.1", "user": "-", "method": "GET", "path": "/a b", "code": "200", "size": "777", "referer": "-", "agent": "Opera/12.0", "http_x_forwarded_for": "10.0.0.1"})
    );
    let mut batch = Entries::default();
    let line = br#"1 2 - [28/Feb/2013:12:00:00 +0900] "" 400 0"#;
    assert_eq!(
        nginx.parse(line, NOW, Extra::default(), &mut batch),
        Parsed::Unmatched
    );
}

#[test]
fn apache_lines_are_read_and_a_blank_in_the_path_is_no_match() {
    let mut apache = preset(presets::APACHE);
    let line = br#"h - u [28/Feb/2013:12:00:00 +0900] "GET / HTTP/1.1" 200 777"#;
    assert_eq!(
        json_of(&mut apache, line).1,
        json!({"host": "h", "user": "u", "method": "GET", "path": "/", "code": "200", "size": "777"})
    );
    let mut batch = Entries::default();
    let line = br#"h - u [28/Feb/2013:12:00:00 +0900] "GET /a b HTTP/1.1" 200 777"#;
    assert_eq!(
        apache.parse(line, NOW, Extra::default(), &mut batch),
        Parsed::Unmatched
    );
}

#[test]
fn apache_error_lines_are_read() {
    let mut parser = parser(presets::APACHE_ERROR, Common::default());
    let line = b"[Wed Oct 11 14:32:52 2000] [core:error] [pid 7] [client 127.0.0.1] denied: /x";
    assert_eq!(
        json_of(&mut parser, line).1,
        json!({"level": "core:error", "pid": "7", "client": "127.0.0.1", "message": "denied: /x"})
    );
}
