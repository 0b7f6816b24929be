use super::*;
use proptest::prelude::*;

/// 2023-11-14 22:13:20 UTC.
const NOW: EventTime = EventTime {
    sec: 1_700_000_000,
    nsec: 0,
};

fn read(format: Option<&str>, text: &str) -> Option<(u32, u32)> {
    let mut parser = TimeParser::in_zone(format, TimeZone::UTC).expect("a format");
    let time = parser.parse(Given::Text(text.as_bytes()), NOW).ok()?;
    Some((time.sec, time.nsec))
}

fn seconds(format: &str, text: &str) -> Option<u32> {
    read(Some(format), text).map(|(seconds, _)| seconds)
}

#[test]
fn common_formats_are_read() {
    for (format, text, expected) in [
        (
            "%d/%b/%Y:%H:%M:%S %z",
            "28/Feb/2013:12:00:00 +0900",
            1_362_020_400,
        ),
        (
            "%Y-%m-%dT%H:%M:%S%z",
            "2013-02-28T12:00:00+09:00",
            1_362_020_400,
        ),
        ("%Y-%m-%dT%H:%M:%S%z", "2013-02-28T03:00:00Z", 1_362_020_400),
        (
            "%Y-%m-%d %H:%M:%S",
            "2013-02-28 03:00:00,678 rest",
            1_362_020_400,
        ),
        ("%F %T %Z", "2013-02-28 12:00:00 JST", 1_362_020_400),
        (
            "%a %b %e %H:%M:%S %Y",
            "Thu Feb 28 03:00:00 2013",
            1_362_020_400,
        ),
        (
            "%d/%B/%y %I:%M %p",
            "28/february/13 03:00 AM",
            1_362_020_400,
        ),
        ("%Y%m%d%H%M%S", "20130228030000", 1_362_020_400),
        ("%s", "1362020400", 1_362_020_400),
        ("%iso8601", "2013-02-28T12:00:00.5+09:00", 1_362_020_400),
    ] {
        assert_eq!(seconds(format, text), Some(expected), "{format} {text}");
    }
}

#[test]
fn what_does_not_fit_is_an_error() {
    for (format, text) in [
        ("%Y-%m-%d", " 2013-02-28"),
        ("%Y-%m-%d", "x2013-02-28"),
        ("%iso8601", "2013-02-28 12:00:00Z"),
        ("%iso8601", "2013-02-28"),
        ("%a %F", "Xyz 2013-02-28"),
        ("%Y-%m-%d", "2013-13-01"),
        ("%Y", "1969"),
    ] {
        assert_eq!(seconds(format, text), None, "{format} {text}");
    }
}

#[test]
fn the_gem_and_ruby_differ_in_days_and_midnights() {
    // The gem compiles the first format of each pair; %F goes to Ruby.
    assert_eq!(
        seconds("%Y-%m-%d", "2013-02-30"),
        seconds("%F", "2013-03-02")
    );
    assert_eq!(seconds("%F", "2013-02-30"), None);
    assert_eq!(seconds("%Y-%m-%d %H:%M:%S", "2013-02-28 24:00:00"), None);
    assert_eq!(
        seconds("%F %T", "2013-02-28 24:00:00"),
        seconds("%F", "2013-03-01")
    );
    assert_eq!(
        seconds("%H:%M:%S", "22:13:60"),
        seconds("%H:%M:%S", "22:14:00")
    );
}

#[test]
fn missing_parts_are_those_of_now() {
    assert_eq!(seconds("%b %d %H:%M:%S", "Nov 14 22:13:20"), Some(NOW.sec));
    assert_eq!(
        seconds("%b %d %H:%M:%S", "Nov  4 22:13:20"),
        Some(NOW.sec - 864_000)
    );
    assert_eq!(seconds("%H:%M:%S", "22:13:20"), Some(NOW.sec));
    // No year is this year, however far ahead that is.
    assert_eq!(seconds("%b %d", "Dec 31"), seconds("%F", "2023-12-31"));
}

#[test]
fn fractions_of_any_length_are_cut_to_nanoseconds() {
    assert_eq!(read(Some("%s.%L"), "5.12"), Some((5, 120_000_000)));
    assert_eq!(
        read(Some("%F %T.%N"), "1970-01-01 00:00:05.1234567891"),
        Some((5, 123_456_789))
    );
}

#[test]
fn free_form_times_are_read() {
    for text in [
        "2013-02-28T12:00:00+09:00",
        "2013-02-28 03:00:00,678",
        "2013/02/28 03:00:00 UTC",
        "20130228030000",
        "20130228T030000Z",
        "Thu Feb 28 03:00:00.123456 2013",
        "Thu, 28 Feb 2013 12:00:00 +0900",
        "28 Feb 2013 3:00 am",
    ] {
        assert_eq!(
            read(None, text).map(|time| time.0),
            Some(1_362_020_400),
            "{text}"
        );
    }
    assert_eq!(read(None, "22:13:20"), Some((NOW.sec, 0)));
    for text in ["10/Oct/2000:13:55:36 -0700", "1700000000", "junk", "", "-"] {
        assert_eq!(read(None, text), None, "{text}");
    }
}

