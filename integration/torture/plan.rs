//! What one round does, all of it drawn from its seed: the configuration, when the agent dies, when the application rotates.
//!
//! The plan repeats with its seed; how it meets the scheduler, the disk and the network does not.

use std::fmt::{self, Display};
use std::path::Path;
use std::time::Duration;

use clap::ValueEnum;
use fastrand::Rng;

/// What a round is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Kind {
    /// Chunks in memory; killed under rotation.
    Memory,
    /// Chunks on disk; killed under rotation, acks come late.
    File,
    /// Chunks on a disk that is full; killed and started again meanwhile.
    Full,
    /// Between a kill and the next start the chunks' files suffer what a crash can leave.
    Harmed,
    /// Between a kill and the next start bytes of chunks are destroyed.
    Wounded,
}

impl Kind {
    /// Chunks on disk are sent again under the same id, so acks may well be late.
    fn slowest_ack(self) -> u64 {
        match self {
            Kind::Memory => 250,
            Kind::File | Kind::Full | Kind::Harmed | Kind::Wounded => 900,
        }
    }
}

/// Where the agent keeps its chunks. What a kill may repeat depends on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Storage {
    /// In memory. A kill repeats what was not safe yet, in chunks with new ids.
    Memory,
    /// `@type file`. A kill repeats what was not acknowledged yet, in chunks with the ids that they had.
    File,
    /// `@type file_single`, the same with other names and without `.meta` files.
    FileSingle,
}

impl Storage {
    /// The lines of the `<buffer>` section that ask for it.
    pub fn params(self, path: &Path) -> String {
        let path = path.display();
        match self {
            Storage::Memory => "@type memory".to_owned(),
            Storage::File => format!("@type file\n    path {path}"),
            Storage::FileSingle => format!("@type file_single\n    path {path}"),
        }
    }
}

/// How the application lets go of its log. All of them keep every byte until the agent has read it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Rotation {
    /// `.1` to `.2` and so on, the log to `.1`, a new log at once.
    Chain,
    /// The same, and the path stays empty until the application has written some lines more to the renamed file.
    WithoutCreate,
    /// `.1` to `.2` and so on, the log to `.1`, a new log at once, and the application hears of it only some lines later.
    CreateFirst,
    /// Twice in a row, with a few lines or none between.
    Twice,
    /// To a name with a date.
    Dated,
    /// To a name that no rotation makes; only where the agent has the file open, else a chain.
    Aside,
    /// A chain, and the oldest rotated file that was read is deleted.
    Delete,
    /// A chain, and the oldest rotated file that was read is replaced by its gzip.
    Compress,
}

/// How often each is drawn.
const ROTATIONS: [(Rotation, u32); 8] = [
    (Rotation::Chain, 6),
    (Rotation::WithoutCreate, 3),
    (Rotation::CreateFirst, 3),
    (Rotation::Twice, 3),
    (Rotation::Dated, 2),
    (Rotation::Aside, 1),
    (Rotation::Delete, 2),
    (Rotation::Compress, 1),
];

/// What `path` is drawn from: rotated names are outside or inside of it.
const PATTERNS: [&str; 4] = ["app.log", "app.log", "app.log*", "*.log*"];

/// When a life of the agent ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Moment {
    /// So long after the process was made, be it up or not.
    After(Duration),
    /// As soon as the receiver owes it an ack.
    InFlight,
    /// So long after it has said that the disk takes nothing.
    Full(Duration),
    /// So long after there is a chunk on disk.
    Kept(Duration),
}

/// A disk that becomes full.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Full {
    /// Bytes of the whole disk.
    pub size: u64,
    /// What fills it.
    pub by: Filling,
    /// Whether the pos_file is on it, too.
    pub state_too: bool,
}

/// What fills a disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Filling {
    /// Chunks: the server is away.
    Away,
    /// Chunks: the server acks after seconds.
    Slow,
    /// Somebody else's file, so long after the first start.
    Foreign(Duration),
}

/// One life of the agent that ends by SIGKILL.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Life {
    /// When it is killed.
    pub until: Moment,
    /// How long nobody is there; the application writes and rotates on.
    pub pause: Duration,
}

