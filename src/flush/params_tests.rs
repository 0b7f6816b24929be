use super::*;
use crate::buffer::{KeyDefaults, chunk_keys};
use crate::config::Config;

/// The settings of an output with this `<buffer>`, and what start-up says about it.
fn settings(head: &str, inside: &str) -> (std::result::Result<Settings, String>, Vec<String>) {
    let text = format!("<match>\n<buffer {head}>\n{inside}\n</buffer>\n</match>");
    let config = Config::from_text(&text).expect("config");
    let section = config.root().children().next().expect("a section");
    let buffer = section.section("buffer").expect("one").expect("a buffer");
    let keys = chunk_keys(buffer, KeyDefaults::default());
    let settings = keys.and_then(|keys| {
        configure(Owner {
            section,
            unbuffered: false,
            keys: &keys,
            has_secondary: false,
            root_dir: Path::new("/nonexistent"),
            workers: 1,
            keeps_files: false,
        })
    });
    let said = config.warnings().iter().map(|one| one.line()).collect();
    (settings.map_err(|errors| errors.to_string()), said)
}

fn due(head: &str, inside: &str) -> Due {
    settings(head, inside).0.expect("valid").flush.due
}

const MINUTE: Duration = Duration::from_secs(60);

#[test]
fn flush_modes_follow_the_chunk_keys_as_in_fluentd() {
    let plain = due("tag", "");
    assert_eq!(
        (plain.mode, plain.slice),
        (FlushMode::Interval(MINUTE), None)
    );
    let sliced = due("time", "timekey 1h");
    assert_eq!(sliced.mode, FlushMode::Lazy);
    assert_eq!(sliced.slice, Some(Duration::from_secs(3600 + 600)));
    let both = due(
        "time",
        "timekey 1h\ntimekey_wait 5\nflush_mode interval\nflush_interval 7",
    );
    assert_eq!(both.mode, FlushMode::Interval(Duration::from_secs(7)));
    assert_eq!(both.slice, Some(Duration::from_secs(3605)));
    assert_eq!(
        due("tag", "flush_mode immediate").mode,
        FlushMode::Immediate
    );
}

#[test]
fn an_interval_that_does_not_count_is_said_or_refused() {
    let (settings, said) = super::tests::settings("time", "timekey 1h\nflush_interval 5s");
    assert_eq!(settings.expect("valid").flush.due.mode, FlushMode::Lazy);
    assert!(
        said[0].contains("flush_interval") && said[0].contains("text:4"),
        "{said:?}"
    );
    for mode in ["lazy", "immediate"] {
        let inside = format!("flush_mode {mode}\nflush_interval 5s");
        let refused = super::tests::settings("tag", &inside)
            .0
            .expect_err("refused");
        assert!(refused.contains("can be specified only when"), "{refused}");
    }
}

#[test]
fn limits_are_read_as_fluentd_reads_them() {
    let limits = |inside: &str| settings("tag", inside).0.expect("valid").limits;
    let queue = limits("chunk_limit_size 1m\nqueue_limit_length 4\ntotal_limit_size 1g");
    assert_eq!((queue.chunk_bytes, queue.total_bytes), (1 << 20, 4 << 20));
    assert_eq!(
        limits("chunk_limit_records 10\nchunk_full_threshold 0.5").full_records,
        5
    );
    assert_eq!(limits("compress zstd").compress, Compress::Zstd);
    let words = ["throw_exception", "block", "drop_oldest_chunk"];
    assert_eq!(
        words.map(|word| limits(&format!("overflow_action {word}")).overflow.word()),
        words
    );
    assert!(settings("tag", "overflow_action exception").0.is_err());
}

