//! Small servers on loopback that ack, lie, hang up, stay silent or talk nonsense, and a log that can be read.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use super::handshake;
use crate::event::msgpack::{read_text, skip_value, write_bin, write_str};

/// What a server does with a whole message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Manner {
    Acks,
    AcksByteByByte,
    Lies,
    HangsUp,
    StaysSilent,
    TalksNonsense,
    AcksOncePerConnection,
}

/// What a server saw.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Seen {
    Message(Vec<u8>),
    Closed,
}

pub(super) struct Peer {
    pub(super) address: SocketAddr,
    pub(super) seen: mpsc::UnboundedReceiver<Seen>,
    pub(super) accepted: Arc<AtomicUsize>,
    _tasks: JoinSet<()>,
}

impl Peer {
    pub(super) async fn start(manner: Manner) -> Peer {
        Peer::start_at("127.0.0.1:0".parse().expect("an address"), manner).await
    }

    pub(super) async fn start_at(address: SocketAddr, manner: Manner) -> Peer {
        let listener = TcpListener::bind(address).await.expect("binds");
        let address = listener.local_addr().expect("bound");
        let (tell, seen) = mpsc::unbounded_channel();
        let accepted = Arc::new(AtomicUsize::new(0));
        let count = accepted.clone();
        let mut tasks = JoinSet::new();
        tasks.spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                count.fetch_add(1, Ordering::Relaxed);
                connections.spawn(serve(stream, manner, tell.clone()));
            }
        });
        Peer {
            address,
            seen,
            accepted,
            _tasks: tasks,
        }
    }

    pub(super) async fn message(&mut self) -> Vec<u8> {
        loop {
            if let Seen::Message(message) = self.seen.recv().await.expect("the server lives") {
                return message;
            }
        }
    }

    pub(super) fn messages_so_far(&mut self) -> usize {
        let mut count = 0;
        while let Ok(seen) = self.seen.try_recv() {
            count += usize::from(matches!(seen, Seen::Message(_)));
        }
        count
    }
}

async fn serve(mut stream: TcpStream, manner: Manner, tell: mpsc::UnboundedSender<Seen>) {
    while let Some(message) = read_message(&mut stream).await {
        let id = chunk_id(&message);
        let _ = tell.send(Seen::Message(message));
        let Some(id) = id else { continue };
        match manner {
            Manner::Acks | Manner::AcksOncePerConnection => {
                stream.write_all(&ack(&id)).await.expect("writes");
            }
            Manner::AcksByteByByte => {
                for byte in ack(&id) {
                    stream.write_all(&[byte]).await.expect("writes");
                    tokio::task::yield_now().await;
                }
            }
            Manner::Lies => {
                let other = "AAAAAAAAAAAAAAAAAAAAAA==\n";
                stream.write_all(&ack(other)).await.expect("writes");
            }
            Manner::TalksNonsense => {
                let nonsense = b"HTTP/1.1 400 Bad Request\r\n\r\n";
                stream.write_all(nonsense).await.expect("writes");
            }
            Manner::HangsUp => return,
            Manner::StaysSilent => {}
        }
        if manner == Manner::AcksOncePerConnection {
            return;
        }
    }
    let _ = tell.send(Seen::Closed);
}

async fn read_message(stream: &mut TcpStream) -> Option<Vec<u8>> {
    let mut bytes = Vec::new();
    while skip_value(&bytes) != Ok(bytes.len()) {
        if stream.read_buf(&mut bytes).await.ok()? == 0 {
            return None;
        }
    }
    Some(bytes)
}

pub(super) fn chunk_id(message: &[u8]) -> Option<String> {
    let at = message.windows(6).rposition(|six| six == b"\xa5chunk")?;
    let (id, _) = read_text(&message[at + 6..]).ok()??;
    Some(String::from_utf8_lossy(id).into_owned())
}

fn ack(id: &str) -> Vec<u8> {
    let mut ack = b"\x81\xa3ack".to_vec();
    write_str(&mut ack, id.as_bytes());
    ack
}

/// A server with `<security>` that knows `key`.
pub(super) async fn guarded(key: &'static str) -> (SocketAddr, JoinSet<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("binds");
    let address = listener.local_addr().expect("bound");
    let mut tasks = JoinSet::new();
    tasks.spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut helo = b"\x92\xa4HELO\x83\xa5nonce".to_vec();
            write_bin(&mut helo, &[7; 16]);
            helo.extend_from_slice(b"\xa4auth\xa0\xa9keepalive\xc3");
            stream.write_all(&helo).await.expect("writes");
            let Some(ping) = read_message(&mut stream).await else {
                continue;
            };
            let salt = &ping[ping.len() - 2 - 130 - 32..ping.len() - 2 - 130];
            let digest = handshake::hex_sha512(&[salt, b"sink", &[7; 16], key.as_bytes()]);
            let mut pong = b"\x95\xa4PONG\xc3\xa0\xa4sink".to_vec();
            write_str(&mut pong, digest.as_bytes());
            stream.write_all(&pong).await.expect("writes");
            if let Some(message) = read_message(&mut stream).await {
                let id = chunk_id(&message).expect("asks for an ack");
                stream.write_all(&ack(&id)).await.expect("writes");
            }
        }
    });
    (address, tasks)
}

/// What was logged while the test ran: level and message.
#[derive(Clone, Default)]
pub(super) struct Log(pub(super) Arc<Mutex<Vec<String>>>);

impl<S: tracing::Subscriber> tracing_subscriber::Layer<S> for Log {
    fn on_event(
        &self,
        event: &tracing::Event<'_>,
        _context: tracing_subscriber::layer::Context<'_, S>,
    ) {
        let mut line = event.metadata().level().to_string();
        event.record(
            &mut |field: &tracing::field::Field, value: &dyn std::fmt::Debug| {
                if field.name() == "message" {
                    line += &format!(" {value:?}");
                }
            },
        );
        self.0.lock().expect("no test panics").push(line);
    }
}
