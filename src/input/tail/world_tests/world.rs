//! A directory of log files, an agent, and what is known to have been written.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::fs;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use super::super::bell::{Change, Seen};
use super::super::state_file;
use super::Setup;
use super::agent::{Agent, OnDisk, Receiver};
use super::files::CURRENT;
use super::hurt::Timed;
use super::lives::{Life, Line, Place};
use crate::stop::Phase;

/// What comes of a check: why it failed.
pub type Checked = Result<(), String>;

pub struct World {
    dir: tempfile::TempDir,
    pub setup: Setup,
    pub receiver: Arc<Receiver>,
    pub agent: Option<Agent>,
    pub lives: Vec<Life>,
    /// The life and the number in it of each whole line.
    pub whole: HashMap<String, (usize, usize)>,
    /// Beginnings and ends of lines that were written in two parts.
    pub pieces: HashSet<String>,
    /// Lines written so far.
    pub written: usize,
    /// Events of which the agent was not told yet.
    pending: Seen,
    /// By life: what came in this run last.
    last: HashMap<usize, usize>,
    /// By life: what was told to be safe when the agent stopped, and must not come again.
    told_safe: HashMap<usize, u64>,
    /// The life that the application has let go of last.
    pub let_go: Option<usize>,
    /// The texts whose receipts were dropped in this run.
    pub lost: HashSet<String>,
    /// The pos_file before the last change of both files, and its time.
    pub before_write: Option<Timed>,
    /// The pos_file or its side file was damaged since the last stop.
    pub is_hurt: bool,
    /// What happened, and how often.
    pub seen: BTreeMap<&'static str, usize>,
}

impl World {
    pub fn new(setup: Setup) -> World {
        let dir = tempfile::tempdir().expect("a directory");
        fs::create_dir(dir.path().join("logs")).expect("a directory");
        let mut world = World {
            dir,
            setup,
            receiver: Arc::default(),
            agent: None,
            lives: Vec::new(),
            whole: HashMap::new(),
            pieces: HashSet::new(),
            written: 0,
            pending: Seen::default(),
            last: HashMap::new(),
            told_safe: HashMap::new(),
            let_go: None,
            lost: HashSet::new(),
            before_write: None,
            is_hurt: false,
            seen: BTreeMap::new(),
        };
        world.start();
        world
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join("logs").join(name)
    }

    pub fn pos_file(&self) -> PathBuf {
        self.dir.path().join("state/pos")
    }

    pub fn note(&mut self, what: &'static str) {
        *self.seen.entry(what).or_default() += 1;
    }

    /// The clock of file times is coarse. Two lives of one inode within one of its ticks, or two texts of one length in one file,
    /// cannot be told apart by anybody: waits for the next tick.
    pub fn tick(&self) {
        let path = self.dir.path().join("tick");
        let time = || {
            fs::write(&path, "x").expect("a file");
            let meta = fs::metadata(&path).expect("a file");
            meta.modified().expect("a time")
        };
        let before = time();
        while time() == before {
            std::thread::sleep(Duration::from_millis(2));
        }
    }

    /// Whether the configuration asks for this name.
    pub fn is_watched(&self, name: &str) -> bool {
        match self.setup.pattern.strip_suffix('*') {
            Some(prefix) => name.starts_with(prefix) && !name.ends_with(".gz"),
            None => name == self.setup.pattern,
        }
    }

    pub fn start(&mut self) {
        if self.agent.is_some() {
            return;
        }
        self.excuse_at_start();
        self.last.clear();
        self.receiver.safe_now().clear();
        if std::mem::take(&mut self.is_hurt) {
            self.told_safe.clear();
        }
        for life in &mut self.lives {
            life.given_up = false;
        }
        self.lost.clear();
        let to = self.receiver.clone();
        let path = self.path(self.setup.pattern);
        self.agent = Some(Agent::start(&self.setup, path, self.pos_file(), to));
    }

    /// What nobody can know of, or only the agent that is gone could have delivered.
    fn excuse_at_start(&mut self) {
        let receiver = self.receiver.clone();
        let (safe, none) = (receiver.safe(), HashSet::new());
        let told = OnDisk::read(&self.pos_file());
        for at in 0..self.lives.len() {
            let is_known = self.lives[at].name().is_some_and(|name| {
                let is_rotated = name.starts_with(CURRENT);
                // Without the side file generations between the oldest and the current one are missed.
                self.is_watched(name)
                    || is_rotated && told.is_whole()
                    || told.knows(&self.lives[at])
            });
            let life = &mut self.lives[at];
            // Nor does a later start: it is older than the pos_file.
            life.is_unknown |= !is_known;
            if !is_known {
                life.excuse("nobody knew it at start", &safe, &none);
            }
            if told.is_whole() || life.place == Place::Gone {
                continue;
            }
            // Without the side file nothing shows that a position was that of an earlier life of the inode.
            let position = told
                .entries
                .iter()
                .filter(|entry| entry.inode == life.file.inode);
            let position = position.map(|entry| entry.position).max().unwrap_or(0);
            if position > life.safe_end(&*safe) {
                let skipped = life.lines.iter_mut().filter(|line| line.start < position);
                skipped.for_each(|line| line.excuse = Some("an old position of its inode"));
            }
        }
    }

