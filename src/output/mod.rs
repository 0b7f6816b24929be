//! Where chunks go: the trait and the table of outputs.
//!
//! `write` tries once, and `Ok` means that the chunk is safe in the sense of the output (acknowledged, synced, stored). The only
//! retry is in `flush`.

#[cfg(feature = "aws")]
pub mod s3;

use std::fmt;
use std::future::Future;
use std::io::{self, Write};
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;

use crate::buffer::{Chunk, ChunkKeys, Compress, Lull};
use crate::config::{Element, Result};
use crate::event::Tag;
use crate::stop::Stop;

mod disk;
mod file;
mod files;
pub mod forward;
mod lines;
mod null;
mod placeholder;
mod secondary_file;
mod stdout;

/// A future that an output returns: boxed, because outputs are chosen at run time. Once per chunk, not per line.
pub type Boxed<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// Why a chunk was not written, and whether trying again makes sense.
#[derive(Debug)]
pub enum WriteError {
    /// The world may get better: the chunk goes back to the head of the queue.
    Retry(anyhow::Error),
    /// This chunk will never pass: it goes to the secondary or to the backup directory.
    Unrecoverable(anyhow::Error),
}

impl WriteError {
    /// The reason.
    pub fn reason(&self) -> &anyhow::Error {
        match self {
            WriteError::Retry(error) | WriteError::Unrecoverable(error) => error,
        }
    }
}

impl fmt::Display for WriteError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:#}", self.reason())
    }
}

impl<E: Into<anyhow::Error>> From<E> for WriteError {
    fn from(error: E) -> WriteError {
        WriteError::Retry(error.into())
    }
}

impl WriteError {
    /// Why a chunk cannot be read: what cannot be inflated now never can.
    fn of_reading(error: io::Error) -> WriteError {
        match error.kind() {
            io::ErrorKind::InvalidData => WriteError::Unrecoverable(error.into()),
            _ => WriteError::Retry(error.into()),
        }
    }
}

/// All entries of a chunk.
async fn entries_of(chunk: &Chunk) -> std::result::Result<Vec<Bytes>, WriteError> {
    chunk.read().await.map_err(WriteError::of_reading)
}

/// A destination.
pub trait Output: Send + Sync {
    /// Writes the chunk once. Dropping the future is allowed at any await: the chunk then counts as not written.
    fn write<'a>(&'a self, chunk: &'a Chunk) -> Boxed<'a, Result<(), WriteError>>;

    /// The same where nothing is in a hurry: an output that awaits an answer looks for it when the lull is over.
    fn write_in_lull<'a>(
        &'a self,
        chunk: &'a Chunk,
        _lull: &'a mut Lull,
    ) -> Boxed<'a, Result<(), WriteError>> {
        self.write(chunk)
    }

    /// These entries as lines, where Fluentd's output of this name formats before it buffers; `None` where it does not.
    fn formatted(&self, _tag: &Tag, _entries: &[u8]) -> Option<anyhow::Result<Vec<u8>>> {
        None
    }

    /// What runs beside the writes until `stop` reaches `Close`: one task per heartbeat.
    fn tasks(self: Arc<Self>, _stop: Stop) -> Vec<(String, Boxed<'static, ()>)> {
        Vec::new()
    }

    /// The instance terminates: prefer whichever destination answers now, forget politeness.
    fn hurry(&self) {}

    /// Bytes of entries that were handed to the destination since the start, acknowledged or not. It grows while anybody
    /// listens: a drain sees by it whether waiting for acknowledgements makes sense.
    fn moved(&self) -> u64 {
        0
    }

    /// Whether it reads a chunk whole that is kept like this, and writes what it makes of it; or sends it as it is, piece by piece.
    fn looks_into(&self, _kept: Compress) -> bool {
        true
    }

    /// The servers behind it, for `status`.
    fn nodes(&self) -> Vec<NodeStatus> {
        Vec::new()
    }

    /// What one line at start should say to the operator about this output's promise, if anything.
    fn notice(&self) -> Option<String> {
        None
    }
}

