//! A forward server as cheap as can be: what it takes in a second, and how late it sees a line, bounds every figure. Its threads wait in
//! accept, so that a new connection costs no new thread. It keeps a journal of what came, and writes there before it acks.

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use socket2::SockRef;

use crate::lines;
use crate::wire::{self, Ends, Frame, Frames};

/// The connections that can be served at once, heartbeats included.
const CONNECTIONS: usize = 16;

/// Small enough to stay in the processor's cache: every body goes through it piece by piece.
const BUFFER: usize = 256 << 10;

/// How closely a receiver looks.
#[derive(Clone, Copy)]
pub enum Look {
    /// At the first and the last line of each message, whose lines are consecutive: costs nothing.
    Ends,
    /// At each line.
    Lines,
    /// At each line, and the lines come bare, without the protocol.
    Bare,
}

/// A message with consecutive lines.
pub struct Span {
    /// Number of its first line.
    pub first: u64,
    /// Number of its last line.
    pub last: u64,
    /// When its first byte was read.
    pub began: Instant,
    /// When its last byte was read; the ack follows at once.
    pub ended: Instant,
}

/// What came.
#[derive(Default)]
pub struct Journal {
    /// Messages, where [`Look::Ends`].
    pub spans: Vec<Span>,
    /// Lines and when they came, where each is looked at.
    pub arrivals: Vec<(u64, Instant)>,
    /// Lines, repeated ones as often as they came.
    pub lines: u64,
    /// What was wrong with the bytes.
    pub errors: Vec<String>,
}

impl Journal {
    /// How many of the lines `0..written` came. Counted by number: a repeated line does not hide a missing one.
    pub fn distinct(&self, written: u64) -> u64 {
        let mut spans: Vec<_> = self
            .spans
            .iter()
            .map(|span| (span.first, span.last + 1))
            .collect();
        spans.sort_unstable();
        let (mut count, mut covered) = (0, 0);
        for (first, end) in spans {
            let end = end.min(written);
            count += end.saturating_sub(first.max(covered));
            covered = covered.max(end);
        }
        let single: BTreeSet<u64> = self.arrivals.iter().map(|arrival| arrival.0).collect();
        count + single.range(..written).count() as u64
    }
}

struct Shared {
    look: Look,
    journal: Mutex<Journal>,
    changed: Condvar,
    closed: AtomicBool,
    /// The open one of each thread.
    connections: Mutex<[Option<TcpStream>; CONNECTIONS]>,
}

/// A running receiver. Dropping it closes the port and every connection.
pub struct Receiver {
    addr: SocketAddr,
    shared: Arc<Shared>,
    listener: Arc<TcpListener>,
    threads: Vec<JoinHandle<()>>,
}

/// An address on loopback where nothing listens: a server that is away.
pub fn free_addr() -> Result<SocketAddr> {
    Ok(TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?)
}

impl Receiver {
    /// Listens on a port of its own.
    pub fn start(look: Look) -> Result<Self> {
        Self::start_at((Ipv4Addr::LOCALHOST, 0).into(), look)
    }

    /// Listens at `addr`.
    pub fn start_at(addr: SocketAddr, look: Look) -> Result<Self> {
        let listener =
            TcpListener::bind(addr).with_context(|| format!("cannot listen at {addr}"))?;
        let addr = listener.local_addr()?;
        let shared = Arc::new(Shared {
            look,
            journal: Mutex::default(),
            changed: Condvar::new(),
            closed: AtomicBool::new(false),
            connections: Mutex::default(),
        });
        let listener = Arc::new(listener);
        let mut threads = Vec::new();
        for number in 0..CONNECTIONS {
            let (listener, shared) = (Arc::clone(&listener), Arc::clone(&shared));
            threads.push(std::thread::spawn(move || {
                accept(number, &listener, &shared)
            }));
        }
        Ok(Self {
            addr,
            shared,
            threads,
            listener,
        })
    }

    /// Where it listens.
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// Looks at the journal.
    pub fn journal(&self) -> MutexGuard<'_, Journal> {
        lock(&self.shared.journal)
    }

    /// Waits until so many lines came, repeated ones included; fails after `limit` or on wrong bytes.
    pub fn wait_for_lines(&self, lines: u64, limit: Duration) -> Result<()> {
        let end = Instant::now() + limit;
        let mut journal = self.journal();
        while journal.lines < lines {
            if let Some(error) = journal.errors.first() {
                bail!("the receiver read wrong bytes: {error}");
            }
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                bail!("{} of {lines} lines came within {limit:?}", journal.lines);
            }
            journal = self
                .shared
                .changed
                .wait_timeout(journal, left)
                .unwrap_or_else(PoisonError::into_inner)
                .0;
        }
        Ok(())
    }
}

