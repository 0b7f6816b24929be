//! `affluent status`: the account of every line of every file, asked from a running agent.

use std::path::Path;

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use tokio::process::Command;

use crate::scene::{DEADLINE, Scene};
use crate::support::agent::binary;

async fn status(config: &Path) -> Result<Value> {
    let output = Command::new(binary()?)
        .args(["status", "--json", "-c"])
        .arg(config)
        .output()
        .await?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "status: {said}");
    Ok(serde_json::from_slice(&output.stdout)?)
}

fn number(value: &Value, key: &str) -> Result<u64> {
    value[key]
        .as_u64()
        .with_context(|| format!("{key} in {value}"))
}

#[tokio::test]
async fn status_accounts_for_every_line_of_every_file() -> Result<()> {
    let scene = Scene::new().await?;
    let mut log = scene.writer()?;
    let agent = scene.agent(&scene.immediate()).await?;
    let config = agent.dir().context("a directory")?.join("affluent.conf");
    log.lines(300)?;
    scene.primary.wait_for_lines(300, DEADLINE).await?;
    scene.primary.stop().await;
    scene.standby.stop().await;
    log.lines(100)?;
    let end = std::time::Instant::now() + DEADLINE;
    let file = loop {
        let status = status(&config).await?;
        let file = status["sources"][0]["files"][0].clone();
        if number(&file, "lines")? == 400 && number(&file, "safe_lines")? >= 300 {
            assert_eq!(number(&status, "pid")?, u64::from(agent.pid()?));
            assert_eq!(number(&status["ledger"], "lines_read")?, 400);
            break file;
        }
        ensure!(std::time::Instant::now() < end, "never read: {status}");
    };
    let safe = number(&file, "safe_lines")?;
    assert_eq!(safe + number(&file, "waiting_lines")?, 400);
    assert!(safe < 400, "no server is there");
    assert_eq!(number(&file, "forgotten_lines")?, 0);
    assert_eq!(number(&file, "bytes")?, 400 * 151);
    assert_eq!(number(&file, "behind_bytes")?, 0);
    let path = file["path"].as_str().context("a path")?;
    assert_eq!(Path::new(path), scene.log());
    Ok(())
}

#[tokio::test]
async fn status_says_where_no_agent_runs() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let config = dir.path().join("affluent.conf");
    std::fs::write(&config, "")?;
    let error = status(&config).await.expect_err("nobody is there");
    assert!(error.to_string().contains("no agent runs with"), "{error}");
    Ok(())
}
