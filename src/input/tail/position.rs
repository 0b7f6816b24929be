//! The ledger: which bytes of each generation of a file are safe.
//!
//! A batch covers the bytes from the end of the one before it to its own end, skipped bytes included. The released
//! contiguous prefix of a generation is its position. A forgotten batch is never passed: its generation stays where it is
//! until the next start reads it again. `pos_file.rs` writes what is decided here; nobody else moves a position.
//!
//! The same book keeps the account of each path in lines and bytes ([`Totals`]): read = safe + forgotten + waiting, at any moment,
//! since one lock guards them all.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

use super::evidence::HeadMark;
use super::recalled::nanoseconds;
use crate::event::{Creditor, Extent, FileLife, Receipt};
use crate::input::{Skipped, Totals};

/// One life of one file, as the ledger knows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Account(u64);

/// One path, as the ledger knows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PathNumber(u64);

/// What a batch stands for.
#[derive(Clone, Copy, Debug, Default)]
pub struct Covered {
    /// The end of its last line in the file.
    pub end: u64,
    /// Its lines.
    pub lines: u64,
    /// Of these, lines that gave no event.
    pub skipped: Skipped,
}

/// Batches and positions of all files of one source.
pub struct Ledger {
    book: Mutex<Book>,
    in_flight: AtomicU64,
    forgotten: AtomicU64,
    moved: AtomicBool,
    waited_for: AtomicBool,
    /// All batches before this one that are safe stand in the pos_file.
    recorded: AtomicU64,
    wake: Box<dyn Fn() + Send + Sync>,
}

#[derive(Default)]
struct Book {
    next: u64,
    next_batch: u64,
    batches: BTreeMap<u64, Owed>,
    accounts: HashMap<Account, Prefix>,
    paths: HashMap<PathNumber, Totals>,
}

/// What a batch in flight stands for.
struct Owed {
    account: Account,
    path: PathNumber,
    bytes: u64,
    lines: u64,
}

/// One generation's batches in order.
struct Prefix {
    path: PathNumber,
    /// Where the safe prefix ends.
    committed: u64,
    /// Where the last batch ends.
    covered: u64,
    /// Batches behind `committed`, oldest first.
    open: VecDeque<Open>,
    /// A batch was forgotten: whatever comes behind it cannot move the position any more.
    stuck: bool,
    /// What a start knows the file by; `None` where nobody may remember extents of it.
    life: Option<FileLife>,
    /// Its first bytes.
    head: (u16, u32),
}

struct Open {
    batch: u64,
    end: u64,
    safe: bool,
}

impl Prefix {
    fn safe(&mut self, batch: u64) -> bool {
        if let Ok(at) = self.find(batch) {
            self.open[at].safe = true;
        }
        let before = self.committed;
        while let Some(first) = self.open.pop_front_if(|open| open.safe) {
            self.committed = first.end;
        }
        self.committed != before
    }

    fn forgotten(&mut self, batch: u64) {
        if let Ok(at) = self.find(batch) {
            self.open.truncate(at);
            self.stuck = true;
        }
    }

    /// What of the file is safe with this batch.
    fn extent(&self, batch: u64) -> Option<Extent> {
        let at = self.find(batch).ok()?;
        let from = match at.checked_sub(1) {
            Some(before) => self.open[before].end,
            // Everything before it is safe.
            None => 0,
        };
        Some(Extent {
            life: self.life.filter(|_| self.head.0 > 0)?,
            said: nanoseconds(SystemTime::now())?,
            from,
            to: self.open[at].end,
            head: self.head,
            parts: 1,
        })
    }

    fn find(&self, batch: u64) -> Result<usize, usize> {
        self.open.binary_search_by_key(&batch, |open| open.batch)
    }
}

impl Ledger {
    /// An empty ledger. `wake` is called when positions have moved, or bytes were released that a reader waits for.
    pub fn new(wake: impl Fn() + Send + Sync + 'static) -> Arc<Ledger> {
        Arc::new(Ledger {
            book: Mutex::default(),
            in_flight: AtomicU64::new(0),
            forgotten: AtomicU64::new(0),
            moved: AtomicBool::new(false),
            waited_for: AtomicBool::new(false),
            recorded: AtomicU64::new(0),
            wake: Box::new(wake),
        })
    }

    /// Opens the account of a path.
    pub fn open_path(&self) -> PathNumber {
        let mut book = self.book();
        let path = PathNumber(book.next());
        book.paths.insert(path, Totals::default());
        path
    }

    /// Ends the account of a path: batches that are safe later are counted nowhere. Tells what it came to.
    pub fn close_path(&self, path: PathNumber) -> Totals {
        self.book().paths.remove(&path).unwrap_or_default()
    }

