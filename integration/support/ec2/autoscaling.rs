//! Auto Scaling's side of a termination as a state machine: groups, hooks, instances, actions with tokens and time-outs.
//!
//! `InService → Terminating → Terminating:Wait → Terminating:Proceed → Terminated`, or `Terminating:Retained`. Pure: it is told the
//! world's time and answers with what happened; [`super::wire_autoscaling`] speaks to clients, [`super::Ec2World`] drives the clock.
//! Marks as in lifecycle.md: [D] documentation, [M] service model, [F] field report, [A] assumed.

use std::time::Duration;

use super::hooks::{Delays, Destination, Hook, LifecycleResult, LifecycleState, Refused};
use super::notification::uuid;

/// An Auto Scaling group.
#[derive(Clone, Debug)]
pub struct Group {
    /// May contain spaces and non-ASCII [D].
    pub name: String,
    /// Its terminating hooks.
    pub hooks: Vec<Hook>,
    /// `RetentionTriggers.TerminateHookAbandon = retain` [D].
    pub retain_on_abandon: bool,
}

/// An instance of a group.
#[derive(Clone, Debug)]
pub struct Instance {
    /// `i-` and 17 hexadecimal digits.
    pub id: String,
    /// Its group's name.
    pub group: String,
    /// Now.
    pub state: LifecycleState,
    /// Where a termination leads.
    pub destination: Destination,
    /// One per hook, from `Terminating:Wait` on.
    pub actions: Vec<Action>,
    lag_left: u32,
    due: Vec<(Duration, Due)>,
}

/// One run of a hook for one instance.
#[derive(Clone, Debug)]
pub struct Action {
    /// The hook.
    pub hook: Hook,
    /// Exactly 36 characters [M].
    pub token: String,
    /// How it ended, if it did.
    pub outcome: Option<Outcome>,
    heartbeat_end: Duration,
    global_end: Duration,
}

/// How an action ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Somebody called `CompleteLifecycleAction`.
    Completed(LifecycleResult),
    /// H or G passed; the default result applies.
    TimedOut(LifecycleResult),
    /// Another hook's `ABANDON` cancelled it [D].
    Cancelled,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Due {
    Metadata,
    Wait,
    Notify(usize),
    Terminated,
}

/// What a step of the machine did.
#[derive(Clone, Debug, PartialEq)]
pub enum Effect {
    /// IMDS `target-lifecycle-state` of the instance shows the termination from now on.
    Announced { instance: String },
    /// A hook's notification is due.
    Notify {
        instance: String,
        group: String,
        hook: String,
        token: String,
    },
    /// The instance entered a state.
    Entered {
        instance: String,
        state: LifecycleState,
    },
    /// An action ended.
    Ended {
        instance: String,
        hook: String,
        outcome: Outcome,
    },
}

/// How a caller names an action: by group and hook, and by instance id or token or both [M].
#[derive(Clone, Debug, Default)]
pub struct ActionName {
    /// `AutoScalingGroupName`
    pub group: String,
    /// `LifecycleHookName`
    pub hook: String,
    /// `InstanceId`
    pub instance: Option<String>,
    /// `LifecycleActionToken`
    pub token: Option<String>,
}

/// All groups and instances of the world.
#[derive(Clone, Debug, Default)]
pub struct AutoScaling {
    /// The groups.
    pub groups: Vec<Group>,
    /// The instances.
    pub instances: Vec<Instance>,
    /// The present delays.
    pub delays: Delays,
}

impl AutoScaling {
    /// Adds a running instance.
    pub fn launch(&mut self, id: &str, group: &str) {
        self.instances.push(Instance {
            id: id.to_string(),
            group: group.to_string(),
            state: LifecycleState::InService,
            destination: Destination::Ec2,
            actions: Vec::new(),
            lag_left: 0,
            due: Vec::new(),
        });
    }

    /// An instance by its id.
    pub fn instance(&self, id: &str) -> Option<&Instance> {
        self.instances.iter().find(|instance| instance.id == id)
    }

    /// The group decides to end an instance that is in service; another is on its way already.
    pub fn terminate(&mut self, id: &str, to: Destination, now: Duration) -> Vec<Effect> {
        let delays = self.delays;
        let Some(instance) = self.running(id) else {
            return Vec::new();
        };
        instance.destination = to;
        instance.lag_left = delays.lagging_calls;
        instance.due = vec![
            (now + delays.metadata, Due::Metadata),
            (now + delays.wait, Due::Wait),
        ];
        let mut effects = vec![instance.enter(LifecycleState::Terminating)];
        effects.extend(self.step(now));
        effects
    }

