//! Looks for our own letter while the drain runs: only to learn the token and when the wait began, and to delete it at the end.
//! Nothing waits for it.

use std::convert::Infallible;
use std::time::{Duration, Instant, SystemTime};

use super::params::Source;
use super::queue::{Found, Polling, Received, Rules};
use super::{Drain, Drainable, Names};

/// How long our letter is hidden at a time: a run that dies gives it back soon.
const HIDE: Duration = Duration::from_secs(90);
/// How often that is renewed.
const RENEW: Duration = Duration::from_secs(30);

/// Looks until it is found, then keeps it hidden until the drain ends.
pub(super) async fn watch<A: Drainable>(drain: &Drain<'_, A>) -> Infallible {
    if drain.queue_url().is_none() || drain.plan.params.dry_run {
        return std::future::pending().await;
    }
    if drain.situation.borrow().letter.is_none() {
        find(drain).await;
    }
    loop {
        let letter = drain.situation.borrow().letter.clone();
        if let Some(received) = letter {
            hold(drain, &received).await;
        }
        tokio::time::sleep(RENEW).await;
    }
}

async fn find<A: Drainable>(drain: &Drain<'_, A>) {
    let queue = loop {
        match drain.queue().await {
            Ok(queue) => break queue,
            Err(error) => {
                tracing::warn!(
                    error = format!("{error:#}"),
                    "cannot read the queue yet, trying again"
                );
                tokio::time::sleep(Duration::from_secs(2)).await;
            }
        }
    };
    let polling = match drain.plan.params.source {
        Source::Queue => Polling::Always,
        _ => Polling::AfterDoorbell,
    };
    let mut rules = Rules::new(polling);
    loop {
        for found in queue.find(&mut rules, &drain.instance).await {
            let Found::Letter(received) = found else {
                continue;
            };
            if drain.plan.params.hook_name.is_some()
                && received.letter.hook != drain.plan.params.hook_name
            {
                tracing::info!(hook = ?received.letter.hook, "a letter of another hook stays in the queue");
                continue;
            }
            tracing::info!(
                stage = "notice", elapsed = drain.elapsed(), message_id = received.message_id, hook = ?received.letter.hook,
                "notice: found our message in the queue"
            );
            drain
                .situation
                .send_modify(|now| now.learn(received.clone()));
            return;
        }
        // Only letters of other hooks: they stay hidden for a while.
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
}

/// Keeps it hidden, so that its handle stays good and no other instance receives it.
async fn hold<A: Drainable>(drain: &Drain<'_, A>, received: &Received) {
    let held = async { drain.queue().await?.hold(&received.handle, HIDE).await };
    if let Err(error) = held.await {
        tracing::warn!(
            error = format!("{error:#}"),
            "cannot keep our message hidden: others will see it again"
        );
    }
}

impl super::Situation {
    /// Takes over what a letter says.
    pub(super) fn learn(&mut self, received: Received) {
        if let Some(time) = received.letter.time {
            self.began = Some(instant(SystemTime::from(time)));
        }
        self.warm_pool |= received.letter.warm_pool;
        if let Names::Known(action) = &mut self.names
            && received.letter.hook.as_deref() == Some(&action.hook)
        {
            action.token = received.letter.token.clone();
        }
        self.letter = Some(received);
    }
}

/// The same moment on the monotonic clock.
pub(super) fn instant(at: SystemTime) -> Instant {
    let (now, clock) = (Instant::now(), SystemTime::now());
    match at.duration_since(clock) {
        Ok(ahead) => now + ahead,
        Err(past) => now.checked_sub(past.duration()).unwrap_or(now),
    }
}
