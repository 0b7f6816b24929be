//! What a source does alone, measured on demand.

use super::*;

/// Counts and drops: what a source does alone.
#[derive(Default)]
struct Count(AtomicUsize);

impl Collector for Count {
    fn room(&self, _tag: &Tag) -> Room {
        Room::Ready
    }

    fn emit(&self, stream: EventStream) {
        self.0.fetch_add(stream.count, Ordering::Relaxed);
        stream.receipt.release();
    }
}

/// As the parser `none` will do it: one prefix per read.
struct Raw(EventTime, Vec<u8>);

impl Parser for Raw {
    fn parse(
        &mut self,
        text: &[u8],
        now: EventTime,
        _extra: Extra<'_>,
        batch: &mut Entries,
    ) -> Parsed {
        if self.0 != now {
            *self = Raw(now, msgpack::single_field_prefix(now, "message"));
        }
        batch.push_single(&self.1, text);
        Parsed::Events(1)
    }
}

#[test]
#[ignore = "a measurement: cargo test --release --lib tail::tests::measure -- --ignored --nocapture"]
fn throughput_of_the_source_alone() {
    let place = Place::new();
    let lines = 4_000_000usize;
    let line = format!("{}\n", "x".repeat(149));
    let text = line.repeat(10_000);
    (0..lines / 10_000).for_each(|_| place.append("a.log", &text));
    let count = Arc::new(Count::default());
    let (stop, finished) = (Stop::new(), Arc::new(AtomicBool::new(false)));
    let done = finished.clone();
    let surroundings = Surroundings {
        collector: count.clone(),
        hasten: Arc::new(|| {}),
        recalled: Arc::default(),
        started: Arc::new(|| {}),
        stop: stop.clone(),
        progress: Arc::default(),
        finished: Arc::new(move || done.store(true, Ordering::SeqCst)),
    };
    stop.advance(Phase::AtEnd);
    let zero = EventTime { sec: 0, nsec: 0 };
    let input = Box::new(Tail::new(
        place.params("a.log"),
        Box::new(Raw(zero, Vec::new())),
    ));
    let begin = Instant::now();
    let thread = std::thread::spawn(move || input.run(surroundings));
    until("finished", || finished.load(Ordering::SeqCst));
    let took = begin.elapsed();
    stop.advance(Phase::Close);
    thread.join().expect("no panic").expect("no error");
    assert_eq!(count.0.load(Ordering::Relaxed), lines);
    eprintln!("{:.1} M lines/s", lines as f64 / took.as_secs_f64() / 1e6);
}