    fn running(&mut self, id: &str) -> Option<&mut Instance> {
        let running = |i: &&mut Instance| i.id == id && i.state == LifecycleState::InService;
        self.instances.iter_mut().find(running)
    }

    /// When `step` has something to do next.
    pub fn next_due(&self) -> Option<Duration> {
        let of_instance = |instance: &Instance| {
            let due = instance.due.iter().map(|(at, _)| *at);
            let ends = instance
                .open_actions()
                .map(|a| a.heartbeat_end.min(a.global_end));
            due.chain(ends).min()
        };
        self.instances.iter().filter_map(of_instance).min()
    }

    /// Does everything whose time has come.
    pub fn step(&mut self, now: Duration) -> Vec<Effect> {
        let mut effects = Vec::new();
        for instance in &mut self.instances {
            let group = self
                .groups
                .iter()
                .find(|group| group.name == instance.group);
            let hooks = group.map_or(&[][..], |group| &group.hooks);
            let retain = group.is_some_and(|group| group.retain_on_abandon);
            while let Some((at, due)) = instance.take_due(now) {
                effects.extend(instance.happen(due, at, hooks, self.delays));
            }
            effects.extend(instance.time_out(now));
            effects.extend(instance.settle(now, retain, self.delays));
        }
        effects
    }

    /// `RecordLifecycleActionHeartbeat`: the clock restarts at full H from now, never beyond G [D].
    ///
    /// # Errors
    /// `ValidationError` as for [`Self::complete`].
    pub fn heartbeat(&mut self, name: &ActionName, now: Duration) -> Result<Vec<Effect>, Refused> {
        let effects = self.step(now);
        let (instance, action) = self.find(name)?;
        let action = &mut self.instances[instance].actions[action];
        action.heartbeat_end = now + action.hook.heartbeat_timeout;
        Ok(effects)
    }

    /// `CompleteLifecycleAction`.
    ///
    /// # Errors
    /// *No active Lifecycle Action found* before the wait began (also for a few calls after, [`Delays::lagging_calls`] [F]) and after
    /// it ended; another text for an unknown group or hook.
    pub fn complete(
        &mut self,
        name: &ActionName,
        result: LifecycleResult,
        now: Duration,
    ) -> Result<Vec<Effect>, Refused> {
        let mut effects = self.step(now);
        let (at, action) = self.find(name)?;
        let instance = &mut self.instances[at];
        effects.push(instance.end(action, Outcome::Completed(result)));
        effects.extend(self.step(now));
        Ok(effects)
    }

    /// The hook is deleted: outstanding terminating actions finish as `CONTINUE` [M].
    pub fn delete_hook(&mut self, group: &str, hook: &str, now: Duration) -> Vec<Effect> {
        for group in self.groups.iter_mut().filter(|g| g.name == group) {
            group.hooks.retain(|h| h.name != hook);
        }
        let mut effects = Vec::new();
        for instance in self.instances.iter_mut().filter(|i| i.group == group) {
            let open = |a: &Action| a.hook.name == hook && a.outcome.is_none();
            while let Some(at) = instance.actions.iter().position(open) {
                effects.push(instance.end(at, Outcome::Completed(LifecycleResult::Continue)));
            }
        }
        effects.extend(self.step(now));
        effects
    }

    /// The open action of that name. A token is looked up before the instance id, so a stale one fails the call [A].
    fn find(&mut self, name: &ActionName) -> Result<(usize, usize), Refused> {
        let group = self.groups.iter().find(|group| group.name == name.group);
        let group = group.ok_or_else(|| {
            Refused::validation(format!("AutoScalingGroup name not found - {}", name.group))
        })?;
        if !group.hooks.iter().any(|hook| hook.name == name.hook) {
            let text = format!("No Lifecycle Hook found with name {}", name.hook);
            return Err(Refused::validation(text));
        }
        let matches = |instance: &Instance, action: &Action| {
            instance.group == name.group
                && action.hook.name == name.hook
                && action.outcome.is_none()
                && name
                    .token
                    .as_ref()
                    .is_none_or(|token| *token == action.token)
                && name.instance.as_ref().is_none_or(|id| *id == instance.id)
        };
        let none = Refused::validation(match (&name.token, &name.instance) {
            (Some(token), _) => format!("No active Lifecycle Action found with token {token}"),
            (None, id) => format!(
                "No active Lifecycle Action found with instance ID {}",
                id.as_deref().unwrap_or_default()
            ),
        });
        for (at, instance) in self.instances.iter_mut().enumerate() {
            let Some(action) = instance.actions.iter().position(|a| matches(instance, a)) else {
                continue;
            };
            if instance.lag_left > 0 {
                instance.lag_left -= 1;
                return Err(none);
            }
            return Ok((at, action));
        }
        Err(none)
    }
}

