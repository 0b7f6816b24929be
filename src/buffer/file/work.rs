//! The writer of one buffer directory: collects appends, writes a group of them, syncs, and then releases their receipts.
//!
//! ```text
//! appended / sealed ─► list ─► (4 ms or 512 KiB) ─► write ─► sync files ─► rename ─► sync directory ─► receipts
//! ended             ─► list ─► remove
//! ```
//!
//! One thread (`buffer.<id>`) does all that, so the operations on a chunk have one order. When the disk refuses (full, read-only, an
//! I/O error) the group is taken back, nothing is released, the buffer counts as full, and the same is tried again every second.
//! What is said of that is told once at its beginning and once at its end ([`super::trouble`]).

use std::io;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::Notify;
use tokio::sync::futures::Notified;
use tracing::{info, warn};

use super::content::Content;
use super::disk::Disk;
use super::name::Naming;
use super::recall::Recall;
use super::trouble::{Attempt, News, Trouble};

/// A group is written when its first append is this old…
const GATHER: Duration = Duration::from_millis(4);
/// …or when it has this many bytes.
const GROUP: usize = 512 << 10;
/// Sources wait while this many bytes are not durable.
pub const MOST_PENDING: usize = 8 << 20;
/// How often is looked whether side files may go.
const TIDY: Duration = Duration::from_secs(1);
/// How often a disk that refuses is tried again.
const AGAIN: Duration = Duration::from_secs(1);

/// What the configuration says about the files.
#[derive(Clone, Debug)]
pub struct Options {
    /// The output's id, for messages.
    pub plugin_id: String,
    /// Where the files are, for messages.
    pub path: String,
    /// Whether a receipt waits for the disk, or only for the kernel.
    pub sync: bool,
    /// A compressed chunk that holds more is refused.
    pub most_inflated: u64,
    /// Whether a Fluentd's chunks hold lines that it has formatted.
    pub formatted: bool,
}

#[derive(Debug, Default)]
struct Jobs {
    dirty: Vec<Arc<Content>>,
    over: Vec<Arc<Content>>,
    since: Option<Instant>,
    /// Bytes that came since the last group was taken.
    fresh: usize,
    /// Whether a chunk has left since then: there may be room on the disk.
    left: bool,
    closing: bool,
}

/// What is to be done.
#[derive(Debug, Default)]
pub struct Batch {
    /// Chunks with appends or a new letter.
    pub dirty: Vec<Arc<Content>>,
    /// Chunks whose files go.
    pub over: Vec<Arc<Content>>,
}

/// The directory with what is to be done in it.
#[derive(Debug)]
pub struct Work {
    /// Where.
    pub disk: Arc<dyn Disk>,
    /// How files are named.
    pub naming: Naming,
    /// What the configuration says.
    pub options: Options,
    jobs: Mutex<Jobs>,
    wake: Condvar,
    pending: AtomicUsize,
    /// Whether the last attempt failed: sources wait.
    trouble: AtomicBool,
    /// What is said of that.
    told: Mutex<Trouble>,
    /// Whether a name may not be durable, after a failed sync.
    pub unsynced: AtomicBool,
    changed: Notify,
    /// What side files claim of tailed files.
    pub recall: Recall,
}

impl Work {
    /// Nothing to do yet.
    pub fn new(disk: Arc<dyn Disk>, naming: Naming, options: Options) -> Arc<Work> {
        Arc::new(Work {
            disk,
            naming,
            options,
            jobs: Mutex::default(),
            wake: Condvar::new(),
            pending: AtomicUsize::new(0),
            trouble: AtomicBool::new(false),
            told: Mutex::default(),
            unsynced: AtomicBool::new(false),
            changed: Notify::new(),
            recall: Recall::default(),
        })
    }

    /// Sources have written down what was recalled.
    pub fn taken_up(&self) {
        self.recall.taken_up();
        self.jobs().left = true;
        self.wake.notify_one();
    }

    /// Something came for a chunk, which is `listed` if it was not.
    pub fn appended(&self, listed: Option<Arc<Content>>, bytes: usize) {
        self.pending.fetch_add(bytes, Ordering::Relaxed);
        let mut jobs = self.jobs();
        jobs.dirty.extend(listed);
        let before = jobs.fresh;
        jobs.fresh += bytes;
        let first = jobs.since.is_none();
        jobs.since.get_or_insert_with(Instant::now);
        drop(jobs);
        if first || before < GROUP && before + bytes >= GROUP {
            self.wake.notify_one();
        }
    }

    /// A chunk has left the buffer, with so many bytes that need not be written any more.
    pub fn ended(&self, content: Arc<Content>, bytes: usize) {
        self.written(bytes);
        let mut jobs = self.jobs();
        jobs.over.push(content);
        jobs.left = true;
        drop(jobs);
        self.wake.notify_one();
    }