    /// A file gets a name that tells nothing: the agent has it open, or is told, or its inode stands on the disk, or it is lost.
    pub fn excuse_unknown(&mut self, life: usize) {
        let Some(agent) = self.agent.as_ref().filter(|_| !self.setup.events) else {
            return;
        };
        let told = OnDisk::read(&self.pos_file());
        if !agent.held().contains(&self.lives[life].file) && !told.knows(&self.lives[life]) {
            let receiver = self.receiver.clone();
            let (safe, flying) = (receiver.safe(), receiver.texts());
            self.lives[life].excuse("renamed before anybody knew it", &safe, &flying);
        }
    }

    /// The receipt of a batch is dropped: its lines are not safe, and only the next start reads them again.
    pub fn lose(&mut self, pick: u8) {
        let lost: HashSet<String> = self.receiver.lose(pick).into_iter().collect();
        if lost.is_empty() {
            return;
        }
        self.note("batch lost");
        let of_rotated = |life: &Life| {
            let is_lost = |line: &Line| line.is_partly_in(&lost);
            life.name() != Some(CURRENT) && life.lines.iter().any(is_lost)
        };
        if self.lives.iter().any(of_rotated) {
            self.note("batch of a rotated file lost");
        }
        let receiver = self.receiver.clone();
        let (safe, flying) = (receiver.safe(), receiver.texts());
        for life in &mut self.lives {
            if life.place == Place::Held {
                let lines = life.lines.iter_mut();
                for line in lines.filter(|line| line.is_partly_in(&lost)) {
                    line.excuse = Some("its file was gone, then its batch");
                }
            }
            if life.place == Place::Gone {
                life.excuse("its file was gone, then its batch", &safe, &flying);
            }
        }
        drop(safe);
        self.lost.extend(lost);
    }

    /// A clean stop. Outputs get `acks` batches done meanwhile.
    pub fn stop(&mut self, phase: Phase, acks: u8) -> Checked {
        let events = self.take_events();
        let Some(mut agent) = self.agent.take() else {
            return Ok(());
        };
        // What was told before the stop is looked at before it.
        agent.notice(events.unwrap_or_default());
        let receiver = self.receiver.clone();
        if phase == Phase::AtEnd {
            self.note("stopped at the end of files");
        }
        agent.stop(phase, || (0..acks).for_each(|_| receiver.ack(0)));
        self.check()?;
        if receiver.flying() > 0 {
            self.note("stopped with lines in flight");
        }
        receiver.lose_all();
        self.excuse_gone();
        let (safe, before) = (receiver.safe_now(), &self.told_safe);
        let lives = self.lives.iter().enumerate();
        let ends = lives.map(|(at, life)| {
            let from = before.get(&at).copied().unwrap_or_default();
            (at, life.end_behind(from, &*safe))
        });
        let mut told_safe: HashMap<usize, u64> = ends.collect();
        // The entry of a generation with a lost batch says where that begins, and is taken for that of a later life, too.
        let lost = |life: &&Life| life.lines.iter().any(|line| line.is_partly_in(&self.lost));
        let owed = self.lives.iter().filter(lost);
        let owed: HashSet<u64> = owed.map(|life| life.file.inode).collect();
        told_safe.retain(|at, _| {
            let life = &self.lives[*at];
            !owed.contains(&life.file.inode) || lost(&life)
        });
        self.told_safe = told_safe;
        Ok(())
    }

    /// The agent dies.
    pub fn kill(&mut self) -> Checked {
        self.pending = Seen::default();
        if self.agent.take().is_none() {
            return Ok(());
        }
        if self.receiver.flying() > 0 {
            self.note("killed with lines in flight");
        }
        self.check()?;
        self.receiver.lose_all();
        self.excuse_gone();
        self.told_safe.clear();
        Ok(())
    }

    /// The agent is gone, and with it what only it had.
    fn excuse_gone(&mut self) {
        let receiver = self.receiver.clone();
        let safe = receiver.safe();
        for life in self.lives.iter_mut().filter(|life| life.name().is_none()) {
            life.place = Place::Gone;
            life.excuse("gone when the agent stopped", &safe, &HashSet::new());
        }
    }

    /// Events since the agent was told of any; `None` where it gets none.
    pub fn take_events(&mut self) -> Option<Seen> {
        let events = std::mem::take(&mut self.pending);
        self.setup.events.then_some(events)
    }

