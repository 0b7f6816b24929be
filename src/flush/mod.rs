//! THE loop.
