//! The twelve shapes of public configurations: each is read, and its parameters mean what they mean in Fluentd.

use std::collections::BTreeMap;
use std::fs;

use serde::Deserialize;

use super::shapes::*;
use crate::config::types::{Size, Time};
use crate::config::{Config, Element, LoadOptions, World, legacy, load};

/// Reads a shape from a file, with a file for its includes beside it.
fn read(text: &str, env: &[(&str, &str)]) -> Config {
    let directory = tempfile::tempdir().expect("directory");
    let path = directory.path().join("td-agent.conf");
    fs::write(&path, text).expect("write");
    let world = World {
        env: env
            .iter()
            .map(|(key, value)| (key.to_string(), value.to_string()))
            .collect(),
        hostname: "web-1".to_owned(),
    };
    let options = LoadOptions {
        world,
        ..LoadOptions::default()
    };
    load(&path, &options).unwrap_or_else(|errors| panic!("{errors}"))
}

fn nth<'a>(parent: &'a Element, name: &'a str, index: usize) -> &'a Element {
    parent.sections(name).nth(index).expect(name)
}

#[derive(Deserialize)]
struct Tail {
    path: Vec<String>,
    tag: String,
    #[serde(default)]
    read_from_head: bool,
    #[serde(default)]
    refresh_interval: Option<Time>,
    #[serde(default)]
    exclude_path: Vec<String>,
}

#[test]
fn the_two_block_forwarder_is_read() {
    let config = read(THE_TWO_BLOCK_FORWARDER, &[]);
    let source = nth(config.root(), "source", 0);
    let tail: Tail = source.params().expect("tail");
    assert_eq!(
        (tail.tag.as_str(), tail.path),
        ("web.access", vec!["/var/log/httpd/access_log".to_owned()])
    );
    let parsed = legacy::flat_parse(source).expect("parse");
    assert_eq!(
        nth(&parsed, "parse", 0).plugin_type().expect("type"),
        "none"
    );
    let forward = nth(config.root(), "match", 0);
    assert_eq!(forward.arg(), Some("**"));
    assert_eq!(nth(forward, "server", 0).get("port"), Some("24224"));
}

#[test]
fn the_v0_12_apache_pair_keeps_its_regular_expressions_and_interval() {
    let config = read(THE_V0_12_APACHE_PAIR, &[]);
    let parsed = legacy::flat_parse(nth(config.root(), "source", 1)).expect("parse");
    let parse = nth(&parsed, "parse", 0);
    assert_eq!(parse.plugin_type().expect("type"), "regexp");
    assert!(
        parse.get("expression").expect("expression").ends_with(
            "\"(?<verb>\\S+)(?: +(?<uri>\\S*) +\\S*)?\" (?<status>\\d+) (?<bytes>\\S+)/"
        )
    );
    let forward = legacy::flat_buffer(nth(config.root(), "match", 0), "tag").expect("buffer");
    assert_eq!(nth(&forward, "buffer", 0).get("flush_interval"), Some("1s"));
}

#[test]
fn the_nginx_template_has_every_old_buffer_name() {
    let text = THE_NGINX_TEMPLATE
        .replace("{{ env_name }}", "prod")
        .replace("{{ nginx_access_log }}", "/var/log/nginx/access.log")
        .replace("{{ aggregator }}", "10.1.2.3");
    let config = read(&text, &[]);
    let source = nth(config.root(), "source", 0);
    assert_eq!(
        source.get("pos_file"),
        Some("/var/log/td-agent/nginx.access.pos")
    );
    let filter = nth(config.root(), "filter", 0);
    let record: Vec<_> = nth(filter, "record", 0).entries().collect();
    assert_eq!(record, [("host", Some("web-1")), ("env", Some("prod"))]);
    let forward = legacy::flat_buffer(nth(config.root(), "match", 0), "tag").expect("buffer");
    let buffer: BTreeMap<String, String> = nth(&forward, "buffer", 0).params().expect("map");
    assert_eq!(buffer["flush_thread_count"], "4");
    assert_eq!(buffer["retry_wait"], "1s");
    assert_eq!(buffer.len(), 11);
}

#[test]
fn a_template_hole_in_place_of_a_value_is_an_error_that_says_so() {
    let error = Config::from_text(THE_NGINX_TEMPLATE)
        .expect_err("holes")
        .to_string();
    assert!(
        error.starts_with("text:3: in <source>: path: not a JSON hash"),
        "{error}"
    );
}

#[test]
fn system_logs_have_lists_and_bare_words() {
    let config = read(SYSTEM_LOGS_TO_TWO_COLLECTORS, &[]);
    let tail: Tail = nth(config.root(), "source", 0).params().expect("tail");
    assert_eq!(tail.path, ["/var/log/messages", "/var/log/secure"]);
    #[derive(Deserialize)]
    struct Server {
        weight: u32,
        #[serde(default)]
        standby: bool,
    }
    let forward = nth(config.root(), "match", 0);
    let spare: Server = nth(forward, "server", 1).params().expect("server");
    assert!(spare.standby && spare.weight == 60);
    #[derive(Deserialize)]
    struct Buffer {
        total_limit_size: Size,
        retry_max_interval: Time,
    }
    let buffer: Buffer = nth(forward, "buffer", 0).params().expect("buffer");
    assert_eq!(
        (buffer.total_limit_size, buffer.retry_max_interval),
        (Size(2 << 30), Time::seconds(120))
    );
}

