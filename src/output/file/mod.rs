//! out_file: lines in files named by time slice and tag.
//!
//! A write is done when every byte is on the disk (`fdatasync`, and the directory of a new file). Chunks are cut by tag only,
//! so one chunk may hold several time slices: each goes to its own file. Without `append` each write makes new files with
//! the next free index; a write that fails takes back what it began, so that a retry leaves no half lines.

mod name;

use std::fs::{DirBuilder, File as StdFile, OpenOptions};
use std::io::{self, ErrorKind, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::Context;
use bytes::Bytes;
use flate2::Compression;
use flate2::write::GzEncoder;
use jiff::tz::TimeZone;
use nix::fcntl::OFlag;
use serde::Deserialize;

use self::name::{Names, Plan, is_indexed, place, with_index};
use super::lines::Lines;
use super::{Boxed, Configured, Output, OutputContext, WriteError};
use crate::buffer::Chunk;
use crate::config::types::Time;
use crate::config::{ConfigErrors, Element, Result};
use crate::event::msgpack::entries;

/// Fluentd's `timekey` for this output.
const DAY: Time = Time(Duration::from_secs(86400));

/// `compress`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Compress {
    /// As it is.
    #[default]
    Text,
    /// Old name of gzip.
    Gz,
    /// One gzip member per write.
    Gzip,
    /// Not supported.
    Zstd,
}

/// The parameters beside the sections, with Fluentd's defaults.
#[derive(Clone, Debug, Deserialize)]
#[serde(default)]
struct Params {
    /// Prefix of the names, or with `*`, or with placeholders. Required.
    path: Option<String>,
    /// Whether to write at the end of a file that is there, instead of making a new one for each write.
    append: bool,
    /// Whether `path_suffix` counts.
    add_path_suffix: bool,
    /// What names end with.
    path_suffix: String,
    /// `text` or `gzip`.
    compress: Compress,
    /// Compress again what the buffer has compressed: ours never does.
    recompress: bool,
    /// A link to the newest file of a file buffer, which we do not have: warned about.
    symlink_path: Option<String>,
    /// The time part of names in old configurations.
    time_slice_format: Option<String>,
}

impl Default for Params {
    fn default() -> Params {
        Params {
            path: None,
            append: false,
            add_path_suffix: true,
            path_suffix: ".log".to_owned(),
            compress: Compress::Text,
            recompress: false,
            symlink_path: None,
            time_slice_format: None,
        }
    }
}

/// What of `<buffer>` shapes names.
#[derive(Clone, Debug, Deserialize)]
#[serde(default)]
struct SliceParams {
    /// Length of a time slice.
    timekey: Time,
    /// Whether slices are cut in UTC.
    timekey_use_utc: bool,
    /// The zone they are cut in; unset: local.
    timekey_zone: Option<String>,
}

impl Default for SliceParams {
    fn default() -> SliceParams {
        SliceParams {
            timekey: DAY,
            timekey_use_utc: false,
            timekey_zone: None,
        }
    }
}

/// The output.
struct File {
    names: Names,
    lines: Lines,
    gzip: bool,
    /// One write at a time: two flush threads may have the same file.
    writing: Arc<Mutex<()>>,
}

/// Reads a `<match>`, `<store>` or `<secondary>` section of type file.
pub fn configure(section: &Element, _context: &OutputContext) -> Result<Configured> {
    let params: Params = section.params()?;
    let mut errors = ConfigErrors::new();
    if params.compress == Compress::Zstd {
        let message = "zstd is not supported: use text or gzip";
        errors.push(section.error_at("compress", message));
    }
    for (key, there) in [
        ("symlink_path", params.symlink_path.is_some()),
        ("recompress", params.recompress),
    ] {
        if there {
            let message = format!(
                "'{key}' has no effect: it is about file buffers, and chunks are in memory"
            );
            section.warn_at(key, message);
        }
    }
    let lines = errors.collect(Lines::configure(section, "out_file"));
    let names = errors.collect(names(section, &params));
    errors.into_result()?;
    let (Some(lines), Some(names)) = (lines, names) else {
        return Err(section.error("the parameters cannot be read").into());
    };
    let file = File {
        names,
        lines,
        gzip: params.compress != Compress::Text,
        writing: Arc::default(),
    };
    Ok(Configured::buffered("file", file))
}

fn names(section: &Element, params: &Params) -> Result<Names> {
    let required = || section.missing("path");
    let path = params
        .path
        .clone()
        .filter(|path| !path.is_empty())
        .ok_or_else(required)?;
    let buffer = section.section("buffer")?;
    let slices = match buffer {
        Some(buffer) => buffer.params()?,
        None => SliceParams::default(),
    };
    // Fluentd's default chunk key is time; another one given takes its place.
    let by_time = buffer.and_then(Element::arg).is_none_or(|keys| {
        let bare = keys.trim_matches(['[', ']']);
        bare.split(',')
            .any(|key| key.trim().trim_matches('"') == "time")
    });
    let timekey = u32::try_from(slices.timekey.0.as_secs()).unwrap_or(u32::MAX);
    if by_time && timekey == 0 {
        let message = "'timekey' must be at least 1s";
        return Err(buffer
            .unwrap_or(section)
            .error_at("timekey", message)
            .into());
    }
    let zone =
        zone(&slices).map_err(|why| buffer.unwrap_or(section).error_at("timekey_zone", why))?;
    let suffix = if params.add_path_suffix {
        &params.path_suffix[..]
    } else {
        ""
    };
    Names::new(&Plan {
        path,
        append: params.append,
        path_suffix: suffix.to_owned(),
        compress_suffix: if params.compress == Compress::Text {
            ""
        } else {
            ".gz"
        },
        timekey: by_time.then_some(timekey),
        time_slice_format: params.time_slice_format.clone(),
        zone,
    })
    .map_err(|why| section.error_at("path", why).into())
}

