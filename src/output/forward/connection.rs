//! One server's address and connections: resolve, connect, shake hands, send, read the ack. Every wait has a limit, and
//! dropping a future closes its connection. Which server, and what its failure means, is decided in `mod`.

use std::io::{self, ErrorKind, IoSlice};
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::net::{UdpSocket, lookup_host};
use tokio::sync::Notify;
use tokio::time::Instant;

use super::frame::{Answer, Frame, read_answer};
use super::handshake::{self, Credentials, Refused};
use super::hurry::Hurry;
use super::wire::Wire;
use crate::buffer::Lull;

/// Limits while the instance terminates: whoever answers now gets the chunk.
const HURRIED_CONNECT: Duration = Duration::from_secs(1);
const HURRIED_STALL: Duration = Duration::from_secs(5);
const HURRIED_ACK: Duration = Duration::from_secs(5);

/// The longest answer that is read: an ack has 31 bytes, a PONG about 500.
const ANSWER_LIMIT: usize = 4096;

/// Why a server did not take a chunk, in Fluentd's words where it has some.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// No address.
    #[error("cannot resolve the host name: {0}")]
    Resolve(io::Error),
    /// No connection.
    #[error("cannot connect: {0}")]
    Connect(io::Error),
    /// The handshake's bytes did not come.
    #[error("handshake failed: {0}")]
    Handshake(io::Error),
    /// The handshake's bytes were wrong.
    #[error("handshake failed: {0}")]
    Refused(#[from] Refused),
    /// The connection broke or stood still while sending.
    #[error("cannot send: {0}")]
    Send(io::Error),
    /// Our own disk does not give the chunk: this says nothing about the server.
    #[error("cannot read the chunk: {0}")]
    Chunk(io::Error),
    /// Silence instead of an ack.
    #[error("no response from node. regard it as unavailable.")]
    NoResponse,
    /// End of stream or a reset instead of an ack.
    #[error("destination node closed the connection. regard it as unavailable.")]
    Closed,
    /// Another chunk's ack.
    #[error("ack in response and chunk id in sent data are different: ack={0}")]
    Different(String),
    /// The server speaks before it is asked.
    #[error("the server asks for a handshake: it has <security>, this output has none")]
    WantsHandshake,
    /// Anything else.
    #[error("the answer is not an ack: answer={0}")]
    Garbage(String),
}

/// Parameters of out_forward that concern connections.
#[derive(Clone, Debug)]
pub struct Settings {
    /// `connect_timeout`, or what takes its place.
    pub connect_timeout: Duration,
    /// `send_timeout`: how long a send may make no progress.
    pub send_timeout: Duration,
    /// `ack_response_timeout`.
    pub ack_response_timeout: Duration,
    /// How long a handshake may take: `hard_timeout`, as Fluentd 1.19.
    pub handshake_timeout: Duration,
    /// `read_length`.
    pub read_length: usize,
    /// `keepalive`.
    pub keepalive: bool,
    /// `keepalive_timeout`; `None`: for ever.
    pub keepalive_timeout: Option<Duration>,
    /// `send_keepalive_packet`.
    pub send_keepalive_packet: bool,
    /// `expire_dns_cache`; `None`: until the server becomes unavailable.
    pub expire_dns_cache: Option<Duration>,
    /// `dns_round_robin`.
    pub dns_round_robin: bool,
}

/// One `<server>`, with what it has open.
#[derive(Debug)]
pub struct Server {
    /// `name`, or `host:port`.
    pub name: String,
    /// `host`.
    pub host: String,
    /// `port`.
    pub port: u16,
    /// What it is told when it has `<security>`.
    pub credentials: Option<Credentials>,
    /// Chunks written to it.
    pub sent: AtomicU64,
    /// Bytes written to it.
    pub moved: AtomicU64,
    /// Chunks acknowledged by it.
    pub acked: AtomicU64,
    addresses: Mutex<Option<(Vec<SocketAddr>, Instant)>>,
    idle: Mutex<Vec<(Wire, Instant)>>,
    given_up: Notify,
}

