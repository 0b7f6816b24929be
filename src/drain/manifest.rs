//! The manifest: the last object, which says what is where and what is not safe.

use std::time::Duration;

use serde::Serialize;

use super::archive::FileResult;
use super::command::Outcome;
use super::data::{Residue, Spilled};
use super::drainable::Ledger;
use super::{Drain, Drainable};
use crate::agent::FileReport;
use crate::output::s3::{compact, join};

/// How long the manifest may take.
const LIMIT: Duration = Duration::from_secs(5);

#[derive(Serialize)]
struct Manifest<'a> {
    instance: &'a str,
    cause: String,
    began: String,
    seconds: f64,
    dry_run: bool,
    ledger: Ledger,
    tailed: Vec<FileReport>,
    spilled: &'a Spilled,
    not_safe: &'a Residue,
    before: &'a [Outcome],
    files: &'a [FileResult],
}

/// Stores `drain-<utc start>.json`; gives its key, or `None` where there is no S3 or it refused (which is told).
pub(super) async fn store<A: Drainable>(
    drain: &Drain<'_, A>,
    before: &[Outcome],
    residue: &Residue,
    spilled: &Spilled,
    files: &[FileResult],
) -> Option<String> {
    let place = drain.plan.place()?;
    let manifest = Manifest {
        instance: &drain.instance,
        cause: drain.cause(),
        began: jiff::Timestamp::try_from(drain.began)
            .map(|at| at.to_string())
            .unwrap_or_default(),
        seconds: drain.start.elapsed().as_secs_f64(),
        dry_run: drain.plan.params.dry_run,
        ledger: drain.agent.ledger(),
        tailed: drain.agent.files(),
        spilled,
        not_safe: residue,
        before,
        files,
    };
    let stored = async {
        let body = serde_json::to_vec_pretty(&manifest)?;
        let name = format!("drain-{}.json", compact(drain.began));
        let key = join(&place.prefix(drain.began).await?, &name);
        place.store.put(&key, body.into()).await?;
        anyhow::Ok(key)
    };
    let error = match tokio::time::timeout(LIMIT, stored).await {
        Ok(Ok(key)) => {
            tracing::info!(
                stage = "manifest",
                elapsed = drain.elapsed(),
                bucket = place.store.bucket(),
                key,
                "manifest: stored"
            );
            return Some(key);
        }
        Ok(Err(error)) => format!("{error:#}"),
        Err(_) => "S3 does not answer".to_owned(),
    };
    tracing::error!(
        stage = "manifest",
        elapsed = drain.elapsed(),
        error,
        ledger = serde_json::to_string(&manifest.ledger).unwrap_or_default(),
        not_safe = ?residue.places,
        "manifest: not stored, the counts and what is not safe stand in this line and in the journal"
    );
    None
}
