//! One generation of a file: which file it is, how it is opened, and what a look at its path means.
//!
//! A generation is one life of one inode and has exactly one reader. The decisions ([`judge`], [`Resume::doubt`]) are pure;
//! reading is in `read.rs`, the order of generations under a path in `track.rs`.

use std::fs::{File, Metadata, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt};
use std::path::Path;
use std::time::{Instant, SystemTime};

use nix::libc::{EMFILE, ENFILE, EPERM, O_CLOEXEC, O_NOATIME, O_NOCTTY, O_NONBLOCK};

use super::evidence::{Candidate, HEAD, Head, OVERLAP, Overlap, Resume};
use super::group::Quota;
use super::lines::Splitter;
use super::links;
use super::position::{Account, Ledger};
use super::read::READ_SIZE;
use crate::parse::multiline::Joiner;

/// Which file it is, whatever its name: two lives of one inode differ by their birth.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Identity {
    /// The device.
    pub device: u64,
    /// The inode.
    pub inode: u64,
    /// When the inode was born, where the file system knows it.
    pub born: Option<SystemTime>,
}

impl Identity {
    /// The identity of the file that was stat'ed.
    pub fn of(meta: &Metadata) -> Identity {
        Identity {
            device: meta.dev(),
            inode: meta.ino(),
            born: meta.created().ok(),
        }
    }
}

/// What a look at an open file and its path showed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Look {
    /// The path still names the open file.
    Same,
    /// It does, and the file is shorter than what was read: copytruncate.
    Truncated,
    /// The path names another file now, or none.
    Rotated,
}

/// Compares the open file, read up to `position` and `size` bytes long, with what stands at its path.
pub fn judge(open: Identity, position: u64, size: u64, at_path: Option<Identity>) -> Look {
    if at_path != Some(open) {
        Look::Rotated
    } else if size < position {
        Look::Truncated
    } else {
        Look::Same
    }
}

/// What is known about a file that is about to be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// It was read before, in an earlier run or under another name.
    Resumed(Resume),
    /// It stood there at the very first start, and `read_from_head` is false.
    Old,
    /// It is new, or its predecessor at the path was being read, or `read_from_head` is true.
    New,
}

/// Whether a generation stands at its path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// It does.
    Current,
    /// It was rotated away, or its path is no longer asked for. It is given up when it was read to its end, everything in
    /// it is safe, and `rotate_wait` has passed.
    Rotated {
        /// When that was noticed.
        since: Instant,
    },
}

/// A multi-line text that waits for its end.
#[derive(Debug, Default)]
pub struct Held {
    /// The lines so far.
    pub joiner: Joiner,
    /// The bytes of the file that they stand for, those of lines that were too long included.
    pub bytes: u64,
    /// When the last line was added.
    pub since: Option<Instant>,
}

impl Held {
    /// Whether nothing is held.
    pub fn is_empty(&self) -> bool {
        self.joiner.held_bytes() == 0
    }
}

/// A file and how far it was read.
#[derive(Debug)]
pub struct Generation {
    /// The descriptor: all later work uses it, not the path. `None` while it is lent to others, where descriptors are few.
    pub file: Option<File>,
    /// Which file it is.
    pub identity: Identity,
    /// Its position in the ledger.
    pub account: Account,
    /// The next byte to read.
    pub position: u64,
    /// Its length at the last look.
    pub size: u64,
    /// The bytes before the position, by which the next read knows that nothing was truncated.
    pub overlap: Overlap,
    /// The checksum of its first bytes, by which the next start knows it.
    pub head: Head,
    /// What stands behind the last newline.
    pub lines: Splitter,
    /// What a multi-line parser waits to complete.
    pub held: Held,
    /// Whether it stands at its path.
    pub state: State,
    /// How much to read at once: grows while there is a backlog.
    pub read_size: usize,
    /// There may be more to read.
    pub dirty: bool,
    /// When it was written last, as of the last look.
    modified: Option<SystemTime>,
    /// Whether it was read since.
    pub was_read: bool,
    /// When it was read last, in turns of its source.
    pub turn: u64,
    /// What was read of it under `read_bytes_limit_per_second`.
    pub quota: Quota,
}

