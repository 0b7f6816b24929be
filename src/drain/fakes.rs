//! An AWS that answers on one loopback port, for the tests of this room. The deep EC2 world is in `integration/support`.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper::{Method, Request, Response};
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tokio::net::TcpListener;

use crate::aws::{Aws, Settings};

pub const ID: &str = "i-0aa11bb22cc33dd44";
pub const TOKEN: &str = "5b6c7d8e-1f20-4a3b-9c4d-5e6f70819203";

/// What the fake AWS is and has seen.
#[derive(Debug, Default)]
pub struct World {
    /// `target-lifecycle-state`; `None` is 404.
    pub target: Option<String>,
    /// `spot/instance-action`.
    pub spot: Option<String>,
    /// The only metadata token that counts.
    pub imds_token: u32,
    /// Whether a lifecycle action is active.
    pub active: bool,
    /// The state that the group reports; `None`: not in the list.
    pub state: Option<String>,
    /// Messages: id, body, visible.
    pub messages: Vec<(String, String, bool)>,
    /// The bucket's Region; other signatures are sent there.
    pub bucket_region: Option<&'static str>,
    /// S3 answers 403.
    pub s3_refuses: bool,
    /// Objects by `/bucket/key`.
    pub objects: BTreeMap<String, Bytes>,
    /// Parts by upload and number.
    pub parts: BTreeMap<(String, u32), Bytes>,
    /// What Zabbix says it is.
    pub zabbix: &'static str,
    /// What happened, in order.
    pub log: Vec<String>,
}

/// The server. Ends with the test's runtime.
pub struct FakeAws {
    pub address: SocketAddr,
    world: Arc<Mutex<World>>,
}

