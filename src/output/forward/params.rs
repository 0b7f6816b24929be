//! The parameters of out_forward, and what a configuration may ask for that we do not do.

use std::time::Duration;

use serde::Deserialize;

use super::Forward;
use crate::buffer::Compress;
use crate::config::types::{Secret, Size, Time, whole_number};
use crate::config::{ConfigErrors, Element, Result};

const DEFAULT_PORT: i64 = 24224;

/// `transport`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Transport {
    /// Plain TCP.
    #[default]
    Tcp,
    /// TLS: not supported yet.
    Tls,
}

/// `heartbeat_type`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum HeartbeatType {
    /// A connection as for data, closed without any.
    #[default]
    Transport,
    /// The old name of `transport`.
    Tcp,
    /// A datagram, answered by a datagram.
    Udp,
    /// None: a server that failed is tried again after `recover_wait`.
    None,
}

/// The parameters beside the sections, with Fluentd's defaults.
#[derive(Clone, Debug, Deserialize)]
#[serde(default)]
pub struct Params {
    /// The protocol below: `tcp`; `tls` is refused.
    pub transport: Transport,
    /// How long a send may make no progress.
    pub send_timeout: Time,
    /// How long connecting may take. Fluentd leaves it to the kernel (two minutes); we wait a sixth of `send_timeout`, ten
    /// seconds by default.
    pub connect_timeout: Option<Time>,
    /// How long a server has to answer heartbeats before it gets chunks again.
    pub recover_wait: Time,
    /// How servers are watched.
    pub heartbeat_type: HeartbeatType,
    /// How often.
    pub heartbeat_interval: Time,
    /// Whether `phi_threshold` counts.
    pub phi_failure_detector: bool,
    /// The suspicion at which a silent server is given up; 16 is 36.8 seconds with the defaults.
    pub phi_threshold: i64,
    /// The silence after which it is given up in any case; also the limit of a handshake.
    pub hard_timeout: Time,
    /// Whether a chunk counts as delivered only when the server has acknowledged it.
    pub require_ack_response: bool,
    /// How long to wait for the acknowledgement; at least one second.
    pub ack_response_timeout: Time,
    /// Fluentd's polling interval in handshakes: we do not poll, it is warned about.
    pub read_interval_msec: Option<i64>,
    /// Bytes per read of an answer.
    pub read_length: Size,
    /// How long an address found by name is used; unset: until the server becomes unavailable; 0: not at all.
    pub expire_dns_cache: Option<Time>,
    /// Whether a random address of a name is used instead of the first.
    pub dns_round_robin: bool,
    /// Whether to start with a name that does not resolve. We always do; `false` is warned about.
    pub ignore_network_errors_at_startup: Option<bool>,
    /// Whether to refuse to start when a server does not answer. We start and warn.
    pub verify_connection_at_startup: bool,
    /// What is sent: `text`, `gzip`, or `zstd`, which Fluentd 1.19 and later understand.
    pub compress: Compress,
    /// Whether times are sent as whole seconds.
    pub time_as_integer: bool,
    /// Whether connections are used again.
    pub keepalive: bool,
    /// For how long; unset: for ever.
    pub keepalive_timeout: Option<Time>,
    /// Whether the kernel probes idle connections.
    pub send_keepalive_packet: bool,
}

impl Default for Params {
    fn default() -> Params {
        let seconds = |n| Time(Duration::from_secs(n));
        Params {
            transport: Transport::Tcp,
            send_timeout: seconds(60),
            connect_timeout: None,
            recover_wait: seconds(10),
            heartbeat_type: HeartbeatType::Transport,
            heartbeat_interval: seconds(1),
            phi_failure_detector: true,
            phi_threshold: 16,
            hard_timeout: seconds(60),
            require_ack_response: false,
            ack_response_timeout: seconds(190),
            read_interval_msec: None,
            read_length: Size(512),
            expire_dns_cache: None,
            dns_round_robin: false,
            ignore_network_errors_at_startup: None,
            verify_connection_at_startup: false,
            compress: Compress::Text,
            time_as_integer: false,
            keepalive: false,
            keepalive_timeout: None,
            send_keepalive_packet: false,
        }
    }
}

