//! Affluent: a log agent for EC2 instances that come and go.

pub mod agent;
#[cfg(feature = "aws")]
pub mod aws;
pub mod buffer;
pub mod config;
pub mod drain;
pub mod event;
pub mod filter;
pub mod flush;
pub mod format;
pub mod input;
pub mod output;
pub mod parse;
pub mod route;
pub mod stop;
