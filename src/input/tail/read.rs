//! From a read to a batch: lines are cut, joined and parsed into entries, and emitted under one receipt.
//!
//! One read gives one batch and one clock reading; nothing is allocated per line. The batch covers the bytes up to the end of
//! its last line, skipped lines included; an unfinished line or a held multi-line text is left to a later one.

use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tracing::warn;

use super::complaints::Complaints;
use super::encoding::{Encodings, utf8};
use super::evidence::OVERLAP;
use super::file::{Generation, Held};
use super::lines::{Line, chomp};
use super::params::Params;
use super::position::{Account, Covered, Ledger};
use super::throttle::{Hold, Throttle};
use crate::event::{Collector, Entries, EventStream, EventTime, Room, Tag};
use crate::input::{Progress, Skipped, Surroundings};
use crate::parse::multiline::{Joined, Joining};
use crate::parse::{Extra, Parsed, Parser, Partly};

/// The first read of a file, and what it grows to while there is a backlog.
pub const READ_SIZE: usize = 64 << 10;
const MAX_READ_SIZE: usize = 1 << 20;
/// One read of one file, the entries that are made of it, and what the allocator keeps of batches that other threads have freed (`cargo bench
/// -- away` shows it): sources read one file after the other.
pub const MOST_MEMORY: usize = 12 * MAX_READ_SIZE;
/// How much of one file is read before the others are looked at.
const TURN: u64 = 4 << 20;
/// How much of a line a message shows.
const SHOWN: usize = 512;

/// What a source's batches have in common.
pub struct Reader {
    /// Turns texts into entries.
    pub parser: Box<dyn Parser>,
    /// Where batches go.
    pub collector: Arc<dyn Collector>,
    /// Makes what was emitted leave, when the source waits for it.
    pub hasten: Arc<dyn Fn() + Send + Sync>,
    /// Who counts what is safe.
    pub ledger: Arc<Ledger>,
    /// What is told.
    pub progress: Arc<Progress>,
    /// Bytes that may be read and not safe.
    pub read_ahead: u64,
    /// `path_key`.
    pub path_key: Option<String>,
    /// `encoding` and `from_encoding`.
    pub encodings: Encodings,
    /// `<group>` and `read_bytes_limit_per_second`.
    pub throttle: Throttle,
    /// `emit_unmatched_lines`.
    pub emit_unmatched_lines: bool,
    /// Whether texts are emitted that do not match: the same, but for a multi-line parser.
    pub emit_unmatched_texts: bool,
    /// `read_lines_limit`.
    pub read_lines_limit: u64,
    /// Longest text, multi-line or not.
    pub max_line_size: u64,
    /// The read buffer of all files.
    pub buffer: Vec<u8>,
    /// Bytes of entries per byte read, as of the last batch: what to reserve for the next.
    pub expansion: f32,
    /// Keeps messages about lines rare.
    pub complaints: Complaints,
}

/// Where a batch comes from.
#[derive(Clone, Copy)]
pub struct Source<'a> {
    /// The tag of the file.
    pub tag: &'a Tag,
    /// Its path, for messages and `path_key`.
    pub path: &'a Path,
}

/// How a file's turn ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Turn {
    /// There is nothing more to read now.
    End,
    /// There may be more; the others come first.
    More,
    /// A bound is reached: there may be more, and it stays in the file.
    Blocked,
    /// A limit of the configuration is reached: there may be more, and it stays in the file. The throttle says until when.
    Throttled,
    /// What was read last does not stand there any more: the file was truncated, and may have grown again.
    Changed,
}

/// What one read gave.
enum Got {
    Bytes(usize),
    Other,
}

impl Reader {
    /// The reader that these parameters ask for.
    pub fn new(
        params: &Params,
        parser: Box<dyn Parser>,
        read_ahead: u64,
        ledger: Arc<Ledger>,
        surroundings: &Surroundings,
    ) -> Reader {
        Reader {
            parser,
            collector: surroundings.collector.clone(),
            hasten: surroundings.hasten.clone(),
            ledger,
            progress: surroundings.progress.clone(),
            read_ahead,
            path_key: params.path_key.clone(),
            encodings: params.encodings(),
            throttle: params.throttle(),
            emit_unmatched_lines: params.emit_unmatched_lines,
            emit_unmatched_texts: params.emit_unmatched_lines || params.emit_unmatched_texts,
            read_lines_limit: params
                .read_lines_limit
                .filter(|limit| *limit > 0)
                .unwrap_or(u64::MAX),
            max_line_size: params.line_limit(),
            buffer: Vec::new(),
            expansion: 1.5,
            complaints: Complaints::default(),
        }
    }

