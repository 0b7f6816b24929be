//! The real thread on a real directory.

use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;

use super::model::settings;
use super::*;
use crate::buffer::{Backlog, Buffer, Compress, Limits, OverflowAction};
use crate::event::msgpack::entries;
use crate::event::{Collector, Creditor, Entries, EventStream, EventTime, Receipt, Tag};

struct Told(tokio::sync::mpsc::UnboundedSender<(u64, bool)>);

impl Creditor for Told {
    fn safe(&self, batch: u64) {
        let _ = self.0.send((batch, true));
    }
    fn forgotten(&self, batch: u64) {
        let _ = self.0.send((batch, false));
    }
}

fn buffer(directory: &Path, naming: Naming) -> Arc<Buffer> {
    let limits = Limits {
        chunk_bytes: 1 << 20,
        chunk_records: usize::MAX,
        full_bytes: 1 << 20,
        full_records: usize::MAX,
        total_bytes: 1 << 30,
        compress: Compress::Text,
        overflow: OverflowAction::Block,
    };
    let settings = Settings {
        directory: directory.to_owned(),
        beside: Vec::new(),
        ..settings(naming)
    };
    Buffer::on_disk("out", ChunkKeys::tag(), limits, settings)
}

fn batch(text: &str, receipt: Receipt) -> EventStream {
    let mut entries = Entries::default();
    let mut record = entries.begin(EventTime { sec: 1, nsec: 0 });
    record.bin("message", text.as_bytes());
    record.finish();
    let (entries, count) = entries.freeze();
    EventStream {
        tag: Tag::new("a.b/c"),
        entries,
        count,
        receipt,
    }
}

fn files(directory: &Path) -> Vec<String> {
    let name = |entry: std::io::Result<std::fs::DirEntry>| {
        entry
            .expect("an entry")
            .file_name()
            .into_string()
            .expect("UTF-8")
    };
    let mut names: Vec<_> = std::fs::read_dir(directory)
        .expect("a directory")
        .map(name)
        .collect();
    names.sort();
    names
}

#[tokio::test]
async fn a_batch_is_released_when_it_is_on_disk_and_its_chunk_survives_with_its_id() {
    let place = tempfile::tempdir().expect("a directory");
    let directory = place.path().join("new/buffer");
    for naming in [Naming::file("buffer", ".log"), Naming::single()] {
        let (sender, mut told) = tokio::sync::mpsc::unbounded_channel();
        let first = buffer(&directory, naming.clone());
        first.open().expect("opens");
        first.emit(batch("one", Receipt::new(Arc::new(Told(sender)), 7)));
        assert_eq!(told.recv().await, Some((7, true)));
        first.enqueue_all();
        let chunk = first.dequeue().expect("queued");
        let (id, entries) = (chunk.id(), chunk.read().await.expect("readable").concat());
        assert_eq!(
            chunk.pieces().await.expect("readable").left(),
            entries.len() as u64
        );
        drop(chunk);
        first.close();
        let second = buffer(&directory, naming);
        second.open().expect("the first has given it back");
        let again = loop {
            match second.dequeue() {
                Some(chunk) => break chunk,
                None => second.work().await,
            }
        };
        assert_eq!(
            (again.id(), again.tag().as_str(), again.records()),
            (id, "a.b/c", 1)
        );
        assert_eq!(again.read().await.expect("readable").concat(), entries);
        again.purge();
        second.close();
        assert_eq!(second.backlog(), Backlog::default());
        let left = files(&directory)
            .into_iter()
            .filter(|name| !name.ends_with(".lock"));
        assert_eq!(left.collect::<Vec<_>>(), Vec::<String>::new());
    }
}

#[tokio::test]
async fn an_orderly_end_leaves_metadata_that_count_every_event() {
    let place = tempfile::tempdir().expect("a directory");
    let (sender, mut told) = tokio::sync::mpsc::unbounded_channel();
    let creditor = Arc::new(Told(sender));
    let buffer = buffer(place.path(), Naming::file("buffer", ".log"));
    buffer.open().expect("opens");
    for n in 0..3 {
        buffer.emit(batch("line", Receipt::new(creditor.clone(), n)));
        assert_eq!(told.recv().await, Some((n, true)));
    }
    buffer.close();
    let names = files(place.path());
    let meta = names
        .iter()
        .find(|name| name.ends_with(".log.meta"))
        .expect("metadata");
    assert!(meta.starts_with("buffer.b"), "{names:?}");
    let meta = std::fs::read(place.path().join(meta)).expect("readable");
    assert_eq!(meta::Meta::decode(&meta).expect("sound").records, 3);
}

