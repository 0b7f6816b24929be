//! Cuts a batch that is larger than a chunk may be: a pure decision.

use std::ops::Range;

use crate::event::EventStream;
use crate::event::msgpack::entries;

/// What one chunk may hold.
#[derive(Clone, Copy, Debug)]
pub struct Most {
    /// Bytes.
    pub bytes: usize,
    /// Events.
    pub records: usize,
}

/// A batch in pieces.
#[derive(Debug)]
pub struct Cut {
    /// Each fits into a chunk, and all but the last leave no room for the next event. They share the batch's memory.
    pub pieces: Vec<EventStream>,
    /// Events that fit into no chunk.
    pub oversized: Vec<Oversized>,
}

/// An event that fits into no chunk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Oversized {
    /// Its place in the batch, from 0.
    pub nth: usize,
    /// Its size.
    pub bytes: usize,
}

/// Cuts `stream` between events. `size_alone` tells how many bytes an event takes that is larger than `most` and stands alone: fewer where
/// it is compressed. The receipt is shared by the pieces; where nothing is left it is released.
pub fn cut(stream: EventStream, most: Most, size_alone: impl Fn(&[u8]) -> usize) -> Cut {
    let mut cutter = Cutter {
        most,
        pieces: Vec::new(),
        open: Piece::default(),
    };
    let (mut at, mut nth, mut oversized) = (0, 0, Vec::new());
    for entry in entries(&stream.entries) {
        let Ok(entry) = entry else { break };
        let end = at + entry.bytes.len();
        if entry.bytes.len() <= most.bytes {
            cutter.add(at..end, 1);
        } else {
            let bytes = size_alone(entry.bytes);
            if bytes <= most.bytes {
                cutter.alone(at..end);
            } else {
                oversized.push(Oversized { nth, bytes });
            }
        }
        at = end;
        nth += 1;
    }
    if at < stream.entries.len() {
        // What cannot be read cannot be cut: whoever decodes it will say so.
        cutter.add(at..stream.entries.len(), stream.count.saturating_sub(nth));
    }
    let pieces = cutter.finish(&stream);
    // The pieces owe the batch now.
    stream.receipt.release();
    Cut { pieces, oversized }
}

#[derive(Clone, Debug, Default)]
struct Piece {
    range: Range<usize>,
    count: usize,
}

struct Cutter {
    most: Most,
    pieces: Vec<Piece>,
    open: Piece,
}

impl Cutter {
    fn add(&mut self, range: Range<usize>, count: usize) {
        let fits = self.open.range.end == range.start
            && self.open.range.len() + range.len() <= self.most.bytes
            && self.open.count + count <= self.most.records;
        if fits {
            self.open.range.end = range.end;
            self.open.count += count;
        } else {
            self.close();
            self.open = Piece { range, count };
        }
    }

    fn alone(&mut self, range: Range<usize>) {
        self.close();
        self.pieces.push(Piece { range, count: 1 });
    }

    fn close(&mut self) {
        let open = std::mem::take(&mut self.open);
        if !open.range.is_empty() {
            self.pieces.push(open);
        }
    }

    fn finish(mut self, stream: &EventStream) -> Vec<EventStream> {
        self.close();
        let piece = |piece: Piece| EventStream {
            tag: stream.tag.clone(),
            entries: stream.entries.slice(piece.range),
            count: piece.count,
            receipt: stream.receipt.clone(),
        };
        self.pieces.into_iter().map(piece).collect()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use bytes::Bytes;
    use proptest::prelude::*;

    use super::*;
    use crate::event::{Creditor, Entries, EventTime, Receipt, Tag};

    #[derive(Default)]
    struct Book(Mutex<Vec<bool>>);

    impl Creditor for Book {
        fn safe(&self, _batch: u64) {
            self.0.lock().expect("whole").push(true);
        }
        fn forgotten(&self, _batch: u64) {
            self.0.lock().expect("whole").push(false);
        }
    }

    /// Events with values of these lengths.
    fn batch(lengths: &[usize], book: &Arc<Book>) -> EventStream {
        let mut batch = Entries::default();
        for length in lengths {
            let mut record = batch.begin(EventTime { sec: 1, nsec: 0 });
            record.bin("m", &vec![b'x'; *length]);
            record.finish();
        }
        let (entries, count) = batch.freeze();
        EventStream {
            tag: Tag::new("app"),
            entries,
            count,
            receipt: Receipt::new(book.clone(), 1),
        }
    }

    #[test]
    fn an_event_that_fits_nowhere_is_left_out_and_its_neighbours_stay() {
        let book = Arc::default();
        let most = Most {
            bytes: 100,
            records: 10,
        };
        let stream = batch(&[10, 200, 10], &book);
        let cut = cut(stream, most, <[u8]>::len);
        assert_eq!(cut.oversized, [Oversized { nth: 1, bytes: 216 }]);
        assert_eq!(
            cut.pieces.iter().map(|p| p.count).collect::<Vec<_>>(),
            [1, 1]
        );
        cut.pieces
            .into_iter()
            .for_each(|piece| piece.receipt.release());
        assert_eq!(*book.0.lock().expect("whole"), [true]);
    }

    #[test]
    fn a_batch_of_which_nothing_is_left_is_done_with() {
        let book = Arc::default();
        let most = Most {
            bytes: 100,
            records: 10,
        };
        let cut = cut(batch(&[200], &book), most, <[u8]>::len);
        assert!(cut.pieces.is_empty());
        assert_eq!(*book.0.lock().expect("whole"), [true]);
    }

    #[test]
    fn what_fits_compressed_is_a_piece_of_its_own() {
        let book = Arc::default();
        let most = Most {
            bytes: 100,
            records: 10,
        };
        let cut = cut(batch(&[10, 200, 10], &book), most, |_| 30);
        let counts: Vec<_> = cut.pieces.iter().map(|piece| piece.count).collect();
        assert_eq!((counts, cut.oversized.len()), (vec![1, 1, 1], 0));
    }

    proptest! {
        #[test]
        fn pieces_are_full_and_hold_all_that_fits_in_order(
            lengths in proptest::collection::vec(0usize..150, 1..40),
            bytes in 60usize..400,
            records in 1usize..8,
        ) {
            let book = Arc::default();
            let stream = batch(&lengths, &book);
            let sizes: Vec<Bytes> = entries(&stream.entries)
                .map(|entry| stream.entries.slice_ref(entry.expect("well formed").bytes))
                .collect();
            let most = Most { bytes, records };
            let cut = cut(stream, most, <[u8]>::len);
            let expected: Vec<u8> = sizes.iter().filter(|entry| entry.len() <= bytes).flatten().copied().collect();
            let held: Vec<u8> = cut.pieces.iter().flat_map(|piece| piece.entries.to_vec()).collect();
            prop_assert_eq!(held, expected);
            let left_out: Vec<_> = (0..sizes.len()).filter(|nth| sizes[*nth].len() > bytes).collect();
            prop_assert_eq!(cut.oversized.iter().map(|one| one.nth).collect::<Vec<_>>(), left_out);
            for piece in &cut.pieces {
                prop_assert!(piece.entries.len() <= bytes && piece.count <= records);
                prop_assert_eq!(entries(&piece.entries).count(), piece.count);
            }
            if cut.oversized.is_empty() {
                for pair in cut.pieces.windows(2) {
                    let next = entries(&pair[1].entries).next().expect("one").expect("well formed").bytes.len();
                    prop_assert!(pair[0].entries.len() + next > bytes || pair[0].count == records);
                }
            }
        }
    }
}
