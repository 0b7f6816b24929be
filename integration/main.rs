//! The one integration test binary: the real agent, and the world it runs in.

mod bad_config;
mod chunk_keys;
#[cfg(feature = "aws")]
mod conformance;
mod delivery;
#[cfg(feature = "aws")]
mod drain;
#[cfg(feature = "aws")]
mod drain_moto;
mod failover;
mod file_buffer;
mod readme;
mod scene;
mod support;
mod tidy;
mod worlds;
