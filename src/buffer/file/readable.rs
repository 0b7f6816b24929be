//! Whether a receiver can read what is left of damaged data. Pure.
//!
//! MessagePack survives many damages as other MessagePack. A Fluentd that finds an extension type that it does not know closes the
//! connection, and the whole chunk comes again and again.

use crate::event::msgpack::{MAX_DEPTH, read_map_header, skip_value};

/// What is known of data before they are looked into.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trust {
    /// They are what was written, or were looked into before.
    Sound,
    /// Nothing.
    Unknown,
    /// They are not what was written.
    Damaged,
}

/// Whether this record is one that Fluentd can read: no extension types but its time and MessagePack's own, and in data that are known to be
/// damaged no keys but texts.
pub fn is_readable(record: &[u8], trust: Trust) -> bool {
    trust == Trust::Sound || value(record, trust, 0).is_some()
}

/// What is behind a good value.
fn value(bytes: &[u8], trust: Trust, depth: usize) -> Option<&[u8]> {
    if depth > MAX_DEPTH {
        return None;
    }
    match *bytes.first()? {
        0x80..=0x8f | 0xde | 0xdf => {
            let (head, fields) = read_map_header(bytes).ok()??;
            let mut rest = bytes.get(head..)?;
            for _ in 0..fields {
                rest = value(key(rest, trust)?, trust, depth + 1)?;
            }
            Some(rest)
        }
        0x90..=0x9f | 0xdc | 0xdd => {
            let mut rest = bytes;
            for _ in 0..rmp::decode::read_array_len(&mut rest).ok()? {
                rest = value(rest, trust, depth + 1)?;
            }
            Some(rest)
        }
        0xd4..=0xd8 | 0xc7..=0xc9 => {
            let mut rest = bytes;
            let ext = rmp::decode::read_ext_meta(&mut rest).ok()?;
            let is_known = matches!((ext.typeid, ext.size), (0, 8) | (-1, 4 | 8 | 12));
            rest.get(ext.size as usize..).filter(|_| is_known)
        }
        _ => bytes.get(skip_value(bytes).ok()?..),
    }
}

fn key(bytes: &[u8], trust: Trust) -> Option<&[u8]> {
    if trust != Trust::Damaged {
        return value(bytes, trust, 0);
    }
    let mut rest = bytes;
    let len = rmp::decode::read_str_len(&mut rest).ok()? as usize;
    let (text, behind) = rest.split_at_checked(len)?;
    std::str::from_utf8(text).is_ok().then_some(behind)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::{Entries, EventTime};

    fn record(fill: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
        let mut bytes = vec![0x81];
        fill(&mut bytes);
        bytes
    }

    #[test]
    fn what_fluentd_writes_is_readable() {
        let time = EventTime { sec: 1, nsec: 2 };
        let mut batch = Entries::default();
        let mut writer = batch.begin(time);
        writer.bin("message", b"\xff\xfe");
        writer.raw("time", &time.to_bytes());
        writer.raw("list", b"\x92\x81\xa1a\xc0\xd6\xff\x00\x00\x00\x01");
        writer.finish();
        let (entries, _) = batch.freeze();
        let record = &entries[1 + time.to_bytes().len()..];
        for trust in [Trust::Unknown, Trust::Damaged] {
            assert!(is_readable(record, trust));
        }
    }

    #[test]
    fn an_extension_that_nobody_writes_is_damage_and_so_are_odd_keys_in_damaged_data() {
        let unknown = record(|bytes| bytes.extend(b"\xa1a\xd4\x55\x01"));
        let short = record(|bytes| bytes.extend(b"\xa1a\xd7\x00\x01"));
        let number = record(|bytes| bytes.extend(b"\x07\xa1b"));
        let no_text = record(|bytes| bytes.extend(b"\xa1\xff\xa1b"));
        let readable = |record: &[u8]| {
            [Trust::Sound, Trust::Unknown, Trust::Damaged].map(|trust| is_readable(record, trust))
        };
        assert_eq!(readable(&unknown), [true, false, false]);
        assert_eq!(readable(&short), [true, false, false]);
        assert_eq!(readable(&number), [true, true, false]);
        assert_eq!(readable(&no_text), [true, true, false]);
    }
}
