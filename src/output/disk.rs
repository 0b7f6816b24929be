//! Files that outputs write: complete and on the disk, or as they were.
//!
//! Never through a symbolic link: the directory may belong to somebody else. A write that fails takes back what it began, so that a retry
//! leaves no half lines.

use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{self, ErrorKind, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::Path;
use std::sync::Arc;

use flate2::Compression;
use flate2::write::GzEncoder;
use nix::fcntl::OFlag;
use tracing::warn;

/// A file that is being written: all of it is on the disk after [`Writing::finish`], and dropped before that it is as it was.
#[derive(Debug)]
pub struct Writing {
    path: String,
    /// Its length before; `None`: it is new.
    before: Option<u64>,
    file: Arc<File>,
    gzip: Option<GzEncoder<Arc<File>>>,
    is_done: bool,
}

impl Writing {
    /// At the end of a file, which is made where it is not there.
    pub fn append(path: &str, gzip: bool) -> io::Result<Writing> {
        make_directory(path)?;
        let file = open(path, OpenOptions::new().append(true).create(true))?;
        let before = file.metadata()?.len();
        Ok(Writing::to(path.to_owned(), Some(before), file, gzip))
    }

    /// A new file under the first name that is free: `name(0)`, `name(1)`, …
    pub fn create(name: impl Fn(usize) -> String, gzip: bool) -> io::Result<Writing> {
        make_directory(&name(0))?;
        let mut index = 0;
        loop {
            let path = name(index);
            match open(&path, OpenOptions::new().create_new(true)) {
                Ok(file) => return Ok(Writing::to(path, None, file, gzip)),
                Err(error) if error.kind() == ErrorKind::AlreadyExists => index += 1,
                Err(error) => return Err(error),
            }
        }
    }

    fn to(path: String, before: Option<u64>, file: File, gzip: bool) -> Writing {
        let file = Arc::new(file);
        Writing {
            path,
            before,
            gzip: gzip.then(|| GzEncoder::new(file.clone(), Compression::default())),
            file,
            is_done: false,
        }
    }

    /// What comes next.
    pub fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        match &mut self.gzip {
            Some(encoder) => encoder.write_all(bytes),
            None => (&*self.file).write_all(bytes),
        }
    }

    /// That was all.
    pub fn finish(mut self) -> io::Result<()> {
        if let Some(encoder) = self.gzip.take() {
            encoder.finish()?;
        }
        self.file.sync_data()?;
        if self.before.unwrap_or_default() == 0 {
            sync_directory(&self.path)?;
        }
        self.is_done = true;
        Ok(())
    }
}

impl Drop for Writing {
    fn drop(&mut self) {
        // It writes its end when it is dropped.
        drop(self.gzip.take());
        if self.is_done {
            return;
        }
        let undone = match self.before {
            // A half line must not stand in front of what the retry writes.
            Some(before) => self.file.set_len(before),
            None => std::fs::remove_file(&self.path),
        };
        if let Err(error) = undone {
            warn!(path = self.path, %error, "what was begun of a file cannot be taken back, its lines may be repeated");
        }
    }
}

fn make_directory(path: &str) -> io::Result<()> {
    let Some(directory) = Path::new(path).parent() else {
        return Ok(());
    };
    DirBuilder::new()
        .recursive(true)
        .mode(0o755)
        .create(directory)
}

fn open(path: &str, options: &mut OpenOptions) -> io::Result<File> {
    options
        .write(true)
        .mode(0o644)
        .custom_flags(OFlag::O_NOFOLLOW.bits())
        .open(path)
}

fn sync_directory(path: &str) -> io::Result<()> {
    let directory = match Path::new(path).parent() {
        Some(directory) if !directory.as_os_str().is_empty() => directory,
        _ => Path::new("."),
    };
    File::open(directory)?.sync_all()
}
