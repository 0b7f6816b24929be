use super::*;
use crate::output::Output;
use crate::output::testing::section;

fn server(params: &[(&str, &str)]) -> Element {
    section("server", params, vec![])
}

fn one() -> Element {
    server(&[("host", "192.168.74.150")])
}

fn errors(params: &[(&str, &str)], children: Vec<Element>) -> Vec<String> {
    match configure(&section("match", params, children)) {
        Ok(_) => Vec::new(),
        Err(errors) => errors.iter().map(|error| error.line()).collect(),
    }
}

#[test]
fn a_production_section_of_v012_is_understood() {
    let children = vec![
        server(&[
            ("name", "logserver1"),
            ("host", "192.168.74.150"),
            ("port", "24224"),
        ]),
        server(&[
            ("name", "logserver2"),
            ("host", "192.168.74.151"),
            ("standby", "true"),
        ]),
    ];
    let forward =
        configure(&section("match", &[("heartbeat_type", "tcp")], children)).expect("valid");
    let nodes = forward.nodes();
    assert_eq!(
        (nodes[0].name.as_str(), nodes[0].standby),
        ("logserver1", false)
    );
    assert_eq!(
        (nodes[1].address.as_str(), nodes[1].standby),
        ("192.168.74.151:24224", true)
    );
    assert!(
        forward.notice().is_some(),
        "no ack by default, which is said"
    );
}

#[test]
fn every_parameter_of_fluentd_is_honoured_warned_about_or_refused() {
    for (key, value) in [
        ("send_timeout", "10s"),
        ("connect_timeout", "3s"),
        ("recover_wait", "5s"),
        ("heartbeat_interval", "2s"),
        ("phi_failure_detector", "false"),
        ("phi_threshold", "8"),
        ("hard_timeout", "30s"),
        ("require_ack_response", "true"),
        ("ack_response_timeout", "30"),
        ("read_interval_msec", "50"),
        ("read_length", "1k"),
        ("expire_dns_cache", "0"),
        ("dns_round_robin", "true"),
        ("ignore_network_errors_at_startup", "true"),
        ("verify_connection_at_startup", "true"),
        ("compress", "gzip"),
        ("compress", "zstd"),
        ("time_as_integer", "true"),
        ("keepalive", "true"),
        ("keepalive_timeout", "20s"),
    ] {
        assert_eq!(
            errors(&[(key, value)], vec![one()]),
            Vec::<String>::new(),
            "{key}"
        );
    }
}

#[test]
fn what_cannot_be_done_is_refused_by_name() {
    for (key, value, word) in [
        ("transport", "tls", "TLS is not supported yet"),
        ("tls_cert_path", "/etc/ca.pem", "TLS is not supported yet"),
        ("compress", "lz4", "compress"),
        ("host", "log", "already removed"),
        ("ack_response_timeout", "0", "at least 1s"),
        ("heartbeat_interval", "0", "longer than 0"),
        ("heartbeat_type", "icmp", "heartbeat_type"),
        ("send_keepalive_packet", "true", "keepalive"),
    ] {
        let errors = errors(&[(key, value)], vec![one()]);
        assert_eq!(errors.len(), 1, "{key}: {errors:?}");
        assert!(errors[0].contains(word), "{errors:?}");
    }
    let discovery = section("service_discovery", &[("@type", "srv")], vec![]);
    assert!(errors(&[], vec![one(), discovery])[0].contains("<service_discovery>"));
}

#[test]
fn wrong_servers_are_all_reported_in_one_run() {
    let children = vec![
        server(&[("port", "99999")]),
        server(&[("host", "a"), ("weight", "-1")]),
        section("security", &[("shared_key", "")], vec![]),
    ];
    let found = errors(&[("compress", "lz4")], children);
    let words = [
        "'host'",
        "99999",
        "weight",
        "self_hostname",
        "shared_key",
        "compress",
    ];
    for word in words {
        assert!(
            found.iter().any(|error| error.contains(word)),
            "{word}: {found:?}"
        );
    }
    assert_eq!(found.len(), words.len(), "{found:?}");
}

#[test]
fn no_server_and_the_same_server_twice_are_errors() {
    assert!(errors(&[], vec![])[0].contains("at least one <server>"));
    assert!(errors(&[], vec![one(), one()])[0].contains("an earlier one"));
}
