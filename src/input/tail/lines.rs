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

/// Cuts one file's bytes into lines.
#[derive(Debug)]
pub struct Splitter {
    /// The bytes behind the last newline, unless they are being skipped.
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
    pub fn feed(&mut self, fresh: &[u8], mut each: impl FnMut(Line<'_>)) {
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

    /// Gives up waiting for the newline: the unfinished last line as it is, with the number of bytes it stands for.
    pub fn take_rest(&mut self) -> (Vec<u8>, u64) {
        let bytes = self.unfinished();
        self.skipping = 0;
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

    fn split(pieces: &[&[u8]], max: usize) -> (Vec<Cut>, Vec<u8>, u64) {
        let mut splitter = Splitter::new(max);
        let mut lines = Vec::new();
        for piece in pieces {
            splitter.feed(piece, |line| {
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
            let mut at: Vec<usize> = cuts.iter().map(|cut| cut.index(text.len() + 1)).collect();
            at.extend([0, text.len()]);
            at.sort_unstable();
            let pieces: Vec<&[u8]> = at.windows(2).map(|pair| &text[pair[0]..pair[1]]).collect();
            let model: Vec<&[u8]> = text.split_inclusive(|byte| *byte == b'\n').collect();
            let whole: Vec<Cut> = model
                .iter()
                .filter(|line| line.ends_with(b"\n"))
                .map(|line| if line.len() > max { Err(line.len() as u64) } else { Ok(line.to_vec()) })
                .collect();
            let last: &[u8] = model.last().copied().filter(|line| !line.ends_with(b"\n")).unwrap_or_default();
            let (lines, rest, bytes) = split(&pieces, max);
            prop_assert_eq!(lines, whole);
            prop_assert_eq!(bytes, last.len() as u64);
            prop_assert_eq!(&rest[..], if last.len() > max { &[][..] } else { last });
        }
    }

    #[test]
    fn one_line_end_is_removed_and_no_more() {
        assert_eq!(chomp(b"a\r\r\n"), b"a\r");
        assert_eq!(chomp(b"a\n\n"), b"a\n");
        assert_eq!(chomp(b"a"), b"a");
    }
}
