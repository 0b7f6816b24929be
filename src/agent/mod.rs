//! The agent: owns every thread and task of one configuration, from its start to its end.
//!
//! Start goes against the flow (outputs first), a stop goes with it: inputs stop, outputs flush, outputs close, positions are
//! written. The agent does not know why it ends; `main` and `drain` tell it.

mod buffer_paths;
pub mod configure;
mod ledger;
pub mod status;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use anyhow::Context;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tracing::{error, info, warn};

use crate::buffer::Buffer;
use crate::event::Extent;
use crate::flush::{self, Flusher};
use crate::input::{Progress, Surroundings};
use crate::route::Router;
use crate::stop::{Phase, Stop};

pub use crate::input::FileReport;
pub use configure::Plan;
pub use ledger::Ledger;
pub use status::{Status, View};

/// A stop waits so long for a server that neither takes nor refuses before it leaves the rest to the next start.
const PATIENCE: Duration = Duration::from_secs(5);
/// A stop ends within this, whatever servers do: well below systemd's 90 seconds.
const STOP_DEADLINE: Duration = Duration::from_secs(60);
/// A start waits so long for sources that look for their files.
const START_DEADLINE: Duration = Duration::from_secs(30);
/// Threads look at their stop at least this often; one that does not end has hung on a file system.
const JOIN_DEADLINE: Duration = Duration::from_secs(10);

struct RunningInput {
    name: String,
    thread: thread::JoinHandle<()>,
    progress: Arc<Progress>,
}

/// What the sources have said about their end.
#[derive(Debug, Default)]
struct Reading {
    /// Sources that may still emit.
    left: usize,
    /// Sources whose thread ended before they had finished.
    dead: Vec<String>,
}

/// A running configuration.
pub struct Agent {
    inputs: Vec<RunningInput>,
    flushers: Vec<Arc<Flusher>>,
    routers: Vec<Arc<Router>>,
    tasks: JoinSet<()>,
    reading: watch::Receiver<Reading>,
    deaths: mpsc::UnboundedReceiver<String>,
    inputs_stop: Stop,
    outputs_stop: Stop,
    spilled: Arc<AtomicU64>,
    /// What buffers on disk remember of the files of an earlier run.
    recalled: Arc<[Extent]>,
}

impl Agent {
    /// Starts everything in the plan: flush workers and heartbeats first, then the sources. Complete when every source has its
    /// pos_file and has looked for its files; one that cannot begin fails the start.
    pub async fn start(plan: Plan) -> anyhow::Result<Agent> {
        let (death, deaths) = mpsc::unbounded_channel();
        let (readers, reading) = watch::channel(Reading {
            left: plan.inputs.len(),
            ..Reading::default()
        });
        let (starters, mut starting) = watch::channel(plan.inputs.len());
        let mut agent = Agent {
            inputs: Vec::new(),
            flushers: plan.flushers,
            routers: plan.routers,
            tasks: JoinSet::new(),
            reading,
            deaths,
            inputs_stop: Stop::new(),
            outputs_stop: Stop::new(),
            spilled: Arc::default(),
            recalled: Arc::default(),
        };
        let reading = plan.inputs.iter().map(|input| input.input.most_memory());
        if let Err(error) = agent.open_buffers(reading.sum()).await {
            agent.close().await;
            return Err(error);
        }
        for flusher in agent.flushers.clone() {
            agent.start_output(&flusher, &death);
        }
        for input in plan.inputs {
            agent.start_input(input, readers.clone(), starters.clone(), death.clone())?;
        }
        tokio::select! {
            biased;
            name = agent.deaths.recv() => {
                agent.close().await;
                anyhow::bail!("{} cannot start", name.unwrap_or_default());
            }
            started = tokio::time::timeout(START_DEADLINE, starting.wait_for(|left| *left == 0)) => match started {
                Ok(_) => agent.buffers().for_each(|buffer| buffer.taken_up()),
                Err(_) => warn!("a source is still looking for its files"),
            },
        }
        Ok(agent)
    }

    /// What earlier runs left on disk comes back before anything is read. A buffer that cannot be opened fails the start.
    async fn open_buffers(&mut self, reading: usize) -> anyhow::Result<()> {
        let buffers: Vec<_> = self.buffers().cloned().collect();
        let opening = move || buffers.iter().try_for_each(Buffer::open);
        tokio::task::spawn_blocking(opening)
            .await
            .context("the start was cancelled")??;
        self.recalled = self
            .buffers()
            .flat_map(|buffer| buffer.recalled())
            .collect();
        let add = |sum: usize, flusher: &Arc<Flusher>| sum.saturating_add(flusher.most_memory());
        match self.flushers.iter().fold(reading, add) {
            usize::MAX => {
                warn!("a buffer in memory has no total_limit_size: there is no worst-case memory")
            }
            bytes => info!(
                bytes,
                "worst-case memory of sources, buffers and what is sent from them; a last line without an end takes up to max_line_size more"
            ),
        }
        Ok(())
    }

    fn buffers(&self) -> impl Iterator<Item = &Arc<Buffer>> {
        self.flushers.iter().map(|flusher| flusher.buffer())
    }