#[test]
fn numbers_are_read_as_fluentd_does() {
    assert_eq!(read(Some("unixtime"), "12abc"), Some((12, 0)));
    assert_eq!(read(Some("unixtime"), "rubbish"), Some((0, 0)));
    assert_eq!(
        read(Some("float"), "1700000000.5"),
        Some((1_700_000_000, 500_000_000))
    );
    assert_eq!(read(Some("float"), "2024-01-02"), Some((2024, 0)));
    let mut float = TimeParser::in_zone(Some("float"), TimeZone::UTC).expect("a format");
    let time = float.parse(Given::Float(5.25), NOW);
    assert_eq!(
        time,
        Ok(EventTime {
            sec: 5,
            nsec: 250_000_000
        })
    );
    assert!(float.parse(Given::Other, NOW).is_err());
    let mut text = TimeParser::in_zone(Some("%Y"), TimeZone::UTC).expect("a format");
    assert!(text.parse(Given::Integer(5), NOW).is_err());
}

#[test]
fn mixed_takes_the_first_that_fits() {
    let settings = TimeSettings {
        time_type: Some(TimeType::Mixed),
        time_format: Some("%Y-%m-%d %H:%M:%S %z".to_owned()),
        time_format_fallbacks: vec!["unixtime".to_owned(), "%iso8601".to_owned()],
        ..TimeSettings::default()
    };
    let mut parser =
        TimeParser::configure(&Element::default(), &settings, TimeType::String).expect("settings");
    for text in [
        "2013-02-28 12:00:00 +0900",
        "1362020400",
        "2013-02-28T12:00:00+09:00",
    ] {
        let time = parser
            .parse(Given::Text(text.as_bytes()), NOW)
            .expect("a time");
        assert_eq!(time.sec, 1_362_020_400, "{text}");
    }
    assert!(parser.parse(Given::Text(b"12abc"), NOW).is_err());
}

#[test]
fn zones_of_the_configuration_count_where_the_text_has_none() {
    let parse = |zone: &str, format: &str, text: &str| {
        let zone = zone_named(zone).expect("a zone");
        let mut parser = TimeParser::in_zone(Some(format), zone).expect("a format");
        parser
            .parse(Given::Text(text.as_bytes()), NOW)
            .expect("a time")
            .sec
    };
    assert_eq!(
        parse("+09:00", "%F %T", "2013-02-28 12:00:00"),
        1_362_020_400
    );
    assert_eq!(
        parse("Asia/Tokyo", "%F %T", "2013-02-28 12:00:00"),
        1_362_020_400
    );
    assert_eq!(
        parse("-0500", "%F %T %z", "2013-02-28 12:00:00 +0900"),
        1_362_020_400
    );
    for text in ["JST", "UTC", "+9", "Nowhere/City"] {
        assert!(zone_named(text).is_none(), "{text}");
    }
}

#[test]
fn contradictions_are_configuration_errors() {
    let settings = |format: Option<&str>, timezone: Option<&str>, both: bool| TimeSettings {
        time_format: format.map(str::to_owned),
        timezone: timezone.map(str::to_owned),
        localtime: both.then_some(true),
        utc: both.then_some(true),
        ..TimeSettings::default()
    };
    for (settings, fine) in [
        (settings(Some("%F"), Some("+09:00"), false), true),
        (settings(None, Some("+09:00"), false), false),
        (settings(Some("%F"), None, true), false),
        (settings(Some("%F"), Some("JST"), false), false),
        (settings(Some("%U"), None, false), false),
    ] {
        let built = TimeParser::configure(&Element::default(), &settings, TimeType::String);
        assert_eq!(built.is_ok(), fine, "{settings:?}");
    }
}

proptest! {
    #[test]
    fn no_text_panics(text in proptest::collection::vec(any::<u8>(), 0..60), format in "(%[YmdHMSzZbaLNjpsyeCF]|[ :/-]){0,8}") {
        let mut parser = TimeParser::in_zone(Some(&format), TimeZone::UTC).expect("a format");
        let _any = parser.parse(Given::Text(&text), NOW);
        let _any = free_form::read(&text);
        let _any = iso8601(&text);
    }

    #[test]
    fn times_that_look_like_times_never_panic(text in "[0-9:/ ,.TZa-fJOctan+-]{0,40}") {
        let _any = free_form::read(text.as_bytes()).and_then(|parts| parts.resolve(&TimeZone::UTC, NOW, false));
    }

    #[test]
    fn a_written_time_is_read_back(sec in any::<u32>(), nsec in 0u32..1_000_000_000) {
        let stamp = jiff::Timestamp::new(i64::from(sec), 0).expect("in range");
        let text = format!("{}.{nsec:09} +0000", stamp.strftime("%Y-%m-%d %H:%M:%S"));
        prop_assert_eq!(read(Some("%Y-%m-%d %H:%M:%S.%N %z"), &text), Some((sec, nsec)));
        prop_assert_eq!(read(Some("%F %T.%L %z"), &text), Some((sec, nsec)));
        prop_assert_eq!(read(None, &text), Some((sec, nsec)));
    }
}
