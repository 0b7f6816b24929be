//! Idle: ten files in which nothing happens.

use std::io::Write;
use std::time::{Duration, Instant};

use anyhow::Result;

use crate::lines;
use crate::process::{Agent, Place, append_to, forward};
use crate::receiver::{Look, Receiver};
use crate::table::{Row, mb};

const ASK: &str = "< 15 MB, < 0.1 % of a core";
const FILES: u64 = 10;
const SETTLE: Duration = Duration::from_secs(3);
const WATCH: Duration = Duration::from_secs(10);

/// Heartbeats go on as by default, a connection each second: they are part of being idle.
pub fn rows() -> Result<Vec<Row>> {
    let receiver = Receiver::start(Look::Lines)?;
    let place = Place::new()?;
    for id in 0..FILES {
        let mut file = append_to(&place.path(&format!("{id}.txt")))?;
        file.write_all(&lines::line(id))?;
    }
    let config =
        place.source(&place.path("*.txt")) + &forward("flush_interval 1s", &[receiver.addr()]);
    let agent = Agent::start(&place, &config, &[])?;
    agent.explain(receiver.wait_for_lines(FILES, Duration::from_secs(20)))?;
    std::thread::sleep(SETTLE);
    let (cpu, from) = (agent.cpu()?, Instant::now());
    std::thread::sleep(WATCH);
    let share = (agent.cpu()? - cpu).as_secs_f64() / from.elapsed().as_secs_f64();
    let row = Row {
        work: format!(
            "idle, {FILES} files, nothing written for {} s",
            WATCH.as_secs()
        ),
        affluent: format!("{:.3} % of a core", share * 100.0),
        memory: format!(
            "{} resident, {} peak",
            mb(agent.resident()?),
            mb(agent.peak()?)
        ),
        ask: ASK.to_string(),
        ..Row::default()
    };
    agent.terminate(Duration::from_secs(20))?;
    Ok(vec![row])
}
