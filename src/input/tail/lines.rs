//! Bytes to lines, at any split: pure.
//!
//! Bytes are looked at once. What stands behind the last newline is kept until its newline comes, so that a line that grows
//! byte by byte costs no more than one that comes whole.

use memchr::{memchr, memchr_iter};

/// One line of a file, or what stands for one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Line<'a> {
    /// A line with its newline.
    Whole(&'a [u8]),
    /// A line of so many bytes, newline included, that is longer than allowed. Its text is gone.
    TooLong(u64),
}

/// What ends a line.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Newline {
    /// The byte 0x0A, which is part of no other character.
    #[default]
    Byte,
    /// The unit 0x0A of UTF-16 or UTF-32: counted in whole units from the beginning of the line.
    Unit {
        /// Two bytes or four.
        width: usize,
        /// Whether the byte 0x0A comes last.
        big_endian: bool,
    },
}

impl Newline {
    fn width(self) -> usize {
        match self {
            Newline::Byte => 1,
            Newline::Unit { width, .. } => width,
        }
    }

    /// How many bytes from this place of a file on are the end of a unit that began before it.
    pub fn skew(self, offset: u64) -> usize {
        let width = self.width() as u64;
        ((width - offset % width) % width) as usize
    }

    fn is(self, unit: &[u8]) -> bool {
        let Newline::Unit { width, big_endian } = self else {
            return unit == b"\n";
        };
        let at = if big_endian { width - 1 } else { 0 };
        unit.len() == width
            && unit[at] == b'\n'
            && unit.iter().map(|byte| u32::from(*byte)).sum::<u32>() == u32::from(b'\n')
    }
}

/// Cuts one file's bytes into lines.
#[derive(Debug)]
pub struct Splitter {
    /// The bytes behind the last newline; while they are being skipped, those of a unit that is not whole.
    rest: Vec<u8>,
    /// How many bytes of a line that is too long were skipped already.
    skipping: u64,
    /// Longest line, newline included.
    max_line_size: usize,
}

impl Splitter {
    /// A splitter at the beginning of a line.
    pub fn new(max_line_size: usize) -> Splitter {
        Splitter {
            rest: Vec::new(),
            skipping: 0,
            max_line_size,
        }
    }

    /// How many bytes were fed behind the last newline: they belong to no line yet.
    pub fn unfinished(&self) -> u64 {
        self.rest.len() as u64 + self.skipping
    }

    /// Takes the next bytes of the file and gives each line that they complete.
    #[inline]
    pub fn feed(&mut self, fresh: &[u8], newline: Newline, mut each: impl FnMut(Line<'_>)) {
        if newline != Newline::Byte {
            return self.feed_units(fresh, newline, &mut each);
        }
        let mut start = 0;
        if self.unfinished() > 0 {
            let Some(newline) = memchr(b'\n', fresh) else {
                return self.keep(fresh);
            };
            start = newline + 1;
            self.complete(&fresh[..start], &mut each);
        }
        for newline in memchr_iter(b'\n', &fresh[start..]).map({
            let base = start;
            move |at| base + at
        }) {
            let line = &fresh[start..=newline];
            start = newline + 1;
            if line.len() > self.max_line_size {
                each(Line::TooLong(line.len() as u64));
            } else {
                each(Line::Whole(line));
            }
        }
        self.keep(&fresh[start..]);
    }

    /// Where at most so many lines end in the bytes that come next (behind the last byte where there are fewer), and how many do.
    pub fn end_of(&self, fresh: &[u8], newline: Newline, lines: u64) -> (usize, u64) {
        let (mut end, mut count) = (fresh.len(), 0);
        let mut seen = |at: usize| {
            count += 1;
            end = if count == lines { at } else { end };
            count < lines
        };
        if newline == Newline::Byte {
            memchr_iter(b'\n', fresh).all(|at| seen(at + 1));
        } else {
            self.unit_ends(fresh, newline).into_iter().all(seen);
        }
        (end, count)
    }

    /// As [`Splitter::feed`], where a newline is a unit of several bytes.
    fn feed_units(&mut self, fresh: &[u8], newline: Newline, each: &mut impl FnMut(Line<'_>)) {
        let mut start = 0;
        for end in self.unit_ends(fresh, newline) {
            self.complete(&fresh[start..end], each);
            start = end;
        }
        self.rest.extend_from_slice(&fresh[start..]);
        if self.skipping > 0 || self.rest.len() > self.max_line_size {
            // A unit that is not whole may be the beginning of the newline.
            let whole = self.rest.len() - self.rest.len() % newline.width();
            self.skipping += whole as u64;
            self.rest = self.rest.split_off(whole);
        }
    }

    /// Where the lines end that these bytes complete.
    fn unit_ends(&self, fresh: &[u8], newline: Newline) -> Vec<usize> {
        let width = newline.width();
        let begun = (self.unfinished() % width as u64) as usize;
        let head = (width - begun) % width;
        if fresh.len() < head {
            return Vec::new();
        }
        let mut first = self.rest[self.rest.len() - begun..].to_vec();
        first.extend_from_slice(&fresh[..head]);
        let units = fresh[head..].chunks_exact(width).enumerate();
        let others = units
            .filter(|(_, unit)| newline.is(unit))
            .map(|(at, _)| head + (at + 1) * width);
        let first = (begun > 0 && newline.is(&first)).then_some(head);
        first.into_iter().chain(others).collect()
    }

    /// Gives up waiting for the newline: the unfinished last line as it is, with the number of bytes it stands for.
    pub fn take_rest(&mut self) -> (Vec<u8>, u64) {
        let bytes = self.unfinished();
        if std::mem::take(&mut self.skipping) > 0 {
            self.rest = Vec::new();
        }
        (std::mem::take(&mut self.rest), bytes)
    }

    fn complete(&mut self, end: &[u8], each: &mut impl FnMut(Line<'_>)) {
        let length = self.unfinished() + end.len() as u64;
        if self.skipping > 0 || length > self.max_line_size as u64 {
            each(Line::TooLong(length));
        } else {
            self.rest.extend_from_slice(end);
            each(Line::Whole(&self.rest));
        }
        self.skipping = 0;
        self.rest.clear();
        // A long line's memory is not kept for the short ones that follow.
        self.rest.shrink_to(4096);
    }

    fn keep(&mut self, bytes: &[u8]) {
        let length = self.rest.len() + bytes.len();
        if self.skipping > 0 || length > self.max_line_size {
            self.skipping += length as u64;
            self.rest = Vec::new();
        } else {
            self.rest.extend_from_slice(bytes);
        }
    }
}

/// A line without its one line end, `\n` or `\r\n`.
#[inline]
pub fn chomp(line: &[u8]) -> &[u8] {
    let line = line.strip_suffix(b"\n").unwrap_or(line);
    line.strip_suffix(b"\r").unwrap_or(line)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// A line's text, or the length of one that was too long.
    type Cut = Result<Vec<u8>, u64>;

    fn split(pieces: &[&[u8]], newline: Newline, max: usize) -> (Vec<Cut>, Vec<u8>, u64) {
        let mut splitter = Splitter::new(max);
        let mut lines = Vec::new();
        for piece in pieces {
            splitter.feed(piece, newline, |line| {
                lines.push(match line {
                    Line::Whole(line) => Ok(line.to_vec()),
                    Line::TooLong(length) => Err(length),
                });
            });
        }
        let (rest, bytes) = splitter.take_rest();
        (lines, rest, bytes)
    }

    proptest! {
        #[test]
        fn lines_are_the_same_however_the_bytes_are_split(
            text in prop::collection::vec(prop_oneof![3 => Just(b'\n'), 1 => Just(b'\r'), 10 => any::<u8>()], 0..200),
            cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..10),
            max in 1usize..20,
        ) {
            let pieces = pieces(&text, &cuts);
            let model: Vec<&[u8]> = text.split_inclusive(|byte| *byte == b'\n').collect();
            let whole: Vec<Cut> = model
                .iter()
                .filter(|line| line.ends_with(b"\n"))
                .map(|line| if line.len() > max { Err(line.len() as u64) } else { Ok(line.to_vec()) })
                .collect();
            let last: &[u8] = model.last().copied().filter(|line| !line.ends_with(b"\n")).unwrap_or_default();
            let (lines, rest, bytes) = split(&pieces, Newline::Byte, max);
            prop_assert_eq!(lines, whole);
            prop_assert_eq!(bytes, last.len() as u64);
            prop_assert_eq!(&rest[..], if last.len() > max { &[][..] } else { last });
        }
    }

    /// The text in pieces that end at these places.
    fn pieces<'t>(text: &'t [u8], cuts: &[prop::sample::Index]) -> Vec<&'t [u8]> {
        let mut at: Vec<usize> = cuts.iter().map(|cut| cut.index(text.len() + 1)).collect();
        at.extend([0, text.len()]);
        at.sort_unstable();
        at.windows(2).map(|pair| &text[pair[0]..pair[1]]).collect()
    }

