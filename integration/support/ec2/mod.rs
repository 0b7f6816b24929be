//! The part of AWS that a terminating instance meets, and a Zabbix: each an HTTP server on loopback that an unmodified client can
//! be pointed at through its environment.
//!
//! [`Ec2World`] starts it all and drives the clock. [`autoscaling`] and [`queue`] are the pure machines, `wire_*` speak AWS's
//! protocols in front of them, [`metadata`] is IMDS, [`s3`] is `s3s`, [`http`] records every request, [`state`] holds the timeline.
//!
//! Where a behaviour comes from is marked as in lifecycle.md: [D] AWS documentation, [M] service model, [F] field report, [X] measured on
//! moto or awscli, [A] assumed. [`ASSUMED`] lists the last kind.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Result;
use base64::Engine as _;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio_util::sync::{CancellationToken, DropGuard};

use self::autoscaling::{AutoScaling, Group};
use self::hooks::{Delays, Destination, Hook};
use self::http::{Fault, Recorded, Service, serve};
use self::metadata::{ACCESS_KEY, Metadata, MetadataSite, SECRET_KEY, SESSION_TOKEN};
use self::notification::{ACCOUNT, Wrapper};
use self::queue::Queue;
use self::s3::{Object, S3Site};
use self::state::{Clock, Moment, Shared, State};
use self::wire_autoscaling::AutoScalingSite;
use self::wire_sqs::SqsSite;
use self::zabbix::{Zabbix, ZabbixSite};
use super::watched::Watched;

pub mod autoscaling;
pub mod hooks;
pub mod http;
pub mod metadata;
pub mod notification;
pub mod queue;
pub mod s3;
pub mod state;
mod wire_autoscaling;
mod wire_sqs;
pub mod zabbix;

/// What this world does because something had to be done: nobody has shown it to us on AWS (lifecycle.md §13). A test that depends
/// on one of these says so in its name.
pub const ASSUMED: &[&str] = &[
    "IMDS says Terminated at once when the group decides, before Terminating:Wait (Delays::metadata, Delays::wait)",
    "the message arrives shortly after Terminating:Wait (Delays::notification)",
    "the instance is gone shortly after the last completion (Delays::terminated)",
    "a stale token fails a call whose instance id is right",
    "heartbeats of an action are refused with the words of CompleteLifecycleAction's refusal",
    "IMDS keeps saying Terminated in Terminating:Retained",
    "an instance on its way back to the warm pool passes Terminating:Wait and ends in Warmed:Stopped",
    "the texts of ValidationError for an unknown group or hook, and for a value outside the model",
    "a receipt handle of an earlier receive never deletes (the model: may succeed without deleting)",
    "a hidden message of a standard queue is never delivered early, and no message is delivered twice unasked",
];

/// How a world begins.
#[derive(Clone, Debug)]
pub struct Options {
    /// The Region everywhere.
    pub region: String,
    /// The instances that run at the start, all in one group.
    pub instances: Vec<String>,
    /// The group's name.
    pub group: String,
    /// The group's hooks.
    pub hooks: Vec<Hook>,
    /// The group keeps instances whose hook was abandoned.
    pub retain_on_abandon: bool,
    /// AWS's own delays.
    pub delays: Delays,
    /// The form of notifications.
    pub wrapper: Wrapper,
    /// World seconds per real second.
    pub time_factor: f64,
    /// Buckets that exist.
    pub buckets: Vec<String>,
}

impl Default for Options {
    /// One instance in a group with one hook of 60 s that writes to the queue; a bucket `logs`.
    fn default() -> Self {
        Self {
            region: "ap-northeast-1".to_string(),
            instances: vec!["i-0aa11bb22cc33dd44".to_string()],
            group: "web blue".to_string(),
            hooks: vec![Hook::new("drain-logs", Duration::from_secs(60))],
            retain_on_abandon: false,
            delays: Delays::default(),
            wrapper: Wrapper::Direct,
            time_factor: 1.0,
            buckets: vec!["logs".to_string()],
        }
    }
}

/// A running world. Dropping it closes every server.
pub struct Ec2World {
    shared: Arc<Shared>,
    options: Options,
    sqs: SocketAddr,
    autoscaling: SocketAddr,
    s3: SocketAddr,
    zabbix: SocketAddr,
    imds: Vec<(String, SocketAddr)>,
    store: TempDir,
    _stop: DropGuard,
}

impl Ec2World {
    /// Starts a world with [`Options::default`].
    ///
    /// # Errors
    /// When no port or no temporary directory can be had.
    pub async fn start() -> Result<Self> {
        Self::start_with(Options::default()).await
    }

