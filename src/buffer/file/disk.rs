//! The directory of a buffer: every operation on it that could fail or be lost goes through [`Disk`], so that tests can have it fail
//! and lose.

use std::fmt::Debug;
use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind, IoSlice, Seek, SeekFrom, Write};
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use bytes::Bytes;
use nix::fcntl::OFlag;

/// A file in the directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Its name.
    pub name: String,
    /// Its bytes.
    pub len: u64,
    /// Whether it is a regular file, and not a link, a directory or a pipe.
    pub regular: bool,
    /// When it was written to, Unix seconds.
    pub modified: i64,
}

/// Files in one directory, by name. Nothing is durable before its `sync`; creations, renames and removals are durable after
/// [`Disk::sync_directory`], and in the order in which they were made.
pub trait Disk: Send + Sync + Debug {
    /// All files with a UTF-8 name.
    fn list(&self) -> io::Result<Vec<Entry>>;

    /// Makes a file that is not there yet, with this content.
    fn create(&self, name: &str, content: &[Bytes]) -> io::Result<()>;

    /// Writes all of it from byte `at` on, or fails with an unknown part of it written.
    fn write_at(&self, name: &str, at: u64, content: &[Bytes]) -> io::Result<()>;

    /// Reads what there is from byte `at` on, until `buffer` is full or the file ends.
    fn read_at(&self, name: &str, at: u64, buffer: &mut [u8]) -> io::Result<usize>;

    /// Cuts the file.
    fn truncate(&self, name: &str, len: u64) -> io::Result<()>;

    /// Makes content and length durable.
    fn sync(&self, name: &str) -> io::Result<()>;

    /// Renames a file, over another of that name.
    fn rename(&self, from: &str, to: &str) -> io::Result<()>;

    /// Gives a file a second name; fails where that is taken.
    fn link(&self, from: &str, to: &str) -> io::Result<()>;

    /// Removes a name.
    fn remove(&self, name: &str) -> io::Result<()>;

    /// Makes all creations, renames and removals so far durable.
    fn sync_directory(&self) -> io::Result<()>;

    /// Bytes that can still be written, as far as known.
    fn free(&self) -> Option<u64>;
}

/// The whole content of a file that should not be longer than `most`.
pub fn read(disk: &dyn Disk, name: &str, most: usize) -> io::Result<Vec<u8>> {
    let mut content = vec![0; most];
    let len = disk.read_at(name, 0, &mut content)?;
    content.truncate(len);
    Ok(content)
}

/// The real one.
#[derive(Debug)]
pub struct Directory {
    path: PathBuf,
    mode: u32,
}

impl Directory {
    /// Opens a directory that exists; new files get this mode. Symbolic links are not followed at the last component.
    pub fn open(path: &Path, mode: u32) -> io::Result<Directory> {
        let path = path.to_owned();
        let found = fs::symlink_metadata(&path)?;
        if !found.is_dir() {
            return Err(io::Error::new(
                ErrorKind::NotADirectory,
                "it is a symbolic link or no directory",
            ));
        }
        Ok(Directory { path, mode })
    }

    fn open_file(&self, name: &str, options: &mut OpenOptions) -> io::Result<File> {
        // Non-blocking, so that a pipe of this name holds up nobody; it means nothing to regular files.
        let flags = OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK | OFlag::O_CLOEXEC;
        options
            .mode(self.mode)
            .custom_flags(flags.bits())
            .open(self.path.join(name))
    }

    fn existing(&self, name: &str) -> io::Result<File> {
        self.open_file(name, OpenOptions::new().write(true))
    }
}

impl Disk for Directory {
    fn list(&self) -> io::Result<Vec<Entry>> {
        let mut entries = Vec::new();
        for entry in fs::read_dir(&self.path)? {
            let entry = entry?;
            let Ok(name) = entry.file_name().into_string() else {
                continue;
            };
            let found = match entry.metadata() {
                Ok(found) => found,
                Err(error) if error.kind() == ErrorKind::NotFound => continue,
                Err(error) => return Err(error),
            };
            entries.push(Entry {
                name,
                len: found.len(),
                regular: found.is_file(),
                modified: found.mtime(),
            });
        }
        Ok(entries)
    }

    fn create(&self, name: &str, content: &[Bytes]) -> io::Result<()> {
        let file = self.open_file(name, OpenOptions::new().write(true).create_new(true))?;
        // The umask has had its say at creation; what is configured counts.
        if file.metadata()?.permissions().mode() & 0o777 != self.mode {
            file.set_permissions(fs::Permissions::from_mode(self.mode))?;
        }
        write_all(&file, 0, content)
    }

    fn write_at(&self, name: &str, at: u64, content: &[Bytes]) -> io::Result<()> {
        let file = self.existing(name)?;
        write_all(&file, at, content)
    }

    fn read_at(&self, name: &str, at: u64, buffer: &mut [u8]) -> io::Result<usize> {
        let file = self.open_file(name, OpenOptions::new().read(true))?;
        let mut read = 0;
        while read < buffer.len() {
            match file.read_at(&mut buffer[read..], at + read as u64) {
                Ok(0) => break,
                Ok(more) => read += more,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(read)
    }

    fn truncate(&self, name: &str, len: u64) -> io::Result<()> {
        self.existing(name)?.set_len(len)
    }

    fn sync(&self, name: &str) -> io::Result<()> {
        self.existing(name)?.sync_data()
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        fs::rename(self.path.join(from), self.path.join(to))
    }

    fn link(&self, from: &str, to: &str) -> io::Result<()> {
        fs::hard_link(self.path.join(from), self.path.join(to))
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        fs::remove_file(self.path.join(name))
    }

    fn sync_directory(&self) -> io::Result<()> {
        File::open(&self.path)?.sync_all()
    }

    fn free(&self) -> Option<u64> {
        let found = nix::sys::statvfs::statvfs(&self.path).ok()?;
        Some(found.blocks_available() as u64 * found.fragment_size() as u64)
    }
}

/// A seek and vectored writes: std has no positioned vectored write, and the descriptor is nobody else's.
fn write_all(mut file: &File, at: u64, content: &[Bytes]) -> io::Result<()> {
    file.seek(SeekFrom::Start(at))?;
    let mut slices: Vec<_> = content.iter().map(|bytes| IoSlice::new(bytes)).collect();
    let mut rest = &mut slices[..];
    IoSlice::advance_slices(&mut rest, 0);
    while !rest.is_empty() {
        match file.write_vectored(rest) {
            Ok(0) => return Err(ErrorKind::WriteZero.into()),
            Ok(written) => IoSlice::advance_slices(&mut rest, written),
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}
