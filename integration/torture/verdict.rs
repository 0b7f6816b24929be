//! What came of a round: set arithmetic over the ids of its lines, and the bounds that a kill leaves to repetition.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::{self, Display};

use super::book::{Book, Claim};
use super::damage::Damage;
use super::plan::Storage;
use super::writer::WRITER;
use crate::support::forward_server::{Received, State};
use crate::support::ledger::{Ledger, LineId, is_intact};

/// More ids than these are told as a number.
const SHOWN: usize = 20;

/// What a kill may repeat in chunks with new ids.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Repeats {
    /// The lines that the pos_file left open: those that were not safe, and those that were and were not written to it yet.
    #[default]
    LeftOpen,
    /// Nothing: every line that comes again comes in a chunk with the id that it had before.
    Nothing,
}

/// The rule for a sound buffer on a disk that takes everything: a start finds beside the chunks which lines they hold.
pub const OF_A_FILE_BUFFER: Repeats = Repeats::Nothing;

/// What was seen at one kill, after the process was gone.
#[derive(Clone, Debug, Default)]
pub struct Kill {
    /// What the pos_file said.
    pub claim: Claim,
    /// The chunks of this life that the receiver had and whose ack was not written.
    pub in_flight: Vec<String>,
    /// Lines that the pos_file called safe and that had neither arrived nor stood in the buffer's directory.
    pub too_early: Vec<u64>,
    /// Lines in the buffer's directory.
    pub held: usize,
    /// What it may repeat in new chunks.
    pub repeats: Repeats,
    /// Whether everything that was in flight is on disk, and so has to come again.
    pub stays: bool,
    /// What was done to its chunks before the next life.
    pub damage: Vec<Damage>,
    /// What else was wrong with this life.
    pub faults: Vec<String>,
}

/// What came of the file that was rotated by copytruncate.
#[derive(Clone, Debug, Default)]
pub struct Copied {
    /// Lines written.
    pub written: usize,
    /// Written and never arrived: the hole of the scheme, and what was not safe at a kill.
    pub lost: usize,
    /// Arrivals beyond the first of each line.
    pub duplicated: usize,
    /// Lines whose checksum does not fit.
    pub damaged: usize,
}

/// The verdict.
#[derive(Clone, Debug, Default)]
pub struct Verdict {
    /// Lines written.
    pub written: u64,
    /// Different ones of them that arrived.
    pub arrived: u64,
    /// Written and not arrived.
    pub missing: BTreeSet<LineId>,
    /// The same, where their bytes were destroyed.
    pub lost_to_damage: BTreeSet<LineId>,
    /// Arrivals beyond the first of each line.
    pub duplicated: usize,
    /// The same, without deliveries whose chunk id had come before.
    pub duplicated_in_new_chunks: usize,
    /// Deliveries whose chunk id had come before.
    pub chunks_again: usize,
    /// Lines that arrived more often than the kills explain: see [`Verdict::new`].
    pub unexplained: BTreeSet<LineId>,
    /// Lines that a pos_file called safe before they had arrived.
    pub too_early: BTreeSet<LineId>,
    /// Lines whose checksum does not fit.
    pub damaged: Vec<String>,
    /// The kills.
    pub kills: Vec<Kill>,
    /// What was wrong beside the lines.
    pub faults: Vec<String>,
    /// Counted apart.
    pub copied: Copied,
}

