//! What came of a round: set arithmetic over the ids of its lines, and the bounds that a kill leaves to repetition.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::{self, Display};

use super::book::{Book, Claim};
use super::writer::WRITER;
use crate::support::forward_server::State;
use crate::support::ledger::{Ledger, LineId};

/// More ids than these are told as a number.
const SHOWN: usize = 20;

/// What was seen at one kill, after the process was gone.
#[derive(Clone, Debug, Default)]
pub struct Kill {
    /// What the pos_file said.
    pub claim: Claim,
    /// Deliveries of this life that the receiver had and whose ack was not written.
    pub in_flight: usize,
    /// Lines that the pos_file called safe and that had not arrived.
    pub too_early: Vec<u64>,
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
    /// Arrivals beyond the first of each line.
    pub duplicated: usize,
    /// The same, without deliveries whose chunk id had come before.
    pub duplicated_in_new_chunks: usize,
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
    pub fn new(book: &Book, state: &State, kills: Vec<Kill>) -> Verdict {
        let written = book.lines();
        let line = |number| LineId {
            writer: WRITER,
            number,
        };
        let mut ledger = Ledger::new((0..written).map(line));
        ledger.arrived("the receiver", state.lines.iter().copied());
        let mut times: BTreeMap<LineId, usize> = BTreeMap::new();
        state
            .lines
            .iter()
            .for_each(|id| *times.entry(*id).or_default() += 1);
        let allowed = |id: &LineId| {
            let open = |kill: &&Kill| kill.claim.open.get(id.number as usize) == Some(&true);
            1 + kills.iter().filter(open).count()
        };
        let mut faults = state.errors.clone();
        let unknown = ledger.unknown().len();
        if unknown > 0 {
            faults.push(format!("{unknown} lines arrived that nobody wrote"));
        }
        Verdict {
            written,
            arrived: written - ledger.missing().len() as u64,
            missing: ledger.missing(),
            duplicated: ledger.duplicates(),
            duplicated_in_new_chunks: without_repeated_chunks(state),
            unexplained: times
                .iter()
                .filter(|(id, times)| **times > allowed(id))
                .map(|(id, _)| *id)
                .collect(),
            too_early: kills
                .iter()
                .flat_map(|kill| &kill.too_early)
                .map(|number| line(*number))
                .collect(),
            damaged: state.damaged.clone(),
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

    /// Kills with a chunk in flight.
    pub fn in_flight(&self) -> usize {
        self.kills.iter().filter(|kill| kill.in_flight > 0).count()
    }
}

/// How many arrivals are left to repeat a line once deliveries with a known chunk id are dropped, as a careful receiver does.
fn without_repeated_chunks(state: &State) -> usize {
    let mut chunks = BTreeSet::new();
    let mut seen = BTreeSet::new();
    let mut repeated = 0;
    for received in &state.deliveries {
        let id = received.delivery.chunk.as_ref().map(ToString::to_string);
        if id.is_some_and(|id| !chunks.insert(id)) {
            continue;
        }
        let texts = received
            .delivery
            .events
            .iter()
            .filter_map(|event| event.text("message"));
        repeated += texts
            .filter_map(|text| LineId::find(&text))
            .filter(|id| !seen.insert(*id))
            .count();
    }
    repeated
}

impl Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let open: u64 = self.kills.iter().map(|kill| kill.claim.open_bytes).sum();
        write!(
            f,
            "written {} arrived {} lost {} duplicated {} ({} after dropping repeated chunk ids, {} unexplained) damaged {}; \
             {} kills, {} with chunks in flight, {open} bytes open at them; copytruncate: written {} lost {} duplicated {} damaged {}",
            self.written,
            self.arrived,
            self.missing.len(),
            self.duplicated,
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
