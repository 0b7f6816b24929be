//! A Fluentd server for tests: it keeps in memory whatever arrives, and behaves as badly as it is told to.
//!
//! A delivery is journalled before it is acked, so what was acked is always in [`State::deliveries`]. The mode can change at any
//! moment, also while a connection is open. Reading the bytes is left to [`super::forward_wire`].

use std::collections::BTreeSet;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Result;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::task::JoinSet;
use tokio_util::sync::{CancellationToken, DropGuard};

use super::forward_wire::{self as wire, Challenge, Delivery, Event, Front, Security};
use super::ledger::LineId;
use super::watched::Watched;

/// How the server treats its clients.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Mode {
    /// Stores and acks.
    #[default]
    Ack,
    /// Stores and acks, this long after the delivery arrived.
    Slow(Duration),
    /// Stores at once, and acks some time between these two later, each delivery another.
    Late(Duration, Duration),
    /// Reads, neither stores nor acks.
    Silent,
    /// Does not store, and acks another chunk than the one that came.
    Lie,
    /// Does not store, and answers bytes that are no ack.
    Garbage,
    /// Closes each connection as it is accepted.
    HangUpOnConnect,
    /// Closes the connection when the first bytes of a delivery have come.
    HangUpMidChunk,
    /// Reads a whole delivery, does not store it, closes.
    HangUpBeforeAck,
    /// Reads a whole delivery, stores it, closes without an ack: an honest duplicate follows.
    StoreThenDie,
    /// Nothing listens on the port, open connections are closed.
    Refuse,
}

/// A delivery in the journal.
#[derive(Clone, Debug)]
pub struct Received {
    /// What came.
    pub delivery: Arc<Delivery>,
    /// When the last byte of it came.
    pub at: Instant,
    /// Whether an ack for it was written to the socket.
    pub acked: bool,
}

/// Everything the server knows.
#[derive(Debug, Default)]
pub struct State {
    /// The present behaviour.
    pub mode: Mode,
    /// The journal in order of arrival.
    pub deliveries: Vec<Received>,
    /// Each test line's id in order of arrival; a line that came twice is here twice.
    pub lines: Vec<LineId>,
    /// The distinct ones of `lines`.
    pub distinct: BTreeSet<LineId>,
    /// Lines whose own checksum does not fit.
    pub damaged: Vec<String>,
    /// TCP connections accepted, heartbeats included.
    pub connections: u64,
    /// Connections that ended without a byte: the tcp heartbeat.
    pub empty_connections: u64,
    /// Datagrams answered: the udp heartbeat.
    pub datagrams: u64,
    /// Deliveries read to their end but not stored, by the mode's will.
    pub discarded: u64,
    /// Handshakes that ended well.
    pub handshakes: u64,
    /// What was wrong with the bytes or with a `PING`.
    pub errors: Vec<String>,
    listening: bool,
}

/// A running server. Dropping it closes everything.
pub struct ForwardServer {
    addr: SocketAddr,
    state: Arc<Watched<State>>,
    _stop: DropGuard,
}

impl ForwardServer {
    /// Starts a server on a port of its own (TCP and UDP) that acks.
    ///
    /// # Errors
    /// When no such port can be had.
    pub async fn start() -> Result<Self> {
        Self::start_with(None).await
    }

    /// The same, with a `<security>` section.
    ///
    /// # Errors
    /// When no port can be had.
    pub async fn start_with(security: Option<Security>) -> Result<Self> {
        let (listener, datagrams) = bind_both().await?;
        let addr = listener.local_addr()?;
        let state = Arc::new(Watched::new(State {
            listening: true,
            ..State::default()
        }));
        let stop = CancellationToken::new();
        let (tcp, udp) = (state.clone(), state.clone());
        let (tcp_stop, udp_stop) = (stop.clone(), stop.clone());
        tokio::spawn(async move {
            tcp_stop
                .run_until_cancelled(accept(listener, addr, tcp, security))
                .await;
        });
        tokio::spawn(async move {
            udp_stop
                .run_until_cancelled(echo_heartbeats(datagrams, udp))
                .await;
        });
        Ok(Self {
            addr,
            state,
            _stop: stop.drop_guard(),
        })
    }

    /// Where it listens.
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// The port of `addr`.
    pub fn port(&self) -> u16 {
        self.addr.port()
    }

    /// What it knows, and the means to wait on it.
    pub fn state(&self) -> &Watched<State> {
        &self.state
    }

