//! Whether the worlds that tests run in answer as AWS does, whether what the SDK sends and what users copy is what AWS accepts: judged
//! by AWS's own clients and service models (the scripts in conformance/), in a Python environment that is made on first use.

pub mod judge;
mod venv;

use std::fs;
use std::path::Path;
use std::time::Duration;

use affluent::config::{LoadOptions, load};
use aws_config::{BehaviorVersion, Region, SdkConfig};
use aws_credential_types::{Credentials, provider::SharedCredentialsProvider};
use aws_sdk_autoscaling::Client as AutoScaling;
use aws_sdk_s3::Client as S3;
use aws_sdk_s3::types::{ChecksumAlgorithm, CompletedMultipartUpload, CompletedPart};
use aws_sdk_sqs::Client as Sqs;
use aws_sdk_sqs::types::MessageSystemAttributeName;
use aws_smithy_http_client::tls::{self, rustls_provider::CryptoMode};

use crate::support::ec2::metadata::{ACCESS_KEY, SECRET_KEY, SESSION_TOKEN};
use crate::support::ec2::{Ec2World, Options};

use judge::{Moto, Secret, check_requests, drive_world, run, script};

const GROUP: &str = "web blue";
const HOOK: &str = "drain-logs";
const INSTANCE: &str = "i-0aa11bb22cc33dd44";
const CLI_INSTANCE: &str = "i-0cc11bb22cc33dd44";
const TOKEN: &str = "5b6c7d8e-1f20-4a3b-9c4d-5e6f70819203";
/// What the world's instance metadata hands out.
const SECRET: Secret<'_> = Secret {
    access_key_id: ACCESS_KEY,
    secret: SECRET_KEY,
    session_token: Some(SESSION_TOKEN),
};
/// Where s3s-fs, the world's S3, is not S3. No test may lean on these.
const S3S_FS_DEVIATES: [&str; 1] = ["WRONG s3, list gives the awkward key back as it was put [D]"];
const PATIENCE: Duration = Duration::from_secs(30);

#[test]
fn the_judges_say_yes_to_aws_own_clients_and_no_to_each_kind_of_mistake() {
    let verdict = run(&mut script("test_judges.py"));
    assert!(verdict.fine, "{}", verdict.said);
}

#[test]
fn what_users_copy_from_conf_is_what_aws_accepts() {
    let verdict = run(script("check_conf.py").arg("../../conf"));
    assert!(verdict.fine, "{}", verdict.said);
}