impl Generation {
    /// A file that is read from `position`, where `before` ends.
    pub fn new(
        opened: Opened,
        (position, before): (u64, &[u8]),
        state: State,
        account: Account,
        lines: Splitter,
    ) -> Generation {
        Generation {
            overlap: Overlap::of(before),
            head: Head::of(&opened.first, position),
            file: Some(opened.file),
            identity: opened.identity,
            account,
            position,
            size: opened.size,
            lines,
            held: Held::default(),
            state,
            read_size: READ_SIZE,
            dirty: true,
            modified: None,
            was_read: true,
            turn: 0,
            quota: Quota::default(),
        }
    }

    /// Bytes that were read and belong to no batch yet: an unfinished line, a held text.
    pub fn uncovered(&self) -> u64 {
        self.lines.unfinished() + self.held.bytes
    }

    /// Whether everything that was there at the last look was read.
    pub fn at_end(&self) -> bool {
        self.position >= self.size
    }

    /// Looks at the file; tells its length. Where its descriptor is lent, `at_path` is what stands at its path.
    pub fn refresh_size(&mut self, at_path: Option<&Metadata>) -> io::Result<u64> {
        match (&self.file, at_path) {
            (Some(file), _) => self.note(&file.metadata()?),
            (None, Some(meta)) if Identity::of(meta) == self.identity => self.note(meta),
            // Only its own descriptor tells what was written to it since: it is taken back for that.
            _ => self.dirty = true,
        }
        Ok(self.size)
    }

    /// Whether the open file can be opened again: a deleted one cannot.
    pub fn has_name(&self) -> bool {
        let meta = self.file.as_ref().map(File::metadata);
        meta.is_some_and(|meta| meta.is_ok_and(|meta| meta.nlink() > 0))
    }

    fn note(&mut self, meta: &Metadata) {
        let modified = meta.modified().ok();
        self.size = meta.len();
        let was_read = std::mem::take(&mut self.was_read);
        // The same length with another time may be another text, if nothing was read meanwhile: the overlap tells.
        let touched = !was_read && self.modified.is_some() && self.modified != modified;
        self.dirty |= touched || self.size != self.position;
        self.modified = modified;
    }

    /// The last `fresh` of these bytes come next: what shows later that the file is the same.
    pub fn know(&mut self, read: &[u8], fresh: usize, ledger: &Ledger) {
        self.overlap = Overlap::of(read);
        if !self.head.is_whole() {
            self.head.advance(&read[read.len() - fresh..]);
            ledger.know_head(self.account, self.head.mark());
        }
    }

    /// The file was truncated: a new life begins at 0.
    pub fn begin_again(&mut self, account: Account, lines: Splitter) {
        self.account = account;
        self.lines = lines;
        self.position = 0;
        self.overlap = Overlap::default();
        self.head = Head::default();
        self.held = Held::default();
        self.dirty = true;
    }
}

/// A file that was opened for reading.
#[derive(Debug)]
pub struct Opened {
    /// The descriptor.
    pub file: File,
    /// Which file it is.
    pub identity: Identity,
    /// Its length when it was opened.
    pub size: u64,
    /// Its first bytes.
    pub first: Vec<u8>,
}

impl Opened {
    /// Where reading begins, the bytes before that, and why that is not where it was expected.
    pub fn start(&self, origin: Origin) -> io::Result<(u64, Vec<u8>, Option<&'static str>)> {
        let resume = match origin {
            Origin::New => return Ok((0, Vec::new(), None)),
            Origin::Old => return Ok((self.size, self.before(self.size)?, None)),
            Origin::Resumed(resume) => resume,
        };
        let before = self.before(resume.position)?;
        let candidate = Candidate {
            size: self.size,
            born: self.identity.born,
            first: &self.first,
            before: &before,
        };
        Ok(match resume.doubt(candidate) {
            None => (resume.position, before, None),
            doubt => (0, Vec::new(), doubt),
        })
    }

    /// The last bytes before a position, as far as there are any.
    pub fn before(&self, position: u64) -> io::Result<Vec<u8>> {
        let mut bytes = vec![0; OVERLAP.min(usize::try_from(position).unwrap_or(OVERLAP))];
        let from = position - bytes.len() as u64;
        let read = self.file.read_at(&mut bytes, from)?;
        bytes.truncate(read);
        Ok(bytes)
    }
}