    proptest! {
        #[test]
        fn lines_of_units_are_the_same_however_the_bytes_are_split(
            text in prop::collection::vec(prop_oneof![3 => Just(0), 2 => Just(b'\n'), 1 => any::<u8>()], 0..200),
            cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..10),
            max in 1usize..40,
            width in prop_oneof![Just(2usize), Just(4)],
            big_endian: bool,
        ) {
            let newline = Newline::Unit { width, big_endian };
            let mut end = [0u8; 4];
            end[if big_endian { width - 1 } else { 0 }] = b'\n';
            let mut model: Vec<Vec<u8>> = vec![Vec::new()];
            for unit in text.chunks(width) {
                model.last_mut().expect("one").extend_from_slice(unit);
                if unit == &end[..width] {
                    model.push(Vec::new());
                }
            }
            let last = model.pop().expect("one");
            let whole: Vec<Cut> = model
                .into_iter()
                .map(|line| if line.len() > max { Err(line.len() as u64) } else { Ok(line) })
                .collect();
            let (lines, rest, bytes) = split(&pieces(&text, &cuts), newline, max);
            prop_assert_eq!(lines, whole);
            prop_assert_eq!(bytes, last.len() as u64);
            if last.len() <= max {
                prop_assert_eq!(rest, last);
            }
        }
    }

    #[test]
    fn bytes_are_cut_behind_so_many_lines() {
        let mut splitter = Splitter::new(100);
        let end = |text, lines| Splitter::new(100).end_of(text, Newline::Byte, lines);
        assert_eq!(end(b"a\nb\nc\n", 2), (4, 2));
        assert_eq!(end(b"a\nb\nc", 2), (4, 2));
        assert_eq!(end(b"a\nb", 2), (3, 1));
        let units = Newline::Unit {
            width: 2,
            big_endian: true,
        };
        splitter.feed(b"\0a\0", units, |_| panic!("no line yet"));
        assert_eq!(splitter.end_of(b"\n\n\n\0\n\0b", units, 2), (5, 2));
        assert_eq!(splitter.end_of(b"\n\n\n\0\n\0b", units, 1), (1, 1));
    }

    #[test]
    fn one_line_end_is_removed_and_no_more() {
        assert_eq!(chomp(b"a\r\r\n"), b"a\r");
        assert_eq!(chomp(b"a\n\n"), b"a\n");
        assert_eq!(chomp(b"a"), b"a");
    }
}
