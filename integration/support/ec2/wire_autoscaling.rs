//! Auto Scaling's Query protocol (form in, XML out) in front of [`super::autoscaling`] (lifecycle.md §2.1; names and limits [M]).

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::Arc;

use super::autoscaling::{ActionName, Instance};
use super::hooks::{Hook, LifecycleResult, LifecycleState, Refused};
use super::http::{Answer, Request, Service, Site};
use super::notification::{ACCOUNT, uuid};
use super::state::{Happening, Shared};

const NAMESPACE: &str = "http://autoscaling.amazonaws.com/doc/2011-01-01/";
const VERSION: &str = "2011-01-01";

/// The Auto Scaling service.
pub(super) struct AutoScalingSite {
    pub shared: Arc<Shared>,
}

type Form = BTreeMap<String, String>;

impl Site for AutoScalingSite {
    const SERVICE: Service = Service::AutoScaling;

    fn operation(&self, request: &Request) -> String {
        form(request).remove("Action").unwrap_or_default()
    }

    async fn answer(&self, request: &Request) -> Answer {
        let form = form(request);
        let action = form.get("Action").cloned().unwrap_or_default();
        match self.call(&action, &form) {
            Ok(result) => xml(
                200,
                format!(
                    "<{action}Response xmlns=\"{NAMESPACE}\">{result}<ResponseMetadata><RequestId>{}</RequestId></ResponseMetadata></{action}Response>",
                    uuid()
                ),
            ),
            Err(refused) => self.refuse(&refused),
        }
    }

    fn refuse(&self, refused: &Refused) -> Answer {
        let fault = if refused.status < 500 {
            "Sender"
        } else {
            "Receiver"
        };
        xml(
            refused.status,
            format!(
                "<ErrorResponse xmlns=\"{NAMESPACE}\"><Error><Type>{fault}</Type><Code>{}</Code><Message>{}</Message></Error><RequestId>{}</RequestId></ErrorResponse>",
                escape(&refused.code),
                escape(&refused.message),
                uuid()
            ),
        )
    }
}

impl AutoScalingSite {
    fn call(&self, action: &str, form: &Form) -> Result<String, Refused> {
        if form.get("Version").map(String::as_str) != Some(VERSION) {
            return Err(refused("NoSuchVersion", "Version must be 2011-01-01"));
        }
        match action {
            "CompleteLifecycleAction" => self.complete(form),
            "RecordLifecycleActionHeartbeat" => self.heartbeat(form),
            "DescribeAutoScalingInstances" => Ok(self.instances(form)),
            "DescribeLifecycleHooks" => self.hooks(form),
            other => Err(refused(
                "InvalidAction",
                &format!("the world does not know {other}"),
            )),
        }
    }

    fn complete(&self, form: &Form) -> Result<String, Refused> {
        let name = action_name(form)?;
        let result = match required(form, "LifecycleActionResult")? {
            "CONTINUE" => LifecycleResult::Continue,
            "ABANDON" => LifecycleResult::Abandon,
            other => {
                let text = format!("Invalid lifecycle action result: {other}");
                return Err(Refused::validation(text));
            }
        };
        let now = self.shared.clock.now();
        self.shared.state.change(|state| {
            state.autoscaling_call(now, |machine| machine.complete(&name, result, now))
        })?;
        Ok("<CompleteLifecycleActionResult/>".to_string())
    }

    fn heartbeat(&self, form: &Form) -> Result<String, Refused> {
        let name = action_name(form)?;
        let now = self.shared.clock.now();
        self.shared.state.change(|state| {
            state.autoscaling_call(now, |machine| machine.heartbeat(&name, now))?;
            let hook = name.hook.clone();
            state.note(Happening::Heartbeat { hook });
            Ok(())
        })?;
        Ok("<RecordLifecycleActionHeartbeatResult/>".to_string())
    }

    /// An unknown id, and an instance that is gone, give an empty list and no error [M].
    fn instances(&self, form: &Form) -> String {
        let asked = members(form, "InstanceIds");
        let region = self.shared.state.read(|state| state.region.clone());
        let listed = |i: &&Instance| {
            let gone = matches!(
                i.state,
                LifecycleState::Terminated | LifecycleState::Detached
            );
            !gone && (asked.is_empty() || asked.contains(&i.id))
        };
        let mut list = String::new();
        self.shared.state.read(|state| {
            for instance in state.autoscaling.instances.iter().filter(listed) {
                write!(
                    list,
                    "<member><InstanceId>{}</InstanceId><InstanceType>t3.medium</InstanceType><AutoScalingGroupName>{}</AutoScalingGroupName><AvailabilityZone>{region}a</AvailabilityZone><LifecycleState>{}</LifecycleState><HealthStatus>HEALTHY</HealthStatus><ProtectedFromScaleIn>false</ProtectedFromScaleIn></member>",
                    instance.id,
                    escape(&instance.group),
                    instance.state.as_str(),
                )
                .expect("a String takes every text");
            }
        });
        format!(
            "<DescribeAutoScalingInstancesResult><AutoScalingInstances>{list}</AutoScalingInstances></DescribeAutoScalingInstancesResult>"
        )
    }

