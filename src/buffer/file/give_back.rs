//! Makes of our chunks what a Fluentd keeps whose output formats before it buffers (out_file, s3): the lines as text. For an operator who
//! goes back to Fluentd with lines in the buffer.
//!
//! The side file goes before the text comes, so that a crash leaves either entries or text, and each start knows which.

use std::io;

use anyhow::{Context, bail};
use bytes::Bytes;

use super::aside::link_aside;
use super::inspect::{Inspection, Seen};
use super::looked::Looked;
use super::name::Found;
use super::{Settings, lock};
use crate::buffer::Compress;
use crate::event::Tag;

/// Formats the entries of a chunk, as its output would write them.
pub type Format<'a> = &'a dyn Fn(&Tag, &[u8]) -> anyhow::Result<Vec<u8>>;

/// What became of one chunk.
#[derive(Debug)]
pub struct Given {
    /// Its data file.
    pub file: String,
    /// Events that are text now; or why it stays as it is.
    pub records: anyhow::Result<u64>,
}

/// Goes through the chunks of a buffer that nobody uses. One that holds text already is left alone.
pub fn give_back(
    settings: &Settings,
    compress: Compress,
    format: Format<'_>,
) -> anyhow::Result<Vec<Given>> {
    if !settings.directory.exists() {
        return Ok(Vec::new());
    }
    let _lock = lock::take(&settings.directory, &settings.naming.lock())?;
    let inspection = Inspection::open(&settings.directory)?;
    let ours = |seen: &Seen| matches!(settings.naming.read(&seen.file), Found::Data(_));
    let mut given = Vec::new();
    for seen in inspection.chunks()?.into_iter().filter(ours) {
        let looked = inspection.read(&seen)?;
        if looked.is_text {
            continue;
        }
        let records = make_text(&inspection, &seen, &looked, compress, format);
        let file = seen.file;
        given.push(Given { file, records });
    }
    Ok(given)
}

fn make_text(
    inspection: &Inspection,
    seen: &Seen,
    looked: &Looked,
    compress: Compress,
    format: Format<'_>,
) -> anyhow::Result<u64> {
    if let Some(trouble) = &seen.trouble {
        bail!("{trouble}");
    }
    let tag = seen.tag().context("its tag is not known")?;
    let text = format(&Tag::new(tag), &looked.plain()?)?;
    let checked = &looked.checked;
    let text = Bytes::from(compress.pack(&[text])?);
    let (disk, files) = (inspection.disk(), inspection.files(seen));
    if !checked.is_whole() && !checked.torn {
        link_aside(disk, &seen.file)?;
    }
    // It is there where an earlier attempt was interrupted.
    gone(disk.remove(&files.part))?;
    disk.create(&files.part, &[text])?;
    disk.sync(&files.part)?;
    gone(disk.remove(&files.side))?;
    disk.sync_directory()?;
    disk.rename(&files.part, &seen.file)?;
    if let Some(meta) = inspection.meta_with(seen, checked.records)? {
        disk.create(&files.part, &[meta])?;
        disk.sync(&files.part)?;
        disk.rename(&files.part, &files.meta)?;
    }
    disk.sync_directory()?;
    Ok(checked.records)
}

/// What is not there need not be removed.
fn gone(removed: io::Result<()>) -> io::Result<()> {
    match removed {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        done => done,
    }
}
