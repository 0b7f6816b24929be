//! Affluent: a log agent for EC2 instances that come and go.
//!
//! # The path of a log line
//!
//! ```text
//! input/tail ─ parse ─ route ( filter … ) ─ buffer ═ flush ─ output/forward ─ wire
//!   bytes      event      event stream      chunk    │            │
//!     ▲                                              │            ▼
//!   pos_file ◄── receipt released ◄── chunk purged ◄─┴── write() returned Ok = ack received
//! ```
//!
//! Left of the buffer: plain function calls on the source's own thread, no async (files are synchronous). Right of it: tokio tasks
//! (sockets, timers and deadlines are asynchronous). The buffer (═) is the one place where the halves meet.
//!
//! # What always holds
//!
//! 1. **Receipt.** A batch read from a file carries an [`event::Receipt`]. Copies and chunks hold it, a purge releases it, and
//!    only when the last holder has released does the position move. Forgetting repeats lines, it never loses any.
//! 2. **Guard.** `buffer.dequeue()` gives a [`buffer::InFlight`] chunk. `purge()` consumes it; dropping it takes it back.
//! 3. **One attempt.** [`output::Output::write`] tries once, and `Ok` means safe. The only retry is in [`flush`].
//! 4. **One content.** A chunk always holds forward entries, so any chunk can go to any output: primary, secondary, S3.
//! 5. **Pure deciders.** Retry, due, balance, node health, rotation, handshake, budget: plain structs that take `now` or bytes and
//!    answer; callers act.
//! 6. **Bounds.** Each queue has a limit, each wait a deadline, each thread and task an owner who joins it.
//! 7. **Batch.** Lines move as one [`event::EventStream`] per read; nothing is encoded twice, nothing is allocated per line.
//! 8. **Room before reading.** A source asks [`event::Collector::room`] before it reads, so `emit` never has to refuse.
//!
//! # The rooms, in reading order
//!
//! [`run`] [`args`] [`logger`] [`process`] [`signal`] [`control`] · [`stop`] [`config`] [`event`] · [`input`] [`parse`]
//! [`route`] [`filter`] [`buffer`] [`flush`] [`output`] [`format`] · [`agent`] [`drain`]

pub mod agent;
pub mod args;
#[cfg(feature = "aws")]
pub mod aws;
pub mod buffer;
pub mod config;
pub mod control;
#[cfg_attr(not(feature = "aws"), path = "drain/absent.rs")]
pub mod drain;
pub mod event;
pub mod filter;
pub mod flush;
pub mod format;
pub mod input;
pub mod logger;
pub mod output;
pub mod parse;
pub mod process;
pub mod route;
pub mod run;
pub mod signal;
pub mod stop;
