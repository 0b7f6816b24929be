//! `@type s3`: one object per chunk, under a key that comes from the chunk's id.
//!
//! ```text
//! <path>/chunks/<tag, percent-encoded>/<chunk id>.json.gz
//! ```
//!
//! Storing a chunk twice is therefore harmless: the upload says `If-None-Match: *`, and 412 counts as stored. [`content`] decides what
//! is in an object, [`store`] talks to S3; the drain also uses the store for whole files and its manifest.

pub mod content;
pub mod store;

use std::sync::Arc;
use std::time::SystemTime;

use anyhow::{Context, Result};
use bytes::Bytes;
use jiff::tz::TimeZone;
use jiff::{Timestamp, Zoned};
use serde::Deserialize;

use super::{Boxed, Chunks, Output, WriteError, entries_of, placeholder};
use crate::aws::{Aws, Checksums, Settings};
use crate::buffer::{Chunk, ChunkId, ChunkKeys};
use crate::config::types::Secret;
use crate::config::{self, Element};
use crate::event::Tag;
use content::{Format, StoreAs};
pub use store::Store;

/// Parameters of fluent-plugin-s3 that are known and not honoured, with what happens instead.
const NOT_HONOURED: &[(&str, &str)] = &[
    (
        "s3_object_key_format",
        "keys are <path>/chunks/<tag>/<chunk id>, so that storing twice is harmless",
    ),
    (
        "time_slice_format",
        "keys are <path>/chunks/<tag>/<chunk id>; %Y, %m, … in path are expanded",
    ),
    (
        "index_format",
        "keys carry the chunk id instead of an index",
    ),
    ("hex_random_length", "keys carry the chunk id"),
    ("overwrite", "an object is never overwritten"),
    (
        "check_object",
        "an existing object is recognised by the upload itself",
    ),
    (
        "check_bucket",
        "the bucket is first used by the first upload",
    ),
    (
        "check_apikey_on_start",
        "credentials are first used by the first upload",
    ),
    ("auto_create_bucket", "the bucket must exist"),
    ("acl", "the bucket's own rules decide"),
    (
        "storage_class",
        "objects are stored as STANDARD; use a lifecycle rule of the bucket",
    ),
    (
        "use_server_side_encryption",
        "the bucket's default encryption decides",
    ),
    ("ssekms_key_id", "the bucket's default encryption decides"),
    ("proxy_uri", "S3 is reached directly"),
    ("s3_metadata", "objects carry no metadata of their own"),
    ("reduced_redundancy", "objects are stored as STANDARD"),
];

/// The parameters.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct Params {
    /// The bucket. Required.
    pub s3_bucket: String,
    /// Its Region; else `AWS_REGION`, `AWS_DEFAULT_REGION`, then instance metadata.
    pub s3_region: Option<String>,
    /// Where keys begin. `${tag}`, `${tag[N]}`, `${chunk_id}`, chunk keys, `${instance_id}`, `${hostname}` and strftime are expanded: the begin
    /// of the chunk's time slice in its zone, or without the chunk key `time` the time when it was made, in UTC.
    pub path: String,
    /// `json` (a line per event with time, tag and record) or `msgpack` (forward entries, for replay).
    pub format: Format,
    /// `gzip` or `text`.
    pub store_as: StoreAs,
    /// Access key id; without it the default chain of the SDK, which ends at the instance's role.
    pub aws_key_id: Option<Secret>,
    /// Secret access key.
    pub aws_sec_key: Option<Secret>,
    /// Another endpoint than the Region's, as `http://host:port`.
    pub s3_endpoint: Option<String>,
    /// `http://endpoint/bucket/key` instead of `http://bucket.endpoint/key`.
    pub force_path_style: bool,
    /// `always`, or `when_required` for stores that do not know S3's checksums.
    pub checksums: Checksums,
}

