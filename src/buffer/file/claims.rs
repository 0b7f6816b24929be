//! What of tailed files is safe once a group of appends is durable. Pure.
//!
//! A batch counts when this buffer alone still owes it: the others have released their shares, so its lines are safe with the last one.
//! Where its events went to several chunks of one group, each of them says so, and it counts where all are found.

use std::collections::HashMap;

use crate::event::receipt::DebtKey;
use crate::event::{Extent, Receipt};

/// The shares in batches that one chunk holds in a group.
#[derive(Debug, Default)]
pub struct Claims {
    shares: Vec<Share>,
    extents: Vec<Extent>,
}

#[derive(Debug)]
struct Share {
    debt: DebtKey,
    holders: usize,
    extent: Extent,
}

impl Claims {
    /// The shares that these receipts are.
    pub fn of<'a>(receipts: impl Iterator<Item = &'a Receipt>) -> Claims {
        let share = |receipt: &Receipt| {
            // Asked in this order: who released in between was not counted as a holder too few.
            let (debt, extent) = (receipt.debt()?, receipt.extent()?);
            let holders = receipt.holders()?;
            Some(Share {
                debt,
                holders,
                extent,
            })
        };
        Claims {
            shares: receipts.filter_map(share).collect(),
            extents: Vec::new(),
        }
    }

    /// What may be written down.
    pub fn extents(&self) -> &[Extent] {
        &self.extents
    }
}

/// Decides what a group may claim, from the shares of all its chunks.
pub fn settle(all: &mut dyn Iterator<Item = &mut Claims>) {
    let mut all: Vec<&mut Claims> = all.collect();
    let mut batches: HashMap<DebtKey, Batch> = HashMap::new();
    for share in all.iter().flat_map(|claims| &claims.shares) {
        let batch = batches.entry(share.debt).or_insert(Batch {
            holders: share.holders,
            here: 0,
            said: share.extent.said,
        });
        batch.here += 1;
        // The fewest that were seen: nobody joins, since only holders could let others in.
        batch.holders = batch.holders.min(share.holders);
    }
    for claims in &mut all {
        for share in std::mem::take(&mut claims.shares) {
            let batch = &batches[&share.debt];
            let Some(parts) = u16::try_from(batch.here).ok().filter(|_| batch.is_whole()) else {
                continue;
            };
            let next = Extent {
                parts,
                said: batch.said,
                ..share.extent
            };
            claims.add(next);
        }
    }
}

struct Batch {
    holders: usize,
    here: usize,
    said: u64,
}

impl Batch {
    fn is_whole(&self) -> bool {
        self.here == self.holders
    }
}

impl Claims {
    /// Batches of one file that follow each other are one extent.
    fn add(&mut self, next: Extent) {
        let same = |extent: &&mut Extent| extent.life == next.life;
        if let Some(last) = self.extents.iter_mut().rev().find(same)
            && let Some(both) = last.and(next)
        {
            *last = both;
            return;
        }
        self.extents.push(next);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::event::{Creditor, FileLife};

    /// Batch n stands for the bytes from 10 n on.
    struct Book;

    impl Creditor for Book {
        fn safe(&self, _batch: u64) {}
        fn forgotten(&self, _batch: u64) {}
        fn extent(&self, batch: u64) -> Option<Extent> {
            Some(Extent {
                life: FileLife {
                    owner: 1,
                    device: 2,
                    inode: 3,
                    born: 4,
                },
                said: batch,
                from: batch * 10,
                to: batch * 10 + 10,
                head: (1, 1),
                parts: 1,
            })
        }
    }

    fn receipt(batch: u64) -> Receipt {
        Receipt::new(Arc::new(Book), batch)
    }

    fn settled(chunks: &[&[Receipt]]) -> Vec<Vec<(u64, u64, u16)>> {
        let mut claims: Vec<Claims> = chunks
            .iter()
            .map(|receipts| Claims::of(receipts.iter()))
            .collect();
        settle(&mut claims.iter_mut());
        let ranges = |claims: &Claims| {
            let range = |extent: &Extent| (extent.from, extent.to, extent.parts);
            claims.extents().iter().map(range).collect()
        };
        claims.iter().map(ranges).collect()
    }

    #[test]
    fn batches_that_follow_each_other_are_one_extent() {
        let receipts = [receipt(1), receipt(2), receipt(4)];
        assert_eq!(settled(&[&receipts]), [[(10, 30, 1), (40, 50, 1)]]);
    }

    #[test]
    fn a_batch_that_somebody_else_owes_too_is_not_claimed() {
        let receipts = [receipt(1), receipt(2)];
        let elsewhere = receipts[0].clone();
        assert_eq!(settled(&[&receipts]), [[(20, 30, 1)]]);
        elsewhere.release();
        assert_eq!(settled(&[&receipts]), [[(10, 30, 1)]]);
    }

    #[test]
    fn a_batch_that_somebody_forgot_is_not_claimed() {
        let receipts = [receipt(1)];
        drop(receipts[0].clone());
        assert_eq!(settled(&[&receipts]), [[]]);
    }

    #[test]
    fn a_batch_in_two_chunks_is_claimed_by_both_as_a_part() {
        let receipts = [receipt(1), receipt(2)];
        let others = [receipts[1].clone()];
        assert_eq!(
            settled(&[&receipts, &others]),
            [vec![(10, 20, 1), (20, 30, 2)], vec![(20, 30, 2)]]
        );
    }

    #[test]
    fn one_chunk_may_hold_a_batch_twice() {
        let receipts = [receipt(1)];
        let both = [receipts[0].clone(), receipts[0].clone()];
        assert_eq!(
            settled(&[&receipts, &both]),
            [vec![(10, 20, 3)], vec![(10, 20, 3), (10, 20, 3)]]
        );
    }
}
