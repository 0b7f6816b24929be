//! Owns every thread and task of a running configuration.

pub mod configure;
