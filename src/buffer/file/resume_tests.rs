use std::sync::Mutex;

use super::super::sim::{Fault, Sim};
use super::super::{Naming, Settings, Storage};
use super::*;
use crate::buffer::{ChunkId, Compress};
use crate::event::{Entries, EventTime, formatted};

const ID: &str = "660d594200885010eead92f8e879e0bd";

fn entry(message: &str) -> Vec<u8> {
    let mut batch = Entries::default();
    let mut record = batch.begin(EventTime { sec: 1, nsec: 0 });
    record.bin("message", message.as_bytes());
    record.finish();
    batch.freeze().0.to_vec()
}

fn meta(tag: &str) -> Meta {
    Meta {
        timekey: None,
        tag: Some(tag.into()),
        variables: None,
        seq: 0,
        id: ChunkId::from_hex(ID).expect("an id"),
        records: 1,
        created: 1_700_000_000,
        modified: 1_700_000_000,
    }
}

/// What a start makes of a disk: each chunk's tag, letter, fate and data, and how many were broken.
struct Resumed {
    chunks: Vec<(String, Letter, Fate, Vec<u8>)>,
    broken: usize,
}

fn storage(formatted: bool) -> Storage {
    Storage::new(Settings {
        directory: "buffer".into(),
        beside: Vec::new(),
        naming: Naming::file("buffer", ".log"),
        fsync: true,
        most_inflated: 8 << 20,
        formatted,
        directory_mode: 0o700,
        file_mode: 0o600,
    })
}

fn resume(sim: &Arc<Sim>) -> Resumed {
    resume_as(sim, false)
}

/// For an output that formats before it buffers, or not.
fn resume_as(sim: &Arc<Sim>, formatted: bool) -> Resumed {
    let storage = storage(formatted);
    let broken = Mutex::new(0);
    let count = || *broken.lock().expect("whole") += 1;
    let left = storage
        .open_on(sim.clone(), None, "out", &ChunkKeys::tag(), count)
        .expect("readable");
    let chunks = left.iter().map(|chunk| {
        let fate = chunk.check(storage.work());
        let data = sim.content(&chunk.name.data()).unwrap_or_default();
        (chunk.content.key.tag.to_string(), chunk.letter, fate, data)
    });
    Resumed {
        chunks: chunks.collect(),
        broken: *broken.lock().expect("whole"),
    }
}

fn whole(data: &[u8], records: u64) -> Fate {
    Fate::Goes {
        len: data.len() as u64,
        records,
        lost: 0,
    }
}

#[test]
fn fluentds_staged_and_queued_chunks_are_taken_over() {
    let sim = Arc::new(Sim::default());
    let data = [entry("one"), entry("two")].concat();
    let other = "660d594200885010eead92f8e879e0be";
    for name in [format!("buffer.b{ID}.log"), format!("buffer.q{other}.log")] {
        sim.put(&name, &data);
        sim.put(&format!("{name}.meta"), &meta("app").encode());
    }
    sim.put("notes.txt", b"not ours");
    let resumed = resume(&sim);
    let expected = [Letter::Staged, Letter::Queued]
        .map(|letter| ("app".to_owned(), letter, whole(&data, 2), data.clone()));
    assert_eq!(resumed.chunks, expected);
    assert!(sim.names().contains(&"notes.txt".to_owned()));
}

#[test]
fn a_crash_between_fluentds_two_renames_costs_nothing() {
    let sim = Arc::new(Sim::default());
    let data = entry("one");
    sim.put(&format!("buffer.q{ID}.log"), &data);
    sim.put(&format!("buffer.b{ID}.log.meta"), &meta("app").encode());
    assert_eq!(
        resume(&sim).chunks,
        [("app".into(), Letter::Queued, whole(&data, 1), data)]
    );
    // And from here on the metadata stand where they belong.
    assert_eq!(
        sim.names(),
        [
            format!("buffer.q{ID}.log"),
            format!("buffer.q{ID}.log.meta")
        ]
    );
}

