//! `affluent chunk`: buffer directories as JSON lines, for `jq` and for people at 3 a.m.

use std::fs;
use std::io::{self, ErrorKind, Write};
use std::path::Path;
use std::process::ExitCode;

use anyhow::{Context, Result};
use serde_json::{Value, json};

use crate::agent::Plan;
use crate::args::Chunk;
use crate::buffer::file::inspect::{Inspection, Seen};
use crate::format::json;

/// Runs it on standard output; `None` for what needs a configuration, as [`text`].
pub fn run(what: &Chunk) -> Result<Option<ExitCode>> {
    let mut out = io::stdout().lock();
    let done = match what {
        Chunk::Ls { directory } => list(directory, &mut out),
        Chunk::Cat { directory, chunk } => cat(directory, chunk.as_deref(), &mut out),
        Chunk::Verify { directory } => verify(directory, &mut out),
        Chunk::Requeue { directory, tag } => requeue(directory, tag.as_deref(), &mut out),
        Chunk::Text => return Ok(None),
    };
    match done {
        // Whoever reads has seen enough: `| head`.
        Err(error) if is_broken_pipe(&error) => Ok(Some(ExitCode::SUCCESS)),
        done => Ok(Some(status(done?))),
    }
}

fn is_broken_pipe(error: &anyhow::Error) -> bool {
    (error.downcast_ref::<io::Error>()).is_some_and(|error| error.kind() == ErrorKind::BrokenPipe)
}

/// A buffer directory and those below it, each with what stands before its files' names.
fn directories(root: &Path) -> Result<Vec<(String, Inspection)>> {
    let mut found = Vec::new();
    let mut paths = vec![root.to_owned()];
    while let Some(path) = paths.pop() {
        let below = path.strip_prefix(root).unwrap_or(&path);
        let before = match below.as_os_str().is_empty() {
            true => String::new(),
            false => format!("{}/", below.display()),
        };
        found.push((before, Inspection::open(&path)?));
        let entries =
            fs::read_dir(&path).with_context(|| format!("cannot list {}", path.display()));
        for entry in entries? {
            let entry = entry?;
            // A link may lead in a circle.
            if entry.file_type()?.is_dir() {
                paths.push(entry.path());
            }
        }
    }
    found.sort_by(|one, other| one.0.cmp(&other.0));
    Ok(found)
}

/// Every chunk in these directories.
fn each_chunk(
    directory: &Path,
    mut take: impl FnMut(&Inspection, &Seen, &str) -> Result<()>,
) -> Result<()> {
    for (before, inspection) in directories(directory)? {
        for seen in inspection.chunks()? {
            take(&inspection, &seen, &format!("{before}{}", seen.file))?;
        }
    }
    Ok(())
}

/// Makes of the chunks of this configuration's out_file and s3 what a Fluentd keeps.
pub fn text(plan: &Plan) -> Result<ExitCode> {
    let mut out = io::stdout().lock();
    let mut well = true;
    for flusher in &plan.flushers {
        for given in flusher.give_back()? {
            let line = match given.records {
                Ok(records) => json!({"file": given.file, "text_records": records}),
                Err(reason) => {
                    well = false;
                    json!({"file": given.file, "error": format!("{reason:#}")})
                }
            };
            writeln!(out, "{line}")?;
        }
    }
    Ok(status(well))
}

fn status(well: bool) -> ExitCode {
    match well {
        true => ExitCode::SUCCESS,
        false => ExitCode::from(1),
    }
}

fn shown(seen: &Seen, file: &str) -> Value {
    json!({
        "file": file,
        "state": seen.state,
        "id": seen.id.to_string(),
        "tag": seen.tag(),
        "timekey": seen.timekey(),
        "bytes": seen.bytes,
        "records": seen.told,
        "trouble": seen.trouble,
    })
}

fn list(directory: &Path, out: &mut impl Write) -> Result<bool> {
    each_chunk(directory, |_, seen, file| {
        Ok(writeln!(out, "{}", shown(seen, file))?)
    })?;
    Ok(true)
}

fn cat(directory: &Path, only: Option<&str>, out: &mut impl Write) -> Result<bool> {
    each_chunk(directory, |inspection, seen, file| {
        if only.is_some_and(|text| !file.contains(text)) {
            return Ok(());
        }
        let tag = json!(seen.tag());
        inspection.each(seen, |entry| {
            let time = format!("{}.{:09}", entry.time.sec, entry.time.nsec);
            write!(
                out,
                "{{\"chunk\":\"{}\",\"tag\":{tag},\"time\":{time},\"record\":",
                seen.id
            )?;
            let mut record = Vec::new();
            json::write(&mut record, entry.record);
            out.write_all(&record)?;
            writeln!(out, "}}")
        })?;
        Ok(())
    })?;
    Ok(true)
}

fn verify(directory: &Path, out: &mut impl Write) -> Result<bool> {
    let mut well = true;
    each_chunk(directory, |inspection, seen, file| {
        let checked = inspection.verify(seen)?;
        let sound = checked.is_sound() && seen.trouble.is_none();
        well &= sound || seen.state == "broken";
        let mut line = shown(seen, file);
        line["readable_records"] = checked.records.into();
        line["unreadable_bytes"] = checked.lost_bytes().into();
        line["altered_bytes"] = checked.altered.into();
        line["sound"] = sound.into();
        Ok(writeln!(out, "{line}")?)
    })?;
    Ok(well)
}

fn requeue(directory: &Path, tag: Option<&str>, out: &mut impl Write) -> Result<bool> {
    let mut well = true;
    for (before, inspection) in directories(directory)? {
        for (seen, done) in inspection.requeue(&directory.join(&before), tag)? {
            let file = format!("{before}{}", seen.file);
            let line = match done {
                Ok(records) => json!({"file": file, "queued_records": records}),
                Err(reason) => {
                    well = false;
                    json!({"file": file, "error": reason})
                }
            };
            writeln!(out, "{line}")?;
        }
    }
    Ok(well)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chunks_below_a_directory_are_listed_and_a_closed_pipe_is_no_error() {
        let place = tempfile::tempdir().expect("a directory");
        let below = place.path().join("out/worker1");
        fs::create_dir_all(&below).expect("made");
        let file = "buffer.b660d594200885010eead92f8e879e0bd.log";
        fs::write(below.join(file), b"\x92\x01\x80").expect("written");
        let mut out = Vec::new();
        list(place.path(), &mut out).expect("listed");
        let line: Value = serde_json::from_slice(&out).expect("a line");
        assert_eq!(line["file"], format!("out/worker1/{file}"));

        struct Closed;
        impl Write for Closed {
            fn write(&mut self, _: &[u8]) -> io::Result<usize> {
                Err(ErrorKind::BrokenPipe.into())
            }
            fn flush(&mut self) -> io::Result<()> {
                Ok(())
            }
        }
        for done in [
            list(place.path(), &mut Closed),
            cat(place.path(), None, &mut Closed),
        ] {
            assert!(is_broken_pipe(&done.expect_err("closed")));
        }
    }
}
