use std::collections::BTreeMap;
use std::time::Duration;

use serde::Deserialize;

use crate::config::types::{Regexp, Secret, Size, Time};
use crate::config::{Config, LoadOptions, Result, World, parse_text};

#[derive(Debug, Deserialize, PartialEq)]
#[serde(rename_all = "lowercase")]
enum Mode {
    Lazy,
    Interval,
}

#[derive(Debug, Deserialize, PartialEq)]
struct Params {
    path: String,
    port: u16,
    #[serde(default)]
    standby: bool,
    mode: Option<Mode>,
    #[serde(default = "minute")]
    interval: Time,
    limit: Option<Size>,
    shared_key: Option<Secret>,
    #[serde(default)]
    list: Vec<String>,
    #[serde(default)]
    numbers: Vec<i64>,
    #[serde(default)]
    labels: BTreeMap<String, String>,
    ratio: Option<f64>,
    pattern: Option<Regexp>,
    #[serde(rename = "@label")]
    label: Option<String>,
}

fn minute() -> Time {
    Time::seconds(60)
}

fn config(text: &str) -> Config {
    let env = [("PORT", "hidden"), ("EMPTY", "")];
    let world = World {
        env: env
            .map(|(key, value)| (key.to_owned(), value.to_owned()))
            .into(),
        hostname: "web-1".to_owned(),
    };
    let options = LoadOptions {
        world,
        ..LoadOptions::default()
    };
    parse_text("test.conf", text, &options).expect("config")
}

fn params(lines: &str) -> Result<Params> {
    let config = config(&format!("<source>\n{lines}\n</source>"));
    let source = config.root().section("source")?.expect("section");
    source.params()
}

/// The lines of all errors.
fn errors(lines: &str) -> Vec<String> {
    let errors = params(lines).expect_err(lines);
    errors.iter().map(|error| error.line()).collect()
}

/// `path` and `port` and one more line: its value, or the message about it.
fn with(line: &str) -> std::result::Result<Params, String> {
    params(&format!("path x\nport 1\n{line}")).map_err(|errors| {
        assert_eq!(errors.iter().count(), 1, "{errors}");
        errors.iter().map(|error| error.line()).collect()
    })
}

#[test]
fn every_type_is_read() {
    let read = params(
        "path /x\nport 24224\nstandby\nmode interval\ninterval 1m\nlimit 8m\nshared_key s3cret\nlist a, b ,c,,\nnumbers [1, \"2\"]\n\
         labels a:b,c: d\nratio 0.5\npattern /^a$/i\n@label @X",
    );
    let read = read.expect("params");
    let expected = Params {
        path: "/x".to_owned(),
        port: 24224,
        standby: true,
        mode: Some(Mode::Interval),
        interval: Time::seconds(60),
        limit: Some(Size(8 << 20)),
        shared_key: Some(Secret("s3cret".to_owned())),
        list: ["a", "b", "c"].map(str::to_owned).into(),
        numbers: vec![1, 2],
        labels: [("a", "b"), ("c", " d")]
            .map(|(key, value)| (key.to_owned(), value.to_owned()))
            .into(),
        ratio: Some(0.5),
        pattern: Some(Regexp {
            source: "^a$".to_owned(),
            flags: "i".to_owned(),
        }),
        label: Some("@X".to_owned()),
    };
    assert_eq!(read, expected);
}

