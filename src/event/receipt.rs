//! Whoever holds a receipt owes delivery.
//!
//! A batch read from a file carries one. Copies, chunk splits and memory chunks hold clones of it; a purge releases it.
//! When the last holder has released, the creditor (the position ledger of the file) hears that the batch is safe. If any
//! holder dropped it without release (an error, a cancelled task, a crash of a thread) the creditor hears that the batch
//! was forgotten: its position never passes it, and the lines are read again after a restart. Forgetting repeats lines,
//! it never loses any.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// Who waits to hear what became of a batch.
pub trait Creditor: Send + Sync {
    /// Every holder has released: the batch is safe.
    fn safe(&self, batch: u64);

    /// Some holder dropped it unreleased: it must be read again after a restart.
    fn forgotten(&self, batch: u64);
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
    fn a_receipt_of_nobody_may_go_either_way() {
        drop(Receipt::none());
        Receipt::none().release();
    }
}
