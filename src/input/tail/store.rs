//! Where positions are kept across restarts: the pos_file, and its side file for what it cannot express.
//!
//! Both are replaced as a whole, the pos_file first: whatever a crash leaves, both name positions that are safe. The side file is
//! written when generations come and go, and otherwise once in a while: it is the pos_file's copy, too.

use std::collections::hash_map::DefaultHasher;
use std::hash::{Hash, Hasher};
use std::path::Path;
use std::time::{Duration, Instant, SystemTime};

use anyhow::Context;
use tracing::{info, warn};

use super::absolute;
use super::pos_file::{self, Entry, PosFile};
use super::state_file::{self, Read, Remembered};

/// How old the positions in the side file may get.
const COPY: Duration = Duration::from_secs(60);

/// The two files of one source.
pub struct Store {
    pos_file: PosFile,
    /// Which generations the side file tells of.
    told: u64,
    copied: Instant,
}

/// What was found at start.
#[derive(Default)]
pub struct Found {
    /// No file of this source was ever read.
    pub first_start: bool,
    /// When positions were written last.
    pub modified: Option<SystemTime>,
    /// What earlier runs left unfinished.
    pub remembered: Vec<Remembered>,
}

/// How positions are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Write {
    /// If they are others than those that stand there.
    Changes,
    /// All: their time says that nothing older is unread.
    All,
}

impl Store {
    /// Takes the pos_file, and reads what stands in it and beside it.
    pub fn open(path: &Path) -> anyhow::Result<(Store, Found)> {
        let path = absolute(path);
        let (pos_file, found) = PosFile::open(&path)?;
        let state = state_file::read(&path);
        let state = match state {
            Read::Whole(_) if !found.existed => {
                let state = state_file::path_for(&path);
                info!(pos_file = %path.display(), state = %state.display(), "there is no pos_file: beginning as at a first start, its side file is not used");
                Vec::new()
            }
            Read::Whole(generations) => generations,
            Read::Missing | Read::Damaged(_) => Vec::new(),
        };
        tell_damage(&path, &found, &state);
        let found = Found {
            first_start: !found.existed,
            modified: found.modified,
            remembered: state_file::merge(found.parsed.entries, state),
        };
        let store = Store {
            pos_file,
            told: 0,
            copied: Instant::now(),
        };
        Ok((store, found))
    }

    /// Writes positions. `in_order` says that the pos_file tells all of them: no path has more than one unfinished generation.
    pub fn write(
        &mut self,
        how: Write,
        entries: &[Entry],
        remembered: &[Remembered],
        in_order: bool,
    ) -> anyhow::Result<()> {
        let path = self.pos_file.path().to_owned();
        match how {
            Write::Changes => self.pos_file.replace(entries),
            Write::All => self.pos_file.renew(entries),
        }
        .with_context(|| format!("cannot write pos_file {}", path.display()))?;
        let told = fingerprint(remembered);
        let due = told != self.told || !in_order || self.copied.elapsed() >= COPY;
        if !due && how == Write::Changes {
            return Ok(());
        }
        state_file::write(&path, remembered).with_context(|| {
            let state = state_file::path_for(&path);
            format!("cannot write the pos_file's side file {}", state.display())
        })?;
        (self.told, self.copied) = (told, Instant::now());
        Ok(())
    }
}

/// Says what is wrong with a pos_file, and what happens.
fn tell_damage(path: &Path, found: &pos_file::Found, state: &[Remembered]) {
    let lines = found.parsed.unparsable;
    let path = path.display();
    if lines > 0 && state.is_empty() {
        warn!(pos_file = %path, lines, "unparsable lines in pos_file are ignored; the files they named are read again");
    } else if lines > 0 {
        warn!(pos_file = %path, lines, "unparsable lines in pos_file are ignored; the files they named are read again from the positions in its side file");
    } else if found.existed && found.parsed.entries.is_empty() && !state.is_empty() {
        warn!(pos_file = %path, files = state.len(), "pos_file is empty; files are read again from the positions in its side file");
    }
}

/// Which generations these are, and what is known of their first bytes; not how far they are read.
fn fingerprint(remembered: &[Remembered]) -> u64 {
    let mut hasher = DefaultHasher::new();
    for generation in remembered {
        let head = generation.resume.head.map(|head| (head.length, head.sum));
        (&generation.path, generation.inode, head).hash(&mut hasher);
    }
    hasher.finish()
}
