//! One bucket: objects from memory and from files, and what S3's refusals mean.
//!
//! Each call tries once (and once more in the Region that S3 names); `Ok` means that S3 has the bytes, by its own checksum. Up to 64 MiB go as
//! one PUT, more as parts of 16 MiB, aborted on failure. Retrying is the caller's.

use std::io::SeekFrom;
use std::path::Path;
use std::sync::{Mutex, PoisonError};

use anyhow::{Context, Result, anyhow, bail};
use aws_sdk_s3::Client;
use aws_sdk_s3::config::Region;
use aws_sdk_s3::error::{DisplayErrorContext, ProvideErrorMetadata, SdkError};
use aws_sdk_s3::primitives::ByteStream;
use aws_sdk_s3::types::{CompletedMultipartUpload, CompletedPart};
use aws_smithy_runtime_api::http::Response;
use bytes::Bytes;
use tokio::fs::File;
use tokio::io::{AsyncReadExt, AsyncSeekExt};
use tokio::sync::OnceCell;

use crate::aws::{Aws, Checksums};

/// Up to here an object is one PUT.
const SINGLE: u64 = 64 * 1024 * 1024;
/// The size of a part.
const PART: usize = 16 * 1024 * 1024;
/// How often a file may shrink under our hands before we send what is there.
const SHRUNK_TRIES: u32 = 3;

/// What became of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stored {
    /// Bytes in the object.
    pub bytes: u64,
    /// The file shrank while it was read: the object holds what was there, and says so (`x-amz-meta-truncated`).
    pub truncated: bool,
}

/// A bucket and who asks.
#[derive(Debug)]
pub struct Store {
    aws: Aws,
    bucket: String,
    force_path_style: bool,
    checksums: Checksums,
    client: Mutex<Option<Client>>,
    instance: OnceCell<String>,
}

/// Whether an object may replace another.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Existing {
    /// `If-None-Match: *`: what is there stays, and counts as stored.
    Keep,
    /// Last write wins.
    Replace,
}

impl Store {
    /// The bucket as `aws` reaches it.
    pub fn new(aws: Aws, bucket: &str, force_path_style: bool, checksums: Checksums) -> Store {
        Store {
            aws,
            bucket: bucket.to_owned(),
            force_path_style,
            checksums,
            client: Mutex::default(),
            instance: OnceCell::new(),
        }
    }

    /// Its name.
    pub fn bucket(&self) -> &str {
        &self.bucket
    }

    /// Tells what `${instance_id}` is, for a caller who knows. The first word counts.
    pub fn know_instance(&self, id: &str) {
        // An error means that it is known already.
        let _ = self.instance.set(id.to_owned());
    }

    /// Expands `${instance_id}` (asked from instance metadata where nobody told) and `${hostname}`.
    pub async fn expand(&self, path: &str) -> Result<String> {
        let mut path = path.to_owned();
        if path.contains("${instance_id}") {
            let ask = || async {
                let id = self.aws.imds().get("instance-id").await?;
                id.ok_or_else(|| anyhow!("no instance id in instance metadata for the path {path}"))
            };
            let id = self.instance.get_or_try_init(ask).await?.clone();
            path = path.replace("${instance_id}", &id);
        }
        if path.contains("${hostname}") {
            let name = nix::unistd::gethostname().context("cannot read the host name")?;
            path = path.replace("${hostname}", &name.to_string_lossy());
        }
        Ok(path)
    }

    /// Stores an object that never changes: one that is already there is the same one.
    pub async fn put_new(&self, key: &str, body: Bytes) -> Result<()> {
        self.put_bytes(key, body, Existing::Keep).await
    }

    /// Stores an object in place of the one that is there.
    pub async fn put(&self, key: &str, body: Bytes) -> Result<()> {
        self.put_bytes(key, body, Existing::Replace).await
    }

    /// Stores a whole file, which may grow or shrink meanwhile: exactly the length that it has when it is opened.
    pub async fn put_file(&self, key: &str, path: &Path) -> Result<Stored> {
        for last in (0..SHRUNK_TRIES).map(|n| n + 1 == SHRUNK_TRIES) {
            let file = File::open(path)
                .await
                .with_context(|| format!("cannot open {}", path.display()))?;
            let metadata = file.metadata().await?;
            if !metadata.is_file() {
                bail!("{} is not a regular file", path.display());
            }
            if let Some(stored) = self.try_file(key, file, metadata.len(), last).await? {
                return Ok(stored);
            }
            tracing::warn!(path = %path.display(), "the file shrank while it was uploaded, starting again");
        }
        bail!("{} keeps shrinking", path.display())
    }

