//! The forward protocol as a receiver reads it: bytes to deliveries, and the handshake's three messages.
//!
//! Written from forward.md §1 on `rmpv`, and on purpose not on the agent's own MessagePack code: it is the second opinion on
//! every byte that the agent sends. Pure; the sockets are in [`super::forward_server`].

use std::io::{ErrorKind, Read};

use flate2::read::MultiGzDecoder;
use rmpv::{Value, ValueRef};
use sha2::{Digest, Sha512};

/// Which of the four forms carried the events (forward.md §1.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Carrier {
    /// `[tag, time, record, option?]`
    Message,
    /// `[tag, [[time, record], …], option?]`
    Forward,
    /// `[tag, bytes, option?]`
    PackedForward,
    /// `[tag, gzip bytes, {"compressed": "gzip", …}]`
    CompressedPackedForward,
}

/// A time as it came.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Time {
    /// Whole seconds.
    Integer(i64),
    /// Extension type 0: seconds and nanoseconds.
    EventTime(u32, u32),
}

/// One event.
#[derive(Clone, Debug, PartialEq)]
pub struct Event {
    /// When it happened, in its wire form.
    pub time: Time,
    /// The record, a map.
    pub record: Value,
}

impl Event {
    /// The text under `key`, lossily where it is not UTF-8.
    pub fn text(&self, key: &str) -> Option<String> {
        let pairs = self.record.as_map()?;
        let (_, value) = pairs.iter().find(|(name, _)| name.as_str() == Some(key))?;
        value_bytes(value).map(|bytes| String::from_utf8_lossy(bytes).into_owned())
    }
}

/// One message of the protocol: some events of one tag.
#[derive(Clone, Debug)]
pub struct Delivery {
    /// The tag.
    pub tag: String,
    /// Its form.
    pub carrier: Carrier,
    /// The events in order.
    pub events: Vec<Event>,
    /// The `chunk` option exactly as it came: the ack must have the same value and type.
    pub chunk: Option<Value>,
    /// The `size` option.
    pub size: Option<u64>,
    /// The `compressed` option.
    pub compressed: Option<String>,
    /// Bytes on the wire.
    pub wire_length: usize,
}

/// What the front of the received bytes is.
#[derive(Debug)]
pub enum Front {
    /// Not a whole message yet.
    Incomplete,
    /// A `nil`, which a receiver ignores, this many bytes long.
    Nil(usize),
    /// A delivery; its `wire_length` bytes are consumed.
    Delivery(Delivery),
    /// The client's `PING`, this many bytes long.
    Ping(Value, usize),
}

/// Reads the first message in `bytes`.
///
/// # Errors
/// What is wrong with the bytes, for the test's eyes.
pub fn front(bytes: &[u8]) -> Result<Front, String> {
    // The one byte that MessagePack never uses; rmpv would take it for nil.
    if bytes.first() == Some(&0xc1) {
        return Err("not MessagePack: c1".to_string());
    }
    let mut rest = bytes;
    let value = match rmpv::decode::read_value_ref(&mut rest) {
        Ok(value) => value,
        Err(error) if error.kind() == ErrorKind::UnexpectedEof => return Ok(Front::Incomplete),
        Err(error) => return Err(format!("not MessagePack: {error}")),
    };
    let length = bytes.len() - rest.len();
    match &value {
        ValueRef::Nil => Ok(Front::Nil(length)),
        ValueRef::Array(items) if text(items.first()) == Some("PING") => {
            Ok(Front::Ping(value.to_owned(), length))
        }
        ValueRef::Array(items) => delivery(items, length).map(Front::Delivery),
        other => Err(format!("not an array: {other}")),
    }
}

/// The ack for a `chunk` option: `{"ack": <the same value>}`.
pub fn ack(chunk: &Value) -> Vec<u8> {
    encode(&Value::Map(vec![("ack".into(), chunk.clone())]))
}