impl Server {
    /// A server that has not been connected to.
    pub fn new(name: String, host: String, port: u16, credentials: Option<Credentials>) -> Server {
        Server {
            name,
            host,
            port,
            credentials,
            sent: AtomicU64::new(0),
            moved: AtomicU64::new(0),
            acked: AtomicU64::new(0),
            addresses: Mutex::default(),
            idle: Mutex::default(),
            given_up: Notify::new(),
        }
    }

    /// Heartbeats have given it up: waiting for its acks is in vain, and its addresses may have changed.
    pub fn give_up(&self) {
        self.forget();
        self.given_up.notify_waiters();
    }

    /// Drops what is known of it: addresses and idle connections.
    pub fn forget(&self) {
        lock(&self.addresses).take();
        lock(&self.idle).clear();
    }

    /// Sends the frame and, if it awaits one, reads its ack. `alternative`: another server could take the chunk, so that
    /// in a hurry this one is not waited for. With a `lull` the ack is looked for when that is over.
    pub async fn deliver(
        &self,
        frame: &Frame,
        settings: &Settings,
        hurry: &Hurry,
        alternative: bool,
        mut lull: Option<&mut Lull>,
    ) -> Result<(), Failure> {
        if let Some(wire) = self.take_idle(settings) {
            let lull = lull.as_deref_mut();
            match self
                .transfer(wire, frame, settings, hurry, alternative, lull)
                .await
            {
                // A connection that stood idle may have died unnoticed: that says nothing about the server.
                Err(Failure::Send(_) | Failure::Closed) => {}
                done => return done,
            }
        }
        let wire = self.connect(settings, hurry).await?;
        self.transfer(wire, frame, settings, hurry, alternative, lull)
            .await
    }

    /// A heartbeat of type transport: a connection, opened, greeted and closed.
    pub async fn greet(&self, settings: &Settings, hurry: &Hurry) -> Result<(), Failure> {
        let wire = self.connect(settings, hurry).await?;
        wire.finish().map_err(Failure::Send)
    }

    /// A heartbeat of type udp: one byte there, any datagram back.
    pub async fn ping(&self, settings: &Settings, limit: Duration) -> Result<(), Failure> {
        let exchange = async {
            let address = self.resolve(settings).await?[0];
            datagram(address).await.map_err(Failure::Connect)
        };
        let answered = tokio::time::timeout(limit, exchange).await;
        answered.unwrap_or(Err(Failure::NoResponse))
    }

    async fn resolve(&self, settings: &Settings) -> Result<Vec<SocketAddr>, Failure> {
        if let Ok(address) = self.host.parse::<IpAddr>() {
            return Ok(vec![SocketAddr::new(address, self.port)]);
        }
        let fresh = |since: Instant| {
            settings
                .expire_dns_cache
                .is_none_or(|ttl| since.elapsed() < ttl)
        };
        let cached = lock(&self.addresses)
            .as_ref()
            .filter(|(_, since)| fresh(*since))
            .map(|(addresses, _)| addresses.clone());
        let mut addresses = match cached {
            Some(addresses) => addresses,
            None => {
                let found = lookup_host((self.host.as_str(), self.port)).await;
                let found: Vec<SocketAddr> = found.map_err(Failure::Resolve)?.collect();
                lock(&self.addresses).replace((found.clone(), Instant::now()));
                found
            }
        };
        if addresses.is_empty() {
            return Err(Failure::Resolve(ErrorKind::NotFound.into()));
        }
        if settings.dns_round_robin {
            let first = fastrand::usize(..addresses.len());
            addresses.rotate_left(first);
        }
        Ok(addresses)
    }

