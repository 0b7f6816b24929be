//! SDK clients.
