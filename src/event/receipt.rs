//! Whoever holds a receipt owes delivery.
//!
//! A batch read from a file carries one. Copies, chunk splits and memory chunks hold clones of it; a purge releases it.
//! When the last holder has released, the creditor (the position ledger of the file) hears that the batch is safe. If any
//! holder dropped it without release (an error, a cancelled task, a crash of a thread) the creditor hears that the batch
//! was forgotten: its position never passes it, and the lines are read again after a restart. Forgetting repeats lines,
//! it never loses any.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering, fence};

use super::Extent;

/// Who waits to hear what became of a batch.
pub trait Creditor: Send + Sync {
    /// Every holder has released: the batch is safe.
    fn safe(&self, batch: u64);

    /// Some holder dropped it unreleased: it must be read again after a restart.
    fn forgotten(&self, batch: u64);

    /// Which bytes of a file an open batch stands for, if whoever makes it durable is to remember that: then a start knows of a batch
    /// that it must not be read again, though the creditor had not written that down yet.
    fn extent(&self, _batch: u64) -> Option<Extent> {
        None
    }

    /// Whether the creditor has written down that this batch is safe, and all older ones that are.
    fn is_recorded(&self, _batch: u64) -> bool {
        true
    }
}

struct Debt {
    creditor: Arc<dyn Creditor>,
    batch: u64,
    forgotten: AtomicBool,
}

impl Drop for Debt {
    fn drop(&mut self) {
        if *self.forgotten.get_mut() {
            self.creditor.forgotten(self.batch);
        } else {
            self.creditor.safe(self.batch);
        }
    }
}

/// A share in the debt for one batch.
#[derive(Clone)]
#[must_use = "a receipt that is dropped without release means that its lines are read again"]
pub struct Receipt(Option<Arc<Debt>>);

impl Receipt {
    /// A receipt that nobody waits for: events that no file can repeat.
    pub fn none() -> Receipt {
        Receipt(None)
    }

    /// A new debt to `creditor`, who knows the batch by this number.
    pub fn new(creditor: Arc<dyn Creditor>, batch: u64) -> Receipt {
        Receipt(Some(Arc::new(Debt {
            creditor,
            batch,
            forgotten: AtomicBool::new(false),
        })))
    }

    /// Which debt this is a share of: the same for all holders of one batch.
    pub fn debt(&self) -> Option<DebtKey> {
        self.0
            .as_ref()
            .map(|debt| DebtKey(Arc::as_ptr(debt) as usize))
    }

    /// How many holders have not released yet; `None` where nobody waits, or one has forgotten it.
    pub fn holders(&self) -> Option<usize> {
        let debt = self.0.as_ref()?;
        let holders = Arc::strong_count(debt);
        // Whoever is not counted any more has said before whether it forgot.
        fence(Ordering::Acquire);
        (!debt.forgotten.load(Ordering::Relaxed)).then_some(holders)
    }

    /// Which bytes of a file the batch stands for (see [`Creditor::extent`]).
    pub fn extent(&self) -> Option<Extent> {
        let debt = self.0.as_ref()?;
        debt.creditor.extent(debt.batch)
    }

    /// What is left of it when it is released.
    pub fn trace(&self) -> Option<Trace> {
        self.0.as_ref().map(|debt| Trace {
            creditor: debt.creditor.clone(),
            batch: debt.batch,
        })
    }

    /// This holder's part is done: acknowledged, durable, stored, or dropped by configuration and counted.
    pub fn release(mut self) {
        self.0.take();
    }
}

impl Drop for Receipt {
    fn drop(&mut self) {
        if let Some(debt) = self.0.take() {
            debt.forgotten.store(true, Ordering::Relaxed);
        }
    }
}

/// Tells shares of one debt from those of others, as long as one of them is held.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct DebtKey(usize);

/// What is left of a receipt that was released: whether the creditor has written that down.
#[derive(Clone)]
pub struct Trace {
    creditor: Arc<dyn Creditor>,
    batch: u64,
}

impl Trace {
    /// Whether it has.
    pub fn is_recorded(&self) -> bool {
        self.creditor.is_recorded(self.batch)
    }

    /// Adds it to the traces of a chunk. The youngest of each creditor tells of the older ones.
    pub fn join(self, traces: &mut Vec<Trace>) {
        let same = |trace: &&mut Trace| Arc::ptr_eq(&trace.creditor, &self.creditor);
        match traces.iter_mut().find(same) {
            Some(trace) => trace.batch = trace.batch.max(self.batch),
            None => traces.push(self),
        }
    }
}

impl fmt::Debug for Trace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Trace(batch {})", self.batch)
    }
}

impl fmt::Debug for Receipt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Some(debt) => write!(f, "Receipt(batch {})", debt.batch),
            None => f.write_str("Receipt(none)"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Mutex;

    #[derive(Default)]
    struct Book(Mutex<Vec<(u64, bool)>>);

    impl Creditor for Book {
        fn safe(&self, batch: u64) {
            self.0.lock().expect("no holder panics").push((batch, true));
        }
        fn forgotten(&self, batch: u64) {
            self.0
                .lock()
                .expect("no holder panics")
                .push((batch, false));
        }
    }

    fn told(book: &Book) -> Vec<(u64, bool)> {
        book.0.lock().expect("no holder panics").clone()
    }

    #[test]
    fn safe_only_when_the_last_holder_has_released() {
        let book = Arc::new(Book::default());
        let first = Receipt::new(book.clone(), 7);
        let second = first.clone();
        first.release();
        assert_eq!(told(&book), []);
        second.release();
        assert_eq!(told(&book), [(7, true)]);
    }

    #[test]
    fn one_holder_that_forgets_makes_the_batch_forgotten() {
        let book = Arc::new(Book::default());
        let first = Receipt::new(book.clone(), 7);
        let second = first.clone();
        drop(first);
        second.release();
        assert_eq!(told(&book), [(7, false)]);
    }

    #[test]
    fn holders_are_counted_until_one_forgets() {
        let book = Arc::new(Book::default());
        let first = Receipt::new(book, 7);
        let (second, third) = (first.clone(), first.clone());
        assert_eq!(first.debt(), third.debt());
        assert_eq!(first.holders(), Some(3));
        second.release();
        assert_eq!(first.holders(), Some(2));
        drop(third);
        assert_eq!(first.holders(), None);
        first.release();
        assert_eq!(Receipt::none().holders(), None);
    }

    #[test]
    fn of_the_traces_of_one_creditor_the_youngest_stays() {
        let (one, other) = (Arc::new(Book::default()), Arc::new(Book::default()));
        let mut traces = Vec::new();
        for (book, batch) in [(&one, 3), (&other, 1), (&one, 5), (&one, 4)] {
            let receipt = Receipt::new(book.clone(), batch);
            receipt.trace().expect("a debt").join(&mut traces);
            receipt.release();
        }
        let batches: Vec<u64> = traces.iter().map(|trace| trace.batch).collect();
        assert_eq!(batches, [5, 1]);
    }

    #[test]
    fn a_receipt_of_nobody_may_go_either_way() {
        drop(Receipt::none());
        Receipt::none().release();
    }
}