/// One server of an output, as `status` shows it. Counters are of this run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeStatus {
    /// `name`, or `host:port`.
    pub name: String,
    /// `host:port`.
    pub address: String,
    /// Whether it is a standby.
    pub standby: bool,
    /// Whether it counts as able to take chunks.
    pub available: bool,
    /// Whether chunks go to it: for a standby, whether it stands in for a regular server now.
    pub active: bool,
    /// Chunks written to it completely.
    pub sent_chunks: u64,
    /// Chunks that it has acknowledged.
    pub acked_chunks: u64,
}

/// What outputs share with the rest of the agent.
#[derive(Clone, Default)]
pub struct OutputContext {
    /// Where out_stdout prints.
    pub log: LogStream,
    /// Which chunks come.
    pub chunks: Chunks,
}

/// Which chunks an output has to write: what its parameters may say about them.
#[derive(Clone, Debug, Default)]
pub enum Chunks {
    /// Its own buffer's, cut by these keys.
    Own(ChunkKeys),
    /// Its primary's: it is a `<secondary>`.
    Primarys(ChunkKeys),
    /// Of any output: it is a `<spill>`.
    #[default]
    Any,
}

/// The stream that the agent logs to: standard output, or the file of `-o`.
#[derive(Clone)]
pub struct LogStream(Arc<Mutex<dyn Write + Send>>);

impl LogStream {
    /// A stream that several outputs print to, each chunk in one piece.
    pub fn new(sink: Arc<Mutex<dyn Write + Send>>) -> LogStream {
        LogStream(sink)
    }

    fn print(&self, lines: &[u8]) -> io::Result<()> {
        let mut sink = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        sink.write_all(lines)?;
        sink.flush()
    }
}

impl Default for LogStream {
    fn default() -> LogStream {
        LogStream::new(Arc::new(Mutex::new(io::stdout())))
    }
}

/// A configured output.
pub struct Configured {
    /// `forward`, `file`, …
    pub plugin_type: &'static str,
    /// The output.
    pub output: Arc<dyn Output>,
    /// Whether Fluentd does not buffer it: without a `<buffer>` its chunks are flushed at once.
    pub unbuffered: bool,
    /// Whether Fluentd formats before it buffers: chunks that it left hold text.
    pub formats: bool,
}

impl Configured {
    fn buffered(plugin_type: &'static str, output: impl Output + 'static) -> Configured {
        Configured {
            plugin_type,
            output: Arc::new(output),
            unbuffered: false,
            formats: false,
        }
    }

    fn unbuffered(plugin_type: &'static str, output: impl Output + 'static) -> Configured {
        Configured {
            unbuffered: true,
            ..Configured::buffered(plugin_type, output)
        }
    }
}

type Configure = fn(&Element, &OutputContext) -> Result<Configured>;

const OUTPUTS: &[(&str, Configure)] = &[
    ("forward", |section, _| {
        let forward = forward::configure(section)?;
        Ok(Configured::buffered("forward", forward))
    }),
    ("file", file::configure),
    ("stdout", stdout::configure),
    ("null", null::configure),
    ("secondary_file", secondary_file::configure),
    #[cfg(feature = "aws")]
    ("s3", |section, context| {
        let s3: Arc<dyn Output> = s3::configure(section, &context.chunks)?;
        Ok(Configured {
            plugin_type: "s3",
            output: s3,
            unbuffered: false,
            formats: true,
        })
    }),
];

/// Outputs that Fluentd users may expect and that are not there.
const EXPECTED: &[&str] = &[
    "elasticsearch",
    "elasticsearch_dynamic",
    "opensearch",
    "rewrite_tag_filter",
    "tdlog",
    "record_reformer",
    "mongo",
    "gelf",
    "newrelic",
    "forest",
    "kafka",
    "kafka2",
    "kafka_buffered",
    "cloudwatch_logs",
    "kinesis_firehose",
    "kinesis_streams",
    "influxdb",
    "http",
    "secure_forward",
    "webhdfs",
    "bigquery",
    "loki",
    "datadog",
    "prometheus",
    "roundrobin",
    "exec",
    "exec_filter",
    "buffer",
];

