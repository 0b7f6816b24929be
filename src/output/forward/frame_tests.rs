use std::io::Read;
use std::time::{Instant, SystemTime};

use super::*;
use crate::buffer::ChunkKey;
use crate::event::{Entries, EventStream, EventTime, Receipt, Tag};
use proptest::prelude::*;

fn chunk(tag: &str, lines: usize) -> Chunk {
    let tag = Tag::new(tag);
    let mut chunk = Chunk::new(
        ChunkKey::of_tag(tag.clone()),
        Instant::now(),
        SystemTime::now(),
    );
    for _ in 0..lines {
        let mut batch = Entries::default();
        let mut record = batch.begin(EventTime {
            sec: 1_700_000_000,
            nsec: 123_456_789,
        });
        record.str("message", b"hi");
        record.finish();
        let (entries, count) = batch.freeze();
        chunk.append(EventStream {
            tag: tag.clone(),
            entries,
            count,
            receipt: Receipt::none(),
        });
    }
    chunk
}

async fn whole(frame: &Frame) -> Vec<u8> {
    let entries = frame.entries().next().await.expect("in memory");
    [frame.head(), &entries.concat(), frame.option()].concat()
}

fn bytes(hex: &str) -> Vec<u8> {
    let hex: String = hex.split_whitespace().collect();
    let digit = |at: usize| u8::from_str_radix(&hex[at..at + 2], 16).expect("hexadecimal");
    (0..hex.len()).step_by(2).map(digit).collect()
}

fn ack(id: &str) -> Vec<u8> {
    let mut answer = bytes("81 a3 61636b");
    write_str(&mut answer, id.as_bytes());
    answer
}

#[tokio::test]
async fn a_frame_with_ack_is_what_fluentd_sends() {
    let chunk = chunk("a.b", 1);
    let encoding = Encoding {
        ack: true,
        ..Encoding::default()
    };
    let frame = Frame::of(&chunk, encoding).await.expect("encodes");
    let mut expected = bytes(
        "93 a3 612e62 db 00000017 92 d7 00 6553f100 075bcd15 81 a7 6d657373616765 a2 6869
         83 a4 73697a65 01 aa 636f6d70726573736564 a4 74657874 a5 6368756e6b b9",
    );
    expected.extend_from_slice(chunk.id().to_base64().as_bytes());
    assert_eq!(whole(&frame).await, expected);
}

#[tokio::test]
async fn time_as_integer_is_what_fluentd_sends() {
    let encoding = Encoding {
        time_as_integer: true,
        ..Encoding::default()
    };
    let frame = Frame::of(&chunk("c.b", 1), encoding)
        .await
        .expect("encodes");
    let expected = "93 a3 632e62 db 00000012 92 ce 6553f100 81 a7 6d657373616765 a2 6869
                    82 a4 73697a65 01 aa 636f6d70726573736564 a4 74657874";
    assert_eq!(whole(&frame).await, bytes(expected));
}

#[tokio::test]
async fn gzip_is_one_member_that_holds_all_segments() {
    let chunk = chunk("a", 300);
    let encoding = Encoding {
        compress: Compress::Gzip,
        ..Encoding::default()
    };
    let frame = Frame::of(&chunk, encoding).await.expect("encodes");
    let mut plain = Vec::new();
    flate2::read::GzDecoder::new(&frame.entries().next().await.expect("in memory")[0][..])
        .read_to_end(&mut plain)
        .expect("one member");
    assert_eq!(plain, chunk.read().await.expect("in memory").concat());
    assert!(frame.option.ends_with(b"\xa4gzip"));
    assert!(frame.option.starts_with(b"\x82\xa4size\xcd\x01\x2c"));
}

#[tokio::test]
async fn a_compressed_chunk_is_sent_as_it_is_where_the_output_compresses_likewise() {
    for compress in [Compress::Gzip, Compress::Zstd] {
        let text = chunk("a", 2);
        let entries = text.read().await.expect("in memory").concat();
        let members = compress.pack(&[&entries]).expect("packed");
        let tag = Tag::new("a");
        let key = ChunkKey::of_tag(tag.clone());
        let mut kept = Chunk::new(key, Instant::now(), SystemTime::now()).kept(compress);
        for _ in 0..2 {
            kept.append(EventStream {
                tag: tag.clone(),
                entries: members.clone().into(),
                count: 2,
                receipt: Receipt::none(),
            });
        }
        let frame = |compress| {
            let encoding = Encoding {
                compress,
                ..Encoding::default()
            };
            let kept = &kept;
            async move { Frame::of(kept, encoding).await.expect("encodes") }
        };
        let same = frame(compress).await;
        let sent = same.entries().next().await.expect("in memory").concat();
        assert_eq!(sent, [members.clone(), members.clone()].concat());
        let word = compress.word().as_bytes();
        assert!(same.option.windows(word.len()).any(|part| part == word));
        let plain = frame(Compress::Text).await;
        let sent = plain.entries().next().await.expect("in memory").concat();
        assert_eq!(sent, [entries.clone(), entries].concat());
    }
}

#[tokio::test]
async fn segments_are_sent_as_they_lie() {
    let chunk = chunk("a", 3);
    let frame = Frame::of(&chunk, Encoding::default())
        .await
        .expect("encodes");
    let sent = frame.entries().next().await.expect("in memory");
    let held = chunk.read().await.expect("in memory");
    let places = |segments: Vec<Bytes>| {
        segments
            .iter()
            .map(|bytes| bytes.as_ptr())
            .collect::<Vec<_>>()
    };
    assert_eq!(places(sent), places(held));
}

#[test]
fn only_the_chunks_own_id_acknowledges() {
    let id = "Zg1Yb705/5oX6O7xs8GNHw==\n";
    assert_eq!(read_answer(&ack(id), id), Answer::Acknowledged(31));
    assert_eq!(
        read_answer(&ack("Zg1Yb705/5oX6O7xs8GNHw=="), id),
        Answer::Different("Zg1Yb705/5oX6O7xs8GNHw==".into())
    );
    assert_eq!(read_answer(b"\x80", id), Answer::Different("none".into()));
    assert_eq!(
        read_answer(b"HTTP/1.1 400 Bad Request", id),
        Answer::Garbage
    );
    assert_eq!(read_answer(b"\xc1", id), Answer::Garbage);
}

proptest! {
    #[test]
    fn an_ack_cut_anywhere_waits_for_the_rest(cut in 0usize..31) {
        let id = "Zg1Yb705/5oX6O7xs8GNHw==\n";
        prop_assert_eq!(read_answer(&ack(id)[..cut], id), Answer::Incomplete);
    }

    #[test]
    fn noise_is_never_an_ack(noise in proptest::collection::vec(any::<u8>(), 0..100)) {
        let answer = read_answer(&noise, "Zg1Yb705/5oX6O7xs8GNHw==\n");
        prop_assert!(!matches!(answer, Answer::Acknowledged(_)));
    }
}