    /// So many bytes are not pending any more.
    pub fn written(&self, bytes: usize) {
        self.pending.fetch_sub(bytes, Ordering::Relaxed);
    }

    /// Whether the writer is behind by so much that sources should wait.
    pub fn is_behind(&self) -> bool {
        self.pending.load(Ordering::Relaxed) >= MOST_PENDING
    }

    /// Whether the disk takes nothing.
    pub fn is_in_trouble(&self) -> bool {
        self.trouble.load(Ordering::Acquire)
    }

    /// Completes after the next group, or when trouble begins.
    pub fn changed(&self) -> Notified<'_> {
        self.changed.notified()
    }

    /// The thread: until [`Work::close`], and then the rest.
    pub fn run(&self) {
        loop {
            let closing = self.wait();
            let went_well = self.step();
            if closing && (!went_well || self.is_idle()) {
                return;
            }
        }
    }

    /// The thread ends when everything is written, or cannot be.
    pub fn close(&self) {
        self.jobs().closing = true;
        self.wake.notify_one();
    }

    fn is_idle(&self) -> bool {
        let jobs = self.jobs();
        jobs.dirty.is_empty() && jobs.over.is_empty()
    }

    /// Sleeps until there is something to do; says whether this is the end.
    fn wait(&self) -> bool {
        let again = self.is_in_trouble().then(|| Instant::now() + AGAIN);
        let tidy = self.recall.is_waiting().then(|| Instant::now() + TIDY);
        let calm = self.told().due();
        let mut jobs = self.jobs();
        loop {
            let now = Instant::now();
            let due = match (again, jobs.since) {
                _ if jobs.closing => return true,
                _ if jobs.left => return false,
                (None, _) if jobs.fresh >= GROUP => return false,
                (Some(again), _) => Some(again),
                (None, since) => since.map(|since| since + GATHER).or(tidy),
            };
            let due = due.into_iter().chain(calm).min();
            jobs = match due {
                Some(due) if due <= now => return false,
                Some(due) => {
                    let asleep = self.wake.wait_timeout(jobs, due - now);
                    asleep.unwrap_or_else(PoisonError::into_inner).0
                }
                None => self.wake.wait(jobs).unwrap_or_else(PoisonError::into_inner),
            };
        }
    }

    /// Does what there is to do; says whether the disk took it.
    pub fn step(&self) -> bool {
        let mut jobs = self.jobs();
        let batch = Batch {
            dirty: std::mem::take(&mut jobs.dirty),
            over: std::mem::take(&mut jobs.over),
        };
        (jobs.since, jobs.fresh, jobs.left) = (None, 0, false);
        drop(jobs);
        // What has left makes room for what comes.
        let removed = self.remove(batch.over);
        let written = super::commit::commit(self, &batch.dirty);
        if written.is_err() {
            self.list_again(&batch.dirty);
        }
        let done = removed.and(written);
        self.trouble.store(done.is_err(), Ordering::Release);
        self.tell(&done);
        super::commit::tidy(self);
        self.changed.notify_waiters();
        done.is_ok()
    }

    fn remove(&self, over: Vec<Arc<Content>>) -> io::Result<()> {
        let mut result = Ok(());
        for content in over {
            if let Err(error) = super::commit::remove(self, &content) {
                self.jobs().over.push(content);
                result = Err(error);
            }
        }
        result
    }

    fn list_again(&self, contents: &[Arc<Content>]) {
        for content in contents {
            let unlisted = !std::mem::replace(&mut content.standing().listed, true);
            let mut jobs = self.jobs();
            jobs.dirty.extend(unlisted.then(|| content.clone()));
            jobs.since.get_or_insert_with(Instant::now);
        }
    }

    fn tell(&self, done: &io::Result<bool>) {
        let attempt = match done {
            Err(_) => Attempt::Refused,
            Ok(true) => Attempt::Took,
            Ok(false) => Attempt::Nothing,
        };
        let news = self.told().after(attempt, Instant::now());
        let Options {
            plugin_id, path, ..
        } = &self.options;
        match (news, done) {
            (Some(News::Begins), Err(error)) => warn!(
                plugin_id, path, free_bytes = self.disk.free(), %error,
                "cannot write the buffer, reading paused; it is tried again every second"
            ),
            (Some(News::Ends), _) => info!(
                plugin_id,
                path,
                free_bytes = self.disk.free(),
                "buffer can be written again, reading resumed"
            ),
            _ => {}
        }
    }

    fn told(&self) -> MutexGuard<'_, Trouble> {
        // Every change of it is one assignment.
        self.told.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn jobs(&self) -> MutexGuard<'_, Jobs> {
        // No code under the lock panics half-way through a change.
        self.jobs.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
