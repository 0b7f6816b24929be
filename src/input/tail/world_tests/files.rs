//! What an application and its rotation do to the files of a world.

use std::fs::{self, OpenOptions};
use std::io::Write;
use std::os::unix::fs::MetadataExt;

use flate2::Compression;
use flate2::write::GzEncoder;

use super::super::bell::Change;
use super::super::file::Identity;
use super::agent::Agent;
use super::lives::{Life, Line, Place};
use super::world::World;

/// The file to which the application writes.
pub const CURRENT: &str = "a.log";
/// Names that nobody would look for begin so.
const ODD: &str = "odd-";

impl World {
    /// The life that stands under this name.
    pub fn at(&self, name: &str) -> Option<usize> {
        self.lives
            .iter()
            .rposition(|life| life.name() == Some(name))
    }

    /// Opens the application's file, which may be a new one.
    pub fn create(&mut self) -> usize {
        let path = self.path(CURRENT);
        let file = OpenOptions::new().append(true).create(true).open(path);
        let meta = file.and_then(|file| file.metadata()).expect("a file");
        if let Some(life) = self.at(CURRENT) {
            assert_eq!(
                self.lives[life].file,
                Identity::of(&meta),
                "the model is wrong"
            );
            return life;
        }
        self.tell(Change::Name, &[CURRENT]);
        if self.lives.iter().any(|life| life.file.inode == meta.ino()) {
            self.note("inode used again");
        }
        let life = Life::new(Identity::of(&meta), CURRENT);
        self.lives.push(life);
        self.lives.len() - 1
    }

    fn put(&mut self, life: usize, text: &str) {
        let life = &mut self.lives[life];
        life.length += text.len() as u64;
        let name = life.name().expect("a name").to_owned();
        let file = OpenOptions::new().append(true).open(self.path(&name));
        let written = file.and_then(|mut file| file.write_all(text.as_bytes()));
        written.expect("written");
        self.tell(Change::Written, &[&name]);
    }

    /// Whole lines; the first of them completes an unfinished one.
    pub fn append(&mut self, life: usize, lines: u8) {
        for _ in 0..lines {
            let number = self.written;
            self.written += 1;
            // Now and then a line that is longer than what is remembered of a file's head, or one that ends as others do.
            let rest = match number % 7 {
                3 => format!("line {number} {}", format!("{number} ").repeat(150)),
                5 => format!("line {number} {}", "x".repeat(40)),
                _ => format!("line {number}"),
            };
            let begun = self.lives[life].half.take();
            let start = self.lives[life].length - begun.as_ref().map_or(0, String::len) as u64;
            self.put(life, &format!("{rest}\n"));
            let text = format!("{}{rest}", begun.clone().unwrap_or_default());
            if begun.is_some() {
                self.pieces.insert(rest);
            }
            let at = (life, self.lives[life].lines.len());
            self.whole.insert(text.clone(), at);
            let end = self.lives[life].length;
            self.lives[life].lines.push(Line {
                start,
                end,
                text,
                split: begun.map(|begun| begun.len()),
                excuse: None,
                copied: false,
            });
        }
    }

    /// Half a line, unless there is one already.
    pub fn append_half(&mut self, life: usize) {
        if self.lives[life].half.is_none() {
            let half = format!("half {} ", self.written);
            self.written += 1;
            self.put(life, &half);
            self.pieces.insert(half.clone());
            self.lives[life].half = Some(half);
        }
    }

    pub fn rename(&mut self, from: &str, to: &str) {
        let Some(life) = self.at(from) else {
            return;
        };
        fs::rename(self.path(from), self.path(to)).expect("renamed");
        self.tell(Change::Renamed, &[from, to]);
        self.lives[life].place = Place::Named(to.to_owned());
    }

    /// Makes the name `a.log.1` free: every generation moves up by one.
    fn shift(&mut self) {
        let last = (1..)
            .find(|n| self.at(&format!("{CURRENT}.{n}")).is_none())
            .expect("a free name");
        for n in (1..last).rev() {
            self.rename(&format!("{CURRENT}.{n}"), &format!("{CURRENT}.{}", n + 1));
        }
    }

    /// Rename rotation.
    pub fn rotate(&mut self, create: bool) {
        if let Some(life) = self.at(CURRENT) {
            let receiver = self.receiver.clone();
            let flying = receiver.texts();
            let unread = |line: &Line| !line.is_in(&*receiver.safe()) && !line.is_in(&flying);
            if self.lives[life].lines.iter().any(unread) {
                self.note("rotated with unread lines");
            }
            self.let_go = Some(life);
        }
        self.shift();
        self.rename(CURRENT, &format!("{CURRENT}.1"));
        if create {
            self.create();
        }
    }

    /// The application writes on to the file that it has just let go of.
    pub fn append_late(&mut self, lines: u8) {
        let named = |life: &usize| self.lives[*life].name().is_some();
        if let Some(life) = self.let_go.filter(named) {
            self.append_elsewhere(life, lines);
        }
    }

    /// Somebody writes to a file that need not stand at its path. Where it was read to its end, is safe, and `rotate_wait` has
    /// passed, or where nobody knows it, nobody reads that.
    fn append_elsewhere(&mut self, life: usize, lines: u8) {
        let before = self.lives[life].lines.len();
        self.append(life, lines);
        let name = self.lives[life].name().unwrap_or_default();
        let Life {
            given_up,
            is_copy,
            is_unknown,
            ..
        } = self.lives[life];
        if (given_up || is_copy || is_unknown) && !self.is_watched(name) {
            for line in &mut self.lives[life].lines[before..] {
                line.excuse = Some("written where it is watched no more");
            }
        } else if name.starts_with(ODD) {
            self.excuse_unknown(life);
        }
    }

