//! The bytes of one chunk on disk, and those that are on their way there.
//!
//! Appends are collected in memory (`pending`) until [`Work`] has written and synced a group of them; then their receipts are
//! released. A chunk is read only when all of it is durable, so that whoever receives it twice has received the same id twice; while
//! the disk takes nothing, what is pending is sent from memory, as a memory buffer would.

use std::collections::VecDeque;
use std::fmt;
use std::io::{self, ErrorKind};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;

use super::check;
use super::meta::Meta;
use super::name::{Letter, Name};
use super::parts::FileParts;
use super::work::Work;
use crate::buffer::{ChunkId, ChunkKey, Compress, Pieces};
use crate::event::{EventStream, Receipt, Trace};

/// How much of a file is in memory at once while it is sent.
pub const PIECE: usize = 1 << 20;

/// One chunk.
pub struct Content {
    /// Its id.
    pub id: ChunkId,
    /// What its events have in common.
    pub key: ChunkKey,
    /// When it was created, Unix seconds.
    pub created: i64,
    work: Arc<Work>,
    standing: Mutex<Standing>,
}

/// An append that is not durable.
pub struct Pending {
    pub entries: Bytes,
    pub records: u64,
    pub receipt: Receipt,
}

/// What of a chunk can be sent.
#[derive(Debug)]
pub struct Ready {
    /// Bytes of its file.
    pub len: u64,
    /// Whether they are compressed.
    pub packed: bool,
    /// What comes behind them from memory, because the disk takes nothing.
    pub tail: Vec<Bytes>,
}

/// What of it stands where.
#[derive(Default)]
pub struct Standing {
    /// The data file, once there is one.
    pub name: Option<Name>,
    /// Its bytes that are durable.
    pub len: u64,
    /// Events in them.
    pub records: u64,
    /// Events that its metadata count.
    pub told: u64,
    /// Bytes of its side file.
    pub side: u64,
    /// Whether the file may be longer than `len`, by a write that failed.
    pub ragged: bool,
    /// Whether the data are compressed.
    pub packed: bool,
    /// Whether no more is appended.
    pub sealed: bool,
    /// Whether it has left the buffer.
    pub over: bool,
    /// Whether it is on the list of [`Work`].
    pub listed: bool,
    /// Not durable yet, oldest first.
    pub pending: VecDeque<Pending>,
    /// Durable in a file whose name is not.
    pub unnamed: Vec<Receipt>,
    /// Of the batches that its side file claims.
    pub traces: Vec<Trace>,
    /// Its side file had claims of an earlier run at start.
    pub recalled: bool,
}

impl Content {
    /// A chunk that has no file yet.
    pub fn new(work: Arc<Work>, id: ChunkId, key: ChunkKey, created: i64) -> Arc<Content> {
        Content::found(work, id, key, created, Standing::default())
    }

    /// A chunk that a restart left.
    pub fn found(
        work: Arc<Work>,
        id: ChunkId,
        key: ChunkKey,
        created: i64,
        standing: Standing,
    ) -> Arc<Content> {
        Arc::new(Content {
            id,
            key,
            created,
            work,
            standing: Mutex::new(standing),
        })
    }

    /// Takes a batch. It is written soon; nobody waits for it here.
    pub fn append(self: &Arc<Self>, stream: EventStream) {
        let bytes = stream.entries.len();
        let mut standing = self.standing();
        standing.pending.push_back(Pending {
            entries: stream.entries,
            records: stream.count as u64,
            receipt: stream.receipt,
        });
        let unlisted = !std::mem::replace(&mut standing.listed, true);
        drop(standing);
        self.work.appended(unlisted.then(|| self.clone()), bytes);
    }

    /// It is complete: its file gets the letter `q`.
    pub fn seal(self: &Arc<Self>) {
        let mut standing = self.standing();
        standing.sealed = true;
        let unlisted = !std::mem::replace(&mut standing.listed, true);
        drop(standing);
        self.work.appended(unlisted.then(|| self.clone()), 0);
    }

    /// It has left the buffer: what it owes is paid, its files go.
    pub fn end(self: &Arc<Self>) {
        let mut standing = self.standing();
        standing.over = true;
        let pending = std::mem::take(&mut standing.pending);
        let unnamed = std::mem::take(&mut standing.unnamed);
        drop(standing);
        let bytes = pending.iter().map(|each| each.entries.len()).sum();
        let owed = pending.into_iter().map(|each| each.receipt);
        owed.chain(unnamed).for_each(Receipt::release);
        self.work.ended(self.clone(), bytes);
    }