/// Checks everything that can be checked without a network and builds the output.
pub fn configure(element: &Element, chunks: &Chunks) -> config::Result<Arc<S3>> {
    let mut params: Params = element.params()?;
    let mut errors = config::ConfigErrors::new();
    if params.s3_bucket.is_empty() {
        errors.push(element.missing("s3_bucket"));
    }
    if params.aws_key_id.is_some() != params.aws_sec_key.is_some() {
        errors.push(element.error_at(
            "aws_key_id",
            "aws_key_id and aws_sec_key must be given together",
        ));
    }
    let keys = match chunks {
        Chunks::Own(keys) | Chunks::Primarys(keys) => keys.clone(),
        Chunks::Any => ChunkKeys::default(),
    };
    if let Err(message) = check_path(&params.path, &keys) {
        errors.push(element.error_at("path", message));
    }
    for name in [
        "assume_role_credentials",
        "web_identity_credentials",
        "shared_credentials",
    ] {
        if let Some(section) = errors.collect(element.section(name)).flatten() {
            errors.push(section.error(format!(
                "<{name}> is not supported: use the instance's role, or aws_key_id and aws_sec_key"
            )));
        }
    }
    errors.collect(element.section("instance_profile_credentials"));
    if let Some(section) = errors.collect(element.section("format")).flatten() {
        match errors.collect(section.plugin_type()) {
            Some("json") => section.warn(
                "lines are {\"time\", \"tag\", \"record\"}, so that time and tag are not lost",
            ),
            Some("msgpack") => params.format = Format::Msgpack,
            Some(other) => {
                errors.push(section.error(format!("unknown format '{other}': json or msgpack")))
            }
            None => {}
        }
    }
    for (key, instead) in NOT_HONOURED {
        if element.get(key).is_some() {
            element.warn_at(key, format!("'{key}' is not honoured: {instead}"));
        }
    }
    errors.into_result()?;
    let mut output = S3::new(params).map_err(|error| element.error(format!("{error:#}")))?;
    output.zone = keys.time.map(|time| time.zone().clone());
    Ok(Arc::new(output))
}

/// What in a path would stay as it stands, although it looks as if it were to be expanded.
fn check_path(path: &str, keys: &ChunkKeys) -> std::result::Result<(), String> {
    let placeholders = path.split("${").skip(1);
    for name in placeholders.map(|rest| rest.split('}').next().unwrap_or_default()) {
        let tag_part = name.starts_with("tag[") && name.ends_with(']');
        let field = keys.fields.iter().any(|field| *field.key == *name);
        if !["tag", "chunk_id", "instance_id", "hostname"].contains(&name) && !tag_part && !field {
            return Err(format!(
                "unknown placeholder '${{{name}}}' (known: ${{tag}}, ${{tag[N]}}, ${{chunk_id}}, ${{instance_id}}, ${{hostname}} and the chunk keys)"
            ));
        }
    }
    let letters = path
        .split('%')
        .skip(1)
        .filter_map(|rest| rest.chars().next());
    match letters
        .filter(char::is_ascii_alphabetic)
        .find(|letter| !"YmdHMSj".contains(*letter))
    {
        Some(letter) => Err(format!(
            "unknown conversion '%{letter}' (known: %Y, %m, %d, %H, %M, %S, %j)"
        )),
        None => Ok(()),
    }
}

/// The output.
#[derive(Debug)]
pub struct S3 {
    params: Params,
    store: Arc<Store>,
    /// The zone of the chunks' time slices, where they have such.
    zone: Option<TimeZone>,
}

impl S3 {
    /// An output with these parameters. Touches nothing outside.
    pub fn new(params: Params) -> Result<S3> {
        let keys = params.aws_key_id.clone().zip(params.aws_sec_key.clone());
        let aws = Aws::new(Settings {
            region: params.s3_region.clone(),
            endpoint_url: params.s3_endpoint.clone(),
            imds_endpoint: None,
            keys: keys.map(|(id, secret)| (id.0, secret.0)),
        })?;
        let store = Store::new(
            aws,
            &params.s3_bucket,
            params.force_path_style,
            params.checksums,
        );
        Ok(S3 {
            params,
            store: Arc::new(store),
            zone: None,
        })
    }

    /// The bucket that it writes to.
    pub fn store(&self) -> &Arc<Store> {
        &self.store
    }

    /// `path`, as configured.
    pub fn path(&self) -> &str {
        &self.params.path
    }

