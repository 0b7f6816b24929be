//! out_copy: every store gets the batch and owes it. Wiring, not a destination.

use std::sync::Arc;

use crate::event::{Collector, EventStream, Room, Tag};

/// The stores of one `@type copy`.
pub struct Copy {
    stores: Vec<Arc<dyn Collector>>,
}

impl Copy {
    /// A copy to these collectors. The position of a line moves when all of them have it safe.
    pub fn new(stores: Vec<Arc<dyn Collector>>) -> Copy {
        Copy { stores }
    }
}

impl Collector for Copy {
    /// The slowest store decides: none gets a batch that another cannot take.
    fn room(&self, tag: &Tag) -> Room {
        let all_ready = self
            .stores
            .iter()
            .all(|store| store.room(tag) == Room::Ready);
        if all_ready { Room::Ready } else { Room::Full }
    }

    fn emit(&self, stream: EventStream) {
        for store in &self.stores {
            store.emit(stream.clone());
        }
        stream.receipt.release();
    }
}
