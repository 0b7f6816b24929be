//! The termination of an instance: the real agent, real forward servers, the EC2 world. What AWS is only assumed to do stands in
//! `support::ec2::ASSUMED`, and the test that leans on it says so in its name.

use std::time::Duration;

use anyhow::{Result, ensure};
use nix::sys::signal::Signal;

use crate::conformance::check_world;
use crate::scene::{DEADLINE, Scene};
use crate::support::agent::Agent;
use crate::support::ec2::hooks::Refused;
use crate::support::ec2::http::{Fault, Service};
use crate::support::ec2::notification::Wrapper;
use crate::support::ec2::state::Happening;
use crate::support::ec2::{Ec2World, Options};
use crate::support::forward_server::Mode;
use crate::support::ledger::{Ledger, LineId};
use crate::support::log_writer::LogFile;

mod by_hand;
mod file_buffer;

/// A scene in an EC2 world.
struct Termination {
    scene: Scene,
    world: Ec2World,
    log: LogFile,
}

impl Termination {
    async fn new() -> Result<Termination> {
        Termination::with(Options::default()).await
    }

    async fn with(options: Options) -> Result<Termination> {
        let scene = Scene::new().await?;
        let log = scene.writer()?;
        Ok(Termination {
            world: Ec2World::start_with(options).await?,
            scene,
            log,
        })
    }

    /// `<drain>` with spill; `extra` stands inside it.
    fn drain(&self, source: &str, extra: &str) -> String {
        let (queue, dir) = (self.world.queue_url(), self.scene.dir().display());
        let queue = if source == "imds" {
            String::new()
        } else {
            format!("  queue_url {queue}\n")
        };
        format!(
            "<drain>\n  source {source}\n{queue}  journal_path {dir}/drain.json\n  max_drain 20s\n  imds_interval 0.2\n{extra}\n  \
             <spill>\n    @type s3\n    s3_bucket logs\n    path residual/${{instance_id}}/\n  </spill>\n</drain>\n"
        )
    }

    async fn agent(&self, config: &str) -> Result<Agent> {
        let agent = Agent::start(config, &self.world.env()).await?;
        agent
            .wait_for_line("worker is now running", DEADLINE)
            .await?;
        Ok(agent)
    }

    /// Terminates the instance and waits until the hook has been released.
    async fn terminate(&self, agent: &Agent) -> Result<()> {
        self.world.terminate(self.world.instance());
        let released = |what: &Happening| matches!(what, Happening::Completed { .. });
        let waited = self
            .world
            .wait_moment("the completion", DEADLINE, released)
            .await;
        ensure!(
            waited.is_ok(),
            "the hook was not released:\n{}",
            agent.log_text()
        );
        Ok(())
    }

    /// Where every line went.
    fn ledger(&self) -> Result<Ledger> {
        let mut ledger = Ledger::new(self.log.written());
        for (name, server) in [
            ("primary", &self.scene.primary),
            ("standby", &self.scene.standby),
        ] {
            ledger.arrived(name, server.state().read(|state| state.lines.clone()));
        }
        for object in self.world.objects()? {
            ledger.arrived(
                object.key.clone(),
                LineId::find_all(&object.text()?).collect::<Vec<_>>(),
            );
        }
        Ok(ledger)
    }

    fn happened(&self, wanted: impl Fn(&Happening) -> bool) -> usize {
        self.world
            .timeline()
            .iter()
            .filter(|moment| wanted(&moment.what))
            .count()
    }

    /// TERM comes after the release, as on a real instance.
    async fn end(&self, mut agent: Agent) -> Result<()> {
        agent.signal(Signal::SIGTERM)?;
        ensure!(
            agent.wait_exit(DEADLINE).await?.success(),
            "{}",
            agent.log_text()
        );
        check_world(&self.world).await
    }
}

