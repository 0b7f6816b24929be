use super::*;
use crate::config::Config;

/// The first section of a text, which stays alive as long as the configuration.
fn element(text: &str) -> (Config, Element) {
    let config = Config::from_text(text).expect("config");
    let element = config.root().children().next().expect("section").clone();
    element.mark_used();
    (config, element)
}

/// The parameters of a child section as `key=value`.
fn params(element: &Element, name: &str) -> Vec<String> {
    let section = element.section(name).expect("one").expect("section");
    let pairs = section.entries();
    pairs
        .map(|(key, value)| format!("{key}={}", value.unwrap_or("nil")))
        .collect()
}

#[test]
fn every_flat_buffer_parameter_moves_to_its_new_name() {
    let (config, match_element) = element(
        "<match>\ntype forward\nbuffer_type file\nbuffer_path /b\nnum_threads 2\nflush_interval 5s\ntry_flush_interval 1\n\
         queued_chunk_flush_interval 2\ndisable_retry_limit\nretry_limit 3\nmax_retry_wait 1m\nbuffer_chunk_limit 8m\n\
         buffer_queue_limit 64\nbuffer_queue_full_action exception\nflush_at_shutdown true\n</match>",
    );
    let converted = flat_buffer(&match_element, "tag").expect("converted");
    let buffer = converted.section("buffer").expect("one").expect("buffer");
    assert_eq!(buffer.arg(), Some("tag"));
    let expected = [
        "@type=file",
        "path=/b",
        "flush_thread_count=2",
        "flush_interval=5s",
        "flush_thread_interval=1",
        "flush_thread_burst_interval=2",
        "retry_forever=",
        "retry_max_times=3",
        "retry_max_interval=1m",
        "chunk_limit_size=8m",
        "queue_limit_length=64",
        "overflow_action=throw_exception",
        "flush_at_shutdown=true",
        "flush_mode=interval",
    ];
    assert_eq!(params(&converted, "buffer"), expected);
    converted.plugin_type().expect("type");
    let unused: Vec<_> = config.unused().iter().map(|e| e.line()).collect();
    assert_eq!(
        unused,
        Vec::<String>::new(),
        "reading the buffer marks the flat parameters"
    );
}

#[test]
fn nothing_is_converted_without_a_flat_parameter_or_beside_a_buffer() {
    let (_, plain) = element("<match>\nhost x\nsecondary_limit 1\n</match>");
    assert_eq!(
        flat_buffer(&plain, "tag").expect("ok").children().count(),
        0
    );
    let (config, both) = element("<match>\nbuffer_type file\n<buffer>\n</buffer>\n</match>");
    let converted = flat_buffer(&both, "tag").expect("ok");
    assert_eq!(params(&converted, "buffer"), Vec::<String>::new());
    assert_eq!(
        config.unused().len(),
        1,
        "buffer_type is reported as unused"
    );
}

#[test]
fn a_path_without_a_type_stays_unused_and_says_so() {
    let (config, match_element) = element("<match>\nnum_threads 2\nbuffer_path /b\n</match>");
    let converted = flat_buffer(&match_element, "tag").expect("ok");
    assert_eq!(params(&converted, "buffer"), ["flush_thread_count=2"]);
    let warning = config.warnings()[0].line();
    assert!(
        warning.starts_with("text:3: in <match>: buffer_path: without buffer_type file"),
        "{warning}"
    );
    let (config, file) = element("<match>\nbuffer_path /b\n</match>");
    let converted = flat_buffer(&file, "time").expect("ok");
    assert_eq!(params(&converted, "buffer"), ["path=/b", "timekey=86400"]);
    assert_eq!(config.warnings().len(), 0);
}

#[test]
fn a_time_zone_without_slices_makes_no_buffer() {
    let (_, stdout) = element("<match>\ntimezone +0900\n</match>");
    assert_eq!(flat_buffer(&stdout, "").expect("ok").children().count(), 0);
    let (_, file) = element("<match>\ntimezone +0900\n</match>");
    let converted = flat_buffer(&file, "time").expect("ok");
    assert_eq!(
        params(&converted, "buffer"),
        ["timekey_zone=+0900", "timekey=86400"]
    );
}

#[test]
fn a_flat_retry_wait_is_honoured_with_a_warning() {
    let (config, match_element) = element("<match>\nretry_wait 3s\n</match>");
    let converted = flat_buffer(&match_element, "").expect("ok");
    assert_eq!(params(&converted, "buffer"), ["retry_wait=3s"]);
    let warning = config.warnings()[0].line();
    assert!(
        warning.starts_with("text:2: in <match>: retry_wait: Fluentd 1.x drops"),
        "{warning}"
    );
}