    /// A new connection that the server has accepted us on.
    async fn connect(&self, settings: &Settings, hurry: &Hurry) -> Result<Wire, Failure> {
        let open = async {
            let addresses = self.resolve(settings).await?;
            Wire::connect(&addresses).await.map_err(Failure::Connect)
        };
        let wire = hurry
            .within(settings.connect_timeout, HURRIED_CONNECT, open)
            .await
            .unwrap_or_else(|| Err(Failure::Connect(ErrorKind::TimedOut.into())))?;
        if settings.send_keepalive_packet {
            wire.set_keepalive().map_err(Failure::Connect)?;
        }
        if let Some(us) = &self.credentials {
            let shake = shake_hands(&wire, us, settings.read_length);
            hurry
                .within(settings.handshake_timeout, HURRIED_STALL, shake)
                .await
                .unwrap_or_else(|| Err(Failure::Handshake(ErrorKind::TimedOut.into())))?;
        }
        Ok(wire)
    }

    async fn transfer(
        &self,
        wire: Wire,
        frame: &Frame,
        settings: &Settings,
        hurry: &Hurry,
        alternative: bool,
        mut lull: Option<&mut Lull>,
    ) -> Result<(), Failure> {
        send(&wire, frame, settings.send_timeout, hurry, &self.moved).await?;
        self.sent.fetch_add(1, Ordering::Relaxed);
        let reusable = match &frame.awaits {
            Some(id) => {
                let limit = settings.ack_response_timeout;
                let hurried = if alternative { HURRIED_ACK } else { limit };
                if let Some(lull) = &mut lull {
                    lull.pass().await;
                }
                let waits = || lull.iter_mut().for_each(|lull| lull.hand_on());
                let reading = read_ack(&wire, id, settings.read_length, waits);
                let answer = hurry.within(limit, hurried, reading);
                let reusable = tokio::select! {
                    biased;
                    answer = answer => answer.unwrap_or(Err(Failure::NoResponse))?,
                    () = self.given_up.notified() => return Err(Failure::NoResponse),
                };
                self.acked.fetch_add(1, Ordering::Relaxed);
                reusable
            }
            None => {
                // Nothing proves delivery without an ack. What can be seen is whether the peer has gone or speaks.
                look_alive(&wire)?;
                true
            }
        };
        if settings.keepalive && reusable {
            lock(&self.idle).push((wire, Instant::now()));
        } else {
            // The chunk is delivered, whatever becomes of the goodbye.
            let _ = wire.finish();
        }
        Ok(())
    }

    fn take_idle(&self, settings: &Settings) -> Option<Wire> {
        let mut idle = lock(&self.idle);
        let fresh = |since: &Instant| {
            settings
                .keepalive_timeout
                .is_none_or(|limit| since.elapsed() < limit)
        };
        idle.retain(|(wire, since)| fresh(since) && look_alive(wire).is_ok());
        idle.pop().map(|(wire, _)| wire)
    }
}

async fn datagram(address: SocketAddr) -> io::Result<()> {
    let any: SocketAddr = if address.is_ipv4() {
        ([0, 0, 0, 0], 0).into()
    } else {
        ([0u16; 8], 0).into()
    };
    let socket = UdpSocket::bind(any).await?;
    socket.connect(address).await?;
    socket.send(&[0]).await?;
    socket.recv(&mut [0; 128]).await.map(|_| ())
}

async fn shake_hands(wire: &Wire, us: &Credentials, read_length: usize) -> Result<(), Failure> {
    let helo = read_message(wire, read_length, handshake::read_helo).await?;
    wire.write_all(&handshake::ping(us, &helo))
        .await
        .map_err(Failure::Handshake)?;
    read_message(wire, read_length, |bytes| {
        handshake::check_pong(us, &helo, bytes)
    })
    .await
}

async fn read_message<T>(
    wire: &Wire,
    read_length: usize,
    read: impl Fn(&[u8]) -> Result<Option<T>, Refused>,
) -> Result<T, Failure> {
    let mut bytes = Vec::new();
    loop {
        if let Some(message) = read(&bytes)? {
            return Ok(message);
        }
        if read_more(wire, &mut bytes, read_length, || {})
            .await
            .map_err(Failure::Handshake)?
            == 0
        {
            return Err(Failure::Handshake(ErrorKind::UnexpectedEof.into()));
        }
    }
}

