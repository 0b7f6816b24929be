//! What is said of a disk that takes nothing: one line when that begins and one when it is over, however often it is nearly over. Pure.
//!
//! On a full disk each chunk that leaves makes room for a few lines more, and the disk is full again. So it is over only when writes have
//! gone well for [`CALM`], and an attempt that had nothing to write proves nothing.

use std::time::{Duration, Instant};

/// How long writes must have gone well before the trouble is over.
const CALM: Duration = Duration::from_secs(5);

/// How an attempt to write ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Attempt {
    /// The disk refused.
    Refused,
    /// It took something.
    Took,
    /// There was nothing to write.
    Nothing,
}

/// What is to be said.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum News {
    /// The trouble begins.
    Begins,
    /// It is over.
    Ends,
}

/// Whether there is trouble that was told and is not over.
#[derive(Debug, Default)]
pub struct Trouble {
    told: bool,
    /// Since when writes have gone well.
    well: Option<Instant>,
}

impl Trouble {
    /// After an attempt, or when it was [`Trouble::due`].
    pub fn after(&mut self, attempt: Attempt, now: Instant) -> Option<News> {
        match attempt {
            Attempt::Refused => {
                self.well = None;
                let begins = !std::mem::replace(&mut self.told, true);
                return begins.then_some(News::Begins);
            }
            Attempt::Took if self.told => {
                self.well.get_or_insert(now);
            }
            Attempt::Took | Attempt::Nothing => {}
        }
        let over = self.due().is_some_and(|due| due <= now);
        if over {
            *self = Trouble::default();
        }
        over.then_some(News::Ends)
    }

    /// When it is over, unless something happens before.
    pub fn due(&self) -> Option<Instant> {
        self.well.map(|since| since + CALM)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_disk_that_is_full_again_each_second_is_told_once_and_its_end_once() {
        let start = Instant::now();
        let at = |seconds: u64| start + Duration::from_secs(seconds);
        let mut trouble = Trouble::default();
        assert_eq!(trouble.after(Attempt::Took, at(0)), None);
        assert_eq!(trouble.after(Attempt::Refused, at(1)), Some(News::Begins));
        for second in (2..200).step_by(2) {
            assert_eq!(trouble.after(Attempt::Took, at(second)), None);
            assert_eq!(trouble.after(Attempt::Refused, at(second + 1)), None);
        }
        assert_eq!(trouble.after(Attempt::Took, at(201)), None);
        let due = trouble.due().expect("it is going well");
        assert_eq!(trouble.after(Attempt::Took, due - CALM / 2), None);
        assert_eq!(trouble.after(Attempt::Nothing, due), Some(News::Ends));
        assert_eq!(
            (trouble.due(), trouble.after(Attempt::Took, at(300))),
            (None, None)
        );
        assert_eq!(trouble.after(Attempt::Refused, at(301)), Some(News::Begins));
    }

    #[test]
    fn having_nothing_to_write_ends_no_trouble() {
        let start = Instant::now();
        let mut trouble = Trouble::default();
        assert_eq!(trouble.after(Attempt::Refused, start), Some(News::Begins));
        assert_eq!(trouble.after(Attempt::Nothing, start + CALM * 10), None);
        assert_eq!(trouble.due(), None);
    }
}
