//! One chunk as the forward protocol carries it, and the answer that is awaited. Pure bytes.
//!
//! ```text
//! 93  tag (str)  db LLLLLLLL entries…  8x "size": n "compressed": "text"|"gzip"|"zstd" ["chunk": id]      PackedForward, as Fluentd
//! 81 a3 "ack" id                                                                                  the answer
//! ```
//!
//! The entries are the chunk's segments as they lie; only `time_as_integer` and `compress` make new bytes of them.

use anyhow::Context;
use bytes::Bytes;
use rmp_serde::Serializer;
use serde::Serialize;

use crate::buffer::{Chunk, Compress, Pieces};
use crate::event::msgpack::{self, Malformed, read_map_header, skip_value, write_str, write_uint};
use crate::event::record;
use crate::output::{WriteError, entries_of};

/// How chunks are written: parameters of out_forward.
#[derive(Clone, Copy, Debug, Default)]
pub struct Encoding {
    /// `require_ack_response`: the frame carries the chunk's id.
    pub ack: bool,
    /// `compress`: one gzip member or zstd frame per chunk. A chunk whose buffer has the same is sent as it is.
    pub compress: Compress,
    /// `time_as_integer`: whole seconds instead of EventTime.
    pub time_as_integer: bool,
}

impl Encoding {
    /// Whether bytes that are kept like this are sent as they are.
    pub fn takes(self, kept: Compress) -> bool {
        kept == self.compress && !self.time_as_integer
    }
}

/// A message, ready to be sent any number of times to any server.
#[derive(Debug)]
pub struct Frame {
    head: Vec<u8>,
    entries: Pieces,
    option: Vec<u8>,
    /// The id that the server has to answer, if it has to.
    pub awaits: Option<String>,
}

impl Frame {
    /// Encodes a chunk. Unrecoverable where it is too large for the protocol (4 GiB) or holds no entries where some must
    /// be read.
    pub async fn of(chunk: &Chunk, encoding: Encoding) -> Result<Frame, WriteError> {
        let entries = match encoding.takes(chunk.compress()) {
            false => {
                let entries = entries_of(chunk).await?;
                // It may take long for a large chunk: not on a worker that others wait for.
                let encode = tokio::task::spawn_blocking(move || encode(entries, encoding));
                let encoded = encode.await?.map_err(WriteError::Unrecoverable)?;
                Pieces::of(encoded)
            }
            true => chunk.pieces().await.map_err(WriteError::of_reading)?,
        };
        Frame::around(chunk, entries, encoding).map_err(WriteError::Unrecoverable)
    }

    fn around(chunk: &Chunk, entries: Pieces, encoding: Encoding) -> anyhow::Result<Frame> {
        let len = u32::try_from(entries.left()).context("the chunk is larger than 4 GiB")?;
        let mut head = Vec::with_capacity(chunk.tag().as_str().len() + 16);
        head.push(0x93);
        write_str(&mut head, chunk.tag().as_str().as_bytes());
        head.push(0xdb);
        head.extend_from_slice(&len.to_be_bytes());
        let awaits = encoding.ack.then(|| chunk.id().to_base64());
        Ok(Frame {
            head,
            entries,
            option: option(chunk.records(), encoding.compress, awaits.as_deref())?,
            awaits,
        })
    }

    /// What comes before the entries.
    pub fn head(&self) -> &[u8] {
        &self.head
    }

    /// The entries, from their start.
    pub fn entries(&self) -> Pieces {
        self.entries.clone()
    }

    /// What comes behind them.
    pub fn option(&self) -> &[u8] {
        &self.option
    }
}

/// What needs all entries at once.
fn encode(mut entries: Vec<Bytes>, encoding: Encoding) -> anyhow::Result<Vec<Bytes>> {
    if encoding.time_as_integer {
        entries = vec![with_integer_times(&entries)?];
    }
    if encoding.compress != Compress::Text {
        entries = vec![encoding.compress.pack(&entries)?.into()];
    }
    Ok(entries)
}

/// The option map, its keys in Fluentd's order.
#[derive(Serialize)]
struct Options<'a> {
    size: usize,
    compressed: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    chunk: Option<&'a str>,
}

fn option(size: usize, compress: Compress, chunk: Option<&str>) -> anyhow::Result<Vec<u8>> {
    let options = Options {
        size,
        compressed: compress.word(),
        chunk,
    };
    let mut bytes = Vec::with_capacity(96);
    let mut serializer = Serializer::new(&mut bytes).with_struct_map();
    options
        .serialize(&mut serializer)
        .context("cannot encode the option map")?;
    Ok(bytes)
}

fn with_integer_times(segments: &[Bytes]) -> anyhow::Result<Bytes> {
    let mut out = Vec::with_capacity(segments.iter().map(Bytes::len).sum());
    for entry in segments.iter().flat_map(|bytes| msgpack::entries(bytes)) {
        let entry = entry.context("the chunk holds an entry that is not [time, record]")?;
        out.push(0x92);
        write_uint(&mut out, u64::from(entry.time.sec));
        out.extend_from_slice(entry.record);
    }
    Ok(Bytes::from(out))
}

/// What a server's bytes say about the awaited ack.
#[derive(Debug, PartialEq, Eq)]
pub enum Answer {
    /// More bytes are needed.
    Incomplete,
    /// It is the ack of our chunk; so many bytes long.
    Acknowledged(usize),
    /// It is the ack of something else, given as text.
    Different(String),
    /// It is no ack at all.
    Garbage,
}

/// Reads the answer at the head of `bytes`.
pub fn read_answer(bytes: &[u8], awaited: &str) -> Answer {
    match read_map_header(bytes) {
        Ok(Some(_)) => {}
        Err(Malformed::Truncated) => return Answer::Incomplete,
        _ => return Answer::Garbage,
    }
    let len = match skip_value(bytes) {
        Ok(len) => len,
        Err(Malformed::Truncated) => return Answer::Incomplete,
        Err(Malformed::Invalid) => return Answer::Garbage,
    };
    match record::find_text(&bytes[..len], "ack") {
        Some(ack) if ack == awaited.as_bytes() => Answer::Acknowledged(len),
        Some(ack) => Answer::Different(String::from_utf8_lossy(ack).trim_end().to_owned()),
        None => Answer::Different("none".to_owned()),
    }
}

#[cfg(test)]
#[path = "frame_tests.rs"]
mod tests;
