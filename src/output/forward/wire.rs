//! A connection that the runtime watches only while somebody waits for it.
//!
//! A registered socket wakes the runtime at whatever comes, waited for or not. An ack that is read with the next chunk, or a server that
//! closes an idle connection, is worth no wake-up of its own.

use std::io::{self, ErrorKind, IoSlice, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};

use socket2::SockRef;
use tokio::io::Interest;

/// A connected, non-blocking socket.
#[derive(Debug)]
pub struct Wire(TcpStream);

impl Wire {
    /// Connects to the first of `addresses` that accepts.
    pub async fn connect(addresses: &[SocketAddr]) -> io::Result<Wire> {
        let stream = tokio::net::TcpStream::connect(addresses).await?;
        stream.set_nodelay(true)?;
        stream.into_std().map(Wire)
    }

    /// `send_keepalive_packet`.
    pub fn set_keepalive(&self) -> io::Result<()> {
        SockRef::from(&self.0).set_keepalive(true)
    }

    /// What has come, without taking it: 0 where the peer has closed, `WouldBlock` where nothing has.
    pub fn peek(&self) -> io::Result<usize> {
        self.0.peek(&mut [0])
    }

    /// Writes what has room now; `WouldBlock` where nothing has.
    pub fn try_write(&self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        (&self.0).write_vectored(slices)
    }

    /// Reads what has come; `WouldBlock` where nothing has.
    pub fn try_read(&self, bytes: &mut [u8]) -> io::Result<usize> {
        (&self.0).read(bytes)
    }

    /// Writes all of it, however long that takes.
    pub async fn write_all(&self, mut bytes: &[u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            match self.try_write(&[IoSlice::new(bytes)]) {
                Ok(0) => return Err(ErrorKind::WriteZero.into()),
                Ok(written) => bytes = &bytes[written..],
                Err(error) if error.kind() == ErrorKind::WouldBlock => self.writable().await?,
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Completes when there may be room.
    pub async fn writable(&self) -> io::Result<()> {
        self.ready(Interest::WRITABLE).await
    }

    /// Completes when something may have come.
    pub async fn readable(&self) -> io::Result<()> {
        self.ready(Interest::READABLE).await
    }

    async fn ready(&self, interest: Interest) -> io::Result<()> {
        let twin = tokio::net::TcpStream::from_std(self.0.try_clone()?)?;
        twin.ready(interest).await.map(drop)
    }

    /// Says goodbye; the peer reads to the end.
    pub fn finish(&self) -> io::Result<()> {
        self.0.shutdown(Shutdown::Write)
    }
}
