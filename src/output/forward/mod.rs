//! out_forward: chunks to Fluentd's forward protocol, with standby servers.
//!
//! One write is one attempt of the chunk as a whole: it goes from server to server until one has taken it, so a primary that
//! refuses, hangs up, lies or stays silent costs no retry. Who is next is decided in `balance`, who counts as available in
//! `node`, the bytes are made in `frame` and `handshake`, moved in `connection`.
//!
//! With `require_ack_response` a chunk is delivered when its own id came back on its own connection. Without, it is
//! delivered when all its bytes were written and the peer was not seen to have gone: at most once, as the configuration asks.

mod balance;
mod connection;
mod frame;
mod handshake;
mod hurry;
mod node;
mod params;
mod wire;

use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use anyhow::anyhow;
use tracing::{debug, info, warn};

use self::balance::{Balance, Share};
use self::connection::{Failure, Server, Settings};
use self::frame::{Encoding, Frame};
use self::handshake::{Credentials, new_salt};
use self::hurry::Hurry;
use self::node::{Detached, Health, Limits};
use super::{Boxed, NodeStatus, Output, WriteError};
use crate::buffer::{Chunk, Compress, Lull};
use crate::stop::{Phase, Stop};

pub use params::{HeartbeatType, Params, SecurityParams, ServerParams, Transport, configure};

/// The shortest limit for the answer to a heartbeat, however short `heartbeat_interval` is.
const HEARTBEAT_LIMIT: Duration = Duration::from_secs(2);

/// The output.
#[derive(Debug)]
pub struct Forward {
    servers: Vec<Server>,
    shares: Vec<Share>,
    settings: Settings,
    encoding: Encoding,
    heartbeat: HeartbeatType,
    heartbeat_interval: Duration,
    hurry: Hurry,
    state: Mutex<State>,
}

/// What changes: which servers are well, and whose turn it is.
#[derive(Debug)]
struct State {
    health: Vec<Health>,
    balance: Balance,
    /// Which servers get chunks, as last told to the operator.
    active: Vec<bool>,
}

impl State {
    fn available(&self, now: Instant) -> Vec<bool> {
        let available = |health: &Health| health.is_available(now);
        self.health.iter().map(available).collect()
    }
}

impl Forward {
    /// An output from checked parameters. Touches no network.
    pub fn new(
        params: &Params,
        servers: Vec<ServerParams>,
        security: Option<SecurityParams>,
    ) -> Forward {
        let heartbeat_interval = params.heartbeat_interval.0;
        let limits = Limits {
            heartbeat_interval: (params.heartbeat_type != HeartbeatType::None)
                .then_some(heartbeat_interval),
            recover_wait: params.recover_wait.0,
            hard_timeout: params.hard_timeout.0,
            phi_threshold: params
                .phi_failure_detector
                .then_some(params.phi_threshold as f64),
        };
        let shares: Vec<Share> = servers.iter().map(share).collect();
        let servers: Vec<Server> = servers
            .into_iter()
            .map(|server| build_server(server, security.as_ref()))
            .collect();
        let now = now();
        let balance = Balance::new(shares.clone());
        let state = State {
            health: servers.iter().map(|_| Health::new(limits, now)).collect(),
            active: balance.active(&vec![true; servers.len()]),
            balance,
        };
        Forward {
            servers,
            shares,
            settings: settings(params),
            encoding: Encoding {
                ack: params.require_ack_response,
                compress: params.compress,
                time_as_integer: params.time_as_integer,
            },
            heartbeat: params.heartbeat_type,
            heartbeat_interval,
            hurry: Hurry::default(),
            state: Mutex::new(state),
        }
    }

    async fn send(&self, chunk: &Chunk, mut lull: Option<&mut Lull>) -> Result<(), WriteError> {
        let frame = Frame::of(chunk, self.encoding).await?;
        let mut tried = vec![false; self.servers.len()];
        let mut last = None;
        while let Some((at, alternative)) = self.choose(&tried) {
            tried[at] = true;
            let server = &self.servers[at];
            let lull = lull.as_deref_mut();
            let sending = server.deliver(&frame, &self.settings, &self.hurry, alternative, lull);
            match sending.await {
                Ok(()) => {
                    self.delivered(at);
                    return Ok(());
                }
                Err(failure @ Failure::Chunk(_)) => return Err(WriteError::Retry(failure.into())),
                Err(failure) => {
                    self.failed(at, chunk, &failure);
                    last = Some(anyhow!("{}: {failure}", server.name));
                }
            }
        }
        Err(WriteError::Retry(match last {
            Some(error) => error.context("no nodes are available"),
            None => anyhow!("no nodes are available"),
        }))
    }

