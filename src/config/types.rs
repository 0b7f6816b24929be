//! Fluentd's value types, for the fields of `Params`.

use std::time::Duration;

use serde::Deserialize;

/// A time: `90`, `90s`, `2m`, `1h`, `1d`, or a fraction without unit.
#[derive(Clone, Copy, Debug, PartialEq, PartialOrd, Deserialize)]
pub struct Time(pub Duration);

/// A size in bytes: `512`, `8k`, `16m`, `1g`, `2t` (powers of 1024).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
pub struct Size(pub u64);

/// A secret: prints as `xxxxxx` everywhere.
#[derive(Clone, PartialEq, Eq, Default, Deserialize)]
pub struct Secret(pub String);

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("xxxxxx")
    }
}
