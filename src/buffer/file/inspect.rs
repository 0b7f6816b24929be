//! Looks into a buffer directory, of Affluent or of Fluentd. Reading touches nothing, so it may be done beside a running agent.

use std::io::{self, ErrorKind};
use std::path::Path;

use anyhow::Context;
use bytes::Bytes;

use super::FILE_MODE;
use super::check::Checked;
use super::disk::{Directory, Disk, Entry, read as read_file};
use super::evidence::{Evidence, weigh};
use super::looked::Looked;
use super::meta::{self, Meta};
use super::name::{Found, Kind, Letter, Name, Naming};
use super::side::{self, Side};
use crate::buffer::{ChunkId, ChunkKey, ChunkKeys};
use crate::event::EventTime;
use crate::event::msgpack::{RawEntry, entries};

/// A chunk that is read here holds no more, compressed.
const MOST_BYTES: usize = 1 << 30;

/// A chunk in a directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seen {
    /// Its data file.
    pub file: String,
    /// `staged`, `queued` or `broken` (set aside).
    pub state: &'static str,
    /// Its id.
    pub id: ChunkId,
    /// What its events have in common, where it is known.
    pub key: Option<ChunkKey>,
    /// Bytes of data.
    pub bytes: u64,
    /// Events, as its metadata say.
    pub told: Option<u64>,
    /// Why a start would set it aside.
    pub trouble: Option<String>,
    name: Name,
    naming: Naming,
}

/// Names of the files beside a chunk's data.
pub(super) struct Files {
    /// What is written before it takes another's place.
    pub part: String,
    /// Checksums and positions.
    pub side: String,
    /// Fluentd's metadata.
    pub meta: String,
}

/// Names of the files of a new chunk.
pub(super) struct NewFiles {
    /// What is written before it takes the data's place.
    pub part: String,
    /// Checksums and positions.
    pub side: String,
    /// Fluentd's metadata, where the buffer has them.
    pub meta: Option<String>,
    /// The data.
    pub data: String,
}

/// A directory that is looked into.
#[derive(Debug)]
pub struct Inspection {
    disk: Directory,
    keys: ChunkKeys,
}

impl Inspection {
    /// Opens it.
    pub fn open(directory: &Path) -> anyhow::Result<Inspection> {
        let disk = Directory::open(directory, FILE_MODE);
        Ok(Inspection {
            disk: disk.with_context(|| format!("cannot open {}", directory.display()))?,
            keys: ChunkKeys::tag(),
        })
    }

    /// Its chunks, by name.
    pub fn chunks(&self) -> io::Result<Vec<Seen>> {
        let mut seen = Vec::new();
        for entry in self.disk.list()?.into_iter().filter(|entry| entry.regular) {
            seen.extend(self.look(&entry)?);
        }
        seen.sort_by(|one, other| one.file.cmp(&other.file));
        Ok(seen)
    }

    fn look(&self, entry: &Entry) -> io::Result<Option<Seen>> {
        let (whole, aside) = match entry.name.split_once(".broken") {
            Some((whole, _)) => (whole, true),
            None => (entry.name.as_str(), false),
        };
        let Some(naming) = Naming::guess(whole) else {
            return Ok(None);
        };
        let Found::Data(name) = naming.read(whole) else {
            return Ok(None);
        };
        let side = self.side(&naming, &name)?;
        let own = self.meta(&name.meta())?;
        let evidence = Evidence {
            letter: name.letter(),
            len: entry.len,
            // What was set aside with its metadata has them under the same ending.
            own: match self.meta(&entry.name.replacen(whole, &name.meta(), 1))? {
                Some(aside) => Some(aside),
                None => own,
            },
            other: self.meta(&name.with(name.letter().opposite()).meta())?,
            side: side.meta,
            named: naming.key(&name),
            modified: entry.modified,
        };
        let known = weigh(&evidence, &self.keys);
        let (key, told, trouble) = match known {
            Ok(known) => (Some(known.key), Some(known.records), None),
            Err(broken) => (None, None, Some(broken.to_string())),
        };
        Ok(Some(Seen {
            file: entry.name.clone(),
            state: match (aside, name.letter()) {
                (true, _) => "broken",
                (false, Letter::Staged) => "staged",
                (false, Letter::Queued) => "queued",
            },
            id: name.id(),
            key,
            bytes: entry.len,
            told,
            trouble,
            name,
            naming,
        }))
    }

