//! Many files: a thousand of them, each with a line a second, then nothing. What a line costs when hardly two are in one file, and what
//! a thousand quiet files cost.

use std::fs::File;
use std::io::Write;
use std::net::SocketAddr;
use std::os::unix::fs::FileExt;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};

use crate::bare_loop::Sender;
use crate::lines;
use crate::process::{Agent, Place, append_to, forward, thread_cpu};
use crate::receiver::{Look, Receiver};
use crate::table::{Row, mb};

const FILES: u64 = 1000;
const SECONDS: u64 = 8;
/// Lines that are measured; a first one in each file, which makes it known, is not.
const LINES: u64 = FILES * SECONDS;
const FLUSH: Duration = Duration::from_millis(100);
const PARAMS: &str = "flush_interval 0.1";
const SETTLE: Duration = Duration::from_secs(3);
const WATCH: Duration = Duration::from_secs(20);
const LIMIT: Duration = Duration::from_secs(60);

/// The agent, then the floor over the same files: one thread that is told which file has the next line, reads just that line, wraps it,
/// and sends what it has every tenth of a second, with ack.
pub fn rows() -> Result<Vec<Row>> {
    let place = Place::new()?;
    let mut files = (0..FILES)
        .map(|file| append_to(&place.path(&format!("{file:04}.txt"))))
        .collect::<Result<Vec<File>>>()?;
    (0..FILES).try_for_each(|id| write(&mut files, id))?;

    let receiver = Receiver::start(Look::Lines)?;
    let config = place.source(&place.path("*.txt")) + &forward(PARAMS, &[receiver.addr()]);
    let agent = Agent::start(&place, &config, &[])?;
    agent.explain(receiver.wait_for_lines(FILES, LIMIT))?;
    std::thread::sleep(SETTLE);
    let before = agent.cpu()?;
    write_at_pace(&mut files)?;
    agent.explain(receiver.wait_for_lines(FILES + LINES, LIMIT))?;
    let busy = agent.cpu()? - before;
    let resident = agent.resident()?;
    std::thread::sleep(SETTLE);
    let (idle_from, since) = (agent.cpu()?, Instant::now());
    std::thread::sleep(WATCH);
    let idle = (agent.cpu()? - idle_from).as_secs_f64() / since.elapsed().as_secs_f64();
    let memory = format!(
        "{} resident, {} peak",
        mb(agent.resident()?),
        mb(agent.peak()?)
    );
    agent.terminate(LIMIT)?;
    let arrived = receiver.journal().lines;
    ensure!(
        arrived == FILES + LINES,
        "{} lines were written, {arrived} came",
        FILES + LINES
    );

    let files = (0..FILES)
        .map(|file| Ok(File::open(place.path(&format!("{file:04}.txt")))?))
        .collect::<Result<Vec<File>>>()?;
    let bare = Receiver::start(Look::Lines)?;
    let floor = floor(&files, bare.addr())?;
    bare.wait_for_lines(LINES, LIMIT)?;
    let seconds = |time: Duration| format!("{:.3} s cpu", time.as_secs_f64());
    Ok(vec![
        Row {
            work: format!(
                "{FILES} files, a line a second each for {SECONDS} s, {PARAMS}, ack: {LINES} lines"
            ),
            floor: format!(
                "told where, one read a line, a message each 0.1 s: {}",
                seconds(floor)
            ),
            affluent: seconds(busy),
            ratio: format!("{:.1}", busy.as_secs_f64() / floor.as_secs_f64()),
            memory: format!("{} resident", mb(resident)),
            ..Row::default()
        },
        Row {
            work: format!(
                "the same {FILES} files, nothing written for {} s",
                WATCH.as_secs()
            ),
            floor: "nothing to do: 0 %".to_string(),
            affluent: format!("{:.3} % of a core", idle * 100.0),
            memory,
            ..Row::default()
        },
    ])
}

/// Each file's line a second.
fn write_at_pace(files: &mut [File]) -> Result<()> {
    let start = Instant::now();
    for id in FILES..FILES + LINES {
        let due = start + Duration::from_secs(SECONDS).mul_f64((id - FILES) as f64 / LINES as f64);
        std::thread::sleep(due.saturating_duration_since(Instant::now()));
        write(files, id)?;
    }
    Ok(())
}

/// Lines go round all files: number `id` into file `id % FILES`.
fn write(files: &mut [File], id: u64) -> Result<()> {
    Ok(files[(id % FILES) as usize].write_all(&lines::line(id))?)
}

fn floor(files: &[File], server: SocketAddr) -> Result<Duration> {
    let mut sender = Sender::connect(server)?;
    let before = thread_cpu()?;
    let turns = SECONDS * 1000 / FLUSH.as_millis() as u64;
    let mut due = Instant::now();
    for turn in 0..turns {
        due += FLUSH;
        std::thread::sleep(due.saturating_duration_since(Instant::now()));
        for id in FILES + turn * LINES / turns..FILES + (turn + 1) * LINES / turns {
            let mut line = [0; lines::LENGTH];
            let at = id / FILES * lines::LENGTH as u64;
            files[(id % FILES) as usize].read_exact_at(&mut line, at)?;
            sender.push(&line[..lines::LENGTH - 1]);
        }
        sender.send()?;
    }
    Ok(thread_cpu()? - before)
}
