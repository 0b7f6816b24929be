//! Chunks of a Fluentd with several workers: each keeps its own in `PATH/workerN`, and worker 0 looks into `PATH` as well. One process does the
//! work of them all here, so it moves their chunks to where its own are.
//!
//! The data go last: a crash leaves them where the next start looks again.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::Settings;
use super::name::Found;

/// More workers are nobody's.
const MOST_WORKERS: usize = 64;

/// Directories that may hold chunks of other workers, or of a time with another number of them.
pub fn beside(directory: &Path, of_worker: impl Fn(usize) -> PathBuf) -> Vec<PathBuf> {
    let all = (0..MOST_WORKERS).map(of_worker);
    all.filter(|other| other != directory).collect()
}

/// Moves the chunks that stand there; tells how many.
pub fn adopt(settings: &Settings) -> io::Result<usize> {
    let mut moved = 0;
    for other in settings.beside.iter().filter(|other| other.is_dir()) {
        for entry in fs::read_dir(other)? {
            let entry = entry?;
            let name = entry.file_name();
            let Found::Data(name) = settings.naming.read(&name.to_string_lossy()) else {
                continue;
            };
            // A chunk of this name that is here already stays, and so does the other.
            if !entry.file_type()?.is_file() || settings.directory.join(name.data()).exists() {
                continue;
            }
            for file in [settings.naming.side(name.id()), name.meta(), name.data()] {
                match fs::rename(other.join(&file), settings.directory.join(&file)) {
                    Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                    done => done?,
                }
            }
            moved += 1;
        }
    }
    Ok(moved)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::buffer::file::Kind;
    use crate::buffer::file::params::{Home, configure};
    use crate::config::Element;

    const ID: &str = "660d594200885010eead92f8e879e0bd";

    fn settings(path: &Path, workers: u32) -> Settings {
        let nothing = Element::default();
        let mut section = Element::synthetic(&nothing, "buffer", None);
        section.set_text("path", &path.display().to_string());
        let home = Home {
            root_dir: None,
            id: None,
            workers,
        };
        configure(&section, Kind::File, home).expect("valid")
    }

    #[test]
    fn chunks_of_every_worker_come_to_where_the_one_process_keeps_its_own() {
        for (workers, own) in [(1, ""), (3, "worker0")] {
            let place = tempfile::tempdir().expect("a directory");
            for (at, other) in ["", "worker0", "worker1", "worker2"].iter().enumerate() {
                let other = place.path().join(other);
                fs::create_dir_all(&other).expect("made");
                let name = format!("buffer.b{}{at}.log", &ID[1..]);
                fs::write(other.join(format!("{name}.meta")), "meta").expect("written");
                fs::write(other.join(name), "data").expect("written");
                fs::write(other.join("notes.txt"), "somebody's").expect("written");
            }
            let settings = settings(place.path(), workers);
            assert_eq!(settings.directory, place.path().join(own));
            assert_eq!(adopt(&settings).expect("moved"), 3);
            let all = fs::read_dir(&settings.directory).expect("listed");
            let files =
                all.filter(|entry| entry.as_ref().is_ok_and(|entry| entry.path().is_file()));
            assert_eq!(files.count(), 4 * 2 + 1, "chunks, metadata and a note");
            assert_eq!(adopt(&settings).expect("nothing left"), 0);
        }
    }
}