    /// Starts a world.
    ///
    /// # Errors
    /// When no port or no temporary directory can be had.
    pub async fn start_with(options: Options) -> Result<Self> {
        let shared = Arc::new(Shared {
            state: Watched::new(first_state(&options)),
            clock: Clock::start(options.time_factor),
        });
        let stop = CancellationToken::new();
        let store = tempfile::tempdir()?;
        let root = store.path().to_path_buf();
        let s3 = S3Site::new(shared.clone(), &root, &options.buckets)?;
        let s3 = serve(s3, shared.clone(), stop.clone()).await?;
        let site = shared.clone();
        let sqs = serve(SqsSite { shared: site }, shared.clone(), stop.clone()).await?;
        let site = shared.clone();
        let autoscaling = AutoScalingSite { shared: site };
        let autoscaling = serve(autoscaling, shared.clone(), stop.clone()).await?;
        let site = shared.clone();
        let zabbix = serve(ZabbixSite { shared: site }, shared.clone(), stop.clone()).await?;
        let mut imds = Vec::new();
        for instance in &options.instances {
            let site = MetadataSite {
                shared: shared.clone(),
                instance: instance.clone(),
            };
            let addr = serve(site, shared.clone(), stop.clone()).await?;
            imds.push((instance.clone(), addr));
        }
        let (ticking, ended) = (shared.clone(), stop.clone());
        tokio::spawn(async move { ended.run_until_cancelled(tick(ticking)).await });
        Ok(Self {
            shared,
            options,
            sqs,
            autoscaling,
            s3,
            zabbix,
            imds,
            store,
            _stop: stop.drop_guard(),
        })
    }

    /// The first instance's id.
    pub fn instance(&self) -> &str {
        &self.options.instances[0]
    }

    /// The group's name.
    pub fn group(&self) -> &str {
        &self.options.group
    }

    /// The queue's URL, as it would stand in a `<drain>` section.
    pub fn queue_url(&self) -> String {
        let name = self.shared.state.read(|state| state.queue.name.clone());
        format!("http://{}/{ACCOUNT}/{name}", self.sqs)
    }

    /// Where Zabbix answers.
    pub fn zabbix_url(&self) -> String {
        format!("http://{}/api_jsonrpc.php", self.zabbix)
    }

    /// The environment that points any AWS client on the first instance at this world; credentials come from IMDS.
    pub fn env(&self) -> Vec<(String, String)> {
        self.env_of(self.instance())
    }

    /// The same for another instance.
    pub fn env_of(&self, instance: &str) -> Vec<(String, String)> {
        let url = |addr: SocketAddr| format!("http://{addr}");
        let imds = self.imds.iter().find(|(id, _)| id == instance);
        let imds = imds.map_or_else(String::new, |(_, addr)| url(*addr));
        [
            ("AWS_EC2_METADATA_SERVICE_ENDPOINT", imds),
            ("AWS_ENDPOINT_URL_SQS", url(self.sqs)),
            ("AWS_ENDPOINT_URL_AUTO_SCALING", url(self.autoscaling)),
            ("AWS_ENDPOINT_URL_S3", url(self.s3)),
            ("AWS_REGION", self.options.region.clone()),
            // The developer's own profile must not reach into the world.
            ("AWS_CONFIG_FILE", "/dev/null".to_string()),
            ("AWS_SHARED_CREDENTIALS_FILE", "/dev/null".to_string()),
        ]
        .map(|(name, value)| (name.to_string(), value))
        .to_vec()
    }

    /// [`Self::env`] with the credentials in it, for clients that shall not ask IMDS.
    pub fn env_with_keys(&self) -> Vec<(String, String)> {
        let keys = [
            ("AWS_ACCESS_KEY_ID", ACCESS_KEY),
            ("AWS_SECRET_ACCESS_KEY", SECRET_KEY),
            ("AWS_SESSION_TOKEN", SESSION_TOKEN),
        ];
        let keys = keys.map(|(name, value)| (name.to_string(), value.to_string()));
        self.env().into_iter().chain(keys).collect()
    }

    /// Everything the world knows, and the means to wait on it.
    pub fn state(&self) -> &Watched<State> {
        &self.shared.state
    }

    /// The group decides to end the instance.
    pub fn terminate(&self, instance: &str) {
        self.terminate_to(instance, Destination::Ec2);
    }

    /// The same, also towards the warm pool.
    pub fn terminate_to(&self, instance: &str, to: Destination) {
        let now = self.shared.clock.now();
        self.shared.state.change(|state| {
            let effects = state.autoscaling.terminate(instance, to, now);
            state.apply(effects, now);
        });
    }

