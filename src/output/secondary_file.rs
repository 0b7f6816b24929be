//! out_secondary_file: chunks that the primary does not take, as the MessagePack entries that they are made of.
//!
//! ```text
//! <directory>/<basename>.0, .1, …      (append: <directory>/<basename>; compress gzip: .gz behind it)
//! ```

use std::io;
use std::sync::Arc;

use bytes::Bytes;
use serde::Deserialize;
use tokio::sync::Mutex;

use super::disk::Writing;
use super::placeholder::{self, Template};
use super::{Boxed, Chunks, Configured, Output, OutputContext, WriteError, files};
use crate::buffer::{self, Chunk};
use crate::config::{ConfigErrors, Element, Result};

/// `compress`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Compress {
    /// As it is.
    #[default]
    Text,
    /// One gzip member per chunk.
    Gzip,
}

/// The parameters, with Fluentd's defaults.
#[derive(Clone, Debug, Deserialize)]
#[serde(default)]
struct Params {
    /// Where files are written. Required. May have placeholders of the primary's chunk keys.
    directory: Option<String>,
    /// The name of the files, with placeholders, too.
    basename: String,
    /// Whether chunks are written one behind the other into one file.
    append: bool,
    /// `text` or `gzip`.
    compress: Compress,
}

impl Default for Params {
    fn default() -> Params {
        Params {
            directory: None,
            basename: "dump.bin".to_owned(),
            append: false,
            compress: Compress::Text,
        }
    }
}

/// The output.
struct SecondaryFile {
    path: Template,
    append: bool,
    gzip: bool,
    /// One write at a time: two flush threads may have the same file.
    writing: Arc<Mutex<()>>,
}

/// Reads a `<secondary>` section of type secondary_file.
pub fn configure(section: &Element, context: &OutputContext) -> Result<Configured> {
    let params: Params = section.params()?;
    let Chunks::Primarys(keys) = &context.chunks else {
        let message = "This plugin can only be used in the <secondary> section";
        return Err(section.error_at("@type", message).into());
    };
    let directory = params.directory.filter(|directory| !directory.is_empty());
    let directory = directory.ok_or_else(|| section.missing("directory"))?;
    let mut errors = ConfigErrors::new();
    for (name, text) in [("directory", &directory), ("basename", &params.basename)] {
        if let Err(why) = placeholder::check(name, text, &context.chunks) {
            errors.push(section.error_at(name, why));
        }
    }
    if params.basename.contains('/') {
        errors.push(section.error_at("basename", "basename should not include `/`"));
    }
    errors.into_result()?;
    let path = format!("{}/{}", directory.trim_end_matches('/'), params.basename);
    let path = Template::new(&path, keys.time.as_ref())
        .map_err(|why| section.error_at("directory", why))?;
    let output = SecondaryFile {
        path,
        append: params.append,
        gzip: params.compress == Compress::Gzip,
        writing: Arc::default(),
    };
    Ok(Configured::buffered("secondary_file", output))
}

impl SecondaryFile {
    async fn store(&self, chunk: &Chunk) -> std::result::Result<(), WriteError> {
        let start = chunk.key().timekey.unwrap_or_default();
        let path = self.path.fill(start, chunk);
        let path = path.map_err(WriteError::Unrecoverable)?;
        let suffix = if self.gzip { ".gz" } else { "" };
        let open = match self.append {
            true => Writing::append,
            false => open_new,
        };
        let path = format!("{path}{suffix}");
        let make = |part: &Bytes| Ok(vec![(path.clone(), part.to_vec())]);
        files::write(chunk, &self.writing, (open, self.gzip), make).await
    }
}

/// The first free name, the index before `.gz`.
fn open_new(path: &str, gzip: bool) -> io::Result<Writing> {
    let suffix = if gzip { ".gz" } else { "" };
    let stem = path.strip_suffix(suffix).unwrap_or(path);
    Writing::create(|index| format!("{stem}.{index}{suffix}"), gzip)
}

impl Output for SecondaryFile {
    fn write<'a>(&'a self, chunk: &'a Chunk) -> Boxed<'a, std::result::Result<(), WriteError>> {
        Box::pin(self.store(chunk))
    }

    fn looks_into(&self, _kept: buffer::Compress) -> bool {
        false
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use super::*;
    use crate::buffer::ChunkKeys;
    use crate::output::testing::{chunk, section};

    fn output(params: &[(&str, &str)], chunks: Chunks) -> Result<Configured> {
        let context = OutputContext {
            chunks,
            ..OutputContext::default()
        };
        configure(&section("secondary", params, vec![]), &context)
    }

    fn of_tag() -> Chunks {
        Chunks::Primarys(ChunkKeys::tag())
    }

    #[tokio::test]
    async fn each_chunk_is_a_file_with_the_next_number() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("${tag}").display().to_string();
        let output = output(&[("directory", &path)], of_tag()).expect("valid");
        let chunks = [
            chunk("app", &[(1, "a")]),
            chunk("app", &[(1, "b"), (2, "c")]),
        ];
        for (number, chunk) in chunks.iter().enumerate() {
            output.output.write(chunk).await.expect("written");
            let path = directory.path().join(format!("app/dump.bin.{number}"));
            let expected = chunk.read().await.expect("in memory").concat();
            assert_eq!(std::fs::read(path).expect("a file"), expected);
        }
    }

    #[tokio::test]
    async fn append_and_gzip_make_one_file_of_members() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().display().to_string();
        let params = [
            ("directory", path.as_str()),
            ("basename", "x"),
            ("append", "true"),
            ("compress", "gzip"),
        ];
        let output = output(&params, of_tag()).expect("valid");
        let one = chunk("app", &[(1, "a")]);
        for _ in 0..2 {
            output.output.write(&one).await.expect("written");
        }
        let file = std::fs::File::open(directory.path().join("x.gz")).expect("a file");
        let mut bytes = Vec::new();
        flate2::read::MultiGzDecoder::new(file)
            .read_to_end(&mut bytes)
            .expect("gzip");
        let entries = one.read().await.expect("in memory").concat();
        assert_eq!(bytes, [entries.clone(), entries].concat());
    }

    #[test]
    fn what_makes_no_sense_is_refused() {
        let refusal = |params: &[(&str, &str)], chunks| {
            let refused = output(params, chunks).err().expect("refused");
            refused.to_string()
        };
        let here = [("directory", "/nonexistent")];
        assert!(refusal(&[], of_tag()).contains("'directory' parameter is required"));
        assert!(refusal(&here, Chunks::Any).contains("only be used in the <secondary>"));
        let stranger = [here[0], ("basename", "${pod}")];
        assert!(refusal(&stranger, of_tag()).contains("doesn't have keys pod"));
        let slash = [here[0], ("basename", "a/b")];
        assert!(refusal(&slash, of_tag()).contains("should not include"));
    }
}
