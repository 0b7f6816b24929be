//! Whole log files to S3, under their full path: `<path>/<instance id>/files/<absolute path>`.
//!
//! Only what the configured globs match, and only regular files: never what a symbolic link names.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime};

use serde::Serialize;

use super::params::Place;
use super::{Drain, Drainable};
use crate::output::s3::store::Stored;
use crate::output::s3::{expand_time, join};

/// Tries for each file.
const TRIES: u32 = 3;

/// What became of one file.
#[derive(Clone, Debug, Serialize)]
pub struct FileResult {
    /// Its absolute path.
    pub path: String,
    /// The object's key, where it is stored.
    pub key: Option<String>,
    /// Bytes in the object.
    pub bytes: u64,
    /// It shrank while it was read: the object holds what was there.
    pub truncated: bool,
    /// Why it is not stored.
    pub error: Option<String>,
}

/// What of the files is not stored: one line each, for the operator.
pub fn not_archived(files: &[FileResult]) -> Vec<String> {
    let failed = files.iter().filter_map(|file| {
        let error = file.error.as_ref()?;
        Some(format!("not archived: {}: {error}", file.path))
    });
    failed.collect()
}

/// Uploads what the globs match, until the time for it is over.
pub(super) async fn upload<A: Drainable>(drain: &Drain<'_, A>) -> Vec<FileResult> {
    let Some(archive) = &drain.plan.archive else {
        return Vec::new();
    };
    tracing::info!(
        stage = "archive",
        elapsed = drain.elapsed(),
        "archive: uploading whole files"
    );
    let prefix = match archive.place.prefix(drain.began).await {
        Ok(prefix) => prefix,
        Err(error) => {
            let error = format!("{error:#}");
            tracing::error!(stage = "archive", error, "archive: no file is uploaded");
            let all = archive.paths.iter();
            return all.map(|path| failed(path, error.clone())).collect();
        }
    };
    let (paths, mut results) = matching(&archive.paths);
    for path in paths {
        let end = drain.budget(0, None).spill.max(drain.start);
        let result = one(&archive.place, &prefix, &path, end).await;
        if let Some(error) = &result.error {
            tracing::error!(
                stage = "archive",
                elapsed = drain.elapsed(),
                path = result.path,
                error,
                "archive: a file is not stored"
            );
        }
        results.push(result);
    }
    let failed = results
        .iter()
        .filter(|result| result.error.is_some())
        .count();
    let bytes: u64 = results.iter().map(|result| result.bytes).sum();
    tracing::info!(
        stage = "archive",
        elapsed = drain.elapsed(),
        files = results.len() - failed,
        failed,
        bytes,
        "archive: done"
    );
    results
}

async fn one(place: &Place, prefix: &str, path: &Path, end: Instant) -> FileResult {
    let key = join(prefix, &format!("files{}", path.display()));
    let mut result = failed(&path.display().to_string(), "out of time".to_owned());
    for attempt in 1..=TRIES {
        if Instant::now() >= end {
            break;
        }
        match tokio::time::timeout_at(end.into(), place.store.put_file(&key, path)).await {
            Ok(Ok(Stored { bytes, truncated })) => {
                return FileResult {
                    key: Some(key),
                    bytes,
                    truncated,
                    error: None,
                    ..result
                };
            }
            Ok(Err(error)) => result.error = Some(format!("{error:#}")),
            Err(_) => break,
        }
        if attempt < TRIES {
            tokio::time::sleep(
                Duration::from_millis(500 << attempt)
                    .min(end.saturating_duration_since(Instant::now())),
            )
            .await;
        }
    }
    result
}

fn failed(path: &str, error: String) -> FileResult {
    FileResult {
        path: path.to_owned(),
        key: None,
        bytes: 0,
        truncated: false,
        error: Some(error),
    }
}

/// Regular files that the globs match, once each, in order; and where nobody could look.
fn matching(globs: &[String]) -> (Vec<PathBuf>, Vec<FileResult>) {
    let mut hidden = Vec::new();
    let mut paths: Vec<PathBuf> = globs
        .iter()
        .filter_map(|pattern| glob::glob(pattern).ok())
        .flatten()
        .filter_map(|found| match found {
            Ok(path) => Some(path),
            Err(error) => {
                tracing::error!(stage = "archive", path = %error.path().display(), error = %error.error(), "archive: cannot look into a directory");
                hidden.push(failed(&error.path().display().to_string(), error.error().to_string()));
                None
            }
        })
        .filter(|path| path.symlink_metadata().is_ok_and(|metadata| metadata.is_file()))
        .collect();
    paths.sort();
    paths.dedup();
    (paths, hidden)
}

impl Place {
    /// Where this instance's keys begin: the path, and the instance id where the path does not have it.
    pub(super) async fn prefix(&self, began: SystemTime) -> anyhow::Result<String> {
        let began = jiff::Timestamp::try_from(began)?;
        let path = expand_time(&self.path.replace("${tag}", ""), began);
        let path = match path.contains("${instance_id}") {
            true => path,
            false => join(&path, "${instance_id}"),
        };
        self.store.expand(&path).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_regular_files_match_and_each_once() {
        let dir = tempfile::tempdir().expect("a directory");
        let at = |name: &str| dir.path().join(name);
        std::fs::write(at("a.log"), "a").expect("written");
        std::fs::create_dir(at("b.log")).expect("made");
        std::os::unix::fs::symlink("/etc/passwd", at("c.log")).expect("linked");
        let all = at("*.log").display().to_string();
        assert_eq!(matching(&[all.clone(), all]).0, [at("a.log")]);
    }
}