    /// The hook is deleted while instances may wait on it.
    pub fn delete_hook(&self, hook: &str) {
        let now = self.shared.clock.now();
        self.shared.state.change(|state| {
            let group = self.options.group.clone();
            let effects = state.autoscaling.delete_hook(&group, hook, now);
            state.apply(effects, now);
        });
    }

    /// Puts any body into the queue: foreign, test or broken messages. Returns its id.
    pub fn send_message(&self, body: impl Into<String>) -> String {
        let now = self.shared.clock.now();
        self.shared
            .state
            .change(|state| state.send(body.into(), now))
    }

    /// Changes what an instance's IMDS says.
    ///
    /// # Panics
    /// When there is no such instance.
    pub fn metadata(&self, instance: &str, change: impl FnOnce(&mut Metadata)) {
        self.shared.state.change(|state| {
            change(
                state
                    .metadata
                    .get_mut(instance)
                    .expect("an instance of this world"),
            );
        });
    }

    /// The next `times` requests (`None`: all) for `operation` (`None`: any) of a service meet a fault.
    pub fn fault(
        &self,
        service: Service,
        operation: Option<&str>,
        times: Option<u32>,
        fault: Fault,
    ) {
        self.shared
            .state
            .change(|state| state.plan_fault(service, operation, times, fault));
    }

    /// The service works again.
    pub fn heal(&self, service: Service) {
        self.shared
            .state
            .change(|state| state.clear_faults(service));
    }

    /// What happened so far.
    pub fn timeline(&self) -> Vec<Moment> {
        self.shared.state.read(|state| state.timeline.clone())
    }

    /// Waits until something happened; returns when.
    ///
    /// # Errors
    /// After `deadline`, naming `what`.
    pub async fn wait_moment(
        &self,
        what: &str,
        deadline: Duration,
        mut is: impl FnMut(&state::Happening) -> bool,
    ) -> Result<Instant> {
        let find = |state: &State| {
            let found = state.timeline.iter().find(|moment| is(&moment.what));
            found.map(|moment| moment.at)
        };
        self.shared.state.wait_some(what, deadline, find).await
    }

    /// What S3 holds.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn objects(&self) -> Result<Vec<Object>> {
        s3::objects(self.store.path())
    }

    /// Every request so far.
    pub fn requests(&self) -> Vec<Recorded> {
        self.shared.state.read(|state| state.requests.clone())
    }

    /// The requests as JSON lines for the conformance layer: `service`, `method`, `target`, `headers` (pairs in order), `body`
    /// (base64), `status`.
    pub fn requests_json(&self) -> String {
        let lines = self
            .requests()
            .into_iter()
            .map(|recorded| recorded_json(&recorded).to_string() + "\n");
        lines.collect()
    }
}

fn first_state(options: &Options) -> State {
    let mut autoscaling = AutoScaling {
        groups: vec![Group {
            name: options.group.clone(),
            hooks: options.hooks.clone(),
            retain_on_abandon: options.retain_on_abandon,
        }],
        instances: Vec::new(),
        delays: options.delays,
    };
    for instance in &options.instances {
        autoscaling.launch(instance, &options.group);
    }
    let metadata = options.instances.iter().map(|instance| {
        let metadata = Metadata::new(instance, &options.region, &options.group);
        (instance.clone(), metadata)
    });
    State {
        autoscaling,
        queue: Queue::new("my-hook"),
        wrapper: options.wrapper,
        metadata: metadata.collect(),
        zabbix: Zabbix::default(),
        timeline: Vec::new(),
        requests: Vec::new(),
        region: options.region.clone(),
        faults: Vec::new(),
    }
}

/// Lets the state machine act when its time has come.
async fn tick(shared: Arc<Shared>) {
    loop {
        let due = |state: &State| state.autoscaling.next_due();
        let next = shared.state.wait_forever(due).await;
        // A heartbeat moves the next time away, a termination brings it nearer: then look again.
        let changed = |state: &State| (due(state) != Some(next)).then_some(());
        tokio::select! {
            () = tokio::time::sleep_until(shared.clock.instant(next).into()) => {
                let now = shared.clock.now();
                shared.state.change(|state| {
                    let effects = state.autoscaling.step(now);
                    state.apply(effects, now);
                });
            }
            () = shared.state.wait_forever(changed) => {}
        }
    }
}

fn recorded_json(recorded: &Recorded) -> Value {
    let request = &recorded.request;
    let pairs = request
        .headers
        .iter()
        .map(|(name, value)| json!([name.as_str(), String::from_utf8_lossy(value.as_bytes())]));
    json!({
        "service": recorded.service.as_str(),
        "method": request.method.as_str(),
        "target": request.target,
        "headers": pairs.collect::<Vec<_>>(),
        "body": base64::engine::general_purpose::STANDARD.encode(&request.body),
        "status": recorded.status,
    })
}
