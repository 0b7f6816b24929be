//! The forward server against bytes that were captured from Fluentd, and against a client written here.

use std::net::{SocketAddr, UdpSocket};
use std::time::Duration;

use proptest::prelude::*;
use rmpv::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::support::forward_server::{ForwardServer, Mode};
use crate::support::forward_wire::{
    self as wire, Carrier, Challenge, Delivery, Front, Security, Time, hex_sha512,
};
use crate::support::ledger::LineId;

const SOON: Duration = Duration::from_secs(10);
/// Long enough that a wrong ack would have come, short enough to wait for nothing.
const NEVER: Duration = Duration::from_millis(200);

fn unhex(text: &str) -> Vec<u8> {
    let digits: String = text.split_whitespace().collect();
    let byte = |at: usize| u8::from_str_radix(&digits[at..at + 2], 16).expect("hexadecimal");
    (0..digits.len()).step_by(2).map(byte).collect()
}

fn bytes_of(value: &Value) -> Vec<u8> {
    let mut bytes = Vec::new();
    rmpv::encode::write_value(&mut bytes, value).expect("a Vec takes all");
    bytes
}

fn delivery(bytes: &[u8]) -> Delivery {
    match wire::front(bytes) {
        Ok(Front::Delivery(delivery)) => delivery,
        other => panic!("not a delivery: {other:?}"),
    }
}

/// forward.md §2, as Fluentd 1.18 sent it.
fn captured() -> Vec<u8> {
    unhex(
        "93 a3612e62 db00000017 92d7006553f100075bcd15 81a76d657373616765a26869
         83 a473697a6501 aa636f6d70726573736564a474657874
         a56368756e6b b95a673159623730352f356f58364f37787338474e48773d3d0a",
    )
}

fn record(line: &str) -> Value {
    Value::Map(vec![("message".into(), line.into())])
}

fn time() -> Value {
    Value::Ext(0, unhex("6553f100 075bcd15"))
}

/// A PackedForward of these lines with a chunk id.
fn packed(numbers: std::ops::Range<u64>, chunk: &str) -> Vec<u8> {
    let entries = numbers.flat_map(|number| {
        let line = LineId { writer: 1, number }.line(80);
        bytes_of(&Value::Array(vec![time(), record(&line)]))
    });
    let option = Value::Map(vec![("chunk".into(), chunk.into())]);
    bytes_of(&Value::Array(vec![
        "app.web".into(),
        Value::Binary(entries.collect()),
        option,
    ]))
}

#[test]
fn fluentds_own_bytes_are_read() {
    let delivery = delivery(&captured());
    assert_eq!(delivery.tag, "a.b");
    assert_eq!(delivery.carrier, Carrier::PackedForward);
    assert_eq!(delivery.size, Some(1));
    assert_eq!(delivery.compressed.as_deref(), Some("text"));
    assert_eq!(
        delivery.events[0].time,
        Time::EventTime(1_700_000_000, 123_456_789)
    );
    assert_eq!(delivery.events[0].text("message").as_deref(), Some("hi"));
    let chunk = delivery.chunk.expect("a chunk id");
    let ack = unhex("81 a361636b b95a673159623730352f356f58364f37787338474e48773d3d0a");
    assert_eq!(wire::ack(&chunk), ack);
}

#[test]
fn all_four_carriers_are_read() {
    let entry = Value::Array(vec![time(), record("x")]);
    let message = Value::Array(vec!["t".into(), 7.into(), record("x")]);
    assert_eq!(
        delivery(&bytes_of(&message)).events[0].time,
        Time::Integer(7)
    );
    assert_eq!(delivery(&bytes_of(&message)).carrier, Carrier::Message);
    let forward = Value::Array(vec!["t".into(), Value::Array(vec![entry.clone(); 3])]);
    assert_eq!(delivery(&bytes_of(&forward)).events.len(), 3);
    assert_eq!(delivery(&bytes_of(&forward)).carrier, Carrier::Forward);

    let mut gzip = Vec::new();
    for _ in 0..2 {
        let mut member = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        std::io::Write::write_all(&mut member, &bytes_of(&entry)).expect("a Vec takes all");
        gzip.extend(member.finish().expect("a Vec takes all"));
    }
    let option = Value::Map(vec![("compressed".into(), "gzip".into())]);
    let compressed = Value::Array(vec!["t".into(), Value::Binary(gzip), option]);
    let compressed = delivery(&bytes_of(&compressed));
    assert_eq!(compressed.carrier, Carrier::CompressedPackedForward);
    assert_eq!(compressed.events.len(), 2, "both gzip members");
}