/// One round.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    /// What everything is drawn from.
    pub seed: u64,
    /// What it is about.
    pub kind: Kind,
    /// Chunks.
    pub storage: Storage,
    /// More lines of the `<buffer>` section.
    pub extra: &'static str,
    /// `path`, within the round's directory.
    pub pattern: &'static str,
    /// `enable_stat_watcher`.
    pub events: bool,
    /// `rotate_wait` in seconds.
    pub rotate_wait: &'static str,
    /// How chunks come to leave.
    pub flush: &'static str,
    /// `flush_thread_count`.
    pub flush_threads: u32,
    /// `chunk_limit_size`.
    pub chunk_limit: &'static str,
    /// `total_limit_size`: how much is read ahead of what is safe.
    pub total_limit: &'static str,
    /// Least and most time from a delivery's arrival to its ack.
    pub ack: (Duration, Duration),
    /// Lines a second.
    pub rate: u32,
    /// Bytes of a line.
    pub length: usize,
    /// The lives that end by SIGKILL; the one after them ends by SIGTERM.
    pub lives: Vec<Life>,
    /// The disk on which the chunks are, where it is tiny.
    pub full: Option<Full>,
    /// After so many lines each, from the last one on.
    pub rotations: Vec<(u64, Rotation)>,
    /// How long the application goes on after the last start.
    pub last: Duration,
}

impl Plan {
    /// Draws a round.
    pub fn new(kind: Kind, seed: u64) -> Plan {
        let mut rng = Rng::with_seed(seed);
        let kills = rng.usize(2..=5);
        let mut lives: Vec<Life> = (0..kills).map(|_| life(&mut rng)).collect();
        // A round in which nothing was in flight at any kill proves nothing.
        lives[rng.usize(..kills)].until = Moment::InFlight;
        let least = rng.u64(5..40);
        let plan = Plan {
            seed,
            kind,
            storage: storage(kind, &mut rng),
            extra: extra(kind, &mut rng),
            pattern: pick(&mut rng, &PATTERNS),
            events: rng.f32() < 0.8,
            rotate_wait: pick(&mut rng, &["0", "0.5", "5"]),
            flush: pick(
                &mut rng,
                &[
                    "flush_mode immediate",
                    "flush_interval 0.1",
                    "flush_interval 0.4",
                ],
            ),
            flush_threads: rng.u32(1..=4),
            chunk_limit: pick(&mut rng, &["16k", "256k", "8m"]),
            total_limit: pick(&mut rng, &["128k", "1m", "64m"]),
            ack: (
                Duration::from_millis(least),
                Duration::from_millis(least + rng.u64(10..kind.slowest_ack())),
            ),
            rate: rng.u32(1000..6000),
            length: rng.usize(60..300),
            lives,
            full: None,
            rotations: (0..400).map(|_| rotation(&mut rng)).collect(),
            last: Duration::from_millis(rng.u64(..400)),
        };
        match kind {
            Kind::Memory | Kind::File => plan,
            Kind::Full => plan.on_a_tiny_disk(&mut rng),
            Kind::Harmed | Kind::Wounded => plan.with_chunks_to_damage(&mut rng),
        }
    }

    /// Chunks stay and grow for a while: there is something to damage.
    fn with_chunks_to_damage(self, rng: &mut Rng) -> Plan {
        let life = |rng: &mut Rng| Life {
            until: Moment::Kept(Duration::from_millis(rng.u64(..700))),
            pause: Duration::from_millis(rng.u64(..200)),
        };
        Plan {
            lives: (0..rng.usize(2..=4)).map(|_| life(rng)).collect(),
            flush: pick(
                rng,
                &[
                    "flush_mode immediate",
                    "flush_interval 0.4",
                    "flush_interval 2",
                ],
            ),
            chunk_limit: pick(rng, &["64k", "256k", "8m"]),
            total_limit: "64m",
            ack: (self.ack.0, Duration::from_millis(1500)),
            ..self
        }
    }

