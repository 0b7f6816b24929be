//! Flush latency: lines appended one by one, the time from just before write(2) to the receiver's read.

use std::collections::BTreeMap;
use std::io::Write;
use std::net::TcpStream;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};

use crate::lines;
use crate::process::{Agent, Place, append_to, forward};
use crate::receiver::{Look, Receiver};
use crate::table::{Row, mb, ms, percentile};

const ASK: &str = "p50 < 0.3 ms, p99 < 2 ms";
const LINES: u64 = 1600;
const PERIOD: Duration = Duration::from_millis(5);
/// Written one after the other's arrival, before anything is measured.
const WARM_UP: u64 = 20;
const LIMIT: Duration = Duration::from_secs(20);

/// Once over plain TCP, then through the agent, a connection for each chunk and one for all.
pub fn rows() -> Result<Vec<Row>> {
    let floor = Figures::of(&floor()?);
    let mut rows = Vec::new();
    for (name, keepalive) in [
        ("Fluentd's default connections", "false"),
        ("keepalive true", "true"),
    ] {
        let (latencies, memory) = agent(keepalive)?;
        let figures = Figures::of(&latencies);
        rows.push(Row {
            work: format!("flush latency, immediate, ack, 200 lines/s, {name}"),
            floor: format!("raw TCP {floor}"),
            affluent: figures.to_string(),
            ratio: format!(
                "p50 {:.1}",
                figures.p50.as_secs_f64() / floor.p50.as_secs_f64()
            ),
            memory,
            ask: ASK.to_string(),
        });
    }
    Ok(rows)
}

struct Figures {
    p50: Duration,
    p99: Duration,
    max: Duration,
}

impl Figures {
    fn of(latencies: &[Duration]) -> Self {
        let at = |percent| percentile(latencies, percent).unwrap_or_default();
        Self {
            p50: at(50),
            p99: at(99),
            max: at(100),
        }
    }
}

impl std::fmt::Display for Figures {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "p50 {}, p99 {}, max {}",
            ms(self.p50),
            ms(self.p99),
            ms(self.max)
        )
    }
}

/// The same writer sends each line straight to the receiver.
fn floor() -> Result<Vec<Duration>> {
    let receiver = Receiver::start(Look::Bare)?;
    let mut stream = TcpStream::connect(receiver.addr())?;
    stream.set_nodelay(true)?;
    warm_up(&mut stream, &receiver)?;
    let written = write_at_pace(&mut stream)?;
    receiver.wait_for_lines(WARM_UP + LINES, LIMIT)?;
    latencies(&written, &receiver)
}

fn agent(keepalive: &str) -> Result<(Vec<Duration>, String)> {
    let receiver = Receiver::start(Look::Lines)?;
    let place = Place::new()?;
    let log = place.path("app.txt");
    let mut file = append_to(&log)?;
    let params = format!(
        "heartbeat_type none\n  keepalive {keepalive}\n  <buffer>\n    flush_mode immediate\n  </buffer>"
    );
    let config = place.source(&log) + &forward(&params, &[receiver.addr()]);
    let agent = Agent::start(&place, &config, &[])?;
    agent.explain(warm_up(&mut file, &receiver))?;
    let before = agent.cpu()?;
    let written = write_at_pace(&mut file)?;
    agent.explain(receiver.wait_for_lines(WARM_UP + LINES, LIMIT))?;
    let cpu = agent.cpu()? - before;
    let memory = format!("{} peak, {:.2} s cpu", mb(agent.peak()?), cpu.as_secs_f64());
    agent.terminate(LIMIT)?;
    Ok((latencies(&written, &receiver)?, memory))
}

fn warm_up(out: &mut impl Write, receiver: &Receiver) -> Result<()> {
    for id in 0..WARM_UP {
        out.write_all(&lines::line(id))?;
        receiver.wait_for_lines(id + 1, LIMIT)?;
    }
    Ok(())
}

/// When each line was about to be written.
fn write_at_pace(out: &mut impl Write) -> Result<BTreeMap<u64, Instant>> {
    let mut written = BTreeMap::new();
    let mut due = Instant::now();
    for id in WARM_UP..WARM_UP + LINES {
        due += PERIOD;
        std::thread::sleep(due.saturating_duration_since(Instant::now()));
        let line = lines::line(id);
        written.insert(id, Instant::now());
        out.write_all(&line)?;
    }
    Ok(written)
}

/// One latency for each line, by its first arrival.
fn latencies(written: &BTreeMap<u64, Instant>, receiver: &Receiver) -> Result<Vec<Duration>> {
    let mut waiting = written.clone();
    let mut latencies = Vec::new();
    for (id, at) in &receiver.journal().arrivals {
        if let Some(before) = waiting.remove(id) {
            latencies.push(at.saturating_duration_since(before));
        }
    }
    ensure!(
        waiting.is_empty(),
        "{} of {LINES} lines did not come",
        waiting.len()
    );
    Ok(latencies)
}
