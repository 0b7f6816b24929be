//! The one integration test binary: the real agent, and the world it runs in.

mod support;
mod worlds;
