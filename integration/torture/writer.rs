//! The application of a round: a thread that writes numbered lines and lets go of its log in every way that keeps it.

use std::collections::VecDeque;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow};
use fastrand::Rng;
use flate2::Compression;
use flate2::write::GzEncoder;

use super::book::{Book, Generation};
use super::plan::{Plan, Rotation};
use crate::support::forward_server::ForwardServer;
use crate::support::ledger::LineId;

/// Its lines' writer number.
pub const WRITER: u32 = 1;
/// The application's file.
pub const LOG: &str = "app.log";
/// One line in so many is written in two pieces with a moment between.
const HALVES: u32 = 400;
/// How long after a rename lines may still go to the old file: well below `rotate_wait`, for which it is watched at least.
const LATE: Duration = Duration::from_millis(300);

/// What the writer and the round share.
#[derive(Debug, Default)]
pub struct Shared {
    book: Mutex<Book>,
    /// Held while a file is deleted: no kill comes between the question and the deed.
    agent_is_up: Mutex<bool>,
    stop: Mutex<bool>,
}

impl Shared {
    /// What is written now.
    pub fn book(&self) -> MutexGuard<'_, Book> {
        lock(&self.book)
    }

    /// Tells whether files that were read may be deleted.
    pub fn set_agent_is_up(&self, up: bool) {
        *lock(&self.agent_is_up) = up;
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Every change is complete before anything can panic.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The running thread.
pub struct Writer {
    shared: Arc<Shared>,
    thread: JoinHandle<io::Result<Vec<Rotation>>>,
}

impl Writer {
    /// Starts to write into `dir`; `receiver` is asked which files were read. Before `pos_file` is there, a rotated file is none that the
    /// agent was asked for.
    ///
    /// # Errors
    /// When the log cannot be made.
    pub fn start(
        dir: &Path,
        pos_file: PathBuf,
        plan: &Plan,
        receiver: Arc<ForwardServer>,
    ) -> Result<Writer> {
        let shared = Arc::new(Shared::default());
        let mut rng = Rng::with_seed(plan.seed ^ 1);
        // Some logs are there before the agent is, empty or not.
        let begun = rng.u64(..50);
        let (file, generation) = create(dir)?;
        shared.book().generations.push(generation);
        let mut application = Application {
            dir: dir.to_owned(),
            pos_file,
            file,
            shared: shared.clone(),
            receiver,
            rotated: VecDeque::new(),
            done: Vec::new(),
            rng,
            next: 0,
            length: plan.length,
            late: plan.rotate_wait == "5",
        };
        for _ in 0..begun {
            application.line()?;
        }
        let (rate, rotations) = (plan.rate, plan.rotations.clone());
        let thread = std::thread::Builder::new()
            .name("torture.writer".to_owned())
            .spawn(move || application.run(rate, &rotations))?;
        Ok(Writer { shared, thread })
    }

    /// What it shares.
    pub fn shared(&self) -> &Shared {
        &self.shared
    }

    /// Ends it; returns what it wrote, and how it rotated.
    ///
    /// # Errors
    /// When one of its own steps had failed.
    pub async fn stop(self) -> Result<(Book, Vec<Rotation>)> {
        *lock(&self.shared.stop) = true;
        let joined = tokio::task::spawn_blocking(|| self.thread.join()).await?;
        let done = joined.map_err(|_| anyhow!("the writer panicked"))?;
        let done = done.context("the writer could not write")?;
        let book = self.shared.book().clone();
        Ok((book, done))
    }
}

fn create(dir: &Path) -> io::Result<(File, Generation)> {
    let file = OpenOptions::new()
        .create_new(true)
        .append(true)
        .open(dir.join(LOG))?;
    let generation = Generation::of(&file)?;
    Ok((file, generation))
}

/// A file that was rotated away.
struct Rotated {
    name: PathBuf,
    lines: std::ops::Range<u64>,
}

struct Application {
    dir: PathBuf,
    pos_file: PathBuf,
    file: File,
    shared: Arc<Shared>,
    receiver: Arc<ForwardServer>,
    /// Oldest first, as far as they are still there.
    rotated: VecDeque<Rotated>,
    done: Vec<Rotation>,
    rng: Rng,
    next: u64,
    length: usize,
    late: bool,
}

impl Application {
    fn run(mut self, rate: u32, rotations: &[(u64, Rotation)]) -> io::Result<Vec<Rotation>> {
        let (start, begun) = (Instant::now(), self.next);
        let mut rotations = rotations.iter().cycle();
        let mut rotate_at = None;
        while !*lock(&self.shared.stop) {
            let due = begun + (start.elapsed().as_secs_f64() * f64::from(rate)) as u64;
            while self.next < due {
                self.line()?;
                let (at, rotation) = *rotate_at.get_or_insert_with(|| {
                    let (lines, rotation) =
                        rotations.next().copied().unwrap_or((1, Rotation::Chain));
                    (self.next + lines, rotation)
                });
                if self.next >= at && self.pos_file.exists() {
                    self.rotate(rotation)?;
                    rotate_at = None;
                }
            }
            std::thread::sleep(Duration::from_millis(3));
        }
        Ok(self.done)
    }

    /// Writes a line; it counts as written once write(2) has returned for its newline.
    fn line(&mut self) -> io::Result<()> {
        let id = LineId {
            writer: WRITER,
            number: self.next,
        };
        let line = id.line(self.length) + "\n";
        let mut rest = line.as_bytes();
        if self.rng.u32(..HALVES) == 0 {
            let (half, other) = rest.split_at(self.rng.usize(..rest.len()));
            self.file.write_all(half)?;
            std::thread::sleep(Duration::from_millis(self.rng.u64(..15)));
            rest = other;
        }
        self.file.write_all(rest)?;
        self.next += 1;
        let mut book = self.shared.book();
        if let Some(generation) = book.generations.last_mut() {
            let end = generation.size() + line.len() as u64;
            generation.ends.push(end);
        }
        Ok(())
    }

    fn rotate(&mut self, rotation: Rotation) -> io::Result<()> {
        let mut done = rotation;
        match rotation {
            Rotation::Chain => self.chain()?,
            Rotation::WithoutCreate => {
                self.chain()?;
                self.late_lines()?;
            }
            Rotation::CreateFirst => {
                self.chain()?;
                let (file, mut generation) = create(&self.dir)?;
                self.late_lines()?;
                generation.first = self.next;
                self.shared.book().generations.push(generation);
                self.file = file;
                self.done.push(done);
                return Ok(());
            }
            Rotation::Twice => {
                self.chain()?;
                self.begin()?;
                for _ in 0..self.rng.u32(..15) {
                    self.line()?;
                }
                self.chain()?;
            }
            Rotation::Dated => {
                let number = self.done.len();
                self.rename_to(&format!("{LOG}-20260101-{number:03}"))?;
            }
            Rotation::Aside => done = self.aside()?,
            Rotation::Delete => {
                self.chain()?;
                self.give_up(|path| fs::remove_file(path))?;
            }
            Rotation::Compress => {
                self.chain()?;
                self.give_up(compress)?;
            }
        }
        self.done.push(done);
        self.begin()
    }

    /// Makes the next log.
    fn begin(&mut self) -> io::Result<()> {
        let (file, mut generation) = create(&self.dir)?;
        generation.first = self.next;
        self.file = file;
        self.shared.book().generations.push(generation);
        Ok(())
    }

    /// Goes on in the renamed file for a while, as an application does that has not heard of the rotation yet.
    fn late_lines(&mut self) -> io::Result<()> {
        let since = Instant::now();
        for _ in 0..self.rng.u32(..40) {
            if self.late && since.elapsed() < LATE {
                self.line()?;
            }
            std::thread::sleep(Duration::from_millis(self.rng.u64(..5)));
        }
        if let Some(rotated) = self.rotated.back_mut() {
            rotated.lines.end = self.next;
        }
        Ok(())
    }

    /// To a name that only a reader who has the file open can know. Deleted and compressed ones are told by the shared lock.
    fn aside(&mut self) -> io::Result<Rotation> {
        let first = self
            .shared
            .book()
            .generations
            .last()
            .map_or(0, |last| last.first);
        let shared = self.shared.clone();
        let up = lock(&shared.agent_is_up);
        if *up && self.arrived(first..first + 1) {
            let number = self.done.len();
            self.rename_to(&format!("{LOG}.bak-x{number}"))?;
            Ok(Rotation::Aside)
        } else {
            drop(up);
            self.chain()?;
            Ok(Rotation::Chain)
        }
    }

    fn rename_to(&mut self, name: &str) -> io::Result<()> {
        let name = self.dir.join(name);
        fs::rename(self.dir.join(LOG), &name)?;
        let lines = self.shared.book().generations.last().map(Generation::lines);
        self.rotated.push_back(Rotated {
            name,
            lines: lines.unwrap_or_default(),
        });
        Ok(())
    }

    fn chain(&mut self) -> io::Result<()> {
        let numbered = |n: u32| self.dir.join(format!("{LOG}.{n}"));
        let free = (1..).find(|n| !numbered(*n).exists()).unwrap_or(1);
        for n in (1..free).rev() {
            let (from, to) = (numbered(n), numbered(n + 1));
            fs::rename(&from, &to)?;
            if let Some(moved) = self.rotated.iter_mut().find(|rotated| rotated.name == from) {
                moved.name = to;
            }
        }
        self.rename_to(&format!("{LOG}.1"))
    }

    /// Does away with the oldest rotated file, if every line of it has arrived and the agent is up.
    fn give_up(&mut self, away: impl FnOnce(&Path) -> io::Result<()>) -> io::Result<()> {
        let up = lock(&self.shared.agent_is_up);
        if let Some(oldest) = self.rotated.front()
            && *up
            && self.arrived(oldest.lines.clone())
        {
            away(&oldest.name)?;
            drop(up);
            self.rotated.pop_front();
        }
        Ok(())
    }

    fn arrived(&self, mut lines: std::ops::Range<u64>) -> bool {
        self.receiver.state().read(|state| {
            lines.all(|number| {
                state.distinct.contains(&LineId {
                    writer: WRITER,
                    number,
                })
            })
        })
    }
}

fn compress(path: &Path) -> io::Result<()> {
    let mut name = path.as_os_str().to_owned();
    name.push(".gz");
    let mut packed = GzEncoder::new(File::create(name)?, Compression::fast());
    io::copy(&mut File::open(path)?, &mut packed)?;
    packed.finish()?;
    fs::remove_file(path)
}