    /// The next server for a chunk, and whether there would be another available one.
    fn choose(&self, tried: &[bool]) -> Option<(usize, bool)> {
        let mut state = self.state();
        let available = state.available(now());
        self.tell_standbys(&mut state, &available);
        let at = state.balance.next(&available, tried)?;
        let other = |other: usize| {
            other != at && available[other] && !tried[other] && self.shares[other].weight > 0
        };
        Some((at, (0..available.len()).any(other)))
    }

    fn delivered(&self, at: usize) {
        let mut state = self.state();
        if state.health[at].delivered() {
            self.tell_recovered(&mut state, at);
        }
    }

    fn failed(&self, at: usize, chunk: &Chunk, failure: &Failure) {
        let server = &self.servers[at];
        server.forget();
        let mut state = self.state();
        if state.health[at].failed(now()) {
            warn!(node = server.name, chunk_id = %chunk.id(), "{failure}");
            warn!(
                node = server.name,
                "detached forwarding server '{}'", server.name
            );
            let available = state.available(now());
            self.tell_standbys(&mut state, &available);
        } else {
            debug!(node = server.name, chunk_id = %chunk.id(), "{failure}");
        }
    }

    async fn watch(self: Arc<Self>, at: usize, stop: Stop) {
        let heartbeats = async {
            let mut ticks = tokio::time::interval(self.heartbeat_interval);
            ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
            let mut resolves = true;
            loop {
                ticks.tick().await;
                let beat = self.beat(at).await;
                let unresolved = matches!(beat, Err(Failure::Resolve(_)));
                if unresolved
                    && resolves
                    && let Err(failure) = &beat
                {
                    let name = &self.servers[at].name;
                    warn!(node = name, "{failure}, trying again in the background");
                }
                resolves = !unresolved;
                self.heard(at, &beat);
            }
        };
        tokio::select! {
            () = stop.reached(Phase::Close) => {}
            () = heartbeats => {}
        }
    }

    async fn beat(&self, at: usize) -> Result<(), Failure> {
        let server = &self.servers[at];
        let limit = self.heartbeat_interval.max(HEARTBEAT_LIMIT);
        if self.heartbeat == HeartbeatType::Udp {
            return server.ping(&self.settings, limit).await;
        }
        // With <security> the heartbeat shakes hands, which takes as long as connecting may.
        let limit = match server.credentials {
            Some(_) => limit.max(self.settings.connect_timeout),
            None => limit,
        };
        tokio::time::timeout(limit, server.greet(&self.settings, &self.hurry))
            .await
            .unwrap_or(Err(Failure::NoResponse))
    }

    fn heard(&self, at: usize, beat: &Result<(), Failure>) {
        let server = &self.servers[at];
        let mut state = self.state();
        match beat {
            Ok(()) => {
                if state.health[at].beat(now()) {
                    self.tell_recovered(&mut state, at);
                }
            }
            Err(failure) => {
                debug!(node = server.name, "heartbeat failed: {failure}");
                state.health[at].missed();
            }
        }
        if let Some(why) = state.health[at].tick(now()) {
            server.give_up();
            let name = &server.name;
            match why {
                Detached::HardTimeout => {
                    warn!(hard_timeout = true, "detached forwarding server '{name}'");
                }
                Detached::Phi(phi) => warn!(phi, "detached forwarding server '{name}'"),
            }
            let available = state.available(now());
            self.tell_standbys(&mut state, &available);
        }
    }

    fn tell_recovered(&self, state: &mut State, at: usize) {
        warn!("recovered forwarding server '{}'", self.servers[at].name);
        let available = state.available(now());
        self.tell_standbys(state, &available);
    }

