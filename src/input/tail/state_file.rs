//! The side file `<pos_file>.state`: what the pos_file cannot express. One JSON object a line:
//!
//! ```text
//! {"affluent":"tail state","version":1}
//! {"path":"/var/log/app.log","inode":662312,"born":1764108000123456789,"position":1234,"head":[256,3735928559]}
//! {"lines":1,"sum":305419896}                                     sum: CRC-32 of the lines before
//! ```
//!
//! Every generation that is not finished stands in it (and `"finished":true` the last ones that are), with the birth of its inode and the checksum of its first bytes
//! ([`HeadMark`]). The pos_file, which Fluentd reads and writes too, says how far its entries were read; where it is damaged, the
//! positions in here are its last good copy. Without this file Fluentd's rules are all there is: nothing is lost that they do not lose.

use std::collections::HashMap;
use std::ffi::OsString;
use std::fs;
use std::io;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};
use tracing::warn;

use super::evidence::{HeadMark, Resume};
use super::file::Identity;
use super::pos_file::{Entry, beside, put};
use super::recalled::nanoseconds;

/// A generation that an earlier run left unfinished.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Remembered {
    /// The path under which it is watched.
    pub path: PathBuf,
    /// Its inode.
    pub inode: u64,
    /// How far it was read, and what is known of it.
    pub resume: Resume,
    /// What it is.
    pub kind: Kind,
}

impl Remembered {
    /// Whether a file of this identity may be it: an inode is used again.
    pub fn may_be(&self, identity: Identity) -> bool {
        let born = self.resume.born.zip(identity.born);
        self.inode == identity.inode && born.is_none_or(|(then, now)| then == now)
    }
}

/// What becomes of a remembered generation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// It is read to its end; where it is not found that is told.
    Owed,
    /// It is read to its end where it is found: Fluentd leaves entries of files that are long gone.
    Entry,
    /// It was read to its end, and must not be taken for new.
    Finished,
}

/// All that the side file tells.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct State {
    /// The generations.
    pub generations: Vec<Remembered>,
    /// Generations of this time or younger may be unknown: they were being searched.
    pub searching_since: Option<SystemTime>,
    /// When it was written; not part of the text.
    pub written: Option<SystemTime>,
}

/// What a side file's text says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Read {
    /// There is none.
    Missing,
    /// All of it.
    Whole(State),
    /// It is not to be trusted, and why.
    Damaged(String),
}

#[derive(Serialize, Deserialize)]
struct First {
    affluent: String,
    version: u32,
}

#[derive(Serialize, Deserialize)]
struct Line {
    path: Name,
    inode: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    born: Option<u64>,
    position: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    head: Option<(u16, u32)>,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    finished: bool,
}

#[derive(Serialize, Deserialize)]
struct Last {
    lines: usize,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    searching_since: Option<u64>,
    sum: u32,
}

/// Text where it is text, bytes where it is not.
#[derive(Serialize, Deserialize)]
#[serde(untagged)]
enum Name {
    Text(String),
    Bytes(Vec<u8>),
}

const KIND: &str = "tail state";
const VERSION: u32 = 1;

/// Where the side file of a pos_file stands.
pub fn path_for(pos_file: &Path) -> PathBuf {
    beside(pos_file, ".state")
}

/// The text of this state.
pub fn print(state: &State) -> io::Result<Vec<u8>> {
    let generations = &state.generations;
    let mut text = Vec::with_capacity(generations.len() * 160 + 100);
    line(
        &mut text,
        &First {
            affluent: KIND.into(),
            version: VERSION,
        },
    )?;
    for generation in generations {
        let Remembered {
            path,
            inode,
            resume,
            kind,
        } = generation;
        line(
            &mut text,
            &Line {
                path: match path.to_str() {
                    Some(path) => Name::Text(path.to_owned()),
                    None => Name::Bytes(path.as_os_str().as_bytes().to_owned()),
                },
                inode: *inode,
                born: resume.born.and_then(nanoseconds),
                position: resume.position,
                head: resume.head.map(|head| (head.length, head.sum)),
                finished: *kind == Kind::Finished,
            },
        )?;
    }
    let last = Last {
        lines: generations.len(),
        searching_since: state.searching_since.and_then(nanoseconds),
        sum: crc32fast::hash(&text),
    };
    line(&mut text, &last)?;
    Ok(text)
}

fn line(text: &mut Vec<u8>, what: &impl Serialize) -> io::Result<()> {
    serde_json::to_writer(&mut *text, what)?;
    text.push(b'\n');
    Ok(())
}

