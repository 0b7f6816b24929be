//! Chunks that survive: `@type file` and `@type file_single`, as Fluentd lays them out on disk.
//!
//! A stopped Fluentd's directory is taken over and shipped, and a stopped Affluent's can be by Fluentd. [`name`] and [`meta`] are its
//! formats; what they cannot hold stands in a side file of ours ([`side`], [`claims`]), whose absence costs duplicates, never lines. [`work`] is
//! the thread that writes, [`commit`] the order in which it does, [`content`] one chunk, [`resume`] what a restart finds.
//!
//! A receipt is released when its lines are durable: record bytes written, `fdatasync` returned, the directory entry synced. So the
//! position of a tailed file never passes what a power cut would take. `fsync false` gives that up for the speed of the page cache:
//! lines then survive the death of the process (kill -9), and a power cut loses what the kernel had not written back (30 s and more).

mod adopt;
mod aside;
mod check;
mod claims;
mod commit;
mod content;
mod disk;
mod evidence;
mod formatted;
mod give_back;
pub mod inspect;
mod lock;
mod looked;
mod meta;
mod name;
pub mod params;
mod parts;
mod readable;
mod recall;
mod requeue;
mod resume;
mod side;
#[cfg(test)]
mod sim;
mod trouble;
mod work;

use std::fs::File;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::Context;
use tracing::{info, warn};

pub use content::{Content, PIECE};
pub use give_back::{Format, Given};
pub use name::{Kind, Letter, Naming};
pub use parts::FileParts;
pub use resume::{Fate, Left};
pub use work::MOST_PENDING;

use disk::{Directory, Disk};
use work::{Options, Work};

use super::{ChunkId, ChunkKey, ChunkKeys};
use crate::event::Extent;

/// Nobody else reads what may be secret, unless the configuration says so.
const FILE_MODE: u32 = 0o600;

/// Where and how chunks are kept on disk.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The directory.
    pub directory: PathBuf,
    /// Where a Fluentd with several workers may have left others.
    pub beside: Vec<PathBuf>,
    /// Names in it.
    pub naming: Naming,
    /// Whether receipts wait for the disk. Without it lines survive the death of the process only.
    pub fsync: bool,
    /// A compressed chunk that holds more bytes is refused.
    pub most_inflated: u64,
    /// Whether Fluentd's output formats before it buffers: a chunk that it left holds text.
    pub formatted: bool,
    /// Mode of a directory that is made.
    pub directory_mode: u32,
    /// Mode of files.
    pub file_mode: u32,
}

impl Settings {
    /// The same, for an output that formats before it buffers, in Fluentd, or does not.
    pub fn formatted_if(self, formatted: bool) -> Settings {
        Settings { formatted, ..self }
    }
}

/// The chunks of one buffer on disk. Nothing is touched before [`Storage::open`].
#[derive(Debug)]
pub struct Storage {
    settings: Settings,
    opened: OnceLock<Opened>,
}

#[derive(Debug)]
struct Opened {
    work: Arc<Work>,
    thread: Mutex<Option<JoinHandle<()>>>,
    /// Held as long as the files are ours.
    lock: Mutex<Option<File>>,
}

impl Storage {
    /// Not opened.
    pub fn new(settings: Settings) -> Storage {
        Storage {
            settings,
            opened: OnceLock::new(),
        }
    }

    /// Makes of the chunks of a directory that is not open what a Fluentd keeps that formats before it buffers.
    pub fn give_back(
        &self,
        compress: super::Compress,
        format: Format<'_>,
    ) -> anyhow::Result<Vec<Given>> {
        give_back::give_back(&self.settings, compress, format)
    }

    /// Takes the lock, finds what is there and starts to write. `set_aside` hears of each chunk that is broken.
    pub fn open(
        &self,
        plugin_id: &str,
        keys: &ChunkKeys,
        set_aside: impl FnMut(),
    ) -> anyhow::Result<Vec<Left>> {
        let Settings {
            directory, naming, ..
        } = &self.settings;
        lock::prepare(directory, self.settings.directory_mode)?;
        let lock = lock::take(directory, &naming.lock())?;
        let shown = directory.display();
        let adopted = adopt::adopt(&self.settings);
        let adopted = adopted.with_context(|| format!("cannot move chunks to {shown}"))?;
        if adopted > 0 {
            info!(plugin_id, path = %shown, chunks = adopted, "took chunks of other workers over");
        }
        let disk = Directory::open(directory, self.settings.file_mode);
        let disk =
            disk.with_context(|| format!("cannot open buffer directory {}", directory.display()))?;
        self.open_on(Arc::new(disk), Some(lock), plugin_id, keys, set_aside)
    }

