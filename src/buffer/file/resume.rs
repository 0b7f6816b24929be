//! What a stop, a crash or a Fluentd left in the directory: found, checked, and where it is damaged set aside, with what can be read of
//! it going on.

use std::collections::HashMap;
use std::io::{self, ErrorKind};
use std::sync::Arc;

use bytes::Bytes;
use tracing::{debug, error, info, warn};

use super::aside::{link_aside, put_aside};
use super::check::{self, Checked, Kept};
use super::content::{Content, PIECE, Standing};
use super::disk::{Disk, Entry, read};
use super::evidence::{Evidence, Known, weigh};
use super::meta::{self, Meta};
use super::name::{Found, Kind, Letter, Name};
use super::recall::{end, linger};
use super::side::{self, Group, Side};
use super::work::Work;
use crate::buffer::{ChunkId, ChunkKeys};

/// No side file is longer: a chunk of hundreds of thousands of groups.
const MOST_SIDE: usize = 16 << 20;

/// A chunk that was found. Its data are not checked yet.
#[derive(Debug)]
pub struct Left {
    /// The chunk.
    pub content: Arc<Content>,
    /// Staged or queued.
    pub letter: Letter,
    /// When it was written to, Unix seconds.
    pub modified: i64,
    /// Bytes of data.
    pub len: u64,
    /// Events in it, as its metadata say.
    pub records: u64,
    pub(super) name: Name,
    pub(super) side: Side,
}

/// What became of a chunk that was checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// It goes on, with so many bytes and events. `lost` bytes could not be read and stand in a file that was set aside.
    Goes {
        /// Bytes of its data.
        len: u64,
        /// Events in them.
        records: u64,
        /// Bytes that could not be read.
        lost: u64,
    },
    /// Nothing of it can be read, now: it is set aside or left where it is.
    Stays,
}

/// Everything that is in a directory, by name.
struct Files {
    data: Vec<(Name, Entry)>,
    metas: HashMap<String, Name>,
    sides: Vec<ChunkId>,
}

/// Finds the chunks, oldest first. `set_aside` hears of each that is broken.
pub fn find(
    work: &Arc<Work>,
    keys: &ChunkKeys,
    mut set_aside: impl FnMut(),
) -> io::Result<Vec<Left>> {
    let files = list(work)?;
    let mut left = Vec::new();
    for (name, entry) in &files.data {
        let mut side = side_of(work, name)?;
        if side.over {
            // Delivered: only the end of its files is missing.
            end(work, name, &side)?;
            continue;
        }
        if name.letter() == Letter::Queued {
            // It got this letter when all of it was durable.
            side.confirm();
            work.recall.note(side.safe_within(entry.len));
        }
        let evidence = Evidence {
            letter: name.letter(),
            len: entry.len,
            own: meta_of(work, name)?,
            other: meta_of(work, &name.with(name.letter().opposite()))?,
            side: side.meta.clone(),
            named: work.naming.key(name),
            modified: entry.modified,
        };
        match weigh(&evidence, keys) {
            Ok(known) => left.push(take(work, name, entry.len, known, side)),
            Err(broken) => {
                set_aside();
                put_aside(work, name, &broken.to_string());
            }
        }
    }
    clean(work, &files)?;
    // A process that was killed may have left names that only the kernel knows; from here on they are counted on.
    work.disk.sync_directory()?;
    left.sort_by_key(|chunk| (chunk.modified, chunk.content.id));
    Ok(left)
}

fn list(work: &Work) -> io::Result<Files> {
    let mut files = Files {
        data: Vec::new(),
        metas: HashMap::new(),
        sides: Vec::new(),
    };
    for entry in work.disk.list()? {
        match work.naming.read(&entry.name) {
            Found::Data(_) | Found::Meta(_) | Found::Side(_) if !entry.regular => {
                warn!(
                    path = work.options.path,
                    file = entry.name,
                    "this is no regular file, it is not touched"
                );
            }
            Found::Data(name) => files.data.push((name, entry)),
            Found::Meta(name) => drop(files.metas.insert(entry.name, name)),
            Found::Side(id) => files.sides.push(id),
            // It never became a chunk: nothing of it was released.
            Found::Part(_) => remove(work, &entry.name),
            Found::Broken | Found::Other => {}
        }
    }
    Ok(files)
}

