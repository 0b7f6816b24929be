//! What of a chunk's data can be read: whole `[time, record]` entries, as they are or in gzip members or zstd frames. Pure, over a reader.
//!
//! Groups of the side file whose checksum holds are taken as they are. Everything else is walked entry by entry up to the first that
//! is cut or is none; what is behind it is lost up to the next sound group or member.

use std::io;
use std::ops::Range;

use super::readable::{Trust, is_readable};
use super::side::Group;
use crate::buffer::Compress;
use crate::event::msgpack::{Malformed, entries};

/// How much is read at once.
const WINDOW: usize = 1 << 20;
/// How an entry begins as Fluentd writes it: an array of two, an EventTime.
const ENTRY: &[u8] = b"\x92\xd7\x00";
/// A gzip member that holds more is no chunk's.
const MOST_INFLATED: u64 = 256 << 20;

/// Reads from a byte on, until the buffer is full or the data end.
pub type ReadAt<'a> = &'a mut dyn FnMut(u64, &mut [u8]) -> io::Result<usize>;

/// A readable part of the data.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Kept {
    /// Whole entries or members, as they lie.
    Range(Range<u64>),
    /// What could be read of a damaged gzip member, as a new one.
    Rebuilt(Vec<u8>),
}

/// What a check found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Checked {
    /// What can be read, in order.
    pub kept: Vec<Kept>,
    /// Events in it.
    pub records: u64,
    /// Whether it is compressed.
    pub packed: bool,
    /// Data that cannot be read.
    pub lost: Vec<Range<u64>>,
    /// Whether all that is lost is the last group, whose write a crash interrupted.
    pub torn: bool,
    /// Bytes that were durable once behind the end of the data.
    pub missing: u64,
    /// Bytes that were durable once and are others now, be they readable or not.
    pub altered: u64,
}

impl Checked {
    /// Whether everything that is there can be read.
    pub fn is_whole(&self) -> bool {
        self.lost.is_empty()
    }

    /// Whether it is also what was written.
    pub fn is_sound(&self) -> bool {
        self.is_whole() && self.missing == 0 && self.altered == 0
    }

    /// Bytes that cannot be read, because they are damaged or gone.
    pub fn lost_bytes(&self) -> u64 {
        let lost = self.lost.iter().map(|range| range.end - range.start);
        lost.sum::<u64>() + self.missing
    }

    /// Where to cut so that only whole entries remain; `None` where a cut does not do.
    pub fn cut(&self) -> Option<u64> {
        match (&self.kept[..], &self.lost[..]) {
            ([Kept::Range(kept)], [lost])
                if kept.start == 0 && kept.end == lost.start && self.torn && self.missing == 0 =>
            {
                Some(kept.end)
            }
            _ => None,
        }
    }

    fn keep(&mut self, range: Range<u64>, records: u64) {
        self.records += records;
        match self.kept.last_mut() {
            Some(Kept::Range(last)) if last.end == range.start => last.end = range.end,
            _ if range.is_empty() => {}
            _ => self.kept.push(Kept::Range(range)),
        }
    }
}

/// Checks data of `len` bytes. Fails only where reading fails.
pub fn check(read: ReadAt<'_>, len: u64, groups: &[Group]) -> io::Result<Checked> {
    let mut checked = Checked::default();
    let (mut at, mut trust) = (0, Trust::Unknown);
    for group in groups {
        if group.confirmed {
            checked.missing = checked.missing.max(group.end.saturating_sub(len));
        }
        if group.start < at || group.end > len {
            continue;
        }
        if !holds(read, group)? {
            if group.confirmed {
                checked.altered += group.end - group.start;
            }
            trust = Trust::Damaged;
            continue;
        }
        walk(read, at..group.start, trust, &mut checked)?;
        checked.packed |= begins_packed(read, group.start)?;
        checked.keep(group.start..group.end, group.records.into());
        (at, trust) = (group.end, Trust::Unknown);
    }
    match groups.last() {
        // Its write was interrupted: what stands there of it may be anything, and nothing of it was reported safe.
        Some(last) if !last.confirmed && (at..len).contains(&last.start) && last.end >= len => {
            walk(read, at..last.start, trust, &mut checked)?;
            checked.torn = checked.is_whole();
            checked.lost.push(last.start..len);
        }
        _ => walk(read, at..len, trust, &mut checked)?,
    }
    Ok(checked)
}

