//! The journal: what makes every step of a drain resumable and harmless to repeat (lifecycle.md §4.3).
//!
//! One small JSON file, rewritten at each change of stage: written beside, synced, renamed, and the directory synced. It only counts
//! for the instance and the boot that wrote it: an image may have been made of a drained machine.

use std::fs::{self, File};
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};

use super::drainable::Ledger;

/// How far a drain has come. Each value means that the stage before it is done.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Stage {
    /// Noticed; nothing done.
    #[default]
    Before,
    /// The commands before are done.
    Flush,
    /// The data is safe, or out of time.
    Archive,
    /// The files are uploaded.
    Manifest,
    /// The manifest is written.
    After,
    /// The steps after are done.
    Complete,
    /// The lifecycle action is completed.
    Delete,
    /// Nothing is left to do.
    Done,
}

/// What is written.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Entry {
    /// `instance-id`.
    pub instance: String,
    /// `/proc/sys/kernel/random/boot_id`.
    pub boot: String,
    /// Who told us.
    pub cause: String,
    /// When the drain began, RFC 3339.
    pub began: String,
    /// `AutoScalingGroupName`, once known.
    pub group: Option<String>,
    /// `LifecycleHookName`, once known.
    pub hook: Option<String>,
    /// `LifecycleActionToken`, once known.
    pub token: Option<String>,
    /// The SQS message to delete, once known.
    pub message_id: Option<String>,
    /// The stage to do next.
    pub stage: Stage,
    /// What is not safe and where, as the operator read it.
    pub not_safe: Vec<String>,
    /// The count of every line when the data was done with.
    pub ledger: Option<Ledger>,
}

/// Whether a journal found at start is about this life of this machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Found {
    /// Go on at the entry's stage.
    Resume,
    /// Another machine, another boot, or a drain that ended or was called off: history.
    History,
}

/// The resume rule. `terminating` is what instance metadata or the group says now.
pub fn judge(entry: &Entry, instance: &str, boot: &str, terminating: bool) -> Found {
    let ours = entry.instance == instance && entry.boot == boot;
    match ours && terminating && entry.stage < Stage::Done {
        true => Found::Resume,
        false => Found::History,
    }
}

/// The file.
#[derive(Clone, Debug)]
pub struct Journal {
    path: PathBuf,
}

impl Journal {
    /// The journal at `path`; need not exist.
    pub fn new(path: &Path) -> Journal {
        Journal {
            path: path.to_owned(),
        }
    }

    /// What stands in it. A damaged journal is an error: the caller says so and starts from the beginning.
    pub fn read(&self) -> Result<Option<Entry>> {
        match fs::read(&self.path) {
            Ok(bytes) => serde_json::from_slice(&bytes)
                .map(Some)
                .with_context(|| format!("damaged drain journal {}", self.path.display())),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error)
                .with_context(|| format!("cannot read drain journal {}", self.path.display())),
        }
    }

    /// Replaces it, durably.
    pub fn write(&self, entry: &Entry) -> Result<()> {
        self.replace(entry)
            .with_context(|| format!("cannot write drain journal {}", self.path.display()))
    }

    /// Puts it aside as `<path>.old`.
    pub fn put_aside(&self) -> Result<()> {
        let mut old = self.path.clone().into_os_string();
        old.push(".old");
        match fs::rename(&self.path, &old) {
            Err(error) if error.kind() != ErrorKind::NotFound => Err(error)
                .with_context(|| format!("cannot put drain journal {} aside", self.path.display())),
            _ => Ok(()),
        }
    }

    fn replace(&self, entry: &Entry) -> Result<()> {
        let parent = self
            .path
            .parent()
            .filter(|parent| !parent.as_os_str().is_empty());
        let parent = parent.unwrap_or(Path::new("."));
        fs::create_dir_all(parent)?;
        let mut beside = self.path.clone().into_os_string();
        beside.push(".new");
        let mut file = File::create(&beside)?;
        file.write_all(&serde_json::to_vec_pretty(entry)?)?;
        file.sync_all()?;
        fs::rename(&beside, &self.path)?;
        File::open(parent)?.sync_all()?;
        Ok(())
    }
}

/// This boot of this machine.
pub fn boot_id() -> String {
    let text = fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
    text.trim().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry() -> Entry {
        Entry {
            instance: "i-1".into(),
            boot: "b".into(),
            stage: Stage::Archive,
            ..Entry::default()
        }
    }

    #[test]
    fn what_was_written_is_read_back_and_replaced_whole() {
        let dir = tempfile::tempdir().expect("a directory");
        let journal = Journal::new(&dir.path().join("deep/drain.json"));
        assert_eq!(journal.read().expect("readable"), None);
        journal.write(&entry()).expect("written");
        let next = Entry {
            stage: Stage::Complete,
            ..entry()
        };
        journal.write(&next).expect("written");
        assert_eq!(journal.read().expect("readable"), Some(next));
        journal.put_aside().expect("put aside");
        assert_eq!(journal.read().expect("readable"), None);
        journal.put_aside().expect("harmless to repeat");
    }

    #[test]
    fn a_damaged_journal_is_an_error_and_not_a_fresh_start() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("drain.json");
        fs::write(&path, "{\"stage\":").expect("written");
        assert!(Journal::new(&path).read().is_err());
    }

    #[test]
    fn only_this_life_of_this_machine_is_resumed() {
        assert_eq!(judge(&entry(), "i-1", "b", true), Found::Resume);
        assert_eq!(judge(&entry(), "i-1", "b", false), Found::History);
        assert_eq!(judge(&entry(), "i-1", "another boot", true), Found::History);
        assert_eq!(judge(&entry(), "i-2", "b", true), Found::History);
        let done = Entry {
            stage: Stage::Done,
            ..entry()
        };
        assert_eq!(judge(&done, "i-1", "b", true), Found::History);
    }

    #[test]
    fn stages_are_ordered_as_they_are_done() {
        let order = [
            Stage::Before,
            Stage::Flush,
            Stage::Archive,
            Stage::Manifest,
            Stage::After,
            Stage::Complete,
            Stage::Delete,
            Stage::Done,
        ];
        assert!(order.windows(2).all(|pair| pair[0] < pair[1]));
    }
}
