//! out_relabel and `@label`: on to another label's router. Wiring, not a destination.

use std::sync::{Arc, OnceLock, Weak};

use tracing::error;

use super::Router;
use crate::event::{Collector, EventStream, Room, Tag};

/// A way into a label. Labels may point at each other, so the router is put in when all of them stand; it is held weakly,
/// since the agent owns the routers and a circle of labels must not keep itself alive.
#[derive(Clone, Default)]
pub struct Relabel {
    router: Arc<OnceLock<Weak<Router>>>,
}

impl Relabel {
    /// Leads to this router from now on. The first call counts.
    pub fn lead_to(&self, router: &Arc<Router>) {
        self.router.get_or_init(|| Arc::downgrade(router));
    }

    fn router(&self) -> Option<Arc<Router>> {
        self.router.get().and_then(Weak::upgrade)
    }
}

impl Collector for Relabel {
    fn room(&self, tag: &Tag) -> Room {
        self.router().map_or(Room::Full, |router| router.room(tag))
    }

    fn emit(&self, stream: EventStream) {
        match self.router() {
            Some(router) => router.emit(stream),
            // The receipt is dropped unreleased: the lines are read again after a restart.
            None => {
                error!(tag = %stream.tag, records = stream.count, "the label is gone, lines are read again after a restart")
            }
        }
    }
}