#[test]
fn a_flat_flush_interval_beside_a_buffer_is_taken_as_meant() {
    let (config, both) = element("<match>\nflush_interval 1s\n<buffer tag>\n</buffer>\n</match>");
    let converted = flat_buffer(&both, "tag").expect("ok");
    assert_eq!(
        params(&converted, "buffer"),
        ["flush_mode=interval", "flush_interval=1s"]
    );
    assert_eq!(config.warnings().len(), 1);

    let (config, both) =
        element("<match>\nflush_interval 1s\n<buffer>\nflush_interval 9s\n</buffer>\n</match>");
    let converted = flat_buffer(&both, "tag").expect("ok");
    assert_eq!(
        params(&converted, "buffer"),
        ["flush_interval=9s", "flush_mode=interval"]
    );
    assert_eq!(config.warnings().len(), 0);

    let (config, both) =
        element("<match>\nflush_interval 1s\n<buffer>\nflush_mode lazy\n</buffer>\n</match>");
    let converted = flat_buffer(&both, "tag").expect("ok");
    assert_eq!(params(&converted, "buffer"), ["flush_mode=lazy"]);
    assert_eq!(config.unused().len(), 1);
}

#[test]
fn time_slices_become_time_keys() {
    let timekey = |format: &str, more: &str| {
        let (_, m) = element(&format!(
            "<match>\ntime_slice_format {format}\n{more}\n</match>"
        ));
        flat_buffer(&m, "tag").map(|converted| {
            let arg = converted
                .children()
                .next()
                .expect("buffer")
                .arg()
                .map(str::to_owned);
            assert_eq!(arg.as_deref(), Some("time"));
            params(&converted, "buffer").join(" ")
        })
    };
    assert_eq!(timekey("%Y%m%d%H%M%S", "").expect("ok"), "timekey=1");
    assert_eq!(
        timekey("%Y%m%d%H%M", "utc").expect("ok"),
        "timekey=60 timekey_use_utc=true"
    );
    assert_eq!(
        timekey("%Y%m%d/%H", "localtime").expect("ok"),
        "timekey=3600 timekey_use_utc=false"
    );
    assert_eq!(
        timekey("%Y%m%d", "time_slice_wait 10m\ntimezone +0900").expect("ok"),
        "timekey_wait=10m timekey_zone=+0900 timekey=86400"
    );
    let errors = timekey("%Y%m", "utc\nlocaltime").expect_err("errors");
    assert_eq!(errors.iter().count(), 2);
    let (_, daily) = element("<match>\nbuffer_type memory\nutc\n</match>");
    let converted = flat_buffer(&daily, "time").expect("ok");
    assert_eq!(
        params(&converted, "buffer"),
        ["@type=memory", "timekey=86400"]
    );
}

#[test]
fn an_error_in_a_moved_parameter_points_at_the_line_that_was_written() {
    let (_, m) = element("<match>\nhost x\nbuffer_chunk_limit 8q\n</match>");
    let converted = flat_buffer(&m, "tag").expect("ok");
    let buffer = converted.section("buffer").expect("one").expect("buffer");
    let line = buffer.error_at("chunk_limit_size", "not a size").line();
    let expected = "text:3: in <match> > <buffer tag>: buffer_chunk_limit (chunk_limit_size): not a size. Got: 8q";
    assert_eq!(line, expected);
}

#[test]
fn flat_formats_become_parse_sections() {
    let parse = |text: &str| {
        let (_, source) = element(&format!("<source>\n{text}\n</source>"));
        let converted = flat_parse(&source).expect("ok");
        params(&converted, "parse").join(" ")
    };
    assert_eq!(parse("format none"), "@type=none");
    assert_eq!(
        parse("format /^(?<a>.*)$/i"),
        "@type=regexp expression=/^(?<a>.*)$/i"
    );
    assert_eq!(
        parse("format ltsv\ntypes a:integer,b:time:%d/%b\ntime_key t\nutc"),
        r#"@type=ltsv time_key=t utc= types={"a":"integer","b":"time:%d/%b"}"#
    );
    assert_eq!(
        parse("format tsv\ntypes a=int;b=time=%d\ntypes_delimiter ;\ntypes_label_delimiter ="),
        r#"@type=tsv types={"a":"int","b":"time:%d"}"#
    );
    assert_eq!(
        parse("format multiline\nformat_firstline /a/\nformat1 /b/\nformat12 /c/\nformatx /d/"),
        "@type=multiline format_firstline=/a/ format1=/b/ format12=/c/"
    );
    let (_, source) = element("<source>\nformat none\n<parse>\n@type json\n</parse>\n</source>");
    assert_eq!(
        params(&flat_parse(&source).expect("ok"), "parse"),
        ["@type=json"]
    );
}

#[test]
fn flat_formatter_and_inject_parameters_become_sections() {
    let (_, m) = element(
        "<match>\nformat json\ninclude_time_key\ninclude_tag_key true\ntime_as_epoch true\n</match>",
    );
    let formatted = flat_format(&m).expect("ok");
    assert_eq!(
        params(&formatted, "format"),
        ["@type=json", "time_type=unixtime"]
    );
    let injected = flat_inject(&formatted).expect("ok");
    assert_eq!(
        params(&injected, "inject"),
        ["time_key=time", "time_type=unixtime", "tag_key=tag"]
    );
}

#[test]
fn old_names_in_a_buffer_are_told_their_new_ones() {
    assert_eq!(
        hint_in_buffer("retry_limit").as_deref(),
        Some("did you mean 'retry_max_times'?")
    );
    assert_eq!(hint_in_buffer("flush_interval"), None);
    assert!(hint_in_buffer("slow_flush_log_threshold").is_some());
}