#[test]
fn as_many_chunks_are_queued_by_time_as_there_are_threads_unless_it_is_said() {
    let flush = |inside: &str| settings("tag", inside).0.expect("valid").flush;
    assert_eq!(flush("").queued_limit, 1);
    assert_eq!(flush("flush_thread_count 3").queued_limit, 3);
    assert_eq!(flush("queued_chunks_limit_size 7").queued_limit, 7);
    assert_eq!(
        flush("flush_thread_interval 2").thread_interval,
        Duration::from_secs(2)
    );
    assert_eq!(
        flush("flush_thread_burst_interval 0.5").burst_interval,
        Duration::from_millis(500)
    );
}

#[test]
fn what_has_no_effect_is_said_with_its_line() {
    let (_, said) = settings("tag", "delayed_commit_timeout 5\ntimekey 1h");
    for (at, name) in [(3, "delayed_commit_timeout"), (4, "timekey")] {
        let place = format!("text:{at}:");
        assert!(
            said.iter()
                .any(|line| line.starts_with(&place) && line.contains(name)),
            "{name}: {said:?}"
        );
    }
}

/// As in Fluentd; td-agent's chunks of such an output lie there.
#[test]
fn out_file_keeps_its_chunks_on_disk_at_its_own_path_unless_the_buffer_says_otherwise() {
    let directory = |buffer: &str| {
        let text = format!("<match>\n@type file\npath /var/x/log\n{buffer}</match>");
        let config = Config::from_text(&text).expect("config");
        let section = config.root().children().next().expect("a section");
        let settings = configure(Owner {
            section,
            unbuffered: false,
            keys: &ChunkKeys::default(),
            has_secondary: false,
            root_dir: Path::new("/nonexistent"),
            workers: 1,
            keeps_files: true,
        });
        settings.expect("valid").disk.map(|disk| disk.directory)
    };
    let at = |path: &str| Some(PathBuf::from(path));
    assert_eq!(directory(""), at("/var/x/log"));
    assert_eq!(
        directory("<buffer>\n@type file\n</buffer>\n"),
        at("/var/x/log")
    );
    assert_eq!(
        directory("<buffer>\npath /var/b\n</buffer>\n"),
        at("/var/b")
    );
    assert_eq!(directory("<buffer>\n@type memory\n</buffer>\n"), None);
}

#[test]
fn a_chunk_is_full_at_the_first_whole_event_above_the_threshold() {
    let full = |records| {
        let inside = format!("chunk_limit_records {records}");
        settings("tag", &inside)
            .0
            .expect("valid")
            .limits
            .full_records
    };
    assert_eq!([1, 2, 5, 10, 100].map(full), [1, 2, 5, 10, 95]);
}

#[test]
fn what_one_parameter_takes_from_another_is_said() {
    for (inside, part) in [
        (
            "retry_forever\nretry_timeout 1h",
            "'retry_timeout' has no effect",
        ),
        (
            "retry_forever\nretry_max_times 3",
            "'retry_max_times' has no effect",
        ),
        (
            "queue_limit_length 4\ntotal_limit_size 1g",
            "'total_limit_size' has no effect",
        ),
        (
            "chunk_limit_size 256m",
            "chunks are queued at 8388608 bytes",
        ),
    ] {
        let (valid, said) = settings("tag", inside);
        assert!(
            valid.is_ok() && said.len() == 1 && said[0].contains(part),
            "{said:?}"
        );
    }
    for (inside, quiet) in [("retry_forever", 0), ("chunk_limit_size 8m", 0)] {
        assert_eq!(settings("tag", inside).1.len(), quiet);
    }
}

#[test]
fn file_single_has_one_key_in_its_names() {
    let place = tempfile::tempdir().expect("a directory");
    let inside = format!("@type file_single\npath {}", place.path().display());
    for (head, good) in [
        ("tag", true),
        ("", true),
        ("host", true),
        ("tag,host", false),
        ("host,app", false),
    ] {
        let (valid, _) = settings(head, &inside);
        assert_eq!(valid.is_ok(), good, "{head}");
        if let Err(error) = valid {
            assert!(error.contains("file_single"), "{error}");
        }
    }
}
