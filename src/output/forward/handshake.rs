//! HELO, PING, PONG: the handshake of servers with `<security>`. Pure: bytes in, bytes or a verdict out; `connection` moves
//! them.
//!
//! ```text
//! server → ["HELO", {"nonce": bin16, "auth": bin16 or "", "keepalive": bool}]
//! client → ["PING", hostname, salt, sha512(salt hostname nonce shared_key), username, sha512(auth username password)]
//! server → ["PONG", ok, reason, hostname, sha512(salt hostname nonce shared_key)]
//! ```

use std::fmt::Write;

use sha2::{Digest, Sha512};

use crate::config::types::Secret;
use crate::event::msgpack::{Malformed, read_text, skip_value, write_array_header, write_str};
use crate::event::record;

/// What we say who we are, per server.
#[derive(Clone, Debug)]
pub struct Credentials {
    /// `self_hostname` of `<security>`.
    pub self_hostname: String,
    /// `shared_key` of `<server>`, else of `<security>`.
    pub shared_key: Secret,
    /// `username` of `<server>`.
    pub username: String,
    /// `password` of `<server>`.
    pub password: Secret,
    /// 32 hexadecimal characters, chosen once per server.
    pub salt: String,
}

/// What the server said first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Helo {
    nonce: Vec<u8>,
    auth: Vec<u8>,
    /// Whether the server keeps connections open.
    pub keepalive: bool,
}

/// Why the server is not one to send logs to.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// Not the message that is due.
    #[error("the server did not send a {0} message: is it a forward server with <security>?")]
    NotA(&'static str),
    /// PONG false, with the server's words.
    #[error("authentication failed: {0}")]
    ByServer(String),
    /// It is ourselves.
    #[error("same hostname between input and output: invalid configuration")]
    SameHostname,
    /// The server does not know the key.
    #[error("shared key mismatch")]
    SharedKey,
}

/// A new salt.
pub fn new_salt() -> String {
    format!("{:032x}", fastrand::u128(..))
}

/// Reads a HELO at the head of `bytes`; `None` while it is incomplete.
pub fn read_helo(bytes: &[u8]) -> Result<Option<Helo>, Refused> {
    let Some(items) = read_items(bytes, 2, "HELO")? else {
        return Ok(None);
    };
    let option = |key: &str| record::find(items[1], key);
    let text = |key: &str| record::find_text(items[1], key).map(<[u8]>::to_vec);
    Ok(Some(Helo {
        nonce: text("nonce").ok_or(Refused::NotA("HELO"))?,
        auth: text("auth").unwrap_or_default(),
        keepalive: option("keepalive") != Some(&[0xc2]),
    }))
}

/// Our answer to a HELO.
pub fn ping(us: &Credentials, helo: &Helo) -> Vec<u8> {
    let key = us.shared_key.0.as_bytes();
    let digest = shared_key_digest(us, &us.self_hostname, &helo.nonce, key);
    let (username, password) = if helo.auth.is_empty() {
        (String::new(), String::new())
    } else {
        let secret = us.password.0.as_bytes();
        let digest = hex_sha512(&[&helo.auth, us.username.as_bytes(), secret]);
        (us.username.clone(), digest)
    };
    let mut message = Vec::with_capacity(512);
    write_array_header(&mut message, 6);
    for item in [
        "PING",
        &us.self_hostname,
        &us.salt,
        &digest,
        &username,
        &password,
    ] {
        write_str(&mut message, item.as_bytes());
    }
    message
}

/// Judges the PONG at the head of `bytes`; `None` while it is incomplete.
pub fn check_pong(us: &Credentials, helo: &Helo, bytes: &[u8]) -> Result<Option<()>, Refused> {
    let Some(items) = read_items(bytes, 5, "PONG")? else {
        return Ok(None);
    };
    let text = |at: usize| match read_text(items[at]) {
        Ok(Some((text, _))) => Ok(String::from_utf8_lossy(text).into_owned()),
        _ => Err(Refused::NotA("PONG")),
    };
    if items[1] != [0xc3] {
        return Err(Refused::ByServer(text(2)?));
    }
    let hostname = text(3)?;
    if hostname == us.self_hostname {
        return Err(Refused::SameHostname);
    }
    let key = us.shared_key.0.as_bytes();
    if text(4)? != shared_key_digest(us, &hostname, &helo.nonce, key) {
        return Err(Refused::SharedKey);
    }
    Ok(Some(()))
}

/// The items of the array `[name, …]`; `None` while it is incomplete.
fn read_items<'a>(
    bytes: &'a [u8],
    len: u8,
    name: &'static str,
) -> Result<Option<Vec<&'a [u8]>>, Refused> {
    if bytes.first().is_some_and(|head| *head != 0x90 | len) {
        return Err(Refused::NotA(name));
    }
    let whole = match skip_value(bytes) {
        Ok(end) => &bytes[..end],
        Err(Malformed::Truncated) => return Ok(None),
        Err(Malformed::Invalid) => return Err(Refused::NotA(name)),
    };
    let mut items = Vec::with_capacity(usize::from(len));
    let mut rest = &whole[1..];
    while !rest.is_empty() {
        let end = skip_value(rest).map_err(|_| Refused::NotA(name))?;
        items.push(&rest[..end]);
        rest = &rest[end..];
    }
    match read_text(items[0]) {
        Ok(Some((text, _))) if text == name.as_bytes() => Ok(Some(items)),
        _ => Err(Refused::NotA(name)),
    }
}

fn shared_key_digest(us: &Credentials, hostname: &str, nonce: &[u8], key: &[u8]) -> String {
    hex_sha512(&[us.salt.as_bytes(), hostname.as_bytes(), nonce, key])
}

/// Lower-case hexadecimal SHA-512 of the parts in a row.
pub(super) fn hex_sha512(parts: &[&[u8]]) -> String {
    let mut hash = Sha512::new();
    parts.iter().for_each(|part| hash.update(part));
    let mut hex = String::with_capacity(128);
    for byte in hash.finalize() {
        write!(hex, "{byte:02x}").expect("writing to memory cannot fail");
    }
    hex
}

#[cfg(test)]
#[path = "handshake_tests.rs"]
mod tests;
