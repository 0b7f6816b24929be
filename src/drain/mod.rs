//! EC2 termination.
pub mod budget;
pub mod classifier;
pub mod hook;
pub mod journal;
pub mod lifecycle;
pub mod queue;
