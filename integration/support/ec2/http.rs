//! The HTTP half of every site of the world: accepts, records each request as it came, asks the site for an answer.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Result;
use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::http::{HeaderMap, HeaderName, HeaderValue, Method};
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::hooks::Refused;
use super::state::Shared;

/// Which part of the world a request was for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Service {
    /// Instance metadata.
    Imds,
    /// SQS.
    Sqs,
    /// EC2 Auto Scaling.
    AutoScaling,
    /// S3.
    S3,
    /// The Zabbix front end.
    Zabbix,
}

impl Service {
    /// Its name in botocore's models, or our own for what is not AWS.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Imds => "imds",
            Self::Sqs => "sqs",
            Self::AutoScaling => "autoscaling",
            Self::S3 => "s3",
            Self::Zabbix => "zabbix",
        }
    }
}

/// A request, read to its end.
#[derive(Clone, Debug)]
pub struct Request {
    /// The method.
    pub method: Method,
    /// Path and query exactly as sent: signatures cover them.
    pub target: String,
    /// All headers.
    pub headers: HeaderMap,
    /// The whole body.
    pub body: Bytes,
}

impl Request {
    /// The target without its query.
    pub fn path(&self) -> &str {
        self.target.split('?').next().unwrap_or_default()
    }

    /// A header's text; empty when absent.
    pub fn header(&self, name: &str) -> &str {
        let value = self.headers.get(name).and_then(|v| v.to_str().ok());
        value.unwrap_or_default()
    }
}

/// A request in the record, for the conformance layer.
#[derive(Clone, Debug)]
pub struct Recorded {
    /// For whom.
    pub service: Service,
    /// When it was complete.
    pub at: Instant,
    /// As it came.
    pub request: Request,
    /// The status of the answer; `None` while it is under way, and for a connection closed without one.
    pub status: Option<u16>,
}

/// What a site answers.
#[derive(Clone, Debug)]
pub struct Answer {
    /// The status.
    pub status: u16,
    /// The headers; hyper adds the length.
    pub headers: HeaderMap,
    /// The body.
    pub body: Bytes,
}

impl Answer {
    /// A body of a type.
    pub fn new(status: u16, content_type: &'static str, body: impl Into<Bytes>) -> Self {
        let mut headers = HeaderMap::new();
        headers.insert("content-type", HeaderValue::from_static(content_type));
        Self {
            status,
            headers,
            body: body.into(),
        }
    }

    /// The same with one more header.
    pub fn with(mut self, name: &'static str, value: &str) -> Self {
        let value = HeaderValue::from_str(value).expect("the world sends proper headers");
        self.headers.insert(HeaderName::from_static(name), value);
        self
    }
}

/// A fault to inject into a service's answers.
#[derive(Clone, Debug)]
pub enum Fault {
    /// An error in the service's own form.
    Refuse(Refused),
    /// The connection closes without an answer.
    HangUp,
    /// The right answer, this much later.
    Slow(Duration),
    /// 502 with a body in no protocol, as a proxy on the way sends.
    BadGateway,
}

impl Fault {
    /// 400 `Throttling`, *Rate exceeded*.
    pub fn throttling() -> Self {
        Self::refuse(400, "Throttling", "Rate exceeded")
    }

    /// 403 `AccessDenied`.
    pub fn access_denied() -> Self {
        Self::refuse(
            403,
            "AccessDenied",
            "User: arn:aws:sts::123456789012:assumed-role/affluent-role/i-0 is not authorized to perform this action",
        )
    }

    /// 500 `InternalFailure`.
    pub fn internal() -> Self {
        Self::refuse(500, "InternalFailure", "We encountered an internal error")
    }

    /// 503 `SlowDown`, S3's throttle.
    pub fn slow_down() -> Self {
        Self::refuse(503, "SlowDown", "Please reduce your request rate")
    }

    /// An error of the caller's choice.
    pub fn refuse(status: u16, code: &str, message: &str) -> Self {
        Self::Refuse(Refused {
            status,
            code: code.to_string(),
            message: message.to_string(),
        })
    }
}

/// One part of the world as an HTTP server.
pub trait Site: Send + Sync + 'static {
    /// Which part.
    const SERVICE: Service;

    /// The operation's name, by which faults are chosen; empty when the request has none.
    fn operation(&self, request: &Request) -> String;

    /// The answer.
    fn answer(&self, request: &Request) -> impl Future<Output = Answer> + Send;

    /// An error in this service's own form.
    fn refuse(&self, refused: &Refused) -> Answer;
}

/// Serves `site` on a port of its own until `stop`.
///
/// # Errors
/// When no port can be had.
pub async fn serve<S: Site>(
    site: S,
    shared: Arc<Shared>,
    stop: CancellationToken,
) -> Result<SocketAddr> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
    let addr = listener.local_addr()?;
    let site = Arc::new(site);
    tokio::spawn(async move {
        let mut connections = JoinSet::new();
        let accept = async {
            loop {
                let Ok((stream, _)) = listener.accept().await else {
                    continue;
                };
                let (site, shared) = (site.clone(), shared.clone());
                connections.spawn(async move {
                    let service = service_fn(|request| converse(&*site, &shared, request));
                    let http = hyper::server::conn::http1::Builder::new();
                    // A client that goes away in the middle is its own business.
                    let _ = http.serve_connection(TokioIo::new(stream), service).await;
                });
                while connections.try_join_next().is_some() {}
            }
        };
        stop.run_until_cancelled(accept).await;
    });
    Ok(addr)
}

#[derive(Debug)]
struct HangUp;

impl std::fmt::Display for HangUp {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("the world hangs up")
    }
}

impl std::error::Error for HangUp {}

async fn converse<S: Site>(
    site: &S,
    shared: &Shared,
    request: hyper::Request<Incoming>,
) -> Result<hyper::Response<Full<Bytes>>, HangUp> {
    let (head, body) = request.into_parts();
    let body = body.collect().await.map_err(|_| HangUp)?.to_bytes();
    let request = Request {
        method: head.method,
        target: head.uri.to_string(),
        headers: head.headers,
        body,
    };
    let operation = site.operation(&request);
    let (record, fault) = shared.state.change(|state| {
        state.requests.push(Recorded {
            service: S::SERVICE,
            at: Instant::now(),
            request: request.clone(),
            status: None,
        });
        let fault = state.take_fault(S::SERVICE, &operation);
        (state.requests.len() - 1, fault)
    });
    let answer = match fault {
        None => site.answer(&request).await,
        Some(Fault::Refuse(refused)) => site.refuse(&refused),
        Some(Fault::HangUp) => return Err(HangUp),
        Some(Fault::BadGateway) => Answer::new(502, "text/html", "<html>502 Bad Gateway</html>"),
        Some(Fault::Slow(pause)) => {
            tokio::time::sleep(pause).await;
            site.answer(&request).await
        }
    };
    shared.state.change(|state| {
        state.requests[record].status = Some(answer.status);
        state.note_refusal(S::SERVICE, &operation, &request, answer.status);
    });
    let mut response = hyper::Response::new(Full::new(answer.body));
    *response.status_mut() = answer.status.try_into().map_err(|_| HangUp)?;
    *response.headers_mut() = answer.headers;
    Ok(response)
}
