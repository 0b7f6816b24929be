//! What the EC2 world knows: its parts, its clock, its faults, and the timeline of what happened.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use jiff::Timestamp;

use super::super::watched::Watched;
use super::autoscaling::{AutoScaling, Effect, Outcome};
use super::hooks::{LifecycleResult, LifecycleState, Refused};
use super::http::{Fault, Recorded, Request, Service};
use super::metadata::Metadata;
use super::notification::{Notification, TERMINATING, Wrapper};
use super::queue::Queue;
use super::zabbix::Zabbix;

/// World time: real time since the start, times a factor.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    start: Instant,
    factor: f64,
}

impl Clock {
    /// Starts now. With a factor of 10 a hook of 30 s times out after 3 real seconds; wall-clock times in messages stay real.
    pub fn start(factor: f64) -> Self {
        Self {
            start: Instant::now(),
            factor,
        }
    }

    /// The world's time.
    pub fn now(&self) -> Duration {
        self.start.elapsed().mul_f64(self.factor)
    }

    /// The real instant of a world time.
    pub fn instant(&self, at: Duration) -> Instant {
        self.start + at.div_f64(self.factor)
    }
}

/// What the sites share.
pub struct Shared {
    /// Everything that changes.
    pub state: Watched<State>,
    /// The world's clock.
    pub clock: Clock,
}

/// Everything that changes.
pub struct State {
    /// Groups, hooks, instances.
    pub autoscaling: AutoScaling,
    /// The hook's target.
    pub queue: Queue,
    /// The form in which notifications arrive.
    pub wrapper: Wrapper,
    /// IMDS of each instance by its id.
    pub metadata: BTreeMap<String, Metadata>,
    /// The monitoring server.
    pub zabbix: Zabbix,
    /// What happened, in order.
    pub timeline: Vec<Moment>,
    /// Every request, in order of arrival.
    pub requests: Vec<Recorded>,
    /// For messages.
    pub region: String,
    pub(super) faults: Vec<Planned>,
}

/// A fault that waits for its request.
pub(super) struct Planned {
    service: Service,
    operation: Option<String>,
    left: Option<u32>,
    fault: Fault,
}

/// One entry of the timeline.
#[derive(Clone, Debug)]
pub struct Moment {
    /// When.
    pub at: Instant,
    /// What.
    pub what: Happening,
}

/// What the world saw happen.
#[derive(Clone, Debug, PartialEq)]
pub enum Happening {
    /// An instance entered a lifecycle state.
    Entered {
        /// Its id.
        instance: String,
        /// The state.
        state: LifecycleState,
    },
    /// IMDS told the instance for the first time that it goes.
    NoticeRead {
        /// Its id.
        instance: String,
    },
    /// A message was put into the queue.
    MessageSent {
        /// Its id.
        id: String,
    },
    /// A consumer received it.
    MessageReceived {
        /// Its id.
        id: String,
    },
    /// A consumer gave it back at once.
    MessageGivenBack {
        /// Its id.
        id: String,
    },
    /// A consumer deleted it.
    MessageDeleted {
        /// Its id.
        id: String,
    },
    /// A heartbeat was accepted.
    Heartbeat {
        /// For this hook.
        hook: String,
    },
    /// A completion was accepted.
    Completed {
        /// For this hook.
        hook: String,
        /// As asked.
        result: LifecycleResult,
    },
    /// A hook's time was over, or another hook's `ABANDON` ended it.
    Ended {
        /// The hook.
        hook: String,
        /// How.
        outcome: Outcome,
    },
    /// An object was stored, or a multipart upload completed.
    Stored {
        /// Bucket and key as in the request's path.
        path: String,
        /// Length of the request's body.
        bytes: usize,
    },
    /// A request got an error.
    Refused {
        /// From this service.
        service: Service,
        /// For this operation.
        operation: String,
        /// With this status.
        status: u16,
    },
    /// A host was deleted from Zabbix.
    HostDeleted {
        /// Its name.
        host: String,
    },
}