    /// The disk is full within seconds, and at each kill but a hasty one.
    fn on_a_tiny_disk(self, rng: &mut Rng) -> Plan {
        let by = match rng.u32(..4) {
            0 => Filling::Away,
            1 => Filling::Slow,
            2 => Filling::Foreign(Duration::ZERO),
            _ => Filling::Foreign(Duration::from_millis(rng.u64(..800))),
        };
        let full = |rng: &mut Rng| Life {
            until: Moment::Full(Duration::from_millis(rng.u64(..600))),
            pause: Duration::from_millis(rng.u64(..300)),
        };
        let mut lives = vec![full(rng), full(rng)];
        if rng.bool() {
            lives.insert(1, life(rng));
        }
        Plan {
            full: Some(Full {
                size: rng.u64(16..=48) * 4096,
                by,
                state_too: rng.u32(..3) == 0,
            }),
            lives,
            total_limit: "64m",
            flush_threads: match by {
                Filling::Slow => 1,
                _ => self.flush_threads,
            },
            ack: match by {
                Filling::Slow => (Duration::from_secs(1), Duration::from_secs(3)),
                _ => self.ack,
            },
            rate: self.rate.max(3000),
            length: self.length.max(120),
            ..self
        }
    }
}

fn storage(kind: Kind, rng: &mut Rng) -> Storage {
    match (kind, rng.u32(..3)) {
        (Kind::Memory, _) => Storage::Memory,
        (_, 0) => Storage::FileSingle,
        _ => Storage::File,
    }
}

/// Nothing that is lost only when the machine dies.
fn extra(kind: Kind, rng: &mut Rng) -> &'static str {
    match kind {
        // A torn write is one that was not synced, and only plain data show which lines they hold.
        Kind::Memory | Kind::Harmed | Kind::Wounded => "",
        // Compressed lines take long to fill a disk.
        Kind::Full => pick(rng, &["", "", "fsync false"]),
        Kind::File => pick(rng, &["", "", "", "fsync false", "compress gzip"]),
    }
}

/// Short lives are as frequent as long ones: some end before the agent has opened its pos_file.
fn life(rng: &mut Rng) -> Life {
    let exponent = rng.f64() * 2.2;
    Life {
        until: Moment::After(Duration::from_secs_f64(0.008 * 10_f64.powf(exponent))),
        pause: Duration::from_millis(if rng.bool() { 0 } else { rng.u64(..400) }),
    }
}

fn rotation(rng: &mut Rng) -> (u64, Rotation) {
    let most: u32 = ROTATIONS.iter().map(|(_, weight)| weight).sum();
    let mut at = rng.u32(..most);
    let drawn = ROTATIONS.iter().find(|(_, weight)| {
        let here = at < *weight;
        at = at.saturating_sub(*weight);
        here
    });
    let most = if rng.bool() { 200 } else { 3000 };
    (rng.u64(20..most), drawn.unwrap_or(&ROTATIONS[0]).0)
}

fn pick(rng: &mut Rng, of: &[&'static str]) -> &'static str {
    of[rng.usize(..of.len())]
}

impl Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Plan {
            seed,
            kind,
            storage,
            extra,
            pattern,
            flush,
            rate,
            length,
            ..
        } = self;
        write!(
            f,
            "{kind:?} seed {seed}: path {pattern}, {storage:?} {extra}, {flush}, {} flush threads, chunks of {}, total {}, rotate_wait {}, \
             events {}, ack after {:?} to {:?}, {rate} lines/s of {length} bytes",
            self.flush_threads,
            self.chunk_limit,
            self.total_limit,
            self.rotate_wait,
            self.events,
            self.ack.0,
            self.ack.1,
        )?;
        if let Some(full) = &self.full {
            write!(
                f,
                " on a disk of {} kB that is full by {:?}, state too: {}",
                full.size / 1024,
                full.by,
                full.state_too
            )?;
        }
        write!(f, "; kill")?;
        for life in &self.lives {
            match life.until {
                Moment::After(time) => write!(f, " after {} ms", time.as_millis())?,
                Moment::InFlight => write!(f, " with a chunk in flight")?,
                Moment::Kept(time) => {
                    write!(f, " {} ms after a chunk was on disk", time.as_millis())?
                }
                Moment::Full(time) => {
                    write!(f, " {} ms after the disk was full", time.as_millis())?
                }
            }
            write!(f, " (away {} ms)", life.pause.as_millis())?;
        }
        Ok(())
    }
}
