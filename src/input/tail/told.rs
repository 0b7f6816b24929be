//! What is written down of a source's files: the entries of the pos_file and the generations of its side file.

use std::collections::HashMap;
use std::path::PathBuf;

use super::file::Identity;
use super::files::Files;
use super::memory::Memory;
use super::pos_file::Entry;
use super::state_file::State;

/// The files as they are known at one moment.
pub struct Told<'a> {
    /// The paths that are followed.
    pub files: &'a Files,
    /// Names of generations that are read under another path.
    pub aliases: &'a HashMap<PathBuf, Identity>,
    /// What nobody has taken up.
    pub memory: &'a Memory,
}

impl Told<'_> {
    /// What the pos_file says: the paths, other names of their generations, and what nobody has taken up.
    pub fn entries(&self, each_inode: bool) -> Vec<Entry> {
        let files = self.files;
        let mut entries = files.entries(each_inode);
        // After the tracks' own: of two entries with one path the last is about the file that stands there.
        let positions = files.positions_of(self.aliases.values());
        for (path, identity) in self.aliases {
            let position = positions.get(identity).copied();
            entries.extend(position.map(|position| Entry {
                path: path.clone(),
                position,
                inode: identity.inode,
            }));
        }
        let rest = self.memory.rest();
        let kept = rest.filter(|kept| !files.tracks.contains_key(&kept.path));
        entries.extend(kept.map(|kept| Entry {
            path: kept.path.clone(),
            position: kept.resume.position,
            inode: kept.inode,
        }));
        entries
    }

    /// What the side file says.
    pub fn state(&self) -> State {
        let known = &self.files.known;
        let searching_since = self.files.searching_since();
        let mut generations = self.files.remembered();
        generations.extend(known.finished());
        generations.extend(self.memory.rest().cloned());
        State {
            generations,
            searching_since,
            written: None,
        }
    }
}
