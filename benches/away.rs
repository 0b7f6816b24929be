//! Memory while the server is away and logs are written: a tenth of the whole at a time, and each time a look at the agent when it has read
//! what it will. Then the server comes, and everything has to. The peak is that of all of it.

use std::fs;
use std::time::Duration;

use anyhow::{Context, Result};

use crate::process::{Agent, Place, append_to, forward};
use crate::receiver::{Look, Receiver, free_addr};
use crate::table::{Row, mb};
use crate::{env_or, lines};

const ASK: &str = "flat, within the printed bound";
const STEPS: u64 = 10;
const LIMIT: Duration = Duration::from_secs(120);
/// What the agent says of its bound.
const SAYS: &str = "worst-case memory of";

/// A memory buffer and a file buffer, `AFFLUENT_BENCH_MB` (1000) megabytes each.
pub fn rows() -> Result<Vec<Row>> {
    Ok(vec![scene("memory")?, scene("file")?])
}

fn scene(kind: &str) -> Result<Row> {
    let megabytes = env_or("AFFLUENT_BENCH_MB", 1000)?;
    let count = megabytes * 1_000_000 / lines::LENGTH as u64;
    let (server, place) = (free_addr()?, Place::new()?);
    let log = place.path("app.txt");
    let buffer = match kind {
        "memory" => "@type memory".to_owned(),
        _ => format!("@type {kind}\n    path {}", place.path("buffer").display()),
    };
    let params = format!(
        "heartbeat_type none\n  <buffer tag>\n    {buffer}\n    flush_interval 0.1\n    retry_max_interval 1s\n  </buffer>"
    );
    let config = place.source(&log) + &forward(&params, &[server]);
    let log = append_to(&log)?;
    let mut agent = Agent::start(&place, &config, &[])?;
    agent.settle(LIMIT)?;
    let before = agent.resident()?;
    let mut resident = Vec::new();
    for step in 0..STEPS {
        lines::write(&log, count * step / STEPS, count * (step + 1) / STEPS)?;
        agent.settle(LIMIT)?;
        resident.push(agent.resident()?);
    }
    let receiver = Receiver::start_at(server, Look::Ends)?;
    agent.explain(receiver.wait_for_lines(count, LIMIT))?;
    let peak = agent.peak()?;
    agent.terminate(LIMIT)?;
    let bound = bound(&place)?;
    let (most, half) = (
        resident.iter().max().copied().unwrap_or_default(),
        resident[resident.len() / 2],
    );
    let outside = peak.saturating_sub(before) > bound;
    let failed = if outside { "FAILED: " } else { "" };
    Ok(Row {
        work: format!(
            "{megabytes} MB written while the server is away, {kind} buffer: resident memory beyond the {} before",
            mb(before)
        ),
        floor: format!("printed bound {}", mb(bound)),
        affluent: format!(
            "{failed}{} at half, {} at most, peak {} with the server back; all {count} lines came",
            mb(half.saturating_sub(before)),
            mb(most.saturating_sub(before)),
            mb(peak.saturating_sub(before))
        ),
        memory: format!("{} peak", mb(peak)),
        ask: ASK.to_owned(),
        ..Row::default()
    })
}

/// The bound as the agent printed it, in bytes.
fn bound(place: &Place) -> Result<u64> {
    let log = fs::read_to_string(place.path("agent.log"))?;
    let said = log.lines().find(|line| line.contains(SAYS));
    let digits = said.and_then(|line| line.split("bytes=").nth(1));
    let digits = digits.context("the agent printed no bound")?;
    let end = digits.find(|c: char| !c.is_ascii_digit());
    Ok(digits[..end.unwrap_or(digits.len())].parse()?)
}
