//! One group of appends on its way to the disk, and the end of a chunk's files: the order of operations that makes a crash at any of
//! them cost duplicates at most.
//!
//! ```text
//! a new chunk          side, NAME.meta, PART (data) │ sync all  │ PART becomes NAME │ sync the directory │ receipts
//! one that grows       side │ sync it │ data        │ sync data │ confirm in side   │                    │ receipts
//! one that is sealed   NAME.q.meta                  │ sync it   │ b becomes q, b's meta goes
//! one that is over     it says so in side, data goes, then NAME.meta; side when the positions are written
//! ```
//!
//! So a file with a chunk's name always has its metadata and holds a whole group; what a crash leaves half-way has no such name.

use std::io::{self, ErrorKind};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use tracing::error;

use super::claims::{self, Claims};
use super::content::{Content, Standing};
use super::disk::Disk;
use super::name::{Kind, Letter, Name};
use super::recall::Lingering;
use super::side::{self, Group};
use super::work::Work;
use crate::buffer::Compress;
use crate::event::Receipt;

/// What is to be written of one chunk.
struct Step {
    content: Arc<Content>,
    /// Where it is now; `None`: nowhere.
    from: Option<Name>,
    /// Its name afterwards.
    to: Name,
    /// Its bytes now.
    len: u64,
    side: u64,
    ragged: bool,
    /// What comes behind them, as the file will hold it.
    data: Vec<Bytes>,
    group: Option<Group>,
    /// What is safe with them.
    claims: Claims,
    /// What the side file says of both; of a new chunk with its first frame.
    frames: Bytes,
    /// How many pending appends that is.
    taken: usize,
    /// Events in the whole chunk afterwards.
    records: u64,
}

/// Writes what is pending of these chunks; says whether there was anything. After an error none of them has changed, as far as the disk
/// still allows.
pub fn commit(work: &Work, contents: &[Arc<Content>]) -> io::Result<bool> {
    let mut steps = Vec::new();
    for content in contents {
        steps.extend(plan(work, content)?);
    }
    claims::settle(&mut steps.iter_mut().map(|step| &mut step.claims));
    steps.iter_mut().for_each(frame);
    if let Err(error) = write_all(work, &steps) {
        steps.iter().for_each(|step| undo(work, step));
        return Err(error);
    }
    let mut named = Ok(());
    for step in &steps {
        match &named {
            Ok(()) => named = name(work, step),
            Err(_) => undo(work, step),
        }
    }
    let synced = sync_names(work);
    if synced.is_ok() {
        contents.iter().for_each(settle);
    }
    named.and(synced).map(|()| !steps.is_empty())
}

fn write_all(work: &Work, steps: &[Step]) -> io::Result<()> {
    steps.iter().try_for_each(|step| announce(work, step))?;
    if work.options.sync {
        let announced = steps.iter().filter(|step| step.from.is_some());
        announced
            .clone()
            .try_for_each(|step| sync_side(work, step))?;
    }
    steps.iter().try_for_each(|step| write(work, step))?;
    if work.options.sync {
        steps.iter().try_for_each(|step| sync(work, step))?;
    }
    Ok(())
}

/// What there is to do for a chunk, if anything.
fn plan(work: &Work, content: &Arc<Content>) -> io::Result<Option<Step>> {
    let mut standing = content.standing();
    standing.listed = false;
    if standing.over {
        return Ok(None);
    }
    let letter = Content::letter(&standing);
    let to = match &standing.name {
        Some(name) => name.with(letter),
        None => work.naming.name(content.id, letter, &file_key(content)),
    };
    if standing.pending.is_empty() && standing.name.as_ref().is_none_or(|name| *name == to) {
        return Ok(None);
    }
    let plain: Vec<Bytes> = standing
        .pending
        .iter()
        .map(|each| each.entries.clone())
        .collect();
    let claims = Claims::of(standing.pending.iter().map(|each| &each.receipt));
    let records: u64 = standing.pending.iter().map(|each| each.records).sum();
    let mut step = Step {
        content: content.clone(),
        from: standing.name.clone(),
        to,
        len: standing.len,
        side: standing.side,
        ragged: standing.ragged,
        data: plain,
        group: None,
        claims,
        frames: Bytes::new(),
        taken: standing.pending.len(),
        records: standing.records + records,
    };
    drop(standing);
    let mut crc = crc32fast::Hasher::new();
    step.data.iter().for_each(|bytes| crc.update(bytes));
    let bytes: u64 = step.data.iter().map(|bytes| bytes.len() as u64).sum();
    step.group = (bytes > 0).then(|| Group {
        start: step.len,
        end: step.len + bytes,
        records: u32::try_from(records).unwrap_or(u32::MAX),
        crc: crc.finalize(),
        confirmed: false,
    });
    Ok(Some(step))
}

/// The text in a name of file_single.
fn file_key(content: &Content) -> String {
    super::single_key(&content.key)
}

