//! Nothing read is lost: kills, stops, outages, rotations, reloads. Counted by sets of line ids, never by totals.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use nix::sys::signal::Signal;

use crate::scene::{DEADLINE, Scene};
use crate::support::agent::Agent;
use crate::support::forward_server::Mode;
use crate::support::ledger::Ledger;

/// What was written against what both servers have.
fn ledger(scene: &Scene, written: Vec<crate::support::ledger::LineId>) -> Ledger {
    let mut ledger = Ledger::new(written);
    for (name, server) in [("primary", &scene.primary), ("standby", &scene.standby)] {
        ledger.arrived(name, server.state().read(|state| state.lines.clone()));
    }
    ledger
}

/// Forces flushes until so many lines have arrived: lines may still be on their way into the buffer when a signal comes.
async fn flush_until(agent: &Agent, scene: &Scene, lines: usize) -> Result<()> {
    let end = Instant::now() + DEADLINE;
    while scene.primary.state().read(|state| state.distinct.len()) < lines {
        ensure!(
            Instant::now() < end,
            "{lines} lines did not arrive:\n{}",
            agent.log_text()
        );
        agent.signal(Signal::SIGUSR1)?;
        // Not a wait for an effect, only a limit for the number of signals.
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    Ok(())
}

#[tokio::test]
async fn every_line_arrives_once_and_in_order() -> Result<()> {
    let scene = Scene::new().await?;
    let mut log = scene.writer()?;
    log.lines(500)?;
    let _agent = scene.agent(&scene.immediate()).await?;
    log.lines(500)?;
    scene.primary.wait_for_lines(1000, DEADLINE).await?;
    let ledger = ledger(&scene, log.written());
    assert_eq!(
        (
            ledger.missing().len(),
            ledger.duplicates(),
            ledger.disorder()
        ),
        (0, 0, 0)
    );
    Ok(())
}

#[tokio::test]
async fn kill_9_with_a_memory_buffer_and_no_server_loses_nothing() -> Result<()> {
    let scene = Scene::new().await?;
    let mut log = scene.writer()?;
    scene.primary.stop().await;
    scene.standby.stop().await;
    let config = scene.immediate();
    let mut agent = scene.agent(&config).await?;
    log.lines(5000)?;
    agent
        .wait_for_line("failed to flush the buffer", DEADLINE)
        .await?;
    agent.kill().await?;
    log.lines(1000)?;
    scene.primary.restart().await;
    let _agent = scene.agent(&config).await?;
    scene.primary.wait_for_lines(6000, DEADLINE).await?;
    assert!(ledger(&scene, log.written()).missing().is_empty());
    Ok(())
}

#[tokio::test]
async fn term_with_a_memory_buffer_and_no_server_ends_in_time_and_loses_nothing() -> Result<()> {
    let scene = Scene::new().await?;
    let mut log = scene.writer()?;
    scene.primary.stop().await;
    scene.standby.stop().await;
    let config = scene.immediate();
    let mut agent = scene.agent(&config).await?;
    log.lines(5000)?;
    agent
        .wait_for_line("failed to flush the buffer", DEADLINE)
        .await?;
    agent.signal(Signal::SIGTERM)?;
    assert!(
        agent.wait_exit(DEADLINE).await?.success(),
        "{}",
        agent.log_text()
    );
    log.lines(1000)?;
    scene.primary.restart().await;
    let _agent = scene.agent(&config).await?;
    scene.primary.wait_for_lines(6000, DEADLINE).await?;
    assert!(ledger(&scene, log.written()).missing().is_empty());
    Ok(())
}

#[tokio::test]
async fn term_with_a_healthy_server_flushes_and_repeats_nothing() -> Result<()> {
    let scene = Scene::new().await?;
    let mut log = scene.writer()?;
    let config = scene.source() + &scene.forward("  flush_interval 1h");
    for round in 1..=3 {
        let mut agent = scene.agent(&config).await?;
        log.lines(1000)?;
        agent.wait_for_line("following tail of", DEADLINE).await?;
        flush_until(&agent, &scene, round * 1000).await?;
        scene.primary.wait_for_lines(round * 1000, DEADLINE).await?;
        agent.signal(Signal::SIGTERM)?;
        assert!(
            agent.wait_exit(DEADLINE).await?.success(),
            "{}",
            agent.log_text()
        );
    }
    let ledger = ledger(&scene, log.written());
    assert_eq!((ledger.missing().len(), ledger.duplicates()), (0, 0));
    Ok(())
}

#[tokio::test]
async fn usr1_flushes_what_waits_for_its_interval_and_says_when_it_is_done() -> Result<()> {
    let scene = Scene::new().await?;
    let mut log = scene.writer()?;
    let agent = scene
        .agent(&(scene.source() + &scene.forward("  flush_interval 1h")))
        .await?;
    log.lines(10)?;
    flush_until(&agent, &scene, 10).await?;
    agent.wait_for_line("flushing is done", DEADLINE).await?;
    Ok(())
}

#[tokio::test]
async fn rename_rotation_repeats_and_loses_nothing() -> Result<()> {
    let scene = Scene::new().await?;
    let mut log = scene.writer()?;
    let agent = scene.agent(&scene.immediate()).await?;
    agent.wait_for_line("following tail of", DEADLINE).await?;
    for _ in 0..5 {
        log.lines(300)?;
        log.rotate()?;
    }
    log.lines(300)?;
    let arrived = scene.primary.wait_for_lines(1800, DEADLINE).await;
    ensure!(arrived.is_ok(), "{}", agent.log_text());
    let ledger = ledger(&scene, log.written());
    assert_eq!((ledger.missing().len(), ledger.duplicates()), (0, 0));
    Ok(())
}

#[tokio::test]
async fn copytruncate_is_read_from_the_head_again() -> Result<()> {
    let scene = Scene::new().await?;
    let mut log = scene.writer()?;
    let _agent = scene.agent(&scene.immediate()).await?;
    log.lines(300)?;
    scene.primary.wait_for_lines(300, DEADLINE).await?;
    log.copy_truncate()?;
    log.lines(200)?;
    scene.primary.wait_for_lines(500, DEADLINE).await?;
    let ledger = ledger(&scene, log.written());
    assert_eq!((ledger.missing().len(), ledger.duplicates()), (0, 0));
    Ok(())
}

#[tokio::test]
async fn a_reload_keeps_every_line_and_a_bad_file_keeps_the_old_agent() -> Result<()> {
    let scene = Scene::new().await?;
    let mut log = scene.writer()?;
    let agent = scene.agent(&scene.immediate()).await?;
    log.lines(100)?;
    scene.primary.wait_for_lines(100, DEADLINE).await?;
    agent.rewrite_config("<source>\n  @type tial\n</source>\n")?;
    agent.signal(Signal::SIGHUP)?;
    agent
        .wait_for_line("the old configuration goes on", DEADLINE)
        .await?;
    log.lines(100)?;
    scene.primary.wait_for_lines(200, DEADLINE).await?;
    agent.rewrite_config(&scene.immediate())?;
    agent.signal(Signal::SIGUSR2)?;
    agent
        .wait_for_line("the new configuration is running", DEADLINE)
        .await?;
    log.lines(100)?;
    scene.primary.wait_for_lines(300, DEADLINE).await?;
    let ledger = ledger(&scene, log.written());
    assert_eq!((ledger.missing().len(), ledger.duplicates()), (0, 0));
    Ok(())
}

#[tokio::test]
async fn a_reload_that_cannot_start_goes_back_to_the_old_configuration() -> Result<()> {
    let scene = Scene::new().await?;
    let mut log = scene.writer()?;
    let other = scene.source().replace("app.pos", "other.pos");
    let _owner = scene.agent(&(other.clone() + &scene.forward(""))).await?;
    let agent = scene.agent(&scene.immediate()).await?;
    agent.rewrite_config(&(other + &scene.forward("")))?;
    agent.signal(Signal::SIGHUP)?;
    agent
        .wait_for_line("cannot start with the new configuration", DEADLINE)
        .await?;
    log.lines(100)?;
    scene.primary.wait_for_lines(100, DEADLINE).await?;
    Ok(())
}

#[tokio::test]
async fn a_second_stop_signal_aborts_a_stop_that_waits() -> Result<()> {
    let scene = Scene::new().await?;
    let mut log = scene.writer()?;
    scene.primary.set_mode(Mode::Silent).await;
    let mut agent = scene.agent(&scene.immediate()).await?;
    log.lines(10)?;
    scene
        .primary
        .wait_for("the chunk", DEADLINE, |state| state.discarded > 0)
        .await?;
    agent.signal(Signal::SIGTERM)?;
    agent.wait_for_line("stopping", DEADLINE).await?;
    agent.signal(Signal::SIGTERM)?;
    let status = agent.wait_exit(DEADLINE).await?;
    assert!(!status.success(), "{}", agent.log_text());
    Ok(())
}
