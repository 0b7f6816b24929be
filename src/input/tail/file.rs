//! One generation of a file: which file it is, how it is opened, and what a look at its path means.
//!
//! A generation is one life of one inode and has exactly one reader. The decisions ([`judge`], [`start_position`]) are pure;
//! reading is in `read.rs`, the order of generations under a path in `track.rs`.

use std::fs::{File, Metadata, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt};
use std::path::Path;
use std::time::{Instant, SystemTime};

use nix::libc::{O_CLOEXEC, O_NOCTTY, O_NONBLOCK};

use super::group::Quota;
use super::lines::Splitter;
use super::position::Account;
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
    /// It was read up to here, in an earlier run or under another name.
    Resumed(u64),
    /// It stood there at the very first start, and `read_from_head` is false.
    Old,
    /// It is new, or its predecessor at the path was being read, or `read_from_head` is true.
    New,
}

/// Where reading begins in a file of `size` bytes.
pub fn start_position(origin: Origin, size: u64) -> u64 {
    match origin {
        Origin::Resumed(position) if position <= size => position,
        // Shorter than what was read: truncated meanwhile.
        Origin::Resumed(_) | Origin::New => 0,
        Origin::Old => size,
    }
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

/// An open file and how far it was read.
#[derive(Debug)]
pub struct Generation {
    /// The descriptor: all later work uses it, not the path.
    pub file: File,
    /// Which file it is.
    pub identity: Identity,
    /// Its position in the ledger.
    pub account: Account,
    /// The next byte to read.
    pub position: u64,
    /// Its length at the last look.
    pub size: u64,
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
    /// What was read of it under `read_bytes_limit_per_second`.
    pub quota: Quota,
}

impl Generation {
    /// Bytes that were read and belong to no batch yet: an unfinished line, a held text.
    pub fn uncovered(&self) -> u64 {
        self.lines.unfinished() + self.held.bytes
    }

    /// Whether everything that was there at the last look was read.
    pub fn at_end(&self) -> bool {
        self.position >= self.size
    }

    /// Looks at the open file; tells its length.
    pub fn refresh_size(&mut self) -> io::Result<u64> {
        self.size = self.file.metadata()?.len();
        if self.size > self.position {
            self.dirty = true;
        }
        Ok(self.size)
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
}

/// Opens a regular file for reading; anything else is refused, before and after it is opened. Links are followed.
pub fn open(path: &Path) -> io::Result<Opened> {
    refuse_irregular(&std::fs::metadata(path)?)?;
    let file = OpenOptions::new()
        .read(true)
        .custom_flags(O_NONBLOCK | O_CLOEXEC | O_NOCTTY)
        .open(path)?;
    let meta = file.metadata()?;
    refuse_irregular(&meta)?;
    let mut head = [0; 6];
    let length = file.read_at(&mut head, 0)?;
    if let Some(kind) = compression(&head[..length]) {
        return Err(io::Error::new(
            io::ErrorKind::InvalidData,
            format!("it is compressed ({kind})"),
        ));
    }
    Ok(Opened {
        file,
        identity: Identity::of(&meta),
        size: meta.len(),
    })
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
        assert_eq!(start_position(Origin::Resumed(5), 9), 5);
        assert_eq!(start_position(Origin::Resumed(9), 9), 9);
        assert_eq!(start_position(Origin::Resumed(10), 9), 0);
        assert_eq!(start_position(Origin::Old, 9), 9);
        assert_eq!(start_position(Origin::New, 9), 0);
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