    fn meta(&self, file: &str) -> io::Result<Option<Result<Meta, meta::Damaged>>> {
        match read_file(&self.disk, file, meta::MOST_BYTES) {
            Ok(bytes) => Ok(Some(Meta::decode(&bytes))),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn side(&self, naming: &Naming, name: &Name) -> io::Result<Side> {
        let mut side = match read_file(&self.disk, &naming.side(name.id()), 16 << 20) {
            Err(error) if error.kind() == ErrorKind::NotFound => Side::default(),
            bytes => side::decode(&bytes?),
        };
        if name.letter() == Letter::Queued {
            side.confirm();
        }
        Ok(side)
    }

    /// Checks the data of a chunk. Those of one that was set aside are read without their checksums: a sound chunk may have them now.
    pub fn verify(&self, seen: &Seen) -> io::Result<Checked> {
        Ok(self.read(seen)?.checked)
    }

    /// Gives each readable event of a chunk.
    pub fn each(
        &self,
        seen: &Seen,
        mut take: impl FnMut(RawEntry<'_>) -> io::Result<()>,
    ) -> io::Result<()> {
        let plain = self.read(seen)?.plain()?;
        entries(&plain)
            .filter_map(Result::ok)
            .try_for_each(&mut take)
    }

    pub(super) fn read(&self, seen: &Seen) -> io::Result<Looked> {
        let groups = match seen.state {
            "broken" => Vec::new(),
            _ => self.side(&seen.naming, &seen.name)?.groups,
        };
        let data = read_file(&self.disk, &seen.file, MOST_BYTES.min(seen.bytes as usize))?;
        Looked::at(data, &groups, seen.time())
    }

    pub(super) fn disk(&self) -> &dyn Disk {
        &self.disk
    }

    /// Names of the files beside a chunk's data.
    pub(super) fn files(&self, seen: &Seen) -> Files {
        Files {
            part: seen.naming.part(seen.id),
            side: seen.naming.side(seen.id),
            meta: seen.name.meta(),
        }
    }

    /// Names of the files of a new queued chunk in place of this one.
    pub(super) fn new_files(&self, seen: &Seen, id: ChunkId, key: &str) -> NewFiles {
        let name = seen.naming.name(id, Letter::Queued, key);
        NewFiles {
            part: seen.naming.part(id),
            side: seen.naming.side(id),
            meta: (seen.naming.kind == Kind::File).then(|| name.meta()),
            data: name.data(),
        }
    }

    /// Where its metadata are where they were set aside with it.
    pub(super) fn meta_aside(&self, seen: &Seen) -> String {
        seen.file.replacen(&seen.name.data(), &seen.name.meta(), 1)
    }

    /// The lock of its buffer.
    pub(super) fn lock_of(&self, seen: &Seen) -> String {
        seen.naming.lock()
    }

    /// Its metadata with this number of events, where they say another.
    pub(super) fn meta_with(&self, seen: &Seen, records: u64) -> io::Result<Option<Bytes>> {
        Ok(match self.meta(&seen.name.meta())? {
            Some(Ok(meta)) if meta.records != records => {
                Some(Meta { records, ..meta }.encode().into())
            }
            _ => None,
        })
    }
}

impl Seen {
    /// Its tag, where it is known.
    pub fn tag(&self) -> Option<&str> {
        let tag = self.key.as_ref().map(|key| key.tag.as_str());
        tag.filter(|tag| !tag.is_empty())
    }

    /// Where its time slice begins, Unix seconds.
    pub fn timekey(&self) -> Option<i64> {
        self.key.as_ref()?.timekey
    }

    /// The time of lines that were formatted: that of their slice.
    fn time(&self) -> EventTime {
        let sec = u32::try_from(self.timekey().unwrap_or_default());
        EventTime {
            sec: sec.unwrap_or_default(),
            nsec: 0,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::buffer::Compress;
    use crate::event::{Entries, EventTime};

    const ID: &str = "660d594200885010eead92f8e879e0bd";

    fn entry(message: &str) -> Vec<u8> {
        let mut batch = Entries::default();
        let mut record = batch.begin(EventTime { sec: 1, nsec: 0 });
        record.bin("message", message.as_bytes());
        record.finish();
        batch.freeze().0.to_vec()
    }

    #[test]
    fn chunks_are_seen_with_what_is_known_of_them_and_broken_ones_come_back() {
        let place = tempfile::tempdir().expect("a directory");
        let write = |name: String, content: &[u8]| {
            std::fs::write(place.path().join(name), content).expect("written")
        };
        write(format!("buffer.b{ID}.log"), &entry("staged"));
        write(format!("fsb.a%2Fb.q{ID}.buf"), &entry("single"));
        write(
            format!("buffer.q{ID}.log.broken"),
            &[&entry("one")[..], b"\xc1"].concat(),
        );
        write("notes.txt".into(), b"not a chunk");
        write(format!("buffer.b{ID}.log.meta"), b"no map");
        let inspection = Inspection::open(place.path()).expect("opens");
        let chunks = inspection.chunks().expect("listed");
        let seen: Vec<_> = chunks
            .iter()
            .map(|seen| (seen.state, seen.tag(), seen.trouble.is_some()))
            .collect();
        assert_eq!(
            seen,
            [
                ("staged", None, true),
                ("broken", None, true),
                ("queued", Some("a/b"), false)
            ]
        );
        let mut records = 0;
        inspection
            .each(&chunks[1], |_| {
                records += 1;
                Ok(())
            })
            .expect("readable");
        assert_eq!(records, 1);
        assert_eq!(
            inspection
                .verify(&chunks[1])
                .expect("readable")
                .lost_bytes(),
            1
        );
        let refused = inspection.requeue(place.path(), None).expect("not locked");
        assert!(
            refused[0]
                .1
                .as_ref()
                .is_err_and(|why| why.contains("--tag"))
        );
        let requeued = inspection
            .requeue(place.path(), Some("app"))
            .expect("not locked");
        assert_eq!(requeued[0].1, Ok(1));
        let again = inspection.chunks().expect("listed");
        let back = again
            .iter()
            .find(|seen| seen.tag() == Some("app"))
            .expect("queued");
        assert_eq!(
            (back.state, back.told, back.bytes),
            ("queued", Some(1), entry("one").len() as u64)
        );
        assert!(again.iter().all(|seen| seen.state != "broken"));
    }

    #[test]
    fn what_a_chunk_is_keyed_by_comes_back_with_it() {
        let place = tempfile::tempdir().expect("a directory");
        let write = |name: String, content: &[u8]| {
            std::fs::write(place.path().join(name), content).expect("written")
        };
        let meta = Meta {
            timekey: Some(3600),
            tag: None,
            variables: Some(vec![("host".into(), b"\xa1h".to_vec())]),
            seq: 0,
            id: ChunkId::from_hex(ID).expect("an id"),
            records: 1,
            created: 1,
            modified: 1,
        };
        write(format!("buffer.q{ID}.log.broken"), &entry("one"));
        write(format!("buffer.q{ID}.log.meta.broken"), &meta.encode());
        let inspection = Inspection::open(place.path()).expect("opens");
        let requeued = inspection.requeue(place.path(), None).expect("not locked");
        assert_eq!(requeued[0].1, Ok(1));
        let back = inspection.chunks().expect("listed").remove(0);
        let told = inspection.meta(&back.name.meta()).expect("readable");
        let told = told.expect("there").expect("sound");
        assert_eq!((told.timekey, told.tag), (meta.timekey, None));
        assert_eq!(told.variables, meta.variables);
    }

    #[test]
    fn chunks_of_v0_12_are_seen() {
        let place = tempfile::tempdir().expect("a directory");
        let file = place.path().join("secure.app.access.q5a1b2c3d4e5f6071.log");
        std::fs::write(file, entry("one")).expect("written");
        let inspection = Inspection::open(place.path()).expect("opens");
        let seen = inspection.chunks().expect("listed").remove(0);
        assert_eq!((seen.state, seen.tag()), ("queued", Some("app.access")));
        assert_eq!(inspection.verify(&seen).expect("readable").records, 1);
    }

    #[test]
    fn formatted_text_is_sound_whether_compressed_or_with_odd_bytes() {
        let text = b"one\x7f\ntwo \xe9\n";
        for compress in [Compress::Text, Compress::Gzip, Compress::Zstd] {
            let place = tempfile::tempdir().expect("a directory");
            let data = compress.pack(&[text]).expect("packed");
            std::fs::write(place.path().join(format!("buffer.b{ID}.log")), data).expect("written");
            let inspection = Inspection::open(place.path()).expect("opens");
            let seen = inspection.chunks().expect("listed").remove(0);
            let checked = inspection.verify(&seen).expect("readable");
            assert!(checked.is_sound() && checked.records == 2, "{compress:?}");
            let mut lines = Vec::new();
            let mut take = |entry: RawEntry<'_>| {
                lines.extend_from_slice(
                    crate::event::formatted::line(entry.record).expect("a line"),
                );
                Ok(())
            };
            inspection.each(&seen, &mut take).expect("readable");
            assert_eq!(lines, text);
        }
    }
}