    /// `None`: the file shrank. On the `last` try that is accepted and said in the object's metadata.
    async fn try_file(
        &self,
        key: &str,
        mut file: File,
        len: u64,
        last: bool,
    ) -> Result<Option<Stored>> {
        if len > SINGLE {
            return self.file_in_parts(key, &mut file, len, last).await;
        }
        let mut body = Vec::with_capacity(len as usize);
        (&mut file).take(len).read_to_end(&mut body).await?;
        let bytes = body.len() as u64;
        if bytes < len && !last {
            return Ok(None);
        }
        self.single(key, body.into(), Existing::Replace, bytes < len)
            .await?;
        Ok(Some(Stored {
            bytes,
            truncated: bytes < len,
        }))
    }

    async fn file_in_parts(
        &self,
        key: &str,
        file: &mut File,
        len: u64,
        last: bool,
    ) -> Result<Option<Stored>> {
        // The metadata goes ahead of the bytes: on the last try the object says that it may be cut.
        let upload = self.begin(key, last).await?;
        let sent = async {
            file.seek(SeekFrom::Start(0)).await?;
            let mut parts = Parts::default();
            while parts.bytes < len {
                let mut part = Vec::with_capacity(PART);
                let want = (len - parts.bytes).min(PART as u64);
                (&mut *file).take(want).read_to_end(&mut part).await?;
                let short = (part.len() as u64) < want;
                if short && !last {
                    return Ok(None);
                }
                if !part.is_empty() {
                    self.part(key, &upload, &mut parts, part.into()).await?;
                }
                if short {
                    break;
                }
            }
            let bytes = parts.bytes;
            self.finish(key, &upload, parts, Existing::Replace).await?;
            Ok(Some(Stored {
                bytes,
                truncated: bytes < len,
            }))
        };
        let result = sent.await;
        if !matches!(result, Ok(Some(_))) {
            self.abort(key, &upload).await;
        }
        result
    }

    async fn put_bytes(&self, key: &str, body: Bytes, existing: Existing) -> Result<()> {
        if body.len() as u64 <= SINGLE {
            return self.single(key, body, existing, false).await;
        }
        let upload = self.begin(key, false).await?;
        let sent = async {
            let mut parts = Parts::default();
            for start in (0..body.len()).step_by(PART) {
                let part = body.slice(start..body.len().min(start + PART));
                self.part(key, &upload, &mut parts, part).await?;
            }
            self.finish(key, &upload, parts, existing).await
        };
        let result = sent.await;
        if result.is_err() {
            self.abort(key, &upload).await;
        }
        result
    }

    async fn single(
        &self,
        key: &str,
        body: Bytes,
        existing: Existing,
        truncated: bool,
    ) -> Result<()> {
        for moved in [false, true] {
            let request = self
                .client()
                .await?
                .put_object()
                .bucket(&self.bucket)
                .key(key)
                .set_if_none_match((existing == Existing::Keep).then(|| "*".to_owned()))
                .set_metadata(
                    truncated.then(|| [("truncated".to_owned(), "true".to_owned())].into()),
                )
                .body(ByteStream::from(body.clone()));
            match request.send().await {
                Ok(_) => return Ok(()),
                Err(error)
                    if existing == Existing::Keep && code(&error) == Some("PreconditionFailed") =>
                {
                    return Ok(());
                }
                Err(error) => match region_named(&error).filter(|_| !moved) {
                    Some(region) => self.move_to(&region),
                    None => return Err(self.explain(key, &error)),
                },
            }
        }
        bail!(
            "S3 names another Region for bucket {} each time",
            self.bucket
        )
    }

    async fn begin(&self, key: &str, truncated: bool) -> Result<String> {
        for moved in [false, true] {
            let request = self
                .client()
                .await?
                .create_multipart_upload()
                .bucket(&self.bucket)
                .key(key)
                .set_metadata(
                    truncated.then(|| [("truncated".to_owned(), "true".to_owned())].into()),
                );
            match request.send().await {
                Ok(answer) => {
                    return answer
                        .upload_id
                        .ok_or_else(|| anyhow!("S3 gave no upload id for {key}"));
                }
                Err(error) => match region_named(&error).filter(|_| !moved) {
                    Some(region) => self.move_to(&region),
                    None => return Err(self.explain(key, &error)),
                },
            }
        }
        bail!(
            "S3 names another Region for bucket {} each time",
            self.bucket
        )
    }

