//! Chunks on disk: what the position has passed is in the buffer directory, and comes from there when the tailed file is gone.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use nix::sys::signal::Signal;

use crate::scene::{DEADLINE, Scene};
use crate::support::agent::Agent;
use crate::support::forward_server::{Mode, State};
use crate::support::ledger::Ledger;
use crate::support::tiny_disk::TinyDisk;

fn config(scene: &Scene, kind: &str) -> String {
    let path = scene.dir().join("buffer");
    let buffer = format!(
        "  <buffer tag>\n    @type {kind}\n    path {}\n    flush_mode immediate\n    retry_max_interval 1s\n  </buffer>",
        path.display()
    );
    scene.source() + &scene.forward(&buffer)
}

/// The position in the pos_file.
fn position(pos_file: &Path) -> Result<Option<u64>> {
    let text = std::fs::read_to_string(pos_file)?;
    let digits = text.split('\t').nth(1);
    Ok(digits.and_then(|digits| u64::from_str_radix(digits, 16).ok()))
}

/// Waits until the committed position is the end of the file: every line is durable.
pub async fn all_buffered(scene: &Scene, agent: &Agent) -> Result<()> {
    all_safe(scene, &scene.dir().join("app.pos"), agent).await
}

async fn all_safe(scene: &Scene, pos_file: &Path, agent: &Agent) -> Result<()> {
    let size = std::fs::metadata(scene.log())?.len();
    let end = Instant::now() + DEADLINE;
    loop {
        let position = position(pos_file)?;
        if position == Some(size) {
            return Ok(());
        }
        ensure!(
            Instant::now() < end,
            "the position stays at {position:?} of {size}:\n{}",
            agent.log_text()
        );
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Lines that did not come, and lines that came twice.
fn account(scene: &Scene, written: Vec<crate::support::ledger::LineId>) -> (usize, usize) {
    let mut ledger = Ledger::new(written);
    ledger.arrived(
        "primary",
        scene.primary.state().read(|state| state.lines.clone()),
    );
    (ledger.missing().len(), ledger.duplicates())
}

#[tokio::test]
async fn lines_in_a_file_buffer_survive_kill_9_even_where_their_file_is_gone() -> Result<()> {
    for kind in ["file", "file_single"] {
        let scene = Scene::new().await?;
        let mut log = scene.writer()?;
        scene.primary.stop().await;
        scene.standby.stop().await;
        let config = config(&scene, kind);
        let mut agent = scene.agent(&config).await?;
        log.lines(5000)?;
        all_buffered(&scene, &agent).await?;
        agent.kill().await?;
        std::fs::remove_file(scene.log())?;
        scene.primary.restart().await;
        let agent = scene.agent(&config).await?;
        scene
            .primary
            .wait_for_lines(5000, DEADLINE)
            .await
            .with_context(|| agent.log_text())?;
        assert_eq!(account(&scene, log.written()), (0, 0), "{kind}");
    }
    Ok(())
}

/// Lines that came again in a chunk with another id: a server that drops repeated ids stores them twice.
fn in_other_chunks(scene: &Scene) -> usize {
    let (mut seen, mut again) = (HashMap::new(), 0);
    for received in scene.primary.received() {
        let chunk = received.delivery.chunk.as_ref().map(ToString::to_string);
        let texts = received.delivery.events.iter();
        for text in texts.filter_map(|event| event.text("message")) {
            let first = seen.entry(text).or_insert_with(|| chunk.clone());
            again += usize::from(*first != chunk);
        }
    }
    again
}

/// Positions are written twice a second; a chunk is durable and delivered within milliseconds. What a kill leaves between the two is in
/// the chunks' side files.
#[tokio::test]
async fn lines_that_were_delivered_before_the_pos_file_said_so_do_not_come_again_after_kill_9()
-> Result<()> {
    for kind in ["file", "file_single"] {
        let scene = Scene::new().await?;
        let mut log = scene.writer()?;
        let config = config(&scene, kind);
        let (mut lines, mut behind) = (0, 0);
        for _ in 0..6 {
            let mut agent = scene.agent(&config).await?;
            for _ in 0..3 {
                log.lines(100)?;
                lines += 100;
                let came = scene.primary.wait_for_lines(lines, DEADLINE).await;
                came.with_context(|| agent.log_text())?;
            }
            agent.kill().await?;
            let size = std::fs::metadata(scene.log())?.len();
            behind += usize::from(position(&scene.dir().join("app.pos"))? < Some(size));
        }
        ensure!(
            behind > 0,
            "every kill came after the positions were written: nothing is shown"
        );
        let agent = scene.agent(&config).await?;
        log.lines(100)?;
        let came = scene.primary.wait_for_lines(lines + 100, DEADLINE).await;
        came.with_context(|| agent.log_text())?;
        all_buffered(&scene, &agent).await?;
        assert_eq!(account(&scene, log.written()).0, 0, "missing, {kind}");
        assert_eq!(in_other_chunks(&scene), 0, "{kind}\n{}", agent.log_text());
    }
    Ok(())
}

#[tokio::test]
async fn a_stop_leaves_file_chunks_to_the_next_start_which_delivers_them_once() -> Result<()> {
    let scene = Scene::new().await?;
    let mut log = scene.writer()?;
    scene.primary.stop().await;
    scene.standby.stop().await;
    let config = config(&scene, "file");
    let mut agent = scene.agent(&config).await?;
    log.lines(3000)?;
    all_buffered(&scene, &agent).await?;
    agent.signal(Signal::SIGTERM)?;
    assert!(
        agent.wait_exit(DEADLINE).await?.success(),
        "{}",
        agent.log_text()
    );
    scene.primary.restart().await;
    let agent = scene.agent(&config).await?;
    agent
        .wait_for_line("found chunks of an earlier run in the buffer", DEADLINE)
        .await?;
    log.lines(1000)?;
    scene
        .primary
        .wait_for_lines(4000, DEADLINE)
        .await
        .with_context(|| agent.log_text())?;
    assert_eq!(account(&scene, log.written()), (0, 0));
    Ok(())
}

#[tokio::test]
async fn a_second_agent_on_the_same_buffer_is_refused_with_the_firsts_process_id() -> Result<()> {
    let scene = Scene::new().await?;
    let config = config(&scene, "file");
    let first = scene.agent(&config).await?;
    let other = config.replace("app.pos", "other.pos");
    let mut second = Agent::start(&other, &[]).await?;
    // What a process says may be read after its end.
    let expected = format!("is in use by process {}", first.pid()?);
    second.wait_for_line(&expected, DEADLINE).await?;
    assert!(!second.wait_exit(DEADLINE).await?.success());
    Ok(())
}

#[tokio::test]
async fn a_chunk_that_was_sent_before_kill_9_comes_again_with_nothing_added() -> Result<()> {
    let scene = Scene::new().await?;
    let mut log = scene.writer()?;
    let hour = Duration::from_secs(3600);
    scene.primary.set_mode(Mode::Late(hour, hour)).await;
    let path = scene.dir().join("buffer");
    let buffer = format!(
        "  <buffer tag>\n    @type file\n    path {}\n    flush_interval 1h\n  </buffer>",
        path.display()
    );
    let config = scene.source() + &scene.forward(&buffer);
    let mut agent = scene.agent(&config).await?;
    log.lines(10)?;
    all_buffered(&scene, &agent).await?;
    agent.signal(Signal::SIGUSR1)?;
    let sent = |state: &State| !state.deliveries.is_empty();
    scene.primary.wait_for("a delivery", DEADLINE, sent).await?;
    agent.kill().await?;
    log.lines(10)?;
    scene.primary.set_mode(Mode::Ack).await;
    let agent = scene.agent(&config).await?;
    all_buffered(&scene, &agent).await?;
    agent.signal(Signal::SIGUSR1)?;
    scene
        .primary
        .wait_for_lines(20, DEADLINE)
        .await
        .with_context(|| agent.log_text())?;
    let deliveries = scene.primary.received();
    let first = &deliveries[0].delivery;
    let again = deliveries[1..]
        .iter()
        .filter(|each| each.delivery.chunk == first.chunk);
    let sizes: Vec<_> = again.map(|each| each.delivery.events.len()).collect();
    // Whoever drops repeated ids would lose what was added.
    assert_eq!(sizes, [first.events.len()], "{}", agent.log_text());
    Ok(())
}

/// A disk of so many bytes at `tiny` in the scene's directory, if this machine has one.
fn tiny_disk(scene: &Scene, bytes: u64) -> Result<Option<TinyDisk>> {
    let at = scene.dir().join("tiny");
    std::fs::create_dir(&at)?;
    Ok(TinyDisk::or_say(&at, bytes))
}

fn times(agent: &Agent, part: &str) -> usize {
    let lines = agent.log();
    lines.iter().filter(|line| line.text.contains(part)).count()
}

#[tokio::test]
async fn a_disk_that_is_full_again_and_again_is_told_when_that_begins_and_when_it_is_over()
-> Result<()> {
    let scene = Scene::new().await?;
    let Some(disk) = tiny_disk(&scene, 64 << 10)? else {
        return Ok(());
    };
    let mut log = scene.writer()?;
    // Each chunk that leaves makes room for a few lines.
    scene
        .primary
        .set_mode(Mode::Slow(Duration::from_millis(30)))
        .await;
    let buffer = format!(
        "  <buffer tag>\n    @type file\n    path {}/buffer\n    flush_mode immediate\n    chunk_limit_size 8k\n  </buffer>",
        disk.path().display()
    );
    let agent = scene
        .agent(&(scene.source() + &scene.forward(&buffer)))
        .await?;
    log.lines(3000)?;
    agent
        .wait_for_line("cannot write the buffer, reading paused", DEADLINE)
        .await?;
    scene.primary.wait_for_lines(3000, DEADLINE).await?;
    log.lines(10)?;
    agent
        .wait_for_line("buffer can be written again, reading resumed", DEADLINE)
        .await?;
    let told =
        ["cannot write the buffer", "buffer can be written again"].map(|part| times(&agent, part));
    assert_eq!(told, [1, 1], "{}", agent.log_text());
    assert_eq!(account(&scene, log.written()).0, 0);
    Ok(())
}

#[tokio::test]
async fn a_start_on_a_full_disk_waits_for_room_and_loses_nothing() -> Result<()> {
    let scene = Scene::new().await?;
    let Some(disk) = tiny_disk(&scene, 64 << 10)? else {
        return Ok(());
    };
    let mut log = scene.writer()?;
    let (before, tiny) = (scene.dir().display().to_string(), disk.path().display());
    let pos_file = disk.path().join("app.pos");
    let source = scene.source().replace(
        &format!("{before}/app.pos"),
        &pos_file.display().to_string(),
    );
    let buffer = format!(
        "  <buffer tag>\n    @type file\n    path {tiny}/buffer\n    flush_mode immediate\n  </buffer>"
    );
    let config = source + &scene.forward(&buffer);
    let mut agent = scene.agent(&config).await?;
    log.lines(10)?;
    all_safe(&scene, &pos_file, &agent).await?;
    agent.kill().await?;
    disk.fill()?;
    log.lines(1000)?;
    let agent = scene.agent(&config).await?;
    agent
        .wait_for_line("cannot write the buffer, reading paused", DEADLINE)
        .await?;
    // Meanwhile lines are sent from memory.
    scene
        .primary
        .wait_for_lines(1010, DEADLINE)
        .await
        .with_context(|| agent.log_text())?;
    disk.give_back()?;
    all_safe(&scene, &pos_file, &agent).await?;
    assert_eq!(account(&scene, log.written()).0, 0);
    Ok(())
}

#[tokio::test]
async fn the_very_first_start_on_a_full_disk_sends_and_writes_positions_once_there_is_room()
-> Result<()> {
    let scene = Scene::new().await?;
    let Some(disk) = tiny_disk(&scene, 64 << 10)? else {
        return Ok(());
    };
    let mut log = scene.writer()?;
    let before = scene.dir().display().to_string();
    let pos_file = disk.path().join("app.pos");
    let source = scene.source().replace(
        &format!("{before}/app.pos"),
        &pos_file.display().to_string(),
    );
    disk.fill()?;
    log.lines(100)?;
    let buffer = "  <buffer tag>\n    flush_mode immediate\n  </buffer>";
    let agent = scene.agent(&(source + &scene.forward(buffer))).await?;
    scene
        .primary
        .wait_for_lines(100, DEADLINE)
        .await
        .with_context(|| agent.log_text())?;
    disk.give_back()?;
    all_there(&pos_file).await?;
    all_safe(&scene, &pos_file, &agent).await?;
    assert_eq!(account(&scene, log.written()), (0, 0));
    Ok(())
}

/// Waits until there is such a file.
async fn all_there(path: &Path) -> Result<()> {
    let end = Instant::now() + DEADLINE;
    while !path.exists() {
        ensure!(Instant::now() < end, "{} does not come", path.display());
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    Ok(())
}

#[tokio::test]
async fn text_that_fluentds_out_file_left_in_its_buffer_is_written_as_it_stands() -> Result<()> {
    const ID: &str = "660d594200885010eead92f8e879e0bd";
    const TEXT: &str = "2026-01-02T03:04:05+00:00\tapp\t{\"message\":\"one\"}\nsecond line\n";
    let scene = Scene::new().await?;
    let place = scene.dir().join("buffer");
    std::fs::create_dir(&place)?;
    std::fs::write(place.join(format!("buffer.q{ID}.log")), TEXT)?;
    // timekey nil, tag nil, variables nil, seq 0, id, s 2, c and m 1767323045
    let mut map =
        b"\x88\xa7timekey\xce\x69\x57\x0a\x80\xa3tag\xc0\xa9variables\xc0\xa3seq\x00\xa2id\xc4\x10"
            .to_vec();
    let id = (0..16).map(|at| u8::from_str_radix(&ID[2 * at..2 * at + 2], 16));
    map.extend(id.collect::<std::result::Result<Vec<u8>, _>>()?);
    map.extend(b"\xa1s\x02\xa1c\xce\x69\x57\x35\xa5\xa1m\xce\x69\x57\x35\xa5");
    let mut meta = vec![0xc1, 0];
    meta.extend(u32::try_from(map.len())?.to_be_bytes());
    meta.extend(map);
    std::fs::write(place.join(format!("buffer.q{ID}.log.meta")), meta)?;
    let out = scene.dir().join("out");
    let config = format!(
        "{}<match **>\n  @type file\n  path {}/log\n  append true\n  <buffer time>\n    @type file\n    path {}\n    timekey 1d\n    timekey_use_utc true\n  </buffer>\n</match>\n",
        scene.source(),
        out.display(),
        place.display()
    );
    let agent = scene.agent(&config).await?;
    all_there(&out).await.with_context(|| agent.log_text())?;
    let end = Instant::now() + DEADLINE;
    while std::fs::read_dir(&place)?.count() > 1 {
        ensure!(Instant::now() < end, "{}", agent.log_text());
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert_eq!(std::fs::read_to_string(out.join("log.20260102.log"))?, TEXT);
    Ok(())
}

/// Runs `affluent -c FILE chunk text`; gives what it printed.
fn chunk_text(config: &Path) -> Result<String> {
    let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_affluent"));
    let output = command
        .arg("-c")
        .arg(config)
        .args(["chunk", "text"])
        .output()?;
    ensure!(output.status.success(), "{output:?}");
    Ok(String::from_utf8(output.stdout)?)
}

/// The data of the only chunk in a directory.
fn only_chunk(place: &Path) -> Result<Vec<u8>> {
    let names = std::fs::read_dir(place)?.map(|entry| Ok(entry?.path()));
    let names = names.collect::<Result<Vec<_>>>()?;
    let is_data = |path: &&PathBuf| {
        let end = path.extension().unwrap_or_default();
        end == "log" || end == "buf"
    };
    let data: Vec<_> = names.iter().filter(is_data).collect();
    ensure!(data.len() == 1, "{names:?}");
    let of_ours = names
        .iter()
        .filter(|path| path.extension().is_some_and(|end| end == "affluent"));
    ensure!(of_ours.count() == 0, "{names:?}");
    Ok(std::fs::read(data[0])?)
}

/// As a Fluentd keeps them, and as a start of ours takes a Fluentd's: back and forth without a line lost or changed.
#[tokio::test]
async fn chunks_of_out_file_become_the_text_that_fluentd_keeps_and_go_on_from_there() -> Result<()>
{
    for (kind, compress, killed) in [
        ("file", "text", true),
        ("file_single", "text", false),
        ("file", "gzip", false),
    ] {
        let scene = Scene::new().await?;
        let (place, out) = (scene.dir().join("buffer"), scene.dir().join("out"));
        let section = format!(
            "<match **>\n  @type file\n  path {}/${{tag}}\n  append true\n  <format>\n    @type single_value\n  </format>\n  <buffer tag>\n    @type {kind}\n    path {}\n    compress {compress}\n    flush_interval 1h\n    flush_at_shutdown false\n  </buffer>\n</match>\n",
            out.display(),
            place.display()
        );
        let config = scene.source() + &section;
        let mut agent = scene.agent(&config).await?;
        scene.writer()?.lines(50)?;
        all_buffered(&scene, &agent).await?;
        if killed {
            agent.kill().await?;
        } else {
            agent.signal(Signal::SIGTERM)?;
            assert!(agent.wait_exit(DEADLINE).await?.success());
        }
        let file = scene.dir().join("back.conf");
        std::fs::write(&file, &config)?;
        let printed = chunk_text(&file)?;
        assert!(printed.contains("\"text_records\":50"), "{printed}");
        assert_eq!(chunk_text(&file)?, "", "text already");
        let written = std::fs::read(scene.log())?;
        let data = only_chunk(&place)?;
        match compress {
            "text" => assert_eq!(data, written),
            _ => assert!(data.starts_with(b"\x1f\x8b") && data.len() < written.len()),
        }
        let agent = scene.agent(&config).await?;
        agent.signal(Signal::SIGUSR1)?;
        all_there(&out).await.with_context(|| agent.log_text())?;
        let lines = || -> Result<Vec<u8>> {
            let files = std::fs::read_dir(&out)?;
            let read =
                |entry: std::io::Result<std::fs::DirEntry>| Ok(std::fs::read(entry?.path())?);
            Ok(files.map(read).collect::<Result<Vec<_>>>()?.concat())
        };
        let end = Instant::now() + DEADLINE;
        while lines()?.len() < written.len() {
            ensure!(Instant::now() < end, "{}", agent.log_text());
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        assert_eq!(lines()?, written, "{kind} {compress}");
    }
    Ok(())
}