    /// What came of a path so far.
    pub fn totals(&self, path: PathNumber) -> Totals {
        self.book().paths.get(&path).copied().unwrap_or_default()
    }

    /// Opens the account of a generation of `path` that is read from `position`.
    pub fn open_account(&self, path: PathNumber, position: u64) -> Account {
        self.open(path, position, position)
    }

    /// The same of one in which a batch at `committed` was forgotten: nothing that is read of it can move its position.
    pub fn open_stuck(&self, path: PathNumber, committed: u64, position: u64) -> Account {
        self.open(path, committed, position)
    }

    fn open(&self, path: PathNumber, committed: u64, covered: u64) -> Account {
        let mut book = self.book();
        let account = Account(book.next());
        let prefix = Prefix {
            path,
            committed,
            covered,
            open: VecDeque::new(),
            stuck: committed != covered,
            life: None,
            head: (0, 0),
        };
        book.accounts.insert(account, prefix);
        self.moved.store(true, Ordering::Release);
        account
    }

    /// Whoever makes a batch of this account durable may remember which bytes of this file it stands for.
    pub fn identify(&self, account: Account, life: FileLife) {
        if let Some(prefix) = self.book().accounts.get_mut(&account) {
            prefix.life = Some(life);
        }
    }

    /// The first bytes of the file, as far as they were read.
    pub fn know_head(&self, account: Account, head: HeadMark) {
        if let Some(prefix) = self.book().accounts.get_mut(&account) {
            prefix.head = (head.length, head.sum);
        }
    }

    /// The batch before which every one is settled: what is written down from now on tells of them.
    pub fn settled_before(&self) -> u64 {
        let book = self.book();
        let oldest = book.batches.first_key_value().map(|(batch, _)| *batch);
        oldest.unwrap_or(book.next_batch)
    }

    /// What was true at [`Ledger::settled_before`] is written down.
    pub fn recorded(&self, before: u64) {
        self.recorded.fetch_max(before, Ordering::AcqRel);
    }

    /// Ends an account. Receipts of it that come later move nothing.
    pub fn close_account(&self, account: Account) {
        self.book().accounts.remove(&account);
        self.moved.store(true, Ordering::Release);
    }

    /// The receipt for the batch that covers everything up to its end; `None` where the last batch ended there already.
    pub fn cover(self: &Arc<Self>, account: Account, covered: Covered) -> Option<Receipt> {
        let Covered {
            end,
            lines,
            skipped,
        } = covered;
        let mut book = self.book();
        let batch = book.next_batch;
        let prefix = book.accounts.get_mut(&account)?;
        let path = prefix.path;
        let bytes = end.checked_sub(prefix.covered).filter(|bytes| *bytes > 0);
        if let Some(bytes) = bytes {
            prefix.covered = end;
            if !prefix.stuck {
                prefix.open.push_back(Open {
                    batch,
                    end,
                    safe: false,
                });
            }
            book.next_batch += 1;
            book.batches.insert(
                batch,
                Owed {
                    account,
                    path,
                    bytes,
                    lines,
                },
            );
        }
        if let Some(totals) = book.paths.get_mut(&path) {
            totals.lines += lines;
            totals.bytes += bytes.unwrap_or(0);
            totals.skipped.add(skipped);
            if bytes.is_none() {
                // Nobody will hear of them: an older batch covers their bytes.
                totals.safe_lines += lines;
            }
        }
        drop(book);
        let bytes = bytes?;
        self.in_flight.fetch_add(bytes, Ordering::AcqRel);
        Some(Receipt::new(self.clone(), batch))
    }

    /// Counts everything up to `end` as safe without having been sent: the configuration gives it up.
    pub fn skip(self: &Arc<Self>, account: Account, end: u64) {
        let covered = Covered {
            end,
            ..Covered::default()
        };
        if let Some(receipt) = self.cover(account, covered) {
            receipt.release();
        }
    }

    /// Where the safe prefix of this generation ends; `None` once the account is closed.
    pub fn committed(&self, account: Account) -> Option<u64> {
        self.book().accounts.get(&account).map(|p| p.committed)
    }

    /// Whether every batch of this generation is safe.
    pub fn settled(&self, account: Account) -> bool {
        let book = self.book();
        book.accounts
            .get(&account)
            .is_none_or(|prefix| prefix.committed == prefix.covered)
    }

    /// Whether a batch was forgotten, so that this generation can never be settled in this run.
    pub fn stuck(&self, account: Account) -> bool {
        self.book().accounts.get(&account).is_some_and(|p| p.stuck)
    }

