//! What all paths of a source share: which generations have a reader, which are finished, and how one begins to be read.

use std::collections::{HashMap, HashSet, VecDeque};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use tracing::warn;

use super::evidence::Resume;
use super::file::{Generation, Identity, Opened, Origin, State};
use super::lines::Splitter;
use super::listing::Listings;
use super::position::{Account, Ledger, PathNumber};
use super::recalled::Recalled;
use super::state_file::{Kind, Remembered};
use super::track::Track;
use crate::input::Totals;

/// How many finished generations are remembered.
const RETIRED: usize = 4096;
/// How many of them the next start is told of.
const TOLD: usize = 256;

/// What all tracks of a source share.
pub struct Known {
    /// Where positions are counted.
    pub ledger: Arc<Ledger>,
    /// Generations that have a reader.
    pub reading: HashSet<Identity>,
    /// Finished generations and how far they were read, oldest first.
    retired: VecDeque<Retired>,
    /// Generations that earlier runs finished, by inode.
    finished_before: HashMap<u64, Remembered>,
    /// Inodes of which an earlier run told and when they were born, in order, until the first look has taken them all up: they go on
    /// where their entries say, whoever finds them before their turn.
    awaited: Vec<(u64, Option<SystemTime>)>,
    /// What buffers on disk remember.
    pub recalled: Recalled,
    /// Directories as listed in this pass.
    pub listings: Listings,
    /// What came of paths that are followed no more.
    pub gone: Totals,
    /// Changes of what the side file tells, positions aside: generations that came, went or are known better.
    pub changes: u64,
    /// A generation began to be read that is not written down.
    pub begun: bool,
    /// Some file could not be opened because the process has no descriptor left.
    pub are_few: bool,
    /// Longest line.
    pub max_line_size: u64,
    /// How long a rotated file stays open at least.
    pub rotate_wait: Duration,
}

/// A generation that was given up.
struct Retired {
    identity: Identity,
    /// How far it was read.
    read: Resume,
    /// How far that is safe: not to its end where a batch was forgotten.
    safe: u64,
    path: PathBuf,
}

impl Known {
    /// Nothing is known yet.
    pub fn new(
        ledger: Arc<Ledger>,
        recalled: Recalled,
        max_line_size: u64,
        rotate_wait: Duration,
    ) -> Known {
        Known {
            ledger,
            reading: HashSet::new(),
            retired: VecDeque::new(),
            finished_before: HashMap::new(),
            awaited: Vec::new(),
            recalled,
            listings: Listings::default(),
            gone: Totals::default(),
            changes: 0,
            begun: false,
            are_few: false,
            max_line_size,
            rotate_wait,
        }
    }

    /// Takes note of what earlier runs finished.
    pub fn finished_earlier(&mut self, generations: Vec<Remembered>) {
        for generation in generations {
            // The youngest come first: of two lives of one inode only the second can still be there.
            self.finished_before
                .entry(generation.inode)
                .or_insert(generation);
        }
    }

    /// The entries of the pos_file are about to be taken up.
    pub fn await_inodes(&mut self, inodes: impl Iterator<Item = (u64, Option<SystemTime>)>) {
        self.awaited = inodes.collect();
        self.awaited.sort_unstable();
    }

    /// They are taken up.
    pub fn await_no_more(&mut self) {
        self.awaited = Vec::new();
    }

    /// How far a finished generation was read.
    pub fn find_retired(&self, identity: Identity) -> Option<Resume> {
        let mut finished = self.retired.iter().rev();
        let retired = finished
            .find(|retired| retired.identity == identity)
            .map(|retired| retired.read);
        retired.or_else(|| {
            let earlier = self.finished_before.get(&identity.inode)?;
            (earlier.resume.born == identity.born).then_some(earlier.resume)
        })
    }

    /// How far a generation that was given up is safe.
    pub fn safe_of_retired(&self, identity: Identity) -> Option<u64> {
        let mut given_up = self.retired.iter().rev();
        let retired = given_up.find(|retired| retired.identity == identity);
        retired
            .map(|retired| retired.safe)
            .or_else(|| Some(self.find_retired(identity)?.position))
    }