impl Verdict {
    /// Judges what a receiver has against what was written.
    ///
    /// With chunks in memory a kill may repeat what was not safe, and what was safe and not yet written to the pos_file; as the
    /// pos_file names only the oldest unfinished generation, also the younger ones whole. That is, exactly the lines that the pos_file
    /// left open once the process was dead. So a line may arrive once, and once more for each kill that left it open; one that no kill
    /// left open must not repeat. No time enters into this.
    ///
    /// With chunks on disk only the first arrival of each chunk id counts, and what comes again under an id must have come under it at
    /// first: whoever drops repeated ids has then lost nothing. Whether a kill may repeat lines in new chunks is its [`Repeats`].
    pub fn new(book: &Book, state: &State, kills: Vec<Kill>, storage: Storage) -> Verdict {
        let written = book.lines();
        let line = |number| LineId {
            writer: WRITER,
            number,
        };
        let mut ledger = Ledger::new((0..written).map(line));
        ledger.arrived("the receiver", state.lines.iter().copied());
        let seen = Seen::in_order(&state.deliveries);
        let mut faults = state.errors.clone();
        faults.extend(kills.iter().flat_map(|kill| kill.faults.clone()));
        let tags = state.deliveries.iter().map(|each| &each.delivery.tag);
        let strange: BTreeSet<&String> = tags.filter(|tag| *tag != "own").collect();
        faults.extend(
            strange
                .iter()
                .map(|tag| format!("lines arrived with the tag {tag:?}")),
        );
        let may_lose = may_lose(&kills);
        let (lost_to_damage, missing) = ledger
            .missing()
            .into_iter()
            .partition(|id| may_lose.contains(&id.number));
        let counted = match storage {
            Storage::Memory => &state.lines,
            Storage::File | Storage::FileSingle => {
                faults.extend(seen.grown.clone());
                faults.extend(seen.never_again(&kills));
                &seen.in_new_chunks
            }
        };
        let unknown = ledger.unknown().len();
        if unknown > 0 {
            faults.push(format!("{unknown} lines arrived that nobody wrote"));
        }
        Verdict {
            written,
            arrived: written - ledger.missing().len() as u64,
            missing,
            lost_to_damage,
            duplicated: ledger.duplicates(),
            duplicated_in_new_chunks: repeated(&seen.in_new_chunks),
            chunks_again: seen.again.len(),
            unexplained: unexplained(counted, &kills),
            too_early: kills
                .iter()
                .flat_map(|kill| &kill.too_early)
                .map(|number| line(*number))
                .collect(),
            damaged: damaged(state, &kills),
            kills,
            faults,
            copied: Copied::default(),
        }
    }

    /// Whether the agent kept its word, and the round proved it.
    pub fn is_good(&self) -> bool {
        self.missing.is_empty()
            && self.unexplained.is_empty()
            && self.too_early.is_empty()
            && self.damaged.is_empty()
            && self.faults.is_empty()
    }

    /// How many files were damaged in which way.
    fn damaged_files(&self) -> String {
        let mut kinds: BTreeMap<&str, usize> = BTreeMap::new();
        let damage = self.kills.iter().flat_map(|kill| &kill.damage);
        damage.for_each(|damage| *kinds.entry(damage.kind).or_default() += 1);
        let kinds = kinds.iter().map(|(kind, count)| format!(" {count} {kind}"));
        kinds.collect()
    }

    /// Kills with a chunk in flight.
    pub fn in_flight(&self) -> usize {
        self.kills
            .iter()
            .filter(|kill| !kill.in_flight.is_empty())
            .count()
    }
}

/// The lines in bytes that were destroyed.
pub fn may_lose(kills: &[Kill]) -> BTreeSet<u64> {
    let damage = kills.iter().flat_map(|kill| &kill.damage);
    damage
        .flat_map(|damage| damage.may_lose.iter().copied())
        .collect()
}

/// Lines whose checksum does not fit, unless there are no more of them than bytes that were flipped.
fn damaged(state: &State, kills: &[Kill]) -> Vec<String> {
    let wounds = kills.iter().flat_map(|kill| &kill.damage);
    let flipped = wounds.filter(|damage| damage.is_wound).count();
    let texts: BTreeSet<&String> = state.damaged.iter().collect();
    match texts.len() > flipped {
        true => state.damaged.clone(),
        false => Vec::new(),
    }
}

/// Chunks that were wounded and that no later life names.
pub fn unnamed(kills: &[Kill], lives: &[&str]) -> Vec<String> {
    let mut faults = Vec::new();
    for (number, kill) in kills.iter().enumerate() {
        let later = lives.get(number + 1..).unwrap_or_default();
        for damage in kill.damage.iter().filter(|damage| damage.is_wound) {
            let names = |line: &str| {
                (line.contains("[warn]") || line.contains("[error]")) && line.contains(&damage.file)
            };
            if !later.iter().any(|life| life.lines().any(names)) {
                faults.push(format!(
                    "nobody was told that {} is {}",
                    damage.file, damage.what
                ));
            }
        }
    }
    faults
}

/// Lines that arrived more often than once and once more for each kill that may repeat them.
fn unexplained(arrivals: &[LineId], kills: &[Kill]) -> BTreeSet<LineId> {
    let mut times: BTreeMap<LineId, usize> = BTreeMap::new();
    arrivals
        .iter()
        .for_each(|id| *times.entry(*id).or_default() += 1);
    let allowed = |id: &LineId| {
        let open = |kill: &&Kill| {
            kill.repeats == Repeats::LeftOpen
                && kill.claim.open.get(id.number as usize) == Some(&true)
        };
        1 + kills.iter().filter(open).count()
    };
    times.retain(|id, times| *times > allowed(id));
    times.into_keys().collect()
}

