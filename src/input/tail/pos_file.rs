//! The pos_file: its text, its lock and its careful replacement. What stands in it is decided by `position.rs`.
//!
//! ```text
//! /var/log/app.log TAB 00000000000004d2 TAB 00000000000a1b2c LF      path, position, inode; one line per path
//! ```
//!
//! The format is Fluentd's: a td-agent's file is taken over as it is, and td-agent reads ours.

use std::collections::HashMap;
use std::fs::{self, File, FileTimes, OpenOptions, TryLockError};
use std::io::{self, Write};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use anyhow::{Context, bail};
use nix::libc::O_NOFOLLOW;
use nix::unistd::{AccessFlags, access};

use super::clock::CLOCK_SLACK;

/// The position that marks a file that is no longer watched.
const UNWATCHED: u64 = u64::MAX;

/// One line: how far which inode was read that this path names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// The path under which the file is watched.
    pub path: PathBuf,
    /// Everything before this byte is safe.
    pub position: u64,
    /// The inode that the position belongs to.
    pub inode: u64,
}

/// What a pos_file's text says.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Parsed {
    /// One entry per path and inode, in the order of the file; of repeated ones the last.
    pub entries: Vec<Entry>,
    /// Lines that were not understood.
    pub unparsable: usize,
}

/// Reads a pos_file's text as leniently as Fluentd does: any number of hex digits in either case, anything behind them.
/// Entries that are marked as unwatched, or were never bound to an inode, are dropped. With Fluentd's `follow_inodes` one path
/// stands there with several inodes; all are kept, the last is the path's own.
pub fn parse(text: &[u8]) -> Parsed {
    let mut unparsable = 0;
    let mut last: HashMap<(PathBuf, u64), (usize, u64)> = HashMap::new();
    let mut lines = text.split(|byte| *byte == b'\n').enumerate().peekable();
    while let Some((number, line)) = lines.next() {
        let is_whole = lines.peek().is_some() || has_whole_inode(line);
        match parse_line(line).filter(|_| is_whole) {
            Some(entry) => {
                last.insert((entry.path, entry.inode), (number, entry.position));
            }
            None if line.is_empty() => {}
            None => unparsable += 1,
        }
    }
    let mut watched: Vec<_> = last
        .into_iter()
        .filter(|((_, inode), (_, position))| *inode != 0 && *position != UNWATCHED)
        .collect();
    watched.sort_unstable_by_key(|(_, (number, _))| *number);
    let entries = watched
        .into_iter()
        .map(|((path, inode), (_, position))| Entry {
            path,
            position,
            inode,
        })
        .collect();
    Parsed {
        entries,
        unparsable,
    }
}

fn parse_line(line: &[u8]) -> Option<Entry> {
    let mut fields = line.splitn(3, |byte| *byte == b'\t');
    let path = fields.next().filter(|path| !path.is_empty())?;
    let position = whole_hex(fields.next()?)?;
    let inode = leading_hex(fields.next()?)?;
    Some(Entry {
        path: PathBuf::from(std::ffi::OsString::from_vec(path.to_vec())),
        position,
        inode,
    })
}

/// Whether a line without its newline has all digits that we and Fluentd write: an inode that was cut is another one.
fn has_whole_inode(line: &[u8]) -> bool {
    let inode = line.rsplit(|byte| *byte == b'\t').next();
    inode.is_some_and(|inode| inode.len() >= 16)
}

fn whole_hex(text: &[u8]) -> Option<u64> {
    let digits = std::str::from_utf8(text).ok()?;
    // `from_str_radix` would take a sign.
    if !digits.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return None;
    }
    u64::from_str_radix(digits, 16).ok()
}

fn leading_hex(text: &[u8]) -> Option<u64> {
    let end = text
        .iter()
        .position(|byte| !byte.is_ascii_hexdigit())
        .unwrap_or(text.len());
    whole_hex(&text[..end])
}

/// The text for these entries. A path that holds a tab or a newline cannot be written and is left out.
pub fn print(entries: &[Entry]) -> Vec<u8> {
    let mut text = Vec::with_capacity(entries.len() * 80);
    for entry in entries {
        let path = entry.path.as_os_str().as_bytes();
        if path.iter().any(|byte| matches!(byte, b'\t' | b'\n')) {
            continue;
        }
        text.extend_from_slice(path);
        text.push(b'\t');
        push_hex(&mut text, entry.position);
        text.push(b'\t');
        push_hex(&mut text, entry.inode);
        text.push(b'\n');
    }
    text
}

/// All sixteen digits: a thousand entries are written twice a second.
fn push_hex(text: &mut Vec<u8>, number: u64) {
    let digit = |at: u32| b"0123456789abcdef"[(number >> (60 - 4 * at) & 15) as usize];
    text.extend((0..16).map(digit));
}

/// Says why a pos_file at `path` could not work, without touching anything.
pub fn check(path: &Path) -> Result<(), String> {
    match fs::symlink_metadata(path) {
        Ok(meta) if meta.is_dir() => return Err("Is a directory (os error 21)".into()),
        Ok(meta) if meta.is_symlink() => {
            return Err("is a symbolic link, which is not followed".into());
        }
        Ok(meta) if !meta.is_file() => return Err("is not a regular file".into()),
        Ok(_) => writable(path, AccessFlags::R_OK | AccessFlags::W_OK)?,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(error.to_string()),
    }
    // It is replaced by renaming, so the directory must be writable too; missing ones are made at start.
    let directory = directory_of(path);
    let existing = directory
        .ancestors()
        .map(or_here)
        .find(|ancestor| ancestor.exists());
    match existing {
        Some(ancestor) if !ancestor.is_dir() => Err(format!(
            "{}: Not a directory (os error 20)",
            ancestor.display()
        )),
        Some(ancestor) => writable(ancestor, AccessFlags::W_OK | AccessFlags::X_OK),
        None => Ok(()),
    }
}

