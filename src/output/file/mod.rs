//! out_file: lines in files named by time slice and tag.
//!
//! A write is done when every byte is on the disk (`fdatasync`, and the directory of a new file). A chunk
//! without the chunk key `time` (of a primary, or spilt) may hold several time slices: each goes to its own file. Without `append` each write makes new files with
//! the next free index; a write that fails takes back what it began, so that a retry leaves no half lines.

mod name;

use std::io;
use std::sync::Arc;

use bytes::Bytes;
use jiff::tz::TimeZone;
use serde::Deserialize;
use tokio::sync::Mutex;

use self::name::{Names, Plan, is_indexed, with_index};
use super::disk::Writing;
use super::lines::Lines;
use super::{Boxed, Chunks, Configured, Output, OutputContext, WriteError, files};
use crate::buffer::{self, Chunk, ChunkKeys, Timekey};
use crate::config::{ConfigErrors, Element, Result};
use crate::event::Tag;
use crate::event::msgpack::{Malformed, entries};

/// Slices of files whose chunks are another output's, in seconds: Fluentd's `timekey` for this output.
const DAY: u32 = 86_400;

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

/// The output.
struct File {
    names: Names,
    lines: Lines,
    gzip: bool,
    /// One write at a time: two flush threads may have the same file.
    writing: Arc<Mutex<()>>,
}

/// Reads a `<match>`, `<store>` or `<secondary>` section of type file.
pub fn configure(section: &Element, context: &OutputContext) -> Result<Configured> {
    let params: Params = section.params()?;
    let mut errors = ConfigErrors::new();
    if params.compress == Compress::Zstd {
        let message = "zstd is not supported: use text or gzip";
        errors.push(section.error_at("compress", message));
    }
    if params.symlink_path.is_some() {
        let message = "'symlink_path' has no effect: it would lead to the newest chunk, which holds events here and no text";
        section.warn_at("symlink_path", message);
    }
    if params.recompress {
        let message =
            "'recompress' has no effect: what is written is always compressed from the events";
        section.warn_at("recompress", message);
    }
    let lines = errors.collect(Lines::configure(section, "out_file"));
    let names = errors.collect(names(section, &params, &context.chunks));
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
    Ok(Configured {
        formats: true,
        ..Configured::buffered("file", file)
    })
}

fn names(section: &Element, params: &Params, chunks: &Chunks) -> Result<Names> {
    let required = || section.missing("path");
    let path = params
        .path
        .clone()
        .filter(|path| !path.is_empty())
        .ok_or_else(required)?;
    let time = match chunks {
        Chunks::Own(keys) => keys.time.clone(),
        Chunks::Primarys(ChunkKeys {
            time: Some(time), ..
        }) => Some(Timekey::new(DAY, time.zone().clone())),
        Chunks::Primarys(_) | Chunks::Any => Some(Timekey::new(DAY, TimeZone::system())),
    };
    let suffix = match params.add_path_suffix {
        true => &params.path_suffix[..],
        false => "",
    };
    let plan = Plan {
        path,
        append: params.append,
        path_suffix: suffix.to_owned(),
        compress_suffix: match params.compress {
            Compress::Text => "",
            _ => ".gz",
        },
        time,
        time_slice_format: params.time_slice_format.clone(),
    };
    Names::new(&plan, chunks).map_err(|why| section.error_at("path", why).into())
}

impl File {
    async fn store(&self, chunk: &Chunk) -> std::result::Result<(), WriteError> {
        let make = |part: &Bytes| self.pieces(chunk, part);
        files::write(chunk, &self.writing, (open, self.gzip), make).await
    }

    /// The lines of a part of a chunk, by file.
    fn pieces(&self, chunk: &Chunk, part: &[u8]) -> anyhow::Result<Vec<files::Piece>> {
        // A chunk of one time slice is named by that, whatever its events say.
        let own = chunk.key().timekey.filter(|_| self.names.slices());
        let mut pieces: Vec<(i64, Vec<u8>)> = Vec::new();
        let mut last_sec = None;
        let mut at = 0;
        for entry in entries(part) {
            let entry = entry?;
            if last_sec != Some(entry.time.sec) {
                last_sec = Some(entry.time.sec);
                let start = own.unwrap_or_else(|| self.names.slice_start(entry.time.sec));
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
        let named = |(start, lines)| Ok((self.names.path(start, chunk)?, lines));
        pieces.into_iter().map(named).collect()
    }
}

impl Output for File {
    fn write<'a>(&'a self, chunk: &'a Chunk) -> Boxed<'a, std::result::Result<(), WriteError>> {
        Box::pin(self.store(chunk))
    }

    fn looks_into(&self, _kept: buffer::Compress) -> bool {
        false
    }

    fn formatted(&self, tag: &Tag, bytes: &[u8]) -> Option<anyhow::Result<Vec<u8>>> {
        let mut lines = Vec::with_capacity(bytes.len());
        let done = entries(bytes).try_for_each(|entry| {
            let entry = entry?;
            self.lines.append(tag, entry.time, entry.record, &mut lines);
            Ok::<_, Malformed>(())
        });
        Some(done.map(|()| lines).map_err(Into::into))
    }
}

/// The end of `path`, or a new file with the next free index.
fn open(path: &str, gzip: bool) -> io::Result<Writing> {
    match is_indexed(path) {
        true => Writing::create(|index| with_index(path, index), gzip),
        false => Writing::append(path, gzip),
    }
}

#[cfg(test)]
mod tests;
