//! File events, and the place where the source's thread sleeps. The only module that touches `notify`.
//!
//! Events are hints that make reading quick; `fstat` of the open files and `stat` of their paths once a second are the truth,
//! so a lost event or a file system without events costs a second, nothing else.

use std::collections::{HashMap, HashSet};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use notify::event::{EventKind, ModifyKind};
use notify::{Config, ErrorKind, RecommendedWatcher, RecursiveMode, Watcher};
use tracing::warn;

/// More dirty paths than this are remembered as "everything".
const MAX_DIRTY: usize = 4096;
/// Above this many events within [`RATE_WINDOW`] the callback naps, so that the kernel merges equal unread events.
const QUIET_EVENTS: u32 = 100;
const RATE_WINDOW: Duration = Duration::from_millis(100);
/// How long it naps, and how long it works between two naps.
const NAP: Duration = Duration::from_millis(4);
const BETWEEN_NAPS: Duration = Duration::from_micros(100);
/// An event that comes this soon after a nap means that they still come fast.
const STILL_BUSY: Duration = Duration::from_millis(1);

/// What happened since the thread looked last.
#[derive(Debug, Default)]
pub struct Seen {
    /// Files that were written to.
    pub dirty: HashSet<PathBuf>,
    /// A name appeared, went or changed in a watched directory.
    pub names_changed: bool,
    /// Events were lost: every file and directory must be looked at.
    pub everything: bool,
    /// The thread was called for another reason.
    pub woken: bool,
}

impl Seen {
    fn is_quiet(&self) -> bool {
        !self.woken && !self.names_changed && !self.everything && self.dirty.is_empty()
    }
}

/// Where the source's thread sleeps, and what wakes it.
#[derive(Debug, Default)]
pub struct Bell {
    seen: Mutex<Seen>,
    rung: Condvar,
}

impl Bell {
    /// Wakes the thread without naming a file: receipts came back, the stop phase changed.
    pub fn ring(&self) {
        self.tell(|seen| seen.woken = true);
    }

    /// What happened since the last call, waiting for it no longer than `timeout`.
    pub fn wait(&self, timeout: Duration) -> Seen {
        let (mut seen, _) = self
            .rung
            .wait_timeout_while(self.lock(), timeout, |seen| seen.is_quiet())
            .unwrap_or_else(PoisonError::into_inner);
        std::mem::take(&mut *seen)
    }

    fn tell(&self, what: impl FnOnce(&mut Seen)) {
        what(&mut self.lock());
        self.rung.notify_one();
    }

    fn lock(&self) -> MutexGuard<'_, Seen> {
        // A half-told event is at worst a hint too few, and the sweep makes up for it.
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The watched directories.
pub struct Watch {
    watcher: Option<RecommendedWatcher>,
    /// Directory → (device, inode) that the watch was put on.
    directories: HashMap<PathBuf, (u64, u64)>,
    refused: HashSet<PathBuf>,
}

impl Watch {
    /// A watch that rings `bell`; without events (only the sweep) where the kernel gives none.
    pub fn new(bell: Arc<Bell>) -> Watch {
        let mut pace = Pace::default();
        let handler = move |event: notify::Result<notify::Event>| {
            if hear(&bell, event)
                && let Some(nap) = pace.nap_after_event(Instant::now())
            {
                std::thread::sleep(nap);
                pace.woke(Instant::now());
            }
        };
        let watcher = RecommendedWatcher::new(handler, Config::default())
            .inspect_err(|error| warn!(%error, "no file events; files are looked at every second"))
            .ok();
        Watch {
            watcher,
            directories: HashMap::new(),
            refused: HashSet::new(),
        }
    }

    /// A watch that never rings: `enable_stat_watcher false`.
    pub fn none() -> Watch {
        Watch {
            watcher: None,
            directories: HashMap::new(),
            refused: HashSet::new(),
        }
    }

    /// Whether new names are told by events for all these directories.
    pub fn covers_all(&self) -> bool {
        self.watcher.is_some() && self.refused.is_empty()
    }

    /// Watches exactly these directories from now on. One that was renamed or made anew since is watched anew. True where
    /// a watch was put on: names may have changed in it before.
    pub fn set(&mut self, wanted: &HashSet<PathBuf>) -> bool {
        let Some(watcher) = &mut self.watcher else {
            return false;
        };
        let gone: Vec<PathBuf> = self
            .directories
            .keys()
            .filter(|known| !wanted.contains(*known))
            .cloned()
            .collect();
        for directory in gone {
            let _ = watcher.unwatch(&directory);
            self.directories.remove(&directory);
        }
        let mut added = false;
        for directory in wanted {
            added |= self.put(directory);
        }
        added
    }

    /// Puts watches on again that were lost because a directory was renamed or removed and made anew. True if any was.
    pub fn mend(&mut self) -> bool {
        let known: Vec<PathBuf> = self.directories.keys().cloned().collect();
        let mut mended = false;
        for directory in known {
            mended |= self.put(&directory);
        }
        mended
    }