fn take(work: &Arc<Work>, name: &Name, len: u64, mut known: Known, side: Side) -> Left {
    // A damaged number must not go into the sum of all.
    known.records = known.records.min(len);
    let standing = Standing {
        name: Some(name.clone()),
        len,
        records: known.records,
        told: known.records,
        side: side.len,
        sealed: name.letter() == Letter::Queued,
        recalled: !side.claims.is_empty(),
        ..Standing::default()
    };
    debug!(path = name.data(), "restoring buffer file");
    let content = Content::found(work.clone(), name.id(), known.key, known.created, standing);
    if !known.by_own_meta && work.naming.kind == Kind::File && !name.is_v0_12() {
        write_meta(work, name, &content.meta(known.records, known.modified));
    }
    Left {
        letter: name.letter(),
        modified: known.modified,
        len,
        records: known.records,
        name: name.clone(),
        side,
        content,
    }
}

/// Metadata that were found elsewhere: from now on they stand where they belong.
fn write_meta(work: &Work, name: &Name, meta: &Meta) {
    let part = work.naming.part(name.id());
    let write = || -> io::Result<()> {
        work.disk.create(&part, &[Bytes::from(meta.encode())])?;
        work.disk.sync(&part)?;
        work.disk.rename(&part, &name.meta())
    };
    match write() {
        Ok(()) => warn!(
            path = work.options.path,
            file = name.meta(),
            "metadata were missing or damaged, they are written again"
        ),
        Err(error) => {
            warn!(path = work.options.path, file = name.meta(), %error, "metadata are missing or damaged and cannot be written")
        }
    }
}

fn meta_of(work: &Work, name: &Name) -> io::Result<Option<Result<Meta, meta::Damaged>>> {
    Ok(content_of(&*work.disk, &name.meta(), meta::MOST_BYTES)?.map(|bytes| Meta::decode(&bytes)))
}

fn side_of(work: &Work, name: &Name) -> io::Result<Side> {
    let bytes = content_of(&*work.disk, &work.naming.side(name.id()), MOST_SIDE)?;
    Ok(side::decode(&bytes.unwrap_or_default()))
}

