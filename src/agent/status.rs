//! What a running agent tells of itself without being stopped: the account of every line, each source's files, each output's
//! buffer.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use serde::{Deserialize, Serialize};

use super::ledger::{self, Ledger};
use crate::buffer::Lost;
use crate::flush::Flusher;
use crate::input::{FileReport, Progress};
use crate::route::Router;

/// A hold on a running agent's counters.
#[derive(Clone, Default)]
pub struct View {
    pub(super) inputs: Vec<(String, Arc<Progress>)>,
    pub(super) flushers: Vec<Arc<Flusher>>,
    pub(super) routers: Vec<Arc<Router>>,
    pub(super) spilled: Arc<AtomicU64>,
}

/// The answer.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Status {
    /// The agent's process.
    pub pid: u32,
    /// Its version.
    pub version: String,
    /// The account of all lines.
    pub ledger: Ledger,
    /// Each source.
    pub sources: Vec<SourceStatus>,
    /// Each buffered output.
    pub outputs: Vec<OutputStatus>,
}

/// One source.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SourceStatus {
    /// `@id`, or what the agent calls it.
    pub id: String,
    /// Its files, and last the sum of those that are followed no more.
    pub files: Vec<FileReport>,
    /// Paths that cannot be read, each with the reason.
    pub unreadable: Vec<String>,
}

/// One buffered output.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct OutputStatus {
    /// `@id`, or what the agent calls it.
    pub id: String,
    /// Chunks in stage, queue and in flight.
    pub chunks: usize,
    /// Of these, being written now.
    pub in_flight: usize,
    /// Bytes of entries in them.
    pub bytes: usize,
    /// Events in them.
    pub records: usize,
    /// Events that the output took.
    pub delivered: u64,
    /// Attempts that failed.
    pub errors: u64,
    /// Attempts that took longer than `slow_flush_log_threshold`.
    #[serde(default)]
    pub slow: u64,
    /// What the bounds of its buffer and damage on disk have cost.
    #[serde(default)]
    pub lost: Lost,
}

impl View {
    /// The account of every line so far.
    pub fn ledger(&self) -> Ledger {
        let mut sum = Ledger {
            spilled: self.spilled.load(Ordering::Relaxed),
            ..Ledger::default()
        };
        for (_, progress) in &self.inputs {
            ledger::add(&mut sum.lines_read, &progress.lines);
            ledger::add(&mut sum.bytes_read, &progress.bytes);
            ledger::add(&mut sum.skipped, &progress.skipped);
            ledger::add(&mut sum.behind_bytes, &progress.behind);
            ledger::add(&mut sum.forgotten_bytes, &progress.forgotten);
        }
        sum.dropped = self
            .routers
            .iter()
            .map(|router| router.unmatched() + router.filtered())
            .sum();
        for flusher in &self.flushers {
            let (delivered, backlog) = (flusher.delivered(), flusher.backlog());
            ledger::add(&mut sum.delivered, &delivered.records);
            ledger::add(&mut sum.secondary, &delivered.secondary_records);
            ledger::add(&mut sum.backed_up, &delivered.backup_records);
            ledger::add(&mut sum.discarded, &delivered.discarded_records);
            let lost = flusher.buffer().lost();
            sum.overflowed += lost.dropped_records + lost.oversized_records;
            sum.resumed += flusher.buffer().resumed();
            sum.kept += backlog.records as u64;
        }
        sum
    }

    /// Each file of each source, as of now. Looks at all of them: not for a thread of the runtime.
    pub fn files(&self) -> Vec<FileReport> {
        let inputs = self.inputs.iter();
        inputs.flat_map(|(_, progress)| progress.report()).collect()
    }