/// The parameters of one `<server>`.
#[derive(Clone, Debug, Deserialize)]
#[serde(default)]
pub struct ServerParams {
    /// Address or name. Required.
    pub host: Option<String>,
    /// What log lines call it; unset: `host:port`.
    pub name: Option<String>,
    /// TCP port, and UDP port of heartbeats.
    #[serde(deserialize_with = "whole_number")]
    pub port: i64,
    /// Its own key instead of that of `<security>`.
    pub shared_key: Option<Secret>,
    /// The user, for servers that ask for one.
    pub username: String,
    /// The user's password.
    pub password: Secret,
    /// Whether it is used only while regular servers are unavailable.
    pub standby: bool,
    /// Its share of the chunks; 0: never used.
    pub weight: i64,
}

impl Default for ServerParams {
    fn default() -> ServerParams {
        ServerParams {
            host: None,
            name: None,
            port: DEFAULT_PORT,
            shared_key: None,
            username: String::new(),
            password: Secret::default(),
            standby: false,
            weight: 60,
        }
    }
}

/// The parameters of `<security>`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct SecurityParams {
    /// Who we are. Required.
    pub self_hostname: Option<String>,
    /// The key that both sides know. Required.
    pub shared_key: Option<Secret>,
}

/// Reads a `<match>` or `<store>` section of type forward. Touches no network.
pub fn configure(section: &Element) -> Result<Forward> {
    let mut errors = ConfigErrors::new();
    refuse_unsupported(section, &mut errors);
    check_chunk_keys(section, &mut errors);
    let params = errors.collect(section.params::<Params>());
    if let Some(params) = &params {
        check(section, params, &mut errors);
    }
    let security = errors.collect(security(section)).flatten();
    let mut servers = Vec::new();
    for server in section.sections("server") {
        servers.extend(errors.collect(configure_server(server)));
    }
    check_servers(section, &servers, &mut errors);
    errors.into_result()?;
    let params = params.ok_or_else(|| section.error("the parameters cannot be read"))?;
    let servers = servers.into_iter().map(|(params, _)| params).collect();
    Ok(Forward::new(&params, servers, security))
}

fn refuse_unsupported(section: &Element, errors: &mut ConfigErrors) {
    for (key, port) in [("host", "host"), ("port", "port")] {
        if section.get(key).is_some() {
            let message = format!("'{key}' parameter is already removed");
            let help = format!("write <server> {port} xxx </server> instead");
            errors.push(section.error_at(key, message).help(help));
        }
    }
    for key in [
        "tls_version",
        "tls_ciphers",
        "tls_insecure_mode",
        "tls_allow_self_signed_cert",
        "tls_verify_hostname",
        "tls_cert_path",
        "tls_ca_cert_path",
        "tls_client_cert_path",
        "tls_client_private_key_path",
        "tls_client_private_key_passphrase",
        "tls_cert_logical_store_name",
        "tls_cert_thumbprint",
        "tls_cert_use_enterprise_store",
    ] {
        if section.get(key).is_some() {
            let message = format!("TLS is not supported yet, so '{key}' cannot be honoured");
            errors.push(section.error_at(key, message));
        }
    }
    for discovery in section.sections("service_discovery") {
        let message = "<service_discovery> is not supported: list the servers in <server> sections";
        errors.push(discovery.error(message));
    }
}

/// A message to a forward server has one tag.
fn check_chunk_keys(section: &Element, errors: &mut ConfigErrors) {
    let Some(buffer) = section.sections("buffer").next() else {
        return;
    };
    let keys = buffer.arg().unwrap_or("tag").trim_matches(['[', ']']);
    let mut keys = keys.split(',').map(|key| key.trim().trim_matches('"'));
    if !keys.any(|key| key == "tag") {
        let message = "buffer chunk key must include 'tag' for forward output";
        errors.push(match section.has("time_slice_format") {
            true => section
                .error_at("time_slice_format", message)
                .help("time_slice_format asks for chunks by time alone: leave it out"),
            false => buffer.error(message),
        });
    }
}

