//! The result table, in Markdown, and the numbers in it.

use std::fmt::{self, Display};
use std::time::Duration;

const HEAD: [&str; 6] = [
    "work",
    "bare loop / floor",
    "affluent",
    "ratio",
    "memory",
    "ask",
];

/// One row. An empty text is shown as a dash.
#[derive(Clone, Default)]
pub struct Row {
    /// What was done.
    pub work: String,
    /// The same by the least that must be done.
    pub floor: String,
    /// By the agent.
    pub affluent: String,
    /// The agent's to the floor's.
    pub ratio: String,
    /// What it cost.
    pub memory: String,
    /// What issue and design want.
    pub ask: String,
}

impl Row {
    /// The row of a work that could not be measured, or whose lines did not all come.
    pub fn failed(work: impl Into<String>, why: impl Display) -> Self {
        Self {
            work: work.into(),
            affluent: format!("FAILED: {why}").replace('\n', " "),
            ..Self::default()
        }
    }

    /// Whether it says FAILED.
    pub fn has_failed(&self) -> bool {
        self.affluent.starts_with("FAILED")
    }

    fn cells(&self) -> [&str; 6] {
        let cells = [
            &self.work,
            &self.floor,
            &self.affluent,
            &self.ratio,
            &self.memory,
            &self.ask,
        ];
        cells.map(|cell| if cell.is_empty() { "-" } else { cell })
    }
}

/// All rows.
#[derive(Default)]
pub struct Table {
    /// In order.
    pub rows: Vec<Row>,
}

impl Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let rows: Vec<_> = self.rows.iter().map(Row::cells).collect();
        let width = |column: usize| {
            let cells = rows.iter().map(|row| row[column].chars().count());
            cells.max().unwrap_or(0).max(HEAD[column].len())
        };
        let widths: [usize; 6] = std::array::from_fn(width);
        let mut print = |row: [&str; 6]| {
            for (cell, width) in row.iter().zip(widths) {
                write!(f, "| {cell:width$} ")?;
            }
            writeln!(f, "|")
        };
        print(HEAD)?;
        print(["---"; 6])?;
        rows.into_iter().try_for_each(print)
    }
}

/// The middle one of some figures; of two middles the higher.
pub fn median<T: Copy + PartialOrd>(figures: &[T]) -> Option<T> {
    percentile(figures, 50)
}

/// The figure below which `percent` of all are, by rank.
pub fn percentile<T: Copy + PartialOrd>(figures: &[T], percent: usize) -> Option<T> {
    let mut sorted = figures.to_vec();
    sorted.sort_by(|a, b| a.partial_cmp(b).unwrap_or(std::cmp::Ordering::Equal));
    let last = sorted.len().checked_sub(1)?;
    sorted
        .get((sorted.len() * percent / 100).min(last))
        .copied()
}

/// Bytes as megabytes (10⁶).
pub fn mb(bytes: u64) -> String {
    format!("{:.1} MB", bytes as f64 / 1e6)
}

/// A time as milliseconds.
pub fn ms(time: Duration) -> String {
    format!("{:.2} ms", time.as_secs_f64() * 1e3)
}
