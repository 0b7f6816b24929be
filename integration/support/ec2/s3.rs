//! S3: `s3s` with its file system back end in a temporary directory, behind the world's recorder and its faults.
//!
//! `s3s` checks signatures, checksums and conditions as S3 does; what is stored is an ordinary file, so [`objects`] reads it back
//! without any S3 client.

use std::path::{Path, PathBuf};

use anyhow::{Result, anyhow};
use bytes::Bytes;
use http_body_util::BodyExt;
use s3s::auth::SimpleAuth;
use s3s::service::{S3Service, S3ServiceBuilder};
use s3s_fs::FileSystem;
use std::sync::Arc;

use super::hooks::Refused;
use super::http::{Answer, Request, Service, Site};
use super::metadata::{ACCESS_KEY, SECRET_KEY};
use super::notification::uuid;
use super::state::{Happening, Shared};

/// An object in the store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Object {
    /// Its bucket.
    pub bucket: String,
    /// Its key.
    pub key: String,
    /// Its bytes as stored.
    pub body: Vec<u8>,
}

impl Object {
    /// The bytes, unpacked if they are gzip, as text.
    ///
    /// # Errors
    /// When gzip is damaged.
    pub fn text(&self) -> Result<String> {
        let mut plain = Vec::new();
        if self.body.starts_with(&[0x1f, 0x8b]) {
            let mut gzip = flate2::read::MultiGzDecoder::new(self.body.as_slice());
            std::io::Read::read_to_end(&mut gzip, &mut plain)?;
        } else {
            plain.clone_from(&self.body);
        }
        Ok(String::from_utf8_lossy(&plain).into_owned())
    }
}

/// Every object below `root`, by bucket and key.
///
/// # Errors
/// When the directory cannot be read.
pub fn objects(root: &Path) -> Result<Vec<Object>> {
    let mut found = Vec::new();
    let mut folders = vec![root.to_path_buf()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder)? {
            let path = entry?.path();
            // The back end keeps its own notes in dot files.
            let hidden = |path: &Path| {
                path.file_name()
                    .is_some_and(|n| n.as_encoded_bytes()[0] == b'.')
            };
            if path.is_dir() {
                folders.push(path);
            } else if !hidden(&path) {
                found.push(object(root, &path)?);
            }
        }
    }
    found.sort_by(|a, b| (&a.bucket, &a.key).cmp(&(&b.bucket, &b.key)));
    Ok(found)
}

fn object(root: &Path, path: &Path) -> Result<Object> {
    let relative = path.strip_prefix(root)?.to_string_lossy();
    let (bucket, key) = relative
        .split_once('/')
        .ok_or_else(|| anyhow!("{relative} is in no bucket"))?;
    Ok(Object {
        bucket: bucket.to_string(),
        key: key.to_string(),
        body: std::fs::read(path)?,
    })
}

/// The object store.
pub(super) struct S3Site {
    shared: Arc<Shared>,
    root: PathBuf,
    service: S3Service,
}

impl S3Site {
    /// A store in `root` with these buckets, open to the credentials that IMDS hands out.
    pub fn new(shared: Arc<Shared>, root: &PathBuf, buckets: &[String]) -> Result<Self> {
        for bucket in buckets {
            std::fs::create_dir_all(root.join(bucket))?;
        }
        let files = FileSystem::new(root).map_err(|error| anyhow!("{error:?}"))?;
        let mut builder = S3ServiceBuilder::new(files);
        builder.set_auth(SimpleAuth::from_single(ACCESS_KEY, SECRET_KEY));
        Ok(Self {
            shared,
            root: root.clone(),
            service: builder.build(),
        })
    }

    async fn pass_on(&self, request: &Request) -> Result<Answer> {
        let mut inner = hyper::Request::builder()
            .method(request.method.clone())
            .uri(&request.target)
            .body(s3s::Body::from(request.body.clone()))?;
        *inner.headers_mut() = request.headers.clone();
        let outer = self.service.call(inner).await;
        let (head, body) = outer.map_err(|error| anyhow!("{error:?}"))?.into_parts();
        let body = body.collect().await.map_err(|error| anyhow!("{error}"))?;
        Ok(Answer {
            status: head.status.as_u16(),
            headers: head.headers,
            body: body.to_bytes(),
        })
    }
}

impl Site for S3Site {
    const SERVICE: Service = Service::S3;

    fn operation(&self, request: &Request) -> String {
        let query = request
            .target
            .split_once('?')
            .map_or("", |(_, query)| query);
        let has = |name: &str| query.split('&').any(|p| p.split('=').next() == Some(name));
        match request.method.as_str() {
            "PUT" if has("partNumber") => "UploadPart",
            "PUT" => "PutObject",
            "POST" if has("uploads") => "CreateMultipartUpload",
            "POST" if has("uploadId") => "CompleteMultipartUpload",
            "DELETE" if has("uploadId") => "AbortMultipartUpload",
            "HEAD" => "HeadObject",
            "GET" => "GetObject",
            _ => "",
        }
        .to_string()
    }

    async fn answer(&self, request: &Request) -> Answer {
        // The back end would make the bucket by the way.
        let bucket = request.path().split('/').nth(1).unwrap_or_default();
        if !self.root.join(bucket).is_dir() {
            return self.refuse(&Refused {
                status: 404,
                code: "NoSuchBucket".to_string(),
                message: "The specified bucket does not exist".to_string(),
            });
        }
        let answer = match self.pass_on(request).await {
            Ok(answer) => answer,
            Err(error) => self.refuse(&Refused {
                status: 500,
                code: "InternalError".to_string(),
                message: format!("{error:#}"),
            }),
        };
        let operation = self.operation(request);
        let stores = matches!(operation.as_str(), "PutObject" | "CompleteMultipartUpload");
        if stores && answer.status < 300 {
            let (path, bytes) = (request.path().to_string(), request.body.len());
            let stored = Happening::Stored { path, bytes };
            self.shared.state.change(|state| state.note(stored));
        }
        answer
    }

    fn refuse(&self, refused: &Refused) -> Answer {
        let body = format!(
            "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<Error><Code>{}</Code><Message>{}</Message><RequestId>{}</RequestId></Error>",
            refused.code,
            refused.message,
            uuid()
        );
        Answer::new(refused.status, "application/xml", Bytes::from(body))
    }
}