    async fn key(&self, chunk: &Chunk) -> Result<String> {
        let tag = match chunk.tag().as_str() {
            // Of a chunk that a Fluentd left, without the chunk key.
            "" => String::new(),
            tag => format!("{}/", percent_encode(tag)),
        };
        let path = match self.zone.clone().zip(chunk.key().timekey) {
            Some((zone, start)) => {
                let start = Timestamp::from_second(start).unwrap_or(Timestamp::UNIX_EPOCH);
                expand_zoned(&self.params.path, &start.to_zoned(zone))
            }
            None => expand_time(&self.params.path, born(chunk.id())),
        };
        let path = self.store.expand(&path).await?;
        let path = placeholder::fill(&path, chunk, |value| Ok(percent_encode(&value)))?;
        let extension = content::extension(self.params.format, self.params.store_as);
        Ok(join(
            &path,
            &format!("chunks/{tag}{}.{extension}", chunk.id()),
        ))
    }

    async fn store_chunk(&self, chunk: &Chunk) -> Result<(), WriteError> {
        let key = self.key(chunk).await?;
        let (tag, segments) = (chunk.tag().clone(), entries_of(chunk).await?);
        let (format, store_as) = (self.params.format, self.params.store_as);
        // Encoding takes milliseconds for each megabyte: not on the threads that keep the sockets moving.
        let encode = move || content::encode(tag.as_str(), &segments, format, store_as);
        let body = tokio::task::spawn_blocking(encode)
            .await
            .context("encoding was cancelled")?
            .map_err(WriteError::Unrecoverable)?;
        self.store.put_new(&key, body.into()).await?;
        tracing::debug!(chunk_id = %chunk.id(), key, "stored a chunk in S3");
        Ok(())
    }
}

impl Output for S3 {
    fn write<'a>(&'a self, chunk: &'a Chunk) -> Boxed<'a, Result<(), WriteError>> {
        Box::pin(self.store_chunk(chunk))
    }

    fn formatted(&self, tag: &Tag, entries: &[u8]) -> Option<anyhow::Result<Vec<u8>>> {
        let entries = [Bytes::copy_from_slice(entries)];
        let format = self.params.format;
        Some(content::encode(
            tag.as_str(),
            &entries,
            format,
            StoreAs::Text,
        ))
    }
}

/// When the chunk was made: its id carries UTC microseconds, so that a chunk has the same key at every try.
fn born(id: ChunkId) -> Timestamp {
    let hex = id.to_string();
    let micros = u64::from_str_radix(&hex[..13], 16).unwrap_or_default();
    let micros = i64::try_from(micros).unwrap_or_default();
    Timestamp::from_microsecond(micros).unwrap_or(Timestamp::UNIX_EPOCH)
}

/// Expands the strftime letters that make folders. Escapes of [`percent_encode`] stay: none of them looks like a letter here.
pub fn expand_time(path: &str, time: Timestamp) -> String {
    expand_zoned(path, &time.to_zoned(TimeZone::UTC))
}

fn expand_zoned(path: &str, time: &Zoned) -> String {
    ["%Y", "%m", "%d", "%H", "%M", "%S", "%j"]
        .iter()
        .filter(|directive| path.contains(**directive))
        .fold(path.to_owned(), |path, directive| {
            path.replace(directive, &time.strftime(directive).to_string())
        })
}

/// Everything but letters, digits, `-`, `_` and `.` as `%XX`; a tag of dots only, wholly, so that no tool takes it for a folder.
pub fn percent_encode(tag: &str) -> String {
    let dots = tag.bytes().all(|byte| byte == b'.');
    tag.bytes()
        .fold(String::with_capacity(tag.len()), |mut out, byte| {
            match byte {
                b'.' if dots => out.push_str("%2E"),
                b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' => {
                    out.push(char::from(byte))
                }
                _ => out.push_str(&format!("%{byte:02X}")),
            }
            out
        })
}

/// `path` and `rest` with one slash between them, and none at the beginning.
pub fn join(path: &str, rest: &str) -> String {
    let path = path.trim_matches('/');
    match path.is_empty() {
        true => rest.to_owned(),
        false => format!("{path}/{rest}"),
    }
}

/// Now, as the drain names its manifest: `20260301T091542Z`.
pub fn compact(time: SystemTime) -> String {
    Timestamp::try_from(time)
        .unwrap_or(Timestamp::UNIX_EPOCH)
        .strftime("%Y%m%dT%H%M%SZ")
        .to_string()
}

#[cfg(test)]
#[path = "tests.rs"]
mod tests;
