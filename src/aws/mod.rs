//! The one constructor of SDK clients, and instance metadata.
//!
//! The SDK's default features are off, so the HTTP client is ours to supply: to the SDK configuration *and* to the metadata
//! client, which otherwise never answers. Every call has a deadline, and nothing is retried in here: the stage that calls
//! knows how long it may try. Knows nothing of drains, chunks or queues.

pub mod imds;

use std::time::Duration;

use anyhow::{Context, Result, anyhow};
use aws_config::retry::RetryConfig;
use aws_config::timeout::TimeoutConfig;
use aws_config::{BehaviorVersion, Region, SdkConfig};
use aws_credential_types::Credentials;
use aws_credential_types::provider::SharedCredentialsProvider;
use aws_smithy_http_client::tls::{Provider, rustls_provider::CryptoMode};
use aws_smithy_runtime_api::client::http::SharedHttpClient;
use tokio::sync::OnceCell;

pub use imds::Imds;

/// How long a TCP and TLS connection may take.
const CONNECT: Duration = Duration::from_secs(2);
/// How long one Auto Scaling call may take (lifecycle.md §5.2).
const CALL: Duration = Duration::from_secs(5);
/// The longest long poll of SQS (20 s) and five seconds: without it a receive can hang for ever.
const LONG_POLL: Duration = Duration::from_secs(25);
/// How long one S3 request may take: the largest, 64 MiB, at a megabyte a second.
const UPLOAD: Duration = Duration::from_secs(64);

/// What differs from the defaults of the environment. Empty in production: region and credentials then come from the
/// environment and from instance metadata, endpoints from `AWS_ENDPOINT_URL*` and `AWS_EC2_METADATA_SERVICE_ENDPOINT`.
#[derive(Clone, Debug, Default)]
pub struct Settings {
    /// The Region; else `AWS_REGION`, `AWS_DEFAULT_REGION`, then instance metadata.
    pub region: Option<String>,
    /// One endpoint for all services.
    pub endpoint_url: Option<String>,
    /// The endpoint of instance metadata.
    pub imds_endpoint: Option<String>,
    /// Access key id and secret access key.
    pub keys: Option<(String, String)>,
}

/// Everything that talks to AWS, made once.
#[derive(Debug)]
pub struct Aws {
    settings: Settings,
    http: SharedHttpClient,
    imds: Imds,
    sdk: OnceCell<SdkConfig>,
}

impl Aws {
    /// Makes the HTTP client and the metadata client. Touches nothing outside: credentials and Region are asked for at the
    /// first call.
    pub fn new(settings: Settings) -> Result<Aws> {
        let http = aws_smithy_http_client::Builder::new()
            .tls_provider(Provider::Rustls(CryptoMode::AwsLc))
            .build_https();
        let imds = Imds::new(http.clone(), settings.imds_endpoint.as_deref())?;
        Ok(Aws {
            settings,
            http,
            imds,
            sdk: OnceCell::new(),
        })
    }

    /// Instance metadata.
    pub fn imds(&self) -> &Imds {
        &self.imds
    }

    /// The Region in force.
    pub async fn region(&self) -> Result<String> {
        let env = |name| std::env::var(name).ok().filter(|text| !text.is_empty());
        let known = self
            .settings
            .region
            .clone()
            .or_else(|| env("AWS_REGION"))
            .or_else(|| env("AWS_DEFAULT_REGION"));
        match known {
            Some(region) => Ok(region),
            None => self
                .imds
                .get("placement/region")
                .await
                .context("cannot read the Region from instance metadata")?
                .ok_or_else(|| {
                    anyhow!("no Region: set AWS_REGION, or allow access to instance metadata")
                }),
        }
    }

    /// The Auto Scaling client: five seconds a call.
    pub async fn autoscaling(&self) -> Result<aws_sdk_autoscaling::Client> {
        let config = aws_sdk_autoscaling::config::Builder::from(self.sdk().await?)
            .timeout_config(timeouts(CALL))
            .build();
        Ok(aws_sdk_autoscaling::Client::from_conf(config))
    }

    /// The SQS client: a long poll and five seconds a call.
    pub async fn sqs(&self) -> Result<aws_sdk_sqs::Client> {
        let config = aws_sdk_sqs::config::Builder::from(self.sdk().await?)
            .timeout_config(timeouts(LONG_POLL))
            .build();
        Ok(aws_sdk_sqs::Client::from_conf(config))
    }

    /// The S3 client. `force_path_style` and `when_required` (checksums only where S3 demands them) are for stores that are
    /// compatible with S3 to a degree.
    pub async fn s3(
        &self,
        force_path_style: bool,
        checksums: Checksums,
    ) -> Result<aws_sdk_s3::Client> {
        use aws_sdk_s3::config::{RequestChecksumCalculation, ResponseChecksumValidation};
        let builder = aws_sdk_s3::config::Builder::from(self.sdk().await?)
            .timeout_config(timeouts(UPLOAD))
            .force_path_style(force_path_style);
        let builder = match checksums {
            Checksums::Always => builder,
            Checksums::WhenRequired => builder
                .request_checksum_calculation(RequestChecksumCalculation::WhenRequired)
                .response_checksum_validation(ResponseChecksumValidation::WhenRequired),
        };
        Ok(aws_sdk_s3::Client::from_conf(builder.build()))
    }

    async fn sdk(&self) -> Result<&SdkConfig> {
        self.sdk.get_or_try_init(|| self.load()).await
    }

    async fn load(&self) -> Result<SdkConfig> {
        let mut loader = aws_config::defaults(BehaviorVersion::v2026_01_12())
            .http_client(self.http.clone())
            .region(Region::new(self.region().await?))
            .retry_config(RetryConfig::disabled())
            .timeout_config(timeouts(CALL));
        if let Some(url) = &self.settings.endpoint_url {
            loader = loader.endpoint_url(url);
        }
        if let Some((id, secret)) = &self.settings.keys {
            let keys = Credentials::new(id, secret, None, None, "configuration");
            loader = loader.credentials_provider(SharedCredentialsProvider::new(keys));
        }
        Ok(loader.load().await)
    }
}

/// When requests to S3 carry a checksum.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Checksums {
    /// On every upload, as S3 itself recommends.
    #[default]
    Always,
    /// Only where the operation demands one.
    WhenRequired,
}

fn timeouts(call: Duration) -> TimeoutConfig {
    TimeoutConfig::builder()
        .connect_timeout(CONNECT)
        .read_timeout(call)
        .operation_attempt_timeout(call)
        .operation_timeout(call)
        .build()
}
