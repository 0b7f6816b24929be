//! File events. The only module that touches `notify`.
//!
//! Events are hints that make reading quick; `fstat` of the open files and `stat` of their paths once a second are the truth,
//! so a lost event or a file system without events costs a second, nothing else.

use std::collections::{HashMap, HashSet};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use notify::event::{CreateKind, EventKind, ModifyKind, RemoveKind, RenameMode};
use notify::{Config, ErrorKind, RecommendedWatcher, RecursiveMode, Watcher};
use tracing::warn;

use super::bell::{Bell, Change};

/// Above this many events within [`RATE_WINDOW`] the callback naps, so that the kernel merges equal unread events.
const QUIET_EVENTS: u32 = 50;
const RATE_WINDOW: Duration = Duration::from_millis(100);
/// How long it naps at first, and at most: it naps longer where a nap brings many events, shorter where it brings one.
const NAP: Duration = Duration::from_millis(4);
const LONGEST_NAP: Duration = Duration::from_millis(16);
/// So many events in a nap are many.
const MANY: u32 = 4;
/// How long it works between two naps.
const BETWEEN_NAPS: Duration = Duration::from_micros(100);
/// An event that comes this soon after a nap means that they still come fast.
const STILL_BUSY: Duration = Duration::from_millis(3);

/// The watched directories.
pub struct Watch {
    watcher: Option<RecommendedWatcher>,
    /// Directory → (device, inode) that the watch was put on.
    directories: HashMap<PathBuf, (u64, u64)>,
    refused: HashSet<PathBuf>,
    told_refusal: bool,
}

