//! Standby fail-over: at once, on any doubt, and back when the primary recovers.

use anyhow::Result;

use crate::scene::{DEADLINE, Scene};
use crate::support::forward_server::Mode;
use crate::support::ledger::Ledger;

/// With the primary in this mode every line reaches the standby, and no line is lost or unacknowledged.
async fn the_standby_takes_over_when_the_primary(mode: Mode) -> Result<()> {
    let scene = Scene::new().await?;
    let mut log = scene.writer()?;
    let agent = scene.agent(&(scene.source() + &scene.forward("  ack_response_timeout 1s\n  flush_mode immediate\n  <buffer>\n    flush_mode immediate\n  </buffer>"))).await?;
    log.lines(10)?;
    scene.primary.wait_for_lines(10, DEADLINE).await?;
    scene.primary.set_mode(mode).await;
    log.lines(10)?;
    let arrived = scene.standby.wait_for_lines(10, DEADLINE).await;
    assert!(arrived.is_ok(), "{mode:?}: {}", agent.log_text());
    Ok(())
}

#[tokio::test]
async fn the_standby_takes_over_at_once_when_the_primary_is_gone() -> Result<()> {
    the_standby_takes_over_when_the_primary(Mode::Refuse).await
}

#[tokio::test]
async fn the_standby_takes_over_when_the_primary_never_acks() -> Result<()> {
    the_standby_takes_over_when_the_primary(Mode::Silent).await
}

#[tokio::test]
async fn the_standby_takes_over_when_the_primary_acks_another_chunk() -> Result<()> {
    the_standby_takes_over_when_the_primary(Mode::Lie).await
}

#[tokio::test]
async fn the_standby_takes_over_when_the_primary_answers_garbage() -> Result<()> {
    the_standby_takes_over_when_the_primary(Mode::Garbage).await
}

#[tokio::test]
async fn the_standby_takes_over_when_the_primary_hangs_up_before_the_ack() -> Result<()> {
    the_standby_takes_over_when_the_primary(Mode::HangUpBeforeAck).await
}

#[tokio::test]
async fn the_standby_takes_over_when_the_primary_hangs_up_mid_chunk() -> Result<()> {
    the_standby_takes_over_when_the_primary(Mode::HangUpMidChunk).await
}

#[tokio::test]
async fn a_resent_chunk_keeps_its_id() -> Result<()> {
    let scene = Scene::new().await?;
    let mut log = scene.writer()?;
    scene.primary.set_mode(Mode::StoreThenDie).await;
    let _agent = scene.agent(&scene.immediate()).await?;
    log.lines(10)?;
    scene.standby.wait_for_lines(10, DEADLINE).await?;
    let ids = |server: &crate::support::forward_server::ForwardServer| {
        server
            .received()
            .into_iter()
            .map(|received| format!("{:?}", received.delivery.chunk))
            .collect::<Vec<_>>()
    };
    let (first, second) = (ids(&scene.primary), ids(&scene.standby));
    assert!(!first.is_empty());
    assert!(
        first.iter().all(|id| second.contains(id)),
        "{first:?} {second:?}"
    );
    Ok(())
}

#[tokio::test]
async fn the_primary_gets_the_work_back_when_it_recovers() -> Result<()> {
    let scene = Scene::new().await?;
    let mut log = scene.writer()?;
    let agent = scene.agent(&scene.immediate()).await?;
    scene.primary.stop().await;
    log.lines(10)?;
    scene.standby.wait_for_lines(10, DEADLINE).await?;
    scene.primary.restart().await;
    agent
        .wait_for_line("recovered forwarding server", DEADLINE)
        .await?;
    log.lines(10)?;
    scene.primary.wait_for_lines(10, DEADLINE).await?;
    let mut ledger = Ledger::new(log.written());
    ledger.arrived(
        "standby",
        scene.standby.state().read(|state| state.lines.clone()),
    );
    ledger.arrived(
        "primary",
        scene.primary.state().read(|state| state.lines.clone()),
    );
    assert!(ledger.missing().is_empty());
    Ok(())
}

#[tokio::test]
async fn an_outage_of_both_servers_only_delays() -> Result<()> {
    let scene = Scene::new().await?;
    let mut log = scene.writer()?;
    let agent = scene.agent(&scene.immediate()).await?;
    scene.primary.stop().await;
    scene.standby.stop().await;
    log.lines(100)?;
    agent
        .wait_for_line("no nodes are available", DEADLINE)
        .await?;
    scene.standby.restart().await;
    scene.standby.wait_for_lines(100, DEADLINE).await?;
    Ok(())
}
