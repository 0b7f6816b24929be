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
    place.append("a.log", &utf16("あ😀\r\nਊ一\nhal"));
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
fn a_file_that_ends_within_a_character_at_the_first_start_is_read_on_from_the_next_one() {
    let place = Place::new();
    place.append("a.log", &utf16("old")[..5]);
    let params = Params {
        read_from_head: false,
        ..in_encoding(&place, Some("UTF-16LE"), Some("UTF-8"))
    };
    let running = Running::start(params, Arc::default());
    until("the first look is done", || {
        place.position("a.log") == Some(5)
    });
    place.append("a.log", &utf16("old")[5..]);
    place.append("a.log", &utf16("er\nnew\n"));
    running.expect(&["er", "new"]);
    until("all is safe", || place.position("a.log") == Some(20));
    running.close(Phase::Now);
}

#[test]
fn a_path_does_not_take_the_place_of_an_unmatched_line() {
    let place = Place::new();
    place.append("a.log", "bad\n");
    let params = Params {
        emit_unmatched_lines: true,
        path_key: Some("unmatched_line".to_owned()),
        ..place.params("a.log")
    };
    let running = Running::start(params, Arc::default());
    running.expect(&["bad"]);
    running.close(Phase::Now);
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
        place.append("a.log", &[line, b"\n"].concat());
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
    place.append("a.log", &utf16("一\n 二\n 三\n四\n 五"));
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

/// Rules under which each file of the place is its own group: names to limits.
fn limits(period: &str, rules: &[(&str, i64)]) -> Option<Arc<group::Rules>> {
    let rules: Vec<String> = rules
        .iter()
        .map(|(name, limit)| format!("<rule>\nmatch name:/{name}/\nlimit {limit}\n</rule>\n"))
        .collect();
    let text = format!(
        "<source>\n<group>\npattern /(?<name>[a-z]+)\\.log/\nrate_period {period}\n{}</group>\n</source>\n",
        rules.concat()
    );
    group::configure(&section(&text)).expect("good rules")
}

#[test]
fn a_group_gives_its_lines_in_periods_while_other_files_go_on() {
    let place = Place::new();
    place.append("slow.log", "1\n2\n3\n4\n5\n6\n7");
    place.append("free.log", "a\nb\nc\nd\n");
    let params = Params {
        group: limits("1s", &[("slow", 3)]),
        ..place.params("*.log")
    };
    let begin = Instant::now();
    let running = Running::start(params, Sink::holding());
    running.expect(&["a", "b", "c", "d", "1", "2", "3"]);
    // The rest is where it was: in the file, before the position.
    running.sink.held().into_iter().for_each(Receipt::release);
    until("three lines are safe", || {
        place.position("slow.log") == Some(6)
    });
    assert_eq!(Progress::read(&running.progress.lines), 7);
    running.expect(&["a", "b", "c", "d", "1", "2", "3", "4", "5", "6"]);
    assert!(
        begin.elapsed() >= Duration::from_secs(1),
        "it waited for the period"
    );
    place.append("free.log", "e\n");
    place.append("slow.log", "\n");
    until("all others are there", || running.sink.texts().len() == 12);
    running.close(Phase::Now);
}

#[test]
fn nobody_waits_for_a_limit_at_the_end_of_a_run() {
    let place = Place::new();
    place.append("slow.log", "1\n2\n3\n4\n5\n6\n7");
    let params = Params {
        group: limits("1h", &[("slow", 1)]),
        ..place.params("*.log")
    };
    let running = Running::start(params, Arc::default());
    running.expect(&["1"]);
    running.finish(Phase::AtEnd);
    running.expect(&["1", "2", "3", "4", "5", "6", "7"]);
    running.close(Phase::AtEnd);
}

#[test]
fn a_file_of_a_group_with_limit_0_is_not_read_and_does_not_stay_open_when_it_is_rotated() {
    let place = Place::new();
    place.append("mute.log", "1\n2\n");
    place.append("free.log", "a\n");
    let params = Params {
        group: limits("1s", &[("mute", 0)]),
        ..place.params("*.log")
    };
    let running = Running::start(params, Arc::default());
    running.expect(&["a"]);
    until("it is seen", || {
        Progress::read(&running.progress.behind) == 4
    });
    assert_eq!(place.position("mute.log"), Some(0));
    place.rename("mute.log", "mute.log.1");
    place.append("mute.log", "3\n");
    until("only two files are open", || {
        Progress::read(&running.progress.behind) == 2
            && Progress::read(&running.progress.files) == 2
    });
    running.finish(Phase::AtEnd);
    running.expect(&["a"]);
    running.close(Phase::AtEnd);
    assert_eq!(place.position("mute.log"), Some(0));
}

#[test]
fn a_limit_of_bytes_is_kept_per_file_and_second() {
    let place = Place::new();
    let line = format!("{}\n", "x".repeat(1023));
    place.append("a.log", &line.repeat(160));
    place.append("b.log", "b\n");
    let params = Params {
        read_bytes_limit_per_second: Some(Size(64 << 10)),
        ..place.params("*.log")
    };
    let begin = Instant::now();
    let running = Running::start(params, Arc::default());
    running.expect_count(65);
    until("the position is at the limit", || {
        place.position("a.log") == Some(64 << 10)
    });
    until("all lines", || running.sink.texts().len() == 161);
    assert!(begin.elapsed() >= Duration::from_secs(2), "it waited twice");
    running.close(Phase::Now);
}

#[test]
fn a_text_of_several_lines_is_not_torn_where_the_rest_of_it_waits_for_a_limit() {
    let place = Place::new();
    place.append("slow.log", "one\n at x\n at y\ntwo\n");
    let params = Params {
        group: limits("1.5", &[("slow", 2)]),
        multiline_flush_interval: Some(Time(Duration::from_millis(10))),
        ..place.params("*.log")
    };
    let running = Running::with(params, joined_by_first_lines(), Arc::default());
    running.expect(&["one\n at x\n at y", "two"]);
    running.close(Phase::Now);
}

/// A source of `a.log` with these parameters and a multi-line parser with those.
fn multiline(place: &Place, params: &str, parse: &str) -> String {
    format!(
        "<source>\n@type tail\npath {}\npos_file {}\ntag app\nread_from_head true\n{params}\n<parse>\n@type multiline\n{parse}\n</parse>\n</source>\n",
        place.at("a.log").display(),
        place.at("a.pos").display(),
    )
}

#[test]
fn a_line_before_any_first_line_is_parsed_where_unmatched_lines_are_emitted() {
    let formats = "format_firstline /^\\d/\nformat1 /^(?<message>[ \\d].*)/";
    for (params, texts) in [
        ("", &["1\n x"][..]),
        ("emit_unmatched_lines false", &["1\n x"]),
        ("emit_unmatched_lines true", &[" stray", "lost", "1\n x"]),
    ] {
        let place = Place::new();
        place.append("a.log", " stray\nlost\n1\n x\n");
        let text = multiline(&place, params, formats);
        let running = Running::configured(&text, Arc::default());
        running.finish(Phase::AtEnd);
        running.expect(texts);
        let skipped = Progress::read(&running.progress.skipped);
        assert_eq!(skipped, 3 - texts.len() as u64, "{params}");
        running.close(Phase::AtEnd);
    }
}

#[test]
fn what_does_not_match_in_a_text_is_emitted_as_soon_as_the_parameter_stands_there() {
    let formats = "format_firstline /^[\\dx]/\nformat1 /(?<message>\\d+);/";
    for (params, texts) in [
        ("", &["1", "2"][..]),
        (
            "emit_unmatched_lines false",
            &["1", "2", "rest\nof it", "xy"],
        ),
        (
            "emit_unmatched_lines true",
            &["1", "2", "rest\nof it", "xy"],
        ),
    ] {
        let place = Place::new();
        place.append("a.log", "1;\n2;rest\nof it\nxy\n");
        let text = multiline(&place, params, formats);
        let running = Running::configured(&text, Arc::default());
        running.finish(Phase::AtEnd);
        running.expect(texts);
        running.close(Phase::AtEnd);
    }
}

#[test]
fn formats_outside_of_parse_count_before_those_inside() {
    let place = Place::new();
    place.append("a.log", "1\n2\n");
    let text = multiline(
        &place,
        "format1 /(?<message>1\\n)/\nformat2 /2/",
        "format1 /(?<message>1)/",
    );
    let running = Running::configured(&text, Arc::default());
    running.expect(&["1\n"]);
    running.close(Phase::Now);
}

#[test]
fn without_a_first_line_no_interval_ends_a_text() {
    let interval = "multiline_flush_interval 0.01";
    let (place, other) = (Place::new(), Place::new());
    place.append("a.log", "1\n");
    let text = multiline(&place, interval, "format1 /(?<message>1.*2)/");
    let running = Running::configured(&text, Arc::default());
    until("the line is held", || {
        Progress::read(&running.progress.lines) == 1
    });
    // Begun later, so that its interval ends after the first one's would have ended.
    other.append("a.log", "1\n");
    let parse = "format_firstline /1/\nformat1 /(?<message>.*)/";
    let flushed = Running::configured(&multiline(&other, interval, parse), Arc::default());
    flushed.expect(&["1"]);
    place.append("a.log", "2\n");
    running.expect(&["1\n2"]);
    running.close(Phase::Now);
    flushed.close(Phase::Now);
}

#[test]
fn an_element_of_a_json_array_that_is_no_object_is_an_unmatched_line() {
    let place = Place::new();
    place.append("a.log", "[{\"message\": \"a\"}, 1, {\"message\": \"b\"}]\n");
    let text = format!(
        "<source>\n@type tail\npath {}\ntag app\nread_from_head true\nemit_unmatched_lines true\n<parse>\n@type json\n</parse>\n</source>\n",
        place.at("a.log").display(),
    );
    let running = Running::configured(&text, Arc::default());
    let line = r#"[{"message": "a"}, 1, {"message": "b"}]"#;
    running.expect(&["a", "b", line]);
    running.close(Phase::Now);
}

#[test]
fn regexps_match_the_characters_of_a_file_whose_encoding_is_known() {
    let place = Place::new();
    let line = "2026年：東京は晴れ\n".as_bytes();
    place.append(
        "a.log",
        &[line, b"2026\xff\xe5\xb9\xb4\xef\xbc\x9ax\n"].concat(),
    );
    let text = format!(
        "<source>\n@type tail\npath {}\ntag app\nread_from_head true\nencoding UTF-8\n<parse>\n@type regexp\nexpression /^\\d{{4}}[^：]+：(?<message>.{{0,3}})/\n</parse>\n</source>\n",
        place.at("a.log").display(),
    );
    let running = Running::configured(&text, Arc::default());
    // The second line is not valid: its bytes are matched, where Ruby raises and Fluentd drops it.
    running.expect(&["東京は", "x"]);
    running.close(Phase::Now);
}