#[tokio::test]
async fn staged_chunks_of_an_earlier_run_wait_for_those_that_were_queued() {
    let place = tempfile::tempdir().expect("a directory");
    let first = buffer(place.path(), Naming::file("buffer", ".log"));
    first.open().expect("opens");
    for n in 0..20 {
        first.emit(batch(&n.to_string(), Receipt::none()));
        first.enqueue_all();
    }
    first.emit(batch("staged", Receipt::none()));
    first.close();
    let second = buffer(place.path(), Naming::file("buffer", ".log"));
    second.open().expect("opens");
    let mut order = Vec::new();
    while second.backlog().chunks > 0 {
        second.enqueue_due(usize::MAX, |_| true);
        match second.dequeue() {
            Some(chunk) => {
                order.push(chunk.read().await.expect("readable").concat());
                chunk.purge();
            }
            None => second.work().await,
        }
    }
    let staged = batch("staged", Receipt::none()).entries;
    assert_eq!((order.len(), order.last()), (21, Some(&staged.to_vec())));
    second.close();
}

#[tokio::test]
async fn a_chunk_that_holds_too_much_can_be_kept_as_it_is() {
    let place = tempfile::tempdir().expect("a directory");
    let naming = Naming::file("buffer", ".log");
    let name = naming.name(ChunkId::from_bytes([1; 16]), Letter::Queued, "");
    let packed = Compress::Gzip.pack(&vec![batch("line", Receipt::none()).entries; 1000]);
    let packed = packed.expect("packed");
    let meta = meta::Meta::of(&ChunkKey::of_tag(Tag::new("a")), name.id(), 1000, 1, 1);
    std::fs::write(place.path().join(name.data()), &packed).expect("written");
    std::fs::write(place.path().join(name.meta()), meta.encode()).expect("written");
    let settings = Settings {
        directory: place.path().to_owned(),
        most_inflated: 1000,
        ..settings(naming)
    };
    let limits = Limits {
        compress: Compress::Gzip,
        ..Limits::ROOMY
    };
    let buffer = Buffer::on_disk("out", ChunkKeys::tag(), limits, settings);
    buffer.open().expect("opens");
    let chunk = loop {
        match buffer.dequeue() {
            Some(chunk) => break chunk,
            None => buffer.work().await,
        }
    };
    let error = chunk.read().await.expect_err("too large");
    assert_eq!(error.kind(), std::io::ErrorKind::InvalidData);
    assert!(
        error.to_string().contains("more than 1000 bytes"),
        "{error}"
    );
    assert_eq!(chunk.read_or_kept().await.expect("kept").concat(), packed);
    let mut parts = chunk.parts().await.expect("readable");
    let error = parts.find_map(Result::err).expect("too large");
    assert_eq!(error.kind(), std::io::ErrorKind::InvalidData);
    assert!(parts.next().is_none());
    drop(chunk);
    buffer.close();
}

#[tokio::test]
async fn the_parts_of_a_chunk_are_all_of_it_in_whole_entries() {
    for (naming, compress) in [
        (Naming::file("buffer", ".log"), Compress::Text),
        (Naming::file("buffer", ".log"), Compress::Gzip),
        (Naming::single(), Compress::Zstd),
    ] {
        let place = tempfile::tempdir().expect("a directory");
        let settings = Settings {
            directory: place.path().to_owned(),
            most_inflated: 64 << 20,
            ..settings(naming)
        };
        let limits = Limits {
            chunk_bytes: 64 << 20,
            full_bytes: 64 << 20,
            total_bytes: 1 << 30,
            compress,
            ..Limits::ROOMY
        };
        let buffer = Buffer::on_disk("out", ChunkKeys::tag(), limits, settings);
        buffer.open().expect("opens");
        let sizes = [10, PIECE - 100, 3 * PIECE, 0, PIECE / 2, PIECE / 2, 7];
        for size in sizes {
            buffer.emit(batch(&"x".repeat(size), Receipt::none()));
        }
        buffer.enqueue_all();
        let chunk = buffer.dequeue().expect("queued");
        let parts: Vec<Bytes> = chunk
            .parts()
            .await
            .expect("readable")
            .map(|part| part.expect("sound"))
            .collect();
        assert_eq!(
            parts.concat(),
            chunk.read().await.expect("readable").concat()
        );
        let whole = |part: &Bytes| entries(part).filter(|entry| entry.is_ok()).count();
        assert_eq!(parts.iter().map(whole).sum::<usize>(), sizes.len());
        assert!(parts.iter().all(|part| part.len() <= 4 * PIECE));
        drop(chunk);
        buffer.close();
    }
}

#[test]
fn a_second_buffer_on_the_same_files_is_refused() {
    let place = tempfile::tempdir().expect("a directory");
    let first = buffer(place.path(), Naming::file("buffer", ".log"));
    first.open().expect("opens");
    let second = buffer(place.path(), Naming::file("buffer", ".log"));
    let error = second.open().expect_err("taken").to_string();
    assert!(error.contains("is in use by process"), "{error}");
    // Other names in the same directory are another buffer.
    let other = buffer(place.path(), Naming::file("other", ".log"));
    other.open().expect("free");
    first.close();
    other.close();
}