fn repeated(arrivals: &[LineId]) -> usize {
    let mut seen = BTreeSet::new();
    arrivals.iter().filter(|id| !seen.insert(**id)).count()
}

/// Deliveries as a receiver sees them that knows chunk ids.
#[derive(Default)]
struct Seen {
    /// The lines of the deliveries whose id was new, as a careful receiver keeps them.
    in_new_chunks: Vec<LineId>,
    /// The ids that came again.
    again: Vec<String>,
    /// Ids that came again with a line that they had not had at first.
    grown: Vec<String>,
}

impl Seen {
    fn in_order(deliveries: &[Received]) -> Seen {
        let mut seen = Seen::default();
        let mut chunks: BTreeMap<String, BTreeSet<LineId>> = BTreeMap::new();
        for received in deliveries {
            let texts = received.delivery.events.iter();
            let lines: Vec<LineId> = texts
                .filter_map(|event| event.text("message"))
                .filter(|text| is_intact(text))
                .filter_map(|text| LineId::find(&text))
                .collect();
            let id = chunk_id(received);
            match chunks.get(&id) {
                None => {
                    chunks.insert(id, lines.iter().copied().collect());
                    seen.in_new_chunks.extend(lines);
                }
                Some(first) => {
                    let more: Vec<_> = lines.iter().filter(|id| !first.contains(id)).collect();
                    if let (Some(first), Some(last)) = (more.first(), more.last()) {
                        seen.grown.push(format!(
                            "chunk {id} came again with {} lines that it had not had at first, {first} to {last}: who drops repeated ids loses them",
                            more.len()
                        ));
                    }
                    seen.again.push(id);
                }
            }
        }
        seen
    }

    /// Chunks that were in flight at a kill stay in the buffer: they have to come again.
    fn never_again(&self, kills: &[Kill]) -> Vec<String> {
        let sound = kills.iter().filter(|kill| kill.stays);
        let in_flight = sound.flat_map(|kill| &kill.in_flight);
        in_flight
            .filter(|id| !self.again.contains(id))
            .map(|id| format!("chunk {id} was in flight at a kill and did not come again"))
            .collect()
    }
}

/// The `chunk` option as text.
pub fn chunk_id(received: &Received) -> String {
    let id = received.delivery.chunk.as_ref();
    id.map_or_else(String::new, ToString::to_string)
}

impl Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let open: u64 = self.kills.iter().map(|kill| kill.claim.open_bytes).sum();
        let damaged_files = self.damaged_files();
        let held: usize = self.kills.iter().map(|kill| kill.held).sum();
        write!(
            f,
            "written {} arrived {} lost {} ({} more in damaged files:{damaged_files}) duplicated {} ({} chunks came again, {} lines are left after dropping these, {} unexplained) \
             damaged {}; {} kills, {} with chunks in flight, {open} bytes open and {held} lines on disk at them; copytruncate: written {} \
             lost {} duplicated {} damaged {}",
            self.written,
            self.arrived,
            self.missing.len(),
            self.lost_to_damage.len(),
            self.duplicated,
            self.chunks_again,
            self.duplicated_in_new_chunks,
            self.unexplained.len(),
            self.damaged.len(),
            self.kills.len(),
            self.in_flight(),
            self.copied.written,
            self.copied.lost,
            self.copied.duplicated,
            self.copied.damaged,
        )?;
        for (what, ids) in [
            ("missing", &self.missing),
            ("repeated without a reason", &self.unexplained),
            ("called safe before they arrived", &self.too_early),
        ] {
            if !ids.is_empty() {
                let some: Vec<String> = ids.iter().take(SHOWN).map(LineId::to_string).collect();
                write!(f, "\n  {what}: {} ", some.join(" "))?;
                write!(
                    f,
                    "({} in all, the last is {})",
                    ids.len(),
                    ids.iter()
                        .next_back()
                        .map_or(String::new(), LineId::to_string)
                )?;
            }
        }
        let wrong = self.faults.iter().chain(self.damaged.iter().take(SHOWN));
        wrong
            .into_iter()
            .try_for_each(|text| write!(f, "\n  wrong: {text}"))
    }
}
