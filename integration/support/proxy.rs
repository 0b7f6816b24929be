//! A fault proxy: the network between the agent and a server, which delays, cuts or goes half-open.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use anyhow::Result;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio_util::sync::{CancellationToken, DropGuard};

use super::watched::Watched;

/// What the network does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Weather {
    /// Passes everything on.
    #[default]
    Fine,
    /// Passes each piece on this much later, in both directions.
    Delay(Duration),
    /// Accepts connections and keeps them, and passes nothing on in either direction.
    HalfOpen,
    /// What the client sends passes, the answers are lost.
    NoAnswers,
    /// Closes every connection, those of the past and those that come.
    Cut,
}

/// A running proxy. Dropping it closes every connection.
pub struct Proxy {
    addr: SocketAddr,
    weather: Arc<Watched<Weather>>,
    _stop: DropGuard,
}

impl Proxy {
    /// Starts a proxy in front of `upstream`.
    ///
    /// # Errors
    /// When no port can be had.
    pub async fn start(upstream: SocketAddr) -> Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let addr = listener.local_addr()?;
        let weather = Arc::new(Watched::new(Weather::Fine));
        let stop = CancellationToken::new();
        let (shared, ended) = (weather.clone(), stop.clone());
        tokio::spawn(async move {
            let accept = accept(listener, upstream, shared);
            ended.run_until_cancelled(accept).await;
        });
        Ok(Self {
            addr,
            weather,
            _stop: stop.drop_guard(),
        })
    }

    /// Where clients connect.
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// Changes the weather for open and for new connections.
    pub fn set(&self, weather: Weather) {
        self.weather.change(|now| *now = weather);
    }
}

async fn accept(listener: TcpListener, upstream: SocketAddr, weather: Arc<Watched<Weather>>) {
    let mut connections = JoinSet::new();
    loop {
        let Ok((client, _)) = listener.accept().await else {
            continue;
        };
        let weather = weather.clone();
        connections.spawn(async move {
            let cut = weather.wait_forever(|now| (*now == Weather::Cut).then_some(()));
            tokio::select! {
                biased;
                () = cut => {}
                () = join(client, upstream, &weather) => {}
            }
        });
        while connections.try_join_next().is_some() {}
    }
}

async fn join(client: TcpStream, upstream: SocketAddr, weather: &Watched<Weather>) {
    let Ok(server) = TcpStream::connect(upstream).await else {
        return;
    };
    let (from_client, to_client) = client.into_split();
    let (from_server, to_server) = server.into_split();
    tokio::join!(
        pump(from_client, to_server, weather, Way::Up),
        pump(from_server, to_client, weather, Way::Down),
    );
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Way {
    Up,
    Down,
}

async fn pump(
    mut from: impl AsyncRead + Unpin,
    mut to: impl AsyncWrite + Unpin,
    weather: &Watched<Weather>,
    way: Way,
) {
    let mut buffer = vec![0; 64 * 1024];
    while let Ok(length @ 1..) = from.read(&mut buffer).await {
        let pause = weather
            .wait_forever(|now| match now {
                Weather::Fine => Some(Duration::ZERO),
                Weather::Delay(pause) => Some(*pause),
                Weather::NoAnswers if way == Way::Up => Some(Duration::ZERO),
                _ => None,
            })
            .await;
        tokio::time::sleep(pause).await;
        if to.write_all(&buffer[..length]).await.is_err() {
            break;
        }
    }
    // The end of one direction is passed on; the other may go on.
    let _ = to.shutdown().await;
}