#[test]
fn what_nobody_can_use_is_set_aside_and_everything_else_goes_on() {
    let sim = Arc::new(Sim::default());
    let id = |n: u8| format!("660d594200885010eead92f8e879e0{n:02x}");
    // Empty; metadata that are none; no metadata; data that are none.
    sim.put(&format!("buffer.q{}.log", id(1)), b"");
    sim.put(
        &format!("buffer.q{}.log.meta", id(1)),
        &meta("app").encode(),
    );
    sim.put(&format!("buffer.b{}.log", id(2)), &entry("two"));
    sim.put(&format!("buffer.b{}.log.meta", id(2)), b"\xc1\x00garbage");
    sim.put(&format!("buffer.q{}.log", id(3)), &entry("three"));
    sim.put(&format!("buffer.q{}.log", id(4)), b"\xff\xff\xff");
    sim.put(
        &format!("buffer.q{}.log.meta", id(4)),
        &meta("app").encode(),
    );
    sim.put(&format!("buffer.q{}.log", id(5)), &entry("five"));
    sim.put(
        &format!("buffer.q{}.log.meta", id(5)),
        &meta("app").encode(),
    );
    let resumed = resume(&sim);
    assert_eq!(resumed.broken, 3);
    let fates: Vec<_> = resumed.chunks.iter().map(|chunk| chunk.2).collect();
    assert_eq!(fates, [Fate::Stays, whole(&entry("five"), 1)]);
    let names = sim.names();
    for n in 1..=4 {
        assert!(
            names
                .iter()
                .any(|name| name.contains(&id(n)) && name.ends_with(".log.broken")),
            "{names:?}"
        );
    }
    assert_eq!(
        sim.content(&format!("buffer.b{}.log.broken", id(2))),
        Some(entry("two"))
    );
    // A second start finds nothing to complain of.
    assert_eq!(resume(&sim).broken, 0);
}

#[test]
fn readable_records_of_a_damaged_chunk_go_on_and_the_original_is_kept() {
    let sim = Arc::new(Sim::default());
    let name = format!("buffer.q{ID}.log");
    let damaged = [&entry("one")[..], &entry("two"), b"\xc1", &entry("three")].concat();
    sim.put(&name, &damaged);
    sim.put(&format!("{name}.meta"), &meta("app").encode());
    let readable = [entry("one"), entry("two"), entry("three")].concat();
    let goes = Fate::Goes {
        len: readable.len() as u64,
        records: 3,
        lost: 1,
    };
    assert_eq!(
        resume(&sim).chunks,
        [("app".into(), Letter::Queued, goes, readable.clone())]
    );
    assert_eq!(sim.content(&format!("{name}.broken")), Some(damaged));
    // The next start finds a sound chunk.
    assert_eq!(
        resume(&sim).chunks,
        [("app".into(), Letter::Queued, whole(&readable, 3), readable)]
    );
}

#[test]
fn a_chunk_that_lost_whole_records_at_its_end_is_counted_as_broken_once() {
    let sim = Arc::new(Sim::default());
    let name = format!("buffer.q{ID}.log");
    let data = [entry("one"), entry("two")].concat();
    let side = [
        side::head(&meta("app")),
        side::group(&Group {
            start: 0,
            end: data.len() as u64,
            records: 2,
            crc: crc32fast::hash(&data),
            confirmed: false,
        }),
    ];
    sim.put(&name, &entry("one"));
    sim.put(&format!("{name}.meta"), &meta("app").encode());
    sim.put(&format!("buffer.{ID}.affluent"), &side.concat());
    let goes = Fate::Goes {
        len: entry("one").len() as u64,
        records: 1,
        lost: entry("two").len() as u64,
    };
    assert_eq!(resume(&sim).chunks[0].2, goes);
    assert_eq!(resume(&sim).chunks[0].2, whole(&entry("one"), 1));
}

#[test]
fn what_was_announced_and_never_written_is_not_missed_once_the_chunk_is_queued() {
    let sim = Arc::new(Sim::default());
    let name = |letter: char| format!("buffer.{letter}{ID}.log");
    let (one, two) = (entry("one"), entry("two"));
    let group = |start: u64, data: &[u8]| {
        side::group(&Group {
            start,
            end: start + data.len() as u64,
            records: 1,
            crc: crc32fast::hash(data),
            confirmed: false,
        })
    };
    let side = [
        side::head(&meta("app")),
        group(0, &one),
        side::confirm(),
        group(one.len() as u64, &two),
    ];
    // On a full disk, or with a part of it that a crash tore.
    for torn in [&[][..], &two[..3]] {
        sim.put(&name('b'), &[&one, torn].concat());
        sim.put(&format!("{}.meta", name('b')), &meta("app").encode());
        sim.put(&format!("buffer.{ID}.affluent"), &side.concat());
        assert_eq!(resume(&sim).chunks[0].2, whole(&one, 1));
        for end in ["", ".meta"] {
            let renamed = sim.rename(&(name('b') + end), &(name('q') + end));
            renamed.expect("renamed");
        }
        assert_eq!(resume(&sim).chunks[0].2, whole(&one, 1));
        sim.remove(&name('q')).expect("removed");
    }
}