async fn drains_from(source: &str, wrapper: Wrapper) -> Result<()> {
    let mut play = Termination::with(Options {
        wrapper,
        ..Options::default()
    })
    .await?;
    let foreign = play.world.send_message("{\"EC2InstanceId\":\"i-0ffffffffffffffff\",\"LifecycleTransition\":\"autoscaling:EC2_INSTANCE_TERMINATING\"}");
    let config =
        play.scene.source() + &play.scene.forward("  flush_interval 1h") + &play.drain(source, "");
    let agent = play.agent(&config).await?;
    play.log.lines(1000)?;
    play.terminate(&agent).await?;
    let ledger = play.ledger()?;
    assert_eq!(
        (ledger.missing().len(), ledger.duplicates()),
        (0, 0),
        "{}",
        agent.log_text()
    );
    if source != "imds" {
        let deleted =
            |what: &Happening| matches!(what, Happening::MessageDeleted { id } if *id != foreign);
        play.world
            .wait_moment("our message to be deleted", DEADLINE, deleted)
            .await?;
        assert_eq!(
            play.happened(
                |what| matches!(what, Happening::MessageDeleted { id } if *id == foreign)
            ),
            0
        );
    }
    play.end(agent).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_doorbell_drain_delivers_everything_completes_and_deletes_only_its_own_message()
-> Result<()> {
    drains_from("doorbell", Wrapper::Direct).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_drain_needs_no_queue() -> Result<()> {
    drains_from("imds", Wrapper::Direct).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_polled_queue_is_enough_and_understands_an_sns_envelope() -> Result<()> {
    drains_from("queue", Wrapper::Sns).await
}

#[tokio::test(flavor = "multi_thread")]
async fn with_the_primary_dead_the_standby_gets_everything_and_nothing_is_spilled() -> Result<()> {
    let mut play = Termination::new().await?;
    let agent = play
        .agent(&(play.scene.immediate() + &play.drain("doorbell", "")))
        .await?;
    play.scene.primary.stop().await;
    play.log.lines(1000)?;
    play.terminate(&agent).await?;
    assert!(play.ledger()?.missing().is_empty(), "{}", agent.log_text());
    assert_eq!(
        play.scene
            .standby
            .state()
            .read(|state| state.distinct.len()),
        1000
    );
    play.end(agent).await
}

#[tokio::test(flavor = "multi_thread")]
async fn with_both_servers_dead_everything_is_in_s3_before_the_hook_is_released() -> Result<()> {
    let mut play = Termination::new().await?;
    play.scene.primary.stop().await;
    play.scene.standby.stop().await;
    let agent = play
        .agent(&(play.scene.immediate() + &play.drain("doorbell", "")))
        .await?;
    play.log.lines(1000)?;
    play.terminate(&agent).await?;
    let ledger = play.ledger()?;
    assert!(
        ledger.missing().is_empty(),
        "{ledger}\n{}",
        agent.log_text()
    );
    let keys: Vec<_> = play
        .world
        .objects()?
        .into_iter()
        .map(|object| object.key)
        .collect();
    assert!(
        keys.iter().any(|key| key.contains("/chunks/app.log/")),
        "{keys:?}"
    );
    assert!(
        keys.iter().any(|key| key.contains("/drain-")),
        "no manifest in {keys:?}"
    );
    play.end(agent).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_silent_server_does_not_keep_its_chunk_from_the_spill() -> Result<()> {
    let mut play = Termination::new().await?;
    play.scene.primary.set_mode(Mode::Silent).await;
    play.scene.standby.set_mode(Mode::Silent).await;
    let agent = play
        .agent(&(play.scene.immediate() + &play.drain("doorbell", "")))
        .await?;
    play.log.lines(100)?;
    play.terminate(&agent).await?;
    assert!(play.ledger()?.missing().is_empty(), "{}", agent.log_text());
    play.end(agent).await
}

#[tokio::test(flavor = "multi_thread")]
async fn when_s3_refuses_the_hook_is_released_by_the_rule_and_the_operator_reads_what_is_not_safe()
-> Result<()> {
    let mut play = Termination::new().await?;
    play.scene.primary.stop().await;
    play.scene.standby.stop().await;
    play.world.fault(
        Service::S3,
        None,
        None,
        Fault::Refuse(Refused {
            status: 403,
            code: "AccessDenied".into(),
            message: "Access Denied".into(),
        }),
    );
    let agent = play
        .agent(&(play.scene.immediate() + &play.drain("doorbell", "  max_drain 12s")))
        .await?;
    play.log.lines(100)?;
    play.terminate(&agent).await?;
    let said = agent.log_text();
    for part in ["AccessDenied", "not everything is safe", "app.log"] {
        assert!(said.contains(part), "{part} is not in:\n{said}");
    }
    assert_eq!(play.ledger()?.missing().len(), 100);
    let journal = std::fs::read_to_string(play.scene.dir().join("drain.json"))?;
    assert!(journal.contains("not_safe"), "{journal}");
    // The lines stay: the position was not moved, so an instance that lives on after all delivers them.
    play.scene.primary.restart().await;
    let mut agent = agent;
    agent.kill().await?;
    let _again = Agent::start(&play.scene.immediate(), &play.world.env()).await?;
    play.scene.primary.wait_for_lines(100, DEADLINE).await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn commands_run_before_and_zabbix_after_the_data_is_safe() -> Result<()> {
    let mut play = Termination::new().await?;
    play.world
        .state()
        .change(|state| state.zabbix.hosts.push(("10105".into(), "web-1".into())));
    let done = play.scene.dir().join("before-ran");
    let extra = format!(
        "  <before>\n    command touch {}\n    timeout 5s\n  </before>\n  <after>\n    @type zabbix\n    url {}\n    token zabbix-token\n    host web-1\n  </after>\n  \
         <archive>\n    path {}/*.log\n  </archive>",
        done.display(),
        play.world.zabbix_url(),
        play.scene.dir().display(),
    );
    let agent = play
        .agent(&(play.scene.immediate() + &play.drain("doorbell", &extra)))
        .await?;
    play.log.lines(100)?;
    play.terminate(&agent).await?;
    assert!(done.exists(), "{}", agent.log_text());
    let keys: Vec<_> = play
        .world
        .objects()?
        .into_iter()
        .map(|object| object.key)
        .collect();
    assert!(
        keys.iter()
            .any(|key| key.ends_with("/app.log") && key.contains("/files/")),
        "{keys:?}\n{}",
        agent.log_text()
    );
    assert_eq!(
        play.happened(|what| matches!(what, Happening::HostDeleted { host } if host == "web-1")),
        1,
        "{}",
        agent.log_text()
    );
    play.end(agent).await
}

#[tokio::test(flavor = "multi_thread")]
async fn kill_9_in_the_middle_of_a_drain_is_resumed_at_the_next_start() -> Result<()> {
    let mut play = Termination::new().await?;
    play.scene
        .primary
        .set_mode(Mode::Slow(Duration::from_secs(3600)))
        .await;
    play.scene.standby.stop().await;
    let config = play.scene.immediate() + &play.drain("doorbell", "");
    let mut agent = play.agent(&config).await?;
    play.log.lines(100)?;
    play.world.terminate(play.world.instance());
    agent
        .wait_for_line("flush: reading to the end", DEADLINE)
        .await?;
    agent.kill().await?;
    play.scene.primary.set_mode(Mode::Ack).await;
    let agent = play.agent(&config).await?;
    let released = |what: &Happening| matches!(what, Happening::Completed { .. });
    play.world
        .wait_moment("the completion", DEADLINE, released)
        .await?;
    assert!(play.ledger()?.missing().is_empty(), "{}", agent.log_text());
    play.end(agent).await
}
