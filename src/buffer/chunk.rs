//! A chunk: the unit that is sent, acknowledged and retried, with its id.

use std::fmt;
use std::io::{self, ErrorKind};
use std::sync::Arc;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;

use super::file;
use super::keys::ChunkKey;
use super::{Compress, Parts, Pieces};
use crate::event::{EventStream, Receipt, Tag};

/// Sixteen bytes that name a chunk for ever: a resent chunk keeps its id, so a receiver can drop repeats.
///
/// ```text
/// 0 .. 8   (UTC microseconds << 12) | random 0..4094, big-endian      8 .. 16   random
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ChunkId([u8; 16]);

impl ChunkId {
    /// A new id, as Fluentd makes it.
    pub fn new(now: SystemTime) -> ChunkId {
        let micros = now
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default()
            .as_micros() as u64;
        let mut id = [0; 16];
        id[..8].copy_from_slice(&(micros << 12 | fastrand::u64(0..4095)).to_be_bytes());
        id[8..].copy_from_slice(&fastrand::u64(..).to_be_bytes());
        ChunkId(id)
    }

    /// An id that stands somewhere.
    pub fn from_bytes(bytes: [u8; 16]) -> ChunkId {
        ChunkId(bytes)
    }

    /// Its sixteen bytes.
    pub fn to_bytes(self) -> [u8; 16] {
        self.0
    }

    /// The id in a file name: 32 lower-case digits, or the 16 of v0.12, which count twice.
    pub fn from_hex(digits: &str) -> Option<ChunkId> {
        let lower = |byte: u8| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
        if !digits.bytes().all(lower) {
            return None;
        }
        let half = |digits: &str| u64::from_str_radix(digits, 16).ok().map(u64::to_be_bytes);
        let (first, second) = match digits.len() {
            16 => (half(digits)?, half(digits)?),
            32 => (half(&digits[..16])?, half(&digits[16..])?),
            _ => return None,
        };
        let mut id = [0; 16];
        id[..8].copy_from_slice(&first);
        id[8..].copy_from_slice(&second);
        Some(ChunkId(id))
    }

    /// The id as the forward protocol carries it: padded Base64 and, as Fluentd has it, a newline.
    pub fn to_base64(self) -> String {
        let mut text = STANDARD.encode(self.0);
        text.push('\n');
        text
    }
}

impl fmt::Display for ChunkId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for ChunkId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Batches of entries that travel together. In memory it holds their receipts: dropping a chunk forgets them, only
/// [`Chunk::release`] pays the debt.
#[derive(Debug)]
pub struct Chunk {
    id: ChunkId,
    key: ChunkKey,
    compress: Compress,
    place: Place,
    len: usize,
    /// The same, inflated; of a chunk that a restart left it is not known.
    plain: usize,
    records: usize,
    created: Instant,
}

/// Where the bytes are.
#[derive(Debug)]
enum Place {
    Memory {
        segments: Vec<Bytes>,
        receipts: Vec<Receipt>,
    },
    /// On disk, or on the way there, with the receipts of what is not durable yet.
    File(Arc<file::Content>),
}

impl Chunk {
    /// An empty chunk in memory.
    pub fn new(key: ChunkKey, now: Instant, clock: SystemTime) -> Chunk {
        Chunk {
            id: ChunkId::new(clock),
            key,
            compress: Compress::Text,
            place: Place::Memory {
                segments: Vec::new(),
                receipts: Vec::new(),
            },
            len: 0,
            plain: 0,
            records: 0,
            created: now,
        }
    }

    /// A chunk on disk, with so many bytes and events in it. One that a restart left may be packed in parts: it is text to whoever reads it.
    pub(super) fn on_disk(
        content: Arc<file::Content>,
        len: usize,
        records: usize,
        created: Instant,
    ) -> Chunk {
        Chunk {
            id: content.id,
            key: content.key.clone(),
            compress: Compress::Text,
            place: Place::File(content),
            len,
            plain: len,
            records,
            created,
        }
    }

    /// The same chunk, whose batches all come packed like this.
    pub fn kept(self, compress: Compress) -> Chunk {
        Chunk { compress, ..self }
    }

    /// How all its bytes are kept; text for a chunk whose parts may differ.
    pub fn compress(&self) -> Compress {
        self.compress
    }

    /// Moves a batch in that is not compressed: no byte is copied.
    pub fn append(&mut self, stream: EventStream) {
        let plain = stream.entries.len();
        self.append_packed(stream, plain);
    }