impl Watch {
    /// A watch that rings `bell`, unless `read` has read on the spot what was written to a file. Without events (only the sweep)
    /// where the kernel gives none.
    pub fn new(bell: Arc<Bell>, read: impl Fn(&Path) -> bool + Send + 'static) -> Watch {
        let mut pace = Pace::default();
        let handler = move |event: notify::Result<notify::Event>| {
            let Some((change, mut paths)) = understand(event) else {
                return;
            };
            // In a flood the source's thread reads, many files at a time: here each would wait for the nap of the one before.
            if change == Change::Written && pace.is_calm() {
                paths.retain(|path| !read(path));
            }
            if change != Change::Written || !paths.is_empty() {
                bell.tell(|seen| seen.note(change, paths));
            }
            if let Some(nap) = pace.nap_after_event(Instant::now()) {
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
            told_refusal: false,
        }
    }

    /// A watch that never rings: `enable_stat_watcher false`.
    pub fn none() -> Watch {
        Watch {
            watcher: None,
            directories: HashMap::new(),
            refused: HashSet::new(),
            told_refusal: false,
        }
    }

    /// Whether events tell of all these directories.
    pub fn covers_all(&self) -> bool {
        self.watcher.is_some() && self.refused.is_empty()
    }

    /// Whether this is a watched directory.
    pub fn has(&self, directory: &Path) -> bool {
        self.directories.contains_key(directory)
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
        self.refused.retain(|directory| wanted.contains(directory));
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
        let Ok(meta) = std::fs::metadata(directory) else {
            if let Some(watcher) = &mut self.watcher
                && self.directories.remove(directory).is_some()
            {
                let _ = watcher.unwatch(directory);
            }
            return false;
        };
        let identity = (meta.dev(), meta.ino());
        if self.directories.get(directory) == Some(&identity) {
            return false;
        }
        if is_remote(directory) {
            // Events tell of what this machine writes, not of what others do.
            self.refuse(directory, "a network file system");
        }
        let Some(watcher) = &mut self.watcher else {
            return false;
        };
        let _ = watcher.unwatch(directory);
        match watcher.watch(directory, RecursiveMode::NonRecursive) {
            Ok(()) => {
                self.directories.insert(directory.to_owned(), identity);
                if !is_remote(directory) {
                    self.refused.remove(directory);
                }
                true
            }
            Err(error) => {
                self.refuse(directory, &refusal(&error));
                false
            }
        }
    }
}

impl Watch {
    /// Events do not tell all of this directory. Said once: with a limit that is reached there may be thousands.
    fn refuse(&mut self, directory: &Path, reason: &str) {
        let new = self.refused.insert(directory.to_owned());
        if new && !std::mem::replace(&mut self.told_refusal, true) {
            warn!(directory = %directory.display(), reason, "no file events here, nor where the same is true of other directories; they are looked at every second");
        }
    }
}

/// Whether other machines may write to this directory, or a process that the kernel hears nothing of.
fn is_remote(directory: &Path) -> bool {
    use nix::sys::statfs::{
        AFS_SUPER_MAGIC, CODA_SUPER_MAGIC, FUSE_SUPER_MAGIC, NCP_SUPER_MAGIC, NFS_SUPER_MAGIC,
        SMB_SUPER_MAGIC, statfs,
    };
    let remote = [
        AFS_SUPER_MAGIC,
        CODA_SUPER_MAGIC,
        FUSE_SUPER_MAGIC,
        NCP_SUPER_MAGIC,
        NFS_SUPER_MAGIC,
        SMB_SUPER_MAGIC,
    ];
    statfs(directory).is_ok_and(|stat| remote.contains(&stat.filesystem_type()))
}

fn refusal(error: &notify::Error) -> String {
    match error.kind {
        ErrorKind::MaxFilesWatch => {
            "the limit of inotify watches is reached (fs.inotify.max_user_watches)".into()
        }
        _ => error.to_string(),
    }
}

/// What an event says and of which paths; `None` for one that says nothing new, such as our own opens.
fn understand(event: notify::Result<notify::Event>) -> Option<(Change, Vec<PathBuf>)> {
    let event = match event {
        Ok(event) if event.need_rescan() => return Some((Change::Lost, Vec::new())),
        Ok(event) => event,
        Err(_) => return Some((Change::Lost, Vec::new())),
    };
    let change = match event.kind {
        EventKind::Access(_) => return None,
        EventKind::Modify(ModifyKind::Data(_) | ModifyKind::Metadata(_)) => Change::Written,
        EventKind::Modify(ModifyKind::Name(RenameMode::Both)) => Change::Renamed,
        EventKind::Modify(ModifyKind::Name(RenameMode::From | RenameMode::To))
        | EventKind::Create(CreateKind::File)
        | EventKind::Remove(RemoveKind::File) => Change::Name,
        _ => Change::Unknown,
    };
    Some((change, event.paths))
}

/// Decides when the callback naps, and how long: never while events are rare, so that a single line is told at once.
#[derive(Debug)]
struct Pace {
    window: Option<Instant>,
    events: u32,
    woke: Option<Instant>,
    nap: Duration,
    /// Events since it woke.
    since_nap: u32,
}

impl Default for Pace {
    fn default() -> Pace {
        Pace {
            window: None,
            events: 0,
            woke: None,
            nap: NAP,
            since_nap: 0,
        }
    }
}

impl Pace {
    fn nap_after_event(&mut self, now: Instant) -> Option<Duration> {
        self.since_nap += 1;
        match self.woke.map(|woke| now.duration_since(woke)) {
            Some(worked) if worked < BETWEEN_NAPS => return None,
            Some(worked) if worked < STILL_BUSY => {
                self.nap = match self.since_nap {
                    0..=1 => (self.nap / 2).max(NAP),
                    MANY.. => (self.nap * 2).min(LONGEST_NAP),
                    _ => self.nap,
                };
                return Some(self.nap);
            }
            _ => (self.woke, self.nap) = (None, NAP),
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

    /// Whether events are rare.
    fn is_calm(&self) -> bool {
        self.woke.is_none()
    }

    fn woke(&mut self, now: Instant) {
        (self.woke, self.since_nap) = (Some(now), 0);
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
        assert!(!pace.is_calm(), "in a flood nobody reads here");
        // And calm again.
        let calm = now + Duration::from_secs(1);
        assert!((0..50).all(|n| {
            pace.nap_after_event(calm + n * Duration::from_millis(20))
                .is_none()
        }));
        assert!(pace.is_calm());
    }

    #[test]
    fn naps_are_longer_where_they_bring_many_events() {
        let mut pace = Pace::default();
        let mut now = Instant::now();
        let mut nap_of = |events: u32, pace: &mut Pace| {
            pace.woke(now);
            // They came meanwhile and are told at once.
            (1..events).for_each(|_| assert!(pace.nap_after_event(now).is_none()));
            now += BETWEEN_NAPS;
            pace.nap_after_event(now).expect("a nap")
        };
        assert_eq!(nap_of(2, &mut pace), NAP);
        assert_eq!(nap_of(5, &mut pace), 2 * NAP);
        assert_eq!(nap_of(9, &mut pace), LONGEST_NAP);
        assert_eq!(nap_of(16, &mut pace), LONGEST_NAP);
        assert_eq!(nap_of(1, &mut pace), LONGEST_NAP / 2);
        assert_eq!(nap_of(1, &mut pace), NAP);
    }

    #[test]
    fn a_write_names_its_file_and_new_names_and_renames_are_told() {
        let dir = tempfile::tempdir().expect("a directory");
        let bell = Arc::new(Bell::default());
        let mut watch = Watch::new(bell.clone(), |_| false);
        watch.set(&HashSet::from([dir.path().to_owned()]));
        let (path, moved) = (dir.path().join("a.log"), dir.path().join("odd"));
        std::fs::write(&path, "x\n").expect("a file");
        std::fs::rename(&path, &moved).expect("renamed");
        let (mut named, mut appeared, mut renamed) = (false, false, false);
        while !(named && appeared && renamed) {
            let seen = bell.wait(Duration::from_secs(30));
            assert!(!seen.is_quiet(), "no event came");
            named |= seen.dirty.contains(&path);
            appeared |= seen.names.contains(&path);
            renamed |= seen.renames.contains(&(path.clone(), moved.clone()));
        }
    }

    #[test]
    fn what_was_read_on_the_spot_wakes_nobody() {
        let dir = tempfile::tempdir().expect("a directory");
        let bell = Arc::new(Bell::default());
        let (read, reads) = std::sync::mpsc::channel();
        let mut watch = Watch::new(bell.clone(), move |path| read.send(path.to_owned()).is_ok());
        let path = dir.path().join("a.log");
        std::fs::write(&path, "").expect("a file");
        watch.set(&HashSet::from([dir.path().to_owned()]));
        std::fs::write(&path, "x\n").expect("a file");
        let named = reads
            .recv_timeout(Duration::from_secs(30))
            .expect("an event");
        assert_eq!(named, path);
        assert!(bell.wait(Duration::from_millis(20)).dirty.is_empty());
    }
}