fn delivery(items: &[ValueRef<'_>], wire_length: usize) -> Result<Delivery, String> {
    let tag = text(items.first())
        .ok_or("tag is not a string")?
        .to_string();
    let second = items.get(1).ok_or("array of less than two elements")?;
    let (carrier, events, option) = match second {
        ValueRef::Array(entries) => {
            let events = entries
                .iter()
                .map(|entry| event(entry.to_owned()))
                .collect::<Result<_, _>>()?;
            (Carrier::Forward, events, items.get(2))
        }
        ValueRef::String(_) | ValueRef::Binary(_) => {
            let option = items.get(2);
            let gzip = option_value(option, "compressed")
                .and_then(|v| v.as_str().map(String::from))
                == Some("gzip".to_string());
            let packed = ref_bytes(second).ok_or("entries are not bytes")?;
            if gzip {
                let mut plain = Vec::new();
                MultiGzDecoder::new(packed)
                    .read_to_end(&mut plain)
                    .map_err(|error| format!("not gzip: {error}"))?;
                (Carrier::CompressedPackedForward, entries(&plain)?, option)
            } else {
                (Carrier::PackedForward, entries(packed)?, option)
            }
        }
        time => {
            let record = items.get(2).ok_or("message without a record")?;
            let pair = Value::Array(vec![time.to_owned(), record.to_owned()]);
            (Carrier::Message, vec![event(pair)?], items.get(3))
        }
    };
    Ok(Delivery {
        tag,
        carrier,
        events,
        chunk: option_value(option, "chunk"),
        size: option_value(option, "size").and_then(|v| v.as_u64()),
        compressed: option_value(option, "compressed").and_then(|v| v.as_str().map(String::from)),
        wire_length,
    })
}

/// Concatenated `[time, record]` items without an outer array.
pub fn entries(mut bytes: &[u8]) -> Result<Vec<Event>, String> {
    let mut events = Vec::new();
    while !bytes.is_empty() {
        let entry = rmpv::decode::read_value(&mut bytes)
            .map_err(|error| format!("entry {} is damaged: {error}", events.len()))?;
        events.push(event(entry)?);
    }
    Ok(events)
}

fn event(entry: Value) -> Result<Event, String> {
    let Value::Array(pair) = entry else {
        return Err(format!("entry is not an array: {entry}"));
    };
    let [time, record]: [Value; 2] = pair
        .try_into()
        .map_err(|pair: Vec<Value>| format!("entry has {} elements", pair.len()))?;
    if !record.is_map() {
        return Err(format!("record is not a map: {record}"));
    }
    let time = match &time {
        Value::Integer(seconds) => Time::Integer(seconds.as_i64().ok_or("time out of range")?),
        Value::Ext(0, bytes) if bytes.len() == 8 => {
            let half = |from: usize| u32::from_be_bytes([0, 1, 2, 3].map(|i| bytes[from + i]));
            Time::EventTime(half(0), half(4))
        }
        other => return Err(format!("not a time: {other}")),
    };
    Ok(Event { time, record })
}

fn text<'a>(value: Option<&'a ValueRef<'_>>) -> Option<&'a str> {
    match value? {
        ValueRef::String(text) => text.as_str(),
        _ => None,
    }
}

fn ref_bytes<'a>(value: &'a ValueRef<'_>) -> Option<&'a [u8]> {
    match value {
        ValueRef::String(text) => Some(text.as_bytes()),
        ValueRef::Binary(bytes) => Some(bytes),
        _ => None,
    }
}

/// The bytes of a str or bin.
pub fn value_bytes(value: &Value) -> Option<&[u8]> {
    match value {
        Value::String(text) => Some(text.as_bytes()),
        Value::Binary(bytes) => Some(bytes),
        _ => None,
    }
}

fn option_value(option: Option<&ValueRef<'_>>, key: &str) -> Option<Value> {
    let ValueRef::Map(pairs) = option? else {
        return None;
    };
    pairs
        .iter()
        .find(|(name, _)| text(Some(name)) == Some(key))
        .map(|(_, value)| value.to_owned())
}

fn encode(value: &Value) -> Vec<u8> {
    let mut bytes = Vec::new();
    rmpv::encode::write_value(&mut bytes, value).expect("a Vec takes every byte");
    bytes
}

/// The `<security>` section of a server (forward.md §1.5).
#[derive(Clone, Debug)]
pub struct Security {
    /// The server's own name, which must differ from the client's.
    pub self_hostname: String,
    /// The secret of both.
    pub shared_key: String,
    /// User name and password, when the server asks for one.
    pub user: Option<(String, String)>,
}

/// The random parts of one `HELO`.
#[derive(Clone, Debug)]
pub struct Challenge {
    /// 16 bytes that go into the shared key's digest.
    pub nonce: Vec<u8>,
    /// 16 bytes that go into the password's digest; empty: the server wants no user.
    pub auth: Vec<u8>,
}

impl Challenge {
    /// Fresh random parts; `auth` is sent even without a user, as Fluentd does.
    pub fn random() -> Self {
        let sixteen = || (0..16).map(|_| fastrand::u8(..)).collect();
        Self {
            nonce: sixteen(),
            auth: sixteen(),
        }
    }

    /// `["HELO", {"nonce": …, "auth": …, "keepalive": true}]`
    pub fn helo(&self) -> Vec<u8> {
        encode(&Value::Array(vec![
            "HELO".into(),
            Value::Map(vec![
                ("nonce".into(), Value::Binary(self.nonce.clone())),
                ("auth".into(), Value::Binary(self.auth.clone())),
                ("keepalive".into(), true.into()),
            ]),
        ]))
    }
}

/// What a `PING` deserves: the `PONG`, or the `PONG` that refuses and its reason.
pub fn pong(security: &Security, challenge: &Challenge, ping: &Value) -> Result<Vec<u8>, Refusal> {
    let refuse = |reason: &str| Refusal {
        reason: reason.to_string(),
        pong: encode(&Value::Array(vec![
            "PONG".into(),
            false.into(),
            reason.into(),
            "".into(),
            "".into(),
        ])),
    };
    let items = ping.as_array().filter(|items| items.len() == 6);
    let items = items.ok_or_else(|| refuse("invalid ping message"))?;
    let field = |at: usize| value_bytes(&items[at]).unwrap_or_default();
    let (hostname, salt) = (field(1), field(2));
    let key = security.shared_key.as_bytes();
    if field(3) != hex_sha512(&[salt, hostname, &challenge.nonce, key]).as_bytes() {
        return Err(refuse("shared_key mismatch"));
    }
    if let Some((user, password)) = &security.user {
        let digest = hex_sha512(&[&challenge.auth, user.as_bytes(), password.as_bytes()]);
        if field(4) != user.as_bytes() || field(5) != digest.as_bytes() {
            return Err(refuse("username/password mismatch"));
        }
    }
    let name = security.self_hostname.as_str();
    Ok(encode(&Value::Array(vec![
        "PONG".into(),
        true.into(),
        "".into(),
        name.into(),
        hex_sha512(&[salt, name.as_bytes(), &challenge.nonce, key]).into(),
    ])))
}

/// A `PING` that was not good enough.
#[derive(Debug)]
pub struct Refusal {
    /// Fluentd's words for it.
    pub reason: String,
    /// The message to send before closing.
    pub pong: Vec<u8>,
}

/// SHA-512 over the parts, in lower-case hexadecimal.
pub fn hex_sha512(parts: &[&[u8]]) -> String {
    let mut hash = Sha512::new();
    for part in parts {
        hash.update(part);
    }
    hash.finalize()
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect()
}