    /// Whether a batch under this tag may be read.
    pub fn has_room(&self, tag: &Tag) -> bool {
        if self.ledger.in_flight() >= self.read_ahead {
            (self.hasten)();
            return false;
        }
        self.collector.room(tag) == Room::Ready
    }

    /// Reads from one file until its end, its turn's end, or a bound.
    pub fn turn(&mut self, generation: &mut Generation, source: Source<'_>) -> Turn {
        let end = generation.position + TURN;
        while generation.position < end {
            if !self.has_room(source.tag) {
                return Turn::Blocked;
            }
            match self.throttle.hold(generation, source.path, &self.ledger) {
                Hold::Free => {}
                Hold::Wait => return Turn::Throttled,
                Hold::Nothing => {
                    generation.dirty = false;
                    return Turn::Throttled;
                }
            }
            let wanted = generation.read_size;
            match self.read(generation, source) {
                Ok(Got::Other) => return Turn::Changed,
                Ok(Got::Bytes(read)) if read < wanted => {
                    generation.dirty = false;
                    generation.read_size = READ_SIZE;
                    // What a backlog needed is given back.
                    self.buffer.truncate(READ_SIZE + OVERLAP);
                    self.buffer.shrink_to(READ_SIZE + OVERLAP);
                    return Turn::End;
                }
                Ok(Got::Bytes(_)) => generation.read_size = (wanted * 4).min(MAX_READ_SIZE),
                Err(error) => {
                    // The sweep tries again; a file that can never be read again is seen as rotated or gone.
                    generation.dirty = false;
                    if let Some(unsaid) = self.complaints.allow(EventTime::now()) {
                        warn!(path = %source.path.display(), position = generation.position, %error, unsaid, "cannot read, trying again");
                    }
                    return Turn::End;
                }
            }
        }
        Turn::More
    }

    /// One read, which begins with the bytes that were read last.
    fn read(&mut self, generation: &mut Generation, source: Source<'_>) -> std::io::Result<Got> {
        let Some(file) = &generation.file else {
            // Its descriptor is lent: whoever gives the turn takes it back before.
            return Err(std::io::ErrorKind::NotFound.into());
        };
        let before = generation.overlap.len();
        let wanted = before + generation.read_size;
        let mut buffer = std::mem::take(&mut self.buffer);
        if buffer.len() < wanted {
            buffer.resize(wanted, 0);
        }
        let read = file.read_at(&mut buffer[..wanted], generation.position - before as u64);
        let got = read.map(|length| match buffer[..length].split_at_checked(before) {
            Some((known, fresh)) if generation.overlap.fits(known) => {
                generation.was_read = true;
                if fresh.is_empty() {
                    return Got::Bytes(0);
                }
                let newline = self.encodings.newline;
                let allowed = self.throttle.cut(generation, source.path, fresh, newline);
                let (taken, left) = fresh.split_at(allowed);
                generation.know(&buffer[..before + taken.len()], taken.len(), &self.ledger);
                self.take(generation, source, taken);
                if left.is_empty() {
                    Got::Bytes(fresh.len())
                } else {
                    // As if the file had given all that was asked for: there is more.
                    Got::Bytes(generation.read_size)
                }
            }
            _ => Got::Other,
        });
        self.buffer = buffer;
        got
    }