#[test]
fn times_are_fluentds_where_fluentd_reads_what_stands_there() {
    let interval = |text: &str| with(&format!("interval {text}")).map(|read| read.interval.0);
    let milliseconds = |text| interval(text).map(|time| time.as_millis());
    assert_eq!(interval("90"), Ok(Duration::from_secs(90)));
    assert_eq!(interval("90s"), Ok(Duration::from_secs(90)));
    assert_eq!(interval("2m"), Ok(Duration::from_secs(120)));
    assert_eq!(interval("1h"), Ok(Duration::from_secs(3600)));
    assert_eq!(interval("72d"), Ok(Duration::from_secs(72 * 86400)));
    assert_eq!(milliseconds("0.25"), Ok(250));
    for (text, fluentd, write) in [
        ("500ms", "30000 seconds", "For 500ms write 0.5"),
        ("1.5s", "5 seconds", "For 1.5s write 1.5"),
        ("0.5h", "18000 seconds", "For 0.5h write 1800"),
        ("1m30s", "30 seconds", "For 1m30s write 90"),
        ("1d2h", "7200 seconds", "For 1d2h write 93600"),
        ("1w", "1 seconds", "For 1w write 604800"),
        ("10M", "10 seconds", "not a time"),
        ("-1s", "1 seconds", "not a time"),
        ("soon", "0 seconds", "not a time"),
    ] {
        let error = interval(text).expect_err(text);
        assert!(
            error.contains(&format!("Fluentd would read {fluentd}")),
            "{error}"
        );
        assert!(error.contains(write), "{error}");
        assert!(error.ends_with(&format!("Got: {text}")), "{error}");
    }
}

#[test]
fn sizes_are_fluentds_where_fluentd_reads_what_stands_there() {
    let limit =
        |text: &str| with(&format!("limit {text}")).map(|read| read.limit.map(|size| size.0));
    assert_eq!(limit("512"), Ok(Some(512)));
    assert_eq!(limit("8k"), Ok(Some(8192)));
    assert_eq!(limit("8M"), Ok(Some(8 << 20)));
    assert_eq!(limit("2g"), Ok(Some(2 << 30)));
    assert_eq!(limit("1t"), Ok(Some(1 << 40)));
    assert_eq!(limit("10kb"), Ok(Some(10240)));
    assert_eq!(limit("10KiB"), Ok(Some(10240)));
    assert_eq!(limit("-1"), Ok(Some(u64::MAX)));
    for (text, fluentd) in [
        ("8q", 8),
        ("1.5k", 5120),
        ("-5k", 5120),
        ("1p", 1),
        ("1k5m", 1024),
        ("1m2k", 2048),
        ("x", 0),
    ] {
        let error = limit(text).expect_err(text);
        assert!(
            error.contains(&format!("Fluentd would read {fluentd} bytes")),
            "{error}"
        );
    }
}

#[test]
fn booleans_are_true_yes_false_no_and_nothing() {
    let standby = |text: &str| with(&format!("standby {text}")).map(|read| read.standby);
    for text in ["true", "yes", "", "#comment", "\"#{ENV['EMPTY']}\""] {
        assert_eq!(standby(text), Ok(true), "{text}");
    }
    for text in ["false", "no"] {
        assert_eq!(standby(text), Ok(false), "{text}");
    }
    for text in ["maybe", "TRUE", "on", "1"] {
        assert!(
            standby(text).expect_err(text).contains("use true or false"),
            "{text}"
        );
    }
}

#[test]
fn numbers_may_have_something_behind_them_with_a_warning() {
    let text = "<source>\npath x\nport 24224x\nratio 1.5y\n</source>";
    let config = config(text);
    let source = config
        .root()
        .section("source")
        .expect("one")
        .expect("section");
    let read: Params = source.params().expect("params");
    assert_eq!((read.port, read.ratio), (24224, Some(1.5)));
    let warnings: Vec<_> = config
        .warnings()
        .iter()
        .map(|warning| warning.line())
        .collect();
    assert_eq!(
        warnings,
        [
            "test.conf:3: in <source>: port: only the leading number is read, as in Fluentd: 24224. Got: 24224x",
            "test.conf:4: in <source>: ratio: only the leading number is read, as in Fluentd: 1.5. Got: 1.5y",
        ]
    );
    assert!(errors("path x\nport abc")[0].contains("not an integer"));
    assert!(errors("path x\nport")[0].contains("not an integer"));
    assert!(errors("path x\nport 65536")[0].contains("out of range (allowed are 0 to 65535)"));
}

