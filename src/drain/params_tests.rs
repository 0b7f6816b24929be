use super::*;
use crate::config::Config;

fn read(lines: &str) -> (config::Result<Plan>, Vec<String>) {
    let config = Config::from_text(&format!("<drain>\n{lines}\n</drain>")).expect("well formed");
    let section = config.root().section("drain").expect("one").expect("there");
    let no_other = |element: &Element| Err(element.error("no such output here").into());
    let plan = configure(section, &no_other);
    let warnings = config
        .warnings()
        .iter()
        .chain(&config.unused())
        .map(|warning| warning.line())
        .collect();
    (plan, warnings)
}

fn plan(lines: &str) -> Plan {
    match read(lines) {
        (Ok(plan), _) => plan,
        (Err(errors), _) => panic!("{errors}"),
    }
}

fn error(lines: &str) -> String {
    read(lines)
        .0
        .err()
        .unwrap_or_else(|| panic!("accepted: {lines}"))
        .to_string()
}

const DESIGN: &str = "
    source doorbell
    queue_url https://sqs.ap-northeast-1.amazonaws.com/123456789012/my-hook
    max_drain 15m
    on_undelivered continue
    <before>
      command systemctl stop zabbix-agent
      timeout 20s
    </before>
    <before>
      command sync
    </before>
    <spill>
      @type s3
      s3_bucket logs
      path residual/${instance_id}/
    </spill>
    <archive>
      path /var/log/php-fpm/*.log,/var/log/app/*.log
    </archive>
    <after>
      @type zabbix
      url https://zabbix.example.com/api_jsonrpc.php
      token abc
    </after>
    <after>
      command logger gone
    </after>";

#[test]
fn the_section_of_the_design_becomes_a_plan_without_a_warning() {
    let (read, warnings) = read(DESIGN);
    let Ok(plan) = read else { panic!("refused") };
    assert_eq!(warnings, [""; 0]);
    assert_eq!(plan.params.max_drain.0, Duration::from_secs(900));
    let before: Vec<_> = plan
        .before
        .iter()
        .map(|command| (command.line.as_str(), command.timeout.as_secs()))
        .collect();
    assert_eq!(before, [("systemctl stop zabbix-agent", 20), ("sync", 10)]);
    let archive = plan.archive.as_ref().expect("files");
    assert_eq!(
        archive.paths,
        ["/var/log/php-fpm/*.log", "/var/log/app/*.log"]
    );
    assert_eq!(archive.place.path, "residual/${instance_id}/");
    assert_eq!(archive.place.store.bucket(), "logs");
    assert!(matches!(
        &plan.after[..],
        [Step::Zabbix(_), Step::Command(_)]
    ));
}

#[test]
fn an_empty_section_has_the_documented_defaults() {
    let plan = plan("source imds");
    assert_eq!(plan.params.imds_interval.0, Duration::from_secs(2));
    assert_eq!(plan.params.on_undelivered, OnUndelivered::Continue);
    assert_eq!(plan.heartbeat, Setting::Auto);
    assert!(plan.spill.is_none() && plan.archive.is_none() && !plan.params.dry_run);
}

#[test]
fn what_cannot_work_is_an_error_that_says_why() {
    let table = [
        ("source queue", "needs 'queue_url'"),
        ("source telepathy", "source"),
        ("queue_url my-queue", "https://"),
        ("heartbeat often", "auto, off or a number"),
        ("max_drain 0", "more than zero"),
        ("imds_interval 0.01", "at least 0.1"),
        (
            "<before>\ntimeout 5\n</before>",
            "'command' parameter is required",
        ),
        (
            "<spill>\n@type s3\n</spill>",
            "'s3_bucket' parameter is required",
        ),
        (
            "<spill>\n@type s3\ns3_bucket b\naws_key_id x\n</spill>",
            "together",
        ),
        (
            "<spill>\n@type s3\ns3_bucket b\nstore_as lzo\n</spill>",
            "store_as",
        ),
        (
            "<spill>\n@type s3\ns3_bucket b\n<assume_role_credentials>\n</assume_role_credentials>\n</spill>",
            "not supported",
        ),
        ("<spill>\n@type other\n</spill>", "no such output"),
        (
            "<archive>\npath /var/log/*.log\n</archive>",
            "needs a <spill>",
        ),
        (
            "<spill>\n@type s3\ns3_bucket b\n</spill>\n<archive>\npath log/x\n</archive>",
            "not an absolute path",
        ),
        ("<after>\n@type nagios\n</after>", "unknown step"),
        (
            "<after>\n@type zabbix\nurl https://z/\n</after>",
            "needs 'token'",
        ),
        ("<after>\n@type zabbix\nurl z\ntoken t\n</after>", "bad url"),
    ];
    for (lines, expected) in table {
        let said = error(lines);
        assert!(said.contains(expected), "{lines}: {said}");
    }
}

#[test]
fn all_errors_come_at_once() {
    let said = error("heartbeat often\nmax_drain 0\n<before>\n</before>");
    for expected in ["auto, off", "more than zero", "'command'"] {
        assert!(said.contains(expected), "{said}");
    }
}

#[test]
fn what_is_not_honoured_is_said_and_not_swallowed() {
    let table = [
        ("source doorbell", "stays in its queue"),
        ("source imds\nqueue_url https://sqs.x/1/q", "not read"),
        ("source imds\nmax_hold 1h", "only counts"),
        ("source imds\non_undelivered abandon", "retains"),
        (
            "source imds\n<spill>\n@type s3\ns3_bucket b\ns3_object_key_format %{path}\n</spill>",
            "not honoured",
        ),
        (
            "source imds\n<spill>\n@type s3\ns3_bucket b\n<format>\n@type json\n</format>\n</spill>",
            "time and tag",
        ),
        ("source imds\nno_such_thing 1", "no_such_thing"),
    ];
    for (lines, expected) in table {
        let (plan, warnings) = read(lines);
        assert!(plan.is_ok(), "{lines}");
        assert!(
            warnings.iter().any(|warning| warning.contains(expected)),
            "{lines}: {warnings:?}"
        );
    }
}
