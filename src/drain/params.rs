//! The `<drain>` section: from configuration to a [`Plan`].
//!
//! Checks everything that needs no network. Outputs other than S3 are built by the function that the caller hands in, since the
//! drain does not know the table of outputs.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use serde::Deserialize;

use super::command::Command;
use super::heartbeat::Setting;
use super::zabbix::{self, Zabbix};
use crate::config::types::Time;
use crate::config::{self, ConfigErrors, Element};
use crate::output::s3::{self, Store};
use crate::output::{Chunks, Output};

/// Who tells us that the instance terminates.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Source {
    /// Instance metadata; then the queue is read for our letter.
    #[default]
    Doorbell,
    /// Instance metadata alone.
    Imds,
    /// The queue, polled all the time.
    Queue,
    /// Nobody: only `affluent drain`.
    None,
}

/// What is sent when something could not be made safe in time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum OnUndelivered {
    /// `CONTINUE`: the instance goes.
    #[default]
    Continue,
    /// `ABANDON`: the instance stays, if the group retains abandoned instances.
    Abandon,
    /// Nothing until `max_hold` is over, then `CONTINUE`.
    Hold,
}

/// Whether spot notices are watched.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Spot {
    /// On a spot instance.
    #[default]
    Auto,
    /// Never.
    Off,
}

/// The parameters.
#[derive(Clone, Debug, Deserialize)]
#[serde(default)]
pub struct Params {
    /// `doorbell`, `imds`, `queue` or `none`.
    pub source: Source,
    /// The queue that the hook writes to.
    pub queue_url: Option<String>,
    /// `AutoScalingGroupName`; else the instance's tag, else Auto Scaling is asked.
    pub group_name: Option<String>,
    /// `LifecycleHookName`; else our letter's, else the group's only terminating hook.
    pub hook_name: Option<String>,
    /// Our instance id; else instance metadata's.
    pub instance_id: Option<String>,
    /// How long a drain may take.
    pub max_drain: Time,
    /// How long `on_undelivered hold` may hold the instance.
    pub max_hold: Time,
    /// `continue`, `abandon` or `hold`.
    pub on_undelivered: OnUndelivered,
    /// `auto` (a third of the hook's time-out), seconds, or `off`.
    pub heartbeat: String,
    /// Where the journal is.
    pub journal_path: PathBuf,
    /// How often instance metadata is asked.
    pub imds_interval: Time,
    /// `auto` or `off`.
    pub spot: Spot,
    /// Everything but the commands, the end of the inputs, the completion and the deletion.
    pub dry_run: bool,
}

impl Default for Params {
    fn default() -> Params {
        Params {
            source: Source::default(),
            queue_url: None,
            group_name: None,
            hook_name: None,
            instance_id: None,
            max_drain: Time(Duration::from_secs(15 * 60)),
            max_hold: Time(Duration::from_secs(2 * 3600)),
            on_undelivered: OnUndelivered::default(),
            heartbeat: "auto".to_owned(),
            journal_path: PathBuf::from("/var/lib/affluent/drain.json"),
            imds_interval: Time(Duration::from_secs(2)),
            spot: Spot::default(),
            dry_run: false,
        }
    }
}

/// Where files and the manifest go.
#[derive(Clone, Debug)]
pub struct Place {
    /// The bucket.
    pub store: Arc<Store>,
    /// Where keys begin, as configured.
    pub path: String,
}

/// Where chunks go that no server took.
#[derive(Clone)]
pub struct Spill {
    /// Any output.
    pub output: Arc<dyn Output>,
    /// The same place for files, where the output is S3.
    pub place: Option<Place>,
}

/// Whole files to keep.
#[derive(Clone, Debug)]
pub struct Archive {
    /// Globs of absolute paths.
    pub paths: Vec<String>,
    /// Where to.
    pub place: Place,
}

/// One step after the data is safe.
#[derive(Clone, Debug)]
pub enum Step {
    /// A shell command.
    Command(Command),
    /// `host.get` and `host.delete`.
    Zabbix(Zabbix),
}

/// A whole drain, checked.
#[derive(Clone)]
pub struct Plan {
    /// The parameters of `<drain>`.
    pub params: Params,
    /// `heartbeat`, read.
    pub heartbeat: Setting,
    /// `<before>`, in order.
    pub before: Vec<Command>,
    /// `<spill>`.
    pub spill: Option<Spill>,
    /// `<archive>`.
    pub archive: Option<Archive>,
    /// `<after>`, in order.
    pub after: Vec<Step>,
}

impl Plan {
    /// A plan of these parameters alone.
    pub fn new(params: Params) -> Result<Plan, String> {
        Ok(Plan {
            heartbeat: params.heartbeat.parse()?,
            params,
            before: Vec::new(),
            spill: None,
            archive: None,
            after: Vec::new(),
        })
    }

