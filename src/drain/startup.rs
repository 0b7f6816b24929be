//! What can be known at start should not be learnt at a termination.

use super::hook::Hooks;
use super::notice::instance_id;
use super::params::{Plan, Source};
use crate::aws::Aws;

/// Asks once for what a drain will need and says what is missing. Stops nothing: run it beside the agent. True where all is well.
pub async fn check(plan: &Plan, aws: &Aws) -> bool {
    if plan.params.source == Source::None {
        return true;
    }
    let instance = match instance_id(plan, aws).await {
        Ok(instance) => instance,
        Err(error) => {
            tracing::error!(
                error = format!("{error:#}"),
                "a termination of this instance would not be noticed"
            );
            return false;
        }
    };
    let client = match aws.autoscaling().await {
        Ok(client) => client,
        Err(error) => {
            tracing::error!(
                error = format!("{error:#}"),
                "a lifecycle action could not be completed"
            );
            return false;
        }
    };
    let hooks = Hooks::new(client, &instance);
    let group = match &plan.params.group_name {
        Some(group) => Some(group.clone()),
        None => hooks.whereabouts().await.0,
    };
    let Some(group) = group else {
        tracing::info!(
            instance,
            "this instance is in no Auto Scaling group that we may see: group and hook are asked for at a termination"
        );
        return true;
    };
    match hooks.terminating(&group).await {
        Ok(known) => judge(
            plan,
            &group,
            &known.into_iter().map(|info| info.name).collect::<Vec<_>>(),
        ),
        Err(error) => {
            tracing::info!(
                group,
                error = format!("{error:#}"),
                "cannot look at the group's hooks: they are asked for at a termination"
            );
            true
        }
    }
}

fn judge(plan: &Plan, group: &str, hooks: &[String]) -> bool {
    match (&plan.params.hook_name, hooks) {
        (Some(wanted), known) if !known.contains(wanted) => {
            tracing::error!(group, hook_name = wanted, hooks = ?known, "the group has no terminating hook of this name");
            false
        }
        (Some(_), _) => true,
        (None, []) => {
            tracing::warn!(
                group,
                "the group has no terminating hook: nothing holds this instance while it drains"
            );
            false
        }
        (None, [_]) => true,
        (None, several) => {
            tracing::error!(group, hooks = ?several, "several terminating hooks: set hook_name, or a drain completes none of them");
            false
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::params::Params;
    use super::*;

    #[test]
    fn exactly_one_hook_or_a_named_one_is_well() {
        let names = |names: &[&str]| {
            names
                .iter()
                .map(|name| name.to_string())
                .collect::<Vec<_>>()
        };
        let well = |hook: Option<&str>, hooks: &[&str]| {
            let params = Params {
                hook_name: hook.map(str::to_owned),
                ..Params::default()
            };
            judge(&Plan::new(params).expect("a plan"), "web", &names(hooks))
        };
        assert!(well(None, &["drain"]));
        assert!(well(Some("drain"), &["other", "drain"]));
        assert!(!well(None, &[]));
        assert!(!well(None, &["drain", "other"]));
        assert!(!well(Some("drian"), &["drain"]));
    }
}
