//! The agent as the drain sees it.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::drainable::{Drainable, Ledger, OutputBacklog, Taken};
use crate::agent::{Agent, FileReport};
use crate::buffer::{Chunk, InFlight};

/// A chunk in the drain's hands.
pub struct TakenChunk {
    chunk: InFlight,
    spilled: Arc<AtomicU64>,
}

impl Taken for TakenChunk {
    fn chunk(&self) -> &Chunk {
        &self.chunk
    }

    fn purge(self) {
        self.spilled
            .fetch_add(self.chunk.records() as u64, Ordering::Relaxed);
        self.chunk.purge();
    }
}

impl Drainable for Agent {
    type Taken = TakenChunk;

    fn hurry(&self) {
        Agent::hurry(self);
    }

    fn read_to_end(&self) {
        Agent::read_to_end(self);
    }

    fn inputs_finished(&self) -> impl Future<Output = ()> + Send {
        Agent::inputs_finished(self)
    }

    fn backlog(&self) -> Vec<OutputBacklog> {
        let mut backlog = Vec::new();
        for flusher in self.outputs() {
            let level = flusher.backlog();
            backlog.push(OutputBacklog {
                id: flusher.id().to_owned(),
                chunks: level.chunks,
                bytes: level.bytes as u64,
                records: level.records as u64,
                in_flight: level.in_flight,
                moved: flusher.moved(),
            });
        }
        backlog
    }

    fn emptied(&self) -> impl Future<Output = ()> + Send {
        Agent::emptied(self)
    }

    fn take(&self, output: &str) -> Option<TakenChunk> {
        let flusher = self
            .outputs()
            .iter()
            .find(|flusher| flusher.id() == output)?;
        Some(TakenChunk {
            chunk: flusher.take()?,
            spilled: self.spilled().clone(),
        })
    }

    fn pause_flush(&self, output: &str) {
        self.outputs()
            .iter()
            .filter(|flusher| flusher.id() == output)
            .for_each(|flusher| flusher.pause());
    }

    fn resume_flush(&self, output: &str) {
        self.outputs()
            .iter()
            .filter(|flusher| flusher.id() == output)
            .for_each(|flusher| flusher.resume());
    }

    fn files(&self) -> Vec<FileReport> {
        self.view().files()
    }

    fn ledger(&self) -> Ledger {
        let sum = Agent::ledger(self);
        Ledger {
            lines_read: sum.lines_read,
            bytes_read: sum.bytes_read,
            resumed: sum.resumed,
            skipped: sum.skipped,
            dropped: sum.dropped + sum.overflowed,
            delivered: sum.delivered + sum.secondary,
            backed_up: sum.backed_up,
            discarded: sum.discarded,
            spilled: sum.spilled,
            kept: sum.kept,
            behind_bytes: sum.behind_bytes,
        }
    }

    fn not_safe(&self) -> Vec<String> {
        let dead = self.dead_sources().into_iter();
        let dead = dead.map(|source| format!("source {source} died, its files may be unread"));
        // Its disk goes with the instance.
        let backups = self.outputs().iter().filter_map(|flusher| {
            let records = flusher.delivered().backup_records.load(Ordering::Relaxed);
            let directory = flusher.backup_directory().filter(|_| records > 0)?;
            let (id, directory) = (flusher.id(), directory.display());
            Some(format!(
                "output {id}: {records} records in its backup directory {directory}"
            ))
        });
        let unreadable = self.unreadable().into_iter();
        let unreadable = unreadable.map(|path| format!("cannot read {path}"));
        let forgotten = Agent::ledger(self).forgotten_bytes;
        let forgotten = (forgotten > 0).then(|| {
            format!("{forgotten} bytes were read and lost from the buffers, their lines stand in the files alone")
        });
        dead.chain(unreadable)
            .chain(forgotten)
            .chain(backups)
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use std::path::{Path, PathBuf};

    use super::*;
    use crate::agent::Plan;
    use crate::agent::configure::PlannedInput;
    use crate::buffer::{Buffer, ChunkKeys, Compress, Limits, OverflowAction};
    use crate::input::{Input, Progress, Surroundings};
    use crate::stop::Phase;

    /// Has read what it could.
    struct Hindered;

    impl Input for Hindered {
        fn run(self: Box<Self>, around: Surroundings) -> anyhow::Result<()> {
            Progress::add(&around.progress.forgotten, 7);
            let trouble = (
                PathBuf::from("/proc/self/mem"),
                "Permission denied".to_owned(),
            );
            let gone = (
                PathBuf::from("/proc/no such"),
                "Permission denied".to_owned(),
            );
            let both = [&trouble, &gone].into_iter();
            around
                .progress
                .tell_unreadable(both.map(|(path, reason)| (path, reason)));
            (around.started)();
            (around.finished)();
            while around.stop.phase() < Phase::Close {
                std::thread::yield_now();
            }
            Ok(())
        }

        fn limit_read_ahead(&mut self, _bytes: u64) {}

        fn most_memory(&self) -> usize {
            0
        }
        fn limit_open_files(&mut self, _files: usize) {}

        fn pos_file(&self) -> Option<&Path> {
            None
        }
    }

    #[tokio::test]
    async fn what_a_source_could_not_read_and_what_no_buffer_has_any_more_is_not_safe() {
        let limits = Limits {
            chunk_bytes: 1000,
            chunk_records: usize::MAX,
            full_bytes: 1000,
            full_records: usize::MAX,
            total_bytes: 10_000,
            compress: Compress::Text,
            overflow: OverflowAction::Block,
        };
        let plan = Plan {
            inputs: vec![PlannedInput {
                id: "tail.0".into(),
                input: Box::new(Hindered),
                collector: Buffer::new("out", ChunkKeys::tag(), limits),
            }],
            flushers: vec![],
            routers: vec![],
            log_levels: Default::default(),
        };
        let mut agent = Agent::start(plan).await.expect("starts");
        agent.inputs_finished().await;
        assert_eq!(
            agent.not_safe(),
            [
                "cannot read /proc/self/mem: Permission denied",
                "7 bytes were read and lost from the buffers, their lines stand in the files alone"
            ]
        );
        agent.close().await;
    }
}
