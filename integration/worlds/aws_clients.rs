//! The queue, Auto Scaling and S3 through AWS's SDK, which is their real consumer.

use std::time::Duration;

use aws_credential_types::Credentials;
use aws_sdk_autoscaling::error::ProvideErrorMetadata as _;
use aws_smithy_http_client::tls::Provider;
use aws_smithy_http_client::tls::rustls_provider::CryptoMode;
use aws_smithy_runtime_api::client::http::SharedHttpClient;
use aws_smithy_types::retry::RetryConfig;

use crate::support::ec2::http::{Fault, Service};
use crate::support::ec2::metadata::{ACCESS_KEY, SECRET_KEY, SESSION_TOKEN};
use crate::support::ec2::state::Happening;
use crate::support::ec2::{Ec2World, Options};

const SOON: Duration = Duration::from_secs(10);

/// The HTTP client that the SDK needs to be given.
pub fn http_client() -> SharedHttpClient {
    let tls = Provider::Rustls(CryptoMode::AwsLc);
    aws_smithy_http_client::Builder::new()
        .tls_provider(tls)
        .build_https()
}

/// One of the world's environment variables.
pub fn url_of(world: &Ec2World, name: &str) -> String {
    let found = world.env().into_iter().find(|(key, _)| key == name);
    found.expect("the world sets it").1
}

fn keys() -> Credentials {
    Credentials::new(
        ACCESS_KEY,
        SECRET_KEY,
        Some(SESSION_TOKEN.to_string()),
        None,
        "test",
    )
}

/// An S3 client with these credentials.
pub fn s3(world: &Ec2World, credentials: Credentials) -> aws_sdk_s3::Client {
    let config = aws_sdk_s3::Config::builder()
        .behavior_version(aws_sdk_s3::config::BehaviorVersion::v2026_01_12())
        .http_client(http_client())
        .region(aws_sdk_s3::config::Region::new("ap-northeast-1"))
        .endpoint_url(url_of(world, "AWS_ENDPOINT_URL_S3"))
        .credentials_provider(credentials)
        .retry_config(RetryConfig::disabled())
        .build();
    aws_sdk_s3::Client::from_conf(config)
}

fn sqs(world: &Ec2World) -> aws_sdk_sqs::Client {
    let config = aws_sdk_sqs::Config::builder()
        .behavior_version(aws_sdk_sqs::config::BehaviorVersion::v2026_01_12())
        .http_client(http_client())
        .region(aws_sdk_sqs::config::Region::new("ap-northeast-1"))
        .endpoint_url(url_of(world, "AWS_ENDPOINT_URL_SQS"))
        .credentials_provider(keys())
        .retry_config(RetryConfig::disabled())
        .build();
    aws_sdk_sqs::Client::from_conf(config)
}

fn autoscaling(world: &Ec2World) -> aws_sdk_autoscaling::Client {
    let config = aws_sdk_autoscaling::Config::builder()
        .behavior_version(aws_sdk_autoscaling::config::BehaviorVersion::v2026_01_12())
        .http_client(http_client())
        .region(aws_sdk_autoscaling::config::Region::new("ap-northeast-1"))
        .endpoint_url(url_of(world, "AWS_ENDPOINT_URL_AUTO_SCALING"))
        .credentials_provider(keys())
        .retry_config(RetryConfig::disabled())
        .build();
    aws_sdk_autoscaling::Client::from_conf(config)
}

async fn assert_waiting(world: &Ec2World, autoscaling: &aws_sdk_autoscaling::Client) {
    let found = autoscaling
        .describe_auto_scaling_instances()
        .instance_ids(world.instance());
    let found = found.send().await.expect("described");
    let instance = &found.auto_scaling_instances()[0];
    assert_eq!(instance.lifecycle_state(), Some("Terminating:Wait"));
    let hooks = autoscaling.describe_lifecycle_hooks();
    let hooks = hooks
        .auto_scaling_group_name(world.group())
        .send()
        .await
        .expect("described");
    assert_eq!(hooks.lifecycle_hooks()[0].heartbeat_timeout(), Some(60));
}