    /// Whether nothing is in flight that could move the position of this generation.
    pub fn is_still(&self, account: Account) -> bool {
        let book = self.book();
        let prefix = book.accounts.get(&account);
        prefix.is_none_or(|prefix| prefix.open.is_empty())
    }

    /// Bytes that are held in memory until their batches are released.
    pub fn in_flight(&self) -> u64 {
        self.in_flight.load(Ordering::Acquire)
    }

    /// Bytes read whose lines are not safe: in flight or forgotten.
    pub fn unsafe_bytes(&self) -> u64 {
        self.in_flight() + self.forgotten.load(Ordering::Relaxed)
    }

    /// Whether any position moved since this was last asked.
    pub fn take_moved(&self) -> bool {
        self.moved.swap(false, Ordering::AcqRel)
    }

    /// Whether positions moved and nobody asked yet.
    pub fn has_moved(&self) -> bool {
        self.moved.load(Ordering::Acquire)
    }

    /// Positions that could not be written have still to be.
    pub fn mark_moved(&self) {
        self.moved.store(true, Ordering::Release);
    }

    /// A reader waits for room: wake it at every release, not only when positions begin to move.
    pub fn wait_for_release(&self, waiting: bool) {
        self.waited_for.store(waiting, Ordering::Release);
    }

    fn settle(&self, batch: u64, is_safe: bool, fate: impl FnOnce(&mut Prefix) -> bool) -> u64 {
        let mut book = self.book();
        let Some(owed) = book.batches.remove(&batch) else {
            return 0;
        };
        let moved = book.accounts.get_mut(&owed.account).is_some_and(fate);
        if let Some(totals) = book.paths.get_mut(&owed.path) {
            let (lines, bytes) = match is_safe {
                true => (&mut totals.safe_lines, &mut totals.safe_bytes),
                false => (&mut totals.forgotten_lines, &mut totals.forgotten_bytes),
            };
            *lines += owed.lines;
            *bytes += owed.bytes;
        }
        drop(book);
        self.in_flight.fetch_sub(owed.bytes, Ordering::AcqRel);
        // One wake-up begins a round of writing; the ones in between would only cost.
        let first = moved && !self.moved.swap(true, Ordering::AcqRel);
        if first || self.waited_for.load(Ordering::Acquire) {
            (self.wake)();
        }
        owed.bytes
    }

    fn book(&self) -> MutexGuard<'_, Book> {
        // Every change of the book is complete before anything can panic.
        self.book.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Book {
    fn next(&mut self) -> u64 {
        self.next += 1;
        self.next
    }
}

impl Creditor for Ledger {
    fn safe(&self, batch: u64) {
        self.settle(batch, true, |prefix| prefix.safe(batch));
    }

    fn forgotten(&self, batch: u64) {
        let bytes = self.settle(batch, false, |prefix| {
            prefix.forgotten(batch);
            false
        });
        self.forgotten.fetch_add(bytes, Ordering::Relaxed);
    }

    fn extent(&self, batch: u64) -> Option<Extent> {
        let book = self.book();
        let account = book.batches.get(&batch)?.account;
        book.accounts.get(&account)?.extent(batch)
    }