fn content_of(disk: &dyn Disk, name: &str, most: usize) -> io::Result<Option<Vec<u8>>> {
    match read(disk, name, most) {
        Ok(bytes) => Ok(Some(bytes)),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// Metadata and side files whose data are gone: a purge that a crash cut off.
fn clean(work: &Work, files: &Files) -> io::Result<()> {
    let known = |name: &Name| files.data.iter().any(|(data, _)| data == name);
    for (file, name) in &files.metas {
        if !known(name) {
            remove(work, file);
        }
    }
    for id in &files.sides {
        if files.data.iter().any(|(name, _)| name.id() == *id) {
            continue;
        }
        let file = work.naming.side(*id);
        let side = content_of(&*work.disk, &file, MOST_SIDE)?;
        let side = side::decode(&side.unwrap_or_default());
        match side.over && !side.claims.is_empty() {
            true => linger(work, *id, &side),
            // It never became a chunk, or nobody waits for it.
            false => remove(work, &file),
        }
    }
    Ok(())
}

fn remove(work: &Work, file: &str) {
    debug!(
        path = work.options.path,
        file, "removing what a crash left of no chunk"
    );
    if let Err(error) = work.disk.remove(file) {
        warn!(path = work.options.path, file, %error, "cannot remove a leftover");
    }
}

impl Left {
    /// Whether it waits for its time. v0.12 queued at its start what it had staged.
    pub fn is_staged(&self) -> bool {
        self.letter == Letter::Staged && !self.name.is_v0_12()
    }

    /// Checks the data. What is damaged is set aside, and what can be read of it goes on under the same id.
    pub fn check(&self, work: &Work) -> Fate {
        match self.try_check(work) {
            Ok(fate) => fate,
            Err(error) => {
                error!(
                    path = work.options.path, file = self.name.data(), %error,
                    "cannot read a chunk or write what can be read of it, it stays where it is until the next start"
                );
                Fate::Stays
            }
        }
    }

    fn try_check(&self, work: &Work) -> io::Result<Fate> {
        if let Some(fate) = self.take_text(work)? {
            return Ok(fate);
        }
        let file = self.name.data();
        let mut read = |at: u64, buffer: &mut [u8]| work.disk.read_at(&file, at, buffer);
        let checked = check::check(&mut read, self.len, &self.side.groups)?;
        if checked.is_whole() {
            self.tell_doubt(work, &checked);
            self.forget_announced(work, self.len);
            if checked.is_sound() {
                self.recall(work, self.len)?;
            }
            // From now on its checksums are those of what is there.
            let unknown = self.side.groups.is_empty() && self.letter == Letter::Staged;
            if (!checked.is_sound() || unknown)
                && let Err(error) = self.write_side(work, self.len, &checked)
            {
                let path = &work.options.path;
                warn!(path, file = self.name.data(), %error, "cannot write the side file of a chunk, it goes on without");
            }
            return Ok(self.goes(self.len, &checked, checked.missing));
        }
        if let Some(end) = checked.cut() {
            work.disk.truncate(&file, end)?;
            work.disk.sync(&file)?;
            self.forget_announced(work, end);
            info!(
                path = work.options.path,
                file,
                bytes = checked.lost_bytes(),
                "a crash interrupted the last write of a chunk, its fragment is cut off"
            );
            self.recall(work, end)?;
            return Ok(self.goes(end, &checked, 0));
        }
        if checked.records == 0 {
            put_aside(work, &self.name, "no record can be read");
            return Ok(Fate::Stays);
        }
        let salvaged = self.salvage(work, &checked);
        salvaged.inspect_err(|_| self.remove_part(work))
    }

    /// What is safe with the first `len` bytes; of a queued chunk that is known before it is checked.
    fn recall(&self, work: &Work, len: u64) -> io::Result<()> {
        if self.letter == Letter::Queued || self.side.claims.is_empty() {
            return Ok(());
        }
        if work.options.sync && self.side.groups.last().is_some_and(|last| !last.confirmed) {
            // A process that was killed may have left its last group to the kernel, and positions will now pass it.
            work.disk.sync(&self.name.data())?;
        }
        work.recall.note(self.side.safe_within(len));
        Ok(())
    }

    /// A last group that was announced and of which nothing stands behind these `len` bytes: once the chunk has the letter that says that all
    /// of it was durable, it would be missed.
    fn forget_announced(&self, work: &Work, len: u64) {
        let last = self.side.groups.last();
        if !last.is_some_and(|last| !last.confirmed && last.start >= len) {
            return;
        }
        let side = work.naming.side(self.content.id);
        let cut = work.disk.truncate(&side, self.side.announced);
        match cut.and_then(|()| work.disk.sync(&side)) {
            Ok(()) => self.content.standing().side = self.side.announced,
            Err(error) => {
                let path = &work.options.path;
                warn!(path, file = side, %error, "cannot take back what was announced of a chunk");
            }
        }
    }

    /// All that is there can be read, and it is not all that was written, or something else.
    fn tell_doubt(&self, work: &Work, checked: &Checked) {
        let (path, file, records) = (&work.options.path, self.name.data(), checked.records);
        if checked.missing > 0 {
            error!(
                path,
                file,
                records,
                lost_bytes = checked.missing,
                "found broken chunk file during resume. its end is missing, the records before it go on"
            );
        }
        if checked.altered > 0 {
            error!(
                path,
                file,
                records,
                altered_bytes = checked.altered,
                "found broken chunk file during resume. its checksum does not hold, its records go on as they can be read"
            );
        }
    }

    pub(super) fn goes(&self, len: u64, checked: &Checked, lost: u64) -> Fate {
        let mut standing = self.content.standing();
        standing.len = len;
        standing.records = checked.records;
        standing.packed = checked.packed;
        Fate::Goes {
            len,
            records: checked.records,
            lost,
        }
    }

    /// The original gets another name, and the chunk's name what can be read of it.
    fn salvage(&self, work: &Work, checked: &Checked) -> io::Result<Fate> {
        let (disk, file, part) = (
            &*work.disk,
            self.name.data(),
            work.naming.part(self.content.id),
        );
        let _ = disk.remove(&part);
        disk.create(&part, &[])?;
        let mut len = 0;
        for kept in &checked.kept {
            each_piece(disk, &file, kept, &mut |bytes| {
                disk.write_at(&part, len, std::slice::from_ref(&bytes))?;
                len += bytes.len() as u64;
                Ok(())
            })?;
        }
        disk.sync(&part)?;
        let aside = link_aside(disk, &file)?;
        disk.rename(&part, &file)?;
        self.write_side(work, len, checked)?;
        disk.sync_directory()?;
        error!(
            path = work.options.path,
            file,
            records = checked.records,
            lost_bytes = checked.lost_bytes(),
            set_aside = aside,
            "found broken chunk file during resume. its readable records go on, the file is kept aside"
        );
        Ok(self.goes(len, checked, checked.lost_bytes()))
    }
}

impl Left {
    /// What was not finished: on a full disk it would take the room that the next try needs.
    pub(super) fn remove_part(&self, work: &Work) {
        let _ = work.disk.remove(&work.naming.part(self.content.id));
    }

    /// A side file for data that have none, or have been written anew.
    pub(super) fn write_side(&self, work: &Work, len: u64, checked: &Checked) -> io::Result<()> {
        let (disk, file) = (&*work.disk, self.name.data());
        let mut read = |at: u64, buffer: &mut [u8]| disk.read_at(&file, at, buffer);
        let crc = check::crc_of(&mut read, 0..len)?.ok_or(ErrorKind::UnexpectedEof)?;
        let group = Group {
            start: 0,
            end: len,
            records: u32::try_from(checked.records).unwrap_or(u32::MAX),
            crc,
            confirmed: true,
        };
        let head = side::head(&self.content.side_meta());
        let side = [head, side::group(&group), side::confirm()].concat();
        self.content.standing().side = side.len() as u64;
        let (name, part) = (
            work.naming.side(self.content.id),
            work.naming.part(self.content.id),
        );
        let _ = disk.remove(&part);
        disk.create(&part, &[Bytes::from(side)])?;
        disk.sync(&part)?;
        disk.rename(&part, &name)
    }
}

fn each_piece(
    disk: &dyn Disk,
    file: &str,
    kept: &Kept,
    take: &mut dyn FnMut(Bytes) -> io::Result<()>,
) -> io::Result<()> {
    match kept {
        Kept::Rebuilt(bytes) => take(Bytes::from(bytes.clone())),
        Kept::Range(range) => {
            let mut at = range.start;
            while at < range.end {
                let mut buffer = vec![0; PIECE.min((range.end - at) as usize)];
                let read = disk.read_at(file, at, &mut buffer)?;
                if read == 0 {
                    return Err(ErrorKind::UnexpectedEof.into());
                }
                buffer.truncate(read);
                at += read as u64;
                take(Bytes::from(buffer))?;
            }
            Ok(())
        }
    }
}

#[cfg(test)]
#[path = "resume_tests.rs"]
mod tests;