    /// Something happened to these names.
    pub fn tell(&mut self, change: Change, names: &[&str]) {
        if self.setup.events && self.agent.is_some() {
            let paths = names.iter().map(|name| self.path(name)).collect();
            self.pending.note(change, paths);
        }
    }

    pub fn look(&mut self) -> Checked {
        let events = self.take_events();
        match &mut self.agent {
            Some(agent) => agent.look(events),
            None => self.start(),
        }
        self.check()
    }

    /// The agent looks for so long that it searches nothing any more.
    pub fn age(&mut self) -> Checked {
        self.look()?;
        self.agent.iter_mut().for_each(Agent::age);
        self.look()
    }

    /// What came is what was written, in order and once; and nothing is told to be safe that is not.
    pub fn check(&mut self) -> Checked {
        for text in self.receiver.take_came() {
            self.check_line(&text)?;
        }
        self.note_open_files();
        let safe = self.receiver.safe();
        let told = OnDisk::read(&self.pos_file()).positions();
        for (inode, positions) in told {
            let ends = self.lives.iter().filter(|life| life.file.inode == inode);
            // A position may be that of an earlier life of the inode: what is told of that one is not forgotten at once.
            let Some(end) = ends.map(|life| life.safe_end(&*safe)).max() else {
                continue;
            };
            if let Some(position) = positions.into_iter().find(|position| *position > end) {
                return Err(format!(
                    "R2: {position} of inode {inode} is told, safe are {end}"
                ));
            }
        }
        Ok(())
    }

    fn note_open_files(&mut self) {
        let Some(agent) = &self.agent else {
            return;
        };
        let held = agent.held();
        for life in &mut self.lives {
            life.given_up = !held.contains(&life.file) && agent.has_finished(life.file);
        }
    }

    fn check_line(&mut self, text: &str) -> Checked {
        let Some((life, number)) = self.whole.get(text).copied() else {
            return match self.pieces.contains(text) {
                true => {
                    self.note("half a line came as a line");
                    Ok(())
                }
                false => Err(format!("nobody wrote {text:?}")),
            };
        };
        let line = &self.lives[life].lines[number];
        if line.copied {
            return Ok(());
        }
        match self.last.insert(life, number) {
            Some(last) if last == number => return Err(format!("repeated: {text:?}")),
            Some(last) if last > number => return Err(format!("repeated or late: {text:?}")),
            _ => {}
        }
        let told_safe = self.told_safe.get(&life).copied().unwrap_or_default();
        match line.end <= told_safe {
            true => Err(format!("repeated after a clean stop: {text:?}")),
            false => Ok(()),
        }
    }

    /// Whether only a start reads what is missing.
    pub fn has_lost_batches(&self) -> bool {
        let mut lines = self.lives.iter().flat_map(|life| &life.lines);
        lines.any(|line| line.excuse.is_none() && line.is_partly_in(&self.lost))
    }

    /// What can be asked for, and is not safe.
    pub fn missing(&self) -> Vec<String> {
        let safe = self.receiver.safe();
        let lines = self.lives.iter().flat_map(|life| &life.lines);
        lines
            .filter(|line| line.excuse.is_none() && !line.is_in(&*safe))
            .map(|line| line.text.clone())
            .collect()
    }

    /// What happened here, all in all.
    pub fn events(&mut self) -> BTreeMap<&'static str, usize> {
        let lines = || self.lives.iter().flat_map(|life| &life.lines);
        let safe = self.receiver.safe();
        let again = safe.values().filter(|times| **times > 1).count();
        let (written, excused) = (
            lines().count(),
            lines().filter(|line| line.excuse.is_some()).count(),
        );
        for why in lines().filter_map(|line| line.excuse) {
            *self.seen.entry(why).or_default() += 1;
        }
        self.seen.insert(super::WRITTEN, written);
        self.seen.insert(super::EXCUSED, excused);
        self.seen.insert("came again after an interruption", again);
        std::mem::take(&mut self.seen)
    }

    /// What this world has to say of itself when a check failed.
    pub fn describe(&self) -> String {
        let safe = self.receiver.safe();
        let lives = self.lives.iter().map(|life| {
            let lines = life.lines.iter().map(|line| {
                let is_safe = if line.is_in(&*safe) { "safe" } else { "unsafe" };
                let text = &line.text[..line.text.len().min(20)];
                format!(
                    "\n    {}..{} {text:?} {is_safe} {:?}",
                    line.start, line.end, line.excuse
                )
            });
            format!(
                "\n  inode {} {:?} half {:?}{}",
                life.file.inode,
                life.place,
                life.half,
                lines.collect::<String>()
            )
        });
        let disk = |path| String::from_utf8_lossy(&fs::read(path).unwrap_or_default()).into_owned();
        let pos_file = disk(self.pos_file());
        let state = disk(state_file::path_for(&self.pos_file()));
        format!(
            "lives:{}\npos_file:\n{pos_file}state:\n{state}",
            lives.collect::<String>()
        )
    }
}
