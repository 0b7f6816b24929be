//! A termination with chunks on disk: what is in the file buffer leaves the instance, also what an earlier process left there.

use anyhow::{Result, ensure};

use super::Termination;
use crate::file_buffer::all_buffered;
use crate::support::ledger::{Ledger, LineId};
use crate::support::log_writer::LogFile;
use crate::torture::chunks;

/// Where the lines of a drained instance are.
struct Drained {
    ledger: Ledger,
    /// Of these in S3.
    spilled: usize,
}

/// An agent is killed with all its lines in the buffer and their file is gone; the next one is terminated. `reachable`: whether a server
/// is there by then.
async fn drained(reachable: bool) -> Result<Drained> {
    let mut play = Termination::new().await?;
    play.scene.primary.stop().await;
    play.scene.standby.stop().await;
    let path = play.scene.dir().join("buffer");
    let buffer = format!(
        "  <buffer tag>\n    @type file\n    path {}\n    flush_interval 1h\n    retry_max_interval 1s\n  </buffer>",
        path.display()
    );
    let config = play.scene.source() + &play.scene.forward(&buffer) + &play.drain("doorbell", "");
    let mut first = play.agent(&config).await?;
    play.log.lines(500)?;
    all_buffered(&play.scene, &first).await?;
    first.kill().await?;
    std::fs::remove_file(play.scene.log())?;
    let mut log = LogFile::open(play.scene.log(), 2, 150)?;
    let agent = play.agent(&config).await?;
    log.lines(500)?;
    all_buffered(&play.scene, &agent).await?;
    ensure!(chunks::any(&path)?, "nothing is in the buffer");
    if reachable {
        play.scene.primary.restart().await;
    }
    play.terminate(&agent).await?;
    let mut ledger = Ledger::new(play.log.written().into_iter().chain(log.written()));
    let server = play.scene.primary.state();
    ledger.arrived("primary", server.read(|state| state.lines.clone()));
    let mut spilled = 0;
    for object in play.world.objects()? {
        let lines: Vec<_> = LineId::find_all(&object.text()?).collect();
        spilled += lines.len();
        ledger.arrived(object.key.clone(), lines);
    }
    let said = agent.log_text();
    ensure!(
        ledger.missing().is_empty() && ledger.duplicates() == 0,
        "{ledger}\n{said}"
    );
    ensure!(
        !chunks::any(&path)?,
        "chunks are left in the buffer:\n{said}"
    );
    play.end(agent).await?;
    Ok(Drained { ledger, spilled })
}

#[tokio::test(flavor = "multi_thread")]
async fn a_drain_delivers_what_is_in_the_file_buffer_and_what_an_earlier_process_left_there()
-> Result<()> {
    let drained = drained(true).await?;
    assert_eq!(drained.spilled, 0, "{}", drained.ledger);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn with_no_server_a_drain_spills_the_file_buffer_and_what_an_earlier_process_left_there()
-> Result<()> {
    let drained = drained(false).await?;
    assert_eq!(drained.spilled, 1000, "{}", drained.ledger);
    Ok(())
}