/// What the side file will say.
fn frame(step: &mut Step) {
    let Some(group) = &step.group else {
        return;
    };
    let head = match &step.from {
        Some(_) => Vec::new(),
        None => side::head(&step.content.side_meta()),
    };
    let extents = side::extents(step.claims.extents());
    step.frames = [head, extents, side::group(group)].concat().into();
}

/// The side file says what will be written. A new chunk's is confirmed at once: its name will say so.
fn announce(work: &Work, step: &Step) -> io::Result<()> {
    if step.group.is_none() {
        return Ok(());
    }
    let side = work.naming.side(step.content.id);
    let frames = step.frames.clone();
    if step.from.is_none() {
        return replace(&*work.disk, &side, &[frames, side::confirm().into()]);
    }
    unless_missing(work.disk.write_at(&side, step.side, &[frames]))
}

fn sync_side(work: &Work, step: &Step) -> io::Result<()> {
    match step.group {
        Some(_) => unless_missing(work.disk.sync(&work.naming.side(step.content.id))),
        None => Ok(()),
    }
}

/// Somebody may remove a side file: its data are then read entry by entry.
fn unless_missing(done: io::Result<()>) -> io::Result<()> {
    match done {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        done => done,
    }
}

fn write(work: &Work, step: &Step) -> io::Result<()> {
    if step.from.as_ref() != Some(&step.to) {
        write_meta(work, step)?;
    }
    if step.group.is_none() {
        return Ok(());
    }
    let Some(from) = &step.from else {
        return replace(&*work.disk, &work.naming.part(step.content.id), &step.data);
    };
    if step.ragged {
        work.disk.truncate(&from.data(), step.len)?;
    }
    work.disk.write_at(&from.data(), step.len, &step.data)
}

fn write_meta(work: &Work, step: &Step) -> io::Result<()> {
    if !has_meta(work, &step.to) {
        return Ok(());
    }
    let meta = step.content.meta(step.records, now()).encode();
    replace(&*work.disk, &step.to.meta(), &[Bytes::from(meta)])
}

fn has_meta(work: &Work, name: &Name) -> bool {
    work.naming.kind == Kind::File && !name.is_v0_12()
}

fn replace(disk: &dyn Disk, name: &str, content: &[Bytes]) -> io::Result<()> {
    match disk.remove(name) {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(error),
        _ => disk.create(name, content),
    }
}

fn sync(work: &Work, step: &Step) -> io::Result<()> {
    if step.from.as_ref() != Some(&step.to) && has_meta(work, &step.to) {
        work.disk.sync(&step.to.meta())?;
    }
    match (&step.from, &step.group) {
        (_, None) => Ok(()),
        (None, Some(_)) => {
            sync_side(work, step)?;
            work.disk.sync(&work.naming.part(step.content.id))
        }
        (Some(from), Some(_)) => work.disk.sync(&from.data()),
    }
}

/// Takes back what was written. What cannot be is cut off before the next write, or by the next start.
fn undo(work: &Work, step: &Step) {
    let (disk, id) = (&*work.disk, step.content.id);
    let Some(from) = &step.from else {
        let parts = [work.naming.part(id), step.to.meta(), work.naming.side(id)];
        let removed = parts.iter().all(|name| forget(disk, name).is_ok());
        step.content.standing().ragged |= !removed;
        return;
    };
    if *from != step.to {
        let _ = disk.remove(&step.to.meta());
    }
    match disk.truncate(&from.data(), step.len) {
        Ok(()) => step.content.standing().ragged = false,
        Err(error) if error.kind() == ErrorKind::NotFound => vanished(step, from),
        Err(_) => step.content.standing().ragged = true,
    }
}

/// Somebody removed the file. What is pending gets a new one.
fn vanished(step: &Step, name: &Name) {
    let mut standing = step.content.standing();
    let records = standing.records;
    *standing = Standing {
        sealed: standing.sealed,
        listed: standing.listed,
        over: standing.over,
        pending: std::mem::take(&mut standing.pending),
        unnamed: std::mem::take(&mut standing.unnamed),
        ..Standing::default()
    };
    drop(standing);
    error!(chunk = %step.content.id, file = name.data(), records, "a chunk's file was removed by somebody else, its records are lost");
}

/// Gives the file its name: from here on the group is part of the chunk.
fn name(work: &Work, step: &Step) -> io::Result<()> {
    let disk = &*work.disk;
    let before = match &step.from {
        Some(from) if *from == step.to => None,
        Some(from) => Some(from.data()),
        None => Some(work.naming.part(step.content.id)),
    };
    if let Some(before) = before {
        disk.rename(&before, &step.to.data())
            .inspect_err(|_| undo(work, step))?;
    }
    if let Some(from) = &step.from
        && *from != step.to
        && has_meta(work, from)
    {
        // A leftover says nothing wrong, and the next start removes it.
        let _ = disk.remove(&from.meta());
    }
    if step.from.is_none() && work.options.sync {
        work.unsynced.store(true, Ordering::Relaxed);
    }
    advance(work, step);
    Ok(())
}