impl State {
    /// Adds to the timeline.
    pub fn note(&mut self, what: Happening) {
        self.timeline.push(Moment {
            at: Instant::now(),
            what,
        });
    }

    /// Lets what Auto Scaling did take effect: IMDS changes, messages are sent, the timeline grows.
    pub fn apply(&mut self, effects: Vec<Effect>, now: Duration) {
        for effect in effects {
            match effect {
                Effect::Announced { instance } => {
                    let to = self.autoscaling.instance(&instance).map(|i| i.destination);
                    if let (Some(to), Some(metadata)) = (to, self.metadata.get_mut(&instance)) {
                        metadata.announce(to);
                    }
                }
                Effect::Notify {
                    instance,
                    group,
                    hook,
                    token,
                } => self.notify(instance, group, hook, token, now),
                Effect::Entered { instance, state } => {
                    self.note(Happening::Entered { instance, state });
                }
                Effect::Ended {
                    hook,
                    outcome: Outcome::Completed(result),
                    ..
                } => self.note(Happening::Completed { hook, result }),
                Effect::Ended { hook, outcome, .. } => {
                    self.note(Happening::Ended { hook, outcome });
                }
            }
        }
    }

    fn notify(
        &mut self,
        instance: String,
        group: String,
        hook: String,
        token: String,
        now: Duration,
    ) {
        let found = self.autoscaling.instance(&instance);
        let action = found.and_then(|i| i.actions.iter().find(|a| a.token == token));
        let notification = Notification {
            metadata: action.and_then(|action| action.hook.metadata.clone()),
            destination: found.map(|i| i.destination).unwrap_or_default(),
            group,
            hook,
            instance,
            token,
            transition: TERMINATING,
            region: self.region.clone(),
            time: Timestamp::now(),
        };
        let body = notification.body(self.wrapper);
        self.send(body, now);
    }

    /// Puts any body into the queue; returns the message's id.
    pub fn send(&mut self, body: String, now: Duration) -> String {
        let id = self
            .queue
            .send(body, Timestamp::now().as_millisecond(), now);
        self.note(Happening::MessageSent { id: id.clone() });
        id
    }

    /// Plans a fault for the next requests; `operation` none: whichever, `times` none: until [`Self::clear_faults`].
    pub fn plan_fault(
        &mut self,
        service: Service,
        operation: Option<&str>,
        times: Option<u32>,
        fault: Fault,
    ) {
        self.faults.push(Planned {
            service,
            operation: operation.map(str::to_string),
            left: times,
            fault,
        });
    }

    /// The service works again.
    pub fn clear_faults(&mut self, service: Service) {
        self.faults.retain(|planned| planned.service != service);
    }

    pub(super) fn take_fault(&mut self, service: Service, operation: &str) -> Option<Fault> {
        let planned = self.faults.iter_mut().find(|planned| {
            planned.service == service
                && planned.left != Some(0)
                && planned.operation.as_deref().is_none_or(|o| o == operation)
        })?;
        if let Some(left) = &mut planned.left {
            *left -= 1;
        }
        Some(planned.fault.clone())
    }

    pub(super) fn note_refusal(
        &mut self,
        service: Service,
        operation: &str,
        request: &Request,
        status: u16,
    ) {
        // 404 is IMDS's and 412 is S3's way of saying something ordinary.
        if status >= 400 && !(service == Service::Imds && status == 404) {
            self.note(Happening::Refused {
                service,
                operation: format!("{operation} {}", request.path()),
                status,
            });
        }
    }

    /// Runs one call on the state machine and lets its effects happen.
    pub(super) fn autoscaling_call(
        &mut self,
        now: Duration,
        call: impl FnOnce(&mut AutoScaling) -> Result<Vec<Effect>, Refused>,
    ) -> Result<(), Refused> {
        let effects = call(&mut self.autoscaling)?;
        self.apply(effects, now);
        Ok(())
    }
}
