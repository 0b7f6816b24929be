use std::time::{Instant, SystemTime};

use super::*;
use crate::buffer::{Chunk, ChunkKey};
use crate::config::Config;
use crate::event::{Entries, EventStream, EventTime, Receipt, Tag};

fn plan(text: &str) -> Plan {
    let config = Config::from_text(text).expect("config");
    let settings = Settings {
        root_dir: PathBuf::from("/nonexistent"),
        workers: 1,
        outputs: OutputContext::default(),
        open_files: 1024,
        without_source: true,
    };
    configure(config.root(), &settings).expect("plan")
}

/// One event of the year 2000.
fn chunk() -> Chunk {
    let tag = Tag::new("app");
    let key = ChunkKey::of_tag(tag.clone());
    let mut chunk = Chunk::new(key, Instant::now(), SystemTime::now());
    let mut batch = Entries::default();
    let time = EventTime {
        sec: 961_000_000,
        nsec: 0,
    };
    batch.begin(time).finish();
    let (entries, count) = batch.freeze();
    chunk.append(EventStream {
        tag,
        entries,
        count,
        receipt: Receipt::none(),
    });
    chunk
}

#[tokio::test]
async fn a_flat_buffer_parameter_leaves_out_file_its_time_slices() {
    for flat in ["", "buffer_chunk_limit 8m", "flush_interval 1s"] {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("x").display().to_string();
        let plan = plan(&format!(
            "<match **>\ntype file\npath {path}\n{flat}\n</match>"
        ));
        let output = plan.flushers[0].output();
        output.write(&chunk()).await.expect("written");
        let mut names = std::fs::read_dir(directory.path()).expect("a directory");
        let name = names.next().expect("a file").expect("an entry").file_name();
        let name = name.to_string_lossy();
        assert!(name.starts_with("x.200006"), "{flat}: {name}");
    }
}
