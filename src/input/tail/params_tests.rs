//! What single parameters do to a running source.

use super::*;

fn in_encoding(place: &Place, from: Option<&str>, to: Option<&str>) -> Params {
    Params {
        encoding: to.map(str::to_owned),
        from_encoding: from.map(str::to_owned),
        ..place.params("a.log")
    }
}

fn utf16(text: &str) -> Vec<u8> {
    text.encode_utf16().flat_map(u16::to_le_bytes).collect()
}

#[test]
fn lines_of_utf16_arrive_as_utf8_and_positions_count_the_files_bytes() {
    let place = Place::new();
    place.append("a.log", utf16("あ😀\r\nਊ一\nhal"));
    let params = in_encoding(&place, Some("UTF-16LE"), Some("UTF-8"));
    let running = Running::start(params.clone(), Arc::default());
    running.expect(&["あ😀", "ਊ一"]);
    until("two lines are safe", || place.position("a.log") == Some(16));
    place.append("a.log", &utf16("f\n")[..3]);
    running.expect(&["あ😀", "ਊ一"]);
    running.close(Phase::Now);
    assert_eq!(place.position("a.log"), Some(16));
    let again = Running::start(params, Arc::default());
    place.append("a.log", &utf16("\n")[1..]);
    again.expect(&["half"]);
    until("all is safe", || place.position("a.log") == Some(26));
    again.close(Phase::Now);
}

#[test]
fn values_are_str_where_the_encoding_is_known_and_bin_where_not() {
    for (from, to, line, record) in [
        (
            None,
            None,
            &b"\xe3\x81\x82\xff"[..],
            &b"\x81\xa7message\xc4\x04\xe3\x81\x82\xff"[..],
        ),
        (
            None,
            Some("UTF-8"),
            b"\xe3\x81\x82\xff",
            b"\x81\xa7message\xa4\xe3\x81\x82\xff",
        ),
        (
            Some("UTF-8"),
            Some("utf-8"),
            b"\xe3\x81\x82",
            b"\x81\xa7message\xa3\xe3\x81\x82",
        ),
        (
            None,
            Some("EUC-JP"),
            b"\xa4\xa2",
            b"\x81\xa7message\xa3\xe3\x81\x82",
        ),
        (
            Some("EUC-JP"),
            Some("UTF-8"),
            b"\xa4\xa2",
            b"\x81\xa7message\xa3\xe3\x81\x82",
        ),
        (
            Some("UTF-8"),
            Some("ASCII-8BIT"),
            b"\xe3\x81\x82",
            b"\x81\xa7message\xc4\x01?",
        ),
    ] {
        let place = Place::new();
        place.append("a.log", [line, b"\n"].concat());
        let running = Running::start(in_encoding(&place, from, to), Arc::default());
        running.expect_count(1);
        assert_eq!(
            *running.sink.last.lock().expect("no panic"),
            record,
            "{from:?} {to:?}"
        );
        running.close(Phase::Now);
    }
}

#[test]
fn a_line_that_cannot_be_decoded_is_sent_with_replacements_and_passed() {
    let place = Place::new();
    place.append("a.log", b"\x93\xfa\n\xff\x81\nb\n");
    let params = in_encoding(&place, Some("Shift_JIS"), Some("UTF-8"));
    let running = Running::start(params, Arc::default());
    running.expect(&["日", "\u{fffd}\u{fffd}", "b"]);
    until("all is safe", || place.position("a.log") == Some(8));
    running.close(Phase::Now);
}

#[test]
fn a_text_of_several_lines_covers_the_files_bytes_in_any_encoding() {
    let place = Place::new();
    place.append("a.log", utf16("一\n 二\n 三\n四\n 五"));
    let params = in_encoding(&place, None, Some("UTF-16LE"));
    let running = Running::with(params, joined_by_first_lines(), Arc::default());
    running.expect(&["一\n 二\n 三"]);
    until("the first text is safe", || {
        place.position("a.log") == Some(16)
    });
    running.finish(Phase::AtEnd);
    running.expect(&["一\n 二\n 三", "四\n 五"]);
    running.close(Phase::AtEnd);
    assert_eq!(place.position("a.log"), Some(24));
}

#[test]
fn an_unmatched_line_is_labelled_too() {
    let place = Place::new();
    place.append("a.log", "bad\n");
    let params = Params {
        emit_unmatched_lines: true,
        ..in_encoding(&place, None, Some("UTF-8"))
    };
    let running = Running::start(params, Arc::default());
    running.expect(&["bad"]);
    let record = running.sink.last.lock().expect("no panic").clone();
    assert_eq!(record, b"\x81\xaeunmatched_line\xa3bad");
    running.close(Phase::Now);
}