    /// Its bytes for sending, once they are durable: inflated, or `as_kept`.
    pub async fn pieces(self: &Arc<Self>, as_kept: bool) -> io::Result<Pieces> {
        let ready = self.durable().await;
        match ready.packed && !as_kept {
            true => Ok(Pieces::of(self.read().await?)),
            false => Ok(Pieces::of_file(self.clone(), ready.len, ready.tail)),
        }
    }

    /// All its entries, inflated where they are compressed.
    pub async fn read(self: &Arc<Self>) -> io::Result<Vec<Bytes>> {
        let ready = self.durable().await;
        let content = self.clone();
        let read = move || content.read_all(ready);
        tokio::task::spawn_blocking(read)
            .await
            .map_err(io::Error::other)?
    }

    /// The same, some of them at a time.
    pub async fn parts(self: &Arc<Self>) -> io::Result<FileParts> {
        let (ready, content) = (self.durable().await, self.clone());
        let most = self.work.options.most_inflated;
        let parts = move || FileParts::of(content, ready, most);
        tokio::task::spawn_blocking(parts)
            .await
            .map_err(io::Error::other)?
    }

    /// Reads what [`Content::ready`] gave.
    pub fn read_all(&self, ready: Ready) -> io::Result<Vec<Bytes>> {
        let Ready { len, packed, tail } = ready;
        let mut data = Vec::with_capacity(len as usize);
        while (data.len() as u64) < len {
            let size = PIECE.min((len - data.len() as u64) as usize);
            data.extend_from_slice(&self.read_at(data.len() as u64, size)?);
        }
        let durable = (!data.is_empty()).then(|| Bytes::from(data));
        let most = self.work.options.most_inflated;
        let inflated = |part: Bytes| match packed || Compress::of(&part) != Compress::Text {
            true => check::unpack(&part, most).map(Bytes::from),
            false => Ok(part),
        };
        durable.into_iter().chain(tail).map(inflated).collect()
    }

    /// Exactly these bytes of the file.
    pub fn read_at(&self, at: u64, size: usize) -> io::Result<Bytes> {
        self.read_into(at, vec![0; size])
    }

    /// As many bytes of the file as the buffer has.
    pub fn read_into(&self, at: u64, mut buffer: Vec<u8>) -> io::Result<Bytes> {
        let size = buffer.len();
        loop {
            let Some(name) = self.standing().name.clone() else {
                return Err(io::Error::new(ErrorKind::NotFound, "the chunk has no file"));
            };
            match self.work.disk.read_at(&name.data(), at, &mut buffer) {
                Ok(read) if read == size => return Ok(Bytes::from(buffer)),
                Ok(_) => return Err(ErrorKind::UnexpectedEof.into()),
                // It was enqueued in this moment.
                Err(error)
                    if error.kind() == ErrorKind::NotFound
                        && self.standing().name.as_ref() != Some(&name) => {}
                Err(error) => return Err(error),
            }
        }
    }

    async fn durable(&self) -> Ready {
        loop {
            let changed = self.work.changed();
            tokio::pin!(changed);
            changed.as_mut().enable();
            if let Some(ready) = self.ready() {
                return ready;
            }
            changed.await;
        }
    }

    /// What can be sent now: everything once nothing is pending, or while the disk takes nothing.
    pub fn ready(&self) -> Option<Ready> {
        let standing = self.standing();
        let settled = standing.pending.is_empty() && standing.unnamed.is_empty();
        if !settled && !self.work.is_in_trouble() {
            return None;
        }
        let tail = standing.pending.iter().map(|each| each.entries.clone());
        Some(Ready {
            len: standing.len,
            packed: standing.packed,
            tail: tail.collect(),
        })
    }

    /// The metadata for `NAME.meta`: the tag only where it is a chunk key.
    pub fn meta(&self, records: u64, modified: i64) -> Meta {
        Meta::of(&self.key, self.id, records, self.created, modified)
    }

    /// The metadata for the side file.
    pub fn side_meta(&self) -> Meta {
        Meta::beside(&self.key, self.id, self.created)
    }

    /// The letter that its file should have.
    pub fn letter(standing: &Standing) -> Letter {
        match standing.sealed {
            true => Letter::Queued,
            false => Letter::Staged,
        }
    }

    /// Where it stands.
    pub fn standing(&self) -> MutexGuard<'_, Standing> {
        // No code under the lock panics half-way through a change.
        self.standing.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Content {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let standing = self.standing();
        f.debug_struct("Content")
            .field("id", &self.id)
            .field("name", &standing.name)
            .field("len", &standing.len)
            .field("pending", &standing.pending.len())
            .finish()
    }
}
