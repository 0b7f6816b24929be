//! More files than descriptors: idle files lend theirs to others, and take them back when they are read.

use std::io;
use std::path::Path;
use std::time::Duration;

use tracing::warn;

use super::file::{Opened, State, is_short_of_descriptors, open};
use super::files::Files;
use super::known::Known;
use super::track::Track;

/// Where descriptors are few, so many are lent at once: looking for idle ones costs.
const LEND: usize = 64;

impl Files {
    /// Opens a file. Where the process has no descriptor left, others lend theirs first.
    pub fn open(&mut self, path: &Path) -> io::Result<Opened> {
        match open(path) {
            Err(error) if is_short_of_descriptors(&error) => {
                self.lend();
                open(path).inspect_err(|error| self.known.are_few |= is_short_of_descriptors(error))
            }
            opened => opened,
        }
    }

    pub(super) fn lend_down(&mut self) {
        let open = self.tracks.values().flat_map(|track| &track.generations);
        if open.filter(|generation| generation.file.is_some()).count() >= self.most_open {
            self.lend();
        }
    }

    /// Idle files give their descriptors to others, those that were read longest ago first.
    pub fn lend(&mut self) {
        if !std::mem::replace(&mut self.told_lending, true) {
            warn!(
                files = self.known.reading.len(),
                limit = self.most_open,
                "more files than descriptors: they are opened in turns (raise the limit of open files)"
            );
        }
        let mut idle: Vec<((bool, u64), &mut Track)> = self
            .tracks
            .values_mut()
            .filter_map(|track| Some((track.lendable()?, track)))
            .collect();
        if idle.is_empty() {
            let wait = self.known.rotate_wait;
            let rotated = self.tracks.values_mut().filter(|track| !track.is_plain());
            return rotated.for_each(|track| track.lend_rotated(wait));
        }
        idle.sort_unstable_by_key(|(turn, _)| *turn);
        idle.into_iter()
            .take(LEND)
            .for_each(|(_, track)| track.lend());
    }
}

impl Track {
    /// Whether the file at the path has something to read, and when it was read last, if its descriptor can be lent to others.
    fn lendable(&mut self) -> Option<(bool, u64)> {
        let current = self.current()?;
        let open = current.file.is_some();
        open.then_some((current.dirty || !current.at_end(), current.turn))
    }

    /// Closes the file at the path until it is read again, unless that would be its end.
    pub fn lend(&mut self) {
        if let Some(current) = self.current().filter(|current| current.has_name()) {
            current.file = None;
        }
    }

    /// The same for a rotated one that was read to its end, until its time to be given up comes: then it is looked at once more.
    fn lend_rotated(&mut self, wait: Duration) {
        for generation in &mut self.generations {
            let is_idle = !generation.dirty && generation.at_end();
            if let State::Rotated { since } = generation.state
                && is_idle
                && since.elapsed() < wait
                && generation.has_name()
            {
                generation.file = None;
            }
        }
    }

    /// Takes a lent descriptor back, at whatever name the file has now. False where the file is gone: its rest is lost, which is
    /// told. An error is about the descriptor, not about the file.
    pub fn take_back(&mut self, known: &mut Known, at: usize) -> io::Result<bool> {
        let generation = &mut self.generations[at];
        let identity = generation.identity;
        let mut open_at = |name: &Path| match open(name) {
            Ok(opened) if opened.identity == identity => {
                generation.file = Some(opened.file);
                Ok(true)
            }
            Err(error) if is_short_of_descriptors(&error) => Err(error),
            _ => Ok(false),
        };
        if open_at(&self.path)? {
            return Ok(true);
        }
        if !known.listings.is_steady(&self.path) {
            known.listings.forget_beside(&self.path);
        }
        let renamed = known.listings.with_inode(&self.path, identity.inode);
        if let Some(renamed) = renamed
            && open_at(&renamed.path)?
        {
            return Ok(true);
        }
        warn!(path = %self.path.display(), inode = identity.inode, position = generation.position,
            "the file went while its descriptor was lent to others; what was written after the last read is lost (raise the limit of open files)");
        if let Some(gone) = self.generations.remove(at) {
            known.retire(&gone, &self.path);
        }
        Ok(false)
    }
}