    /// The generations that were finished last: the next start would take them for new under the names that they have now.
    pub fn finished(&self) -> impl Iterator<Item = Remembered> {
        let now = self.retired.iter().rev().map(|retired| Remembered {
            path: retired.path.clone(),
            inode: retired.identity.inode,
            resume: Resume {
                position: retired.safe,
                ..retired.read
            },
            kind: match retired.safe == retired.read.position {
                true => Kind::Finished,
                false => Kind::Owed,
            },
        });
        now.chain(self.finished_before.values().cloned()).take(TOLD)
    }

    /// Whether nobody reads or has read it.
    pub fn is_new(&self, identity: Identity) -> bool {
        !self.reading.contains(&identity)
            && !self.is_awaited(identity)
            && self.find_retired(identity).is_none()
    }

    /// Another life of an inode is not what the entry tells of.
    fn is_awaited(&self, identity: Identity) -> bool {
        let from = self
            .awaited
            .partition_point(|(inode, _)| *inode < identity.inode);
        let of_inode = self.awaited[from..]
            .iter()
            .take_while(|(inode, _)| *inode == identity.inode);
        let mut births = of_inode.map(|(_, born)| *born);
        births.any(|born| born.is_none() || identity.born.is_none() || born == identity.born)
    }

    /// Begins to read an opened file for `track`; `None` if it has a reader already.
    pub fn begin(
        &mut self,
        opened: Opened,
        origin: Origin,
        state: State,
        track: &Track,
    ) -> io::Result<Option<Generation>> {
        let identity = opened.identity;
        if self.reading.contains(&identity) {
            return Ok(None);
        }
        let origin = self.find_retired(identity).map_or(origin, Origin::Resumed);
        let origin = self.recalled.take(identity, &opened.first, origin);
        let safe = self.safe_of_retired(identity);
        let (position, before, doubt) = opened.start(origin)?;
        if let Some(doubt) = doubt {
            warn!(path = %track.path.display(), inode = identity.inode, size = opened.size, "{doubt}, reading it from its head");
        }
        self.reading.insert(identity);
        self.changes += 1;
        self.begun = true;
        // From now on its own account tells how far it was read, in another life perhaps.
        self.retired.retain(|retired| retired.identity != identity);
        self.finished_before.remove(&identity.inode);
        let account = match safe {
            Some(safe) if safe < position => self.ledger.open_stuck(track.number, safe, position),
            _ => self.open_account(track.number, identity, position),
        };
        let lines = self.splitter();
        let generation = Generation::new(opened, (position, &before), state, account, lines);
        self.ledger.know_head(account, generation.head.mark());
        Ok(Some(generation))
    }

    /// Opens the account of a generation that is read from `position`.
    pub fn open_account(&self, path: PathNumber, identity: Identity, position: u64) -> Account {
        let account = self.ledger.open_account(path, position);
        self.identify(account, identity);
        account
    }

    /// Says which file an account is of.
    pub fn identify(&self, account: Account, identity: Identity) {
        if let Some(life) = self.recalled.life(identity) {
            self.ledger.identify(account, life);
        }
    }

    /// The lines of a file that is read from its head, or from the beginning of a line.
    pub fn splitter(&self) -> Splitter {
        Splitter::new(usize::try_from(self.max_line_size).unwrap_or(usize::MAX))
    }

    /// Its last byte is safe, or will be read again by the next start: nothing more is done with it.
    pub fn retire(&mut self, generation: &Generation, path: &Path) {
        let safe = self.ledger.committed(generation.account);
        self.ledger.close_account(generation.account);
        self.reading.remove(&generation.identity);
        self.changes += 1;
        let resume = Resume {
            position: generation.position,
            born: generation.identity.born,
            head: Some(generation.head.mark()),
        };
        self.retired.push_back(Retired {
            identity: generation.identity,
            read: resume,
            safe: safe.unwrap_or(resume.position),
            path: path.to_owned(),
        });
        if self.retired.len() > RETIRED {
            self.retired.pop_front();
        }
    }
}
