//! Catch-up: a large file from its head, the bare loop and the agent in turn.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};

use crate::process::{Agent, Place, forward, thread_cpu};
use crate::receiver::{Journal, Look, Receiver};
use crate::table::{Row, mb, median};
use crate::{bare_loop, env_or, lines};

const ASK: &str = "0.4 of the bare loop, memory < 150 MB";
/// A chunk that is not full goes out after a tenth of a second, so that the last one does not wait for Fluentd's 60 s.
pub const PARAMS: &str = "heartbeat_type none\n  flush_interval 0.1";
const LIMIT: Duration = Duration::from_secs(120);

/// One way through the file, once.
pub struct Run {
    /// From the start of the process, or of the loop, to the last line's arrival.
    pub total: Duration,
    /// From the first byte's arrival to the last line's.
    flowing: Duration,
    /// Processor time of the process, or of the loop.
    cpu: Duration,
    /// The most resident memory, of the process only.
    pub peak: u64,
    messages: usize,
}

/// Runs both ways `AFFLUENT_BENCH_ROUNDS` (3) times over `AFFLUENT_BENCH_MB` (1000) megabytes.
pub fn rows() -> Result<Vec<Row>> {
    let megabytes = env_or("AFFLUENT_BENCH_MB", 1000)?;
    let rounds = env_or("AFFLUENT_BENCH_ROUNDS", 3)?;
    let count = megabytes * 1_000_000 / lines::LENGTH as u64;
    let file = lines::file(count)?;
    let (mut bare, mut agent) = (Vec::new(), Vec::new());
    for round in 1..=rounds {
        let loop_run = run_bare(&file, count)?;
        eprintln!(
            "catch_up {round}/{rounds}: bare loop {}",
            loop_run.told(count)
        );
        let agent_run = run_agent(&file, count, |_| PARAMS.to_owned())?;
        eprintln!(
            "catch_up {round}/{rounds}: affluent {}",
            agent_run.told(count)
        );
        bare.push(loop_run);
        agent.push(agent_run);
    }
    let figure = |time: fn(&Run) -> Duration| [middle(&bare, time), middle(&agent, time)];
    let peak = agent.iter().map(|run| run.peak).max().unwrap_or_default();
    let row = |what: &str, [bare, agent]: [Duration; 2], show: &dyn Fn(Duration) -> String| Row {
        work: format!("catch-up, {megabytes} MB, parser none, ack, median of {rounds}, {what}"),
        floor: show(bare),
        affluent: show(agent),
        ratio: format!("{:.2}", bare.as_secs_f64() / agent.as_secs_f64()),
        memory: format!("{} peak", mb(peak)),
        ask: ASK.to_string(),
    };
    let per_second = |time| rate(count, time);
    let seconds = |time: Duration| format!("{:.2} s cpu", time.as_secs_f64());
    Ok(vec![
        row(
            "process start to last line",
            figure(|run| run.total),
            &per_second,
        ),
        row(
            "first byte to last line",
            figure(|run| run.flowing),
            &per_second,
        ),
        Row {
            ask: String::new(),
            ..row("processor time", figure(|run| run.cpu), &seconds)
        },
    ])
}

impl Run {
    fn told(&self, count: u64) -> String {
        format!(
            "{} from the start, {} from the first byte, {:.2} s cpu, {} messages",
            rate(count, self.total),
            rate(count, self.flowing),
            self.cpu.as_secs_f64(),
            self.messages,
        )
    }
}

fn middle(runs: &[Run], time: fn(&Run) -> Duration) -> Duration {
    median(&runs.iter().map(time).collect::<Vec<_>>()).unwrap_or_default()
}

/// Lines a second.
pub fn rate(count: u64, time: Duration) -> String {
    format!("{:.2} M lines/s", count as f64 / time.as_secs_f64() / 1e6)
}

fn run_bare(file: &Path, count: u64) -> Result<Run> {
    let receiver = Receiver::start(Look::Ends)?;
    let (started, before) = (Instant::now(), thread_cpu()?);
    bare_loop::run(file, receiver.addr())?;
    let cpu = thread_cpu()? - before;
    finished(&receiver.journal(), started, cpu, 0, count)
}

/// The agent, forwarding with these parameters, from its start to the last line.
pub fn run_agent(file: &Path, count: u64, params: impl Fn(&Place) -> String) -> Result<Run> {
    let receiver = Receiver::start(Look::Ends)?;
    let place = Place::new()?;
    let config = place.source(file) + &forward(&params(&place), &[receiver.addr()]);
    let agent = Agent::start(&place, &config, &[])?;
    agent.explain(receiver.wait_for_lines(count, LIMIT))?;
    let (cpu, peak, started) = (agent.cpu()?, agent.peak()?, agent.started);
    agent.terminate(Duration::from_secs(30))?;
    finished(&receiver.journal(), started, cpu, peak, count)
}

/// The times of a run in which every line came exactly once.
fn finished(
    journal: &Journal,
    started: Instant,
    cpu: Duration,
    peak: u64,
    count: u64,
) -> Result<Run> {
    let distinct = journal.distinct(count);
    ensure!(
        distinct == count && journal.lines == count,
        "{count} lines were written, {distinct} of them came, in {} arrivals",
        journal.lines
    );
    let first = journal
        .spans
        .iter()
        .map(|span| span.began)
        .min()
        .unwrap_or(started);
    let last = journal
        .spans
        .iter()
        .map(|span| span.ended)
        .max()
        .unwrap_or(started);
    Ok(Run {
        total: last - started,
        flowing: last - first,
        cpu,
        peak,
        messages: journal.spans.len(),
    })
}
