//! Puts back what was set aside. It takes the lock: no agent runs meanwhile.

use std::io::ErrorKind;
use std::path::Path;
use std::time::SystemTime;

use anyhow::{bail, ensure};

use super::inspect::{Inspection, Seen};
use super::meta::Meta;
use super::{lock, side, single_key};
use crate::buffer::{ChunkId, ChunkKey};
use crate::event::Tag;

impl Inspection {
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
            let _lock = lock::take(directory, &self.lock_of(&seen))?;
            let requeued = self
                .requeue_one(&seen, tag)
                .map_err(|error| format!("{error:#}"));
            done.push((seen, requeued));
        }
        Ok(done)
    }

    fn requeue_one(&self, seen: &Seen, tag: Option<&str>) -> anyhow::Result<u64> {
        let key = key_of(seen, tag)?;
        let looked = self.read(seen)?;
        ensure!(looked.checked.records > 0, "no record of it can be read");
        let id = ChunkId::new(SystemTime::now());
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH)?;
        let now = i64::try_from(now.as_secs())?;
        let files = self.new_files(seen, id, &single_key(&key));
        let mut content = vec![
            (&files.part, looked.sound()?),
            (&files.side, side::head(&Meta::beside(&key, id, now))),
        ];
        if let Some(meta) = &files.meta {
            let told = Meta::of(&key, id, looked.checked.records, now, now);
            content.push((meta, told.encode()));
        }
        let disk = self.disk();
        for (file, bytes) in content {
            disk.create(file, &[bytes.into()])?;
            disk.sync(file)?;
        }
        disk.rename(&files.part, &files.data)?;
        disk.sync_directory()?;
        disk.remove(&seen.file)?;
        // There are none where only the data were damaged.
        match disk.remove(&self.meta_aside(seen)) {
            Err(error) if error.kind() != ErrorKind::NotFound => Err(error)?,
            _ => Ok(looked.checked.records),
        }
    }
}

/// What its events have in common, as it is known or as the operator says.
fn key_of(seen: &Seen, tag: Option<&str>) -> anyhow::Result<ChunkKey> {
    let needs_tag = |key: &ChunkKey| {
        key.tag.as_str().is_empty() && key.timekey.is_none() && key.variables.is_none()
    };
    match (&seen.key, tag) {
        (Some(key), _) if !needs_tag(key) => Ok(key.clone()),
        (_, Some(tag)) => Ok(ChunkKey::of_tag(Tag::new(tag))),
        (_, None) => bail!("its tag is not known: give it with --tag"),
    }
}
