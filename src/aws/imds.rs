//! Instance metadata (IMDSv2): one reader with one keep-alive connection.
//!
//! Owns the session token (a new one after a 401) and the rule about failures: silent for thirty seconds, then one warning,
//! never fatal (lifecycle.md §2.4).

use std::fmt;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow};
use aws_config::imds::Client;
use aws_config::imds::client::error::ImdsError;
use aws_config::provider_config::ProviderConfig;
use aws_smithy_runtime_api::client::http::SharedHttpClient;

/// Time to a connection, and to an answer on it.
const CONNECT: Duration = Duration::from_secs(1);
const ANSWER: Duration = Duration::from_secs(2);
/// How long failures stay silent: a refused connection or two is normal while an instance starts.
const SILENT: Duration = Duration::from_secs(30);

/// The reader.
pub struct Imds {
    http: SharedHttpClient,
    endpoint: Option<String>,
    disabled: bool,
    client: Mutex<Client>,
    failures: Mutex<Failures>,
}

impl Imds {
    /// A reader over `http`, at `endpoint` or where `AWS_EC2_METADATA_SERVICE_ENDPOINT` says. With
    /// `AWS_EC2_METADATA_DISABLED=true` every path is absent.
    pub(super) fn new(http: SharedHttpClient, endpoint: Option<&str>) -> Result<Imds> {
        let disabled = std::env::var("AWS_EC2_METADATA_DISABLED")
            .is_ok_and(|text| text.eq_ignore_ascii_case("true"));
        Ok(Imds {
            client: Mutex::new(connect(&http, endpoint)?),
            http,
            endpoint: endpoint.map(str::to_owned),
            disabled: disabled && endpoint.is_none(),
            failures: Mutex::default(),
        })
    }

    /// The text at `/latest/meta-data/<path>`; `None` where there is nothing (404).
    pub async fn get(&self, path: &str) -> Result<Option<String>> {
        if self.disabled {
            return Ok(None);
        }
        let answer = match self.ask(path).await {
            // The SDK keeps a token until it expires by its own clock; a 401 means that the service thinks otherwise.
            Err(error) if status(&error) == Some(401) => {
                let fresh = connect(&self.http, self.endpoint.as_deref())?;
                *lock(&self.client) = fresh;
                self.ask(path).await
            }
            answer => answer,
        };
        match answer {
            Ok(text) => {
                self.answered();
                Ok(Some(text))
            }
            Err(error) if status(&error) == Some(404) => {
                self.answered();
                Ok(None)
            }
            Err(error) => {
                if lock(&self.failures).failed(Instant::now()) {
                    tracing::warn!(
                        path, error = %chain(&error),
                        "instance metadata does not answer: a termination may go unnoticed. In a container, set the hop limit to 2"
                    );
                }
                Err(anyhow!(chain(&error)))
                    .with_context(|| format!("cannot read instance metadata {path}"))
            }
        }
    }

    async fn ask(&self, path: &str) -> Result<String, ImdsError> {
        let client = lock(&self.client).clone();
        let text = client.get(format!("/latest/meta-data/{path}")).await?;
        Ok(String::from(text).trim().to_owned())
    }

    fn answered(&self) {
        if lock(&self.failures).answered() {
            tracing::info!("instance metadata answers again");
        }
    }
}

impl fmt::Debug for Imds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Imds")
            .field("endpoint", &self.endpoint)
            .finish_non_exhaustive()
    }
}

/// Which failures are worth a line.
#[derive(Debug, Default)]
struct Failures {
    since: Option<Instant>,
    warned: bool,
}

impl Failures {
    /// Whether to warn now: once, after [`SILENT`] without an answer.
    fn failed(&mut self, now: Instant) -> bool {
        let since = *self.since.get_or_insert(now);
        let warn = !self.warned && now.duration_since(since) >= SILENT;
        self.warned |= warn;
        warn
    }

    /// Whether this answer ends an outage that the operator was told about.
    fn answered(&mut self) -> bool {
        self.since = None;
        std::mem::take(&mut self.warned)
    }
}

fn connect(http: &SharedHttpClient, endpoint: Option<&str>) -> Result<Client> {
    let config = ProviderConfig::without_region().with_http_client(http.clone());
    let mut builder = Client::builder()
        .configure(&config)
        .max_attempts(1)
        .connect_timeout(CONNECT)
        .read_timeout(ANSWER)
        .operation_attempt_timeout(ANSWER)
        .operation_timeout(2 * ANSWER);
    if let Some(url) = endpoint {
        builder = builder
            .endpoint(url)
            .map_err(|error| anyhow!("bad metadata endpoint {url}: {error}"))?;
    }
    Ok(builder.build())
}

fn status(error: &ImdsError) -> Option<u16> {
    match error {
        ImdsError::ErrorResponse(context) => Some(context.response().status().as_u16()),
        _ => None,
    }
}

fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        text = format!("{text}: {cause}");
        next = cause.source();
    }
    text
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failures_are_silent_for_thirty_seconds_and_then_told_once() {
        let mut failures = Failures::default();
        let start = Instant::now();
        assert!(!failures.failed(start));
        assert!(!failures.failed(start + SILENT - Duration::from_millis(1)));
        assert!(failures.failed(start + SILENT));
        assert!(!failures.failed(start + 2 * SILENT));
        assert!(failures.answered());
        assert!(!failures.answered());
        assert!(!failures.failed(start + 3 * SILENT));
    }
}