/// Opens a regular file for reading; anything else is refused, before and after it is opened. A symbolic link is followed
/// where [`links`] trusts it. Reading leaves its access time as it is: otherwise each line that is written and read would make the
/// file system write the inode anew.
pub fn open(path: &Path) -> io::Result<Opened> {
    refuse_irregular(&std::fs::metadata(path)?)?;
    let file = open_with(path, O_NOATIME).or_else(|error| match error.raw_os_error() {
        // Only its owner and root may leave no trace in it.
        Some(EPERM) => open_with(path, 0),
        _ => Err(error),
    })?;
    let meta = file.metadata()?;
    refuse_irregular(&meta)?;
    links::check(path, &meta)?;
    let mut first = vec![0; HEAD];
    let length = file.read_at(&mut first, 0)?;
    first.truncate(length);
    if let Some(kind) = compression(&first) {
        return Err(io::Error::new(
            io::ErrorKind::InvalidData,
            format!("it is compressed ({kind})"),
        ));
    }
    Ok(Opened {
        file,
        identity: Identity::of(&meta),
        size: meta.len(),
        first,
    })
}

fn open_with(path: &Path, flags: i32) -> io::Result<File> {
    OpenOptions::new()
        .read(true)
        .custom_flags(O_NONBLOCK | O_CLOEXEC | O_NOCTTY | flags)
        .open(path)
}

/// Whether the process, or the system, has no descriptor left.
pub fn is_short_of_descriptors(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(EMFILE | ENFILE))
}

fn refuse_irregular(meta: &Metadata) -> io::Result<()> {
    if meta.is_file() {
        return Ok(());
    }
    let what = if meta.is_dir() {
        "a directory"
    } else {
        "a device, pipe or socket"
    };
    Err(io::Error::new(
        io::ErrorKind::InvalidInput,
        format!("it is {what}, not a regular file"),
    ))
}

fn compression(head: &[u8]) -> Option<&'static str> {
    match head {
        [0x1f, 0x8b, ..] => Some("gzip"),
        [0x28, 0xb5, 0x2f, 0xfd, ..] => Some("zstd"),
        [0xfd, b'7', b'z', b'X', b'Z', 0, ..] => Some("xz"),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(inode: u64, born: u64) -> Identity {
        Identity {
            device: 1,
            inode,
            born: Some(SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(born)),
        }
    }

    #[test]
    fn a_look_tells_rotation_from_truncation_and_growth() {
        let open = file(7, 100);
        assert_eq!(judge(open, 10, 10, Some(open)), Look::Same);
        assert_eq!(judge(open, 10, 20, Some(open)), Look::Same);
        assert_eq!(judge(open, 10, 9, Some(open)), Look::Truncated);
        assert_eq!(judge(open, 10, 20, None), Look::Rotated);
        assert_eq!(judge(open, 10, 20, Some(file(8, 100))), Look::Rotated);
    }

    #[test]
    fn a_reused_inode_is_another_file() {
        assert_eq!(
            judge(file(7, 100), 10, 20, Some(file(7, 101))),
            Look::Rotated
        );
    }

    #[test]
    fn reading_begins_where_fluentd_begins() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("app.log");
        std::fs::write(&path, "line\nhalf").expect("a file");
        let opened = open(&path).expect("a plain file");
        let start = |origin| {
            let (position, before, doubt) = opened.start(origin).expect("readable");
            (position, before.len(), doubt.is_some())
        };
        let resumed = |position| {
            Origin::Resumed(Resume {
                position,
                ..Resume::default()
            })
        };
        assert_eq!(start(resumed(5)), (5, 5, false));
        assert_eq!(start(resumed(9)), (0, 0, true), "in the middle of a line");
        assert_eq!(start(resumed(10)), (0, 0, true), "behind the end");
        assert_eq!(start(Origin::Old), (9, 9, false));
        assert_eq!(start(Origin::New), (0, 0, false));
    }

    #[test]
    fn only_plain_files_are_opened() {
        let dir = tempfile::tempdir().expect("a directory");
        assert!(open(dir.path()).is_err());
        assert!(open(Path::new("/dev/null")).is_err());
        let pipe = dir.path().join("pipe");
        nix::unistd::mkfifo(&pipe, nix::sys::stat::Mode::S_IRWXU).expect("a pipe");
        assert!(open(&pipe).is_err());
        let packed = dir.path().join("app.log");
        std::fs::write(&packed, [0x1f, 0x8b, 8, 0]).expect("a file");
        assert!(open(&packed).is_err());
        std::fs::write(&packed, "text\n").expect("a file");
        assert_eq!(open(&packed).expect("a plain file").size, 5);
    }
}