impl Instance {
    /// The actions that hold it.
    pub fn open_actions(&self) -> impl Iterator<Item = &Action> {
        self.actions
            .iter()
            .filter(|action| action.outcome.is_none())
    }

    /// What is due next, in the order of time.
    fn take_due(&mut self, now: Duration) -> Option<(Duration, Due)> {
        let due = self
            .due
            .iter()
            .enumerate()
            .filter(|(_, (at, _))| *at <= now);
        let (next, _) = due.min_by_key(|(_, (at, _))| *at)?;
        Some(self.due.remove(next))
    }

    fn enter(&mut self, state: LifecycleState) -> Effect {
        self.state = state;
        Effect::Entered {
            instance: self.id.clone(),
            state,
        }
    }

    fn happen(&mut self, due: Due, at: Duration, hooks: &[Hook], delays: Delays) -> Vec<Effect> {
        let instance = self.id.clone();
        match due {
            Due::Metadata => vec![Effect::Announced { instance }],
            Due::Wait => {
                self.actions = hooks.iter().map(|hook| Action::open(hook, at)).collect();
                for (index, _) in hooks.iter().enumerate().filter(|(_, h)| h.notifies) {
                    self.due
                        .push((at + delays.notification, Due::Notify(index)));
                }
                vec![self.enter(LifecycleState::TerminatingWait)]
            }
            Due::Notify(index) => vec![Effect::Notify {
                instance,
                group: self.group.clone(),
                hook: self.actions[index].hook.name.clone(),
                token: self.actions[index].token.clone(),
            }],
            Due::Terminated => vec![self.enter(match self.destination {
                Destination::Ec2 => LifecycleState::Terminated,
                Destination::WarmPool => LifecycleState::WarmedStopped,
            })],
        }
    }

    fn time_out(&mut self, now: Duration) -> Vec<Effect> {
        let late = |a: &Action| a.outcome.is_none() && a.heartbeat_end.min(a.global_end) <= now;
        let mut effects = Vec::new();
        while let Some(at) = self.actions.iter().position(late) {
            let result = self.actions[at].hook.default_result;
            effects.push(self.end(at, Outcome::TimedOut(result)));
        }
        effects
    }

    /// Leaves the wait once no action is open.
    fn settle(&mut self, now: Duration, retain: bool, delays: Delays) -> Vec<Effect> {
        let abandoned = self.actions.iter().any(|action| {
            matches!(
                action.outcome,
                Some(
                    Outcome::Completed(LifecycleResult::Abandon)
                        | Outcome::TimedOut(LifecycleResult::Abandon)
                )
            )
        });
        let mut effects = Vec::new();
        if self.state != LifecycleState::TerminatingWait {
            return effects;
        }
        if abandoned {
            let open = |action: &Action| action.outcome.is_none();
            while let Some(at) = self.actions.iter().position(open) {
                effects.push(self.end(at, Outcome::Cancelled));
            }
        }
        if self.open_actions().next().is_some() {
            return effects;
        }
        if abandoned && retain {
            effects.push(self.enter(LifecycleState::TerminatingRetained));
        } else {
            effects.push(self.enter(LifecycleState::TerminatingProceed));
            self.due.push((now + delays.terminated, Due::Terminated));
        }
        effects
    }

    fn end(&mut self, action: usize, outcome: Outcome) -> Effect {
        let action = &mut self.actions[action];
        action.outcome = Some(outcome);
        Effect::Ended {
            instance: self.id.clone(),
            hook: action.hook.name.clone(),
            outcome,
        }
    }
}

impl Action {
    fn open(hook: &Hook, now: Duration) -> Self {
        Self {
            hook: hook.clone(),
            token: uuid(),
            outcome: None,
            heartbeat_end: now + hook.heartbeat_timeout,
            global_end: now + hook.global_timeout(),
        }
    }
}