#[test]
fn digests_agree_with_the_captured_handshake() {
    let nonce = unhex("b91b2d70fcae1fdd13d72317d884087f");
    let auth = unhex("c806dd92b5ae3eb0d4a74ee99c2bc40f");
    let salt = b"1674970fe332dab54721fdcf1ae1d28b";
    let d1 = hex_sha512(&[salt, b"client", &nonce, b"sekret"]);
    let d2 = hex_sha512(&[&auth, b"u", b"p"]);
    assert!(d1.starts_with("225ea0c70a5e6a9cfeab19947568de32"));
    assert!(d2.starts_with("d89e8d0c3d57ca84b220bdeebc0768eb"));
    let security = Security {
        self_hostname: "sink".to_string(),
        shared_key: "sekret".to_string(),
        user: Some(("u".to_string(), "p".to_string())),
    };
    let challenge = Challenge { nonce, auth };
    let salt = std::str::from_utf8(salt).expect("ASCII");
    let ping = |key: &str| {
        let items = ["PING", "client", salt, key, "u", &d2];
        Value::Array(items.iter().map(|item| Value::from(*item)).collect())
    };
    let pong = wire::pong(&security, &challenge, &ping(&d1)).expect("the right key");
    let d3 = "b4f0a4ca87a0cb000624aa58ba31f6c8dd20ded565082b5376a4070f7f16adc5";
    assert!(String::from_utf8_lossy(&pong).contains(d3));
    let refusal = wire::pong(&security, &challenge, &ping("wrong")).expect_err("another key");
    assert_eq!(refusal.reason, "shared_key mismatch");
    let fail = unhex("95a4504f4e47c2b37368617265645f6b6579206d69736d61746368a0a0");
    assert_eq!(refusal.pong, fail);
}

proptest! {
    #[test]
    fn a_message_cut_anywhere_is_incomplete_and_never_wrong(cut in 1usize..82) {
        let bytes = captured();
        prop_assume!(cut < bytes.len());
        prop_assert!(matches!(wire::front(&bytes[..cut]), Ok(Front::Incomplete)));
    }
}

struct Client(TcpStream);

impl Client {
    async fn connect(addr: SocketAddr) -> Self {
        Self(TcpStream::connect(addr).await.expect("the server listens"))
    }

    /// Sends and returns whatever comes back first; `None` when the server closes without a word.
    async fn send(&mut self, bytes: &[u8]) -> Option<Vec<u8>> {
        let answer = tokio::time::timeout(SOON, self.converse(bytes)).await;
        answer.expect("the server neither answers nor closes")
    }

    async fn converse(&mut self, bytes: &[u8]) -> Option<Vec<u8>> {
        self.0.write_all(bytes).await.ok()?;
        let mut answer = vec![0; 256];
        match self.0.read(&mut answer).await {
            Ok(length @ 1..) => Some(answer[..length].to_vec()),
            _ => None,
        }
    }
}

#[tokio::test]
async fn what_is_acked_is_in_the_journal() {
    let server = ForwardServer::start().await.expect("a server");
    let mut client = Client::connect(server.addr()).await;
    let answer = client.send(&packed(0..100, "c1")).await;
    assert_eq!(answer, Some(wire::ack(&"c1".into())));
    server.wait_for_lines(100, SOON).await.expect("all lines");
    let received = server.received();
    assert_eq!(received[0].delivery.tag, "app.web");
    assert!(server.state().read(|state| state.damaged.is_empty()));
    assert_eq!(server.events().len(), 100);
}

#[tokio::test]
async fn each_mode_does_what_it_says() {
    let server = ForwardServer::start().await.expect("a server");
    let stored = || server.state().read(|state| state.distinct.len());
    let ack = Some(wire::ack(&"c".into()));

    server.set_mode(Mode::Silent).await;
    let mut client = Client::connect(server.addr()).await;
    let one = packed(0..1, "c");
    let silence = tokio::time::timeout(NEVER, client.send(&one)).await;
    assert!(silence.is_err(), "an answer came: {silence:?}");

    server.set_mode(Mode::Lie).await;
    let lie = client.send(&one).await.expect("an answer");
    assert!(String::from_utf8_lossy(&lie).contains("ack") && Some(&lie) != ack.as_ref());

    server.set_mode(Mode::Garbage).await;
    let garbage = client.send(&one).await;
    assert_eq!(garbage.map(|bytes| bytes.len()), Some(64));

    server.set_mode(Mode::HangUpBeforeAck).await;
    assert_eq!(client.send(&one).await, None);
    assert_eq!(stored(), 0, "nothing was kept so far");

    server.set_mode(Mode::StoreThenDie).await;
    assert_eq!(Client::connect(server.addr()).await.send(&one).await, None);
    assert_eq!(stored(), 1);

    server.set_mode(Mode::HangUpOnConnect).await;
    assert_eq!(Client::connect(server.addr()).await.send(&one).await, None);
    server.set_mode(Mode::HangUpMidChunk).await;
    let half = &packed(5..6, "c")[..30];
    assert_eq!(Client::connect(server.addr()).await.send(half).await, None);

    server.set_mode(Mode::Slow(Duration::from_millis(20))).await;
    assert_eq!(
        Client::connect(server.addr())
            .await
            .send(&packed(1..2, "c"))
            .await,
        ack
    );
    assert_eq!(stored(), 2);
}

