//! What keeps lines in a file although there is room for them: `<group>` and `read_bytes_limit_per_second`.
//!
//! The reader asks before each read, and cuts what it read to the lines that are allowed: the rest stays in the file, and the position
//! with it. A source with held-back files sleeps until the first of them may go on. At the end of the files of a run nobody waits:
//! the limits are lifted, except for groups of which nothing is to be read at all.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tracing::{debug, warn};

use super::evidence::Overlap;
use super::file::{Generation, State};
use super::group::{Allowance, Groups};
use super::lines::Newline;
use super::position::Ledger;
use super::read::READ_SIZE;

/// The period of `read_bytes_limit_per_second`.
const SECOND: Duration = Duration::from_secs(1);

/// The limits of a source.
pub struct Throttle {
    groups: Option<Groups>,
    bytes_per_second: Option<u64>,
    lifted: bool,
    wake: Option<Instant>,
}

/// Whether a file may be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hold {
    /// It may.
    Free,
    /// Later: [`Throttle::wake`] says when.
    Wait,
    /// Never.
    Nothing,
}

impl Throttle {
    /// No limits: where nobody asks for any, everything here costs a comparison.
    pub fn new(groups: Option<Groups>, bytes_per_second: Option<u64>) -> Throttle {
        Throttle {
            groups,
            bytes_per_second,
            lifted: false,
            wake: None,
        }
    }

    /// Begins a round over the files of these paths.
    pub fn begin<'a>(&mut self, paths: impl ExactSizeIterator<Item = &'a Path> + Clone) {
        self.wake = None;
        let Some(groups) = &mut self.groups else {
            return;
        };
        for path in paths.clone() {
            if !groups.enter(path) {
                warn!(path = %path.display(), "cannot find group from metadata, adding file in the default group");
            }
        }
        if groups.len() > paths.len() {
            let kept: std::collections::HashSet<&Path> = paths.collect();
            groups.retain(|path| kept.contains(path));
        }
    }

    /// When the first of the files that wait may be read.
    pub fn wake(&self) -> Option<Instant> {
        self.wake
    }

    /// Ends the limits: what is there now is the last.
    pub fn lift(&mut self) {
        self.lifted = true;
        self.wake = None;
    }

    /// Whether the file may be read now; sees to it that no more bytes are read than is allowed.
    pub fn hold(&mut self, generation: &mut Generation, path: &Path, ledger: &Arc<Ledger>) -> Hold {
        if self.groups.is_none() && self.bytes_per_second.is_none() {
            return Hold::Free;
        }
        let now = Instant::now();
        let lines = self
            .groups
            .as_mut()
            .map(|groups| groups.allowance(path, now));
        if lines == Some(Allowance::Nothing) {
            give_up(generation, path, ledger);
            return Hold::Nothing;
        }
        if self.lifted {
            return Hold::Free;
        }
        let bytes = self.bytes_per_second.unwrap_or(u64::MAX);
        match (lines, generation.quota.left(bytes, SECOND, now)) {
            (Some(Allowance::Until(until)), _) | (_, Err(until)) => {
                self.wake = Some(self.wake.map_or(until, |wake| wake.min(until)));
                debug!(path = %path.display(), position = generation.position, "reading is limited, waiting");
                generation.read_size = READ_SIZE;
                Hold::Wait
            }
            (_, Ok(left)) => {
                let left = usize::try_from(left).unwrap_or(usize::MAX);
                generation.read_size = generation.read_size.min(left);
                Hold::Free
            }
        }
    }

    /// How many of the bytes that were read may be taken; they count from now on.
    pub fn cut(
        &mut self,
        generation: &mut Generation,
        path: &Path,
        fresh: &[u8],
        newline: Newline,
    ) -> usize {
        if self.lifted || self.groups.is_none() && self.bytes_per_second.is_none() {
            return fresh.len();
        }
        let now = Instant::now();
        let mut end = fresh.len();
        if let Some(groups) = &mut self.groups
            && let Allowance::Lines(left) = groups.allowance(path, now)
        {
            let lines;
            (end, lines) = generation.lines.end_of(fresh, newline, left);
            groups.took(path, lines, now);
        }
        generation.quota.took(end as u64, now);
        end
    }
}

/// A rotated file of which nothing is to be read would stay open for ever.
fn give_up(generation: &mut Generation, path: &Path, ledger: &Arc<Ledger>) {
    let unread = generation.size.saturating_sub(generation.position);
    if matches!(generation.state, State::Rotated { .. }) && unread > 0 {
        warn!(path = %path.display(), bytes = unread, "rotated file of a group whose limit is 0, given up unread");
        generation.position = generation.size;
        generation.overlap = Overlap::default();
        ledger.skip(generation.account, generation.size);
    }
}
