//! The forward protocol as the receiver reads it: PackedForward only, and the body is looked at in passing, never stored.
//!
//! ```text
//! 93  tag (str)  body (str or bin)  8x "size": n "compressed": "text" ["chunk": id]
//! 81 a3 "ack" id                                                                       the answer
//! entry: 92  d7 00 SSSSSSSS NNNNNNNN  81 a7 "message" line (str or bin)
//! ```
//!
//! It shares no code with the agent, so that it can tell when the agent is wrong.

use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::time::Instant;

const LONGEST_ENTRY: usize = 512;
const ENTRY_HEAD: [u8; 3] = [0x92, 0xd7, 0x00];
const MESSAGE: [u8; 9] = *b"\x81\xa7message";

/// One message, without its body.
pub struct Frame {
    /// Events, as its `size` says.
    pub size: u64,
    /// Bytes of the body.
    pub body: u64,
    /// When its first byte was read.
    pub began: Instant,
    /// When its last byte was read.
    pub ended: Instant,
    /// The id to answer, encoded as it came.
    pub chunk: Option<Vec<u8>>,
}

/// A connection's bytes, cut into messages.
pub struct Frames<'a> {
    stream: TcpStream,
    buffer: &'a mut [u8],
    start: usize,
    end: usize,
}

impl<'a> Frames<'a> {
    /// Reads from `stream`, by way of `buffer`.
    pub fn new(stream: TcpStream, buffer: &'a mut [u8]) -> Self {
        Self {
            stream,
            buffer,
            start: 0,
            end: 0,
        }
    }

    /// The next message, its body handed to `look` in pieces; `None` at the end of the connection.
    pub fn next(&mut self, mut look: impl FnMut(&[u8])) -> io::Result<Option<Frame>> {
        if self.start == self.end && self.fill()? == 0 {
            return Ok(None);
        }
        let began = Instant::now();
        if self.byte()? != 0x93 {
            return Err(wrong("the message is no array of three"));
        }
        let tag = self.blob_len()?;
        self.pass(tag, |_| {})?;
        let body = self.blob_len()?;
        self.pass(body, &mut look)?;
        let (size, chunk) = self.option()?;
        Ok(Some(Frame {
            size,
            body,
            began,
            ended: Instant::now(),
            chunk,
        }))
    }

    /// Answers a message that asks for it.
    pub fn ack(&mut self, chunk: &[u8]) -> io::Result<()> {
        let mut answer = b"\x81\xa3ack".to_vec();
        answer.extend_from_slice(chunk);
        self.stream.write_all(&answer)
    }

    fn option(&mut self) -> io::Result<(u64, Option<Vec<u8>>)> {
        let pairs = match self.byte()? {
            map @ 0x80..=0x8f => map & 0x0f,
            _ => return Err(wrong("the option is no small map")),
        };
        let (mut size, mut chunk) = (None, None);
        for _ in 0..pairs {
            match self.blob()?.as_slice() {
                b"size" => size = Some(self.uint()?),
                b"compressed" if self.blob()? == b"text" => {}
                b"chunk" => chunk = Some(str_of(&self.blob()?)),
                _ => return Err(wrong("the option holds something unexpected")),
            }
        }
        Ok((size.ok_or_else(|| wrong("no size"))?, chunk))
    }

    /// The length in the head of a str or bin.
    fn blob_len(&mut self) -> io::Result<u64> {
        match self.byte()? {
            short @ 0xa0..=0xbf => Ok(u64::from(short & 0x1f)),
            0xc4 | 0xd9 => self.number(1),
            0xc5 | 0xda => self.number(2),
            0xc6 | 0xdb => self.number(4),
            _ => Err(wrong("neither str nor bin where one belongs")),
        }
    }

    fn blob(&mut self) -> io::Result<Vec<u8>> {
        let len = self.blob_len()?;
        let mut blob = Vec::new();
        self.pass(len, |piece| blob.extend_from_slice(piece))?;
        Ok(blob)
    }

    fn uint(&mut self) -> io::Result<u64> {
        match self.byte()? {
            small @ 0..=0x7f => Ok(u64::from(small)),
            head @ 0xcc..=0xcf => self.number(1 << (head - 0xcc)),
            _ => Err(wrong("the size is no unsigned integer")),
        }
    }