#[test]
fn what_a_crash_left_of_no_chunk_is_removed() {
    let sim = Arc::new(Sim::default());
    sim.put(&format!("buffer.{ID}.part"), &entry("never released"));
    sim.put(&format!("buffer.{ID}.affluent"), b"");
    sim.put(&format!("buffer.b{ID}.log.meta"), &meta("app").encode());
    assert!(resume(&sim).chunks.is_empty());
    assert_eq!(sim.names(), Vec::<String>::new());
}

#[test]
fn a_disk_that_refuses_to_set_aside_loses_nothing() {
    let sim = Arc::new(Sim::default());
    let name = format!("buffer.q{ID}.log");
    sim.put(&name, &[&entry("one")[..], b"\xc1"].concat());
    sim.put(&format!("{name}.meta"), &meta("app").encode());
    let before = sim.names();
    for at in 2..8 {
        sim.set_fault(Some(super::super::sim::Fault {
            at: sim.operations() + at,
            times: 20,
            kind: ErrorKind::StorageFull,
        }));
        let storage = Storage::new(Settings {
            directory: "buffer".into(),
            beside: Vec::new(),
            naming: Naming::file("buffer", ".log"),
            fsync: true,
            most_inflated: 1 << 20,
            formatted: false,
            directory_mode: 0o700,
            file_mode: 0o600,
        });
        let Ok(left) = storage.open_on(sim.clone(), None, "out", &ChunkKeys::tag(), || ()) else {
            continue;
        };
        left.iter()
            .for_each(|chunk| assert!(chunk.check(storage.work()) != whole(b"", 0)));
        let names = sim.names();
        assert!(before.iter().all(|name| names.contains(name)), "{names:?}");
    }
    sim.set_fault(None);
    assert!(matches!(
        resume(&sim).chunks[0].2,
        Fate::Goes { records: 1, .. }
    ));
}

/// The lines in entries.
fn lines(data: &[u8]) -> Vec<u8> {
    let all = crate::event::msgpack::entries(data);
    let lines = all.map(|entry| {
        let entry = entry.expect("whole");
        assert_eq!(entry.time.sec, 1_700_000_000);
        formatted::line(entry.record).expect("a line").to_vec()
    });
    lines.collect::<Vec<_>>().concat()
}

#[test]
fn text_that_fluentd_formatted_goes_on_as_it_is() {
    let long = "x".repeat(3 << 20);
    let text = format!("2026-01-01\tapp\t{{\"a\":1}}\n\n{long}\nno newline");
    let packed = Compress::Gzip.pack(&[&text[..30]]).expect("packed");
    let rest = Compress::Gzip.pack(&[&text[30..]]).expect("packed");
    for data in [text.as_bytes().to_vec(), [packed, rest].concat()] {
        let sim = Arc::new(Sim::default());
        let name = format!("buffer.q{ID}.log");
        sim.put(&name, &data);
        sim.put(&format!("{name}.meta"), &meta("app").encode());
        let most = resume_as(&sim, true);
        let [
            (
                tag,
                Letter::Queued,
                Fate::Goes {
                    len,
                    records,
                    lost: 0,
                },
                taken,
            ),
        ] = &most.chunks[..]
        else {
            panic!("{:?}", most.chunks);
        };
        assert_eq!((&tag[..], *len), ("app", taken.len() as u64));
        assert!(*records >= 4);
        assert_eq!(lines(taken), text.as_bytes());
        // From now on it is a chunk like any other.
        let again = resume_as(&sim, true);
        assert_eq!(again.chunks, most.chunks);
        assert_eq!(again.broken, 0);
    }
}