    /// Changes the behaviour; returns when the port is open or closed accordingly.
    pub async fn set_mode(&self, mode: Mode) {
        self.state.change(|state| state.mode = mode);
        let listens = mode != Mode::Refuse;
        self.state
            .wait_forever(|state| (state.listening == listens).then_some(()))
            .await;
    }

    /// Closes the port and every connection: the server died.
    pub async fn stop(&self) {
        self.set_mode(Mode::Refuse).await;
    }

    /// Listens again on the same port, and acks.
    pub async fn restart(&self) {
        self.set_mode(Mode::Ack).await;
    }

    /// The journal so far.
    pub fn received(&self) -> Vec<Received> {
        self.state.read(|state| state.deliveries.clone())
    }

    /// Every event so far, with its tag.
    pub fn events(&self) -> Vec<(String, Event)> {
        let flat = |received: Received| {
            let tag = received.delivery.tag.clone();
            let events = received.delivery.events.clone();
            events.into_iter().map(move |event| (tag.clone(), event))
        };
        self.received().into_iter().flat_map(flat).collect()
    }

    /// Waits until `holds` is true of what the server knows.
    ///
    /// # Errors
    /// After `deadline`, naming `what`.
    pub async fn wait_for(
        &self,
        what: &str,
        deadline: Duration,
        holds: impl FnMut(&State) -> bool,
    ) -> Result<()> {
        self.state.wait_for(what, deadline, holds).await
    }

    /// Waits until this many different test lines have arrived.
    ///
    /// # Errors
    /// After `deadline`.
    pub async fn wait_for_lines(&self, count: usize, deadline: Duration) -> Result<()> {
        self.wait_for(&format!("{count} lines on {}", self.addr), deadline, |s| {
            s.distinct.len() >= count
        })
        .await
    }
}

/// A TCP and a UDP socket on the same port.
async fn bind_both() -> Result<(TcpListener, UdpSocket)> {
    let mut last = None;
    for _ in 0..20 {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        match UdpSocket::bind(listener.local_addr()?).await {
            Ok(datagrams) => return Ok((listener, datagrams)),
            Err(error) => last = Some(error),
        }
    }
    Err(last.expect("twenty attempts failed").into())
}

async fn echo_heartbeats(socket: UdpSocket, state: Arc<Watched<State>>) {
    let mut buffer = [0; 128];
    while let Ok((_, from)) = socket.recv_from(&mut buffer).await {
        if state.read(|state| state.mode != Mode::Refuse) {
            state.change(|state| state.datagrams += 1);
            let _ = socket.send_to(&[0], from).await;
        }
    }
}

async fn accept(
    listener: TcpListener,
    addr: SocketAddr,
    state: Arc<Watched<State>>,
    security: Option<Security>,
) {
    let mut listener = Some(listener);
    let mut connections = JoinSet::new();
    loop {
        let Some(open) = &listener else {
            state
                .wait_forever(|state| (state.mode != Mode::Refuse).then_some(()))
                .await;
            listener = Some(bind_again(addr).await);
            state.change(|state| state.listening = true);
            continue;
        };
        let refuse = state.wait_forever(|state| (state.mode == Mode::Refuse).then_some(()));
        tokio::select! {
            biased;
            () = refuse => {
                listener = None;
                connections.shutdown().await;
                state.change(|state| state.listening = false);
            }
            accepted = open.accept() => {
                let Ok((stream, _)) = accepted else { continue };
                let (state, security) = (state.clone(), security.clone());
                connections.spawn(async move {
                    let mut connection = Connection { stream, state, buffer: Vec::new() };
                    if let Err(error) = connection.serve(security).await {
                        connection.state.change(|state| state.errors.push(error));
                    }
                });
            }
            Some(_) = connections.join_next() => {}
        }
    }
}

/// The same port once more; a connection of the past may hold it for a moment.
async fn bind_again(addr: SocketAddr) -> TcpListener {
    loop {
        match TcpListener::bind(addr).await {
            Ok(listener) => return listener,
            Err(_) => tokio::time::sleep(Duration::from_millis(10)).await,
        }
    }
}

struct Connection {
    stream: TcpStream,
    state: Arc<Watched<State>>,
    buffer: Vec<u8>,
}