fn holds(read: ReadAt<'_>, group: &Group) -> io::Result<bool> {
    Ok(crc_of(read, group.start..group.end)? == Some(group.crc))
}

/// CRC-32 of a part of the data; `None` where the data are shorter.
pub fn crc_of(read: ReadAt<'_>, range: Range<u64>) -> io::Result<Option<u32>> {
    let mut hasher = crc32fast::Hasher::new();
    let mut window = vec![0; WINDOW.min((range.end - range.start) as usize)];
    let mut at = range.start;
    while at < range.end {
        let wanted = window.len().min((range.end - at) as usize);
        match read(at, &mut window[..wanted])? {
            0 => return Ok(None),
            len => {
                hasher.update(&window[..len]);
                at += len as u64;
            }
        }
    }
    Ok(Some(hasher.finalize()))
}

fn begins_packed(read: ReadAt<'_>, at: u64) -> io::Result<bool> {
    let mut head = [0; 4];
    let got = read(at, &mut head)?;
    Ok(Compress::of(&head[..got]) != Compress::Text)
}

fn walk(
    read: ReadAt<'_>,
    range: Range<u64>,
    trust: Trust,
    checked: &mut Checked,
) -> io::Result<()> {
    if range.is_empty() {
        return Ok(());
    }
    if begins_packed(read, range.start)? {
        return walk_packed(read, range, checked);
    }
    let mut at = range.start;
    let mut size = WINDOW;
    while at < range.end {
        let left = range.end - at;
        let mut window = vec![0; usize::try_from(left).unwrap_or(size).min(size)];
        let got = read(at, &mut window)?;
        window.truncate(got);
        let (good, records, end) = count(&window, trust);
        checked.keep(at..at + good as u64, records);
        at += good as u64;
        match end {
            None if got == 0 => break,
            None => size = WINDOW,
            // The entry may go on behind the window.
            Some(Malformed::Truncated) if (got as u64) < left => {
                size = if good > 0 { WINDOW } else { size * 2 }
            }
            Some(_) => {
                let next = next_entry(read, at + 1..range.end, trust)?;
                checked.lost.push(at..next);
                (at, size) = (next, WINDOW);
            }
        }
    }
    Ok(())
}

/// Where the first entry begins that looks like one and is whole; the end where none does.
fn next_entry(read: ReadAt<'_>, range: Range<u64>, trust: Trust) -> io::Result<u64> {
    let mut at = range.start;
    while at < range.end {
        let left = range.end - at;
        let mut window = vec![0; usize::try_from(left).unwrap_or(WINDOW).min(WINDOW)];
        let got = read(at, &mut window)?;
        // The next window begins so that it sees what this one cuts.
        let mut step = match got.saturating_sub(ENTRY.len() - 1) as u64 {
            step if step > 0 && (got as u64) < left => step,
            _ => left,
        };
        for begin in memchr::memmem::find_iter(&window[..got], ENTRY) {
            match count(&window[begin..got], trust) {
                // It goes on behind the window: it is looked at from its own beginning, and believed where it is longer than one.
                (0, _, Some(Malformed::Truncated)) if begin > 0 && (got as u64) < left => {
                    step = begin as u64;
                    break;
                }
                (0, _, Some(Malformed::Truncated)) if (got as u64) < left => return Ok(at),
                (0, ..) => {}
                _ => return Ok(at + begin as u64),
            }
        }
        at += step;
    }
    Ok(range.end)
}

/// Bytes and number of the whole entries at the head, and why the next is none.
fn count(bytes: &[u8], trust: Trust) -> (usize, u64, Option<Malformed>) {
    let (mut good, mut records) = (0, 0);
    for entry in entries(bytes) {
        match entry {
            Ok(entry) if !is_readable(entry.record, trust) => {
                return (good, records, Some(Malformed::Invalid));
            }
            Ok(entry) => {
                good += entry.bytes.len();
                records += 1;
            }
            Err(reason) => return (good, records, Some(reason)),
        }
    }
    (good, records, None)
}

