//! EC2 termination.
