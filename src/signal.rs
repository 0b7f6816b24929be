//! Unix signals → what they ask for, as Fluentd's supervisor takes them.

use std::io;

use tokio::signal::unix::{Signal, SignalKind, signal};

/// What a signal asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ask {
    /// `TERM`, `INT`: end, losing nothing.
    Stop,
    /// `QUIT`: end now. The positions keep everything that is not safe.
    Abort,
    /// `HUP`, `USR2`: read the configuration again.
    Reload,
    /// `USR1`: reopen the log and flush all outputs.
    Flush,
}

/// The signals of this process, from the moment of creation.
pub struct Signals {
    term: Signal,
    int: Signal,
    quit: Signal,
    hup: Signal,
    usr1: Signal,
    usr2: Signal,
}

impl Signals {
    /// Takes over the signals. Must be called inside the runtime.
    pub fn new() -> io::Result<Signals> {
        Ok(Signals {
            term: signal(SignalKind::terminate())?,
            int: signal(SignalKind::interrupt())?,
            quit: signal(SignalKind::quit())?,
            hup: signal(SignalKind::hangup())?,
            usr1: signal(SignalKind::user_defined1())?,
            usr2: signal(SignalKind::user_defined2())?,
        })
    }

    /// The next signal's wish.
    pub async fn next(&mut self) -> Ask {
        tokio::select! {
            _ = self.term.recv() => Ask::Stop,
            _ = self.int.recv() => Ask::Stop,
            _ = self.quit.recv() => Ask::Abort,
            _ = self.hup.recv() => Ask::Reload,
            _ = self.usr2.recv() => Ask::Reload,
            _ = self.usr1.recv() => Ask::Flush,
        }
    }

    /// Completes at the next signal that asks for an end: the second one of a stop.
    pub async fn insisted(&mut self) {
        while !matches!(self.next().await, Ask::Stop | Ask::Abort) {}
    }
}
