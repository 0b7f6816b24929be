//! An application that writes a log: numbered, self-checking lines at a rate, with rotation, knowing every line that it wrote.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Result, anyhow};

use super::ledger::LineId;
use super::watched::Watched;

/// How a writer writes.
#[derive(Clone, Copy, Debug)]
pub struct Pace {
    /// Lines a second.
    pub rate: u32,
    /// Bytes per line, about, without the newline.
    pub length: usize,
    /// After so many lines the file is renamed to `<name>.1` (`.1` to `.2` and so on) and a new one begun.
    pub rotate_every: Option<u64>,
}

impl Default for Pace {
    /// 2000 lines of 150 bytes a second, never rotated.
    fn default() -> Self {
        Self {
            rate: 2000,
            length: 150,
            rotate_every: None,
        }
    }
}

/// What a file of numbered lines is and what is in it. The synchronous half, for tests that write by hand.
#[derive(Debug)]
pub struct LogFile {
    path: PathBuf,
    file: File,
    writer: u32,
    next: u64,
    length: usize,
}

impl LogFile {
    /// Creates the file, or goes on in it, as writer number `writer`.
    ///
    /// # Errors
    /// When it cannot be opened.
    pub fn open(path: impl Into<PathBuf>, writer: u32, length: usize) -> io::Result<Self> {
        let path = path.into();
        Ok(Self {
            file: append_to(&path)?,
            path,
            writer,
            next: 0,
            length,
        })
    }

    /// Writes one line with one write(2); it counts as written once that returned.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn line(&mut self) -> io::Result<LineId> {
        let id = LineId {
            writer: self.writer,
            number: self.next,
        };
        self.file
            .write_all((id.line(self.length) + "\n").as_bytes())?;
        self.next += 1;
        Ok(id)
    }

    /// Writes that many lines.
    ///
    /// # Errors
    /// When one cannot be written.
    pub fn lines(&mut self, count: u64) -> io::Result<()> {
        (0..count).try_for_each(|_| self.line().map(drop))
    }

    /// Every line written so far.
    pub fn written(&self) -> Vec<LineId> {
        let writer = self.writer;
        (0..self.next)
            .map(|number| LineId { writer, number })
            .collect()
    }

    /// Renames the file out of the way, older ones one number up, and begins a new one.
    ///
    /// # Errors
    /// When a rename or the open fails.
    pub fn rotate(&mut self) -> io::Result<()> {
        let numbered = |n: u32| PathBuf::from(format!("{}.{n}", self.path.display()));
        let oldest = (1..).find(|n| !numbered(*n).exists()).unwrap_or(1);
        for n in (1..oldest).rev() {
            std::fs::rename(numbered(n), numbered(n + 1))?;
        }
        std::fs::rename(&self.path, numbered(1))?;
        self.file = append_to(&self.path)?;
        Ok(())
    }

    /// `copytruncate`: copies the file to `<name>.1` and empties it.
    ///
    /// # Errors
    /// When a step fails.
    pub fn copy_truncate(&mut self) -> io::Result<()> {
        std::fs::copy(&self.path, format!("{}.1", self.path.display()))?;
        self.file.set_len(0)
    }
}

fn append_to(path: &Path) -> io::Result<File> {
    OpenOptions::new().create(true).append(true).open(path)
}

#[derive(Debug, Default)]
struct Progress {
    lines: u64,
    stop: bool,
}

/// A thread that writes at a pace until it is told to stop.
pub struct LogWriter {
    progress: Arc<Watched<Progress>>,
    thread: JoinHandle<io::Result<LogFile>>,
}

impl LogWriter {
    /// Starts to write to `path` as writer number `writer`.
    ///
    /// # Errors
    /// When the file cannot be opened.
    pub fn start(path: impl Into<PathBuf>, writer: u32, pace: Pace) -> Result<Self> {
        let file = LogFile::open(path, writer, pace.length)?;
        let progress = Arc::new(Watched::new(Progress::default()));
        let shared = progress.clone();
        let thread = std::thread::Builder::new()
            .name(format!("writer.{writer}"))
            .spawn(move || write_at_pace(file, pace, &shared))?;
        Ok(Self { progress, thread })
    }

    /// How many lines are written now.
    pub fn count(&self) -> u64 {
        self.progress.read(|progress| progress.lines)
    }

    /// Waits until that many lines are written.
    ///
    /// # Errors
    /// After `deadline`.
    pub async fn wait_for_count(&self, count: u64, deadline: Duration) -> Result<()> {
        let what = format!("{count} lines to be written");
        let enough = |progress: &Progress| progress.lines >= count;
        self.progress.wait_for(&what, deadline, enough).await
    }

    /// Ends the thread and returns the file with what it knows; lines can still be written by hand.
    ///
    /// # Errors
    /// When a write had failed.
    pub async fn stop(self) -> Result<LogFile> {
        self.progress.change(|progress| progress.stop = true);
        let joined = tokio::task::spawn_blocking(|| self.thread.join()).await?;
        Ok(joined.map_err(|_| anyhow!("the log writer panicked"))??)
    }
}

fn write_at_pace(
    mut file: LogFile,
    pace: Pace,
    progress: &Watched<Progress>,
) -> io::Result<LogFile> {
    let start = Instant::now();
    while !progress.read(|progress| progress.stop) {
        let due = (start.elapsed().as_secs_f64() * f64::from(pace.rate)) as u64;
        while file.next < due {
            file.line()?;
            if pace
                .rotate_every
                .is_some_and(|every| file.next.is_multiple_of(every))
            {
                file.rotate()?;
            }
        }
        progress.change(|progress| progress.lines = file.next);
        std::thread::sleep(Duration::from_millis(5));
    }
    Ok(file)
}