    fn is_recorded(&self, batch: u64) -> bool {
        batch < self.recorded.load(Ordering::Acquire)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::sync::atomic::AtomicUsize;

    fn open(ledger: &Ledger, position: u64) -> Account {
        ledger.open_account(ledger.open_path(), position)
    }

    fn up_to(end: u64) -> Covered {
        Covered {
            end,
            lines: 1,
            ..Covered::default()
        }
    }

    proptest! {
        #[test]
        fn the_position_is_the_end_of_the_released_prefix_in_any_order(
            sizes in prop::collection::vec((1u64..50, prop::bool::weighted(0.9)), 1..40),
            order in prop::collection::vec(any::<prop::sample::Index>(), 40),
            start in 0u64..1000,
        ) {
            let ledger = Ledger::new(|| ());
            let path = ledger.open_path();
            let account = ledger.open_account(path, start);
            let mut end = start;
            let mut open = Vec::new();
            for (size, safe) in &sizes {
                end += size;
                open.push((end, *safe, ledger.cover(account, up_to(end)).expect("bytes to cover")));
            }
            let mut settled: Vec<(u64, bool)> = Vec::new();
            for next in &order[..sizes.len()] {
                let (end, safe, receipt) = open.remove(next.index(open.len()));
                if safe { receipt.release() } else { drop(receipt) }
                settled.push((end, safe));
                let totals = ledger.totals(path);
                prop_assert_eq!(totals.lines, sizes.len() as u64);
                prop_assert_eq!(totals.waiting_lines(), open.len() as u64);
                prop_assert_eq!(totals.waiting_bytes(), ledger.in_flight());
                let mut model = start;
                let mut at = start;
                for (size, _) in &sizes {
                    at += size;
                    if !settled.contains(&(at, true)) { break; }
                    model = at;
                }
                prop_assert_eq!(ledger.committed(account), Some(model));
            }
            let all = sizes.iter().all(|(_, safe)| *safe);
            prop_assert_eq!(ledger.settled(account), all);
            prop_assert_eq!(ledger.stuck(account), !all);
            prop_assert!(ledger.is_still(account));
            prop_assert_eq!(ledger.in_flight(), 0);
            let lost: u64 = sizes.iter().filter(|(_, safe)| !safe).map(|(size, _)| size).sum();
            prop_assert_eq!(ledger.unsafe_bytes(), lost);
        }
    }

    #[test]
    fn receipts_of_a_closed_account_move_nothing() {
        let ledger = Ledger::new(|| ());
        let old = open(&ledger, 0);
        let receipt = ledger.cover(old, up_to(10)).expect("bytes to cover");
        ledger.close_account(old);
        let new = open(&ledger, 0);
        receipt.release();
        assert_eq!(ledger.committed(new), Some(0));
        assert_eq!(ledger.in_flight(), 0);
    }

    #[test]
    fn an_extent_reaches_back_to_what_is_not_safe() {
        let ledger = Ledger::new(|| ());
        let account = open(&ledger, 100);
        let first = ledger.cover(account, up_to(110)).expect("bytes to cover");
        assert_eq!(first.extent(), None, "nobody said which file it is");
        ledger.identify(
            account,
            FileLife {
                owner: 1,
                device: 2,
                inode: 3,
                born: 4,
            },
        );
        assert_eq!(first.extent(), None, "nothing is known of its first bytes");
        ledger.know_head(account, HeadMark { length: 9, sum: 8 });
        let second = ledger.cover(account, up_to(120)).expect("bytes to cover");
        let range = |receipt: &Receipt| receipt.extent().map(|extent| (extent.from, extent.to));
        assert_eq!(range(&first), Some((0, 110)));
        assert_eq!(range(&second), Some((110, 120)));
        first.release();
        assert_eq!(range(&second), Some((0, 120)));
        second.release();
    }

    #[test]
    fn a_batch_is_recorded_once_positions_were_written_that_all_older_ones_had_settled_for() {
        let ledger = Ledger::new(|| ());
        let account = open(&ledger, 0);
        let mut receipts = (1..=3).map(|end| ledger.cover(account, up_to(end)).expect("a byte"));
        let (first, second) = (receipts.next().expect("one"), receipts.next().expect("two"));
        let traces = [
            first.trace().expect("a debt"),
            second.trace().expect("a debt"),
        ];
        let recorded = || traces.each_ref().map(crate::event::Trace::is_recorded);
        second.release();
        ledger.recorded(ledger.settled_before());
        assert_eq!(recorded(), [false, false], "the position has not moved");
        first.release();
        let before = ledger.settled_before();
        let third = receipts.next().expect("three");
        assert_eq!(recorded(), [false, false], "nothing is written yet");
        ledger.recorded(before);
        assert_eq!(recorded(), [true, true]);
        assert!(!third.trace().expect("a debt").is_recorded());
        third.release();
    }

    #[test]
    fn a_batch_without_bytes_is_no_batch() {
        let ledger = Ledger::new(|| ());
        let account = open(&ledger, 5);
        assert!(ledger.cover(account, up_to(5)).is_none());
    }

    #[test]
    fn a_release_wakes_once_per_round_and_always_for_a_waiting_reader() {
        let woken = Arc::new(AtomicUsize::new(0));
        let counter = woken.clone();
        let ledger = Ledger::new(move || {
            counter.fetch_add(1, Ordering::Relaxed);
        });
        let account = open(&ledger, 0);
        ledger.take_moved();
        let mut receipts = (1..=6).map(|end| ledger.cover(account, up_to(end)).expect("a byte"));
        let mut next = || receipts.next().expect("six");
        next().release();
        next().release();
        assert_eq!(woken.load(Ordering::Relaxed), 1);
        assert!(ledger.take_moved());
        next().release();
        assert_eq!(woken.load(Ordering::Relaxed), 2);
        ledger.wait_for_release(true);
        next().release();
        next().release();
        assert_eq!(woken.load(Ordering::Relaxed), 4);
    }
}