    /// Writes what is not on disk yet and releases it, so that positions may pass it.
    async fn close_buffers(&self) {
        let buffers: Vec<_> = self.buffers().cloned().collect();
        let closing =
            tokio::task::spawn_blocking(move || buffers.iter().for_each(|buffer| buffer.close()));
        if tokio::time::timeout(JOIN_DEADLINE, closing).await.is_err() {
            warn!(
                "a file buffer did not close in time, what is not on disk is read again at the next start"
            );
        }
    }

    fn start_output(&mut self, flusher: &Arc<Flusher>, death: &mpsc::UnboundedSender<String>) {
        let heartbeats = flusher.output().clone().tasks(self.outputs_stop.clone());
        for (name, task) in heartbeats {
            self.watch_task(format!("{name}.{}", flusher.id()), task, death);
        }
        for number in 0..flusher.settings().workers {
            let work = flusher.clone().work(self.outputs_stop.clone());
            self.watch_task(format!("flush.{}.{number}", flusher.id()), work, death);
        }
    }

    /// Runs a task; one that ends before it was asked to is reported as a death.
    fn watch_task(
        &mut self,
        name: String,
        task: impl Future<Output = ()> + Send + 'static,
        death: &mpsc::UnboundedSender<String>,
    ) {
        let (death, stop) = (death.clone(), self.outputs_stop.clone());
        self.tasks.spawn(async move {
            let guard = Death { name, death, stop };
            task.await;
            drop(guard);
        });
    }

    fn start_input(
        &mut self,
        input: configure::PlannedInput,
        readers: watch::Sender<Reading>,
        starters: watch::Sender<usize>,
        death: mpsc::UnboundedSender<String>,
    ) -> anyhow::Result<()> {
        let progress = Arc::new(Progress::default());
        let last = Arc::new(LastWord {
            name: input.id.clone(),
            said: AtomicBool::new(false),
            readers,
        });
        let buffers: Vec<_> = self.buffers().cloned().collect();
        let surroundings = Surroundings {
            collector: input.collector,
            hasten: Arc::new(move || buffers.iter().for_each(|buffer| buffer.enqueue_all())),
            recalled: self.recalled.clone(),
            stop: self.inputs_stop.clone(),
            progress: progress.clone(),
            started: Arc::new(move || starters.send_modify(|left| *left = left.saturating_sub(1))),
            finished: Arc::new({
                let last = last.clone();
                move || last.finished()
            }),
        };
        let guard = Death {
            name: input.id.clone(),
            death,
            stop: self.inputs_stop.clone(),
        };
        let run = move || {
            // Dropped by a panic too.
            let _missing = MissingLastWord(last);
            if let Err(error) = input.input.run(surroundings) {
                error!(
                    plugin_id = guard.name,
                    error = format!("{error:#}"),
                    "the source cannot go on"
                );
            }
            drop(guard);
        };
        let thread = thread::Builder::new()
            .name(format!("in_{}", input.id))
            .spawn(run);
        let thread =
            thread.with_context(|| format!("cannot start a thread for source {}", input.id))?;
        self.inputs.push(RunningInput {
            name: input.id,
            thread,
            progress,
        });
        Ok(())
    }

    /// Completes with its name when a thread or task died unasked: the process must end, and nothing is lost by it.
    pub async fn died(&mut self) -> String {
        match self.deaths.recv().await {
            Some(name) => name,
            // Every holder of a sender ended in order: nobody is left who could die.
            None => std::future::pending().await,
        }
    }

    /// Everything staged goes to the queue and pending back-offs end.
    pub fn force(&self) {
        self.flushers.iter().for_each(|flusher| flusher.force());
    }

