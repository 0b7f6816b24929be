//! The bare loop: the least that any agent must do, in one thread of this process. What it takes is the measure of catch-up.

use std::fs::File;
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

const READ: usize = 1 << 20;
const FULL: usize = 8 << 20;
/// `93`, the tag, and the head of a body whose length is filled in at the end.
const HEAD: &[u8] = b"\x93\xa8bare.app\xdb\0\0\0\0";

/// Sends every line of a file: reads 1 MiB, splits, wraps each line as `[EventTime, {"message": line}]`, sends 8 MiB as one
/// PackedForward and waits for its ack.
pub fn run(file: &Path, server: SocketAddr) -> io::Result<()> {
    let mut file = File::open(file)?;
    let mut sender = Sender::connect(server)?;
    let mut buffer = vec![0; 2 * READ];
    let mut kept = 0;
    loop {
        let read = file.read(&mut buffer[kept..kept + READ])?;
        if read == 0 {
            break;
        }
        let text = &buffer[..kept + read];
        let prefix = prefix();
        let mut start = 0;
        for end in memchr::memchr_iter(b'\n', text) {
            sender.message.push(&prefix, &text[start..end]);
            start = end + 1;
        }
        let rest = start..text.len();
        kept = rest.len();
        buffer.copy_within(rest, 0);
        if sender.message.bytes.len() >= FULL {
            sender.send()?;
        }
    }
    if sender.message.size > 0 {
        sender.send()?;
    }
    Ok(())
}

/// Everything of an entry before the line, with one clock reading for a whole read.
fn prefix() -> [u8; 20] {
    let now = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    let mut prefix = *b"\x92\xd7\0SSSSNNNN\x81\xa7message";
    prefix[3..7].copy_from_slice(&(now.as_secs() as u32).to_be_bytes());
    prefix[7..11].copy_from_slice(&now.subsec_nanos().to_be_bytes());
    prefix
}

struct Message {
    bytes: Vec<u8>,
    size: u32,
}

impl Message {
    fn new() -> Self {
        let mut bytes = Vec::with_capacity(FULL + 2 * READ);
        bytes.extend_from_slice(HEAD);
        Self { bytes, size: 0 }
    }

    #[inline]
    fn push(&mut self, prefix: &[u8], line: &[u8]) {
        self.bytes.extend_from_slice(prefix);
        match u8::try_from(line.len()) {
            Ok(len) => self.bytes.extend_from_slice(&[0xc4, len]),
            Err(_) => {
                self.bytes.push(0xc6);
                self.bytes
                    .extend_from_slice(&(line.len() as u32).to_be_bytes());
            }
        }
        self.bytes.extend_from_slice(line);
        self.size += 1;
    }
}

/// A connection, and the message that is being made for it.
pub struct Sender {
    stream: TcpStream,
    message: Message,
    sent: u64,
}

impl Sender {
    /// Connects; nothing is sent yet.
    pub fn connect(server: SocketAddr) -> io::Result<Self> {
        let stream = TcpStream::connect(server)?;
        stream.set_nodelay(true)?;
        Ok(Self {
            stream,
            message: Message::new(),
            sent: 0,
        })
    }

    /// Adds a line, with a clock reading of its own.
    pub fn push(&mut self, line: &[u8]) {
        self.message.push(&prefix(), line);
    }

    /// Sends the message and waits for its ack.
    pub fn send(&mut self) -> io::Result<()> {
        let message = &mut self.message;
        let id = format!("{:024}\n", self.sent);
        let body = (message.bytes.len() - HEAD.len()) as u32;
        message.bytes[HEAD.len() - 4..HEAD.len()].copy_from_slice(&body.to_be_bytes());
        message.bytes.extend_from_slice(b"\x83\xa4size\xce");
        message.bytes.extend_from_slice(&message.size.to_be_bytes());
        message
            .bytes
            .extend_from_slice(b"\xaacompressed\xa4text\xa5chunk\xb9");
        message.bytes.extend_from_slice(id.as_bytes());
        self.stream.write_all(&message.bytes)?;
        let mut answer = [0; 31];
        let ack = [b"\x81\xa3ack\xb9", id.as_bytes()].concat();
        self.stream.read_exact(&mut answer[..ack.len()])?;
        if answer[..] != ack[..] {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "a wrong ack"));
        }
        self.sent += 1;
        message.bytes.truncate(HEAD.len());
        message.size = 0;
        Ok(())
    }
}
