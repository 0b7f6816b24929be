//! Files that outputs write: complete and on the disk, or as they were.
//!
//! Never through a symbolic link: the directory may belong to somebody else. A write that fails takes back what it began, so that a retry
//! leaves no half lines.

use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{self, ErrorKind, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::Path;

use flate2::Compression;
use flate2::write::GzEncoder;
use nix::fcntl::OFlag;

/// Writes to the end of a file, which is made where it is not there.
pub fn append<B: AsRef<[u8]>>(path: &str, parts: &[B], gzip: bool) -> io::Result<()> {
    make_directory(path)?;
    let file = open(path, OpenOptions::new().append(true).create(true))?;
    let before = file.metadata()?.len();
    let filled = fill(&file, parts, gzip).inspect_err(|_| {
        // A half line must not stand in front of what the retry writes. If this fails, too, it does.
        let _ = file.set_len(before);
    });
    if before == 0 {
        return filled.and_then(|()| sync_directory(path));
    }
    filled
}

/// Writes a new file under the first name that is free: `name(0)`, `name(1)`, …
pub fn create<B: AsRef<[u8]>>(
    name: impl Fn(usize) -> String,
    parts: &[B],
    gzip: bool,
) -> io::Result<()> {
    make_directory(&name(0))?;
    let mut index = 0;
    loop {
        let path = name(index);
        match open(&path, OpenOptions::new().create_new(true)) {
            Ok(file) => {
                return fill(&file, parts, gzip)
                    .and_then(|()| sync_directory(&path))
                    .inspect_err(|_| {
                        // What cannot be removed either is at worst a repeated file.
                        let _ = std::fs::remove_file(&path);
                    });
            }
            Err(error) if error.kind() == ErrorKind::AlreadyExists => index += 1,
            Err(error) => return Err(error),
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

fn fill<B: AsRef<[u8]>>(mut file: &File, parts: &[B], gzip: bool) -> io::Result<()> {
    let all = |out: &mut dyn Write| {
        parts
            .iter()
            .try_for_each(|part| out.write_all(part.as_ref()))
    };
    if gzip {
        let mut encoder = GzEncoder::new(file, Compression::default());
        all(&mut encoder)?;
        encoder.finish()?;
    } else {
        all(&mut file)?;
    }
    file.sync_data()
}

fn sync_directory(path: &str) -> io::Result<()> {
    let directory = match Path::new(path).parent() {
        Some(directory) if !directory.as_os_str().is_empty() => directory,
        _ => Path::new("."),
    };
    File::open(directory)?.sync_all()
}