/// Wiring, not destinations; but whoever mistypes them wants to hear of them.
const WIRING: [&str; 2] = ["copy", "relabel"];

fn known_types() -> Vec<&'static str> {
    let outputs = OUTPUTS.iter().map(|(name, _)| *name);
    outputs.chain(WIRING).collect()
}

/// The `@type` of a `<match>` or `<store>`; an error that lists them where it has none.
pub fn plugin_type(section: &Element) -> Result<&str> {
    section.plugin_type_of(&known_types())
}

/// Reads a `<match>`, `<store>` or `<secondary>` section. Touches nothing outside.
pub fn configure(section: &Element, context: &OutputContext) -> Result<Configured> {
    let plugin_type = plugin_type(section)?;
    if let Some((_, configure)) = OUTPUTS.iter().find(|(name, _)| *name == plugin_type) {
        return configure(section, context);
    }
    if WIRING.contains(&plugin_type) {
        let message = format!("'{plugin_type}' cannot be used in <{}>", section.name());
        return Err(section.error_at("@type", message).into());
    }
    let known = known_types();
    let known_list = known.join(", ");
    let message = if EXPECTED.contains(&plugin_type) {
        format!("output plugin '{plugin_type}' is not supported yet (supported: {known_list})")
    } else {
        format!("unknown output plugin '{plugin_type}' (known: {known_list})")
    };
    let error = section
        .error_at("@type", message)
        .suggest(plugin_type, known);
    Err(error.into())
}

#[cfg(test)]
mod testing {
    use std::time::{Instant, SystemTime};

    use super::*;
    use crate::buffer::ChunkKey;
    use crate::event::{Entries, EventStream, EventTime, Receipt};

    /// A section as the configuration parser would give it.
    pub fn section(name: &str, params: &[(&str, &str)], children: Vec<Element>) -> Element {
        let nothing = Element::default();
        let mut element = Element::synthetic(&nothing, name, None);
        for (key, value) in params {
            element.set_param(key, value, &nothing, key);
        }
        let with = |element: Element, child| element.with_section(child);
        children.into_iter().fold(element, with)
    }

    /// A chunk of one segment per event: second and message.
    pub fn chunk(tag: &str, events: &[(u32, &str)]) -> Chunk {
        chunk_of(ChunkKey::of_tag(Tag::new(tag)), events)
    }

    /// The same under another key.
    pub fn chunk_of(key: ChunkKey, events: &[(u32, &str)]) -> Chunk {
        let tag = key.tag.clone();
        let mut chunk = Chunk::new(key, Instant::now(), SystemTime::now());
        for (sec, message) in events {
            let mut batch = Entries::default();
            let mut record = batch.begin(EventTime { sec: *sec, nsec: 0 });
            record.bin("message", message.as_bytes());
            record.finish();
            let (entries, count) = batch.freeze();
            chunk.append(EventStream {
                tag: tag.clone(),
                entries,
                count,
                receipt: Receipt::none(),
            });
        }
        chunk
    }
}

#[cfg(test)]
mod tests {
    use super::testing::{chunk, section};
    use super::*;

    fn refusal(plugin_type: &str) -> String {
        let section = section("match", &[("@type", plugin_type)], vec![]);
        let error = configure(&section, &OutputContext::default()).err();
        error.expect("unknown").to_string()
    }

    #[test]
    fn unknown_outputs_are_named_with_what_is_known() {
        let message = refusal("forwrad");
        assert!(
            message.contains("unknown output plugin 'forwrad'"),
            "{message}"
        );
        assert!(
            message.contains("(known: forward, file, stdout, null"),
            "{message}"
        );
        assert!(refusal("elasticsearch").contains("not supported yet"));
    }

    #[tokio::test]
    async fn null_takes_everything() {
        let section = section("match", &[("@type", "null")], vec![]);
        let null = configure(&section, &OutputContext::default()).expect("valid");
        null.output
            .write(&chunk("a", &[(1, "x")]))
            .await
            .expect("taken");
        assert_eq!((null.plugin_type, null.unbuffered), ("null", true));
    }
}
