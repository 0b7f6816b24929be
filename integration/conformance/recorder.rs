//! A server that records what the SDK sends and answers with the least that counts as success.

use std::convert::Infallible;
use std::sync::{Arc, Mutex};

use http_body_util::{BodyExt, Full};
use hyper::body::{Bytes, Incoming};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

use super::judge::RecordedRequest;

/// Listens on a free port until dropped.
pub struct Recorder {
    /// `http://127.0.0.1:port`.
    pub endpoint: String,
    requests: Arc<Mutex<Vec<RecordedRequest>>>,
    accept: JoinHandle<()>,
}

impl Recorder {
    /// Starts to listen.
    pub async fn start() -> Recorder {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let endpoint = format!("http://{}", listener.local_addr().expect("a bound address"));
        let requests = Arc::<Mutex<Vec<RecordedRequest>>>::default();
        let accept = tokio::spawn(accept(listener, requests.clone()));
        Recorder {
            endpoint,
            requests,
            accept,
        }
    }

    /// Everything recorded so far.
    pub fn requests(&self) -> Vec<RecordedRequest> {
        self.requests
            .lock()
            .expect("nobody panics with the lock")
            .clone()
    }
}

impl Drop for Recorder {
    fn drop(&mut self) {
        self.accept.abort();
    }
}

async fn accept(listener: TcpListener, requests: Arc<Mutex<Vec<RecordedRequest>>>) {
    while let Ok((stream, _)) = listener.accept().await {
        let requests = requests.clone();
        let service = service_fn(move |request| answer(request, requests.clone()));
        tokio::spawn(http1::Builder::new().serve_connection(TokioIo::new(stream), service));
    }
}

async fn answer(
    request: Request<Incoming>,
    requests: Arc<Mutex<Vec<RecordedRequest>>>,
) -> Result<Response<Full<Bytes>>, Infallible> {
    let (head, body) = request.into_parts();
    let body = body
        .collect()
        .await
        .map(|body| body.to_bytes())
        .unwrap_or_default();
    let text =
        |value: &hyper::header::HeaderValue| String::from_utf8_lossy(value.as_bytes()).into_owned();
    let recorded = RecordedRequest {
        method: head.method.to_string(),
        path_and_query: head.uri.to_string(),
        headers: head
            .headers
            .iter()
            .map(|(name, value)| (name.to_string(), text(value)))
            .collect(),
        body: body.to_vec(),
    };
    let answer = success(&recorded);
    requests
        .lock()
        .expect("nobody panics with the lock")
        .push(recorded);
    Ok(Response::builder()
        .header("etag", "\"e\"")
        .body(Full::from(answer))
        .expect("a well-formed answer"))
}

/// The least body that the SDK takes for success.
fn success(request: &RecordedRequest) -> String {
    let form = String::from_utf8_lossy(&request.body);
    if let Some(action) = form
        .split('&')
        .find_map(|pair| pair.strip_prefix("Action="))
    {
        return format!("<{action}Response><{action}Result/></{action}Response>");
    }
    match request.path_and_query.contains("uploads") {
        true => {
            "<InitiateMultipartUploadResult><UploadId>u</UploadId></InitiateMultipartUploadResult>"
                .to_owned()
        }
        false if request.path_and_query == "/" => "{}".to_owned(),
        false if request.method == "POST" => {
            "<CompleteMultipartUploadResult><ETag>e</ETag></CompleteMultipartUploadResult>"
                .to_owned()
        }
        false => String::new(),
    }
}