#[tokio::test]
async fn a_termination_runs_from_the_letter_to_the_end() {
    let world = Ec2World::start().await.expect("a world");
    let (sqs, autoscaling) = (sqs(&world), autoscaling(&world));
    let poll = sqs
        .receive_message()
        .queue_url(world.queue_url())
        .max_number_of_messages(10)
        .wait_time_seconds(20);
    // The long poll is under way before there is a message.
    let poll = tokio::spawn(poll.send());
    let polling = |state: &crate::support::ec2::state::State| !state.requests.is_empty();
    world
        .state()
        .wait_for("the poll", SOON, polling)
        .await
        .expect("it polls");
    world.terminate(world.instance());
    let answer = poll.await.expect("joined").expect("an answer");
    let letter = answer.messages()[0].clone();
    let body: serde_json::Value =
        serde_json::from_str(letter.body().expect("a body")).expect("JSON");
    assert_eq!(body["EC2InstanceId"], world.instance());
    assert_eq!(body["AutoScalingGroupName"], "web blue");

    assert_waiting(&world, &autoscaling).await;
    let beat = autoscaling
        .record_lifecycle_action_heartbeat()
        .auto_scaling_group_name(world.group())
        .lifecycle_hook_name("drain-logs")
        .instance_id(world.instance())
        .lifecycle_action_token(body["LifecycleActionToken"].as_str().expect("a token"));
    beat.send().await.expect("the action is open");
    let complete = autoscaling
        .complete_lifecycle_action()
        .auto_scaling_group_name(world.group())
        .lifecycle_hook_name("drain-logs")
        .instance_id(world.instance())
        .lifecycle_action_result("CONTINUE");
    complete.clone().send().await.expect("completed");
    let again = complete.send().await.expect_err("it is over");
    assert_eq!(again.code(), Some("ValidationError"));
    let text = again.message().unwrap_or_default();
    assert!(
        text.contains("No active Lifecycle Action found with instance ID"),
        "{text}"
    );
    let handle = letter.receipt_handle().expect("a handle");
    let delete = sqs
        .delete_message()
        .queue_url(world.queue_url())
        .receipt_handle(handle);
    delete.send().await.expect("deleted");

    let gone = |what: &Happening| matches!(what, Happening::MessageDeleted { .. });
    world
        .wait_moment("the deletion", SOON, gone)
        .await
        .expect("noted");
}

#[tokio::test]
async fn an_unknown_instance_is_an_empty_list_and_no_error() {
    let world = Ec2World::start().await.expect("a world");
    let autoscaling = autoscaling(&world);
    let found = autoscaling
        .describe_auto_scaling_instances()
        .instance_ids("i-00000000000000000");
    let found = found.send().await.expect("an unknown id is no error");
    assert!(found.auto_scaling_instances().is_empty());
}

#[tokio::test]
async fn a_hook_that_nobody_answers_times_out_on_the_worlds_clock() {
    let world = Ec2World::start_with(Options {
        time_factor: 1000.0,
        ..Options::default()
    });
    let world = world.await.expect("a world");
    world.terminate(world.instance());
    let late = |what: &Happening| matches!(what, Happening::Ended { .. });
    world
        .wait_moment("the time-out", SOON, late)
        .await
        .expect("60 s in 60 ms");
}

#[tokio::test]
async fn the_queue_gives_back_in_batches_and_knows_its_attributes() {
    let world = Ec2World::start().await.expect("a world");
    let sqs = sqs(&world);
    let url = sqs
        .get_queue_url()
        .queue_name("my-hook")
        .send()
        .await
        .expect("a URL");
    assert_eq!(url.queue_url(), Some(world.queue_url().as_str()));
    world.send_message("foreign");
    let receive = sqs.receive_message().queue_url(world.queue_url());
    let receive = receive.message_system_attribute_names("All".into());
    let letter = receive.clone().send().await.expect("received").messages()[0].clone();
    let empty = receive.clone().send().await.expect("an answer");
    assert!(empty.messages.is_none(), "hidden, and Messages is absent");
    let entry = |id: &str, handle: &str| {
        aws_sdk_sqs::types::ChangeMessageVisibilityBatchRequestEntry::builder()
            .id(id)
            .receipt_handle(handle)
            .visibility_timeout(0)
            .build()
            .expect("complete")
    };
    let batch = sqs
        .change_message_visibility_batch()
        .queue_url(world.queue_url())
        .entries(entry("good", letter.receipt_handle().expect("a handle")))
        .entries(entry("bad", "nonsense"));
    let batch = batch.send().await.expect("a batch is never refused whole");
    assert_eq!(batch.successful()[0].id(), "good");
    assert_eq!(batch.failed()[0].code(), "ReceiptHandleIsInvalid");
    assert_eq!(receive.send().await.expect("an answer").messages().len(), 1);

    world
        .state()
        .change(|state| state.queue.max_receives = Some(3));
    let ask = sqs.get_queue_attributes().queue_url(world.queue_url());
    let attributes = ask
        .attribute_names("RedrivePolicy".into())
        .send()
        .await
        .expect("known");
    let policy = attributes
        .attributes()
        .expect("one")
        .values()
        .next()
        .expect("one");
    assert!(policy.contains("\"maxReceiveCount\":3"));
}

#[tokio::test]
async fn errors_of_the_queue_are_typed_for_the_sdk() {
    let world = Ec2World::start().await.expect("a world");
    let receive = sqs(&world)
        .receive_message()
        .queue_url(world.queue_url() + "x");
    let error = receive
        .send()
        .await
        .expect_err("no such queue")
        .into_service_error();
    assert!(error.is_queue_does_not_exist(), "{error:?}");
    world.fault(
        Service::Sqs,
        Some("ReceiveMessage"),
        Some(1),
        Fault::access_denied(),
    );
    let receive = sqs(&world).receive_message().queue_url(world.queue_url());
    let error = receive
        .clone()
        .send()
        .await
        .expect_err("denied")
        .into_service_error();
    assert_eq!(error.meta().code(), Some("AccessDenied"));
    receive.send().await.expect("once only");
}