impl Drop for Receiver {
    fn drop(&mut self) {
        self.shared.closed.store(true, Ordering::SeqCst);
        // Wakes the threads that wait in accept, then those that read. A connection may be closed already.
        let _ = SockRef::from(&*self.listener).shutdown(Shutdown::Both);
        for stream in lock(&self.shared.connections).iter().flatten() {
            let _ = stream.shutdown(Shutdown::Both);
        }
        for thread in self.threads.drain(..) {
            thread.join().expect("a connection does not panic");
        }
    }
}

fn accept(number: usize, listener: &TcpListener, shared: &Shared) {
    let mut buffer = vec![0; BUFFER];
    while let Ok((stream, _)) = listener.accept() {
        let mut connections = lock(&shared.connections);
        if shared.closed.load(Ordering::SeqCst) {
            break;
        }
        connections[number] = stream.try_clone().ok();
        drop(connections);
        serve(stream, &mut buffer, shared);
        lock(&shared.connections)[number] = None;
    }
}

fn serve(stream: TcpStream, buffer: &mut [u8], shared: &Shared) {
    let served = stream.set_nodelay(true).and_then(|()| match shared.look {
        Look::Ends => ends(Frames::new(stream, buffer), shared),
        Look::Lines => each(Frames::new(stream, buffer), shared),
        Look::Bare => bare(stream, shared),
    });
    if let Err(error) = served
        && error.kind() == std::io::ErrorKind::InvalidData
    {
        shared.change(|journal| journal.errors.push(error.to_string()));
    }
}

fn ends(mut frames: Frames<'_>, shared: &Shared) -> std::io::Result<()> {
    let mut ends = Ends::default();
    while let Some(frame) = frames.next(|piece| ends.look(piece))? {
        let (first, last) = ends.texts(&frame)?;
        let span = span(first, last, &frame)?;
        shared.change(|journal| {
            journal.lines += frame.size;
            journal.spans.push(span);
        });
        if let Some(chunk) = &frame.chunk {
            frames.ack(chunk)?;
        }
        ends = Ends::default();
    }
    Ok(())
}

fn span(first: &[u8], last: &[u8], frame: &Frame) -> std::io::Result<Span> {
    let ids = lines::id_of(first).zip(lines::id_of(last));
    match ids.filter(|(first, last)| last + 1 == first + frame.size) {
        Some((first, last)) => Ok(Span {
            first,
            last,
            began: frame.began,
            ended: frame.ended,
        }),
        None => Err(unexpected("a message does not hold consecutive lines")),
    }
}

fn each(mut frames: Frames<'_>, shared: &Shared) -> std::io::Result<()> {
    let mut body = Vec::new();
    while let Some(frame) = frames.next(|piece| body.extend_from_slice(piece))? {
        let mut ids = Vec::new();
        wire::texts(&body, |text| ids.push(lines::id_of(text)))?;
        if ids.len() as u64 != frame.size {
            return Err(unexpected("the size is not the number of entries"));
        }
        let ids: Option<Vec<u64>> = ids.into_iter().collect();
        let ids = ids.ok_or_else(|| unexpected("a line is not ours"))?;
        shared.change(|journal| {
            journal.lines += frame.size;
            journal
                .arrivals
                .extend(ids.into_iter().map(|id| (id, frame.ended)));
        });
        if let Some(chunk) = &frame.chunk {
            frames.ack(chunk)?;
        }
        body.clear();
    }
    Ok(())
}

fn bare(stream: TcpStream, shared: &Shared) -> std::io::Result<()> {
    let mut stream = BufReader::new(stream);
    let mut line = Vec::new();
    while stream.read_until(b'\n', &mut line)? > 0 {
        let at = Instant::now();
        let id = lines::id_of(&line).ok_or_else(|| unexpected("a line is not ours"))?;
        shared.change(|journal| {
            journal.lines += 1;
            journal.arrivals.push((id, at));
        });
        line.clear();
    }
    Ok(())
}

impl Shared {
    fn change(&self, change: impl FnOnce(&mut Journal)) {
        change(&mut lock(&self.journal));
        self.changed.notify_all();
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn unexpected(what: &str) -> std::io::Error {
    std::io::Error::new(std::io::ErrorKind::InvalidData, what)
}
