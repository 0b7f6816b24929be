//! The one file that sees every room: element tree to wired plugins.
