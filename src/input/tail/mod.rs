//! in_tail.
