//! The lines that every work writes and recognises: 150 bytes with the newline, numbered from 0, always of the same length, so that a
//! receiver can tell what came without decoding each of them.

use std::fs::{self, File};
use std::io::{self, BufWriter, Read, Write};
use std::path::{Path, PathBuf};

/// Bytes of a line, newline included.
pub const LENGTH: usize = 150;
const DIGITS: usize = 10;
const TEXT: &[u8] = b" GET /index.html 200 affluent ";

/// Line number `id`, with its newline.
pub fn line(id: u64) -> [u8; LENGTH] {
    let mut line = [b'.'; LENGTH];
    line[..DIGITS].copy_from_slice(format!("{id:0DIGITS$}").as_bytes());
    line[DIGITS..DIGITS + TEXT.len()].copy_from_slice(TEXT);
    line[LENGTH - 1] = b'\n';
    line
}

/// The number of a line, if it is one of ours.
pub fn id_of(line: &[u8]) -> Option<u64> {
    let digits = std::str::from_utf8(line.get(..DIGITS)?).ok()?;
    digits.parse().ok()
}

/// Where data and temporary directories of the benches live: on the same disk as `target`.
pub fn data_dir() -> io::Result<PathBuf> {
    let dir = Path::new(env!("CARGO_TARGET_TMPDIR")).with_file_name("bench-data");
    fs::create_dir_all(&dir)?;
    Ok(dir)
}

/// Writes lines `from..to` to `out`.
pub fn write(out: impl Write, from: u64, to: u64) -> io::Result<()> {
    let mut out = BufWriter::with_capacity(1 << 20, out);
    for id in from..to {
        out.write_all(&line(id))?;
    }
    out.flush()
}

/// A file of lines `0..count`, written once and kept, and read once so that it lies in the page cache.
pub fn file(count: u64) -> io::Result<PathBuf> {
    let path = data_dir()?.join(format!("{count}-lines.log"));
    let size = count * LENGTH as u64;
    if fs::metadata(&path).map_or(0, |found| found.len()) != size {
        write(File::create(&path)?, 0, count)?;
    }
    let mut file = File::open(&path)?;
    let mut buffer = vec![0; 1 << 20];
    while file.read(&mut buffer)? > 0 {}
    Ok(path)
}
