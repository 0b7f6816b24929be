//! IMDSv2 of one instance: tokens with a lifetime, the paths that the agent and the SDK ask, the states a test sets (lifecycle.md §2.4).

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use serde_json::json;

use super::hooks::{Destination, Refused};
use super::http::{Answer, Request, Service, Site};
use super::notification::{ACCOUNT, seconds, uuid};
use super::state::{Happening, Shared};

/// The instance profile's role.
pub const ROLE: &str = "affluent-role";
/// The access key that IMDS hands out and that S3 accepts.
pub const ACCESS_KEY: &str = "ASIAEXAMPLEAFFLUENT0";
/// Its secret.
pub const SECRET_KEY: &str = "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY";
/// Its session token.
pub const SESSION_TOKEN: &str = "IQoJb3JpZ2luX2VjEXAMPLE";

/// What one instance's metadata says. A test changes the fields through [`super::Ec2World::metadata`].
#[derive(Clone, Debug)]
pub struct Metadata {
    /// `instance-id`
    pub instance: String,
    /// `placement/region`
    pub region: String,
    /// `tags/instance/aws:autoscaling:groupName`, present when instance-metadata tags are enabled [D].
    pub group_tag: Option<String>,
    /// `autoscaling/target-lifecycle-state`; `None` answers 404, as before the first transition [D].
    pub target_state: Option<String>,
    /// `instance-life-cycle`: `on-demand` or `spot` [D].
    pub life_cycle: &'static str,
    /// `spot/instance-action`: the action and its time; 404 is the normal answer [D].
    pub spot_action: Option<(String, Timestamp)>,
    /// `events/recommendations/rebalance`: its `noticeTime` [D].
    pub rebalance: Option<Timestamp>,
    /// Metadata switched off: the token request gets 403 [D].
    pub off: bool,
    /// Tokens live at most this long, whatever was asked: to see a client's 401 handling.
    pub token_cap: Duration,
    /// Role credentials expire this long after they were asked for; less than zero hands out expired ones.
    pub credentials_live: SignedDuration,
    tokens: BTreeMap<String, Duration>,
    noticed: bool,
}

impl Metadata {
    /// Of a running on-demand instance with tags enabled.
    pub fn new(instance: &str, region: &str, group: &str) -> Self {
        Self {
            instance: instance.to_string(),
            region: region.to_string(),
            group_tag: Some(group.to_string()),
            target_state: Some("InService".to_string()),
            life_cycle: "on-demand",
            spot_action: None,
            rebalance: None,
            off: false,
            token_cap: Duration::from_secs(21_600),
            credentials_live: SignedDuration::from_hours(6),
            tokens: BTreeMap::new(),
            noticed: false,
        }
    }

    /// The termination shows: the state the instance is *heading to* [D].
    pub(super) fn announce(&mut self, to: Destination) {
        let word = match to {
            Destination::Ec2 => "Terminated",
            Destination::WarmPool => "Warmed:Stopped",
        };
        self.target_state = Some(word.to_string());
    }

    /// Every token given out so far is refused from now on, as after a restart of the service (NTH #668) [F].
    pub fn forget_tokens(&mut self) {
        self.tokens.clear();
    }

    /// `PUT /latest/api/token`: 1–21600 s, else 400; 403 when off or forwarded [D].
    fn token(&mut self, request: &Request, now: Duration) -> Answer {
        if self.off || !request.header("x-forwarded-for").is_empty() {
            return text(403, "Forbidden");
        }
        let asked = request.header("x-aws-ec2-metadata-token-ttl-seconds");
        let Some(ttl) = asked.parse().ok().filter(|ttl| (1..=21_600).contains(ttl)) else {
            return text(400, "Bad Request");
        };
        let token = format!("AQAEA{}==", uuid());
        let lives = Duration::from_secs(ttl).min(self.token_cap);
        self.tokens.insert(token.clone(), now + lives);
        text(200, &token).with("x-aws-ec2-metadata-token-ttl-seconds", &ttl.to_string())
    }

