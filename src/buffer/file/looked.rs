//! What stands in a chunk that is looked into: entries, or lines that a Fluentd has formatted.

use std::io;

use super::check::{self, Checked, Kept};
use super::formatted;
use super::side::Group;
use crate::buffer::Compress;
use crate::event::EventTime;

/// A compressed chunk holds no more.
const MOST_INFLATED: u64 = 1 << 30;

/// The data of a chunk, checked.
#[derive(Debug)]
pub struct Looked {
    /// What of them can be read.
    pub checked: Checked,
    /// Whether they are lines that were formatted, plain or compressed.
    pub is_text: bool,
    data: Vec<u8>,
    /// The time of such lines.
    time: EventTime,
}

impl Looked {
    /// Checks them. Ours have groups and are never text.
    pub fn at(data: Vec<u8>, groups: &[Group], time: EventTime) -> io::Result<Looked> {
        let is_text = groups.is_empty() && holds_text(&data);
        let mut looked = Looked {
            checked: Checked::default(),
            is_text,
            data,
            time,
        };
        looked.checked = match is_text {
            true => looked.check_lines()?,
            false => {
                let mut read =
                    |at: u64, buffer: &mut [u8]| Ok(formatted::copy(&looked.data, at, buffer));
                check::check(&mut read, looked.data.len() as u64, groups)?
            }
        };
        Ok(looked)
    }

    /// Its entries that can be read, inflated; those of formatted lines where it holds such.
    pub fn plain(&self) -> io::Result<Vec<u8>> {
        if !self.is_text {
            return check::unpack(&self.kept(), MOST_INFLATED);
        }
        let mut plain = Vec::new();
        self.each_line(|piece| plain.extend(piece))?;
        Ok(plain)
    }

    /// What of it can be read, as it is kept; entries of the lines of a damaged text.
    pub fn sound(&self) -> io::Result<Vec<u8>> {
        match self.is_text && !self.checked.is_whole() {
            true => self.plain(),
            false => Ok(self.kept()),
        }
    }

    fn kept(&self) -> Vec<u8> {
        let part = |kept: &Kept| match kept {
            Kept::Range(range) => {
                let range = range.start as usize..range.end as usize;
                self.data.get(range).unwrap_or(&[]).to_vec()
            }
            Kept::Rebuilt(bytes) => bytes.clone(),
        };
        self.checked.kept.iter().flat_map(part).collect()
    }

    fn check_lines(&self) -> io::Result<Checked> {
        let (records, damaged) = self.each_line(|_| ())?;
        let end = self.data.len() as u64;
        Ok(Checked {
            kept: vec![Kept::Range(0..end)],
            records,
            lost: (damaged > 0)
                .then_some(end - damaged..end)
                .into_iter()
                .collect(),
            ..Checked::default()
        })
    }

    /// Tells how many lines there are, and how many bytes are damaged.
    fn each_line(&self, mut take: impl FnMut(Vec<u8>)) -> io::Result<(u64, u64)> {
        let take = |piece: Vec<u8>| -> io::Result<()> {
            take(piece);
            Ok(())
        };
        if Compress::of(&self.data) == Compress::Text {
            let mut read = |at: u64, buffer: &mut [u8]| Ok(formatted::copy(&self.data, at, buffer));
            let range = 0..self.data.len() as u64;
            return Ok((formatted::each_piece(&mut read, range, self.time, take)?, 0));
        }
        let (records, damage) = formatted::each_member(&self.data, MOST_INFLATED, self.time, take)?;
        Ok((records, damage.map_or(0, |damage| damage.bytes)))
    }
}

fn holds_text(data: &[u8]) -> bool {
    match Compress::of(data) {
        Compress::Text => formatted::is_foreign(data),
        packed => formatted::is_foreign(&packed.member(data, MOST_INFLATED).0),
    }
}
