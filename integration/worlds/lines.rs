//! The writer, the ledger and the proxy: what the loss tests rest on.

use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use crate::support::ledger::{Ledger, LineId, is_intact};
use crate::support::log_writer::{LogFile, LogWriter, Pace};
use crate::support::proxy::{Proxy, Weather};

const SOON: Duration = Duration::from_secs(10);

fn ids(numbers: impl IntoIterator<Item = u64>) -> Vec<LineId> {
    let id = |number| LineId { writer: 1, number };
    numbers.into_iter().map(id).collect()
}

#[test]
fn a_line_carries_its_id_and_notices_damage() {
    let id = LineId {
        writer: 3,
        number: 42,
    };
    let line = id.line(150);
    assert_eq!(line.len(), 150);
    assert_eq!(
        LineId::find(&format!("{{\"message\":\"{line}\"}}")),
        Some(id)
    );
    assert!(is_intact(&line));
    assert!(!is_intact(&line.replace("GET", "PUT")));
    assert!(!is_intact(&line[..100]), "a torn line is damaged too");
    assert_eq!(LineId::find("a line-up of line-x"), None);
}

#[test]
fn a_duplicate_does_not_hide_a_loss() {
    let mut ledger = Ledger::new(ids(0..10));
    ledger.arrived("primary", ids([0, 1, 2, 2, 4, 3]));
    ledger.arrived("standby", ids([4, 5, 6, 8, 9, 99]));
    assert_eq!(ledger.missing().into_iter().collect::<Vec<_>>(), ids([7]));
    assert_eq!(ledger.duplicates(), 2);
    assert_eq!(ledger.disorder(), 1);
    assert_eq!(ledger.unknown().into_iter().collect::<Vec<_>>(), ids([99]));
    assert_eq!(ledger.shares(), [("primary", 5), ("standby", 5)]);
    assert!(ledger.to_string().contains("missing: line-1-00000007"));
}

#[tokio::test]
async fn the_writer_knows_every_line_across_rotations() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("app.log");
    let pace = Pace {
        rate: 20_000,
        rotate_every: Some(100),
        ..Pace::default()
    };
    let writer = LogWriter::start(&path, 1, pace).expect("a writer");
    writer.wait_for_count(350, SOON).await.expect("it writes");
    let mut log = writer.stop().await.expect("it stops");
    log.line().expect("one by hand");
    let mut found = Vec::new();
    for entry in std::fs::read_dir(dir.path()).expect("readable") {
        let text = std::fs::read_to_string(entry.expect("an entry").path()).expect("text");
        assert!(text.lines().all(is_intact));
        found.extend(LineId::find_all(&text));
    }
    found.sort();
    assert_eq!(found, log.written());
    assert!(dir.path().join("app.log.3").exists());
}

#[test]
fn copytruncate_keeps_the_copy_and_empties_the_file() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("app.log");
    let mut log = LogFile::open(&path, 1, 80).expect("a file");
    log.lines(3).expect("written");
    log.copy_truncate().expect("copied");
    log.lines(1).expect("written");
    let lines = |name: &str| {
        let text = std::fs::read_to_string(dir.path().join(name)).expect("text");
        LineId::find_all(&text).collect::<Vec<_>>()
    };
    assert_eq!(lines("app.log.1"), ids(0..3));
    assert_eq!(lines("app.log"), ids(3..4));
}

/// A server that sends back what it gets.
async fn echo() -> std::net::SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let addr = listener.local_addr().expect("bound");
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                let (mut from, mut to) = stream.split();
                tokio::io::copy(&mut from, &mut to).await
            });
        }
    });
    addr
}

#[tokio::test]
async fn the_proxy_passes_holds_back_and_cuts() {
    let proxy = Proxy::start(echo().await).await.expect("a proxy");
    let mut client = TcpStream::connect(proxy.addr()).await.expect("connected");
    let mut answer = [0; 1];
    client.write_all(b"a").await.expect("sent");
    client.read_exact(&mut answer).await.expect("echoed");

    for weather in [Weather::HalfOpen, Weather::NoAnswers] {
        proxy.set(weather);
        client.write_all(b"b").await.expect("sent");
        let read = client.read_exact(&mut answer);
        let silence = tokio::time::timeout(Duration::from_millis(100), read).await;
        assert!(silence.is_err(), "{weather:?} let an answer through");
    }

    proxy.set(Weather::Delay(Duration::from_millis(5)));
    client
        .read_exact(&mut answer)
        .await
        .expect("held back, not lost");
    assert_eq!(&answer, b"b");

    proxy.set(Weather::Cut);
    let mut rest = Vec::new();
    // An end or a reset: both are a cut connection.
    let _ = client.read_to_end(&mut rest).await;
    let mut late = TcpStream::connect(proxy.addr())
        .await
        .expect("the port is open");
    assert!(!matches!(late.read(&mut answer).await, Ok(1..)));
}
