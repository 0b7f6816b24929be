//! A disk in memory for tests: it loses what was not synced, tears what was being written, and fails when it is told to.
//!
//! Names are journaled: after a power cut a prefix of the creations, renames and removals since the last directory sync has happened.
//! Bytes are not: each 16 of them that were not synced are there, or are what they were before (zero, behind the old end).

use std::collections::BTreeMap;
use std::io::{self, ErrorKind};
use std::sync::{Mutex, MutexGuard, PoisonError};

use bytes::Bytes;

use super::disk::{Disk, Entry};

const SECTOR: usize = 16;

/// The disk.
#[derive(Debug, Default)]
pub struct Sim(Mutex<State>);

#[derive(Clone, Debug, Default)]
struct State {
    inodes: Vec<Inode>,
    names: BTreeMap<String, usize>,
    durable_names: BTreeMap<String, usize>,
    journal: Vec<Change>,
    operations: u64,
    fault: Option<Fault>,
}

#[derive(Clone, Debug, Default)]
struct Inode {
    now: Vec<u8>,
    durable: Vec<u8>,
}

#[derive(Clone, Debug)]
enum Change {
    Set(String, usize),
    Remove(String),
    Rename(String, String),
}

/// What goes wrong, from the `at`-th operation on.
#[derive(Clone, Copy, Debug)]
pub struct Fault {
    /// Counted over the whole life of the disk.
    pub at: u64,
    /// How many operations fail.
    pub times: u64,
    /// With what; writes are half done.
    pub kind: ErrorKind,
}

impl Sim {
    /// Operations so far.
    pub fn operations(&self) -> u64 {
        self.state().operations
    }

    /// Something will go wrong, or nothing any more.
    pub fn set_fault(&self, fault: Option<Fault>) {
        self.state().fault = fault;
    }

    /// What another process sees after this one died.
    pub fn after_kill(&self) -> Sim {
        let mut state = self.state().clone();
        state.fault = None;
        Sim(Mutex::new(state))
    }

    /// What is there after a power cut.
    pub fn after_power_cut(&self, seed: u64) -> Sim {
        let mut random = fastrand::Rng::with_seed(seed);
        let state = self.state().clone();
        let mut names = state.durable_names.clone();
        let happened = random.usize(..=state.journal.len());
        state.journal[..happened]
            .iter()
            .for_each(|change| change.apply(&mut names));
        let inodes = state
            .inodes
            .iter()
            .map(|inode| inode.after_power_cut(&mut random))
            .collect();
        Sim(Mutex::new(State {
            inodes,
            durable_names: names.clone(),
            names,
            operations: state.operations,
            ..State::default()
        }))
    }

    /// The names of all files.
    pub fn names(&self) -> Vec<String> {
        self.state().names.keys().cloned().collect()
    }

    /// Puts a file there, durably.
    pub fn put(&self, name: &str, content: &[u8]) {
        let mut state = self.state();
        let inode = state.inodes.len();
        state.inodes.push(Inode {
            now: content.to_vec(),
            durable: content.to_vec(),
        });
        state.names.insert(name.to_owned(), inode);
        state.durable_names.insert(name.to_owned(), inode);
    }

    /// The content of a file.
    pub fn content(&self, name: &str) -> Option<Vec<u8>> {
        let state = self.state();
        Some(state.inodes[*state.names.get(name)?].now.clone())
    }

