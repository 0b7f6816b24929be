//! A second application whose log is rotated by copytruncate. That scheme destroys its source: what it costs is counted, not judged.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Result, anyhow};
use fastrand::Rng;

use crate::support::ledger::LineId;
use crate::support::log_writer::LogFile;

/// Its lines' writer number.
pub const WRITER: u32 = 2;
/// Its file.
pub const LOG: &str = "copied.log";
/// Lines a second.
const RATE: f64 = 500.0;

/// The running thread.
pub struct Truncating {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<std::io::Result<Vec<LineId>>>,
}

impl Truncating {
    /// Starts to write into `dir`.
    ///
    /// # Errors
    /// When the log cannot be made.
    pub fn start(dir: &Path, seed: u64) -> Result<Truncating> {
        let file = LogFile::open(dir.join(LOG), WRITER, 100)?;
        let stop = Arc::new(AtomicBool::new(false));
        let told = stop.clone();
        let rng = Rng::with_seed(seed ^ 2);
        let thread = std::thread::Builder::new()
            .name("torture.truncating".to_owned())
            .spawn(move || run(file, rng, &told))?;
        Ok(Truncating { stop, thread })
    }

    /// Ends it; returns what it wrote.
    ///
    /// # Errors
    /// When it could not write.
    pub async fn stop(self) -> Result<Vec<LineId>> {
        self.stop.store(true, Ordering::SeqCst);
        let joined = tokio::task::spawn_blocking(|| self.thread.join()).await?;
        Ok(joined.map_err(|_| anyhow!("the truncating writer panicked"))??)
    }
}

fn run(mut file: LogFile, mut rng: Rng, stop: &AtomicBool) -> std::io::Result<Vec<LineId>> {
    let start = Instant::now();
    let (mut written, mut truncate_at) = (0, rng.u64(20..400));
    while !stop.load(Ordering::SeqCst) {
        while written < (start.elapsed().as_secs_f64() * RATE) as u64 {
            file.line()?;
            written += 1;
            if written >= truncate_at {
                file.copy_truncate()?;
                truncate_at = written + rng.u64(20..400);
            }
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    Ok(file.written())
}