    /// A file under one of these names, which `pick` chooses.
    pub fn pick(&self, pick: u8, fits: impl Fn(&str) -> bool) -> Option<(usize, String)> {
        let named = self.lives.iter().enumerate();
        let named = named.filter_map(|(at, life)| Some((at, life.name()?.to_owned())));
        let mut all: Vec<(usize, String)> = named.filter(|(_, name)| fits(name)).collect();
        let at = usize::from(pick).checked_rem(all.len())?;
        Some(all.swap_remove(at))
    }

    /// A file is renamed to a name that tells nobody what it is.
    pub fn rename_oddly(&mut self, pick: u8) {
        let Some((life, name)) = self.pick(pick, |_| true) else {
            return;
        };
        let odd = format!("{ODD}{}", self.written);
        self.written += 1;
        self.rename(&name, &odd);
        self.note("renamed to an odd name");
        if name == CURRENT {
            self.let_go = Some(life);
        }
        self.excuse_unknown(life);
    }

    /// The current file is copied as its rotated generation, and truncated.
    pub fn copytruncate(&mut self) {
        let Some(life) = self.at(CURRENT) else {
            return;
        };
        self.shift();
        let name = format!("{CURRENT}.1");
        fs::copy(self.path(CURRENT), self.path(&name)).expect("copied");
        let meta = fs::metadata(self.path(&name)).expect("a file");
        let mut copy = Life::new(Identity::of(&meta), &name);
        copy.is_copy = true;
        let original = &mut self.lives[life];
        (copy.length, copy.half) = (original.length, original.half.clone());
        self.tell(Change::Name, &[&name]);
        // While nobody runs, the copy is all that is left of what was unread.
        let is_asked = self.is_watched(&name) || self.agent.is_none();
        if self.agent.is_none() {
            self.note("copied while nobody ran");
        }
        let excuse = (!is_asked).then_some("a copy that nobody asks for");
        let original = &mut self.lives[life];
        for line in &mut original.lines {
            line.copied = true;
            copy.lines.push(Line {
                excuse,
                ..line.clone()
            });
        }
        self.lives.push(copy);
        self.truncate(life);
    }

    /// A file is cut to nothing: what nobody has read is lost.
    pub fn truncate(&mut self, life: usize) {
        let old = &self.lives[life];
        let name = old.name().expect("a name").to_owned();
        if old.length == 0 {
            return;
        }
        let flying = self.receiver.texts();
        if old.lines.iter().any(|line| line.is_partly_in(&flying)) {
            self.note("truncated with lines in flight");
        }
        let old = &self.lives[life];
        let new = Life {
            given_up: old.given_up,
            is_copy: old.is_copy,
            is_unknown: old.is_unknown,
            ..Life::new(old.file, &name)
        };
        // Otherwise a text of the same length may get the same time.
        self.tick();
        let file = OpenOptions::new().write(true).open(self.path(&name));
        file.and_then(|file| file.set_len(0)).expect("truncated");
        self.tell(Change::Written, &[&name]);
        self.lives.push(new);
        if self.let_go == Some(life) {
            self.let_go = Some(self.lives.len() - 1);
        }
        self.gone(life, "truncated unread");
    }

    /// A file is cut, and longer than before when somebody looks.
    pub fn regrow(&mut self, pick: u8) {
        let Some((life, name)) = self.pick(pick, |_| true) else {
            return;
        };
        let before = self.lives[life].length;
        self.truncate(life);
        let life = self.at(&name).expect("a file");
        while self.lives[life].length <= before {
            self.append_elsewhere(life, 1);
        }
    }

    /// A file is removed. It stays readable for those who hold it open.
    pub fn delete(&mut self, pick: u8, fits: impl Fn(&str) -> bool) {
        let Some((life, name)) = self.pick(pick, fits) else {
            return;
        };
        fs::remove_file(self.path(&name)).expect("removed");
        self.tell(Change::Name, &[&name]);
        let file = self.lives[life].file;
        let is_held = |agent: &Agent| agent.held().contains(&file);
        if self.agent.as_ref().is_some_and(is_held) {
            self.note("deleted while held open");
            self.lives[life].place = Place::Held;
            // A batch was lost, and the next start cannot read it again.
            let lines = self.lives[life].lines.iter_mut();
            for line in lines.filter(|line| line.is_partly_in(&self.lost)) {
                line.excuse
                    .get_or_insert("its batch was lost, then its file");
            }
        } else {
            self.gone(life, "deleted unread");
        }
        // The inode is used again for the next file.
        self.tick();
    }

    /// A rotated file is replaced by a compressed one.
    pub fn compress(&mut self, pick: u8) {
        let rotated = |name: &str| name != CURRENT;
        let Some((_, name)) = self.pick(pick, rotated) else {
            return;
        };
        let mut packed = GzEncoder::new(Vec::new(), Compression::fast());
        packed
            .write_all(&fs::read(self.path(&name)).expect("a file"))
            .expect("packed");
        fs::write(
            self.path(&format!("{name}.gz")),
            packed.finish().expect("packed"),
        )
        .expect("written");
        self.delete(pick, rotated);
    }

    /// Nothing is left of a life but what was read of it.
    fn gone(&mut self, life: usize, why: &'static str) {
        let receiver = self.receiver.clone();
        let life = &mut self.lives[life];
        life.place = Place::Gone;
        life.excuse(why, &receiver.safe(), &receiver.texts());
    }
}
