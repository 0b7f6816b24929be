//! One server's address and connections: resolve, connect, shake hands, send, read the ack. Every wait has a limit, and
//! dropping a future closes its connection. Which server, and what its failure means, is decided in `mod`.

use std::io::{self, ErrorKind, IoSlice};
use std::mem::MaybeUninit;
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use socket2::SockRef;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UdpSocket, lookup_host};
use tokio::sync::Notify;
use tokio::time::Instant;

use super::frame::{Answer, Frame, read_answer};
use super::handshake::{self, Credentials, Refused};
use super::hurry::Hurry;

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
    idle: Mutex<Vec<(TcpStream, Instant)>>,
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
    /// in a hurry this one is not waited for.
    pub async fn deliver(
        &self,
        frame: &Frame,
        settings: &Settings,
        hurry: &Hurry,
        alternative: bool,
    ) -> Result<(), Failure> {
        if let Some(stream) = self.take_idle(settings) {
            match self
                .transfer(stream, frame, settings, hurry, alternative)
                .await
            {
                // A connection that stood idle may have died unnoticed: that says nothing about the server.
                Err(Failure::Send(_) | Failure::Closed) => {}
                done => return done,
            }
        }
        let stream = self.connect(settings, hurry).await?;
        self.transfer(stream, frame, settings, hurry, alternative)
            .await
    }

    /// A heartbeat of type transport: a connection, opened, greeted and closed.
    pub async fn greet(&self, settings: &Settings, hurry: &Hurry) -> Result<(), Failure> {
        let mut stream = self.connect(settings, hurry).await?;
        stream.shutdown().await.map_err(Failure::Send)
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
    async fn connect(&self, settings: &Settings, hurry: &Hurry) -> Result<TcpStream, Failure> {
        let open = async {
            let addresses = self.resolve(settings).await?;
            TcpStream::connect(&addresses[..])
                .await
                .map_err(Failure::Connect)
        };
        let mut stream = hurry
            .within(settings.connect_timeout, HURRIED_CONNECT, open)
            .await
            .unwrap_or_else(|| Err(Failure::Connect(ErrorKind::TimedOut.into())))?;
        stream.set_nodelay(true).map_err(Failure::Connect)?;
        if settings.send_keepalive_packet {
            let socket = SockRef::from(&stream);
            socket.set_keepalive(true).map_err(Failure::Connect)?;
        }
        if let Some(us) = &self.credentials {
            let shake = shake_hands(&mut stream, us, settings.read_length);
            hurry
                .within(settings.handshake_timeout, HURRIED_STALL, shake)
                .await
                .unwrap_or_else(|| Err(Failure::Handshake(ErrorKind::TimedOut.into())))?;
        }
        Ok(stream)
    }

    async fn transfer(
        &self,
        mut stream: TcpStream,
        frame: &Frame,
        settings: &Settings,
        hurry: &Hurry,
        alternative: bool,
    ) -> Result<(), Failure> {
        send(
            &mut stream,
            frame,
            settings.send_timeout,
            hurry,
            &self.moved,
        )
        .await?;
        self.sent.fetch_add(1, Ordering::Relaxed);
        let reusable = match &frame.awaits {
            Some(id) => {
                let limit = settings.ack_response_timeout;
                let hurried = if alternative { HURRIED_ACK } else { limit };
                let answer = hurry.within(
                    limit,
                    hurried,
                    read_ack(&mut stream, id, settings.read_length),
                );
                let reusable = tokio::select! {
                    answer = answer => answer.unwrap_or(Err(Failure::NoResponse))?,
                    () = self.given_up.notified() => return Err(Failure::NoResponse),
                };
                self.acked.fetch_add(1, Ordering::Relaxed);
                reusable
            }
            None => {
                // Nothing proves delivery without an ack. What can be seen is whether the peer has gone or speaks.
                look_alive(&stream)?;
                true
            }
        };
        if settings.keepalive && reusable {
            lock(&self.idle).push((stream, Instant::now()));
        } else {
            // The chunk is delivered, whatever becomes of the goodbye.
            let _ = stream.shutdown().await;
        }
        Ok(())
    }

    fn take_idle(&self, settings: &Settings) -> Option<TcpStream> {
        let mut idle = lock(&self.idle);
        let fresh = |since: &Instant| {
            settings
                .keepalive_timeout
                .is_none_or(|limit| since.elapsed() < limit)
        };
        idle.retain(|(stream, since)| fresh(since) && look_alive(stream).is_ok());
        idle.pop().map(|(stream, _)| stream)
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

async fn shake_hands(
    stream: &mut TcpStream,
    us: &Credentials,
    read_length: usize,
) -> Result<(), Failure> {
    let helo = read_message(stream, read_length, handshake::read_helo).await?;
    stream
        .write_all(&handshake::ping(us, &helo))
        .await
        .map_err(Failure::Handshake)?;
    read_message(stream, read_length, |bytes| {
        handshake::check_pong(us, &helo, bytes)
    })
    .await
}

async fn read_message<T>(
    stream: &mut TcpStream,
    read_length: usize,
    read: impl Fn(&[u8]) -> Result<Option<T>, Refused>,
) -> Result<T, Failure> {
    let mut bytes = Vec::new();
    loop {
        if let Some(message) = read(&bytes)? {
            return Ok(message);
        }
        if read_more(stream, &mut bytes, read_length)
            .await
            .map_err(Failure::Handshake)?
            == 0
        {
            return Err(Failure::Handshake(ErrorKind::UnexpectedEof.into()));
        }
    }
}

async fn send(
    stream: &mut TcpStream,
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
        let sending = send_slices(stream, &mut slices, stall, hurry, moved);
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
    stream: &mut TcpStream,
    slices: &mut [IoSlice<'_>],
    stall: Duration,
    hurry: &Hurry,
    moved: &AtomicU64,
) -> io::Result<()> {
    let mut rest = slices;
    IoSlice::advance_slices(&mut rest, 0);
    while !rest.is_empty() {
        // A small frame passes at once: no clock is asked for it.
        let written = match stream.try_write_vectored(rest) {
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                let writing = stream.write_vectored(rest);
                hurry.io(stall, HURRIED_STALL.min(stall), writing).await?
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

/// Reads exactly the awaited ack; says whether the connection is clean behind it.
async fn read_ack(
    stream: &mut TcpStream,
    awaited: &str,
    read_length: usize,
) -> Result<bool, Failure> {
    let mut bytes = Vec::new();
    loop {
        match read_more(stream, &mut bytes, read_length).await {
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

/// Appends what has come, at most `read_length` bytes at once and [`ANSWER_LIMIT`] in all.
async fn read_more(
    stream: &mut TcpStream,
    bytes: &mut Vec<u8>,
    read_length: usize,
) -> io::Result<usize> {
    let room = ANSWER_LIMIT.saturating_sub(bytes.len()).min(read_length);
    if room == 0 {
        return Err(ErrorKind::InvalidData.into());
    }
    let before = bytes.len();
    bytes.resize(before + room, 0);
    let read = stream.read(&mut bytes[before..]).await;
    bytes.truncate(before + *read.as_ref().unwrap_or(&0));
    read
}

/// Fails if the peer has closed, or has said something that nobody asked for.
fn look_alive(stream: &TcpStream) -> Result<(), Failure> {
    let mut byte = [MaybeUninit::uninit()];
    match SockRef::from(stream).peek(&mut byte) {
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