    async fn part(&self, key: &str, upload: &str, parts: &mut Parts, body: Bytes) -> Result<()> {
        let number = parts.done.len() as i32 + 1;
        let len = body.len() as u64;
        let request = self
            .client()
            .await?
            .upload_part()
            .bucket(&self.bucket)
            .key(key);
        let request = request
            .upload_id(upload)
            .part_number(number)
            .body(ByteStream::from(body));
        let answer = request
            .send()
            .await
            .map_err(|error| self.explain(key, &error))?;
        parts.bytes += len;
        parts.done.push(
            CompletedPart::builder()
                .part_number(number)
                .set_e_tag(answer.e_tag)
                .set_checksum_crc32(answer.checksum_crc32)
                .build(),
        );
        Ok(())
    }

    async fn finish(
        &self,
        key: &str,
        upload: &str,
        parts: Parts,
        existing: Existing,
    ) -> Result<()> {
        let parts = CompletedMultipartUpload::builder()
            .set_parts(Some(parts.done))
            .build();
        let request = self
            .client()
            .await?
            .complete_multipart_upload()
            .bucket(&self.bucket)
            .key(key);
        let request = request
            .upload_id(upload)
            .set_if_none_match((existing == Existing::Keep).then(|| "*".to_owned()))
            .multipart_upload(parts);
        match request.send().await {
            Ok(_) => Ok(()),
            Err(error)
                if existing == Existing::Keep && code(&error) == Some("PreconditionFailed") =>
            {
                self.abort(key, upload).await;
                Ok(())
            }
            Err(error) => Err(self.explain(key, &error)),
        }
    }

    async fn abort(&self, key: &str, upload: &str) {
        let Ok(client) = self.client().await else {
            return;
        };
        let request = client
            .abort_multipart_upload()
            .bucket(&self.bucket)
            .key(key)
            .upload_id(upload);
        if let Err(error) = request.send().await {
            tracing::warn!(
                bucket = self.bucket, key, error = %DisplayErrorContext(&error),
                "cannot abort a multipart upload: its parts cost money until a rule of the bucket removes them"
            );
        }
    }

    async fn client(&self) -> Result<Client> {
        if let Some(client) = self.lock().clone() {
            return Ok(client);
        }
        let client = self.aws.s3(self.force_path_style, self.checksums).await?;
        *self.lock() = Some(client.clone());
        Ok(client)
    }

    fn move_to(&self, region: &str) {
        tracing::warn!(
            bucket = self.bucket,
            region,
            "the bucket is in another Region, going there"
        );
        let mut client = self.lock();
        if let Some(old) = client.take() {
            let config = old
                .config()
                .to_builder()
                .region(Region::new(region.to_owned()));
            *client = Some(Client::from_conf(config.build()));
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Option<Client>> {
        self.client.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn explain<E>(&self, key: &str, error: &SdkError<E, Response>) -> anyhow::Error
    where
        E: ProvideErrorMetadata + std::error::Error + 'static,
    {
        let said = match (
            code(error),
            error.as_service_error().and_then(|e| e.message()),
        ) {
            (Some(code), message) => format!("{code}: {}", message.unwrap_or("no message")),
            _ => DisplayErrorContext(error).to_string(),
        };
        let hint = code(error).and_then(hint).unwrap_or_default();
        anyhow!("cannot store s3://{}/{key}: {said}{hint}", self.bucket)
    }
}

/// The parts so far.
#[derive(Default)]
struct Parts {
    done: Vec<CompletedPart>,
    bytes: u64,
}

fn code<E: ProvideErrorMetadata>(error: &SdkError<E, Response>) -> Option<&str> {
    let named = error.as_service_error().and_then(|error| error.code());
    // A 412 may come without a body.
    match error
        .raw_response()
        .map(|response| response.status().as_u16())
    {
        Some(412) => Some("PreconditionFailed"),
        _ => named,
    }
}

/// The Region that S3 says the bucket is in, where it refused because of it.
fn region_named<E: ProvideErrorMetadata>(error: &SdkError<E, Response>) -> Option<String> {
    let response = error.raw_response()?;
    let refused = matches!(response.status().as_u16(), 301 | 307)
        || matches!(
            code(error),
            Some("PermanentRedirect" | "AuthorizationHeaderMalformed")
        );
    let named = response.headers().get("x-amz-bucket-region")?;
    refused.then(|| named.to_owned())
}

/// What an operator can do about it.
fn hint(code: &str) -> Option<&'static str> {
    Some(match code {
        "AccessDenied" => {
            " (the role needs s3:PutObject here; a missing bucket without s3:ListBucket, a KMS key and a policy that demands If-None-Match look the same)"
        }
        "NoSuchBucket" => " (the bucket does not exist)",
        "RequestTimeTooSkewed" => " (the clock of this machine is wrong)",
        "SlowDown" | "ServiceUnavailable" | "InternalError" | "RequestTimeout" => {
            " (S3 asks to try later)"
        }
        _ => return None,
    })
}