fn writable(path: &Path, how: AccessFlags) -> Result<(), String> {
    access(path, how).map_err(|errno| {
        let error = io::Error::from_raw_os_error(errno as i32);
        format!("{}: {error}", path.display())
    })
}

fn directory_of(path: &Path) -> &Path {
    or_here(path.parent().unwrap_or(Path::new("/")))
}

fn or_here(path: &Path) -> &Path {
    if path.as_os_str().is_empty() {
        Path::new(".")
    } else {
        path
    }
}

/// A pos_file that this process owns.
#[derive(Debug)]
pub struct PosFile {
    path: PathBuf,
    /// Length and CRC-32 of what stands on the disk.
    written: (usize, u32),
    /// Held as long as the process lives: two agents must not own one pos_file.
    _lock: File,
}

/// What was found at start.
#[derive(Debug)]
pub struct Found {
    /// Whether there was a pos_file: if not, this is the very first start.
    pub existed: bool,
    /// When it was last written.
    pub modified: Option<SystemTime>,
    /// What it says.
    pub parsed: Parsed,
}

impl PosFile {
    /// Locks and reads the pos_file, making its directory where it is missing.
    pub fn open(path: &Path) -> anyhow::Result<(PosFile, Found)> {
        let directory = directory_of(path);
        fs::DirBuilder::new()
            .recursive(true)
            .mode(0o755)
            .create(directory)
            .with_context(|| {
                format!("cannot create the directory of pos_file {}", path.display())
            })?;
        let lock = lock(&beside(path, ".lock"))
            .with_context(|| format!("cannot lock pos_file {}", path.display()))?;
        let (text, modified) = match fs::read(path) {
            Ok(text) => (
                Some(text),
                fs::metadata(path).and_then(|m| m.modified()).ok(),
            ),
            Err(error) if error.kind() == io::ErrorKind::NotFound => (None, None),
            Err(error) => {
                return Err(error)
                    .with_context(|| format!("cannot read pos_file {}", path.display()));
            }
        };
        let existed = text.is_some();
        let text = text.unwrap_or_default();
        let found = Found {
            existed,
            modified,
            parsed: parse(&text),
        };
        let file = PosFile {
            path: path.to_owned(),
            written: mark(&text),
            _lock: lock,
        };
        Ok((file, found))
    }

    /// Where it stands.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Puts these entries in place of what stands there, unless they are the same.
    pub fn replace(&mut self, as_of: SystemTime, entries: &[Entry]) -> io::Result<()> {
        let text = print(entries);
        if mark(&text) == self.written && self.path.exists() {
            return Ok(());
        }
        self.put(as_of, &text)
    }

    /// Puts these entries in place of what stands there, the same or not: its time then says that nothing older is unread.
    pub fn renew(&mut self, as_of: SystemTime, entries: &[Entry]) -> io::Result<()> {
        self.put(as_of, &print(entries))
    }

    fn put(&mut self, as_of: SystemTime, text: &[u8]) -> io::Result<()> {
        put(&self.path, as_of, text)?;
        self.written = mark(text);
        Ok(())
    }
}

/// By which a text is known again: not to write it twice.
fn mark(text: &[u8]) -> (usize, u32) {
    (text.len(), crc32fast::hash(text))
}

/// Puts this text in place of the file at `path`, wholly or not at all: written beside it, synced, renamed over it, directory synced.
/// A new file is readable by its owner only; one that stands there keeps its mode. Its time becomes `as_of`, by the clock of file
/// times: when the files of which it tells were looked at, so that whatever came afterwards is younger.
pub fn put(path: &Path, as_of: SystemTime, text: &[u8]) -> io::Result<()> {
    let temporary = beside(path, ".tmp");
    // One that a crash left behind; if it cannot be removed, creating it says why.
    let _ = fs::remove_file(&temporary);
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .custom_flags(O_NOFOLLOW)
        .open(&temporary)?;
    if let Ok(meta) = fs::symlink_metadata(path) {
        let mode = meta.permissions().mode() & 0o777;
        file.set_permissions(fs::Permissions::from_mode(mode))?;
    }
    file.write_all(text)?;
    let time = as_of.checked_sub(CLOCK_SLACK).unwrap_or(as_of);
    file.set_times(FileTimes::new().set_modified(time))?;
    file.sync_all()?;
    fs::rename(&temporary, path)?;
    File::open(directory_of(path))?.sync_all()
}

/// The name of a file that belongs to the one at `path`.
pub fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    PathBuf::from(name)
}

fn lock(path: &Path) -> anyhow::Result<File> {
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .custom_flags(O_NOFOLLOW)
        .open(path)
        .with_context(|| format!("cannot open {}", path.display()))?;
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => {
            let owner = fs::read_to_string(path).unwrap_or_default();
            bail!(
                "{} is locked by another process (pid {})",
                path.display(),
                owner.trim()
            );
        }
        Err(TryLockError::Error(error)) => return Err(error.into()),
    }
    // Who holds it is for people: a disk without room for that is no reason not to start.
    let _ = file.set_len(0);
    let _ = writeln!(&file, "{}", std::process::id());
    Ok(file)
}

#[cfg(test)]
#[path = "pos_file_tests.rs"]
mod tests;