    /// Moves a batch in that inflates to `plain` bytes.
    pub(super) fn append_packed(&mut self, stream: EventStream, plain: usize) {
        self.len += stream.entries.len();
        self.plain += plain;
        self.records += stream.count;
        match &mut self.place {
            Place::Memory { segments, receipts } => {
                segments.push(stream.entries);
                receipts.push(stream.receipt);
            }
            Place::File(content) => content.append(stream),
        }
    }

    /// No more is appended: it goes to the queue.
    pub(super) fn seal(&self) {
        if let Place::File(content) = &self.place {
            content.seal();
        }
    }

    /// Its content, where that is on disk.
    pub(super) fn content(&self) -> Option<&Arc<file::Content>> {
        match &self.place {
            Place::Memory { .. } => None,
            Place::File(content) => Some(content),
        }
    }

    /// Its name.
    pub fn id(&self) -> ChunkId {
        self.id
    }

    /// What its events have in common.
    pub fn key(&self) -> &ChunkKey {
        &self.key
    }

    /// The tag of its events.
    pub fn tag(&self) -> &Tag {
        &self.key.tag
    }

    /// Its bytes as they are kept, compressed or not, for vectored writes: a file's in pieces, so that a large chunk does not stand in
    /// memory. Waits until a chunk on disk is durable: what is sent has the same id after a crash.
    pub async fn pieces(&self) -> io::Result<Pieces> {
        match &self.place {
            Place::Memory { segments, .. } => Ok(Pieces::of(segments.clone())),
            Place::File(content) => content.pieces(self.compress != Compress::Text).await,
        }
    }

    /// All its entries, each part whole entries: for whoever looks into them. `InvalidData` where they cannot be inflated, now or later.
    pub async fn read(&self) -> io::Result<Vec<Bytes>> {
        let (segments, compress) = match &self.place {
            Place::Memory { segments, .. } => (segments.clone(), self.compress),
            Place::File(content) => return content.read().await,
        };
        if compress == Compress::Text {
            return Ok(segments);
        }
        // It may take long for a large chunk: not on a worker that others wait for.
        tokio::task::spawn_blocking(move || compress.unpack(segments)).await?
    }

    /// The same, some of them at a time.
    pub async fn parts(&self) -> io::Result<Parts> {
        match &self.place {
            Place::Memory { segments, .. } => {
                Ok(Parts::Memory(segments.clone().into_iter(), self.compress))
            }
            Place::File(content) => Ok(Parts::File(content.parts().await?)),
        }
    }

    /// All its bytes as they are kept.
    pub async fn raw(&self) -> io::Result<Vec<Bytes>> {
        match &self.place {
            Place::Memory { segments, .. } => Ok(segments.clone()),
            Place::File(content) => {
                let mut pieces = content.pieces(true).await?;
                let mut all = Vec::new();
                while pieces.left() > 0 {
                    all.extend(pieces.next().await?);
                }
                Ok(all)
            }
        }
    }

    /// All its entries, or all bytes as they are kept where those cannot be inflated: for whoever keeps it for a human.
    pub async fn read_or_kept(&self) -> io::Result<Vec<Bytes>> {
        match self.read().await {
            Err(error) if error.kind() == ErrorKind::InvalidData => self.raw().await,
            read => read,
        }
    }

    /// Bytes of its entries, inflated, of a chunk of this run.
    pub fn plain(&self) -> usize {
        self.plain
    }

    /// Bytes as they are kept.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether it holds no entries.
    pub fn is_empty(&self) -> bool {
        self.records == 0
    }

    /// Number of events.
    pub fn records(&self) -> usize {
        self.records
    }

    /// When its first batch came.
    pub fn created(&self) -> Instant {
        self.created
    }

    /// Its lines are safe, or dropped by configuration and counted: pays the debt of every receipt.
    pub fn release(self) {
        match self.place {
            Place::Memory { receipts, .. } => receipts.into_iter().for_each(Receipt::release),
            Place::File(content) => content.end(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_sort_by_time_and_print_as_fluentds() {
        let id = ChunkId::new(UNIX_EPOCH + std::time::Duration::from_micros(5));
        let text = id.to_string();
        assert_eq!(text.len(), 32);
        assert!(text.starts_with("0000000000005"));
        assert!(id.to_base64().ends_with("==\n"));
        assert_eq!(id.to_base64().len(), 25);
    }
}
