//! What stands in a buffer's directory once the process is dead, read by code that shares nothing with the agent's.

use std::fs;
use std::io::{self, ErrorKind, Read};
use std::path::{Path, PathBuf};

use flate2::read::MultiGzDecoder;
use memchr::memmem;

use super::writer::WRITER;
use crate::support::ledger::{LineId, is_intact};

/// What stands before the eight digits of a line's checksum.
const SUM: &[u8] = b" sum=";

/// A chunk's data file: what has the name of one counts as kept.
#[derive(Debug)]
pub struct ChunkFile {
    /// Where.
    pub path: PathBuf,
    /// The whole lines in it.
    pub lines: Vec<Held>,
}

/// A line in a chunk's data.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Held {
    /// Its number.
    pub number: u64,
    /// The byte behind it, in the data as they lie or, where they are compressed, inflated.
    pub end: usize,
}

impl ChunkFile {
    /// The numbers of its lines.
    pub fn numbers(&self) -> impl Iterator<Item = u64> + '_ {
        self.lines.iter().map(|line| line.number)
    }
}

/// Every chunk in this directory; none where there is no directory.
///
/// # Errors
/// When one cannot be read.
pub fn read(directory: &Path) -> io::Result<Vec<ChunkFile>> {
    let chunk = |path: PathBuf| {
        let lines = lines(&inflated(fs::read(&path)?));
        Ok(ChunkFile { path, lines })
    };
    paths(directory)?.into_iter().map(chunk).collect()
}

/// Whether there is one.
///
/// # Errors
/// When the directory cannot be read.
pub fn any(directory: &Path) -> io::Result<bool> {
    Ok(!paths(directory)?.is_empty())
}

fn paths(directory: &Path) -> io::Result<Vec<PathBuf>> {
    let entries = match fs::read_dir(directory) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries?,
    };
    let mut paths = Vec::new();
    for entry in entries {
        let entry = entry?;
        if is_chunk(&entry.file_name().to_string_lossy()) {
            paths.push(entry.path());
        }
    }
    Ok(paths)
}

/// `buffer.b<32 digits>.log`, `fsb.<tag>.q<32 digits>.buf`.
fn is_chunk(name: &str) -> bool {
    let stem = name
        .strip_suffix(".log")
        .or_else(|| name.strip_suffix(".buf"));
    let last = stem.and_then(|stem| stem.rsplit_once('.'));
    last.is_some_and(|(_, last)| last.len() == 33 && last.starts_with(['b', 'q']))
}

/// As far as it can be inflated.
fn inflated(data: Vec<u8>) -> Vec<u8> {
    if !data.starts_with(&[0x1f, 0x8b]) {
        return data;
    }
    let mut plain = Vec::new();
    // A cut member gives what is before the cut.
    let _ = MultiGzDecoder::new(&data[..]).read_to_end(&mut plain);
    plain
}

/// The intact lines of the application, in order.
pub fn lines(data: &[u8]) -> Vec<Held> {
    let mark = format!("line-{WRITER}-");
    let mut found = Vec::new();
    let mut at = 0;
    while let Some(begin) = find(data, at, mark.as_bytes()) {
        at = begin + mark.len();
        let Some(sum) = find(data, at, SUM) else {
            break;
        };
        let end = sum + SUM.len() + 8;
        let text = data
            .get(begin..end)
            .and_then(|text| str::from_utf8(text).ok());
        if let Some(text) = text
            && is_intact(text)
            && let Some(id) = LineId::find(text)
        {
            found.push(Held {
                number: id.number,
                end,
            });
            at = end;
        }
    }
    found
}

fn find(data: &[u8], from: usize, part: &[u8]) -> Option<usize> {
    Some(from + memmem::find(data.get(from..)?, part)?)
}