#[test]
fn all_wrong_and_missing_parameters_of_a_section_are_reported_at_once() {
    let found = errors(
        "standby maybe\nmode fast\ninterval soon\nnumbers 1,x\n# port and path are missing\nshared_key \"#{use_nil}\"",
    );
    let starts = [
        "test.conf:2: in <source>: standby: not a boolean",
        "test.conf:3: in <source>: mode: valid options are lazy,interval. Got: fast",
        "test.conf:4: in <source>: interval: not a time",
        "test.conf:5: in <source>: numbers: not an integer",
        "test.conf:1: in <source>: 'path' parameter is required",
        "test.conf:1: in <source>: 'port' parameter is required",
    ];
    assert_eq!(found.len(), starts.len(), "{found:#?}");
    for start in starts {
        assert!(
            found.iter().any(|line| line.starts_with(start)),
            "{start}: {found:#?}"
        );
    }
}

#[test]
fn a_wrong_required_parameter_is_not_also_missing() {
    assert_eq!(
        errors("path x\nport x"),
        ["test.conf:3: in <source>: port: not an integer. Got: x"]
    );
}

#[test]
fn a_misspelt_required_parameter_is_named() {
    let expected = "test.conf:1: in <source>: 'path' parameter is required ('paht' stands here: did you mean 'path'?)";
    assert_eq!(errors("paht x\nport 1"), [expected]);
}

#[test]
fn nil_and_default_are_absent_where_that_is_possible() {
    assert_eq!(
        with("limit \"#{use_nil}\"").map(|read| read.limit),
        Ok(None)
    );
    assert_eq!(
        with("interval \"#{use_default}\"").map(|read| read.interval),
        Ok(minute())
    );
    let error = with("interval \"#{use_nil}\"").expect_err("nil");
    assert!(
        error.contains("'interval' parameter is required but nil is specified"),
        "{error}"
    );
    assert!(
        errors("path \"#{use_default}\"\nport 1")[0].contains("'path' doesn't have default value")
    );
}

#[test]
fn values_from_the_environment_are_not_printed() {
    assert_eq!(
        errors("path x\nport \"#{ENV['PORT']}\""),
        [
            "test.conf:3: in <source>: port: not an integer. Got: \"#{ENV['PORT']}\" (6 characters, not shown)"
        ]
    );
    assert!(errors("path x\nport \"#{ENV['EMPTY']}\"")[0].ends_with("(empty)"));
}

#[test]
fn lists_and_hashes_take_json() {
    assert_eq!(with("list").map(|read| read.list), Ok(vec![]));
    assert_eq!(
        with("list [\"a\", 1, {\"b\": 2}]").map(|read| read.list.join(" ")),
        Ok("a 1 {\"b\":2}".to_owned())
    );
    assert_eq!(
        with("labels {\"a\": \"b\"}").map(|read| read.labels["a"].clone()),
        Ok("b".to_owned())
    );
    assert!(
        with("list \"[1\"")
            .expect_err("json")
            .contains("not a JSON array")
    );
}

#[test]
fn regular_expressions_have_slashes_and_flags_or_neither() {
    let pattern =
        |text: &str| with(&format!("pattern {text}")).map(|read| read.pattern.expect("pattern"));
    assert_eq!(pattern("a/b").expect("bare").source, "a/b");
    assert_eq!(pattern("/a/b/m").expect("slashes").source, "a/b");
    assert!(pattern("/a").expect_err("open").contains("closing slash"));
    assert!(
        pattern("/a/imx")
            .expect_err("flags")
            .contains("unknown flag 'x'")
    );
}

#[test]
fn what_nobody_reads_is_reported_with_the_nearest_known_name() {
    let config = config(
        "<source>\npaht x\npath y\nport 1\nstandbye\n<prase>\n</prase>\n</source>\n<sauce>\n</sauce>",
    );
    let source = config
        .root()
        .section("source")
        .expect("one")
        .expect("section");
    source.params::<Params>().expect("params");
    assert!(source.section("parse").expect("one").is_none());
    let unused: Vec<_> = config.unused().iter().map(|unused| unused.line()).collect();
    assert_eq!(
        unused,
        [
            "test.conf:2: parameter 'paht' in <source> is not used (did you mean 'path'?)",
            "test.conf:5: parameter 'standbye' in <source> is not used (did you mean 'standby'?)",
            "test.conf:6: in <source> > <prase>: section <prase> is not used in <source> (did you mean 'parse'?)",
            "test.conf:9: in <sauce>: section <sauce> is not used in <ROOT> (did you mean 'source'?)",
        ]
    );
}
