//! The clients against the fake services: metadata, S3, Zabbix.

use std::time::Instant;

use super::fakes::{FakeAws, ID, World};
use super::tests::{PATIENCE, Scene};
use super::zabbix::{self, Zabbix};
use crate::config::types::Secret;

#[tokio::test]
async fn the_metadata_client_answers_with_our_http_client_and_survives_a_revoked_token() {
    let aws = FakeAws::start(World::default()).await;
    let client = aws.client();
    assert_eq!(
        client
            .imds()
            .get("instance-id")
            .await
            .expect("answers")
            .as_deref(),
        Some(ID)
    );
    assert_eq!(
        client
            .imds()
            .get("nothing/here")
            .await
            .expect("404 is an answer"),
        None
    );
    aws.world().imds_token = 7;
    assert_eq!(
        client
            .imds()
            .get("instance-id")
            .await
            .expect("a new token")
            .as_deref(),
        Some(ID)
    );
    let tokens = aws
        .world()
        .log
        .iter()
        .filter(|line| *line == "imds token")
        .count();
    assert_eq!(tokens, 2);
}

#[tokio::test]
async fn a_file_above_64_mib_goes_in_parts() {
    let scene = Scene::new(World::default()).await;
    let mut content = vec![b'x'; 64 * 1024 * 1024 + 5];
    content[64 * 1024 * 1024] = b'y';
    std::fs::write(scene.path("big.log"), &content).expect("written");
    let store = &scene.plan.place().expect("a place").store;
    let stored = store
        .put_file("big", &scene.path("big.log"))
        .await
        .expect("stored");
    assert_eq!(
        (stored.bytes, stored.truncated),
        (content.len() as u64, false)
    );
    assert_eq!(scene.aws.when("put /logs/big in parts"), Some(0));
    assert!(scene.aws.world().objects["/logs/big"] == content);
}

#[tokio::test]
async fn an_object_that_is_there_already_counts_as_stored() {
    let scene = Scene::new(World::default()).await;
    let store = &scene.plan.place().expect("a place").store;
    store.put_new("k", "first".into()).await.expect("stored");
    store
        .put_new("k", "second".into())
        .await
        .expect("412 is success");
    assert_eq!(scene.aws.world().objects["/logs/k"], "first");
}

#[tokio::test]
async fn old_zabbix_takes_the_session_in_the_body_and_is_logged_out() {
    let aws = FakeAws::start(World {
        zabbix: "5.0.1",
        ..World::default()
    })
    .await;
    let step = Zabbix::new(zabbix::Params {
        url: format!("{}/api_jsonrpc.php", aws.url()),
        user: Some("api".to_owned()),
        password: Some(Secret("p".to_owned())),
        host: Some("web-1".to_owned()),
        ..zabbix::Params::default()
    })
    .expect("a step");
    let outcome = step.run(Instant::now() + PATIENCE).await;
    assert!(outcome.ok, "{outcome:?}");
    assert_eq!(
        aws.world().log,
        [
            "zabbix apiinfo.version none",
            "zabbix user.login none",
            "zabbix host.get body",
            "zabbix host.delete body",
            "zabbix user.logout body"
        ]
    );
}

#[tokio::test]
async fn a_bucket_in_another_region_is_found_there() {
    let scene = Scene::new(World {
        bucket_region: Some("eu-west-1"),
        ..World::default()
    })
    .await;
    let store = &scene.plan.place().expect("a place").store;
    store.put("k", "x".into()).await.expect("stored over there");
    store.put("l", "y".into()).await.expect("remembered");
    assert_eq!(scene.aws.world().log, ["put /logs/k", "put /logs/l"]);
}

#[tokio::test]
async fn a_file_that_is_none_is_refused() {
    let scene = Scene::new(World::default()).await;
    let store = &scene.plan.place().expect("a place").store;
    let refused = store.put_file("d", &scene.path(".")).await;
    assert!(refused.is_err());
    assert!(scene.aws.world().objects.is_empty());
}