    fn put(&mut self, directory: &Path) -> bool {
        let Some(watcher) = &mut self.watcher else {
            return false;
        };
        let Ok(meta) = std::fs::metadata(directory) else {
            if self.directories.remove(directory).is_some() {
                let _ = watcher.unwatch(directory);
            }
            return false;
        };
        let identity = (meta.dev(), meta.ino());
        if self.directories.get(directory) == Some(&identity) {
            return false;
        }
        let _ = watcher.unwatch(directory);
        match watcher.watch(directory, RecursiveMode::NonRecursive) {
            Ok(()) => {
                self.directories.insert(directory.to_owned(), identity);
                self.refused.remove(directory);
                true
            }
            Err(error) => {
                if self.refused.insert(directory.to_owned()) {
                    let reason = refusal(&error);
                    warn!(directory = %directory.display(), reason, "no file events here; it is looked at every second");
                }
                false
            }
        }
    }
}

fn refusal(error: &notify::Error) -> String {
    match error.kind {
        ErrorKind::MaxFilesWatch => {
            "the limit of inotify watches is reached (fs.inotify.max_user_watches)".into()
        }
        _ => error.to_string(),
    }
}

/// Marks what an event names. False for events that say nothing new, such as our own opens.
fn hear(bell: &Bell, event: notify::Result<notify::Event>) -> bool {
    let event = match event {
        Ok(event) if event.need_rescan() => return lost(bell),
        Ok(event) => event,
        Err(_) => return lost(bell),
    };
    match event.kind {
        EventKind::Access(_) => return false,
        EventKind::Modify(ModifyKind::Data(_) | ModifyKind::Metadata(_)) => bell.tell(|seen| {
            if seen.dirty.len() < MAX_DIRTY {
                seen.dirty.extend(event.paths);
            } else {
                seen.everything = true;
            }
        }),
        _ => bell.tell(|seen| seen.names_changed = true),
    }
    true
}

fn lost(bell: &Bell) -> bool {
    bell.tell(|seen| seen.everything = true);
    true
}

/// Decides when the callback naps: never while events are rare, so that a single line is told at once.
#[derive(Debug, Default)]
struct Pace {
    window: Option<Instant>,
    events: u32,
    woke: Option<Instant>,
}

impl Pace {
    fn nap_after_event(&mut self, now: Instant) -> Option<Duration> {
        match self.woke.map(|woke| now.duration_since(woke)) {
            Some(worked) if worked < BETWEEN_NAPS => return None,
            Some(worked) if worked < STILL_BUSY => return Some(NAP),
            _ => self.woke = None,
        }
        if self
            .window
            .is_none_or(|since| now.duration_since(since) >= RATE_WINDOW)
        {
            self.window = Some(now);
            self.events = 0;
        }
        self.events += 1;
        (self.events > QUIET_EVENTS).then_some(NAP)
    }

    fn woke(&mut self, now: Instant) {
        self.woke = Some(now);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rare_events_are_told_without_a_nap_and_floods_are_not() {
        let mut pace = Pace::default();
        let start = Instant::now();
        // Every five milliseconds, for a second.
        assert!((0..200).all(|n| {
            pace.nap_after_event(start + n * Duration::from_millis(5))
                .is_none()
        }));
        // Every twenty microseconds.
        let flood = start + Duration::from_secs(2);
        let mut now = flood;
        let mut told = 0;
        while now < flood + Duration::from_secs(1) {
            now += Duration::from_micros(20);
            told += 1;
            if let Some(nap) = pace.nap_after_event(now) {
                now += nap;
                pace.woke(now);
            }
        }
        assert!(told < 5_000, "told {told} times");
        // And calm again.
        let calm = now + Duration::from_secs(1);
        assert!((0..50).all(|n| {
            pace.nap_after_event(calm + n * Duration::from_millis(20))
                .is_none()
        }));
    }

    #[test]
    fn a_ring_before_the_wait_is_not_lost() {
        let bell = Bell::default();
        bell.ring();
        assert!(bell.wait(Duration::from_secs(60)).woken);
    }

    #[test]
    fn a_write_names_its_file_and_a_new_name_is_told() {
        let dir = tempfile::tempdir().expect("a directory");
        let bell = Arc::new(Bell::default());
        let mut watch = Watch::new(bell.clone());
        watch.set(&HashSet::from([dir.path().to_owned()]));
        let path = dir.path().join("a.log");
        std::fs::write(&path, "x\n").expect("a file");
        let (mut named, mut appeared) = (false, false);
        while !(named && appeared) {
            let seen = bell.wait(Duration::from_secs(30));
            assert!(!seen.is_quiet(), "no event came");
            named |= seen.dirty.contains(&path);
            appeared |= seen.names_changed;
        }
    }
}
