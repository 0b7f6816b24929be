//! The agent against moto's SQS, SNS, EventBridge and S3: another implementation of AWS than ours. moto has no
//! CompleteLifecycleAction, so Auto Scaling and instance metadata are the in-process world's.

use std::io::Read;

use anyhow::{Result, ensure};
use flate2::read::GzDecoder;

use crate::conformance::judge::Moto;
use crate::scene::{DEADLINE, Scene};
use crate::support::agent::Agent;
use crate::support::ec2::Ec2World;
use crate::support::ec2::state::Happening;
use crate::support::ledger::{Ledger, LineId};

/// Terminates an instance whose notice comes through moto in this form, with every forward server dead.
async fn drains_through_moto(form: &'static str) -> Result<()> {
    let (scene, world) = (Scene::new().await?, Ec2World::start().await?);
    let mut moto = tokio::task::spawn_blocking(Moto::start).await?;
    scene.primary.stop().await;
    scene.standby.stop().await;
    let mut log = scene.writer()?;
    let drain = format!(
        "<drain>\n  source queue\n  queue_url {}\n  journal_path {}/drain.json\n  max_drain 20s\n  <spill>\n    @type s3\n    \
         s3_bucket {}\n    path residual/${{instance_id}}/\n  </spill>\n</drain>\n",
        moto.told("queue_url"),
        scene.dir().display(),
        moto.told("bucket"),
    );
    let mut env = world.env();
    env.retain(|(name, _)| name != "AWS_ENDPOINT_URL_SQS" && name != "AWS_ENDPOINT_URL_S3");
    let endpoint = moto.told("endpoint").to_owned();
    env.extend(
        ["SQS", "S3"].map(|service| (format!("AWS_ENDPOINT_URL_{service}"), endpoint.clone())),
    );
    let agent = Agent::start(&(scene.immediate() + &drain), &env).await?;
    agent
        .wait_for_line("worker is now running", DEADLINE)
        .await?;
    log.lines(500)?;
    world.terminate(world.instance());
    let (instance, group) = (
        world.instance().to_owned(),
        world.group().replace(' ', "%20"),
    );
    let mut moto = tokio::task::spawn_blocking(move || {
        let token = "5b6c7d8e-1f20-4a3b-9c4d-5e6f70819203";
        moto.send("test", "-", &group, "drain-logs", "-");
        moto.send(form, &instance, &group, "drain-logs", token);
        moto
    })
    .await?;
    let released = |what: &Happening| matches!(what, Happening::Completed { .. });
    let waited = world
        .wait_moment("the completion", DEADLINE, released)
        .await;
    ensure!(
        waited.is_ok(),
        "the hook was not released:\n{}",
        agent.log_text()
    );
    agent.wait_for_line("drained", DEADLINE).await?;
    let (objects, messages) = tokio::task::spawn_blocking(move || moto.objects()).await?;
    let mut ledger = Ledger::new(log.written());
    for (key, bytes) in objects.into_iter().filter(|(key, _)| key.ends_with(".gz")) {
        let mut text = String::new();
        GzDecoder::new(&bytes[..]).read_to_string(&mut text)?;
        ledger.arrived(key, LineId::find_all(&text).collect::<Vec<_>>());
    }
    ensure!(
        ledger.missing().is_empty(),
        "{ledger}\n{}",
        agent.log_text()
    );
    ensure!(
        messages == 0,
        "{messages} messages are left:\n{}",
        agent.log_text()
    );
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_notice_sent_straight_to_motos_queue_drains_into_motos_bucket() -> Result<()> {
    drains_through_moto("direct").await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_notice_through_motos_topic_drains_into_motos_bucket() -> Result<()> {
    drains_through_moto("sns").await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_notice_through_motos_event_rule_drains_into_motos_bucket() -> Result<()> {
    drains_through_moto("eventbridge").await
}
