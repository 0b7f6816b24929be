//! Where positions are kept across restarts: the pos_file, and its side file for what it cannot express.
//!
//! Both are replaced as a whole, the side file first: whatever a crash leaves, both name positions that are safe, and none is missing. The side file is
//! written when generations come and go, and otherwise once in a while: it is the pos_file's copy, too.

use std::path::Path;
use std::time::{Duration, Instant, SystemTime};

use anyhow::Context;
use tracing::{info, warn};

use super::absolute;
use super::pos_file::{self, Entry, PosFile};
use super::state_file::{self, Kind, Read, Remembered, State};

/// How old the positions in the side file may get.
const COPY: Duration = Duration::from_secs(60);

/// The two files of one source.
pub struct Store {
    pos_file: PosFile,
    /// How often what the side file tells had changed when it was written.
    told: Option<u64>,
    copied: Instant,
}

/// What was found at start.
#[derive(Default)]
pub struct Found {
    /// No file of this source was ever read.
    pub first_start: bool,
    /// Generations that were last written before this are known.
    pub modified: Option<SystemTime>,
    /// Since when generations were being searched when this was written: not all may have been found.
    pub searching_since: Option<SystemTime>,
    /// What earlier runs left unfinished.
    pub remembered: Vec<Remembered>,
    /// What they finished last.
    pub finished: Vec<Remembered>,
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
        let is_damaged = is_damaged(&found, &state);
        let state = match state {
            Read::Whole(_) if !found.existed => {
                let state = state_file::path_for(&path);
                info!(pos_file = %path.display(), state = %state.display(), "there is no pos_file: beginning as at a first start, its side file is not used");
                State::default()
            }
            Read::Whole(state) => state,
            Read::Missing | Read::Damaged(_) => State::default(),
        };
        tell_damage(&path, &found, &state.generations);
        // A damaged pos_file has its time from the damage.
        let modified = match is_damaged {
            true => Some(state.written.unwrap_or(SystemTime::UNIX_EPOCH)),
            false => found.modified,
        };
        let known = [modified, state.searching_since];
        let (finished, unfinished) = state
            .generations
            .into_iter()
            .partition(|generation| generation.kind == Kind::Finished);
        let found = Found {
            finished,
            first_start: !found.existed,
            searching_since: state.searching_since,
            modified: known.into_iter().flatten().min(),
            remembered: state_file::merge(found.parsed.entries, unfinished),
        };
        let store = Store {
            pos_file,
            told: None,
            copied: Instant::now(),
        };
        Ok((store, found))
    }

    /// Whether the side file has to be written too, if `changes` is how often what it tells has changed. `in_order` says that the
    /// pos_file tells all positions: no path has more than one unfinished generation.
    pub fn needs_state(&self, how: Write, changes: u64, in_order: bool) -> bool {
        how == Write::All
            || self.told != Some(changes)
            || !in_order
            || self.copied.elapsed() >= COPY
    }

    /// Writes positions, and what the side file tells where that is needed; the files were looked at `as_of` this time.
    pub fn write(
        &mut self,
        how: Write,
        as_of: SystemTime,
        entries: &[Entry],
        state: Option<(u64, State)>,
    ) -> anyhow::Result<()> {
        // The side file goes first, so that whatever the pos_file leaves out stands there. At the first start there is no pos_file that
        // it could belong to.
        let is_first = !self.pos_file.path().exists();
        if is_first {
            self.write_pos_file(how, as_of, entries)?;
        }
        if let Some((changes, state)) = state {
            let path = self.pos_file.path();
            state_file::write(path, as_of, &state).with_context(|| {
                let state = state_file::path_for(path);
                format!("cannot write the pos_file's side file {}", state.display())
            })?;
            (self.told, self.copied) = (Some(changes), Instant::now());
        }
        if is_first {
            return Ok(());
        }
        self.write_pos_file(how, as_of, entries)
    }

    fn write_pos_file(
        &mut self,
        how: Write,
        as_of: SystemTime,
        entries: &[Entry],
    ) -> anyhow::Result<()> {
        match how {
            Write::Changes => self.pos_file.replace(as_of, entries),
            Write::All => self.pos_file.renew(as_of, entries),
        }
        .with_context(|| format!("cannot write pos_file {}", self.pos_file.path().display()))
    }
}

/// Whether the pos_file may lack what was in it: then only the side file knows what was read, or nobody. An empty one tells nothing that
/// the side file does not.
fn is_damaged(found: &pos_file::Found, state: &Read) -> bool {
    let is_empty = found.existed && found.parsed.entries.is_empty();
    found.parsed.unparsable > 0 || is_empty && *state != Read::Missing
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