    fn tell_standbys(&self, state: &mut State, available: &[bool]) {
        let active = state.balance.active(available);
        for (at, server) in self.servers.iter().enumerate() {
            let weight = self.shares[at].weight;
            match (self.shares[at].standby, state.active[at], active[at]) {
                (true, false, true) => {
                    warn!(weight, "using standby node {}:{}", server.host, server.port);
                }
                (true, true, false) => {
                    info!(
                        weight,
                        "standby node {}:{} steps back", server.host, server.port
                    );
                }
                _ => {}
            }
        }
        state.active = active;
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Output for Forward {
    fn write<'a>(&'a self, chunk: &'a Chunk) -> Boxed<'a, Result<(), WriteError>> {
        Box::pin(self.send(chunk, None))
    }

    fn write_in_lull<'a>(
        &'a self,
        chunk: &'a Chunk,
        lull: &'a mut Lull,
    ) -> Boxed<'a, Result<(), WriteError>> {
        Box::pin(self.send(chunk, Some(lull)))
    }

    fn tasks(self: Arc<Self>, stop: Stop) -> Vec<(String, Boxed<'static, ()>)> {
        if self.heartbeat == HeartbeatType::None {
            return Vec::new();
        }
        (0..self.servers.len())
            .map(|at| {
                let name = format!("heartbeat.{}", self.servers[at].name);
                let task: Boxed<'static, ()> = Box::pin(self.clone().watch(at, stop.clone()));
                (name, task)
            })
            .collect()
    }

    fn hurry(&self) {
        self.hurry.begin();
    }

    fn moved(&self) -> u64 {
        let moved = |server: &Server| server.moved.load(Ordering::Relaxed);
        self.servers.iter().map(moved).sum()
    }

    fn notice(&self) -> Option<String> {
        (!self.encoding.ack).then(|| {
            "require_ack_response is false: chunks are delivered at most once, what a server loses after it was sent is lost"
                .to_owned()
        })
    }

    fn looks_into(&self, kept: Compress) -> bool {
        !self.encoding.takes(kept)
    }

    fn nodes(&self) -> Vec<NodeStatus> {
        let state = self.state();
        let available = state.available(now());
        let active = state.balance.active(&available);
        let status = |(at, server): (usize, &Server)| NodeStatus {
            name: server.name.clone(),
            address: format!("{}:{}", server.host, server.port),
            standby: self.shares[at].standby,
            available: available[at],
            active: active[at],
            sent_chunks: server.sent.load(Ordering::Relaxed),
            acked_chunks: server.acked.load(Ordering::Relaxed),
        };
        self.servers.iter().enumerate().map(status).collect()
    }
}

fn share(server: &ServerParams) -> Share {
    Share {
        weight: u32::try_from(server.weight).unwrap_or(0),
        standby: server.standby,
    }
}

fn build_server(params: ServerParams, security: Option<&SecurityParams>) -> Server {
    let host = params.host.unwrap_or_default();
    let name = params
        .name
        .unwrap_or_else(|| format!("{host}:{}", params.port));
    let credentials = security.map(|security| Credentials {
        self_hostname: security.self_hostname.clone().unwrap_or_default(),
        shared_key: (params.shared_key)
            .or_else(|| security.shared_key.clone())
            .unwrap_or_default(),
        username: params.username,
        password: params.password,
        salt: new_salt(),
    });
    let port = u16::try_from(params.port).unwrap_or_default();
    Server::new(name, host, port, credentials)
}

fn settings(params: &Params) -> Settings {
    Settings {
        connect_timeout: params
            .connect_timeout
            .map_or(params.send_timeout.0 / 6, |timeout| timeout.0),
        send_timeout: params.send_timeout.0,
        ack_response_timeout: params.ack_response_timeout.0,
        handshake_timeout: params.hard_timeout.0,
        read_length: usize::try_from(params.read_length.0).unwrap_or(usize::MAX),
        keepalive: params.keepalive,
        keepalive_timeout: params.keepalive_timeout.map(|timeout| timeout.0),
        send_keepalive_packet: params.send_keepalive_packet,
        expire_dns_cache: params.expire_dns_cache.map(|ttl| ttl.0),
        dns_round_robin: params.dns_round_robin,
    }
}

/// The runtime's clock, which tests can stop, as the pure deciders take it.
fn now() -> Instant {
    tokio::time::Instant::now().into_std()
}

#[cfg(test)]
mod peer;
#[cfg(test)]
mod tests;
