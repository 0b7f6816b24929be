//! Catch-up: a large file from its head, the bare loop and the agent in turn.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};

use crate::process::{Agent, Place, forward};
use crate::receiver::{Journal, Look, Receiver};
use crate::table::{Row, mb, median};
use crate::{bare_loop, env_or, lines};

const ASK: &str = "0.4 of the bare loop, memory < 150 MB";
/// A chunk that is not full goes out after a tenth of a second, so that the last one does not wait for Fluentd's 60 s.
const PARAMS: &str = "heartbeat_type none\n  flush_interval 0.1";
const LIMIT: Duration = Duration::from_secs(120);

/// One way through the file, once.
#[derive(Clone, Copy)]
struct Run {
    /// From the start of the process, or of the loop, to the last line's arrival.
    total: Duration,
    /// From the first byte's arrival to the last line's.
    flowing: Duration,
    messages: usize,
}

#[derive(Clone, Copy)]
struct Cost {
    peak: u64,
    cpu: Duration,
}

/// Runs both ways `AFFLUENT_BENCH_ROUNDS` (3) times over `AFFLUENT_BENCH_MB` (1000) megabytes.
pub fn rows() -> Result<Vec<Row>> {
    let megabytes = env_or("AFFLUENT_BENCH_MB", 1000)?;
    let rounds = env_or("AFFLUENT_BENCH_ROUNDS", 3)?;
    let count = megabytes * 1_000_000 / lines::LENGTH as u64;
    let file = lines::file(count)?;
    let (mut bare, mut agent, mut costs) = (Vec::new(), Vec::new(), Vec::new());
    for round in 1..=rounds {
        let loop_run = run_bare(&file, count)?;
        let (agent_run, cost) = run_agent(&file, count)?;
        eprintln!(
            "catch_up {round}/{rounds}: bare loop {} in {} messages, affluent {} in {} messages, {} peak, {:.2} s cpu",
            rate(count, loop_run.total),
            loop_run.messages,
            rate(count, agent_run.total),
            agent_run.messages,
            mb(cost.peak),
            cost.cpu.as_secs_f64(),
        );
        bare.push(loop_run);
        agent.push(agent_run);
        costs.push(cost);
    }
    let title = format!("catch-up, {megabytes} MB, parser none, ack, median of {rounds}");
    let row = |what: &str, time: fn(&Run) -> Duration| {
        row(
            &format!("{title}, {what}"),
            count,
            [&bare, &agent],
            &costs,
            time,
        )
    };
    Ok(vec![
        row("from process start to last line", |run| run.total),
        row("from first byte to last line", |run| run.flowing),
    ])
}

fn row(
    work: &str,
    count: u64,
    [bare, agent]: [&[Run]; 2],
    costs: &[Cost],
    time: fn(&Run) -> Duration,
) -> Row {
    let middle =
        |runs: &[Run]| median(&runs.iter().map(time).collect::<Vec<_>>()).unwrap_or_default();
    let (bare, agent) = (middle(bare), middle(agent));
    let cpu = median(&costs.iter().map(|cost| cost.cpu).collect::<Vec<_>>()).unwrap_or_default();
    Row {
        work: work.to_string(),
        floor: rate(count, bare),
        affluent: rate(count, agent),
        ratio: format!("{:.2}", bare.as_secs_f64() / agent.as_secs_f64()),
        memory: format!(
            "{} peak, {:.2} s cpu",
            mb(costs.iter().map(|cost| cost.peak).max().unwrap_or_default()),
            cpu.as_secs_f64()
        ),
        ask: ASK.to_string(),
    }
}

fn rate(count: u64, time: Duration) -> String {
    format!("{:.2} M lines/s", count as f64 / time.as_secs_f64() / 1e6)
}

fn run_bare(file: &Path, count: u64) -> Result<Run> {
    let receiver = Receiver::start(Look::Ends)?;
    let started = Instant::now();
    bare_loop::run(file, receiver.addr())?;
    finished(&receiver.journal(), started, count)
}

fn run_agent(file: &Path, count: u64) -> Result<(Run, Cost)> {
    let receiver = Receiver::start(Look::Ends)?;
    let place = Place::new()?;
    let config = place.source(file) + &forward(PARAMS, &[receiver.addr()]);
    let agent = Agent::start(&place, &config, &[])?;
    agent.explain(receiver.wait_for_lines(count, LIMIT))?;
    let cost = Cost {
        peak: agent.peak()?,
        cpu: agent.cpu()?,
    };
    let started = agent.started;
    agent.terminate(Duration::from_secs(30))?;
    Ok((finished(&receiver.journal(), started, count)?, cost))
}

/// The times of a run in which every line came exactly once.
fn finished(journal: &Journal, started: Instant, count: u64) -> Result<Run> {
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
        messages: journal.spans.len(),
    })
}
