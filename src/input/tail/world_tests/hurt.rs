//! What happens to the two files in which positions stand, while nobody runs.

use std::fs;
use std::time::SystemTime;

use super::super::state_file;
use super::world::World;

/// A text and the time of its file.
pub type Timed = (Vec<u8>, SystemTime);

/// What happens to the pos_file and its side file.
#[derive(Clone, Copy, Debug)]
pub enum Hurt {
    CutPosFile(u8),
    EmptyPosFile,
    GarbageInPosFile,
    CutState(u8),
    GarbageInState,
    NoState,
    NoPosFile,
    /// The agent died between its two files: the side file is new, the pos_file old.
    HalfWritten,
}

impl World {
    /// Damages the pos_file or its side file while nobody runs.
    pub fn hurt(&mut self, hurt: Hurt) {
        if self.agent.is_some() {
            return;
        }
        let is_pos_file = matches!(
            hurt,
            Hurt::CutPosFile(_) | Hurt::EmptyPosFile | Hurt::GarbageInPosFile | Hurt::NoPosFile
        );
        let path = match is_pos_file {
            true => self.pos_file(),
            false => state_file::path_for(&self.pos_file()),
        };
        if let Hurt::HalfWritten = hurt {
            return self.write_half();
        }
        let Ok(mut text) = fs::read(&path) else {
            return;
        };
        self.is_hurt = true;
        self.note(if is_pos_file {
            "pos_file damaged"
        } else {
            "side file damaged"
        });
        match hurt {
            Hurt::CutPosFile(at) | Hurt::CutState(at) => {
                text.truncate(text.len() * usize::from(at) / 256);
            }
            Hurt::EmptyPosFile => text.clear(),
            Hurt::GarbageInPosFile | Hurt::GarbageInState => text.extend(b"garbage\n"),
            Hurt::NoState | Hurt::NoPosFile => return fs::remove_file(&path).expect("removed"),
            Hurt::HalfWritten => {}
        }
        fs::write(&path, text).expect("written");
    }

    fn write_half(&mut self) {
        let Some((text, time)) = self.before_write.take() else {
            return;
        };
        self.is_hurt = true;
        self.note("a write of positions cut off");
        fs::write(self.pos_file(), text).expect("written");
        let file = fs::File::options().write(true).open(self.pos_file());
        file.and_then(|file| file.set_modified(time))
            .expect("an old time");
    }

    /// What stands in both files.
    fn written_down(&self) -> (Option<Timed>, Option<Vec<u8>>) {
        let pos_file = fs::read(self.pos_file()).ok().zip(
            fs::metadata(self.pos_file())
                .and_then(|meta| meta.modified())
                .ok(),
        );
        (
            pos_file,
            fs::read(state_file::path_for(&self.pos_file())).ok(),
        )
    }

    /// Does something with the agent, and remembers the pos_file that it replaces together with the side file.
    pub fn driven<T>(&mut self, act: impl FnOnce(&mut World) -> T) -> T {
        let (pos_file, state) = self.written_down();
        let done = act(self);
        let (pos_file_now, state_now) = self.written_down();
        if pos_file != pos_file_now && state != state_now {
            self.before_write = pos_file;
        } else if pos_file != pos_file_now || state != state_now {
            // Only what was before the last change of all can be left.
            self.before_write = None;
        }
        done
    }
}
