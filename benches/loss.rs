//! What an outage costs: the agent has read lines that no server took when it is killed, or stopped; then everything comes back.

use std::time::{Duration, Instant};

use anyhow::Result;

use crate::lines;
use crate::process::{Agent, Place, append_to, forward};
use crate::receiver::{Look, Receiver, free_addr};
use crate::table::Row;

const ASK: &str = "0 lost";
const OUTAGE: u64 = 5000;
const AFTER: u64 = 1000;
const LIMIT: Duration = Duration::from_secs(60);
const FAILING: Duration = Duration::from_secs(1);
/// How long the agent has to deliver everything once the server is back.
const BACK: Duration = Duration::from_secs(20);

#[derive(Clone, Copy)]
enum End {
    Kill,
    Terminate,
}

/// `kill -9` while the server is away.
pub fn kill9() -> Result<Vec<Row>> {
    Ok(vec![scene("kill -9", End::Kill)?])
}

/// SIGTERM while the server is away.
pub fn sigterm() -> Result<Vec<Row>> {
    Ok(vec![scene("SIGTERM", End::Terminate)?])
}

fn scene(name: &str, end: End) -> Result<Row> {
    let server = free_addr()?;
    let place = Place::new()?;
    let log = place.path("app.txt");
    let params = "heartbeat_type none\n  <buffer>\n    flush_mode immediate\n  </buffer>";
    let config = place.source(&log) + &forward(params, &[server]);
    let log = append_to(&log)?;
    let mut agent = Agent::start(&place, &config, &[])?;
    let before = agent.settle(LIMIT)?;
    lines::write(&log, 0, OUTAGE)?;
    // Nothing is proven unless the agent holds the lines when it dies.
    let read = before + OUTAGE * lines::LENGTH as u64;
    agent.wait_until("the file is read", LIMIT, |agent| {
        Ok(agent.bytes_read()? >= read)
    })?;
    // Time to fail at sending, and to move the position too early.
    std::thread::sleep(FAILING);
    let asked = Instant::now();
    match end {
        End::Kill => agent.kill()?,
        End::Terminate => agent.terminate(LIMIT)?,
    };
    let ended = asked.elapsed();
    let receiver = Receiver::start_at(server, Look::Lines)?;
    lines::write(&log, OUTAGE, OUTAGE + AFTER)?;
    let mut agent = Agent::start(&place, &config, &[])?;
    let all = OUTAGE + AFTER;
    let came = || receiver.journal().distinct(all);
    // Whether it succeeds is the row's own figure.
    let _ = agent.wait_until("every line", BACK, |_| Ok(came() == all));
    agent.terminate(LIMIT)?;
    let lost = all - came();
    let repeated = receiver.journal().lines + lost - all;
    let failed = if lost > 0 { "FAILED: " } else { "" };
    Ok(Row {
        work: format!("{name}, memory buffer, server away, {all} lines"),
        floor: "Fluentd and Fluent Bit lose 5000".to_string(),
        affluent: format!(
            "{failed}{lost} lost, {repeated} repeated, ended after {} ms",
            ended.as_millis()
        ),
        ask: ASK.to_string(),
        ..Row::default()
    })
}