async fn send(
    wire: &Wire,
    frame: &Frame,
    stall: Duration,
    hurry: &Hurry,
    moved: &AtomicU64,
) -> Result<(), Failure> {
    let mut entries = frame.entries();
    let mut pieces = entries.next().await.map_err(Failure::Chunk)?;
    let mut head = frame.head();
    loop {
        let last = entries.left() == 0;
        let mut slices = Vec::with_capacity(pieces.len() + 2);
        slices.push(IoSlice::new(head));
        slices.extend(pieces.iter().map(|piece| IoSlice::new(piece)));
        slices.push(IoSlice::new(if last { frame.option() } else { &[] }));
        let sending = send_slices(wire, &mut slices, stall, hurry, moved);
        // The next piece is read while this one is sent.
        let (sent, next) = tokio::join!(sending, entries.next());
        sent.map_err(Failure::Send)?;
        if last {
            return Ok(());
        }
        pieces = next.map_err(Failure::Chunk)?;
        head = &[];
    }
}

async fn send_slices(
    wire: &Wire,
    slices: &mut [IoSlice<'_>],
    stall: Duration,
    hurry: &Hurry,
    moved: &AtomicU64,
) -> io::Result<()> {
    let mut rest = slices;
    IoSlice::advance_slices(&mut rest, 0);
    while !rest.is_empty() {
        // A small frame passes at once: no clock is asked for it.
        let written = match wire.try_write(rest) {
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                let room = wire.writable();
                hurry.io(stall, HURRIED_STALL.min(stall), room).await?;
                continue;
            }
            done => done?,
        };
        if written == 0 {
            return Err(ErrorKind::WriteZero.into());
        }
        moved.fetch_add(written as u64, Ordering::Relaxed);
        IoSlice::advance_slices(&mut rest, written);
    }
    Ok(())
}

/// Reads exactly the awaited ack; says whether the connection is clean behind it. `waits` is told before a wait.
async fn read_ack(
    wire: &Wire,
    awaited: &str,
    read_length: usize,
    mut waits: impl FnMut(),
) -> Result<bool, Failure> {
    let mut bytes = Vec::new();
    loop {
        match read_more(wire, &mut bytes, read_length, &mut waits).await {
            Ok(1..) => {}
            Err(error) if error.kind() == ErrorKind::InvalidData => {
                return Err(garbage(&bytes));
            }
            Ok(0) | Err(_) => return Err(Failure::Closed),
        }
        match read_answer(&bytes, awaited) {
            Answer::Incomplete => {}
            Answer::Acknowledged(len) => return Ok(len == bytes.len()),
            Answer::Different(ack) => return Err(Failure::Different(ack)),
            Answer::Garbage => return Err(garbage(&bytes)),
        }
    }
}

/// Appends what has come, at most `read_length` bytes at once and [`ANSWER_LIMIT`] in all. `waits` is told before a wait.
async fn read_more(
    wire: &Wire,
    bytes: &mut Vec<u8>,
    read_length: usize,
    mut waits: impl FnMut(),
) -> io::Result<usize> {
    let room = ANSWER_LIMIT.saturating_sub(bytes.len()).min(read_length);
    if room == 0 {
        return Err(ErrorKind::InvalidData.into());
    }
    let before = bytes.len();
    bytes.resize(before + room, 0);
    let read = loop {
        match wire.try_read(&mut bytes[before..]) {
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                waits();
                wire.readable().await?;
            }
            done => break done,
        }
    };
    bytes.truncate(before + *read.as_ref().unwrap_or(&0));
    read
}

/// Fails if the peer has closed, or has said something that nobody asked for.
fn look_alive(wire: &Wire) -> Result<(), Failure> {
    match wire.peek() {
        Err(error) if error.kind() == ErrorKind::WouldBlock => Ok(()),
        Ok(1..) => Err(Failure::WantsHandshake),
        Ok(0) | Err(_) => Err(Failure::Closed),
    }
}

/// What the first bytes of a wrong answer tell.
fn garbage(bytes: &[u8]) -> Failure {
    if bytes.starts_with(b"\x92\xa4HELO") {
        return Failure::WantsHandshake;
    }
    let first = &bytes[..bytes.len().min(32)];
    Failure::Garbage(first.escape_ascii().to_string())
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
