//! A start among many: 10,000 files of which 100 have a new line; then the same with a pos_file of 100,000 entries, most of files long gone.

use std::collections::HashMap;
use std::fs::{self, File};
use std::io::{BufWriter, Write};
use std::net::SocketAddr;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

use crate::bare_loop::Sender;
use crate::lines;
use crate::process::{Agent, Place, forward, raise_open_files, thread_cpu};
use crate::receiver::{Look, Receiver};
use crate::table::{Row, mb, ms};

const ASK: &str = "first line within 1 s, under 40 MB";
const FILES: u64 = 10_000;
const ENTRIES: [u64; 2] = [FILES, 100_000];
const ACTIVE: u64 = 100;
/// Lines in each file that the last run is done with.
const OLD: u64 = 3;
const PARAMS: &str = "<buffer>\n    flush_mode immediate\n  </buffer>";
const SETTLE: Duration = Duration::from_secs(3);
const LIMIT: Duration = Duration::from_secs(120);

/// The floor, then the agent. The floor is one thread that reads the pos_file into a map, lists the directory, stats every file, opens
/// those that have grown, and sends their new lines in one message.
pub fn rows() -> Result<Vec<Row>> {
    let rows = ENTRIES.map(scene);
    let rows: Result<Vec<_>> = rows.into_iter().collect();
    Ok(rows?.concat())
}

fn scene(entries: u64) -> Result<[Row; 2]> {
    let open_files = raise_open_files()?;
    let place = Place::new()?;
    make(&place, entries)?;

    let bare = Receiver::start(Look::Lines)?;
    let (started, cpu) = (Instant::now(), thread_cpu()?);
    floor(&place, bare.addr())?;
    let floor_cpu = thread_cpu()? - cpu;
    let floor_first = first(&bare)? - started;

    let receiver = Receiver::start(Look::Lines)?;
    let config = place.source(&place.path("logs/*.txt")) + &forward(PARAMS, &[receiver.addr()]);
    let agent = Agent::start(&place, &config, &[])?;
    agent.explain(receiver.wait_for_lines(ACTIVE, LIMIT))?;
    let cpu = agent.cpu()?;
    let came = first(&receiver)? - agent.started;
    let last = receiver
        .journal()
        .arrivals
        .iter()
        .map(|arrival| arrival.1)
        .max();
    let all = last.map(|at| at - agent.started).unwrap_or_default();
    // Old lines that come after all are no start from a position.
    std::thread::sleep(SETTLE);
    let memory = format!(
        "{} resident, {} peak",
        mb(agent.resident()?),
        mb(agent.peak()?)
    );
    agent.terminate(LIMIT)?;
    // One guard at a time.
    let lines = receiver.journal().lines;
    let distinct = receiver.journal().distinct(ACTIVE);
    ensure!(
        lines == ACTIVE && distinct == ACTIVE,
        "{ACTIVE} lines were new, {distinct} of them came, in {lines} arrivals"
    );

    let work = format!(
        "start, {FILES} files, {ACTIVE} with a new line, {entries} entries in pos_file, {open_files} open files allowed"
    );
    Ok([
        Row {
            work: format!("{work}: process start to first line"),
            floor: format!("pos_file, list, stat, read what grew: {}", ms(floor_first)),
            affluent: format!("{} (all {ACTIVE} after {})", ms(came), ms(all)),
            ratio: format!("{:.1}", came.as_secs_f64() / floor_first.as_secs_f64()),
            memory,
            ask: ASK.to_string(),
        },
        Row {
            work: "the same, processor time until the last of them".to_string(),
            floor: ms(floor_cpu),
            affluent: ms(cpu),
            ratio: format!("{:.1}", cpu.as_secs_f64() / floor_cpu.as_secs_f64()),
            ..Row::default()
        },
    ])
}

fn first(receiver: &Receiver) -> Result<Instant> {
    let journal = receiver.journal();
    let first = journal.arrivals.iter().map(|arrival| arrival.1).min();
    first.context("no line came")
}

/// Every file with its old lines, a new one in each hundredth; the pos_file names them all among those that are gone.
fn make(place: &Place, entries: u64) -> Result<()> {
    fs::create_dir(place.path("logs"))?;
    let mut pos_file = BufWriter::new(File::create(place.path("app.pos"))?);
    for entry in 0..entries {
        let path = place.path(&format!("logs/{entry:06}.txt"));
        let mut inode = (1 << 40) + entry;
        if entry.is_multiple_of(entries / FILES) {
            let file = entry / (entries / FILES);
            let mut log = File::create(&path)?;
            lines::write(&log, ACTIVE + file * OLD, ACTIVE + (file + 1) * OLD)?;
            if file.is_multiple_of(FILES / ACTIVE) {
                log.write_all(&lines::line(file / (FILES / ACTIVE)))?;
            }
            inode = log.metadata()?.ino();
        }
        let position = OLD * lines::LENGTH as u64;
        pos_file.write_all(path.as_os_str().as_bytes())?;
        writeln!(pos_file, "\t{position:016x}\t{inode:016x}")?;
    }
    Ok(pos_file.flush()?)
}

fn floor(place: &Place, server: SocketAddr) -> Result<()> {
    let text = fs::read_to_string(place.path("app.pos"))?;
    let mut positions = HashMap::new();
    for line in text.lines() {
        let mut fields = line.rsplitn(3, '\t');
        let inode = u64::from_str_radix(fields.next().unwrap_or_default(), 16)?;
        let position = u64::from_str_radix(fields.next().unwrap_or_default(), 16)?;
        positions.insert(
            PathBuf::from(fields.next().unwrap_or_default()),
            (inode, position),
        );
    }
    let mut sender = Sender::connect(server)?;
    for entry in fs::read_dir(place.path("logs"))? {
        let path = entry?.path();
        let meta = fs::metadata(&path)?;
        let known = positions
            .get(&path)
            .filter(|(inode, _)| *inode == meta.ino());
        let position = known.map_or(0, |(_, position)| *position);
        if meta.len() > position {
            let mut line = [0; lines::LENGTH];
            File::open(&path)?.read_exact_at(&mut line, position)?;
            sender.push(&line[..lines::LENGTH - 1]);
        }
    }
    Ok(sender.send()?)
}