    fn number(&mut self, bytes: u64) -> io::Result<u64> {
        let mut number = 0;
        for _ in 0..bytes {
            number = number << 8 | u64::from(self.byte()?);
        }
        Ok(number)
    }

    fn byte(&mut self) -> io::Result<u8> {
        let mut byte = 0;
        self.pass(1, |piece| byte = piece[0])?;
        Ok(byte)
    }

    /// Takes `len` bytes through the buffer.
    fn pass(&mut self, mut len: u64, mut look: impl FnMut(&[u8])) -> io::Result<()> {
        while len > 0 {
            if self.start == self.end && self.fill()? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            let have = self.end - self.start;
            let take = usize::try_from(len).map_or(have, |len| len.min(have));
            look(&self.buffer[self.start..self.start + take]);
            self.start += take;
            len -= take as u64;
        }
        Ok(())
    }

    fn fill(&mut self) -> io::Result<usize> {
        self.start = 0;
        self.end = self.stream.read(self.buffer)?;
        Ok(self.end)
    }
}

/// The first and the last entry of a body that passes by.
#[derive(Default)]
pub struct Ends {
    head: Vec<u8>,
    tail: Vec<u8>,
}

impl Ends {
    /// Looks at the next piece of the body.
    pub fn look(&mut self, piece: &[u8]) {
        let missing = LONGEST_ENTRY - self.head.len();
        self.head
            .extend_from_slice(&piece[..missing.min(piece.len())]);
        let last = &piece[piece.len().saturating_sub(LONGEST_ENTRY)..];
        let keep = (LONGEST_ENTRY - last.len()).min(self.tail.len());
        self.tail.drain(..self.tail.len() - keep);
        self.tail.extend_from_slice(last);
    }

    /// The texts of the first and of the last entry. All entries are equally long, which the body's length must agree with.
    pub fn texts(&self, frame: &Frame) -> io::Result<(&[u8], &[u8])> {
        if frame.size == 0 || !frame.body.is_multiple_of(frame.size) {
            return Err(wrong("the body is no multiple of the size"));
        }
        let entry = usize::try_from(frame.body / frame.size).unwrap_or(usize::MAX);
        let last = self
            .tail
            .len()
            .checked_sub(entry)
            .map(|at| &self.tail[at..]);
        let first = self.head.get(..entry).and_then(whole_entry);
        let last = last.and_then(whole_entry);
        first
            .zip(last)
            .ok_or_else(|| wrong("an end of the body is no entry"))
    }
}

/// Hands the text of each entry of a body to `take`.
pub fn texts(mut body: &[u8], mut take: impl FnMut(&[u8])) -> io::Result<()> {
    while !body.is_empty() {
        let (text, rest) = entry(body).ok_or_else(|| wrong("the body holds no entry"))?;
        take(text);
        body = rest;
    }
    Ok(())
}

fn whole_entry(bytes: &[u8]) -> Option<&[u8]> {
    entry(bytes).and_then(|(text, rest)| rest.is_empty().then_some(text))
}

fn entry(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let bytes = bytes.strip_prefix(&ENTRY_HEAD)?.get(8..)?;
    let bytes = bytes.strip_prefix(&MESSAGE)?;
    let (len, text) = match *bytes {
        [short @ 0xa0..=0xbf, ref rest @ ..] => (usize::from(short & 0x1f), rest),
        [0xc4 | 0xd9, len, ref rest @ ..] => (usize::from(len), rest),
        [0xc5 | 0xda, high, low, ref rest @ ..] => {
            (usize::from(u16::from_be_bytes([high, low])), rest)
        }
        _ => return None,
    };
    text.split_at_checked(len)
}

/// A text of up to 255 bytes as MessagePack str.
fn str_of(text: &[u8]) -> Vec<u8> {
    let len = u8::try_from(text.len()).unwrap_or(u8::MAX);
    let mut encoded = if len < 32 {
        vec![0xa0 | len]
    } else {
        vec![0xd9, len]
    };
    encoded.extend_from_slice(&text[..usize::from(len)]);
    encoded
}

fn wrong(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}
