//! What happens to a buffer's directory between a kill and the next start: what a crash or a careless hand can leave, at the cost of no
//! line ([`harm`]), and what destroys bytes ([`wound`]), where at most the lines in these bytes may be lost.

use std::collections::BTreeSet;
use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use anyhow::{Context, Result};
use fastrand::Rng;

use super::chunks::{self, ChunkFile};
use super::side::Side;

/// One chunk in so many is left alone.
const SPARED: u32 = 4;

/// What was done to one chunk.
#[derive(Clone, Debug)]
pub struct Damage {
    /// The name of the chunk's data file.
    pub file: String,
    /// What kind of damage it is, for counting.
    pub kind: &'static str,
    /// In words.
    pub what: String,
    /// The lines that may be lost by it.
    pub may_lose: BTreeSet<u64>,
    /// Whether bytes are destroyed: somebody has to be told.
    pub is_wound: bool,
}

/// The files of one chunk.
struct Files<'a> {
    chunk: &'a ChunkFile,
    meta: PathBuf,
    side: PathBuf,
}

impl<'a> Files<'a> {
    fn of(chunk: &'a ChunkFile) -> Files<'a> {
        Files {
            meta: chunk.beside(".meta"),
            side: chunk.side(),
            chunk,
        }
    }

    fn done(
        &self,
        kind: &'static str,
        what: impl Into<String>,
        may_lose: impl Iterator<Item = u64>,
    ) -> Damage {
        let name = self.chunk.path.file_name().unwrap_or_default();
        Damage {
            kind,
            file: name.to_string_lossy().into_owned(),
            what: what.into(),
            may_lose: may_lose.collect(),
            is_wound: false,
        }
    }

    /// Lines that are not whole before this byte.
    fn behind(&self, byte: usize) -> impl Iterator<Item = u64> + '_ {
        let lines = self.chunk.lines.iter();
        lines
            .filter(move |line| line.end > byte)
            .map(|line| line.number)
    }
}

/// Harms the chunks in this directory. `states` are the files in which positions are kept, `safe` tells of each line whether they count on it.
///
/// # Errors
/// When a file cannot be changed.
pub fn harm(
    directory: &Path,
    states: &[PathBuf],
    safe: &[bool],
    rng: &mut Rng,
) -> Result<Vec<Damage>> {
    let mut done = Vec::new();
    for chunk in chunks::read(directory)? {
        if rng.u32(..SPARED) > 0 {
            let files = Files::of(&chunk);
            done.extend(harm_one(&files, states, safe, rng).with_context(|| format!("{chunk:?}"))?);
        }
    }
    if !done.is_empty() {
        leftovers(directory, rng)?;
    }
    Ok(done)
}

/// One of the things that can be done to this chunk; each file has the other to make it good.
fn harm_one(
    files: &Files,
    states: &[PathBuf],
    safe: &[bool],
    rng: &mut Rng,
) -> Result<Option<Damage>> {
    let side = Side::read(&files.side)?;
    let unsafe_tail = last_group_is_in_no_position(files, states)?
        .then(|| side.last_group())
        .flatten()
        .filter(|((start, _), _)| {
            let is_safe = |line: u64| safe.get(line as usize).is_some_and(|safe| *safe);
            !files.behind(*start as usize).any(is_safe)
        });
    let choice = rng.u32(..8);
    Ok(match choice {
        0..3 if let Some((group, frame_end)) = unsafe_tail => {
            File::options()
                .write(true)
                .open(&files.side)?
                .set_len(frame_end)?;
            Some(tear(files, group, rng)?)
        }
        ..6 if files.meta.exists() && side.has_head => {
            let what = spoil(&files.meta, rng)?;
            Some(files.done("metadata", format!("its metadata {what}"), [].into_iter()))
        }
        _ if files.side.exists() && (files.meta.exists() || is_single(files)) => {
            let what = spoil(&files.side, rng)?;
            Some(files.done("side file", format!("its side file {what}"), [].into_iter()))
        }
        _ => None,
    })
}

fn is_single(files: &Files) -> bool {
    files
        .chunk
        .path
        .extension()
        .is_some_and(|extension| extension == "buf")
}

/// Whether the last append to a staged chunk came after the positions were written: then they do not count on it. The first append of a chunk was
/// durable before the file had its name.
fn last_group_is_in_no_position(files: &Files, states: &[PathBuf]) -> io::Result<bool> {
    if !files.chunk.is_staged() || !is_of_this_life(files)? {
        return Ok(false);
    }
    let written = fs::metadata(&files.chunk.path)?.modified()?;
    let mut last = SystemTime::UNIX_EPOCH;
    for state in states {
        if let Ok(found) = fs::metadata(state) {
            last = last.max(found.modified()?);
        }
    }
    Ok(written > last)
}

/// Whether the killed process made the chunk. An older one was mended by its start, after the positions that count on it were written. Ids begin
/// with microseconds; the lock file is written at the start.
fn is_of_this_life(files: &Files) -> io::Result<bool> {
    let path = &files.chunk.path;
    let name = path.file_stem().unwrap_or_default().to_string_lossy();
    let digits = name.len().checked_sub(32).and_then(|at| name.get(at..));
    let micros = digits.and_then(|digits| u64::from_str_radix(&digits[..13], 16).ok());
    let made = SystemTime::UNIX_EPOCH + Duration::from_micros(micros.unwrap_or_default());
    let directory = path.parent().unwrap_or(Path::new("."));
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        if entry.path().extension().is_some_and(|end| end == "lock") {
            return Ok(made > entry.metadata()?.modified()?);
        }
    }
    Ok(false)
}

