//! Against small servers on loopback.

use std::net::SocketAddr;
use std::time::SystemTime;

use tokio::net::TcpListener;
use tokio::task::JoinSet;

use super::peer::{Log, Manner, Peer, Seen, chunk_id, guarded};
use super::*;
use crate::buffer::{Buffer, ChunkKey, ChunkKeys};
use crate::config::types::{Secret, Time};
use crate::event::{Entries, EventStream, EventTime, Receipt, Tag};

fn chunk() -> Chunk {
    let tag = Tag::new("app.access");
    let key = ChunkKey::of_tag(tag.clone());
    let mut chunk = Chunk::new(key, Instant::now(), SystemTime::now());
    for line in 0..3000 {
        let mut batch = Entries::default();
        let mut record = batch.begin(EventTime { sec: 1, nsec: line });
        record.bin("message", b"a line");
        record.finish();
        let (entries, count) = batch.freeze();
        chunk.append(EventStream {
            tag: tag.clone(),
            entries,
            count,
            receipt: Receipt::none(),
        });
    }
    chunk
}

fn buffer() -> Arc<Buffer> {
    Buffer::new(
        "forward.0",
        ChunkKeys::default(),
        crate::buffer::Limits::ROOMY,
    )
}

fn millis(n: u64) -> Time {
    Time(Duration::from_millis(n))
}

fn params() -> Params {
    Params {
        require_ack_response: true,
        heartbeat_interval: millis(10),
        recover_wait: millis(50),
        ..Params::default()
    }
}

fn server(address: SocketAddr) -> ServerParams {
    ServerParams {
        host: Some(address.ip().to_string()),
        port: i64::from(address.port()),
        ..ServerParams::default()
    }
}

fn standby(address: SocketAddr) -> ServerParams {
    ServerParams {
        standby: true,
        ..server(address)
    }
}

/// An address where nobody listens.
async fn nobody() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("binds");
    listener.local_addr().expect("bound")
}

async fn delivered(forward: &Forward) -> Chunk {
    let chunk = chunk();
    forward.write(&chunk).await.expect("somebody takes it");
    chunk
}