fn walk_packed(read: ReadAt<'_>, range: Range<u64>, checked: &mut Checked) -> io::Result<()> {
    checked.packed = true;
    let mut data = vec![0; (range.end - range.start) as usize];
    let got = read(range.start, &mut data)?;
    data.truncate(got);
    let mut at = 0;
    while at < data.len() {
        let (rest, begin) = (&data[at..], range.start + at as u64);
        if let Some(whole) = keep_head(rest, begin, checked)? {
            at += whole;
            continue;
        }
        // What was appended later does not depend on it.
        at += Compress::next_whole(rest, MOST_INFLATED);
        checked.lost.push(begin..range.start + at as u64);
    }
    Ok(())
}

/// Keeps the member or the entries at the head of `rest`, and says how long they are. `None`: they are damaged, and what was sound of the
/// member is kept.
fn keep_head(rest: &[u8], begin: u64, checked: &mut Checked) -> io::Result<Option<usize>> {
    let compress = Compress::of(rest);
    if compress == Compress::Text {
        let (good, records, _) = count(rest, Trust::Unknown);
        checked.keep(begin..begin + good as u64, records);
        return Ok((good > 0).then_some(good));
    }
    let (plain, behind) = compress.member(rest, MOST_INFLATED);
    let trust = match behind {
        Ok(_) => Trust::Unknown,
        Err(_) => Trust::Damaged,
    };
    let (good, records, malformed) = count(&plain, trust);
    if let (Ok(behind), None) = (behind, malformed) {
        let len = rest.len() - behind.len();
        checked.keep(begin..begin + len as u64, records);
        return Ok(Some(len));
    }
    if good > 0 {
        let member = Compress::Gzip.pack(&[&plain[..good]])?;
        checked.kept.push(Kept::Rebuilt(member));
        checked.records += records;
    }
    Ok(None)
}

/// The entries of data, inflated member by member where they are packed. Fails beyond `most` bytes in all, and where a member is damaged.
#[derive(Debug)]
pub struct Inflated<D> {
    data: D,
    at: usize,
    plain: u64,
    most: u64,
}

impl<D: AsRef<[u8]>> Inflated<D> {
    /// Of these data.
    pub fn of(data: D, most: u64) -> Inflated<D> {
        Inflated {
            data,
            at: 0,
            plain: 0,
            most,
        }
    }

    fn part(&mut self) -> Result<Vec<u8>, String> {
        let rest = &self.data.as_ref()[self.at..];
        let compress = Compress::of(rest);
        if compress == Compress::Text {
            let (good, _, _) = count(rest, Trust::Sound);
            let part = rest[..good].to_vec();
            self.at += good;
            return match good {
                0 => Err("neither an entry nor a gzip member or zstd frame".to_owned()),
                _ => Ok(part),
            };
        }
        let (part, behind) = compress.member(rest, self.most.saturating_sub(self.plain));
        self.plain += part.len() as u64;
        if self.plain > self.most {
            let most = self.most;
            return Err(format!(
                "inflates to more than {most} bytes (decompression_size_limit)"
            ));
        }
        self.at += rest.len() - behind.map_err(|error| error.to_string())?.len();
        Ok(part)
    }
}

impl<D: AsRef<[u8]>> Iterator for Inflated<D> {
    type Item = io::Result<Vec<u8>>;

    fn next(&mut self) -> Option<io::Result<Vec<u8>>> {
        if self.at >= self.data.as_ref().len() {
            return None;
        }
        let part = self.part();
        Some(part.map_err(|message| {
            // Nothing behind it either.
            self.at = self.data.as_ref().len();
            io::Error::new(io::ErrorKind::InvalidData, message)
        }))
    }
}

/// All of them in one piece.
pub fn unpack(data: &[u8], most: u64) -> io::Result<Vec<u8>> {
    let parts: Vec<_> = Inflated::of(data, most).collect::<io::Result<_>>()?;
    Ok(parts.concat())
}

/// Bytes and number of whole entries at the head of what was checked before, and whether the next one may only be cut.
pub fn whole_entries(bytes: &[u8]) -> (usize, bool) {
    let (good, _, end) = count(bytes, Trust::Sound);
    (good, end == Some(Malformed::Truncated))
}

#[cfg(test)]
#[path = "check_tests.rs"]
mod tests;
