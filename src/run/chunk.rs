//! `affluent chunk`: buffer directories as JSON lines, for `jq` and for people at 3 a.m.

use std::io::{self, Write};
use std::path::Path;
use std::process::ExitCode;

use anyhow::Result;
use serde_json::{Value, json};

use crate::agent::Plan;
use crate::args::Chunk;
use crate::buffer::file::inspect::{Inspection, Seen};
use crate::format::json;

/// Runs it on standard output; `None` for what needs a configuration, as [`text`].
pub fn run(what: &Chunk) -> Result<Option<ExitCode>> {
    let mut out = io::stdout().lock();
    let well = match what {
        Chunk::Ls { directory } => list(directory, &mut out),
        Chunk::Cat { directory, chunk } => cat(directory, chunk.as_deref(), &mut out),
        Chunk::Verify { directory } => verify(directory, &mut out),
        Chunk::Requeue { directory, tag } => requeue(directory, tag.as_deref(), &mut out),
        Chunk::Text => return Ok(None),
    }?;
    Ok(Some(status(well)))
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

fn shown(seen: &Seen) -> Value {
    json!({
        "file": seen.file,
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
    for seen in Inspection::open(directory)?.chunks()? {
        writeln!(out, "{}", shown(&seen))?;
    }
    Ok(true)
}

fn cat(directory: &Path, only: Option<&str>, out: &mut impl Write) -> Result<bool> {
    let inspection = Inspection::open(directory)?;
    let wanted = |seen: &Seen| only.is_none_or(|text| seen.file.contains(text));
    for seen in inspection.chunks()?.into_iter().filter(wanted) {
        let tag = json!(seen.tag());
        inspection.each(&seen, |entry| {
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
    }
    Ok(true)
}

fn verify(directory: &Path, out: &mut impl Write) -> Result<bool> {
    let inspection = Inspection::open(directory)?;
    let mut well = true;
    for seen in inspection.chunks()? {
        let checked = inspection.verify(&seen)?;
        let sound = checked.is_sound() && seen.trouble.is_none();
        well &= sound || seen.state == "broken";
        let mut line = shown(&seen);
        line["readable_records"] = checked.records.into();
        line["unreadable_bytes"] = checked.lost_bytes().into();
        line["altered_bytes"] = checked.altered.into();
        line["sound"] = sound.into();
        writeln!(out, "{line}")?;
    }
    Ok(well)
}

fn requeue(directory: &Path, tag: Option<&str>, out: &mut impl Write) -> Result<bool> {
    let mut well = true;
    for (seen, done) in Inspection::open(directory)?.requeue(directory, tag)? {
        let line = match done {
            Ok(records) => json!({"file": seen.file, "queued_records": records}),
            Err(reason) => {
                well = false;
                json!({"file": seen.file, "error": reason})
            }
        };
        writeln!(out, "{line}")?;
    }
    Ok(well)
}
