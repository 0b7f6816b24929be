use super::json::{float_text, write, write_inspect};
use super::time::{TextType, TimeParams, TimeText};
use super::*;
use proptest::prelude::*;

fn json_text(value: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    write(&mut out, value);
    out
}

fn time_text(params: TimeParams) -> String {
    let text = TimeText::configure(&Element::default(), &params).expect("a time");
    let mut out = Vec::new();
    let time = EventTime {
        sec: 1_362_020_400,
        nsec: 5_000_001,
    };
    text.write(time, &mut out);
    String::from_utf8(out).expect("text")
}

#[test]
fn json_is_written_as_fluentd_writes_it() {
    for (value, expected) in [
        (
            &b"\x83\xa1a\xc0\xa1b\xc3\xa1c\x92\x01\xff"[..],
            &br#"{"a":null,"b":true,"c":[1,-1]}"#[..],
        ),
        (
            b"\xa9\"\\/\n\t\x01\xe2\x80\xa8",
            b"\"\\\"\\\\/\\n\\t\\u0001\xe2\x80\xa8\"",
        ),
        (b"\xc4\x02\xffx", b"\"\xffx\""),
        (b"\xd7\x00\x00\x00\x00\x05\x00\x00\x00\x07", b"5"),
        (
            b"\xcf\xff\xff\xff\xff\xff\xff\xff\xff",
            b"18446744073709551615",
        ),
        (b"\xcb\x3f\xf0\0\0\0\0\0\0", b"1.0"),
        (b"\x81\x01\x02", br#"{"1":2}"#),
        (b"\x92\x01", b"null"),
    ] {
        assert_eq!(json_text(value), expected, "{value:?}");
    }
}

#[test]
fn floats_are_written_as_ruby_writes_them() {
    for (value, expected) in [
        (1.0, "1.0"),
        (-0.0, "-0.0"),
        (1e20, "1.0e+20"),
        (1.5e-7, "1.5e-07"),
        (0.0001, "0.0001"),
        (1e15, "1000000000000000.0"),
        (1e16, "1.0e+16"),
        (f64::INFINITY, "Infinity"),
    ] {
        assert_eq!(float_text(value), expected);
    }
}

#[test]
fn inspect_is_rubys() {
    let mut out = Vec::new();
    write_inspect(&mut out, b"\x82\xa1a\x92\x01\xc0\xa1b\xa1c");
    assert_eq!(out, br#"{"a"=>[1, nil], "b"=>"c"}"#);
}

#[test]
fn times_are_written_in_format_and_zone() {
    let params = |format: Option<&str>, zone: Option<&str>| TimeParams {
        time_format: format.map(str::to_owned),
        timezone: zone.map(str::to_owned),
        utc: zone.is_none().then_some(true),
        ..TimeParams::default()
    };
    for (format, zone, expected) in [
        (None, None, "2013-02-28T03:00:00Z"),
        (None, Some("+0000"), "2013-02-28T03:00:00+00:00"),
        (None, Some("Asia/Tokyo"), "2013-02-28T12:00:00+09:00"),
        (
            Some("%d/%b/%Y:%H:%M:%S %z"),
            Some("+09:00"),
            "28/Feb/2013:12:00:00 +0900",
        ),
        (
            Some("%s.%L %6N %N %%L"),
            None,
            "1362020400.005 005000 005000001 %L",
        ),
    ] {
        assert_eq!(time_text(params(format, zone)), expected);
    }
    for (time_type, expected) in [
        (TextType::Unixtime, "1362020400"),
        (TextType::Float, "1362020400.005000001"),
    ] {
        let params = TimeParams {
            time_type,
            ..TimeParams::default()
        };
        assert_eq!(time_text(params), expected);
    }
}

#[test]
fn an_unknown_zone_or_directive_is_a_configuration_error() {
    for (format, zone) in [(None, Some("JST")), (Some("%!"), None)] {
        let params = TimeParams {
            time_format: format.map(str::to_owned),
            timezone: zone.map(str::to_owned),
            ..TimeParams::default()
        };
        assert!(TimeText::configure(&Element::default(), &params).is_err());
    }
}

proptest! {
    #[test]
    fn text_is_written_as_json_that_is_read_back(text in ".{0,60}") {
        let mut value = Vec::new();
        crate::event::msgpack::write_str(&mut value, text.as_bytes());
        let read: String = serde_json::from_slice(&json_text(&value)).expect("json");
        prop_assert_eq!(read, text);
    }

    #[test]
    fn floats_are_read_back(value in any::<f64>().prop_filter("finite", |f| f.is_finite())) {
        prop_assert_eq!(float_text(value).parse::<f64>(), Ok(value));
    }

    #[test]
    fn no_bytes_panic(bytes in proptest::collection::vec(any::<u8>(), 0..60)) {
        json_text(&bytes);
        write_inspect(&mut Vec::new(), &bytes);
    }
}