/// Reads a side file's text: all of it or nothing.
pub fn parse(text: &[u8]) -> Read {
    let Some(body) = text.strip_suffix(b"\n") else {
        return Read::Damaged("its last line is not whole".into());
    };
    let Some(end) = memchr::memrchr(b'\n', body) else {
        return Read::Damaged("it has no end".into());
    };
    let (body, last) = body.split_at(end + 1);
    let last = match serde_json::from_slice::<Last>(last) {
        Ok(last) if last.sum == crc32fast::hash(body) => last,
        Ok(_) => return Read::Damaged("its checksum is another".into()),
        Err(error) => return Read::Damaged(format!("its end cannot be read: {error}")),
    };
    let mut lines = body
        .split(|byte| *byte == b'\n')
        .filter(|line| !line.is_empty());
    let first = lines.next().map(serde_json::from_slice::<First>);
    match first {
        Some(Ok(first)) if first.affluent == KIND && first.version == VERSION => {}
        _ => return Read::Damaged("it is of another version".into()),
    }
    match lines.map(parse_line).collect() {
        Ok(generations) => Read::Whole(State {
            generations,
            searching_since: last.searching_since.map(time),
            written: None,
        }),
        Err(error) => Read::Damaged(error.to_string()),
    }
}

fn parse_line(line: &[u8]) -> serde_json::Result<Remembered> {
    let line: Line = serde_json::from_slice(line)?;
    let path = match line.path {
        Name::Text(path) => OsString::from(path),
        Name::Bytes(path) => OsString::from_vec(path),
    };
    Ok(Remembered {
        path: PathBuf::from(path),
        inode: line.inode,
        resume: Resume {
            position: line.position,
            born: line.born.map(time),
            head: line.head.map(|(length, sum)| HeadMark { length, sum }),
        },
        kind: if line.finished {
            Kind::Finished
        } else {
            Kind::Owed
        },
    })
}

fn time(nanoseconds: u64) -> SystemTime {
    UNIX_EPOCH + Duration::from_nanos(nanoseconds)
}

/// Reads the side file of a pos_file. A damaged one is set aside, told, and then as good as missing.
pub fn read(pos_file: &Path) -> Read {
    let path = path_for(pos_file);
    let written = fs::metadata(&path).and_then(|meta| meta.modified()).ok();
    let read = match fs::read(&path) {
        Ok(text) => match parse(&text) {
            Read::Whole(state) => Read::Whole(State { written, ..state }),
            other => other,
        },
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Read::Missing,
        Err(error) => Read::Damaged(error.to_string()),
    };
    if let Read::Damaged(reason) = &read {
        let aside = beside(&path, ".damaged");
        // Where that fails too, the next write replaces it.
        let kept = fs::rename(&path, &aside).is_ok();
        let aside = if kept { aside } else { path.clone() };
        warn!(path = %path.display(), reason, aside = %aside.display(),
            "the side file of the pos_file is damaged and set aside; positions are taken from the pos_file alone, what it cannot tell is read again");
    }
    read
}

/// Writes the side file of a pos_file.
pub fn write(pos_file: &Path, as_of: SystemTime, state: &State) -> io::Result<()> {
    put(&path_for(pos_file), as_of, &print(state)?)
}

/// What both files say together. The pos_file is right about the entries that it has, also where Fluentd wrote it meanwhile; the
/// side file adds the evidence, and the generations that the pos_file has no place for. Where the pos_file is
/// damaged the side file's older positions stand in for its (repeat, never skip).
pub fn merge(entries: Vec<Entry>, state: Vec<Remembered>) -> Vec<Remembered> {
    let mut merged = state;
    let known: HashMap<(u64, PathBuf), usize> = (merged.iter().enumerate())
        .map(|(at, generation)| ((generation.inode, generation.path.clone()), at))
        .collect();
    let evidence: HashMap<u64, Resume> = merged
        .iter()
        .map(|generation| (generation.inode, generation.resume))
        .collect();
    merged.reserve(entries.len());
    for entry in entries {
        let key = (entry.inode, entry.path);
        if let Some(at) = known.get(&key) {
            merged[*at].resume.position = entry.position;
            continue;
        }
        let (inode, path) = key;
        // Under another name, as the generations of a rotation have it.
        let evidence = evidence.get(&inode).copied().unwrap_or_default();
        merged.push(Remembered {
            path,
            inode,
            resume: Resume {
                position: entry.position,
                ..evidence
            },
            kind: Kind::Entry,
        });
    }
    merged
}

#[cfg(test)]
#[path = "state_file_tests.rs"]
mod tests;
