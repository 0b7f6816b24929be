//! The world that tests run in: everything outside the agent, in this process, on loopback, on ports that the kernel picks.
//!
//! * [`forward_server`]: Fluentd servers that ack, stay silent, lie or hang up, with a decoder of their own.
//! * [`ec2`]: Auto Scaling hooks, instance metadata, SQS, S3 and Zabbix, as far as a terminating instance meets them.
//! * [`agent`]: the real binary, its log lines and its signals.
//! * [`log_writer`]: an application that knows every line it wrote. [`ledger`]: where each of them went.
//! * [`proxy`]: a network that delays, cuts or goes half-open. [`tiny_disk`]: a disk that is full after some kilobytes.
//!
//! The integration tests, the quickstart and the benches all use it (the latter two through `#[path]`). Nothing here calls the
//! library under test: what the agent says is judged by code that shares none of it.

#![allow(
    dead_code,
    reason = "each target that includes this folder uses its own part of the world"
)]

pub mod agent;
pub mod ec2;
pub mod forward_server;
pub mod forward_wire;
pub mod ledger;
pub mod log_writer;
pub mod proxy;
pub mod tiny_disk;
pub mod watched;