fn zone(slices: &SliceParams) -> std::result::Result<TimeZone, String> {
    match &slices.timekey_zone {
        _ if slices.timekey_use_utc => Ok(TimeZone::UTC),
        None => Ok(TimeZone::system()),
        Some(zone) if zone.starts_with(['+', '-']) => {
            let offset = jiff::fmt::strtime::parse("%z", zone)
                .or_else(|_| jiff::fmt::strtime::parse("%:z", zone))
                .ok()
                .and_then(|parsed| parsed.offset());
            let offset = offset
                .ok_or_else(|| format!("'{zone}' is no time zone: use +09:00 or Asia/Tokyo"))?;
            Ok(TimeZone::fixed(offset))
        }
        Some(zone) => TimeZone::get(zone)
            .map_err(|_| format!("'{zone}' is no time zone: use +09:00 or Asia/Tokyo")),
    }
}

impl File {
    async fn store(&self, chunk: &Chunk) -> std::result::Result<(), WriteError> {
        let segments = chunk.read().await?;
        let pieces = self
            .pieces(chunk, &segments)
            .map_err(WriteError::Unrecoverable)?;
        let (gzip, writing) = (self.gzip, self.writing.clone());
        tokio::task::spawn_blocking(move || {
            let _alone = writing.lock().unwrap_or_else(PoisonError::into_inner);
            pieces.iter().try_for_each(|(path, lines)| {
                write(path, lines, gzip).with_context(|| format!("cannot write {path}"))
            })
        })
        .await??;
        Ok(())
    }

    /// The chunk's lines by file.
    fn pieces(&self, chunk: &Chunk, segments: &[Bytes]) -> anyhow::Result<Vec<(String, Vec<u8>)>> {
        let mut pieces: Vec<(u32, Vec<u8>)> = Vec::new();
        let mut last_sec = None;
        let mut at = 0;
        for entry in segments.iter().flat_map(|bytes| entries(bytes)) {
            let entry = entry?;
            if last_sec != Some(entry.time.sec) {
                last_sec = Some(entry.time.sec);
                let start = self.names.slice_start(entry.time.sec);
                let found = pieces.iter().position(|(of, _)| *of == start);
                at = found.unwrap_or_else(|| {
                    pieces.push((start, Vec::new()));
                    pieces.len() - 1
                });
            }
            let text = &mut pieces[at].1;
            self.lines
                .append(chunk.tag(), entry.time, entry.record, text);
        }
        let path = |start| {
            let slice = self.names.slice(start).map_err(anyhow::Error::msg)?;
            place(&slice, chunk.tag().as_str(), chunk.id()).map_err(anyhow::Error::msg)
        };
        let named = |(start, lines)| Ok((path(start)?, lines));
        pieces.into_iter().map(named).collect()
    }
}

impl Output for File {
    fn write<'a>(&'a self, chunk: &'a Chunk) -> Boxed<'a, std::result::Result<(), WriteError>> {
        Box::pin(self.store(chunk))
    }
}

/// Writes to the end of `path`, or to a new file with the next free index.
fn write(path: &str, lines: &[u8], gzip: bool) -> io::Result<()> {
    if let Some(directory) = Path::new(path).parent() {
        DirBuilder::new()
            .recursive(true)
            .mode(0o755)
            .create(directory)?;
    }
    if !is_indexed(path) {
        return append(path, lines, gzip);
    }
    let mut index = 0;
    loop {
        let path = with_index(path, index);
        match open(&path, OpenOptions::new().create_new(true)) {
            Ok(file) => {
                return fill(&file, lines, gzip)
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

fn append(path: &str, lines: &[u8], gzip: bool) -> io::Result<()> {
    let file = open(path, OpenOptions::new().append(true).create(true))?;
    let before = file.metadata()?.len();
    let filled = fill(&file, lines, gzip).inspect_err(|_| {
        // A half line must not stand in front of what the retry writes. If this fails, too, it does.
        let _ = file.set_len(before);
    });
    if before == 0 {
        return filled.and_then(|()| sync_directory(path));
    }
    filled
}

/// Never through a symbolic link: the directory may belong to somebody else.
fn open(path: &str, options: &mut OpenOptions) -> io::Result<StdFile> {
    options
        .write(true)
        .mode(0o644)
        .custom_flags(OFlag::O_NOFOLLOW.bits())
        .open(path)
}

fn fill(mut file: &StdFile, lines: &[u8], gzip: bool) -> io::Result<()> {
    if gzip {
        let mut encoder = GzEncoder::new(file, Compression::default());
        encoder.write_all(lines)?;
        encoder.finish()?;
    } else {
        file.write_all(lines)?;
    }
    file.sync_data()
}

fn sync_directory(path: &str) -> io::Result<()> {
    let directory = match Path::new(path).parent() {
        Some(directory) if !directory.as_os_str().is_empty() => directory,
        _ => Path::new("."),
    };
    StdFile::open(directory)?.sync_all()
}

#[cfg(test)]
mod tests;
