//! Text that was formatted before it was buffered: what a Fluentd's out_file or s3 left in its chunks.
//!
//! ```text
//! 92 time 81 c6 00 00 00 07 "message" bin      one line, its newline included
//! ```
//!
//! No writer gives a key of seven bytes a length of four (a key of bytes, as LTSV under ASCII-8BIT has, begins `c4 07`), so an output that
//! writes lines knows these and writes them as they are; for everybody else they are events like any other.

use super::EventTime;
use super::msgpack::{read_text, write_bin};

const PREFIX: &[u8] = b"\x81\xc6\0\0\0\x07message";

/// Appends an entry for a line.
pub fn push(out: &mut Vec<u8>, time: EventTime, line: &[u8]) {
    out.push(0x92);
    out.extend_from_slice(&time.to_bytes());
    out.extend_from_slice(PREFIX);
    write_bin(out, line);
}

/// The line that a record stands for; `None` for an event.
pub fn line(record: &[u8]) -> Option<&[u8]> {
    let value = record.strip_prefix(PREFIX)?;
    read_text(value).ok()?.map(|(line, _)| line)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::event::msgpack::{self, Label};

    proptest! {
        #[test]
        fn a_line_comes_back_and_an_event_is_none(text in prop::collection::vec(any::<u8>(), 0..300)) {
            let time = EventTime { sec: 7, nsec: 0 };
            let mut entries = Vec::new();
            push(&mut entries, time, &text);
            let entry = msgpack::entries(&entries).next().expect("one").expect("whole");
            prop_assert_eq!(entry.bytes.len(), entries.len());
            prop_assert_eq!(line(entry.record), Some(&text[..]));
            for key in [Label::Text, Label::Bytes] {
                let mut event = vec![0x81];
                msgpack::write_labelled(&mut event, key, b"message");
                write_bin(&mut event, &text);
                prop_assert_eq!(line(&event), None);
            }
        }
    }
}
