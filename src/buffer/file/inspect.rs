//! Looks into a buffer directory, of Affluent or of Fluentd, and puts back what was set aside. Reading touches nothing, so it may be done
//! beside a running agent; putting back takes the lock.

use std::io::{self, ErrorKind};
use std::path::Path;
use std::time::SystemTime;

use anyhow::{Context, ensure};
use bytes::Bytes;

use super::check::{self, Checked, Kept};
use super::disk::{Directory, Disk, Entry, read as read_file};
use super::evidence::{Evidence, weigh};
use super::formatted;
use super::meta::{self, Meta};
use super::name::{Found, Letter, Name, Naming};
use super::side::{self, Side};
use super::{FILE_MODE, lock};
use crate::buffer::{ChunkId, ChunkKeys, Compress};
use crate::event::EventTime;
use crate::event::msgpack::{RawEntry, entries};

/// A chunk that is read here holds no more, compressed.
const MOST_BYTES: usize = 1 << 30;
/// A compressed chunk holds no more.
const MOST_INFLATED: u64 = 1 << 30;

/// A chunk in a directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seen {
    /// Its data file.
    pub file: String,
    /// `staged`, `queued` or `broken` (set aside).
    pub state: &'static str,
    /// Its id.
    pub id: ChunkId,
    /// Its tag, where it is known.
    pub tag: Option<String>,
    /// Where its time slice begins, Unix seconds.
    pub timekey: Option<i64>,
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
        let (tag, timekey, told) = match &known {
            Ok(known) => (
                Some(known.key.tag.to_string()),
                known.key.timekey,
                Some(known.records),
            ),
            Err(_) => (None, None, None),
        };
        Ok(Some(Seen {
            file: entry.name.clone(),
            state: match (aside, name.letter()) {
                (true, _) => "broken",
                (false, Letter::Staged) => "staged",
                (false, Letter::Queued) => "queued",
            },
            id: name.id(),
            tag: tag.filter(|tag| !tag.is_empty()),
            timekey,
            bytes: entry.len,
            told,
            trouble: known.err().map(|broken| broken.to_string()),
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
        let groups = match seen.state {
            "broken" => Vec::new(),
            _ => self.side(&seen.naming, &seen.name)?.groups,
        };
        let mut read = |at: u64, buffer: &mut [u8]| self.disk.read_at(&seen.file, at, buffer);
        let checked = check::check(&mut read, seen.bytes, &groups)?;
        if checked.records > 0 || !groups.is_empty() || !self.holds_text(seen)? {
            return Ok(checked);
        }
        // Lines that a Fluentd has formatted.
        let data = read_file(&self.disk, &seen.file, MOST_BYTES.min(seen.bytes as usize))?;
        let Ok(text) = formatted::inflate(data, MOST_INFLATED) else {
            return Ok(checked);
        };
        let mut read = |at: u64, buffer: &mut [u8]| Ok(formatted::copy(&text, at, buffer));
        let range = 0..text.len() as u64;
        Ok(Checked {
            kept: vec![Kept::Range(0..seen.bytes)],
            records: formatted::each_piece(&mut read, range, time_of(seen), |_| Ok(()))?,
            ..Checked::default()
        })
    }

    /// Gives each readable event of a chunk.
    pub fn each(
        &self,
        seen: &Seen,
        mut take: impl FnMut(RawEntry<'_>) -> io::Result<()>,
    ) -> io::Result<()> {
        let checked = self.verify(seen)?;
        let plain = self.plain(seen, &checked)?;
        entries(&plain)
            .filter_map(Result::ok)
            .try_for_each(&mut take)
    }

    /// Whether the data are lines that were formatted, plain or compressed.
    pub(super) fn holds_text(&self, seen: &Seen) -> io::Result<bool> {
        if !self.side(&seen.naming, &seen.name)?.groups.is_empty() {
            return Ok(false);
        }
        let data = read_file(&self.disk, &seen.file, MOST_BYTES.min(seen.bytes as usize))?;
        let first = match Compress::of(&data) {
            Compress::Text => data,
            packed => packed.member(&data, MOST_INFLATED).0,
        };
        Ok(formatted::is_foreign(&first))
    }

    /// Its entries that can be read, inflated; those of formatted lines where it holds such.
    pub(super) fn plain(&self, seen: &Seen, checked: &Checked) -> io::Result<Vec<u8>> {
        let data = self.kept(seen, checked)?;
        if checked.kept.len() != 1 || !self.holds_text(seen)? {
            return check::unpack(&data, MOST_INFLATED);
        }
        let data = formatted::inflate(data, MOST_INFLATED)?;
        let mut read = |at: u64, buffer: &mut [u8]| Ok(formatted::copy(&data, at, buffer));
        let mut plain = Vec::new();
        formatted::each_piece(&mut read, 0..data.len() as u64, time_of(seen), |piece| {
            plain.extend(piece);
            Ok(())
        })?;
        Ok(plain)
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

    /// Its metadata with this number of events, where they say another.
    pub(super) fn meta_with(&self, seen: &Seen, records: u64) -> io::Result<Option<Bytes>> {
        Ok(match self.meta(&seen.name.meta())? {
            Some(Ok(meta)) if meta.records != records => {
                Some(Meta { records, ..meta }.encode().into())
            }
            _ => None,
        })
    }

    fn kept(&self, seen: &Seen, checked: &Checked) -> io::Result<Vec<u8>> {
        let all = read_file(&self.disk, &seen.file, MOST_BYTES.min(seen.bytes as usize))?;
        let part = |kept: &Kept| match kept {
            Kept::Range(range) => all
                .get(range.start as usize..range.end as usize)
                .unwrap_or(&[])
                .to_vec(),
            Kept::Rebuilt(bytes) => bytes.clone(),
        };
        Ok(checked.kept.iter().flat_map(part).collect())
    }

    /// Makes queued chunks of those that were set aside, as far as they can be read: with a new id each, since the old one may have been
    /// delivered. `tag` is for those whose own is lost. Gives what became of each: events that are queued again, or why not.
    pub fn requeue(
        &self,
        directory: &Path,
        tag: Option<&str>,
    ) -> anyhow::Result<Vec<(Seen, Result<u64, String>)>> {
        let mut done = Vec::new();
        for seen in self
            .chunks()?
            .into_iter()
            .filter(|seen| seen.state == "broken")
        {
            let _lock = lock::take(directory, &seen.naming.lock())?;
            let requeued = self
                .requeue_one(&seen, tag)
                .map_err(|error| format!("{error:#}"));
            done.push((seen, requeued));
        }
        Ok(done)
    }

    fn requeue_one(&self, seen: &Seen, tag: Option<&str>) -> anyhow::Result<u64> {
        let tag = seen
            .tag
            .as_deref()
            .or(tag)
            .context("its tag is not known: give it with --tag")?;
        let checked = self.verify(seen)?;
        ensure!(checked.records > 0, "no record of it can be read");
        let id = ChunkId::new(SystemTime::now());
        let now = i64::try_from(
            SystemTime::now()
                .duration_since(SystemTime::UNIX_EPOCH)?
                .as_secs(),
        )?;
        let meta = Meta {
            timekey: seen.timekey,
            tag: Some(tag.to_owned()),
            variables: None,
            seq: 0,
            id,
            records: checked.records,
            created: now,
            modified: now,
        };
        let name = seen.naming.name(id, Letter::Queued, tag);
        let part = seen.naming.part(id);
        self.disk
            .create(&part, &[self.kept(seen, &checked)?.into()])?;
        self.disk
            .create(&seen.naming.side(id), &[side::head(&meta).into()])?;
        self.disk.create(&name.meta(), &[meta.encode().into()])?;
        for file in [&part, &seen.naming.side(id), &name.meta()] {
            self.disk.sync(file)?;
        }
        self.disk.rename(&part, &name.data())?;
        self.disk.sync_directory()?;
        self.disk.remove(&seen.file)?;
        // There are none where only the data were damaged.
        let _ = self
            .disk
            .remove(&seen.file.replacen(&seen.name.data(), &seen.name.meta(), 1));
        Ok(checked.records)
    }
}

/// The time of lines that were formatted: that of their slice.
fn time_of(seen: &Seen) -> EventTime {
    let sec = u32::try_from(seen.timekey.unwrap_or_default());
    EventTime {
        sec: sec.unwrap_or_default(),
        nsec: 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
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
            .map(|seen| (seen.state, seen.tag.as_deref(), seen.trouble.is_some()))
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
            .find(|seen| seen.tag.as_deref() == Some("app"))
            .expect("queued");
        assert_eq!(
            (back.state, back.told, back.bytes),
            ("queued", Some(1), entry("one").len() as u64)
        );
        assert!(again.iter().all(|seen| seen.state != "broken"));
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