#[tokio::test]
async fn faults_of_auto_scaling_come_in_its_own_words() {
    let world = Ec2World::start().await.expect("a world");
    let describe = || autoscaling(&world).describe_auto_scaling_instances().send();
    for (fault, code) in [
        (Fault::throttling(), Some("Throttling")),
        (Fault::access_denied(), Some("AccessDenied")),
        (Fault::internal(), Some("InternalFailure")),
        (Fault::BadGateway, None),
        (Fault::HangUp, None),
    ] {
        world.fault(Service::AutoScaling, None, Some(1), fault);
        let error = describe().await.expect_err("a fault");
        assert_eq!(error.code(), code);
    }
    describe().await.expect("healthy again");
}

#[tokio::test]
async fn the_store_keeps_what_is_put_and_honours_conditions() {
    let world = Ec2World::start().await.expect("a world");
    let s3 = s3(&world, keys());
    let key = "residual/i-0/chunks/app.web/0011.json.gz";
    let put = || {
        let put = s3.put_object().bucket("logs").key(key).if_none_match("*");
        put.body(b"line-1-00000001".to_vec().into()).send()
    };
    put().await.expect("stored");
    let again = put().await.expect_err("it exists");
    assert_eq!(again.code(), Some("PreconditionFailed"));
    let objects = world.objects().expect("readable");
    assert_eq!((objects.len(), objects[0].key.as_str()), (1, key));
    assert_eq!(objects[0].text().expect("plain"), "line-1-00000001");

    for (fault, code) in [
        (Fault::access_denied(), "AccessDenied"),
        (Fault::slow_down(), "SlowDown"),
    ] {
        world.fault(Service::S3, Some("PutObject"), None, fault);
        assert_eq!(put().await.expect_err("a fault").code(), Some(code));
        world.heal(Service::S3);
    }
    let missing = s3
        .put_object()
        .bucket("nowhere")
        .key("a")
        .body(Vec::new().into());
    assert_eq!(
        missing.send().await.expect_err("no bucket").code(),
        Some("NoSuchBucket")
    );
}

#[tokio::test]
async fn the_store_checks_signatures() {
    let world = Ec2World::start().await.expect("a world");
    let wrong = Credentials::new(ACCESS_KEY, "wrong", None, None, "test");
    let put = s3(&world, wrong).put_object().bucket("logs").key("a");
    let error = put
        .body(Vec::new().into())
        .send()
        .await
        .expect_err("refused");
    assert_eq!(error.code(), Some("SignatureDoesNotMatch"));
}

#[tokio::test]
async fn the_store_takes_multipart_uploads() {
    let world = Ec2World::start().await.expect("a world");
    let s3 = s3(&world, keys());
    let create = s3.create_multipart_upload().bucket("logs").key("big");
    let upload = create.send().await.expect("begun");
    let id = upload.upload_id().expect("an id");
    let mut parts = aws_sdk_s3::types::CompletedMultipartUpload::builder();
    for (number, size) in [(1, 5 << 20), (2, 10)] {
        let part = s3.upload_part().bucket("logs").key("big").upload_id(id);
        let part = part.part_number(number).body(vec![b'x'; size].into());
        let tag = part.send().await.expect("a part").e_tag.expect("a tag");
        let part = aws_sdk_s3::types::CompletedPart::builder();
        parts = parts.parts(part.part_number(number).e_tag(tag).build());
    }
    let complete = s3
        .complete_multipart_upload()
        .bucket("logs")
        .key("big")
        .upload_id(id);
    let complete = complete.multipart_upload(parts.build());
    complete.send().await.expect("complete");
    assert_eq!(
        world.objects().expect("readable")[0].body.len(),
        (5 << 20) + 10
    );
}

#[tokio::test]
async fn every_request_is_recorded_with_its_signature() {
    let world = Ec2World::start().await.expect("a world");
    let ask = autoscaling(&world).describe_auto_scaling_instances();
    ask.send().await.expect("described");
    let line = world.requests_json();
    let request: serde_json::Value = serde_json::from_str(line.trim()).expect("one JSON line");
    assert_eq!(request["service"], "autoscaling");
    assert_eq!(request["status"], 200);
    let headers = request["headers"].as_array().expect("pairs");
    let signed = headers.iter().any(|pair| {
        pair[0] == "authorization"
            && pair[1]
                .as_str()
                .is_some_and(|value| value.starts_with("AWS4-HMAC-SHA256"))
    });
    assert!(signed, "{line}");
}
