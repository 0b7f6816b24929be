use super::super::tests::{NOW, json_of, section};
use super::*;
use proptest::prelude::*;
use serde_json::json;

fn parser(params: Params) -> SyslogParser {
    SyslogParser::new(&section(), &Common::default(), &params).expect("a parser")
}

fn with_priority(message_format: MessageFormat) -> SyslogParser {
    parser(Params {
        message_format,
        with_priority: true,
        ..Params::default()
    })
}

fn string_engine() -> SyslogParser {
    parser(Params {
        parser_engine: Engine::String,
        ..Params::default()
    })
}

#[test]
fn rfc3164_lines_are_read_alike_by_both_engines() {
    let line = b"Feb 28 12:00:00 192.168.0.1 fluentd[11111]: [error] hi: there";
    for mut parser in [parser(Params::default()), string_engine()] {
        let (_, record) = json_of(&mut parser, line);
        assert_eq!(
            record,
            json!({"host": "192.168.0.1", "ident": "fluentd", "pid": "11111", "message": "[error] hi: there"})
        );
    }
}

#[test]
fn runs_of_blanks_in_the_time_count_once() {
    let common = Common {
        keep_time_key: true,
        ..Common::default()
    };
    let mut parser = SyslogParser::new(&section(), &common, &Params::default()).expect("a parser");
    let (_, record) = json_of(&mut parser, b"Feb  5 17:32:18 10.0.0.99 su: hi");
    assert_eq!(
        record,
        json!({"time": "Feb 5 17:32:18", "host": "10.0.0.99", "ident": "su", "message": "hi"})
    );
}

#[test]
fn the_priority_is_a_number_and_required_where_configured() {
    let mut parser = with_priority(MessageFormat::Rfc3164);
    let (_, record) = json_of(&mut parser, b"<6>Feb 28 12:00:00 h i: m");
    assert_eq!(
        record,
        json!({"pri": 6, "host": "h", "ident": "i", "message": "m"})
    );
    let mut batch = Entries::default();
    let parsed = parser.parse(b"Feb 28 12:00:00 h i: m", NOW, Extra::default(), &mut batch);
    assert_eq!(parsed, Parsed::Unmatched);
}

#[test]
fn lines_with_too_few_words_are_invalid_or_unmatched_by_engine() {
    let mut batch = Entries::default();
    let mut parse = |mut parser: SyslogParser, line: &[u8]| {
        parser.parse(line, NOW, Extra::default(), &mut batch)
    };
    assert!(matches!(
        parse(parser(Params::default()), b"too few"),
        Parsed::Invalid(_)
    ));
    assert_eq!(parse(string_engine(), b"too few"), Parsed::Unmatched);
    assert_eq!(
        parse(parser(Params::default()), b"Feb 28 12:00:00 host"),
        Parsed::Unmatched
    );
}

#[test]
fn the_string_engine_takes_an_ident_without_colon_only_if_allowed() {
    let line = b"Feb 28 12:00:00 h last message\nrepeated";
    assert_eq!(
        json_of(&mut string_engine(), line).1,
        json!({"host": "h", "ident": "last", "message": "message\nrepeated"})
    );
    let mut strict = parser(Params {
        parser_engine: Engine::String,
        support_colonless_ident: false,
        ..Params::default()
    });
    assert_eq!(
        json_of(&mut strict, line).1,
        json!({"host": "h", "message": "last message\nrepeated"})
    );
}

#[test]
fn rfc5424_lines_are_read() {
    let mut parser = with_priority(MessageFormat::Auto);
    let line = b"<16>1 2017-02-06T13:14:15.003Z 192.168.0.1 fluentd 11111 ID24224 [a x=\"1\\]\"][b y=\"2\"] Hi,\nfrom Fluentd!\n";
    let (time, record) = json_of(&mut parser, line);
    assert_eq!((time.sec, time.nsec), (1_486_386_855, 3_000_000));
    assert_eq!(
        record,
        json!({"pri": 16, "host": "192.168.0.1", "ident": "fluentd", "pid": "11111", "msgid": "ID24224", "extradata": "[a x=\"1\\]\"][b y=\"2\"]", "message": "Hi,\nfrom Fluentd!"})
    );
    let (time, record) = json_of(&mut parser, b"<16>1 2017-02-06T13:14:15Z h i - - -");
    assert_eq!(time.sec, 1_486_386_855);
    assert_eq!(
        record,
        json!({"pri": 16, "host": "h", "ident": "i", "pid": "-", "msgid": "-", "extradata": "-"})
    );
    let (_, record) = json_of(&mut parser, b"<16>Feb 28 12:00:00 h i: m");
    assert_eq!(
        record,
        json!({"pri": 16, "host": "h", "ident": "i", "message": "m"})
    );
}

#[test]
fn a_broken_rfc5424_head_is_unmatched_and_a_broken_time_invalid() {
    let mut parser = with_priority(MessageFormat::Rfc5424);
    let mut batch = Entries::default();
    for (line, invalid) in [
        (&b"<16>12017-02-06T13:14:15Z h i - - -"[..], false),
        (b"<16>1  2017-02-06T13:14:15Z h i - - -", true),
        (b"<16>1 - h i - - -", true),
    ] {
        let parsed = parser.parse(line, NOW, Extra::default(), &mut batch);
        assert_eq!(matches!(parsed, Parsed::Invalid(_)), invalid, "{parsed:?}");
    }
    assert!(batch.is_empty());
}

proptest! {
    #[test]
    fn no_line_panics(line in proptest::collection::vec(any::<u8>(), 0..80), text in "(<[0-9]{1,3}>)?1? ?[A-Za-z0-9:\\[\\]. -]{0,60}") {
        for line in [&line[..], text.as_bytes()] {
            for mut parser in [parser(Params::default()), string_engine(), with_priority(MessageFormat::Auto)] {
                let mut batch = Entries::default();
                let parsed = parser.parse(line, NOW, Extra::default(), &mut batch);
                prop_assert_eq!(batch.count(), usize::from(parsed == Parsed::Events(1)));
            }
        }
    }
}