fn check(section: &Element, params: &Params, errors: &mut ConfigErrors) {
    let mut error = |key: &str, message: &str| errors.push(section.error_at(key, message));
    if params.transport == Transport::Tls {
        error("transport", "TLS is not supported yet: use tcp");
    }
    let least = |key: &str, time: Time, floor: u64| {
        (time.0 < Duration::from_secs(floor)).then(|| format!("{key} must be at least {floor}s"))
    };
    if let Some(message) = least("ack_response_timeout", params.ack_response_timeout, 1) {
        error("ack_response_timeout", &message);
    }
    for (key, time) in [
        ("send_timeout", params.send_timeout),
        ("heartbeat_interval", params.heartbeat_interval),
        ("hard_timeout", params.hard_timeout),
        (
            "connect_timeout",
            params.connect_timeout.unwrap_or(params.send_timeout),
        ),
    ] {
        if time.0.is_zero() {
            error(key, &format!("{key} must be longer than 0"));
        }
    }
    if params.read_length.0 == 0 {
        error("read_length", "read_length must be larger than 0");
    }
    if params.dns_round_robin && params.heartbeat_type == HeartbeatType::Udp {
        let message = "'dns_round_robin' cannot be used with 'heartbeat_type udp': use transport";
        error("dns_round_robin", message);
    }
    if params.send_keepalive_packet && !params.keepalive {
        error(
            "send_keepalive_packet",
            "'send_keepalive_packet' needs 'keepalive true'",
        );
    }
    warn(section, params);
}

fn warn(section: &Element, params: &Params) {
    if params.heartbeat_type == HeartbeatType::Tcp {
        let message = "'heartbeat_type tcp' is deprecated. use 'transport' instead";
        section.warn_at("heartbeat_type", message);
    }
    if params.keepalive_timeout.is_some() && !params.keepalive {
        let message = "'keepalive_timeout' is ignored because 'keepalive' is not true";
        section.warn_at("keepalive_timeout", message);
    }
    if params.read_interval_msec.is_some() {
        let message = "'read_interval_msec' has no effect: answers are read when they come";
        section.warn_at("read_interval_msec", message);
    }
    if params.ignore_network_errors_at_startup == Some(false) {
        let message = "a server that cannot be resolved or reached never stops the start: it is tried again in the background";
        section.warn_at("ignore_network_errors_at_startup", message);
    }
    if params.verify_connection_at_startup {
        let message =
            "servers are not verified before the start: heartbeats report those that do not answer";
        section.warn_at("verify_connection_at_startup", message);
    }
}

fn security(section: &Element) -> Result<Option<SecurityParams>> {
    let Some(security) = section.section("security")? else {
        return Ok(None);
    };
    let params: SecurityParams = security.params()?;
    let mut errors = ConfigErrors::new();
    if params.self_hostname.is_none() {
        errors.push(security.missing("self_hostname"));
    }
    match &params.shared_key {
        None => errors.push(security.missing("shared_key")),
        Some(key) if key.0.is_empty() => {
            errors.push(security.error_at("shared_key", "'shared_key' must not be empty"));
        }
        Some(_) => {}
    }
    errors.into_result()?;
    Ok(Some(params))
}

fn configure_server(server: &Element) -> Result<(ServerParams, Element)> {
    let params: ServerParams = server.params()?;
    let mut errors = ConfigErrors::new();
    match params.host.as_deref() {
        None => errors.push(server.missing("host")),
        Some("") => errors.push(server.error_at("host", "'host' must not be empty")),
        Some(_) => {}
    }
    if !(1..=65535).contains(&params.port) {
        errors.push(server.error_at("port", "a port is between 1 and 65535"));
    }
    if u32::try_from(params.weight).is_err() {
        errors.push(server.error_at("weight", "a weight is 0 or more"));
    }
    errors.into_result()?;
    Ok((params, server.clone()))
}

fn check_servers(
    section: &Element,
    servers: &[(ServerParams, Element)],
    errors: &mut ConfigErrors,
) {
    if section.sections("server").next().is_none() {
        errors.push(section.error("forward output plugin requires at least one <server> section"));
    }
    for (at, (server, element)) in servers.iter().enumerate() {
        let same = |(other, _): &&(ServerParams, Element)| {
            (&other.host, other.port) == (&server.host, server.port)
        };
        if servers[..at].iter().find(same).is_some() {
            let message = "this <server> has the host and port of an earlier one";
            errors.push(element.error_at("host", message));
        }
    }
    if !servers.is_empty() && servers.iter().all(|(server, _)| server.weight == 0) {
        section.warn("all servers have weight 0, which means never used: no chunk can be sent");
    }
}

#[cfg(test)]
#[path = "params_tests.rs"]
mod tests;