#[tokio::test]
async fn a_stopped_server_refuses_and_listens_again_on_its_port() {
    let server = ForwardServer::start().await.expect("a server");
    let mut open = Client::connect(server.addr()).await;
    open.send(&packed(0..1, "c")).await.expect("an ack");
    server.stop().await;
    assert_eq!(
        open.send(&packed(1..2, "c")).await,
        None,
        "the old connection is closed"
    );
    TcpStream::connect(server.addr())
        .await
        .expect_err("nobody listens");
    server.restart().await;
    let mut again = Client::connect(server.addr()).await;
    assert!(again.send(&packed(2..3, "c")).await.is_some());
}

#[tokio::test]
async fn heartbeats_of_both_kinds_are_answered_and_counted() {
    let server = ForwardServer::start().await.expect("a server");
    let addr = server.addr();
    let answer = tokio::task::spawn_blocking(move || {
        let socket = UdpSocket::bind("127.0.0.1:0").expect("a socket");
        socket.set_read_timeout(Some(SOON)).expect("a time-out");
        socket.send_to(&[0], addr).expect("sent");
        let mut answer = [1; 8];
        socket
            .recv(&mut answer)
            .map(|length| answer[..length].to_vec())
    });
    assert_eq!(answer.await.expect("joined").expect("an echo"), [0]);
    drop(Client::connect(addr).await);
    let both = |state: &crate::support::forward_server::State| {
        state.datagrams == 1 && state.empty_connections == 1
    };
    server
        .wait_for("both heartbeats", SOON, both)
        .await
        .expect("counted");
}

#[tokio::test]
async fn damaged_bytes_are_reported_and_not_stored() {
    let server = ForwardServer::start().await.expect("a server");
    let mut client = Client::connect(server.addr()).await;
    assert_eq!(client.send(&[0xc1, 0xc1, 0xc1]).await, None);
    let reported = |state: &crate::support::forward_server::State| !state.errors.is_empty();
    server
        .wait_for("the error", SOON, reported)
        .await
        .expect("reported");
    assert!(server.received().is_empty());
}

/// What a client does with a `HELO`, with this key; returns the server's last word.
async fn shake_hands(addr: SocketAddr, key: &str) -> Value {
    let mut stream = TcpStream::connect(addr).await.expect("the server listens");
    let mut buffer = vec![0; 1024];
    let length = stream.read(&mut buffer).await.expect("a HELO");
    let helo = rmpv::decode::read_value(&mut &buffer[..length]).expect("MessagePack");
    assert_eq!(helo[0].as_str(), Some("HELO"));
    let nonce = helo[1]["nonce"].as_slice().expect("bytes").to_vec();
    let auth = helo[1]["auth"].as_slice().expect("bytes").to_vec();
    let d1 = hex_sha512(&[b"salt", b"client", &nonce, key.as_bytes()]);
    let d2 = hex_sha512(&[&auth, b"u", b"p"]);
    let items = ["PING", "client", "salt", &d1, "u", &d2];
    let ping = Value::Array(items.iter().map(|item| Value::from(*item)).collect());
    stream.write_all(&bytes_of(&ping)).await.expect("sent");
    let length = stream.read(&mut buffer).await.expect("a PONG");
    let pong = rmpv::decode::read_value(&mut &buffer[..length]).expect("MessagePack");
    if pong[1] == Value::from(true) {
        stream.write_all(&packed(0..3, "c")).await.expect("sent");
        let length = stream.read(&mut buffer).await.expect("an ack");
        assert_eq!(buffer[..length], wire::ack(&"c".into()));
    }
    pong
}

#[tokio::test]
async fn a_server_with_a_shared_key_takes_events_after_the_handshake_only() {
    let server = ForwardServer::start_with(Some(Security {
        self_hostname: "sink".to_string(),
        shared_key: "sekret".to_string(),
        user: Some(("u".to_string(), "p".to_string())),
    }));
    let server = server.await.expect("a server");
    let refused = shake_hands(server.addr(), "guess").await;
    assert_eq!(refused[2].as_str(), Some("shared_key mismatch"));
    assert!(server.received().is_empty());
    let welcome = shake_hands(server.addr(), "sekret").await;
    assert_eq!(welcome[3].as_str(), Some("sink"));
    server.wait_for_lines(3, SOON).await.expect("stored");
    assert_eq!(server.state().read(|state| state.handshakes), 1);
}