    /// Makes one batch (several where `read_lines_limit` says so) of the next bytes of a file.
    fn take(&mut self, generation: &mut Generation, source: Source<'_>, fresh: &[u8]) {
        let now = EventTime::now();
        Progress::add(&self.progress.bytes, fresh.len() as u64);
        let begun = generation.position - generation.lines.unfinished();
        // A file whose end was looked at in the middle of a character: what is left of that one is no text.
        let skew = self.encodings.newline.skew(begun).min(fresh.len());
        let mut end = begun + skew as u64;
        generation.position += fresh.len() as u64;
        let fresh = &fresh[skew..];
        generation.size = generation.size.max(generation.position);
        let reserve = (fresh.len() as f32 * self.expansion) as usize + 256;
        let account = generation.account;
        let Generation { lines, held, .. } = generation;
        let newline = self.encodings.newline;
        let mut transcoder = self.encodings.transcoder.take();
        let mut batch = self.begin(source, now, reserve);
        let joins = batch.reader.parser.joining().is_some();
        let plain = !joins && transcoder.is_none();
        lines.feed(fresh, newline, |line| {
            match line {
                Line::Whole(line) if plain => batch.single(chomp(line)),
                Line::Whole(line) => {
                    batch.whole(utf8(&mut transcoder, line), line.len() as u64, held);
                }
                Line::TooLong(length) => {
                    batch.too_long(length);
                    if !held.is_empty() {
                        held.bytes += length;
                    }
                }
            }
            end += match line {
                Line::Whole(line) => line.len() as u64,
                Line::TooLong(length) => length,
            };
            batch.lines += 1;
            if batch.lines >= batch.reader.read_lines_limit {
                batch.emit(account, end - held.bytes, reserve);
            }
        });
        if joins && end > begun {
            held.since = Some(Instant::now());
        }
        if batch.lines > 0 {
            let made = batch.entries.len();
            batch.emit(account, end - held.bytes, 0);
            self.expansion = (made as f32 / fresh.len().max(1) as f32 * 1.1).clamp(0.1, 16.0);
        }
        self.encodings.transcoder = transcoder;
    }

    fn begin<'r>(&'r mut self, source: Source<'r>, now: EventTime, reserve: usize) -> Batch<'r> {
        let path = source.path.as_os_str().as_bytes();
        Batch {
            field: self.path_key.clone().map(|key| (key, path)),
            entries: Entries::with_capacity(reserve).labelled(self.encodings.label),
            reader: self,
            source,
            now,
            lines: 0,
            skipped: Skipped::default(),
        }
    }

    /// Parses a held multi-line text that waits for a first line, when its last line is older than `age` and no other waits in the
    /// file. False where there is no room for it.
    pub fn flush_held(
        &mut self,
        generation: &mut Generation,
        source: Source<'_>,
        age: Duration,
    ) -> bool {
        let due = |since: Instant| since.elapsed() >= age;
        let held = &generation.held;
        let joining = self.parser.joining();
        if held.is_empty()
            || generation.dirty
            || !held.since.is_none_or(due)
            || !joining.is_some_and(Joining::needs_first_line)
        {
            return true;
        }
        if !self.has_room(source.tag) {
            return false;
        }
        let end = generation.position - generation.lines.unfinished();
        let mut batch = self.begin(
            source,
            EventTime::now(),
            generation.held.joiner.held_bytes() * 2,
        );
        batch.flush(&mut generation.held);
        batch.emit(generation.account, end, 0);
        true
    }

    /// Nothing more will come: parses the held text and the line without a newline, room or not.
    pub fn flush_rest(&mut self, generation: &mut Generation, source: Source<'_>) {
        if generation.uncovered() == 0 {
            return;
        }
        let (rest, bytes) = generation.lines.take_rest();
        let mut transcoder = self.encodings.transcoder.take();
        let mut batch = self.begin(source, EventTime::now(), rest.len() * 2 + 256);
        if !rest.is_empty() {
            batch.lines = 1;
            batch.whole(utf8(&mut transcoder, &rest), bytes, &mut generation.held);
        }
        batch.flush(&mut generation.held);
        batch.emit(generation.account, generation.position, 0);
        self.encodings.transcoder = transcoder;
    }
}

/// A batch that is being made.
struct Batch<'r> {
    reader: &'r mut Reader,
    source: Source<'r>,
    field: Option<(String, &'r [u8])>,
    entries: Entries,
    now: EventTime,
    lines: u64,
    skipped: Skipped,
}

