//! The model: what was written, in which life of which file, and where that file is now.

use std::collections::{HashMap, HashSet};

use super::super::file::Identity;

/// One life of one inode: from its creation, or the truncation before, to its deletion or the next truncation.
#[derive(Debug)]
pub struct Life {
    pub file: Identity,
    pub place: Place,
    pub lines: Vec<Line>,
    /// Its length in bytes, an unfinished line included.
    pub length: u64,
    /// What stands behind the last newline.
    pub half: Option<String>,
    /// Nobody knew it at start.
    pub is_unknown: bool,
    /// What copytruncate made.
    pub is_copy: bool,
    /// The agent has read it, and reads it no more.
    pub given_up: bool,
}

/// Where the bytes of a life can be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// Under this name.
    Named(String),
    /// Nowhere but through the descriptor that the agent holds.
    Held,
    /// Nowhere.
    Gone,
}

/// A whole line.
#[derive(Clone, Debug)]
pub struct Line {
    pub start: u64,
    pub end: u64,
    pub text: String,
    /// It was written in two parts, the first so long.
    pub split: Option<usize>,
    /// Why nobody can be asked to deliver it.
    pub excuse: Option<&'static str>,
    /// It is a copy of another: read, if at all, as another line of the same text.
    pub copied: bool,
}

/// How often each text was safe.
pub type Safe = HashMap<String, usize>;

impl Line {
    /// Whether it is safe, in one piece or in the two in which it was written.
    pub fn is_in(&self, texts: &impl Texts) -> bool {
        let pieces = || {
            let (first, rest) = self.text.split_at(self.split?);
            Some(texts.has(first) && texts.has(rest))
        };
        texts.has(&self.text) || pieces().unwrap_or(false)
    }
}

impl Line {
    /// Whether it or a part of it is there.
    pub fn is_partly_in(&self, texts: &HashSet<String>) -> bool {
        let has = |part: &str| texts.contains(part);
        let split = self.split.map(|at| self.text.split_at(at));
        has(&self.text) || split.is_some_and(|(first, rest)| has(first) || has(rest))
    }
}

/// A set of texts.
pub trait Texts {
    fn has(&self, text: &str) -> bool;
}

impl Texts for Safe {
    fn has(&self, text: &str) -> bool {
        self.contains_key(text)
    }
}

impl Texts for HashSet<String> {
    fn has(&self, text: &str) -> bool {
        self.contains(text)
    }
}

impl Life {
    pub fn new(file: Identity, name: &str) -> Life {
        Life {
            file,
            place: Place::Named(name.to_owned()),
            lines: Vec::new(),
            length: 0,
            half: None,
            is_unknown: false,
            is_copy: false,
            given_up: false,
        }
    }

    pub fn name(&self) -> Option<&str> {
        match &self.place {
            Place::Named(name) => Some(name),
            Place::Held | Place::Gone => None,
        }
    }

    /// Where the first byte stands that is not safe, nor excused.
    pub fn safe_end(&self, safe: &impl Texts) -> u64 {
        self.end_of(safe, |line| line.excuse.is_some())
    }

    /// Where the first byte behind `from` stands that is not among these.
    pub fn end_behind(&self, from: u64, safe: &impl Texts) -> u64 {
        self.end_of(safe, |line| line.end <= from)
    }

    fn end_of(&self, safe: &impl Texts, passes: impl Fn(&Line) -> bool) -> u64 {
        for line in &self.lines {
            if passes(line) || line.is_in(safe) {
                continue;
            }
            return match line.split {
                Some(at) if safe.has(&line.text[..at]) => line.start + at as u64,
                _ => line.start,
            };
        }
        match &self.half {
            Some(half) if !safe.has(half) => self.length - half.len() as u64,
            _ => self.length,
        }
    }

    /// Nobody can be asked for what is in none of these.
    pub fn excuse(&mut self, why: &'static str, safe: &Safe, flying: &HashSet<String>) {
        for line in &mut self.lines {
            if !line.is_in(safe) && !line.is_in(flying) {
                line.excuse.get_or_insert(why);
            }
        }
    }
}