    fn value(&self, path: &str) -> Option<String> {
        let found = match path {
            "instance-id" => self.instance.clone(),
            "ami-id" => "ami-0123456789abcdef0".to_string(),
            "instance-type" => "t3.medium".to_string(),
            "instance-life-cycle" => self.life_cycle.to_string(),
            "local-hostname" => "ip-192-0-2-10.ec2.internal".to_string(),
            "local-ipv4" => "192.0.2.10".to_string(),
            "placement/region" => self.region.clone(),
            "placement/availability-zone" => format!("{}a", self.region),
            "tags/instance" | "tags/instance/" => {
                self.group_tag.as_ref()?;
                "Name\naws:autoscaling:groupName".to_string()
            }
            "tags/instance/Name" => self.group_tag.as_ref().map(|_| "web".to_string())?,
            "tags/instance/aws:autoscaling:groupName" => self.group_tag.clone()?,
            "iam/security-credentials" | "iam/security-credentials/" => ROLE.to_string(),
            "autoscaling/target-lifecycle-state" => self.target_state.clone()?,
            "spot/instance-action" => {
                let (action, time) = self.spot_action.as_ref()?;
                json!({"action": action, "time": seconds(*time)}).to_string()
            }
            "spot/termination-time" => seconds(self.spot_action.as_ref()?.1),
            "events/recommendations/rebalance" => {
                json!({"noticeTime": seconds(self.rebalance?)}).to_string()
            }
            _ if path == format!("iam/security-credentials/{ROLE}") => self.credentials(),
            _ => return None,
        };
        Some(found)
    }

    /// The credential document [D].
    fn credentials(&self) -> String {
        let now = Timestamp::now();
        json!({
            "Code": "Success",
            "Type": "AWS-HMAC",
            "LastUpdated": seconds(now),
            "AccessKeyId": ACCESS_KEY,
            "SecretAccessKey": SECRET_KEY,
            "Token": SESSION_TOKEN,
            "Expiration": seconds(now + self.credentials_live),
        })
        .to_string()
    }

    /// `dynamic/instance-identity/document`, in the part that is commonly read [D].
    fn identity(&self) -> String {
        json!({
            "accountId": ACCOUNT,
            "instanceId": self.instance,
            "region": self.region,
            "availabilityZone": format!("{}a", self.region),
        })
        .to_string()
    }
}

/// The metadata service of one instance.
pub(super) struct MetadataSite {
    pub shared: Arc<Shared>,
    pub instance: String,
}

impl Site for MetadataSite {
    const SERVICE: Service = Service::Imds;

    fn operation(&self, request: &Request) -> String {
        let path = request.path();
        let short = path.strip_prefix("/latest/meta-data/");
        short.unwrap_or(path).to_string()
    }

    async fn answer(&self, request: &Request) -> Answer {
        let now = self.shared.clock.now();
        self.shared.state.change(|state| {
            let Some(metadata) = state.metadata.get_mut(&self.instance) else {
                return text(404, "Not Found");
            };
            if request.method == "PUT" {
                return match request.path() {
                    "/latest/api/token" => metadata.token(request, now),
                    // A dated path is refused [D].
                    _ => text(403, "Forbidden"),
                };
            }
            let token = request.header("x-aws-ec2-metadata-token");
            if metadata.tokens.get(token).is_none_or(|end| *end <= now) {
                return text(401, "Unauthorized");
            }
            let path = request.path();
            let found = match path.strip_prefix("/latest/meta-data/") {
                Some(path) => metadata.value(path),
                None if path == "/latest/dynamic/instance-identity/document" => {
                    Some(metadata.identity())
                }
                None => None,
            };
            let Some(found) = found else {
                return text(404, "Not Found");
            };
            let notice = path.ends_with("/target-lifecycle-state")
                && matches!(found.as_str(), "Terminated" | "Warmed:Terminated");
            if (notice || path.ends_with("/instance-action")) && !metadata.noticed {
                metadata.noticed = true;
                let instance = self.instance.clone();
                state.note(Happening::NoticeRead { instance });
            }
            text(200, &found)
        })
    }

    fn refuse(&self, refused: &Refused) -> Answer {
        text(refused.status, &refused.message)
    }
}

fn text(status: u16, body: &str) -> Answer {
    Answer::new(status, "text/plain", body.to_string())
}