#[test]
fn every_configuration_in_conf_reads_and_has_sources_and_outputs() {
    let conf = Path::new(env!("CARGO_MANIFEST_DIR")).join("conf");
    let mut read = 0;
    for folder in [conf.clone(), conf.join("examples")] {
        for entry in fs::read_dir(folder).expect("conf is there") {
            let path = entry.expect("an entry").path();
            if path.extension().is_none_or(|ending| ending != "conf") {
                continue;
            }
            let config = load(&path, &LoadOptions::default());
            let config = config.unwrap_or_else(|errors| panic!("{}: {errors}", path.display()));
            let top = config.root().children();
            let names: Vec<&str> = top
                .flat_map(|section| [section].into_iter().chain(section.children()))
                .map(|section| section.name())
                .collect();
            for name in ["source", "match"] {
                assert!(names.contains(&name), "{} has no <{name}>", path.display());
            }
            read += 1;
        }
    }
    assert!(read > 12, "only {read} files");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_ec2_world_answers_aws_own_clients_as_aws_documents() {
    let world = dying_world().await;
    world.send_message("not JSON at all");
    let mut env = world.env_with_keys();
    env.extend(world_names(&world.queue_url(), "logs"));
    let parts = ["imds", "sqs", "autoscaling", "s3", "cli"];
    let verdict = tokio::task::spawn_blocking(move || drive_world(&parts, &env))
        .await
        .expect("the judge comes back");
    let heads = verdict
        .findings()
        .into_iter()
        .map(|line| line.split_once(": ").map_or(line, |(head, _)| head));
    assert_eq!(
        heads.collect::<Vec<_>>(),
        S3S_FS_DEVIATES,
        "{}",
        verdict.said
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_rust_sdk_sends_is_what_aws_accepts() {
    let world = dying_world().await;
    call_sqs(
        &Sqs::new(&sdk(&world, "SQS", SECRET.secret)),
        &world.queue_url(),
    )
    .await;
    call_autoscaling(&AutoScaling::new(&sdk(
        &world,
        "AUTO_SCALING",
        SECRET.secret,
    )))
    .await;
    let config = sdk(&world, "S3", SECRET.secret);
    call_s3(&S3::from_conf(
        aws_sdk_s3::config::Builder::from(&config)
            .force_path_style(true)
            .build(),
    ))
    .await;
    let verdict = check_requests(&world.requests_json(), &[SECRET]);
    assert!(verdict.fine, "{}", verdict.said);
    for operation in [
        "CompleteLifecycleAction",
        "RecordLifecycleActionHeartbeat",
        "ReceiveMessage",
        "PutObject",
        "UploadPart",
        "CompleteMultipartUpload",
    ] {
        assert!(
            verdict.said.contains(operation),
            "{operation} was not checked: {}",
            verdict.said
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_of_35_characters_and_a_wrong_secret_are_found_in_what_the_rust_sdk_sends() {
    let world = dying_world().await;
    let heartbeat = AutoScaling::new(&sdk(&world, "AUTO_SCALING", "another"))
        .record_lifecycle_action_heartbeat();
    let heartbeat = heartbeat
        .auto_scaling_group_name(GROUP)
        .lifecycle_hook_name(HOOK)
        .lifecycle_action_token(&TOKEN[1..]);
    heartbeat.send().await.expect_err("the world refuses it");
    let verdict = check_requests(&world.requests_json(), &[SECRET]);
    assert!(!verdict.fine);
    assert!(
        verdict
            .said
            .contains("LifecycleActionToken has 35 characters"),
        "{}",
        verdict.said
    );
    assert!(
        verdict.said.contains("signature does not match"),
        "{}",
        verdict.said
    );
}

#[test]
fn moto_delivers_every_form_of_notice_to_the_queue() {
    let mut moto = Moto::start();
    for form in ["direct", "sns", "eventbridge"] {
        moto.send("test", "-", "web%20blue", HOOK, "-");
        moto.send(form, INSTANCE, "web%20blue", HOOK, TOKEN);
        let verdict = drive_world(&["sqs"], &moto_env(&moto));
        assert_eq!(
            verdict.findings(),
            Vec::<&str>::new(),
            "{form}: {}",
            verdict.said
        );
    }
}

#[test]
fn moto_stores_as_s3_does_but_takes_a_wrong_checksum() {
    let moto = Moto::start();
    let verdict = drive_world(&["s3"], &moto_env(&moto));
    assert_eq!(
        verdict.findings(),
        [
            "WRONG s3, a wrong checksum is BadDigest [M]: AssertionError: the call went through, want BadDigest"
        ]
    );
}

/// A world with two instances that both wait in `Terminating:Wait`, their messages in the queue.
async fn dying_world() -> Ec2World {
    let instances = vec![INSTANCE.to_owned(), CLI_INSTANCE.to_owned()];
    let world = Ec2World::start_with(Options {
        instances,
        group: GROUP.to_owned(),
        ..Options::default()
    })
    .await
    .expect("a world");
    world.terminate(INSTANCE);
    world.terminate(CLI_INSTANCE);
    world
        .state()
        .wait_for("both messages", PATIENCE, |state| {
            state.queue.messages().count() == 2
        })
        .await
        .expect("both messages");
    world
}

fn moto_env(moto: &Moto) -> Vec<(String, String)> {
    let mut env = world_names(moto.told("queue_url"), moto.told("bucket"));
    let told = [
        ("AWS_ENDPOINT_URL_SQS", moto.told("endpoint")),
        ("AWS_ENDPOINT_URL_S3", moto.told("endpoint")),
        ("AWS_REGION", moto.told("region")),
        ("AWS_ACCESS_KEY_ID", SECRET.access_key_id),
        ("AWS_SECRET_ACCESS_KEY", SECRET.secret),
    ];
    env.extend(told.map(|(name, value)| (name.to_owned(), value.to_owned())));
    env
}

/// What drive_world.py wants to know beside the endpoints.
fn world_names(queue_url: &str, bucket: &str) -> Vec<(String, String)> {
    let names = [
        ("WORLD_INSTANCE", INSTANCE),
        ("WORLD_CLI_INSTANCE", CLI_INSTANCE),
        ("WORLD_GROUP", GROUP),
        ("WORLD_HOOK", HOOK),
        ("WORLD_QUEUE_URL", queue_url),
        ("WORLD_BUCKET", bucket),
    ];
    names
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .to_vec()
}

/// A client configuration without a provider chain: the instance's credentials and the world's endpoint of one service.
fn sdk(world: &Ec2World, service: &str, secret: &str) -> SdkConfig {
    let credentials = Credentials::new(
        SECRET.access_key_id,
        secret,
        SECRET.session_token.map(str::to_owned),
        None,
        "test",
    );
    let client = aws_smithy_http_client::Builder::new()
        .tls_provider(tls::Provider::Rustls(CryptoMode::AwsLc))
        .build_https();
    let endpoint = world
        .env()
        .into_iter()
        .find(|(name, _)| *name == format!("AWS_ENDPOINT_URL_{service}"));
    SdkConfig::builder()
        .behavior_version(BehaviorVersion::v2026_01_12())
        .region(Region::new("ap-northeast-1"))
        .credentials_provider(SharedCredentialsProvider::new(credentials))
        .endpoint_url(endpoint.expect("the world serves it").1)
        .http_client(client)
        .build()
}

/// The drain's calls to SQS, once each.
async fn call_sqs(sqs: &Sqs, queue: &str) {
    let receive = sqs
        .receive_message()
        .queue_url(queue)
        .max_number_of_messages(10)
        .wait_time_seconds(20)
        .visibility_timeout(20);
    let received = receive
        .message_system_attribute_names(MessageSystemAttributeName::SentTimestamp)
        .send()
        .await
        .expect("receive");
    let handle = received.messages()[0]
        .receipt_handle()
        .expect("a receipt handle");
    sqs.change_message_visibility()
        .queue_url(queue)
        .receipt_handle(handle)
        .visibility_timeout(30)
        .send()
        .await
        .expect("hide longer");
    sqs.delete_message()
        .queue_url(queue)
        .receipt_handle(handle)
        .send()
        .await
        .expect("delete");
}

/// The drain's calls to Auto Scaling, once each.
async fn call_autoscaling(scaling: &AutoScaling) {
    scaling
        .describe_auto_scaling_instances()
        .instance_ids(INSTANCE)
        .send()
        .await
        .expect("instances");
    scaling
        .describe_lifecycle_hooks()
        .auto_scaling_group_name(GROUP)
        .send()
        .await
        .expect("hooks");
    let heartbeat = scaling
        .record_lifecycle_action_heartbeat()
        .auto_scaling_group_name(GROUP)
        .lifecycle_hook_name(HOOK);
    heartbeat
        .instance_id(INSTANCE)
        .send()
        .await
        .expect("heartbeat");
    let complete = scaling
        .complete_lifecycle_action()
        .auto_scaling_group_name(GROUP)
        .lifecycle_hook_name(HOOK);
    complete
        .instance_id(INSTANCE)
        .lifecycle_action_result("CONTINUE")
        .send()
        .await
        .expect("complete");
}

/// The drain's calls to S3, once each.
async fn call_s3(s3: &S3) {
    let (bucket, key) = ("logs", "residual/i-0aa/files/var/log/a b+ü.log");
    let put = s3
        .put_object()
        .bucket(bucket)
        .key(key)
        .if_none_match("*")
        .metadata("truncated", "true");
    put.body(b"line\n".to_vec().into())
        .send()
        .await
        .expect("put");
    let upload = s3
        .create_multipart_upload()
        .bucket(bucket)
        .key(key)
        .checksum_algorithm(ChecksumAlgorithm::Crc32C)
        .send()
        .await
        .expect("create");
    let upload = upload.upload_id().expect("an upload id");
    let part = s3
        .upload_part()
        .bucket(bucket)
        .key(key)
        .upload_id(upload)
        .part_number(1)
        .checksum_algorithm(ChecksumAlgorithm::Crc32C);
    let part = part
        .body(b"part".to_vec().into())
        .send()
        .await
        .expect("part");
    let part = CompletedPart::builder()
        .part_number(1)
        .e_tag(part.e_tag().expect("an etag"))
        .build();
    let parts = CompletedMultipartUpload::builder().parts(part).build();
    s3.complete_multipart_upload()
        .bucket(bucket)
        .key(key)
        .upload_id(upload)
        .multipart_upload(parts)
        .send()
        .await
        .expect("complete");
}

/// Everything that was asked of this world is what AWS accepts, signatures included.
pub async fn check_world(world: &Ec2World) -> anyhow::Result<()> {
    let requests = world.requests_json();
    let verdict = tokio::task::spawn_blocking(move || check_requests(&requests, &[SECRET])).await?;
    anyhow::ensure!(verdict.fine, "{}", verdict.said);
    Ok(())
}