impl Connection {
    /// Serves one client to its end. `Err` is a fault in what it sent; a closed connection is not.
    async fn serve(&mut self, security: Option<Security>) -> Result<(), String> {
        self.state.change(|state| state.connections += 1);
        if self.mode() == Mode::HangUpOnConnect {
            return Ok(());
        }
        if let Some(security) = security
            && !self.shake_hands(&security).await?
        {
            return Ok(());
        }
        let mut any = false;
        while let Some(front) = self.next().await? {
            any = true;
            match front {
                Front::Delivery(delivery) => {
                    if !self.take(delivery).await {
                        return Ok(());
                    }
                }
                Front::Ping(..) => return Err("PING after the handshake".to_string()),
                Front::Nil(_) | Front::Incomplete => {}
            }
        }
        if !any && self.buffer.is_empty() {
            self.state.change(|state| state.empty_connections += 1);
        }
        Ok(())
    }

    async fn shake_hands(&mut self, security: &Security) -> Result<bool, String> {
        let challenge = Challenge::random();
        if self.stream.write_all(&challenge.helo()).await.is_err() {
            return Ok(false);
        }
        let ping = match self.next().await? {
            Some(Front::Ping(ping, _)) => ping,
            Some(_) => return Err("events before the handshake".to_string()),
            None => return Ok(false),
        };
        match wire::pong(security, &challenge, &ping) {
            Ok(pong) => {
                self.state.change(|state| state.handshakes += 1);
                Ok(self.stream.write_all(&pong).await.is_ok())
            }
            Err(refusal) => {
                let _ = self.stream.write_all(&refusal.pong).await;
                Err(refusal.reason)
            }
        }
    }

    /// The next whole message; `None` when the client is gone or the mode hangs up in the middle.
    async fn next(&mut self) -> Result<Option<Front>, String> {
        loop {
            if !self.buffer.is_empty() {
                if self.mode() == Mode::HangUpMidChunk {
                    self.state.change(|state| state.discarded += 1);
                    return Ok(None);
                }
                let front = wire::front(&self.buffer)?;
                let length = match &front {
                    Front::Incomplete => 0,
                    Front::Nil(length) | Front::Ping(_, length) => *length,
                    Front::Delivery(delivery) => delivery.wire_length,
                };
                self.buffer.drain(..length);
                if length > 0 {
                    return Ok(Some(front));
                }
            }
            self.buffer.reserve(256 * 1024);
            match self.stream.read_buf(&mut self.buffer).await {
                Ok(0) | Err(_) => return Ok(None),
                Ok(_) => {}
            }
        }
    }

    /// Treats one delivery as the mode says; `false` hangs up.
    async fn take(&mut self, delivery: Delivery) -> bool {
        let mode = self.mode();
        let chunk = delivery.chunk.clone();
        if let Mode::Slow(pause) = mode {
            tokio::time::sleep(pause).await;
        }
        let journalled = match mode {
            Mode::Ack | Mode::Slow(_) | Mode::Late(..) | Mode::StoreThenDie => {
                Some(self.journal(delivery))
            }
            _ => {
                self.state.change(|state| state.discarded += 1);
                None
            }
        };
        if let Mode::Late(least, most) = mode {
            let share = most.saturating_sub(least).mul_f64(fastrand::f64());
            tokio::time::sleep(least + share).await;
        }
        let answer = match (mode, chunk) {
            (Mode::Ack | Mode::Slow(_) | Mode::Late(..), Some(chunk)) => wire::ack(&chunk),
            (Mode::Ack | Mode::Slow(_) | Mode::Late(..) | Mode::Silent, _) => return true,
            (Mode::Lie, _) => wire::ack(&"bm90IHlvdXIgY2h1bms=\n".into()),
            (Mode::Garbage, _) => (0..64).map(|_| fastrand::u8(..)).collect(),
            _ => return false,
        };
        let written = self.stream.write_all(&answer).await.is_ok();
        if let (Some(at), true) = (journalled, written) {
            self.state.change(|state| state.deliveries[at].acked = true);
        }
        written
    }

    fn journal(&self, delivery: Delivery) -> usize {
        let texts: Vec<String> = delivery
            .events
            .iter()
            .filter_map(|event| event.text("message"))
            .collect();
        self.state.change(|state| {
            for text in texts {
                let is_intact = super::ledger::is_intact(&text);
                // With a wrong checksum the number may be wrong, too.
                if (is_intact || !text.contains(" sum="))
                    && let Some(id) = LineId::find(&text)
                {
                    state.lines.push(id);
                    state.distinct.insert(id);
                }
                if !is_intact {
                    state.damaged.push(text);
                }
            }
            state.deliveries.push(Received {
                delivery: Arc::new(delivery),
                at: Instant::now(),
                acked: false,
            });
            state.deliveries.len() - 1
        })
    }

    fn mode(&self) -> Mode {
        self.state.read(|state| state.mode)
    }
}
