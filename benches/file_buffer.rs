//! Catch-up through a durable file buffer, beside the same through a memory buffer, and beside the same bytes written to the same disk and
//! synced: one after the other, again and again, since disks have moods.

use std::fs::File;
use std::io::Write;
use std::time::{Duration, Instant};

use anyhow::Result;

use crate::catch_up::{PARAMS, rate, run_agent};
use crate::process::Place;
use crate::table::{Row, mb, median};
use crate::{env_or, lines};

const ASK: &str = "half of the memory buffer, or 0.8 of the disk";
/// Bytes of an entry around its line: array, EventTime, map, key, and the value's head.
const AROUND: u64 = 23;
/// What is synced at once.
const GROUP: usize = 8 << 20;

/// Runs all three `AFFLUENT_BENCH_ROUNDS` (3) times over `AFFLUENT_BENCH_MB` (1000) megabytes.
pub fn rows() -> Result<Vec<Row>> {
    let megabytes = env_or("AFFLUENT_BENCH_MB", 1000)?;
    let rounds = env_or("AFFLUENT_BENCH_ROUNDS", 3)?;
    let count = megabytes * 1_000_000 / lines::LENGTH as u64;
    let file = lines::file(count)?;
    let (mut memory, mut durable, mut disk, mut peak) = (Vec::new(), Vec::new(), Vec::new(), 0);
    for round in 1..=rounds {
        let in_memory = run_agent(&file, count, |_| PARAMS.to_owned())?;
        let on_disk = run_agent(&file, count, file_buffer)?;
        let written = write_synced(count * (lines::LENGTH as u64 - 1 + AROUND))?;
        eprintln!(
            "file_buffer {round}/{rounds}: memory {}, file {}, the disk alone {}",
            rate(count, in_memory.total),
            rate(count, on_disk.total),
            rate(count, written)
        );
        memory.push(in_memory.total);
        durable.push(on_disk.total);
        disk.push(written);
        peak = peak.max(on_disk.peak);
    }
    let middle = |times: &[Duration]| median(times).unwrap_or_default();
    let affluent = middle(&durable);
    let row = |what: &str, floor: Duration| Row {
        work: format!(
            "catch-up through a durable file buffer, {megabytes} MB, ack, median of {rounds}, beside {what}"
        ),
        floor: rate(count, floor),
        affluent: rate(count, affluent),
        ratio: format!("{:.2}", floor.as_secs_f64() / affluent.as_secs_f64()),
        memory: format!("{} peak", mb(peak)),
        ask: ASK.to_owned(),
    };
    Ok(vec![
        row("a memory buffer", middle(&memory)),
        row("write and fdatasync of its bytes", middle(&disk)),
    ])
}

fn file_buffer(place: &Place) -> String {
    let path = place.path("buffer");
    format!(
        "heartbeat_type none\n  <buffer tag>\n    @type file\n    path {}\n    flush_interval 0.1\n    flush_at_shutdown true\n  </buffer>",
        path.display()
    )
}

/// One file, written in sequence and synced after each 8 MiB.
fn write_synced(bytes: u64) -> Result<Duration> {
    let place = Place::new()?;
    let group = vec![b'x'; GROUP];
    let start = Instant::now();
    let mut file = File::create(place.path("sequential"))?;
    let mut left = bytes;
    while left > 0 {
        let size = left.min(GROUP as u64) as usize;
        file.write_all(&group[..size])?;
        file.sync_data()?;
        left -= size as u64;
    }
    Ok(start.elapsed())
}
