//! Where each line went: set arithmetic over the ids that every test line carries.
//!
//! A line is `line-<writer>-<number> … sum=<crc32>`. Counting goes by ids and never by totals, because a duplicate hides a loss, and
//! never by the highest number, because a lost tail would be invisible (reliability.md §2.2).

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::{self, Display, Write as _};
use std::str::FromStr;

/// Which line of which writer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LineId {
    /// The writer's number.
    pub writer: u32,
    /// Counted from 0 by the writer.
    pub number: u64,
}

impl Display for LineId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line-{}-{:08}", self.writer, self.number)
    }
}

impl FromStr for LineId {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        Self::find(text).ok_or(())
    }
}

impl LineId {
    /// The first id in `text`, wherever it stands: in a bare line, in a JSON record, in an unknown layout.
    pub fn find(text: &str) -> Option<Self> {
        Self::find_all(text).next()
    }

    /// Every id in `text`.
    pub fn find_all(text: &str) -> impl Iterator<Item = Self> + '_ {
        text.match_indices("line-").filter_map(|(at, mark)| {
            let rest = &text[at + mark.len()..];
            let (writer, rest) = rest.split_once('-')?;
            let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
            Some(Self {
                writer: writer.parse().ok()?,
                number: rest[..digits].parse().ok()?,
            })
        })
    }

    /// The whole line with its checksum, about `length` bytes long, without a newline.
    pub fn line(self, length: usize) -> String {
        let mut line = format!("{self} GET /item/{} ", self.number % 977);
        while line.len() + " sum=00000000".len() < length {
            line.push((b'a' + (line.len() % 26) as u8) as char);
        }
        let sum = crc32fast::hash(line.as_bytes());
        write!(line, " sum={sum:08x}").expect("a String takes every text");
        line
    }
}

/// Whether a line that carries a checksum still agrees with it; a text without one is not ours to judge.
pub fn is_intact(text: &str) -> bool {
    match text.rsplit_once(" sum=") {
        Some((line, sum)) => sum == format!("{:08x}", crc32fast::hash(line.as_bytes())),
        None => LineId::find(text).is_none(),
    }
}

/// What was written, and what each place has.
#[derive(Clone, Debug, Default)]
pub struct Ledger {
    written: BTreeSet<LineId>,
    places: Vec<Place>,
}

#[derive(Clone, Debug)]
struct Place {
    name: String,
    lines: Vec<LineId>,
}

impl Ledger {
    /// Opens the book with everything that was written.
    pub fn new(written: impl IntoIterator<Item = LineId>) -> Self {
        Self {
            written: written.into_iter().collect(),
            places: Vec::new(),
        }
    }

    /// Notes what arrived in one place, in order of arrival.
    pub fn arrived(&mut self, place: impl Into<String>, lines: impl IntoIterator<Item = LineId>) {
        self.places.push(Place {
            name: place.into(),
            lines: lines.into_iter().collect(),
        });
    }

    /// Written and nowhere.
    pub fn missing(&self) -> BTreeSet<LineId> {
        let mut missing = self.written.clone();
        for line in self.arrivals() {
            missing.remove(&line);
        }
        missing
    }

    /// Somewhere, but never written.
    pub fn unknown(&self) -> BTreeSet<LineId> {
        self.arrivals()
            .filter(|line| !self.written.contains(line))
            .collect()
    }

    /// Arrivals beyond the first of each line, over all places.
    pub fn duplicates(&self) -> usize {
        let mut seen = BTreeSet::new();
        self.arrivals().filter(|line| !seen.insert(*line)).count()
    }

    /// Per place, how often a line arrived for the first time after a later one of the same writer.
    pub fn disorder(&self) -> usize {
        self.places.iter().map(Place::disorder).sum()
    }

    /// How many lines each place was the first to have, in the order of the places. Their sum is everything accounted for.
    pub fn shares(&self) -> Vec<(&str, usize)> {
        let mut seen = BTreeSet::new();
        self.places
            .iter()
            .map(|place| {
                let new = place.lines.iter().filter(|line| seen.insert(**line));
                (place.name.as_str(), new.count())
            })
            .collect()
    }

    fn arrivals(&self) -> impl Iterator<Item = LineId> + '_ {
        self.places
            .iter()
            .flat_map(|place| place.lines.iter().copied())
    }
}

impl Place {
    fn disorder(&self) -> usize {
        let mut seen = BTreeSet::new();
        let mut highest: BTreeMap<u32, u64> = BTreeMap::new();
        let mut count = 0;
        for line in &self.lines {
            if seen.insert(*line) {
                let top = highest.entry(line.writer).or_insert(line.number);
                if line.number < *top {
                    count += 1;
                }
                *top = line.number.max(*top);
            }
        }
        count
    }
}

impl Display for Ledger {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let missing = self.missing();
        writeln!(f, "  {:>9}  written", self.written.len())?;
        for (place, lines) in self.shares() {
            writeln!(f, "  {lines:>9}  {place}")?;
        }
        writeln!(f, "  {:>9}  missing", missing.len())?;
        write!(
            f,
            "  {:>9}  arrived more than once ({} out of order, {} unknown)",
            self.duplicates(),
            self.disorder(),
            self.unknown().len()
        )?;
        if !missing.is_empty() {
            let some: Vec<String> = missing.iter().take(10).map(LineId::to_string).collect();
            write!(f, "\n  missing: {}", some.join(" "))?;
            if missing.len() > some.len() {
                write!(f, " and {} more", missing.len() - some.len())?;
            }
        }
        Ok(())
    }
}
