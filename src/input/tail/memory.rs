//! What the pos_file and its side file said at start, as far as nobody has taken it up. Pure.
//!
//! Found by inode and by path through two sorted lists of numbers: a hundred thousand entries are looked up ten thousand times at
//! start, and kept no longer.

use std::cmp::Ordering;
use std::path::Path;
use std::time::SystemTime;

use super::state_file::Remembered;

/// The entries of an earlier run.
#[derive(Default)]
pub struct Memory {
    /// In the order of the files: of two entries with one path the last is about the file that stood there.
    entries: Vec<Remembered>,
    taken: Vec<bool>,
    by_inode: Vec<u32>,
    by_path: Vec<u32>,
    /// When they were last written.
    pub modified: Option<SystemTime>,
    /// Since when the earlier run was searching generations at its end.
    pub searching_since: Option<SystemTime>,
    /// No file of this source was ever read: those that stand there are old.
    pub first_start: bool,
    /// The first expansion of `path` is not done yet.
    pub starting: bool,
}

impl Memory {
    /// Puts these entries in place of what is remembered.
    pub fn keep(&mut self, entries: Vec<Remembered>) {
        let numbers = 0..u32::try_from(entries.len()).unwrap_or(u32::MAX);
        (self.by_inode, self.by_path) = (numbers.clone().collect(), numbers.collect());
        self.by_inode.sort_by_key(|at| entries[*at as usize].inode);
        let path = |at: u32| &entries[at as usize].path;
        self.by_path.sort_by(|a, b| path(*a).cmp(path(*b)));
        self.taken = vec![false; entries.len()];
        self.entries = entries;
    }

    /// The entry of this inode, if it was known in the directory of `path` under any name; under this one at best.
    pub fn take_inode(&mut self, path: &Path, inode: u64) -> Option<Remembered> {
        let found = self.find(&self.by_inode, |entry| entry.inode.cmp(&inode));
        let exact = found.iter().find(|at| self.entry(**at).path == path);
        let near = || {
            let same = |at: &&u32| self.entry(**at).path.parent() == path.parent();
            found.iter().find(same)
        };
        let at = exact.or_else(near).copied();
        at.map(|at| self.take(at))
    }

    /// What was read at this path last.
    pub fn take_path(&mut self, path: &Path) -> Option<Remembered> {
        let found = self.find(&self.by_path, |entry| entry.path.as_path().cmp(path));
        let last = found.last().copied();
        last.map(|at| self.take(at))
    }

    /// Whether something is remembered of this path.
    pub fn knows(&self, path: &Path) -> bool {
        let order = |entry: &Remembered| entry.path.as_path().cmp(path);
        !self.find(&self.by_path, order).is_empty()
    }

    /// Whether the file at this path is the one that was read there last.
    pub fn stands(&self, path: &Path, inode: Option<u64>) -> bool {
        let found = self.find(&self.by_path, |entry| entry.path.as_path().cmp(path));
        found.iter().any(|at| Some(self.entry(*at).inode) == inode)
    }

    /// All that nobody has taken up.
    pub fn rest(&self) -> impl Iterator<Item = &Remembered> {
        let all = self.entries.iter().zip(&self.taken);
        all.filter(|(_, taken)| !**taken).map(|(entry, _)| entry)
    }

    /// The same, taken up.
    pub fn take_all(&mut self) -> Vec<Remembered> {
        let all = std::mem::take(&mut self.entries).into_iter();
        let rest = all.zip(std::mem::take(&mut self.taken));
        (self.by_inode, self.by_path) = (Vec::new(), Vec::new());
        rest.filter(|(_, taken)| !taken)
            .map(|(entry, _)| entry)
            .collect()
    }

    /// It was not taken up after all.
    pub fn put_back(&mut self, entry: &Remembered) {
        let known = self.entries.iter().zip(&mut self.taken);
        let same = known.filter(|(known, _)| *known == entry);
        same.for_each(|(_, taken)| *taken = false);
    }

    fn find(&self, sorted: &[u32], order: impl Fn(&Remembered) -> Ordering) -> Vec<u32> {
        let from = sorted.partition_point(|at| order(self.entry(*at)).is_lt());
        let equal = sorted[from..]
            .iter()
            .take_while(|at| order(self.entry(**at)).is_eq());
        equal
            .filter(|at| !self.taken[**at as usize])
            .copied()
            .collect()
    }

    fn entry(&self, at: u32) -> &Remembered {
        &self.entries[at as usize]
    }

    fn take(&mut self, at: u32) -> Remembered {
        self.taken[at as usize] = true;
        self.entries[at as usize].clone()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::evidence::Resume;
    use super::super::state_file::Kind;
    use super::*;

    fn remembered(path: &str, inode: u64, position: u64) -> Remembered {
        Remembered {
            path: path.into(),
            inode,
            resume: Resume {
                position,
                ..Resume::default()
            },
            kind: Kind::Owed,
        }
    }

    proptest! {
        #[test]
        fn lookups_are_those_of_a_list(
            entries in prop::collection::vec((0u8..4, 0u64..5), 0..20),
            asks in prop::collection::vec((any::<bool>(), 0u8..4, 0u64..5), 0..20),
        ) {
            let path = |name: u8| format!("/{}/{name}", name % 2);
            let mut list: Vec<Remembered> = entries
                .iter()
                .zip(0..)
                .map(|((name, inode), position)| remembered(&path(*name), *inode, position))
                .collect();
            let mut memory = Memory::default();
            memory.keep(list.clone());
            for (by_inode, name, inode) in asks {
                let path = std::path::PathBuf::from(path(name));
                prop_assert_eq!(memory.knows(&path), list.iter().any(|entry| entry.path == path));
                let (found, at) = if by_inode {
                    let same = |entry: &Remembered| entry.inode == inode;
                    let exact = list.iter().position(|entry| same(entry) && entry.path == path);
                    let near = || list.iter().position(|entry| same(entry) && entry.path.parent() == path.parent());
                    (memory.take_inode(&path, inode), exact.or_else(near))
                } else {
                    (memory.take_path(&path), list.iter().rposition(|entry| entry.path == path))
                };
                prop_assert_eq!(found, at.map(|at| list.remove(at)));
                let rest: Vec<Remembered> = memory.rest().cloned().collect();
                prop_assert_eq!(&rest, &list);
            }
            prop_assert_eq!(memory.take_all(), list);
        }
    }
}
