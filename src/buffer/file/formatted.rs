//! Chunks of a Fluentd whose output formats before it buffers (out_file, s3): their data are text, plain or compressed.
//!
//! A chunk of ours holds entries always, so each line becomes one ([`crate::event::formatted`]), which the output then writes as it is. The
//! chunk keeps its id. A crash meanwhile leaves either the text or the entries.

use std::io;
use std::ops::Range;

use bytes::Bytes;
use tracing::{error, info};

use super::aside::link_aside;
use super::check::{Checked, ReadAt};
use super::resume::{Fate, Left};
use super::work::Work;
use crate::buffer::Compress;
use crate::event::{EventTime, formatted};

/// How much is read at once; a line that is longer is cut, which joins again where lines are written one behind the other.
const WINDOW: usize = 1 << 20;
/// So much tells an entry from a text: an array, a time, the first byte of a record.
const HEAD: usize = 32;

/// Whether no entry begins like this: `[time, {…}]`, the time an integer or an extension. Bytes of Shift-JIS may begin like the array.
pub fn is_foreign(head: &[u8]) -> bool {
    let inside = match head {
        [0x92, inside @ ..] | [0xdc, 0, 2, inside @ ..] | [0xdd, 0, 0, 0, 2, inside @ ..] => inside,
        [] | [0xdc | 0xdd] => return false,
        _ => return Compress::of(head) == Compress::Text,
    };
    let time = match inside.first() {
        None => return false,
        // fixext 8, ext 8 with eight bytes, uint 32 and 64, int 32 and 64, a small integer.
        Some(0xd7) => 10,
        Some(0xc7) => 11,
        Some(0xce | 0xd2) => 5,
        Some(0xcf | 0xd3) => 9,
        Some(0..=0x7f) => 1,
        Some(_) => return true,
    };
    // A map, or what a crash cut before it.
    let record = inside.get(time);
    record.is_some_and(|first| !matches!(first, 0x80..=0x8f | 0xde | 0xdf))
}

/// Gives the lines of a text as entries of this time, piece by piece; tells how many there are. False: stop.
pub fn each_piece(
    read: ReadAt<'_>,
    range: Range<u64>,
    time: EventTime,
    mut take: impl FnMut(Vec<u8>) -> io::Result<()>,
) -> io::Result<u64> {
    let (mut at, mut lines) = (range.start, 0);
    let mut window = vec![0; WINDOW.min((range.end - range.start) as usize)];
    while at < range.end {
        let size = window.len().min((range.end - at) as usize);
        let got = read(at, &mut window[..size])?;
        if got == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let is_last = at + got as u64 == range.end;
        let whole = match memchr::memrchr(b'\n', &window[..got]) {
            Some(end) if !is_last => end + 1,
            _ => got,
        };
        let mut entries = Vec::with_capacity(whole * 2);
        for line in window[..whole].split_inclusive(|byte| *byte == b'\n') {
            formatted::push(&mut entries, time, line);
            lines += 1;
        }
        at += whole as u64;
        take(entries)?;
    }
    Ok(lines)
}

impl Left {
    /// Makes entries of the lines of a chunk that holds text; `None` for one that holds entries.
    pub(super) fn take_text(&self, work: &Work) -> io::Result<Option<Fate>> {
        // Without a side file it is not ours.
        if !work.options.formatted || !self.side.groups.is_empty() {
            return Ok(None);
        }
        let file = self.name.data();
        let mut head = [0; HEAD];
        let got = work.disk.read_at(&file, 0, &mut head)?;
        let packed = match Compress::of(&head[..got]) {
            Compress::Text => None,
            _ => Some(whole(work, &file, self.len)?),
        };
        let got = match &packed {
            None => got,
            Some(packed) => {
                let (member, _) = Compress::of(packed).member(packed, work.options.most_inflated);
                copy(&member, 0, &mut head)
            }
        };
        if !is_foreign(&head[..got]) {
            return Ok(None);
        }
        let made = self.write_entries(work, packed.as_deref());
        let (written, checked, lost) = made.inspect_err(|_| self.remove_part(work))?;
        let records = checked.records;
        info!(
            path = work.options.path,
            file, records, "a chunk holds lines that Fluentd has formatted, they go on as they are"
        );
        Ok(Some(self.goes(written, &checked, lost)))
    }

    /// Writes the entries of the lines in place of the text: how many bytes, which, and how many bytes of the text could not be read. Those
    /// are kept aside.
    fn write_entries(&self, work: &Work, packed: Option<&[u8]>) -> io::Result<(u64, Checked, u64)> {
        let (disk, part) = (&*work.disk, work.naming.part(self.content.id));
        let file = self.name.data();
        let time = EventTime {
            sec: u32::try_from(self.modified).unwrap_or_default(),
            nsec: 0,
        };
        let _ = disk.remove(&part);
        disk.create(&part, &[])?;
        let mut written = 0;
        let mut take = |entries: Vec<u8>| {
            let entries = Bytes::from(entries);
            disk.write_at(&part, written, std::slice::from_ref(&entries))?;
            written += entries.len() as u64;
            Ok(())
        };
        let (records, damage) = match packed {
            None => {
                let mut read = |at: u64, buffer: &mut [u8]| disk.read_at(&file, at, buffer);
                let records = each_piece(&mut read, 0..self.len, time, &mut take)?;
                (records, None)
            }
            Some(packed) => each_member(packed, work.options.most_inflated, time, &mut take)?,
        };
        disk.sync(&part)?;
        let mut lost = 0;
        if let Some(Damage { bytes, error }) = damage {
            lost = bytes;
            let aside = link_aside(disk, &file)?;
            error!(
                path = work.options.path, file, records, lost_bytes = lost, set_aside = aside, %error,
                "found broken chunk file during resume. its readable lines go on, the file is kept aside"
            );
        }
        disk.rename(&part, &file)?;
        let checked = Checked {
            records,
            ..Checked::default()
        };
        self.write_side(work, written, &checked)?;
        disk.sync_directory()?;
        Ok((written, checked, lost))
    }
}