    /// A forced flush of all outputs. The future belongs to the caller: the agent goes on meanwhile.
    pub fn flush(&self) -> impl Future<Output = ()> + Send + 'static {
        let flushers = self.flushers.clone();
        async move {
            info!("force flushing buffered events");
            flush_all(&flushers).await;
            let left: usize = flushers
                .iter()
                .map(|flusher| flusher.backlog().records)
                .sum();
            match left {
                0 => info!("flushing is done: all buffers are empty"),
                _ => warn!(
                    records = left,
                    "flushing is done: an output did not take everything, the rest is tried again"
                ),
            }
        }
    }

    /// Ends everything. Sources stop where they are, outputs flush as configured and as far as servers take it, and the positions
    /// keep the rest for the next start.
    pub async fn stop(mut self) -> Ledger {
        self.inputs_stop.advance(Phase::Now);
        let flushed = async {
            self.inputs_finished().await;
            let (flush, keep): (Vec<_>, Vec<_>) = self
                .flushers
                .iter()
                .cloned()
                .partition(|flusher| flusher.settings().at_shutdown);
            tokio::join!(flush_all(&flush), settle_all(&keep));
        };
        if tokio::time::timeout(STOP_DEADLINE, flushed).await.is_err() {
            warn!("stop deadline reached, what is not delivered is read again at the next start");
        }
        self.close().await
    }

    /// Closes outputs, then inputs. What is in flight goes back to its buffer, and with the buffer to the files it came from.
    pub async fn close(&mut self) -> Ledger {
        let ledger = self.ledger();
        self.outputs_stop.advance(Phase::Close);
        let joined = async { while self.tasks.join_next().await.is_some() {} };
        if tokio::time::timeout(JOIN_DEADLINE, joined).await.is_err() {
            warn!("an output task did not end in time");
        }
        self.close_buffers().await;
        self.inputs_stop.advance(Phase::Close);
        for input in self.inputs.drain(..) {
            let joined = tokio::task::spawn_blocking(move || input.thread.join());
            if !matches!(
                tokio::time::timeout(JOIN_DEADLINE, joined).await,
                Ok(Ok(Ok(())))
            ) {
                warn!(
                    plugin_id = input.name,
                    "the source did not end in order; its last positions may be written late"
                );
            }
        }
        self.buffers().for_each(|buffer| buffer.tidy());
        ledger
    }

    // What a drain asks for.

    /// The instance terminates: nothing waits for a flush time or a back-off any more, outputs prefer whoever answers.
    pub fn hurry(&self) {
        self.flushers.iter().for_each(|flusher| flusher.hurry());
    }

    /// Sources read every file to its end and then finish. Buffers must be kept moving meanwhile, or a full one holds them.
    pub fn read_to_end(&self) {
        self.inputs_stop.advance(Phase::AtEnd);
    }

    /// Completes when no source will emit any more: each has finished or is dead ([`Agent::dead_sources`]).
    pub async fn inputs_finished(&self) {
        // The senders live in the source threads, and each has had its last word before its sender goes.
        let _ = self
            .reading
            .clone()
            .wait_for(|reading| reading.left == 0)
            .await;
    }

    /// Sources whose thread ended before they had finished: their files may be unread.
    pub fn dead_sources(&self) -> Vec<String> {
        self.reading.borrow().dead.clone()
    }

    /// Paths that sources cannot read, each with the reason.
    pub fn unreadable(&self) -> Vec<String> {
        let inputs = self.inputs.iter();
        inputs
            .flat_map(|input| input.progress.unreadable())
            .collect()
    }

    /// Completes when all buffers are empty.
    pub async fn emptied(&self) {
        while let Some(flusher) = self
            .flushers
            .iter()
            .find(|flusher| flusher.backlog().chunks > 0)
        {
            flusher.buffer().emptied().await;
        }
    }

    /// The buffered outputs: the drain takes chunks from them that no server took.
    pub fn outputs(&self) -> &[Arc<Flusher>] {
        &self.flushers
    }

    /// The count of events that were stored elsewhere, for whoever stores them.
    pub fn spilled(&self) -> &Arc<AtomicU64> {
        &self.spilled
    }

    /// The account of every line so far.
    pub fn ledger(&self) -> Ledger {
        self.view().ledger()
    }

    /// A hold on its counters, for whoever asks while it runs.
    pub fn view(&self) -> View {
        let inputs = self.inputs.iter();
        View {
            inputs: inputs
                .map(|input| (input.name.clone(), input.progress.clone()))
                .collect(),
            flushers: self.flushers.clone(),
            routers: self.routers.clone(),
            spilled: self.spilled.clone(),
        }
    }
}

async fn flush_all(flushers: &[Arc<Flusher>]) {
    let mut each = JoinSet::new();
    for flusher in flushers {
        let flusher = flusher.clone();
        each.spawn(async move {
            flusher.force();
            flush::flushed(&flusher, PATIENCE).await;
        });
    }
    each.join_all().await;
}

async fn settle_all(flushers: &[Arc<Flusher>]) {
    let mut each = JoinSet::new();
    for flusher in flushers {
        let flusher = flusher.clone();
        each.spawn(async move { flusher.settle(PATIENCE).await });
    }
    each.join_all().await;
}

/// What a source says once about its end, whoever says it first: itself, or the end of its thread.
struct LastWord {
    name: String,
    said: AtomicBool,
    readers: watch::Sender<Reading>,
}

impl LastWord {
    fn finished(&self) {
        self.say(|reading| reading.left -= 1);
    }

    fn say(&self, change: impl FnOnce(&mut Reading)) {
        if !self.said.swap(true, Ordering::AcqRel) {
            self.readers.send_modify(change);
        }
    }
}

/// Says it for a thread that ends without a word.
struct MissingLastWord(Arc<LastWord>);

impl Drop for MissingLastWord {
    fn drop(&mut self) {
        self.0.say(|reading| {
            reading.left -= 1;
            reading.dead.push(self.0.name.clone());
        });
    }
}

/// Reports the end of a thread or task that nobody asked to end, a panic included.
struct Death {
    name: String,
    death: mpsc::UnboundedSender<String>,
    stop: Stop,
}

impl Drop for Death {
    fn drop(&mut self) {
        if self.stop.phase() < Phase::Close {
            // The receiver is gone only when the agent is.
            let _ = self.death.send(std::mem::take(&mut self.name));
        }
    }
}

#[cfg(test)]
mod tests;