    /// Where the manifest goes.
    pub fn place(&self) -> Option<&Place> {
        let spill = self.spill.as_ref().and_then(|spill| spill.place.as_ref());
        spill.or(self.archive.as_ref().map(|archive| &archive.place))
    }
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct ArchiveParams {
    path: Vec<String>,
}

#[derive(Debug, Deserialize)]
#[serde(default)]
struct CommandParams {
    command: String,
    timeout: Time,
}

impl Default for CommandParams {
    fn default() -> CommandParams {
        CommandParams {
            command: String::new(),
            timeout: Time(Duration::from_secs(10)),
        }
    }
}

/// Reads `<drain>`. `output` builds the `<spill>` where it is not S3.
pub fn configure(
    section: &Element,
    output: &dyn Fn(&Element) -> config::Result<Arc<dyn Output>>,
) -> config::Result<Plan> {
    let mut errors = ConfigErrors::new();
    let params: Params = errors.collect(section.params()).unwrap_or_default();
    check(section, &params, &mut errors);
    let mut plan = Plan::new(Params {
        heartbeat: "auto".to_owned(),
        ..params.clone()
    })
    .map_err(|error| section.error_at("heartbeat", error))?;
    match params.heartbeat.parse() {
        Ok(setting) => plan.heartbeat = setting,
        Err(error) => errors.push(section.error_at("heartbeat", error)),
    }
    plan.before = section
        .sections("before")
        .filter_map(|before| errors.collect(command(before)))
        .collect();
    if let Some(spill) = errors.collect(section.section("spill")).flatten() {
        plan.spill = errors.collect(configure_spill(spill, output));
    }
    if let Some(archive) = errors.collect(section.section("archive")).flatten() {
        let place = plan.spill.as_ref().and_then(|spill| spill.place.clone());
        plan.archive = errors.collect(configure_archive(archive, place));
    }
    plan.after = section
        .sections("after")
        .filter_map(|after| errors.collect(step(after)))
        .collect();
    errors.into_result()?;
    Ok(plan)
}

fn check(section: &Element, params: &Params, errors: &mut ConfigErrors) {
    match (params.source, &params.queue_url) {
        (Source::Queue, None) => errors.push(section.error("source queue needs 'queue_url'")),
        (Source::Doorbell, None) => {
            section.warn(
                "no 'queue_url': the hook's message is not looked for and stays in its queue",
            );
        }
        (Source::Imds | Source::None, Some(_)) => {
            section.warn_at(
                "queue_url",
                "the queue is not read with this source: the hook's message stays in it",
            );
        }
        _ => {}
    }
    if let Some(url) = &params.queue_url
        && !url.starts_with("https://")
        && !url.starts_with("http://")
    {
        errors.push(section.error_at("queue_url", "the URL of an SQS queue begins with https://"));
    }
    if params.max_drain.0.is_zero() {
        errors.push(section.error_at(
            "max_drain",
            "a drain needs time: max_drain must be more than zero",
        ));
    }
    if params.imds_interval.0 < Duration::from_millis(100) {
        errors.push(section.error_at(
            "imds_interval",
            "instance metadata is throttled: at least 0.1 seconds",
        ));
    }
    if section.has("max_hold") && params.on_undelivered != OnUndelivered::Hold {
        section.warn_at("max_hold", "max_hold only counts with on_undelivered hold");
    }
    if params.on_undelivered == OnUndelivered::Abandon {
        section.warn_at(
            "on_undelivered",
            "ABANDON keeps the instance only if the group's InstanceLifecyclePolicy retains abandoned instances",
        );
    }
}

fn configure_spill(
    section: &Element,
    output: &dyn Fn(&Element) -> config::Result<Arc<dyn Output>>,
) -> config::Result<Spill> {
    match section.plugin_type()? {
        "s3" => {
            let s3 = s3::configure(section, &Chunks::Any)?;
            let place = Place {
                store: s3.store().clone(),
                path: s3.path().to_owned(),
            };
            Ok(Spill {
                output: s3,
                place: Some(place),
            })
        }
        _ => Ok(Spill {
            output: output(section)?,
            place: None,
        }),
    }
}

fn configure_archive(section: &Element, spill: Option<Place>) -> config::Result<Archive> {
    let params: ArchiveParams = match section.has("s3_bucket") {
        // `path` is the list of files here, so the bucket's own parameters stand in the spill.
        true => {
            return Err(section
                .error_at(
                    "s3_bucket",
                    "files go where <spill> @type s3 goes: give the bucket there",
                )
                .into());
        }
        false => section.params()?,
    };
    let mut errors = ConfigErrors::new();
    if params.path.is_empty() {
        errors.push(section.error("'path' parameter is required"));
    }
    for path in &params.path {
        if !path.starts_with('/') {
            errors.push(section.error_at("path", format!("{path} is not an absolute path")));
        }
        if let Err(error) = glob::Pattern::new(path) {
            errors.push(section.error_at("path", format!("{path}: {error}")));
        }
    }
    let Some(place) = spill else {
        errors.push(
            section.error("<archive> needs a <spill> with @type s3: that is where the files go"),
        );
        return Err(errors);
    };
    errors.into_result()?;
    Ok(Archive {
        paths: params.path,
        place,
    })
}

fn command(section: &Element) -> config::Result<Command> {
    let params: CommandParams = section.params()?;
    match params.command.trim() {
        "" => Err(section.error("'command' parameter is required").into()),
        line => Ok(Command {
            line: line.to_owned(),
            timeout: params.timeout.0,
        }),
    }
}

fn step(section: &Element) -> config::Result<Step> {
    match section.get("@type") {
        Some("zabbix") => zabbix::configure(section).map(Step::Zabbix),
        None | Some("command") => command(section).map(Step::Command),
        Some(other) => Err(section
            .error_at("@type", format!("unknown step '{other}'"))
            .help("known: zabbix, command")
            .into()),
    }
}

#[cfg(test)]
#[path = "params_tests.rs"]
mod tests;
