//! The drain: a termination notice finds 100 MB unread and the primary dead; how soon the standby has them and the instance is released.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};

use crate::lines;
use crate::process::{Agent, Place, append_to, forward};
use crate::receiver::{Look, Receiver, free_addr};
use crate::support::ec2::Ec2World;
use crate::support::ec2::state::Happening;
use crate::table::{Row, mb, ms};

const ASK: &str = "first byte < 1 s after the notice, released < 1 s after the last ack";
const BACKLOG: u64 = 100_000_000 / lines::LENGTH as u64;
/// As in production: without a drain the last chunk would wait for a minute.
const PARAMS: &str =
    "heartbeat_type tcp\n  flush_at_shutdown true\n  flush_interval 60s\n  buffer_chunk_limit 256m";
const LIMIT: Duration = Duration::from_secs(60);

/// The agent stands still while the lines are appended, so that all of them are unread when the group decides; that is the notice.
pub fn rows() -> Result<Vec<Row>> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()?;
    let world = runtime.block_on(Ec2World::start())?;
    let standby = Receiver::start(Look::Ends)?;
    let place = Place::new()?;
    let log_path = place.path("app.txt");
    let log = append_to(&log_path)?;
    let config = place.source(&log_path)
        + &forward(PARAMS, &[free_addr()?, standby.addr()])
        + &section(&world, &place);
    let mut agent = Agent::start(&place, &config, &world.env())?;
    agent.wait_until("instance metadata is asked", LIMIT, |_| {
        Ok(!world.requests().is_empty())
    })?;
    agent.settle(LIMIT)?;

    agent.pause()?;
    lines::write(log, 0, BACKLOG)?;
    let notice = Instant::now();
    world.terminate(world.instance());
    agent.resume()?;

    agent.explain(standby.wait_for_lines(BACKLOG, LIMIT))?;
    let released = |what: &Happening| matches!(what, Happening::Completed { .. });
    let released = world.wait_moment("CompleteLifecycleAction", LIMIT, released);
    let released = agent.explain(runtime.block_on(released))?;
    let memory = format!("{} peak", mb(agent.peak()?));
    agent.terminate(LIMIT)?;
    Ok(vec![row(&standby, notice, released, memory)?])
}

fn section(world: &Ec2World, place: &Place) -> String {
    format!(
        "<drain>\n  source doorbell\n  queue_url {}\n  journal_path {}\n</drain>\n",
        world.queue_url(),
        place.path("drain.json").display()
    )
}

fn row(standby: &Receiver, notice: Instant, released: Instant, memory: String) -> Result<Row> {
    let journal = standby.journal();
    let distinct = journal.distinct(BACKLOG);
    ensure!(
        distinct == BACKLOG,
        "{BACKLOG} lines were written, {distinct} of them came"
    );
    let first = journal.spans.iter().map(|span| span.began).min();
    let last = journal.spans.iter().map(|span| span.ended).max();
    let first = first.unwrap_or(notice) - notice;
    let last = last.unwrap_or(notice);
    Ok(Row {
        work: "drain, 100 MB unread, primary dead, standby alive".to_string(),
        affluent: format!(
            "first byte after {}, all after {}, released {} after the last ack",
            ms(first),
            ms(last - notice),
            ms(released.saturating_duration_since(last)),
        ),
        memory,
        ask: ASK.to_string(),
        ..Row::default()
    })
}