/// The last append as a power cut leaves it: some of its bytes there, some not, and the file as long as it may be.
fn tear(files: &Files, group: (u64, u64), rng: &mut Rng) -> io::Result<Damage> {
    const SECTOR: u64 = 512;
    let (start, end) = group;
    let data = File::options().write(true).open(&files.chunk.path)?;
    let len = rng.u64(start..=end);
    data.set_len(len)?;
    let mut at = start;
    while at < len {
        let behind = len.min(at + SECTOR);
        if rng.u32(..4) == 0 {
            data.write_all_at(&vec![0; (behind - at) as usize], at)?;
        }
        at = behind;
    }
    let what = format!("its last append, bytes {start} to {end}, torn at {len}");
    Ok(files.done("torn", what, [].into_iter()))
}

/// A small file that is gone, empty, cut or overwritten.
fn spoil(file: &Path, rng: &mut Rng) -> io::Result<&'static str> {
    let len = fs::metadata(file)?.len();
    match rng.u32(..4) {
        0 => fs::remove_file(file).map(|()| "gone"),
        1 => File::create(file).map(|_| "emptied"),
        2 => {
            let open = File::options().write(true).open(file)?;
            open.set_len(rng.u64(..len.max(1))).map(|()| "cut")
        }
        _ => flip(file, rng.u64(..len.max(1)), rng).map(|()| "with a flipped byte"),
    }
}

fn flip(file: &Path, at: u64, rng: &mut Rng) -> io::Result<()> {
    let open = OpenOptions::new().read(true).write(true).open(file)?;
    let mut byte = [0];
    if open.read_at(&mut byte, at)? == 1 {
        byte[0] ^= rng.u8(1..);
        open.write_all_at(&byte, at)?;
    }
    Ok(())
}

/// What a crash leaves of chunks that never were, or are no more.
fn leftovers(directory: &Path, rng: &mut Rng) -> io::Result<()> {
    let garbage: Vec<u8> = (0..rng.usize(..200)).map(|_| rng.u8(..)).collect();
    let id = format!("{:032x}", rng.u128(..));
    for name in ["part", "affluent"] {
        fs::write(directory.join(format!("buffer.{id}.{name}")), &garbage)?;
    }
    fs::write(directory.join(format!("buffer.q{id}.log.meta")), &garbage)
}

/// Wounds the chunks in this directory.
///
/// # Errors
/// When a file cannot be changed.
pub fn wound(directory: &Path, rng: &mut Rng) -> Result<Vec<Damage>> {
    let mut done = Vec::new();
    for chunk in chunks::read(directory)? {
        if rng.u32(..SPARED) > 0 {
            let files = Files::of(&chunk);
            // Without checksums of all of it, bytes that still look like records are nothing that anybody can tell.
            let is_known = Side::read(&files.side)?.covers(fs::metadata(&chunk.path)?.size());
            let damage = wound_one(&files, rng).with_context(|| format!("{chunk:?}"))?;
            let shows = is_known || matches!(damage.kind, "emptied" | "unnamed");
            done.push(Damage {
                is_wound: shows && !damage.may_lose.is_empty(),
                ..damage
            });
        }
    }
    Ok(done)
}

fn wound_one(files: &Files, rng: &mut Rng) -> Result<Damage> {
    let path = &files.chunk.path;
    let len = fs::metadata(path)?.size();
    let open = || File::options().write(true).open(path);
    Ok(match rng.u32(..7) {
        0 => {
            open()?.set_len(0)?;
            files.done("emptied", "emptied", files.behind(0))
        }
        1 | 2 => {
            let at = rng.u64(..len.max(1));
            open()?.set_len(at)?;
            files.done(
                "cut",
                format!("cut at {at} of {len}"),
                files.behind(at as usize),
            )
        }
        3 => {
            // Between two lines nothing looks torn.
            let at = files
                .chunk
                .lines
                .get(rng.usize(..files.chunk.lines.len().max(1)));
            let at = at.map_or(0, |line| line.end as u64);
            open()?.set_len(at)?;
            files.done(
                "cut behind a line",
                format!("cut behind a line, at {at} of {len}"),
                files.behind(at as usize),
            )
        }
        4 | 5 => {
            let at = rng.u64(..len.max(1));
            let end = Side::read(&files.side)?.end_of_group(at).unwrap_or(len);
            flip(path, at, rng)?;
            let lost = files.chunk.touching(at as usize..end as usize);
            files.done(
                "flipped",
                format!("a flipped byte at {at} of {len}"),
                lost.into_iter(),
            )
        }
        _ => {
            for file in [&files.meta, &files.side] {
                if file.exists() {
                    fs::remove_file(file)?;
                }
            }
            let lost = if is_single(files) { usize::MAX } else { 0 };
            files.done(
                "unnamed",
                "without metadata and side file",
                files.behind(lost),
            )
        }
    })
}
