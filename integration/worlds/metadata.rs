//! IMDS through the SDK's own client and by hand.

use std::time::Duration;

use aws_config::imds::Client;
use aws_config::provider_config::ProviderConfig;

use super::aws_clients::{http_client, url_of};
use crate::support::ec2::Ec2World;
use crate::support::ec2::http::Service;
use crate::support::ec2::state::Happening;

const STATE: &str = "/latest/meta-data/autoscaling/target-lifecycle-state";
const SOON: Duration = Duration::from_secs(10);

fn client(world: &Ec2World) -> Client {
    let config = ProviderConfig::without_region().with_http_client(http_client());
    Client::builder()
        .configure(&config)
        .endpoint(url_of(world, "AWS_EC2_METADATA_SERVICE_ENDPOINT"))
        .expect("a URL")
        .max_attempts(1)
        .build()
}

async fn read(client: &Client, path: &str) -> String {
    let value = client.get(path).await;
    value.map_or_else(|error| format!("{error:?}"), String::from)
}

#[tokio::test]
async fn the_sdks_client_reads_the_state_before_and_after_the_decision() {
    let world = Ec2World::start().await.expect("a world");
    let client = client(&world);
    assert_eq!(read(&client, STATE).await, "InService");
    assert_eq!(
        read(&client, "/latest/meta-data/instance-id").await,
        world.instance()
    );
    world.terminate(world.instance());
    assert_eq!(read(&client, STATE).await, "Terminated");
    let noticed = |what: &Happening| matches!(what, Happening::NoticeRead { .. });
    world
        .wait_moment("the notice", SOON, noticed)
        .await
        .expect("on the timeline");
}

/// The SDK's client repeats the request with the token that it keeps: a consumer must make a new client after a 401.
#[tokio::test]
async fn a_forgotten_token_is_a_401_until_a_new_one_is_asked_for() {
    let world = Ec2World::start().await.expect("a world");
    let old = client(&world);
    assert_eq!(read(&old, STATE).await, "InService");
    world.metadata(world.instance(), |metadata| metadata.forget_tokens());
    let answer = read(&old, STATE).await;
    assert!(answer.contains("401"), "{answer}");
    assert_eq!(read(&client(&world), STATE).await, "InService");
}

#[tokio::test]
async fn an_absent_path_is_a_404_and_no_refusal() {
    let world = Ec2World::start().await.expect("a world");
    let answer = read(&client(&world), "/latest/meta-data/spot/instance-action").await;
    assert!(answer.contains("404"), "{answer}");
    world.metadata(world.instance(), |metadata| {
        let time = "2026-03-01T09:17:42Z".parse().expect("a time");
        metadata.spot_action = Some(("terminate".to_string(), time));
    });
    let answer = read(&client(&world), "/latest/meta-data/spot/instance-action").await;
    assert_eq!(
        answer,
        r#"{"action":"terminate","time":"2026-03-01T09:17:42Z"}"#
    );
}

#[tokio::test]
async fn a_token_needs_a_lifetime_within_bounds_and_no_proxy() {
    let world = Ec2World::start().await.expect("a world");
    let status = async |ttl: &str, forwarded: bool| {
        let url = url_of(&world, "AWS_EC2_METADATA_SERVICE_ENDPOINT");
        let mut request = hyper::Request::put(format!("{url}/latest/api/token"));
        if !ttl.is_empty() {
            request = request.header("x-aws-ec2-metadata-token-ttl-seconds", ttl);
        }
        if forwarded {
            request = request.header("x-forwarded-for", "192.0.2.1");
        }
        let request = request
            .body(http_body_util::Empty::<bytes::Bytes>::new())
            .expect("a request");
        let executor = hyper_util::rt::TokioExecutor::new();
        let plain = hyper_util::client::legacy::Client::builder(executor).build_http();
        plain
            .request(request)
            .await
            .expect("an answer")
            .status()
            .as_u16()
    };
    assert_eq!(status("60", false).await, 200);
    assert_eq!(status("", false).await, 400);
    assert_eq!(status("0", false).await, 400);
    assert_eq!(status("21601", false).await, 400);
    assert_eq!(status("60", true).await, 403);
    world.metadata(world.instance(), |metadata| metadata.off = true);
    assert_eq!(status("60", false).await, 403);
    assert!(world.requests().iter().all(|r| r.service == Service::Imds));
}

#[tokio::test]
async fn role_credentials_come_from_the_metadata_and_open_the_store() {
    use aws_credential_types::provider::ProvideCredentials;
    let world = Ec2World::start().await.expect("a world");
    let provider = aws_config::imds::credentials::ImdsCredentialsProvider::builder()
        .imds_client(client(&world))
        .build();
    let credentials = provider.provide_credentials().await.expect("credentials");
    let s3 = super::aws_clients::s3(&world, credentials);
    let put = s3
        .put_object()
        .bucket("logs")
        .key("a")
        .body(b"x".to_vec().into());
    put.send().await.expect("stored");
    assert_eq!(world.objects().expect("readable")[0].body, b"x");
}