    fn hooks(&self, form: &Form) -> Result<String, Refused> {
        let name = required(form, "AutoScalingGroupName")?;
        let asked = members(form, "LifecycleHookNames");
        if asked.len() > 50 {
            return Err(Refused::validation("at most 50 hook names"));
        }
        let (group, queue, region) = self.shared.state.read(|state| {
            let group = state.autoscaling.groups.iter().find(|g| g.name == name);
            (
                group.cloned(),
                state.queue.name.clone(),
                state.region.clone(),
            )
        });
        let group = group.ok_or_else(|| {
            Refused::validation(format!("AutoScalingGroup name not found - {name}"))
        })?;
        let mut list = String::new();
        for hook in &group.hooks {
            if asked.is_empty() || asked.contains(&hook.name) {
                let target = format!("arn:aws:sqs:{region}:{ACCOUNT}:{queue}");
                list.push_str(&hook_member(hook, &group.name, &target));
            }
        }
        Ok(format!(
            "<DescribeLifecycleHooksResult><LifecycleHooks>{list}</LifecycleHooks></DescribeLifecycleHooksResult>"
        ))
    }
}

fn hook_member(hook: &Hook, group: &str, target: &str) -> String {
    // AWS speaks in whole seconds; a test's hook below one second shows as 1.
    let seconds = |time: std::time::Duration| time.as_secs().max(1);
    let mut member = format!(
        "<member><LifecycleHookName>{}</LifecycleHookName><AutoScalingGroupName>{}</AutoScalingGroupName><LifecycleTransition>{}</LifecycleTransition><HeartbeatTimeout>{}</HeartbeatTimeout><GlobalTimeout>{}</GlobalTimeout><DefaultResult>{}</DefaultResult>",
        escape(&hook.name),
        escape(group),
        super::notification::TERMINATING,
        seconds(hook.heartbeat_timeout),
        seconds(hook.global_timeout()),
        hook.default_result.as_str(),
    );
    if hook.notifies {
        let role = format!("arn:aws:iam::{ACCOUNT}:role/hook-notifies");
        let tags = format!(
            "<NotificationTargetARN>{target}</NotificationTargetARN><RoleARN>{role}</RoleARN>"
        );
        member.push_str(&tags);
    }
    if let Some(metadata) = &hook.metadata {
        let tag = format!(
            "<NotificationMetadata>{}</NotificationMetadata>",
            escape(metadata)
        );
        member.push_str(&tag);
    }
    member + "</member>"
}

/// The common parameters of heartbeat and completion, held to the model's limits.
fn action_name(form: &Form) -> Result<ActionName, Refused> {
    let hook = required(form, "LifecycleHookName")?.to_string();
    let allowed = |c: char| c.is_ascii_alphanumeric() || "-_/".contains(c);
    if hook.len() > 255 || !hook.chars().all(allowed) {
        let text = "Value at 'lifecycleHookName' failed to satisfy constraint: Member must satisfy regular expression pattern: [A-Za-z0-9\\-_\\/]+";
        return Err(Refused::validation(text));
    }
    let instance = form.get("InstanceId").cloned();
    if instance
        .as_ref()
        .is_some_and(|id| id.is_empty() || id.len() > 19)
    {
        return Err(Refused::validation(
            "InstanceId must have 1 to 19 characters",
        ));
    }
    let token = form.get("LifecycleActionToken").cloned();
    if token.as_ref().is_some_and(|token| token.len() != 36) {
        return Err(Refused::validation(
            "LifecycleActionToken must have 36 characters",
        ));
    }
    if instance.is_none() && token.is_none() {
        return Err(Refused::validation(
            "Either InstanceId or LifecycleActionToken is required",
        ));
    }
    let group = required(form, "AutoScalingGroupName")?.to_string();
    Ok(ActionName {
        group,
        hook,
        instance,
        token,
    })
}

fn form(request: &Request) -> Form {
    form_urlencoded::parse(&request.body).into_owned().collect()
}

fn members(form: &Form, list: &str) -> Vec<String> {
    let prefix = format!("{list}.member.");
    let of_list = form.iter().filter(|(key, _)| key.starts_with(&prefix));
    of_list.map(|(_, value)| value.clone()).collect()
}

fn required<'a>(form: &'a Form, key: &str) -> Result<&'a str, Refused> {
    let value = form.get(key).filter(|value| !value.is_empty());
    value.map(String::as_str).ok_or_else(|| {
        Refused::validation(format!("1 validation error detected: Value null at '{key}' failed to satisfy constraint: Member must not be null"))
    })
}

fn refused(code: &str, message: &str) -> Refused {
    Refused {
        status: 400,
        code: code.to_string(),
        message: message.to_string(),
    }
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
        .replace('"', "&quot;")
}

fn xml(status: u16, body: String) -> Answer {
    Answer::new(status, "text/xml", body)
}
