//! Which parameters are secret, by name: their values are never printed, wherever they come from.
//!
//! Fluentd hides what a plugin declares as secret, and only once the plugin is known. Here the name alone decides, so that a
//! message about an unknown plugin or a broken line hides the value too.

use std::ops::Range;

/// What is printed in place of a secret, as in Fluentd.
pub(crate) const MASK: &str = "xxxxxx";

/// Whole names. Sources: `config_param …, secret: true` in Fluentd 1.18 and in the plugins of `popular-plugins.md`.
const NAMES: [&str; 16] = [
    "shared_key",
    "token",
    "apikey",
    "api_key",
    "api_token",
    "auth_token",
    "access_token",
    "secret",
    "secret_key",
    "client_secret",
    "aws_key_id",
    "aws_sec_key",
    "aws_secret_access_key",
    "sse_customer_key",
    "tls_cert_thumbprint",
    "private_key",
];

/// What a secret's name may end with.
const ENDINGS: [&str; 5] = ["password", "passphrase", "_token", "_secret", "_secret_key"];

/// Whether the value of this parameter must never be printed.
pub(crate) fn is_secret(key: &str) -> bool {
    let key = key.to_ascii_lowercase();
    NAMES.contains(&key.as_str()) || ENDINGS.iter().any(|ending| key.ends_with(ending))
}

/// What follows a secret name on its line, anywhere in a text that may not even parse.
pub(crate) fn lines(text: &str) -> Vec<Range<usize>> {
    let mut found = Vec::new();
    let mut start = 0;
    for line in text.split_inclusive(['\n', '\r']) {
        let body = line.trim_end();
        let key_at = body.len() - body.trim_start().len();
        let key = body[key_at..].split([' ', '\t']).next().unwrap_or("");
        let value_at = key_at + key.len();
        let value = body[value_at..].trim_start();
        if is_secret(key.trim_matches(['"', '\''])) && !value.is_empty() {
            found.push(start + body.len() - value.len()..start + body.len());
        }
        start += line.len();
    }
    found
}
