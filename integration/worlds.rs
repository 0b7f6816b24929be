//! The world is itself tested: a fake that is wrong makes every other test worthless.
//!
//! The pure machines are asked directly, the servers through clients that are not ours: AWS's SDK and `rmpv`.

mod aws_clients;
mod forward;
mod hooks;
mod lines;
mod metadata;
mod queue;
mod zabbix;