fn advance(work: &Work, step: &Step) {
    let mut standing = step.content.standing();
    if standing.name.as_ref() != Some(&step.to) {
        standing.told = step.records;
    }
    standing.name = Some(step.to.clone());
    standing.ragged = false;
    standing.records = step.records;
    if let Some(group) = &step.group {
        let confirm = side::confirm();
        let confirmed = step.side + step.frames.len() as u64;
        standing.side = confirmed + confirm.len() as u64;
        if step.from.is_some() {
            // Unconfirmed it is only less sure what a damage that comes later means.
            let side = work.naming.side(step.content.id);
            let _ = work
                .disk
                .write_at(&side, confirmed, &[Bytes::from(confirm)]);
        }
        standing.len = group.end;
        standing.packed |= step
            .data
            .iter()
            .any(|part| Compress::of(part) != Compress::Text);
    }
    // Fewer where it left the buffer meanwhile.
    let taken = step.taken.min(standing.pending.len());
    let owed: Vec<_> = standing.pending.drain(..taken).collect();
    if !step.claims.extents().is_empty() {
        let traces = owed.iter().filter_map(|each| each.receipt.trace());
        traces.for_each(|trace| trace.join(&mut standing.traces));
    }
    work.written(owed.iter().map(|each| each.entries.len()).sum());
    standing
        .unnamed
        .extend(owed.into_iter().map(|each| each.receipt));
}

fn sync_names(work: &Work) -> io::Result<()> {
    if work.unsynced.swap(false, Ordering::Relaxed) {
        let synced = work.disk.sync_directory();
        work.unsynced.store(synced.is_err(), Ordering::Relaxed);
        return synced;
    }
    Ok(())
}

fn settle(content: &Arc<Content>) {
    let owed = std::mem::take(&mut content.standing().unnamed);
    owed.into_iter().for_each(Receipt::release);
}

/// Removes the files of a chunk that has left the buffer, and what could not be taken back of a failed group. The data go first: without
/// them the rest means nothing but what the side file claims, and that stays as long as a source has not written it down.
pub fn remove(work: &Work, content: &Content) -> io::Result<()> {
    let (name, ragged, lingering) = {
        let standing = content.standing();
        let lingering = Lingering {
            id: content.id,
            recalled: standing.recalled,
            traces: standing.traces.clone(),
        };
        (standing.name.clone(), standing.ragged, lingering)
    };
    let name = match name {
        Some(name) => name,
        None if ragged => work
            .naming
            .name(content.id, Letter::Staged, &file_key(content)),
        None => return Ok(()),
    };
    let disk = &*work.disk;
    let side = work.naming.side(content.id);
    // Where a failed group could not be taken back, the frame in which the word would stand says what the data behind it are.
    let can_say = !ragged && !work.recall.is_recorded(&lingering);
    let lingers = can_say && say_over(work, content, &side);
    forget(disk, &name.data())?;
    forget(disk, &work.naming.part(content.id))?;
    for letter in [Letter::Staged, Letter::Queued] {
        forget(disk, &name.with(letter).meta())?;
    }
    if lingers {
        work.recall.linger(lingering);
        return Ok(());
    }
    forget(disk, &side)
}

/// Not said where the disk has no room: lines are then repeated at worst, and what was delivered must make room.
fn say_over(work: &Work, content: &Content, side: &str) -> bool {
    let at = content.standing().side;
    let said = work.disk.write_at(side, at, &[Bytes::from(side::over())]);
    said.is_ok()
}

/// Removes the side files of chunks that are gone, as soon as sources have written down what they claim.
pub fn tidy(work: &Work) {
    for lingering in work.recall.recorded() {
        let side = work.naming.side(lingering.id);
        if forget(&*work.disk, &side).is_err() {
            // The next start finds that it claims nothing new.
            work.recall.linger(lingering);
        }
    }
}

fn forget(disk: &dyn Disk, name: &str) -> io::Result<()> {
    unless_missing(disk.remove(name))
}

/// At an orderly end: the metadata of a staged chunk count what is in it, for whoever takes the directory over.
pub fn finish(work: &Work, content: &Content) -> io::Result<()> {
    let standing = content.standing();
    let Some(name) = standing.name.clone() else {
        return Ok(());
    };
    let records = standing.records;
    if standing.over || standing.told == records || !has_meta(work, &name) {
        return Ok(());
    }
    drop(standing);
    let part = work.naming.part(content.id);
    let meta = content.meta(records, now()).encode();
    replace(&*work.disk, &part, &[Bytes::from(meta)])?;
    work.disk.sync(&part)?;
    work.disk.rename(&part, &name.meta())?;
    content.standing().told = records;
    Ok(())
}

fn now() -> i64 {
    let since = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    i64::try_from(since.as_secs()).unwrap_or(i64::MAX)
}
