//! `affluent drain`: asked of a running agent, refused by a busy one, done where none runs.

use std::path::Path;

use anyhow::{Result, ensure};
use nix::sys::signal::Signal;
use tokio::process::Command;

use super::Termination;
use crate::scene::DEADLINE;
use crate::support::agent::{Agent, binary};
use crate::support::ec2::state::Happening;

/// Runs `affluent drain` on the agent's configuration file and gives its exit status and output.
async fn affluent_drain(
    agent: &Agent,
    play: &Termination,
    flags: &[&str],
) -> Result<(bool, String)> {
    let config = agent
        .dir()
        .map(|dir| dir.join("affluent.conf"))
        .unwrap_or_default();
    drained(&config, play, flags).await
}

async fn drained(config: &Path, play: &Termination, flags: &[&str]) -> Result<(bool, String)> {
    let mut command = Command::new(binary()?);
    command
        .arg("-c")
        .arg(config)
        .arg("drain")
        .args(flags)
        .envs(play.world.env());
    let output = tokio::time::timeout(DEADLINE, command.output()).await??;
    let said = String::from_utf8_lossy(&output.stdout).into_owned()
        + &String::from_utf8_lossy(&output.stderr);
    Ok((output.status.success(), said))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_drain_by_hand_is_asked_of_the_running_agent_which_then_reads_on() -> Result<()> {
    let mut play = Termination::new().await?;
    let config =
        play.scene.source() + &play.scene.forward("  flush_interval 1h") + &play.drain("none", "");
    let agent = play.agent(&config).await?;
    play.log.lines(100)?;
    let (well, said) = affluent_drain(&agent, &play, &[]).await?;
    assert!(well, "{said}\n{}", agent.log_text());
    assert!(said.contains("delivered 100"), "{said}");
    assert_eq!(
        play.scene
            .primary
            .state()
            .read(|state| state.distinct.len()),
        100
    );
    assert_eq!(
        play.happened(|what| matches!(what, Happening::Completed { .. })),
        0
    );
    agent
        .wait_for_line("the instance lives on", DEADLINE)
        .await?;
    play.log.lines(100)?;
    let (well, said) = affluent_drain(&agent, &play, &[]).await?;
    assert!(well, "{said}\n{}", agent.log_text());
    play.scene.primary.wait_for_lines(200, DEADLINE).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_drain_by_hand_is_refused_while_one_goes_on() -> Result<()> {
    let play = Termination::new().await?;
    play.scene.primary.stop().await;
    play.scene.standby.stop().await;
    let marker = play.scene.dir().join("go-on");
    let extra = format!(
        "  <before>\n    command while ! test -e {}; do sleep 0.05; done\n    timeout 60s\n  </before>",
        marker.display()
    );
    let agent = play
        .agent(&(play.scene.immediate() + &play.drain("none", &extra)))
        .await?;
    let first = affluent_drain(&agent, &play, &[]);
    let second = async {
        agent
            .wait_for_line("before: running a command", DEADLINE)
            .await?;
        let answer = affluent_drain(&agent, &play, &[]).await?;
        std::fs::write(&marker, "")?;
        Ok(answer)
    };
    let (first, second) = tokio::try_join!(first, second)?;
    assert!(first.0, "{}", first.1);
    assert!(!second.0, "{}", second.1);
    assert!(second.1.contains("a drain is going on"), "{}", second.1);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rehearsal_completes_nothing_and_the_agent_goes_on() -> Result<()> {
    let mut play = Termination::new().await?;
    let done = play.scene.dir().join("before-ran");
    let extra = format!(
        "  <before>\n    command touch {}\n  </before>",
        done.display()
    );
    let agent = play
        .agent(&(play.scene.immediate() + &play.drain("doorbell", &extra)))
        .await?;
    play.log.lines(100)?;
    let (_, said) = affluent_drain(&agent, &play, &["--dry-run"]).await?;
    agent
        .wait_for_line("the instance lives on", DEADLINE)
        .await?;
    assert!(!done.exists(), "a rehearsal ran a command: {said}");
    assert_eq!(
        play.happened(|what| matches!(what, Happening::Completed { .. })),
        0
    );
    play.log.lines(100)?;
    play.scene.primary.wait_for_lines(200, DEADLINE).await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_drain_by_hand_without_a_running_agent_drains_itself() -> Result<()> {
    let mut play = Termination::new().await?;
    let mut agent = play
        .agent(&(play.scene.immediate() + &play.drain("none", "")))
        .await?;
    agent.kill().await?;
    play.log.lines(100)?;
    let (well, said) = affluent_drain(&agent, &play, &[]).await?;
    assert!(well, "{said}");
    assert_eq!(
        play.scene
            .primary
            .state()
            .read(|state| state.distinct.len()),
        100
    );
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_source_that_cannot_have_its_pos_file_is_no_success() -> Result<()> {
    let mut play = Termination::new().await?;
    let sourced = play.scene.immediate();
    let agent = play
        .agent(&(sourced.clone() + &play.drain("none", "")))
        .await?;
    play.log.lines(10)?;
    play.scene.primary.wait_for_lines(10, DEADLINE).await?;
    // Another configuration with the same pos_file: its socket is another one, so it is an agent of its own.
    let other = play.scene.dir().join("other.conf");
    let drain = play.drain("none", "").replace("drain.json", "other.json");
    std::fs::write(&other, sourced + &drain)?;
    let (well, said) = drained(&other, &play, &[]).await?;
    assert!(!well, "{said}");
    assert!(said.contains("tail.0 cannot start"), "{said}");
    agent.signal(Signal::SIGTERM)?;
    let mut agent = agent;
    ensure!(
        agent.wait_exit(DEADLINE).await?.success(),
        "{}",
        agent.log_text()
    );
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_backed_up_on_this_disk_is_neither_delivered_nor_safe() -> Result<()> {
    let mut play = Termination::new().await?;
    play.scene.primary.stop().await;
    play.scene.standby.stop().await;
    let root = play.scene.dir().join("root");
    let buffer =
        "  @id to_server\n  <buffer>\n    flush_mode immediate\n    retry_max_times 0\n  </buffer>";
    let config = format!("<system>\n  root_dir {}\n</system>\n", root.display())
        + &play.scene.source()
        + &play.scene.forward(buffer)
        + &play.drain("none", "");
    let agent = play.agent(&config).await?;
    play.log.lines(10)?;
    agent
        .wait_for_line("bad chunk is moved to", DEADLINE)
        .await?;
    let (well, said) = affluent_drain(&agent, &play, &[]).await?;
    assert!(!well, "{said}");
    let directory = root.join("backup/worker0/to_server");
    for part in [
        "delivered 0, ",
        &format!(" records in its backup directory {}", directory.display()),
    ] {
        assert!(said.contains(part), "{part} is not in:\n{said}");
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_cannot_be_opened_is_not_safe() -> Result<()> {
    let play = Termination::new().await?;
    let unreadable = play.scene.dir().join("loop.log");
    // Permissions do not hinder a test that runs as root.
    std::os::unix::fs::symlink(&unreadable, &unreadable)?;
    let log = play.scene.log().display().to_string();
    let both = format!("{log},{}", unreadable.display());
    let config = play.scene.immediate().replacen(&log, &both, 1) + &play.drain("none", "");
    let agent = play.agent(&config).await?;
    let (well, said) = affluent_drain(&agent, &play, &[]).await?;
    assert!(!well, "{said}");
    let place = format!("not safe: cannot read {}", unreadable.display());
    assert!(said.contains(&place), "{said}");
    Ok(())
}