#[test]
fn the_boot_config_takes_the_environment() {
    let config = read(
        THE_ENVIRONMENT_DRIVEN_BOOT_CONFIG,
        &[("AGG_HOST", "10.0.0.1"), ("STAGE", "prod")],
    );
    assert_eq!(config.system().expect("system").workers, 1);
    let source = nth(config.root(), "source", 0);
    let tail: Tail = source.params().expect("tail");
    assert_eq!(tail.tag, "app.prod");
    assert!(tail.read_from_head);
    assert_eq!(tail.refresh_interval, Some(Time::seconds(5)));
    assert_eq!(
        tail.exclude_path,
        ["/srv/app/log/*.gz", "/srv/app/log/*.zip"]
    );
    assert_eq!(source.get("pos_file"), Some("/var/lib/agent/app.pos"));
    let record = nth(nth(config.root(), "filter", 0), "record", 0);
    assert_eq!(record.entries().next(), Some(("instance", None)));
    let server = nth(nth(config.root(), "match", 0), "server", 0);
    assert_eq!(
        (server.get("host"), server.get("port")),
        (Some("10.0.0.1"), Some("24224"))
    );
    assert!(!config.dump().contains("10.0.0.1"));
}

#[test]
fn java_multiline_keeps_its_numbered_formats_and_labels() {
    let config = read(JAVA_MULTILINE_WITH_LABELS, &[]);
    assert!(config.warnings()[0].line().contains("no file matches"));
    let source = nth(config.root(), "source", 0);
    assert_eq!(source.get("@label"), Some("@JAVA"));
    let parsed = legacy::flat_parse(source).expect("parse");
    let parse = nth(&parsed, "parse", 0);
    assert_eq!(parse.get("format2"), Some("/(?<message>.*)/"));
    assert_eq!(parse.get("time_format"), Some("%Y-%m-%d %H:%M:%S,%L"));
    let label = nth(config.root(), "label", 1);
    assert_eq!(label.arg(), Some("@ARCHIVE"));
    let file = legacy::flat_buffer(nth(label, "match", 0), "time").expect("buffer");
    assert_eq!(nth(&file, "buffer", 0).get("timekey"), Some("86400"));
}

#[test]
fn ltsv_types_and_slices_are_converted_inside_a_copy() {
    let config = read(LTSV_FANNED_OUT_TO_S3, &[]);
    let parsed = legacy::flat_parse(nth(config.root(), "source", 0)).expect("parse");
    let types = nth(&parsed, "parse", 0).get("types").map(str::to_owned);
    assert_eq!(
        types.as_deref(),
        Some(r#"{"status":"integer","reqtime":"float","size":"integer"}"#)
    );
    let store = nth(nth(config.root(), "match", 0), "store", 0);
    let s3 = legacy::flat_buffer(store, "time").expect("buffer");
    let buffer = nth(&s3, "buffer", 0);
    assert_eq!(buffer.get("timekey"), Some("3600"));
    assert_eq!(buffer.get("timekey_use_utc"), Some("true"));
    assert!(!config.dump().contains("EXAMPLE"));
}

#[test]
fn the_other_shapes_are_read_whole() {
    let metadata = read(METADATA_IN_THE_TAG, &[]);
    assert_eq!(nth(metadata.root(), "match", 1).arg(), Some("*.i-**"));

    let routing = read(TAG_ROUTING_BY_CONTENT, &[]);
    let rewrite = nth(routing.root(), "match", 0);
    assert_eq!(
        rewrite.get("rewriterule2"),
        Some("ident ^(cron|anacron)$  job.$1")
    );
    assert_eq!(nth(routing.root(), "match", 1).arg(), Some("{sec,job}.**"));

    let ruby = read(RUBY_HEAVY_ENRICHMENT, &[]);
    let record = nth(nth(ruby.root(), "filter", 0), "record", 0);
    assert_eq!(record.get("host_name"), Some("web-1"));
    assert_eq!(
        record.get("line"),
        Some("${record['source']}: ${record['message']}"),
        "what stands in dollar braces is left for the event"
    );
    let from = record.get("from").expect("from");
    assert!(
        from.ends_with("\"net-#{tag_parts[3]}\"; else \"unknown\"; end}"),
        "{from}"
    );
}

#[test]
fn journald_has_json_and_a_secret_from_the_environment() {
    let config = read(JOURNALD_AND_TLS, &[("FORWARD_KEY", "hush")]);
    let matches = nth(config.root(), "source", 0).get("matches");
    assert_eq!(
        matches,
        Some(r#"[{"_SYSTEMD_UNIT":"sshd.service"},{"_SYSTEMD_UNIT":"app.service"}]"#)
    );
    let store = nth(nth(config.root(), "match", 0), "store", 0);
    assert_eq!(store.arg(), Some("ignore_error"));
    assert_eq!(nth(store, "security", 0).get("shared_key"), Some("hush"));
    assert!(!config.dump().contains("hush"));
}

#[test]
fn the_grown_monster_is_read_with_crlf_too() {
    for text in [
        THE_GROWN_MONSTER.to_owned(),
        THE_GROWN_MONSTER.replace('\n', "\r\n"),
    ] {
        let config = read(&text, &[]);
        assert_eq!(config.root().sections("match").count(), 4);
        let reformed = nth(config.root(), "match", 2);
        assert_eq!(reformed.get("flush_interval"), Some("60s"));
        assert_eq!(nth(reformed, "server", 0).get("host"), Some("10.1.2.3"));
        let haproxy = nth(config.root(), "source", 2)
            .get("format")
            .expect("format");
        assert!(
            haproxy.ends_with(r#"{(?<hdr>[^}]*)} "(?<req>.+)"|(?<message>.+))/"#),
            "{haproxy}"
        );
    }
}