    /// Everything.
    pub fn status(&self) -> Status {
        let source = |(id, progress): &(String, Arc<Progress>)| SourceStatus {
            id: id.clone(),
            files: progress.report(),
            unreadable: progress.unreadable(),
        };
        let output = |flusher: &Arc<Flusher>| {
            let (delivered, backlog) = (flusher.delivered(), flusher.backlog());
            OutputStatus {
                id: flusher.id().to_owned(),
                chunks: backlog.chunks,
                in_flight: backlog.in_flight,
                bytes: backlog.bytes,
                records: backlog.records,
                delivered: delivered.records.load(Ordering::Relaxed),
                errors: delivered.errors.load(Ordering::Relaxed),
                slow: delivered.slow.load(Ordering::Relaxed),
                lost: flusher.buffer().lost(),
            }
        };
        Status {
            pid: std::process::id(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            ledger: self.ledger(),
            sources: self.inputs.iter().map(source).collect(),
            outputs: self.flushers.iter().map(output).collect(),
        }
    }
}

impl Status {
    /// For a person to read.
    pub fn text(&self) -> String {
        let Status { ledger, .. } = self;
        let mut text = format!(
            "affluent {}, pid {}\nread {} lines, {} bytes; skipped {}, dropped {}; delivered {}, secondary {}, backed up {}, discarded {}, overflowed {}, spilled {}; kept {}, resumed {}; {} bytes behind\n",
            self.version,
            self.pid,
            ledger.lines_read,
            ledger.bytes_read,
            ledger.skipped,
            ledger.dropped,
            ledger.delivered,
            ledger.secondary,
            ledger.backed_up,
            ledger.discarded,
            ledger.overflowed,
            ledger.spilled,
            ledger.kept,
            ledger.resumed,
            ledger.behind_bytes,
        );
        for output in &self.outputs {
            text += &format!(
                "output {}: {} events delivered, {} attempts failed; buffered {} chunks ({} in flight), {} events, {} bytes\n",
                output.id,
                output.delivered,
                output.errors,
                output.chunks,
                output.in_flight,
                output.records,
                output.bytes
            );
            text += &exceptions(output);
        }
        for source in &self.sources {
            text += &format!("source {}: {} files\n", source.id, source.files.len());
            text += &format!(
                "{:>10} {:>10} {:>8} {:>8} {:>8} {:>10} {:>12}  path\n",
                "lines", "safe", "waiting", "again", "skipped", "held", "behind"
            );
            source.files.iter().for_each(|file| text += &row(file));
            let troubles = source.unreadable.iter();
            troubles.for_each(|path| text += &format!("cannot read {path}\n"));
        }
        text
    }
}

/// What is out of the ordinary, if anything is.
fn exceptions(output: &OutputStatus) -> String {
    let Lost {
        pauses,
        dropped_chunks,
        dropped_records,
        oversized_records,
        broken_chunks,
        salvaged_chunks,
        unreadable_bytes,
    } = output.lost;
    let all = [
        (output.slow, "slow attempts"),
        (pauses, "pauses of a full buffer"),
        (dropped_chunks, "chunks dropped by drop_oldest_chunk"),
        (dropped_records, "events in them"),
        (oversized_records, "events larger than a chunk"),
        (broken_chunks, "chunks set aside"),
        (salvaged_chunks, "chunks read in part"),
        (unreadable_bytes, "unreadable bytes"),
    ];
    let some = all.iter().filter(|(count, _)| *count > 0);
    let some: Vec<String> = some
        .map(|(count, what)| format!("{count} {what}"))
        .collect();
    match some.is_empty() {
        true => String::new(),
        false => format!("  {}\n", some.join(", ")),
    }
}

fn row(file: &FileReport) -> String {
    let totals = &file.totals;
    format!(
        "{:>10} {:>10} {:>8} {:>8} {:>8} {:>10} {:>12}  {}{}\n",
        totals.lines,
        totals.safe_lines,
        file.waiting_lines,
        totals.forgotten_lines,
        totals.skipped.sum(),
        file.held_bytes,
        file.behind_bytes,
        file.path.display(),
        match file.generations {
            0 | 1 => String::new(),
            more => format!(" ({more} generations)"),
        }
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exceptions_of_a_buffer_are_told_and_their_absence_is_silent() {
        let mut output = OutputStatus::default();
        assert_eq!(exceptions(&output), "");
        output.slow = 2;
        (output.lost.dropped_chunks, output.lost.dropped_records) = (1, 7);
        assert_eq!(
            exceptions(&output),
            "  2 slow attempts, 1 chunks dropped by drop_oldest_chunk, 7 events in them\n"
        );
    }

    #[test]
    fn the_answer_of_an_older_agent_is_read() {
        let old =
            r#"{"id":"o","chunks":1,"in_flight":0,"bytes":2,"records":3,"delivered":4,"errors":5}"#;
        let output: OutputStatus = serde_json::from_str(old).expect("readable");
        assert_eq!(
            (output.errors, output.slow, output.lost),
            (5, 0, Lost::default())
        );
    }
}