impl Batch<'_> {
    #[inline]
    fn parse(&mut self, text: &[u8]) -> Parsed {
        let extra = Extra {
            field: self.field.as_ref().map(|(key, path)| (key.as_str(), *path)),
        };
        self.reader
            .parser
            .parse(text, self.now, extra, &mut self.entries)
    }

    #[inline]
    fn single(&mut self, text: &[u8]) {
        let parsed = self.parse(text);
        if !matches!(parsed, Parsed::Events(_)) {
            self.complain(text, parsed, "pattern not matched:");
        }
    }

    /// A line that stands for so many bytes of the file, parsed by itself or joined with others.
    fn whole(&mut self, line: &[u8], bytes: u64, held: &mut Held) {
        if self.reader.parser.joining().is_some() {
            self.join(line, bytes, held);
        } else {
            self.single(chomp(line));
        }
    }

    /// Adds a line of so many bytes to a multi-line text, and parses the text that it completes.
    fn join(&mut self, line: &[u8], bytes: u64, held: &mut Held) {
        let Some(joining) = self.reader.parser.joining() else {
            return;
        };
        match held.joiner.push(line, joining) {
            Joined::Held => held.bytes += bytes,
            Joined::Complete(text) => {
                held.bytes = if held.is_empty() { 0 } else { bytes };
                self.single(&text);
            }
            Joined::Stray => {
                self.warn(line, "got incomplete line before first line:");
                if self.reader.emit_unmatched_lines {
                    // As in Fluentd, it may match all the same.
                    self.single(chomp(line));
                } else {
                    self.skipped.unmatched += 1;
                }
            }
        }
    }

    fn flush(&mut self, held: &mut Held) {
        held.bytes = 0;
        if let Some(text) = held.joiner.flush() {
            let parsed = self.parse(&text);
            self.complain(&text, parsed, "got incomplete line at shutdown:");
        }
    }

    /// Tells what of a text gave no event (`unmatched` are the words for what has not the parser's form), and emits what is to be
    /// emitted of it.
    fn complain(&mut self, text: &[u8], parsed: Parsed, unmatched: &str) {
        let partly = match parsed {
            Parsed::Events(_) => return,
            Parsed::Partly(partly) => partly,
            Parsed::Unmatched => Partly {
                unmatched: 1,
                ..Partly::default()
            },
            Parsed::Invalid(reason) => Partly {
                invalid: Some(reason),
                ..Partly::default()
            },
        };
        let emits = self.reader.emit_unmatched_texts && partly.unmatched > 0;
        // A multi-line parser of Fluentd's makes an event of it, and nobody hears of it.
        if partly.unmatched > 0 && !(emits && self.reader.parser.joining().is_some()) {
            self.warn(text, unmatched);
        }
        if emits {
            (0..partly.unmatched).for_each(|_| self.unmatched(&text[partly.from..]));
        } else if partly.events == 0 {
            self.skipped.unmatched += u64::from(partly.invalid.is_none());
            self.skipped.invalid += u64::from(partly.invalid.is_some());
        }
        if let Some(reason) = partly.invalid {
            self.warn(text, &format!("invalid line found: {reason}:"));
        }
    }

    fn unmatched(&mut self, text: &[u8]) {
        let mut record = self.entries.begin(self.now);
        record.bin("unmatched_line", text);
        if let Some((key, path)) = self
            .field
            .as_ref()
            .filter(|(key, _)| key != "unmatched_line")
        {
            record.str(key, path);
        }
        record.finish();
    }

    fn too_long(&mut self, length: u64) {
        self.skipped.too_long += 1;
        if let Some(unsaid) = self.reader.complaints.allow(self.now) {
            let (path, limit) = (self.source.path.display(), self.reader.max_line_size);
            warn!(%path, length, limit, unsaid, "received line length is longer than max_line_size, it is skipped");
        }
    }

    fn warn(&mut self, text: &[u8], what: &str) {
        if let Some(unsaid) = self.reader.complaints.allow(self.now) {
            let shown = String::from_utf8_lossy(&text[..text.len().min(SHOWN)]);
            warn!(path = %self.source.path.display(), unsaid, "{what} {shown:?}");
        }
    }

    /// Gives the entries so far to the collector as the batch that covers everything up to `end`, and begins the next with
    /// `reserve` bytes.
    fn emit(&mut self, account: Account, end: u64, reserve: usize) {
        let entries = std::mem::replace(
            &mut self.entries,
            Entries::with_capacity(reserve).labelled(self.reader.encodings.label),
        );
        let progress = &self.reader.progress;
        let covered = Covered {
            end,
            lines: std::mem::take(&mut self.lines),
            skipped: std::mem::take(&mut self.skipped),
        };
        Progress::add(&progress.lines, covered.lines);
        Progress::add(&progress.skipped, covered.skipped.sum());
        let receipt = self.reader.ledger.cover(account, covered);
        if entries.is_empty() {
            // Skipped lines are as safe as they will ever be.
            if let Some(receipt) = receipt {
                receipt.release();
            }
            return;
        }
        let (entries, count) = entries.freeze();
        self.reader.collector.emit(EventStream {
            tag: self.source.tag.clone(),
            entries,
            count,
            // Without new bytes there is nobody to tell: an older batch covers them.
            receipt: receipt.unwrap_or_else(crate::event::Receipt::none),
        });
    }
}