async fn until(condition: impl Fn() -> bool) {
    while !condition() {
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

#[tokio::test]
async fn a_chunk_is_delivered_when_its_own_ack_comes_back() {
    for manner in [Manner::Acks, Manner::AcksByteByByte] {
        let mut peer = Peer::start(manner).await;
        let forward = Forward::new(&params(), vec![server(peer.address)], None);
        let chunk = delivered(&forward).await;
        let message = peer.message().await;
        let entries = chunk.read().await.expect("in memory").concat();
        assert!(message.windows(entries.len()).any(|part| part == entries));
        assert_eq!(chunk_id(&message), Some(chunk.id().to_base64()));
        let status = &forward.nodes()[0];
        assert_eq!((status.sent_chunks, status.acked_chunks), (1, 1));
    }
}

#[tokio::test]
async fn whatever_the_primary_does_wrong_the_standby_has_the_chunk_within_the_same_write() {
    for manner in [
        Manner::Lies,
        Manner::HangsUp,
        Manner::StaysSilent,
        Manner::TalksNonsense,
    ] {
        let primary = Peer::start(manner).await;
        let mut second = Peer::start(Manner::Acks).await;
        let params = Params {
            ack_response_timeout: millis(200),
            ..params()
        };
        let servers = vec![server(primary.address), standby(second.address)];
        let forward = Forward::new(&params, servers, None);
        let chunk = delivered(&forward).await;
        let received = chunk_id(&second.message().await);
        assert_eq!(received, Some(chunk.id().to_base64()), "{manner:?}");
        let nodes = forward.nodes();
        assert!(!nodes[0].available && nodes[1].active, "{manner:?}");
        assert_eq!((nodes[0].acked_chunks, nodes[1].acked_chunks), (0, 1));
    }
}

#[tokio::test]
async fn a_primary_that_refuses_costs_no_retry_and_is_left_alone_afterwards() {
    let mut second = Peer::start(Manner::Acks).await;
    let servers = vec![server(nobody().await), standby(second.address)];
    let forward = Forward::new(&params(), servers, None);
    delivered(&forward).await;
    delivered(&forward).await;
    assert_eq!(second.messages_so_far(), 2);
}

#[tokio::test]
async fn the_standby_gets_nothing_while_the_primary_is_well() {
    let mut primary = Peer::start(Manner::Acks).await;
    let mut second = Peer::start(Manner::Acks).await;
    let servers = vec![server(primary.address), standby(second.address)];
    let forward = Forward::new(&params(), servers, None);
    for _ in 0..5 {
        delivered(&forward).await;
    }
    assert_eq!(
        (primary.messages_so_far(), second.messages_so_far()),
        (5, 0)
    );
}

#[tokio::test]
async fn the_primary_gets_the_work_back_when_it_recovers() {
    let address = nobody().await;
    let mut second = Peer::start(Manner::Acks).await;
    let servers = vec![server(address), standby(second.address)];
    let forward = Arc::new(Forward::new(&params(), servers, None));
    let stop = Stop::new();
    let mut tasks = JoinSet::new();
    for (name, task) in forward.clone().tasks(stop.clone()) {
        assert!(name.starts_with("heartbeat."));
        tasks.spawn(task);
    }
    delivered(&forward).await;
    second.message().await;
    let mut primary = Peer::start_at(address, Manner::Acks).await;
    until(|| forward.nodes()[0].available).await;
    assert!(!forward.nodes()[1].active);
    let chunk = delivered(&forward).await;
    assert_eq!(
        chunk_id(&primary.message().await),
        Some(chunk.id().to_base64())
    );
    stop.advance(Phase::Close);
    tasks.join_all().await;
}

#[tokio::test]
async fn heartbeats_detach_a_server_that_gets_no_data() {
    for heartbeat_type in [HeartbeatType::Transport, HeartbeatType::Udp] {
        let params = Params {
            hard_timeout: millis(100),
            heartbeat_type,
            ..params()
        };
        let forward = Forward::new(&params, vec![server(nobody().await)], None);
        let forward = Arc::new(forward);
        let mut tasks = JoinSet::new();
        for (_, task) in forward.clone().tasks(Stop::new()) {
            tasks.spawn(task);
        }
        until(|| !forward.nodes()[0].available).await;
    }
}

#[tokio::test]
async fn a_chunk_in_flight_leaves_a_server_that_heartbeats_give_up() {
    let silent = Peer::start(Manner::StaysSilent).await;
    let mut second = Peer::start(Manner::Acks).await;
    let servers = vec![server(silent.address), standby(second.address)];
    let forward = Forward::new(&params(), servers, None);
    let chunk = chunk();
    let given_up = async {
        until(|| forward.nodes()[0].sent_chunks == 1).await;
        // Again and again, since the wait for the ack may begin a moment after the chunk was counted.
        loop {
            forward.servers[0].give_up();
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    };
    tokio::select! {
        done = forward.write(&chunk) => done.expect("the standby takes it"),
        () = given_up => {}
    }
    second.message().await;
}

#[tokio::test]
async fn udp_heartbeats_are_answered_by_any_datagram() {
    let socket = tokio::net::UdpSocket::bind("127.0.0.1:0")
        .await
        .expect("binds");
    let address = socket.local_addr().expect("bound");
    let forward = Forward::new(
        &Params {
            heartbeat_type: HeartbeatType::Udp,
            ..params()
        },
        vec![server(address)],
        None,
    );
    let answer = async {
        let mut byte = [0xff; 8];
        let (len, from) = socket.recv_from(&mut byte).await.expect("a heartbeat");
        assert_eq!(byte[..len], [0]);
        socket.send_to(&[0], from).await.expect("answers");
    };
    let (beat, ()) = tokio::join!(forward.beat(0), answer);
    beat.expect("the heartbeat is answered");
}

#[tokio::test]
async fn with_every_server_down_each_is_tried_once_and_the_chunk_is_to_be_retried() {
    let mut peers = [
        Peer::start(Manner::HangsUp).await,
        Peer::start(Manner::HangsUp).await,
    ];
    let servers = vec![server(peers[0].address), standby(peers[1].address)];
    let forward = Forward::new(&params(), servers, None);
    // The second round finds both unavailable and tries them all the same.
    for _ in 0..2 {
        let error = forward.write(&chunk()).await.expect_err("nobody acks");
        assert!(matches!(error, WriteError::Retry(_)));
        assert!(error.to_string().starts_with("no nodes are available"));
    }
    assert_eq!(peers.each_mut().map(Peer::messages_so_far), [2, 2]);
}

#[tokio::test]
async fn a_name_that_does_not_resolve_is_a_server_that_is_down() {
    let mut second = Peer::start(Manner::Acks).await;
    let nowhere = ServerParams {
        host: Some("does-not-exist.invalid".into()),
        ..ServerParams::default()
    };
    let servers = vec![nowhere, server(second.address)];
    let forward = Forward::new(&params(), servers, None);
    delivered(&forward).await;
    second.message().await;
    assert!(!forward.nodes()[0].available);
}

#[tokio::test]
async fn dropping_a_write_closes_its_connection() {
    let mut silent = Peer::start(Manner::StaysSilent).await;
    let forward = Forward::new(&params(), vec![server(silent.address)], None);
    let chunk = chunk();
    tokio::select! {
        _ = forward.write(&chunk) => panic!("nobody acked"),
        _ = silent.message() => {}
    }
    assert_eq!(silent.seen.recv().await, Some(Seen::Closed));
    assert!(
        forward.nodes()[0].available,
        "a cancelled write judges nobody"
    );
}

#[tokio::test]
async fn kept_connections_are_used_again_and_a_stale_one_judges_nobody() {
    for (keepalive, manner, connections) in [
        (true, Manner::Acks, 1),
        (true, Manner::AcksOncePerConnection, 4),
        (false, Manner::Acks, 4),
    ] {
        let peer = Peer::start(manner).await;
        let params = Params {
            keepalive,
            ..params()
        };
        let forward = Forward::new(&params, vec![server(peer.address)], None);
        for _ in 0..4 {
            delivered(&forward).await;
        }
        let accepted = peer.accepted.load(Ordering::Relaxed);
        assert_eq!(accepted, connections, "{manner:?}");
        assert_eq!(forward.nodes()[0].acked_chunks, 4);
        assert!(forward.nodes()[0].available);
    }
}

#[tokio::test]
async fn in_a_lull_the_ack_is_found_when_it_is_over_whether_it_has_come_by_then_or_not() {
    let buffer = buffer();
    for manner in [Manner::Acks, Manner::AcksByteByByte] {
        let peer = Peer::start(manner).await;
        let params = Params {
            keepalive: true,
            ..params()
        };
        let forward = Forward::new(&params, vec![server(peer.address)], None);
        let mut lull = Lull::of(&buffer);
        for news in [false, true, false] {
            if news {
                buffer.wake();
            }
            let chunk = chunk();
            let written = forward.write_in_lull(&chunk, &mut lull).await;
            written.expect("acknowledged");
        }
        assert_eq!(forward.nodes()[0].acked_chunks, 3, "{manner:?}");
        assert_eq!(peer.accepted.load(Ordering::Relaxed), 1);
    }
}

#[tokio::test]
async fn a_worker_that_waits_for_a_late_ack_leaves_what_is_new_to_another() {
    let buffer = buffer();
    let mut silent = Peer::start(Manner::StaysSilent).await;
    let forward = Forward::new(&params(), vec![server(silent.address)], None);
    let mut lull = Lull::of(&buffer);
    let chunk = chunk();
    let other = async {
        silent.message().await;
        buffer.wake();
        // The first to take it may be this one; it goes round until the other has had it and handed it on.
        buffer.work().await;
    };
    tokio::select! {
        _ = forward.write_in_lull(&chunk, &mut lull) => panic!("nobody acked"),
        () = other => {}
    }
}

#[tokio::test]
async fn a_server_that_asks_for_a_handshake_is_named_as_such() {
    let (address, _tasks) = guarded("sekret").await;
    let forward = Forward::new(&params(), vec![server(address)], None);
    let error = forward.write(&chunk()).await.expect_err("no ack comes");
    let error = error.to_string();
    assert!(error.contains("it has <security>"), "{error}");
}

#[tokio::test]
async fn without_ack_a_chunk_is_delivered_when_it_is_written() {
    let mut peer = Peer::start(Manner::StaysSilent).await;
    let params = Params {
        require_ack_response: false,
        ..params()
    };
    let forward = Forward::new(&params, vec![server(peer.address)], None);
    let chunk = delivered(&forward).await;
    let message = peer.message().await;
    assert!(message.ends_with(b"\xaacompressed\xa4text"));
    let entries = chunk.read().await.expect("in memory").concat();
    assert!(message.windows(entries.len()).any(|part| part == entries));
    assert_eq!(peer.seen.recv().await, Some(Seen::Closed));
    assert!(forward.notice().is_some());
    assert_eq!(forward.nodes()[0].acked_chunks, 0);
}

#[tokio::test]
async fn hurry_shortens_waits_that_have_begun() {
    let hurry = Hurry::default();
    let waiting = hurry.within(
        Duration::from_secs(3600),
        Duration::from_millis(1),
        std::future::pending::<()>(),
    );
    let (answer, ()) = tokio::join!(waiting, async { hurry.begin() });
    assert_eq!(answer, None);
}

#[tokio::test]
async fn servers_with_security_are_shaken_hands_with_and_impostors_get_nothing() {
    let (impostor, _tasks) = guarded("another key").await;
    let (friend, _more_tasks) = guarded("sekret").await;
    let security = SecurityParams {
        self_hostname: Some("client".into()),
        shared_key: Some(Secret("sekret".into())),
    };
    let servers = vec![server(impostor), server(friend)];
    let forward = Forward::new(&params(), servers, Some(security));
    delivered(&forward).await;
    let nodes = forward.nodes();
    assert_eq!((nodes[0].sent_chunks, nodes[1].acked_chunks), (0, 1));
    assert!(!nodes[0].available);
}

#[tokio::test]
async fn the_operator_reads_fluentds_words_once_per_change() {
    use tracing_subscriber::layer::SubscriberExt;
    let log = Log::default();
    let _guard = tracing::subscriber::set_default(tracing_subscriber::registry().with(log.clone()));
    let primary = Peer::start(Manner::HangsUp).await;
    let second = Peer::start(Manner::Acks).await;
    let params = Params {
        heartbeat_type: HeartbeatType::None,
        recover_wait: millis(3_600_000),
        ..params()
    };
    let servers = vec![server(primary.address), standby(second.address)];
    let forward = Forward::new(&params, servers, None);
    delivered(&forward).await;
    delivered(&forward).await;
    forward.state().health[0] = Health::new(
        Limits {
            heartbeat_interval: None,
            recover_wait: Duration::ZERO,
            hard_timeout: Duration::ZERO,
            phi_threshold: None,
        },
        now(),
    );
    forward.choose(&[false, false]);
    let warnings: Vec<String> = log.0.lock().expect("no test panics").clone();
    let warnings: Vec<&str> = warnings
        .iter()
        .map(String::as_str)
        .filter(|line| line.starts_with("WARN") || line.starts_with("INFO"))
        .collect();
    let primary = primary.address;
    let second = second.address;
    assert_eq!(
        warnings,
        [
            "WARN destination node closed the connection. regard it as unavailable.".to_owned(),
            format!("WARN detached forwarding server '{primary}'"),
            format!("WARN using standby node {second}"),
            format!("INFO standby node {second} steps back"),
        ]
    );
}