    /// One operation; whether it fails, and with what.
    fn begin(&self) -> (MutexGuard<'_, State>, Option<io::Error>) {
        let mut state = self.state();
        state.operations += 1;
        let now = state.operations;
        let failing = |fault: &Fault| now >= fault.at && now - fault.at < fault.times;
        let error = state.fault.filter(failing).map(|fault| fault.kind.into());
        (state, error)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inode {
    fn after_power_cut(&self, random: &mut fastrand::Rng) -> Inode {
        let (short, long) = (
            self.durable.len().min(self.now.len()),
            self.durable.len().max(self.now.len()),
        );
        let len = random.usize(short..=long);
        let mut content = self.durable.clone();
        content.resize(len, 0);
        for start in (0..len).step_by(SECTOR) {
            let end = len.min(start + SECTOR).min(self.now.len());
            if start < end && random.bool() {
                content[start..end].copy_from_slice(&self.now[start..end]);
            }
        }
        Inode {
            now: content.clone(),
            durable: content,
        }
    }
}

impl Change {
    fn apply(&self, names: &mut BTreeMap<String, usize>) {
        match self {
            Change::Set(name, inode) => drop(names.insert(name.clone(), *inode)),
            Change::Remove(name) => drop(names.remove(name)),
            Change::Rename(from, to) => {
                if let Some(inode) = names.remove(from) {
                    names.insert(to.clone(), inode);
                }
            }
        }
    }
}

impl State {
    fn change(&mut self, changes: &[Change]) {
        for change in changes {
            change.apply(&mut self.names);
            self.journal.push(change.clone());
        }
    }

    fn inode(&mut self, name: &str) -> io::Result<&mut Inode> {
        let inode = *self.names.get(name).ok_or(ErrorKind::NotFound)?;
        Ok(&mut self.inodes[inode])
    }

    fn write(&mut self, name: &str, at: u64, content: &[u8]) -> io::Result<()> {
        let (at, inode) = (at as usize, self.inode(name)?);
        let end = at + content.len();
        if inode.now.len() < end {
            inode.now.resize(end, 0);
        }
        inode.now[at..end].copy_from_slice(content);
        Ok(())
    }
}

/// What of a write happens before it fails.
fn part(content: &[Bytes], error: &Option<io::Error>) -> Vec<u8> {
    let mut all = content.concat();
    if error.is_some() {
        all.truncate(all.len() / 2);
    }
    all
}

impl Disk for Sim {
    fn list(&self) -> io::Result<Vec<Entry>> {
        let (state, error) = self.begin();
        let entry = |(name, inode): (&String, &usize)| Entry {
            name: name.clone(),
            len: state.inodes[*inode].now.len() as u64,
            regular: true,
            modified: 1_700_000_000,
        };
        error.map_or_else(|| Ok(state.names.iter().map(entry).collect()), Err)
    }

    fn create(&self, name: &str, content: &[Bytes]) -> io::Result<()> {
        let (mut state, error) = self.begin();
        if state.names.contains_key(name) {
            return Err(ErrorKind::AlreadyExists.into());
        }
        let inode = state.inodes.len();
        state.inodes.push(Inode::default());
        state.change(&[Change::Set(name.to_owned(), inode)]);
        state.write(name, 0, &part(content, &error))?;
        error.map_or(Ok(()), Err)
    }

    fn write_at(&self, name: &str, at: u64, content: &[Bytes]) -> io::Result<()> {
        let (mut state, error) = self.begin();
        state.write(name, at, &part(content, &error))?;
        error.map_or(Ok(()), Err)
    }

    fn read_at(&self, name: &str, at: u64, buffer: &mut [u8]) -> io::Result<usize> {
        // Reading changes nothing, so it is no operation to crash at.
        let mut state = self.state();
        let content = &state.inode(name)?.now;
        let rest = content.get(at as usize..).unwrap_or(&[]);
        let len = rest.len().min(buffer.len());
        buffer[..len].copy_from_slice(&rest[..len]);
        Ok(len)
    }

    fn truncate(&self, name: &str, len: u64) -> io::Result<()> {
        let (mut state, error) = self.begin();
        error.map_or(Ok(()), Err)?;
        state.inode(name)?.now.resize(len as usize, 0);
        Ok(())
    }

    fn sync(&self, name: &str) -> io::Result<()> {
        let (mut state, error) = self.begin();
        error.map_or(Ok(()), Err)?;
        let inode = state.inode(name)?;
        inode.durable = inode.now.clone();
        Ok(())
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        let (mut state, error) = self.begin();
        error.map_or(Ok(()), Err)?;
        if !state.names.contains_key(from) {
            return Err(ErrorKind::NotFound.into());
        }
        state.change(&[Change::Rename(from.to_owned(), to.to_owned())]);
        Ok(())
    }

    fn link(&self, from: &str, to: &str) -> io::Result<()> {
        let (mut state, error) = self.begin();
        error.map_or(Ok(()), Err)?;
        if state.names.contains_key(to) {
            return Err(ErrorKind::AlreadyExists.into());
        }
        let inode = *state.names.get(from).ok_or(ErrorKind::NotFound)?;
        state.change(&[Change::Set(to.to_owned(), inode)]);
        Ok(())
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        let (mut state, error) = self.begin();
        error.map_or(Ok(()), Err)?;
        if !state.names.contains_key(name) {
            return Err(ErrorKind::NotFound.into());
        }
        state.change(&[Change::Remove(name.to_owned())]);
        Ok(())
    }

    fn sync_directory(&self) -> io::Result<()> {
        let (mut state, error) = self.begin();
        error.map_or(Ok(()), Err)?;
        state.durable_names = state.names.clone();
        state.journal.clear();
        Ok(())
    }

    fn free(&self) -> Option<u64> {
        None
    }
}