impl FakeAws {
    pub async fn start(world: World) -> FakeAws {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address");
        let world = Arc::new(Mutex::new(world));
        let shared = world.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let world = shared.clone();
                let service = service_fn(move |request| answer(world.clone(), request));
                tokio::spawn(
                    hyper::server::conn::http1::Builder::new()
                        .serve_connection(TokioIo::new(stream), service),
                );
            }
        });
        FakeAws { address, world }
    }

    pub fn world(&self) -> MutexGuard<'_, World> {
        lock(&self.world)
    }

    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    pub fn client(&self) -> Aws {
        Aws::new(Settings {
            region: Some("ap-northeast-1".to_owned()),
            endpoint_url: Some(self.url()),
            imds_endpoint: Some(self.url()),
            keys: Some(("AKID".to_owned(), "secret".to_owned())),
        })
        .expect("a client")
    }

    /// Where in the log something that begins with `what` first happened.
    pub fn when(&self, what: &str) -> Option<usize> {
        self.world()
            .log
            .iter()
            .position(|line| line.starts_with(what))
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

async fn answer(
    world: Arc<Mutex<World>>,
    request: Request<Incoming>,
) -> Result<Response<Full<Bytes>>, Infallible> {
    let (head, body) = request.into_parts();
    let body = body
        .collect()
        .await
        .map(|body| body.to_bytes())
        .unwrap_or_default();
    let (path, query) = (
        head.uri.path().to_owned(),
        head.uri.query().unwrap_or_default().to_owned(),
    );
    let header = |name: &str| {
        head.headers
            .get(name)
            .and_then(|value| value.to_str().ok())
            .unwrap_or_default()
            .to_owned()
    };
    let mut world = lock(&world);
    let elsewhere = world
        .bucket_region
        .filter(|region| !header("authorization").contains(&format!("/{region}/s3/")));
    let (status, kind, text) = if path.starts_with("/latest/") {
        imds(
            &mut world,
            &head.method,
            &path,
            &header("x-aws-ec2-metadata-token"),
        )
    } else if path == "/api_jsonrpc.php" {
        zabbix(&mut world, &body, &header("authorization"))
    } else if let Some(operation) = header("x-amz-target").strip_prefix("AmazonSQS.") {
        sqs(&mut world, operation, &body)
    } else if path == "/" {
        autoscaling(&mut world, &body)
    } else if elsewhere.is_some() {
        let text = "<Error><Code>PermanentRedirect</Code><Message>go there</Message></Error>";
        (301, "application/xml", text.into())
    } else {
        s3(
            &mut world,
            &head.method,
            &path,
            &query,
            &header("if-none-match"),
            body,
        )
    };
    let mut response = Response::builder()
        .status(status)
        .header("content-type", kind);
    if path == "/latest/api/token" {
        response = response.header("x-aws-ec2-metadata-token-ttl-seconds", "21600");
    }
    if head.method == Method::PUT && !path.starts_with("/latest/") {
        response = response.header("etag", "\"e\"");
    }
    if let Some(region) = elsewhere {
        response = response.header("x-amz-bucket-region", region);
    }
    Ok(response.body(Full::from(text)).expect("a response"))
}

type Answer = (u16, &'static str, Bytes);

fn imds(world: &mut World, method: &Method, path: &str, token: &str) -> Answer {
    let text = |body: String| (200, "text/plain", Bytes::from(body));
    if method == Method::PUT {
        world.log.push("imds token".to_owned());
        return text(format!("token-{}", world.imds_token));
    }
    if token != format!("token-{}", world.imds_token) {
        return (401, "text/plain", Bytes::new());
    }
    let found = match path.trim_start_matches("/latest/meta-data/") {
        "instance-id" => Some(ID.to_owned()),
        "placement/region" => Some("ap-northeast-1".to_owned()),
        "autoscaling/target-lifecycle-state" => world.target.clone(),
        "instance-life-cycle" => Some(
            if world.spot.is_some() {
                "spot"
            } else {
                "on-demand"
            }
            .to_owned(),
        ),
        "spot/instance-action" => world.spot.clone(),
        _ => None,
    };
    found.map_or((404, "text/plain", Bytes::new()), text)
}

fn sqs(world: &mut World, operation: &str, body: &[u8]) -> Answer {
    let body: Value = serde_json::from_slice(body).expect("JSON");
    let handle = |value: &Value| {
        value["ReceiptHandle"]
            .as_str()
            .expect("a handle")
            .trim_start_matches("handle-")
            .to_owned()
    };
    let answer = match operation {
        "ReceiveMessage" => {
            let mut received = Vec::new();
            for (id, body, visible) in world
                .messages
                .iter_mut()
                .filter(|message| message.2)
                .take(10)
            {
                *visible = false;
                received.push(
                    json!({"MessageId": id, "ReceiptHandle": format!("handle-{id}"), "Body": body}),
                );
            }
            if received.is_empty() {
                json!({})
            } else {
                json!({"Messages": received})
            }
        }
        "DeleteMessage" => {
            let id = handle(&body);
            world.log.push(format!("delete {id}"));
            world.messages.retain(|message| message.0 != id);
            json!({})
        }
        "ChangeMessageVisibilityBatch" => {
            for entry in body["Entries"].as_array().expect("entries") {
                let id = handle(entry);
                world.log.push(format!("give back {id}"));
                world
                    .messages
                    .iter_mut()
                    .filter(|message| message.0 == id)
                    .for_each(|message| message.2 = true);
            }
            json!({"Successful": [], "Failed": []})
        }
        _ => json!({}),
    };
    (200, "application/x-amz-json-1.0", answer.to_string().into())
}

fn autoscaling(world: &mut World, body: &[u8]) -> Answer {
    let fields: BTreeMap<String, String> = form_urlencoded::parse(body).into_owned().collect();
    let action = fields["Action"].clone();
    let inner = match action.as_str() {
        "DescribeAutoScalingInstances" => {
            let member = world.state.as_ref().map(|state| {
                format!("<member><InstanceId>{ID}</InstanceId><AutoScalingGroupName>web</AutoScalingGroupName><LifecycleState>{state}</LifecycleState></member>")
            });
            format!("<AutoScalingInstances>{}</AutoScalingInstances>", member.unwrap_or_default())
        }
        "DescribeLifecycleHooks" => "<LifecycleHooks><member><LifecycleHookName>drain</LifecycleHookName><LifecycleTransition>autoscaling:EC2_INSTANCE_TERMINATING</LifecycleTransition><HeartbeatTimeout>60</HeartbeatTimeout><GlobalTimeout>6000</GlobalTimeout></member></LifecycleHooks>".to_owned(),
        _ => {
            let result = fields.get("LifecycleActionResult").map_or("", String::as_str);
            let (id, hook) = (&fields["InstanceId"], &fields["LifecycleHookName"]);
            if !world.active || fields.get("LifecycleActionToken").is_some_and(|token| token != TOKEN) {
                world.log.push(format!("refused {action}"));
                let text = format!("<ErrorResponse><Error><Type>Sender</Type><Code>ValidationError</Code><Message>No active Lifecycle Action found with instance ID {id}</Message></Error><RequestId>r</RequestId></ErrorResponse>");
                return (400, "text/xml", text.into());
            }
            world.log.push(format!("{action} {hook} {id} {result}"));
            world.active &= action != "CompleteLifecycleAction";
            String::new()
        }
    };
    let text = format!(
        "<{action}Response xmlns=\"http://autoscaling.amazonaws.com/doc/2011-01-01/\"><{action}Result>{inner}</{action}Result><ResponseMetadata><RequestId>r</RequestId></ResponseMetadata></{action}Response>"
    );
    (200, "text/xml", text.into())
}

fn s3(
    world: &mut World,
    method: &Method,
    path: &str,
    query: &str,
    if_none_match: &str,
    body: Bytes,
) -> Answer {
    let error = |code: &str| {
        Bytes::from(format!(
            "<Error><Code>{code}</Code><Message>said the fake</Message></Error>"
        ))
    };
    if world.s3_refuses {
        return (403, "application/xml", error("AccessDenied"));
    }
    let query: BTreeMap<String, String> = form_urlencoded::parse(query.as_bytes())
        .into_owned()
        .collect();
    let key = percent_decode(path);
    match (method, query.get("uploadId"), query.get("partNumber")) {
        (&Method::POST, None, _) => {
            let text = "<InitiateMultipartUploadResult><UploadId>u1</UploadId></InitiateMultipartUploadResult>";
            (200, "application/xml", text.into())
        }
        (&Method::PUT, Some(upload), Some(part)) => {
            world
                .parts
                .insert((upload.clone(), part.parse().expect("a number")), body);
            (200, "application/xml", Bytes::new())
        }
        (&Method::POST, Some(_), _) => {
            let whole: Vec<u8> = std::mem::take(&mut world.parts)
                .into_values()
                .flatten()
                .collect();
            world.log.push(format!("put {key} in parts"));
            world.objects.insert(key, whole.into());
            let text =
                "<CompleteMultipartUploadResult><ETag>\"e\"</ETag></CompleteMultipartUploadResult>";
            (200, "application/xml", text.into())
        }
        (&Method::PUT, None, _) if if_none_match == "*" && world.objects.contains_key(&key) => {
            (412, "application/xml", error("PreconditionFailed"))
        }
        (&Method::PUT, None, _) => {
            world.log.push(format!("put {key}"));
            world.objects.insert(key, body);
            (200, "application/xml", Bytes::new())
        }
        _ => (404, "application/xml", error("NoSuchKey")),
    }
}

fn percent_decode(path: &str) -> String {
    let pairs = format!("k={}", path.replace('+', "%2B"));
    form_urlencoded::parse(pairs.as_bytes())
        .next()
        .expect("a pair")
        .1
        .into_owned()
}

fn zabbix(world: &mut World, body: &[u8], authorization: &str) -> Answer {
    let body: Value = serde_json::from_slice(body).expect("JSON");
    let method = body["method"].as_str().expect("a method").to_owned();
    let how = match (authorization.is_empty(), body.get("auth")) {
        (false, _) => "header",
        (true, Some(_)) => "body",
        (true, None) => "none",
    };
    world.log.push(format!("zabbix {method} {how}"));
    let result = match method.as_str() {
        "apiinfo.version" => json!(world.zabbix),
        "user.login" => json!("session"),
        "host.get" => json!([{"hostid": "10105", "host": "web-1"}]),
        "host.delete" => json!({"hostids": body["params"].clone()}),
        _ => json!(true),
    };
    (
        200,
        "application/json",
        json!({"jsonrpc": "2.0", "result": result, "id": 1})
            .to_string()
            .into(),
    )
}

/// The message of a hook about `id`.
pub fn letter(id: &str) -> String {
    json!({"Service":"AWS Auto Scaling","Time":jiff::Timestamp::now().to_string(),"AutoScalingGroupName":"web",
        "LifecycleHookName":"drain","LifecycleTransition":"autoscaling:EC2_INSTANCE_TERMINATING","EC2InstanceId":id,
        "LifecycleActionToken":TOKEN})
    .to_string()
}