#[test]
fn lines_before_a_damaged_member_of_a_compressed_text_go_on_and_the_file_is_kept() {
    let packed = |text: &str| Compress::Gzip.pack(&[text]).expect("packed");
    let mut cut = packed("three\n");
    cut.truncate(cut.len() - 8);
    let damage = [b"no member".to_vec(), cut];
    for bad in damage {
        let sim = Arc::new(Sim::default());
        let name = format!("buffer.q{ID}.log");
        let data = [packed("one\n"), packed("two\n"), bad.clone()].concat();
        sim.put(&name, &data);
        sim.put(&format!("{name}.meta"), &meta("app").encode());
        let chunks = resume_as(&sim, true).chunks;
        assert!(lines(&chunks[0].3).starts_with(b"one\ntwo\n"));
        let Fate::Goes { lost, .. } = chunks[0].2 else {
            panic!("{:?}", chunks[0].2);
        };
        assert_eq!(lost, bad.len() as u64);
        assert!(sim.names().contains(&format!("{name}.broken")));
    }
}

#[test]
fn text_is_damage_where_the_output_formats_when_it_writes() {
    let sim = Arc::new(Sim::default());
    let name = format!("buffer.q{ID}.log");
    sim.put(&name, b"a line\n");
    sim.put(&format!("{name}.meta"), &meta("app").encode());
    assert_eq!(resume(&sim).chunks[0].2, Fate::Stays);
    assert!(sim.names().contains(&format!("{name}.broken")));
}

#[test]
fn entries_of_an_output_that_formats_stay_entries() {
    let sim = Arc::new(Sim::default());
    let name = format!("buffer.q{ID}.log");
    sim.put(&name, &entry("one"));
    sim.put(&format!("{name}.meta"), &meta("app").encode());
    let chunks = resume_as(&sim, true).chunks;
    assert_eq!(chunks[0].2, whole(&entry("one"), 1));
    assert_eq!(chunks[0].3, entry("one"));
}

#[test]
fn a_crash_while_text_becomes_entries_loses_and_repeats_nothing() {
    let mut at = 0;
    loop {
        let sim = Arc::new(Sim::default());
        let name = format!("buffer.q{ID}.log");
        sim.put(&name, b"one\ntwo\n");
        sim.put(&format!("{name}.meta"), &meta("app").encode());
        let begin = sim.operations();
        sim.set_fault(Some(Fault {
            at: begin + at,
            times: u64::MAX,
            kind: ErrorKind::StorageFull,
        }));
        let storage = storage(true);
        // Where even the directory cannot be read there is nothing to show.
        let left = storage.open_on(sim.clone(), None, "out", &ChunkKeys::tag(), || ());
        let fates: Vec<Fate> = (left.into_iter().flatten())
            .map(|chunk| chunk.check(storage.work()))
            .collect();
        for seed in 0..20 {
            let after = Arc::new(sim.after_power_cut(seed));
            let chunks = resume_as(&after, true).chunks;
            assert_eq!(lines(&chunks[0].3), b"one\ntwo\n", "after {at} operations");
        }
        if sim.operations() < begin + at {
            assert!(matches!(fates[..], [Fate::Goes { records: 2, .. }]));
            return;
        }
        at += 1;
    }
}

#[test]
fn what_a_full_disk_interrupts_while_a_chunk_is_written_anew_takes_no_room() {
    for data in [
        b"one\ntwo\n".to_vec(),
        [&entry("one")[..], b"\xc1"].concat(),
    ] {
        for at in 0..30 {
            let sim = Arc::new(Sim::default());
            let name = format!("buffer.q{ID}.log");
            sim.put(&name, &data);
            sim.put(&format!("{name}.meta"), &meta("app").encode());
            let storage = storage(data.starts_with(b"one"));
            let left = storage.open_on(sim.clone(), None, "out", &ChunkKeys::tag(), || ());
            sim.set_fault(Some(Fault {
                at: sim.operations() + at,
                times: 1,
                kind: ErrorKind::StorageFull,
            }));
            for chunk in left.expect("opened") {
                chunk.check(storage.work());
            }
            let names = sim.names();
            assert!(
                !names.iter().any(|name| name.ends_with(".part")),
                "{at}: {names:?}"
            );
        }
    }
}