/// What of a compressed text does not go on.
pub struct Damage {
    /// Packed bytes.
    pub bytes: u64,
    /// The first one's.
    pub error: io::Error,
}

/// Gives the lines of a compressed text, member by member: only one of them is in memory. Of a damaged one, what is sound goes on. Tells how
/// many lines there are.
pub fn each_member(
    packed: &[u8],
    most: u64,
    time: EventTime,
    mut take: impl FnMut(Vec<u8>) -> io::Result<()>,
) -> io::Result<(u64, Option<Damage>)> {
    let (mut rest, mut records) = (packed, 0);
    let mut damage: Option<Damage> = None;
    while !rest.is_empty() {
        let (mut member, behind) = match Compress::of(rest) {
            Compress::Text => (Vec::new(), Err(io::ErrorKind::InvalidData.into())),
            compress => compress.member(rest, most),
        };
        if behind.is_err() {
            // Half a line is none: the next would be written behind it.
            member.truncate(memchr::memrchr(b'\n', &member).map_or(0, |end| end + 1));
        }
        let mut read = |at: u64, buffer: &mut [u8]| Ok(copy(&member, at, buffer));
        records += each_piece(&mut read, 0..member.len() as u64, time, &mut take)?;
        rest = match behind {
            Ok(behind) => behind,
            Err(error) => {
                let next = Compress::next_whole(rest, most);
                let damage = damage.get_or_insert(Damage { bytes: 0, error });
                damage.bytes += next as u64;
                &rest[next..]
            }
        };
    }
    Ok((records, damage))
}

/// Reads from what is in memory.
pub fn copy(text: &[u8], at: u64, buffer: &mut [u8]) -> usize {
    let rest = usize::try_from(at).ok().and_then(|at| text.get(at..));
    let rest = rest.unwrap_or_default();
    let length = rest.len().min(buffer.len());
    buffer[..length].copy_from_slice(&rest[..length]);
    length
}

/// All bytes of a file.
fn whole(work: &Work, file: &str, len: u64) -> io::Result<Vec<u8>> {
    let mut data = vec![0; len as usize];
    let got = work.disk.read_at(file, 0, &mut data)?;
    data.truncate(got);
    Ok(data)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::msgpack::entries;

    #[test]
    fn text_in_shift_jis_that_begins_like_an_array_is_text_and_cut_entries_are_entries() {
        assert!(is_foreign(b"\x92\x86\x8d\x73 a line\n"));
        assert!(is_foreign(b"2026-11-27T00:00:00+00:00\tapp\t{}\n"));
        let mut entry = vec![];
        formatted::push(&mut entry, EventTime { sec: 7, nsec: 0 }, b"x\n");
        for end in 0..=entry.len() {
            assert!(!is_foreign(&entry[..end]), "{end}");
        }
        assert!(!is_foreign(b"\x92\xce\x69\x57\x35\xa5\x81\xa1a\x01"));
        assert!(!is_foreign(b"\xdc\x00\x02\x07\xde\x00\x01"));
    }

    #[test]
    fn of_a_damaged_member_whole_lines_go_on_and_no_half_one() {
        let text: String = (0..200)
            .map(|n| format!("line {n} {}\n", n * 7919))
            .collect();
        let packed = Compress::Gzip.pack(&[text.as_bytes()]).expect("packed");
        let time = EventTime { sec: 7, nsec: 0 };
        for end in (20..packed.len() - 8).step_by(13) {
            let mut lines = Vec::new();
            let mut take = |piece: Vec<u8>| {
                for entry in entries(&piece) {
                    let entry = entry.expect("whole");
                    lines.extend_from_slice(formatted::line(entry.record).expect("a line"));
                }
                Ok(())
            };
            let (records, damage) =
                each_member(&packed[..end], 1 << 20, time, &mut take).expect("taken");
            assert!(damage.is_some());
            assert!(text.as_bytes().starts_with(&lines));
            assert!(lines.is_empty() || lines.ends_with(b"\n"));
            assert_eq!(
                records as usize,
                lines.split_inclusive(|b| *b == b'\n').count()
            );
        }
    }

    #[test]
    fn lines_of_members_behind_a_damaged_one_go_on() {
        for compress in [Compress::Gzip, Compress::Zstd] {
            let pack = |text: &[u8]| compress.pack(&[text]).expect("packed");
            let second = pack(b"two\n");
            for damaged in [&second[..second.len() - 5], &second[4..], b"x"] {
                let packed = [&pack(b"one\n"), damaged, &pack(b"three\n")].concat();
                let mut lines = Vec::new();
                let mut take = |piece: Vec<u8>| {
                    for entry in entries(&piece) {
                        let entry = entry.expect("whole");
                        lines.push(formatted::line(entry.record).expect("a line").to_vec());
                    }
                    Ok(())
                };
                let time = EventTime { sec: 7, nsec: 0 };
                let (records, damage) =
                    each_member(&packed, 1 << 20, time, &mut take).expect("taken");
                assert_eq!(damage.expect("damaged").bytes, damaged.len() as u64);
                assert_eq!(lines.first().expect("a line"), b"one\n");
                assert_eq!(lines.last().expect("a line"), b"three\n");
                assert_eq!(records as usize, lines.len());
            }
        }
    }
}