    fn open_on(
        &self,
        disk: Arc<dyn Disk>,
        lock: Option<File>,
        plugin_id: &str,
        keys: &ChunkKeys,
        set_aside: impl FnMut(),
    ) -> anyhow::Result<Vec<Left>> {
        let path = self.settings.directory.display().to_string();
        let options = Options {
            plugin_id: plugin_id.to_owned(),
            path: path.clone(),
            sync: self.settings.fsync,
            most_inflated: self.settings.most_inflated,
            formatted: self.settings.formatted,
        };
        let work = Work::new(disk, self.settings.naming.clone(), options);
        let left = resume::find(&work, keys, set_aside);
        let left = left.with_context(|| format!("cannot read buffer directory {path}"))?;
        let opened = Opened {
            work,
            thread: Mutex::new(None),
            lock: Mutex::new(lock),
        };
        anyhow::ensure!(
            self.opened.set(opened).is_ok(),
            "buffer directory {path} is open already"
        );
        Ok(left)
    }

    /// Starts the thread that writes.
    pub fn start(&self, plugin_id: &str) -> anyhow::Result<()> {
        let opened = self.opened();
        let work = opened.work.clone();
        let thread = thread::Builder::new().name(format!("buffer.{plugin_id}"));
        let thread = thread
            .spawn(move || work.run())
            .context("cannot start the thread of a file buffer")?;
        opened
            .thread
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .replace(thread);
        Ok(())
    }

    /// A new chunk. Its file is made with its first bytes.
    pub fn chunk(&self, id: ChunkId, key: ChunkKey, clock: SystemTime) -> Arc<Content> {
        let created = clock
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default()
            .as_secs();
        let created = i64::try_from(created).unwrap_or(i64::MAX);
        Content::new(self.work().clone(), id, key, created)
    }

    /// What chunks of an earlier run claim of tailed files: as far as [`Left::check`] has looked at staged ones.
    pub fn recalled(&self) -> Vec<Extent> {
        self.opened
            .get()
            .map_or_else(Vec::new, |opened| opened.work.recall.take())
    }

    /// Sources have written down what was recalled.
    pub fn taken_up(&self) {
        if let Some(opened) = self.opened.get() {
            opened.work.taken_up();
        }
    }

    /// Removes what stands only for sources that have ended in order.
    pub fn tidy(&self) {
        if let Some(opened) = self.opened.get() {
            commit::tidy(&opened.work);
        }
    }

    /// The directory with what is to be done in it.
    pub fn work(&self) -> &Arc<Work> {
        &self.opened().work
    }

    /// Whether the disk takes nothing.
    pub fn is_in_trouble(&self) -> bool {
        self.opened
            .get()
            .is_some_and(|opened| opened.work.is_in_trouble())
    }

    /// Whether so much is not durable that sources should wait.
    pub fn is_behind(&self) -> bool {
        self.opened
            .get()
            .is_some_and(|opened| opened.work.is_behind())
    }

    /// Writes what is left, ends the thread and gives the lock back. What the disk does not take is read again at the next start.
    /// `staged` are the chunks that stay open: their metadata are brought up to date.
    pub fn close<'a>(&self, staged: impl Iterator<Item = &'a Arc<Content>>) {
        let Some(opened) = self.opened.get() else {
            return;
        };
        let Some(thread) = opened
            .thread
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take()
        else {
            return;
        };
        opened.work.close();
        if thread.join().is_err() {
            warn!(
                path = opened.work.options.path,
                "the thread of a file buffer panicked; what it had not written is read again at the next start"
            );
        }
        for content in staged {
            if let Err(error) = commit::finish(&opened.work, content) {
                warn!(path = opened.work.options.path, chunk = %content.id, %error, "cannot write the metadata of a staged chunk, its event count is too low for others");
            }
        }
        opened
            .lock
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
    }

    fn opened(&self) -> &Opened {
        self.opened
            .get()
            .expect("the agent opens a buffer before anything is emitted into it")
    }
}

/// The text in a name of file_single: the tag, or the one field that is a chunk key.
fn single_key(key: &ChunkKey) -> String {
    match key.variables.as_deref() {
        Some([field]) if !key.by_tag => match super::read_text(&field.value) {
            Ok(Some((text, _))) => String::from_utf8_lossy(text).into_owned(),
            _ => String::new(),
        },
        _ if key.by_tag => key.tag.to_string(),
        _ => String::new(),
    }
}

#[cfg(test)]
#[path = "model_tests.rs"]
mod model;
#[cfg(test)]
mod tests;
