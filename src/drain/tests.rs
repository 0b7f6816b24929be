use std::io::Read;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use super::command::Command;
use super::fake_agent::FakeAgent;
use super::fakes::{FakeAws, ID, World, letter};
use super::journal::{Entry, Journal, boot_id};
use super::params::{Archive, Params, Place, Plan, Source, Spill};
use super::zabbix::Zabbix;
use super::*;
use crate::buffer::Chunk;
use crate::config::types::{Secret, Time};
use crate::output::s3::{self, S3};
use crate::output::{Boxed, Output, WriteError};

/// Long enough for any machine; nothing waits for it.
pub(super) const PATIENCE: Duration = Duration::from_secs(60);
/// So little that the spill works from the beginning.
const SHORT: Duration = Duration::from_secs(12);

pub(super) struct Scene {
    pub aws: FakeAws,
    dir: tempfile::TempDir,
    pub plan: Plan,
}

fn dying() -> World {
    World {
        target: Some("Terminated".to_owned()),
        active: true,
        state: Some("Terminating:Wait".to_owned()),
        messages: [("foreign", "i-0000000000000000f"), ("mine", ID)]
            .map(|(message, about)| (message.to_owned(), letter(about), true))
            .into(),
        zabbix: "7.0.4",
        ..World::default()
    }
}

/// Whoever spawns a drain needs this.
fn sendable<T: Send>(future: T) -> T {
    future
}

impl Scene {
    pub async fn new(world: World) -> Scene {
        let aws = FakeAws::start(world).await;
        let dir = tempfile::tempdir().expect("a directory");
        let params = Params {
            queue_url: Some(format!("{}/queue", aws.url())),
            journal_path: dir.path().join("drain.json"),
            imds_interval: Time(Duration::from_millis(100)),
            ..Params::default()
        };
        let mut plan = Plan::new(params).expect("a plan");
        let s3 = S3::new(s3::Params {
            s3_bucket: "logs".to_owned(),
            s3_region: Some("ap-northeast-1".to_owned()),
            path: "residual/${instance_id}/".to_owned(),
            aws_key_id: Some(Secret("AKID".to_owned())),
            aws_sec_key: Some(Secret("secret".to_owned())),
            s3_endpoint: Some(aws.url()),
            force_path_style: true,
            ..s3::Params::default()
        })
        .expect("an output");
        let place = Place {
            store: s3.store().clone(),
            path: s3.path().to_owned(),
        };
        plan.spill = Some(Spill {
            output: Arc::new(s3),
            place: Some(place),
        });
        Scene { aws, dir, plan }
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn command(&self, line: &str) -> Command {
        Command {
            line: format!("cd {} && {line}", self.dir.path().display()),
            timeout: PATIENCE,
        }
    }

    async fn notice(&self) -> Notice {
        let client = self.aws.client();
        tokio::time::timeout(PATIENCE, first(&self.plan, &client))
            .await
            .expect("a notice")
    }

    async fn drain(&self, agent: &FakeAgent, notice: Notice) -> DrainReport {
        let client = self.aws.client();
        let run = sendable(run(
            agent,
            &self.plan,
            &client,
            notice,
            std::future::pending(),
        ));
        tokio::time::timeout(PATIENCE, run)
            .await
            .expect("the drain ends")
    }

    fn order(&self, events: &[&str]) {
        let when: Vec<Option<usize>> = events.iter().map(|event| self.aws.when(event)).collect();
        let log = self.aws.world().log.clone();
        assert!(when.iter().all(Option::is_some), "{events:?} in {log:?}");
        assert!(when.is_sorted(), "{events:?} in {log:?}");
    }

    fn lines_in_chunks(&self) -> Vec<String> {
        let world = self.aws.world();
        let chunks = world
            .objects
            .iter()
            .filter(|(key, _)| key.contains("/chunks/app.log/"));
        let mut lines = Vec::new();
        for (_, object) in chunks {
            let mut text = String::new();
            flate2::read::GzDecoder::new(&object[..])
                .read_to_string(&mut text)
                .expect("gzip");
            for line in text.lines() {
                let line: serde_json::Value = serde_json::from_str(line).expect("JSON");
                lines.push(line["record"]["message"].as_str().expect("text").to_owned());
            }
        }
        lines.sort();
        lines
    }
}

#[tokio::test]
async fn the_doorbell_rings_and_everything_is_sent_completed_and_deleted_in_this_order() {
    let scene = Scene::new(dying()).await;
    let agent = FakeAgent::new(3, 2, true);
    let notice = scene.notice().await;
    assert_eq!(notice.cause, Cause::Doorbell);
    let report = scene.drain(&agent, notice).await;
    assert_eq!(report.release, Release::Completed("CONTINUE".to_owned()));
    assert_eq!(
        (agent.safe(), report.ledger.delivered, report.spilled.chunks),
        (5, 5, 0)
    );
    assert!(report.residue.is_empty() && report.deleted && !report.lives_on);
    let complete = format!("CompleteLifecycleAction drain {ID} CONTINUE");
    scene.order(&[
        "put /logs/residual/i-0aa11bb22cc33dd44/drain-",
        &complete,
        "delete mine",
    ]);
    assert!(scene.aws.when("delete foreign").is_none());
    assert_eq!(
        scene.aws.world().messages.len(),
        1,
        "the foreign letter is still there"
    );
    let journal = Journal::new(&scene.plan.params.journal_path)
        .read()
        .expect("readable")
        .expect("written");
    assert_eq!(journal.stage, Stage::Done);
}

#[tokio::test]
async fn what_no_server_takes_is_in_s3_before_the_hook_is_released() {
    let mut scene = Scene::new(dying()).await;
    scene.plan.params.max_drain = Time(SHORT);
    let agent = FakeAgent::new(6, 2, false);
    let report = scene.drain(&agent, Notice::new(Cause::Doorbell)).await;
    assert_eq!(report.release, Release::Completed("CONTINUE".to_owned()));
    assert!(report.residue.is_empty(), "{:?}", report.residue);
    assert_eq!((report.spilled.records, agent.safe()), (8, 8));
    let expected: Vec<String> = (0..8).map(|n| format!("line {n}")).collect();
    assert_eq!(scene.lines_in_chunks(), expected);
    scene.order(&[
        "put /logs/residual/i-0aa11bb22cc33dd44/chunks/app.log/",
        "put /logs/residual/i-0aa11bb22cc33dd44/drain-",
        "CompleteLifecycleAction",
    ]);
}

#[tokio::test]
async fn a_chunk_without_a_json_form_is_stored_as_it_is_and_blocks_nothing() {
    let mut scene = Scene::new(dying()).await;
    scene.plan.params.max_drain = Time(SHORT);
    let agent = FakeAgent::new(6, 0, false);
    agent.queue_malformed();
    let report = scene.drain(&agent, Notice::new(Cause::Doorbell)).await;
    assert!(report.residue.is_empty(), "{:?}", report.residue);
    assert_eq!((report.spilled.records, agent.safe()), (7, 7));
    let world = scene.aws.world();
    let raw = world
        .objects
        .iter()
        .find(|(key, _)| key.ends_with(".msgpack"))
        .expect("stored as it is");
    assert_eq!(&raw.1[..], [0xc1, 0xc1]);
    assert!(
        raw.0.contains(&format!("{ID}/chunks/app.log/")),
        "{}",
        raw.0
    );
}

/// Takes what begins like an entry.
struct Picky;

impl Output for Picky {
    fn write<'a>(&'a self, chunk: &'a Chunk) -> Boxed<'a, Result<(), WriteError>> {
        Box::pin(async move {
            match chunk.read().await?[0].starts_with(&[0xc1]) {
                true => Err(WriteError::Unrecoverable(anyhow::anyhow!("no entry"))),
                false => Ok(()),
            }
        })
    }
}

#[tokio::test]
async fn a_chunk_that_cannot_be_stored_at_all_is_set_aside_and_the_others_are_stored() {
    let mut scene = Scene::new(dying()).await;
    // Without a place for files there is no other form.
    scene.plan.spill = Some(Spill {
        output: Arc::new(Picky),
        place: None,
    });
    scene.plan.params.max_drain = Time(SHORT);
    let agent = FakeAgent::new(6, 0, false);
    agent.queue_malformed();
    let report = scene.drain(&agent, Notice::new(Cause::Doorbell)).await;
    assert_eq!((report.spilled.records, agent.safe()), (6, 6));
    assert_eq!((report.residue.chunks, report.residue.records), (1, 1));
    let places = &report.residue.places;
    assert!(
        places
            .iter()
            .any(|place| place.contains("cannot be stored")),
        "{places:?}"
    );
}

#[tokio::test]
async fn when_s3_refuses_the_lines_stay_and_the_journal_has_what_the_manifest_would_say() {
    for (rule, result) in [
        (OnUndelivered::Continue, "CONTINUE"),
        (OnUndelivered::Abandon, "ABANDON"),
    ] {
        let mut scene = Scene::new(World {
            s3_refuses: true,
            ..dying()
        })
        .await;
        scene.plan.params.max_drain = Time(Duration::from_secs(11));
        scene.plan.params.on_undelivered = rule;
        let agent = FakeAgent::new(4, 0, false);
        let report = scene.drain(&agent, Notice::new(Cause::Doorbell)).await;
        assert_eq!(report.release, Release::Completed(result.to_owned()));
        assert_eq!(
            (report.residue.chunks, report.residue.records, agent.safe()),
            (4, 4, 0)
        );
        assert!(
            report.residue.places[0].contains("output forward: 4 chunks"),
            "{:?}",
            report.residue.places
        );
        let refusal = report.spilled.last_error.expect("refused");
        assert!(
            refusal.contains("AccessDenied") && refusal.contains("s3:PutObject"),
            "{refusal}"
        );
        let journal = Journal::new(&scene.plan.params.journal_path)
            .read()
            .expect("readable")
            .expect("written");
        assert_eq!(
            (journal.not_safe, journal.ledger),
            (report.residue.places, Some(report.ledger)),
            "the manifest is not stored: the journal has what it says"
        );
        assert!(report.manifest.is_none());
        assert!(!agent.paused(), "what comes later is the servers' again");
    }
}

#[tokio::test]
async fn a_source_that_died_is_not_safe_and_the_rule_decides() {
    let mut scene = Scene::new(dying()).await;
    scene.plan.params.on_undelivered = OnUndelivered::Abandon;
    let agent = FakeAgent::new(1, 0, true);
    agent.says("source tail.0 died, its files may be unread");
    let report = scene.drain(&agent, Notice::new(Cause::Doorbell)).await;
    assert_eq!(report.release, Release::Completed("ABANDON".to_owned()));
    assert!(!report.residue.is_empty());
    assert_eq!(
        report.residue.places,
        ["source tail.0 died, its files may be unread"]
    );
}

#[tokio::test]
async fn commands_files_and_zabbix_come_in_their_order() {
    let mut scene = Scene::new(dying()).await;
    std::fs::write(scene.path("a.log"), "whole file\n").expect("written");
    scene.plan.before = vec![
        scene.command("echo one >> order"),
        scene.command("exit 3"),
        scene.command("echo two >> order"),
    ];
    let place = scene.plan.place().expect("a place").clone();
    scene.plan.archive = Some(Archive {
        paths: vec![scene.path("*.log").display().to_string()],
        place,
    });
    let zabbix = Zabbix::new(zabbix::Params {
        url: format!("{}/api_jsonrpc.php", scene.aws.url()),
        token: Some(Secret("t".to_owned())),
        host: Some("web-1".to_owned()),
        ..zabbix::Params::default()
    });
    scene.plan.after = vec![Step::Zabbix(zabbix.expect("a step"))];
    let notice = scene.notice().await;
    let report = scene.drain(&FakeAgent::new(1, 0, true), notice).await;
    assert_eq!(
        std::fs::read_to_string(scene.path("order")).expect("written"),
        "one\ntwo\n"
    );
    assert_eq!(
        report
            .before
            .iter()
            .map(|outcome| outcome.ok)
            .collect::<Vec<_>>(),
        [true, false, true]
    );
    assert!(report.after[0].ok, "{:?}", report.after);
    let key = format!("/logs/residual/{ID}/files{}", scene.path("a.log").display());
    assert_eq!(scene.aws.world().objects[&key], "whole file\n");
    scene.order(&[
        &format!("put {key}"),
        &format!("put /logs/residual/{ID}/drain-"),
        "zabbix host.delete header",
        "CompleteLifecycleAction",
        "delete mine",
    ]);
}

#[tokio::test]
async fn a_file_that_is_not_archived_is_named_and_changes_no_verdict() {
    let mut scene = Scene::new(World {
        s3_refuses: true,
        ..dying()
    })
    .await;
    scene.plan.params.on_undelivered = OnUndelivered::Abandon;
    std::fs::write(scene.path("a.log"), "whole file\n").expect("written");
    scene.plan.archive = Some(Archive {
        paths: vec![scene.path("*.log").display().to_string()],
        place: scene.plan.place().expect("a place").clone(),
    });
    let report = scene
        .drain(&FakeAgent::new(1, 0, true), Notice::new(Cause::Doorbell))
        .await;
    assert_eq!(report.release, Release::Completed("CONTINUE".to_owned()));
    let lines = archive::not_archived(&report.files);
    let expected = format!("not archived: {}: ", scene.path("a.log").display());
    assert!(
        lines.len() == 1 && lines[0].starts_with(&expected),
        "{lines:?}"
    );
    let journal = Journal::new(&scene.plan.params.journal_path)
        .read()
        .expect("readable")
        .expect("written");
    assert_eq!(journal.not_safe, lines);
}

#[tokio::test]
async fn a_letter_alone_is_no_witness_and_deletes_no_host() {
    let world = World {
        target: Some("InService".to_owned()),
        active: false,
        state: None,
        ..dying()
    };
    let mut scene = Scene::new(world).await;
    scene.plan.params.source = Source::Queue;
    scene.plan.after = vec![Step::Command(scene.command("touch done"))];
    let notice = scene.notice().await;
    assert_eq!((notice.cause.clone(), notice.witness), (Cause::Queue, None));
    let report = scene.drain(&FakeAgent::new(1, 0, true), notice).await;
    assert!(report.after.is_empty() && !scene.path("done").exists());
    assert_eq!(report.release, Release::AlreadyReleased);
    assert_eq!(report.ledger.delivered, 1);
}

#[tokio::test]
async fn a_stale_token_does_not_keep_us_from_completing() {
    let mut world = dying();
    for message in &mut world.messages {
        message.1 = message
            .1
            .replace(super::fakes::TOKEN, "00000000-0000-4000-8000-000000000000");
    }
    let mut scene = Scene::new(world).await;
    scene.plan.params.source = Source::Queue;
    scene.plan.params.heartbeat = "off".to_owned();
    scene.plan.heartbeat = heartbeat::Setting::Off;
    let notice = scene.notice().await;
    let report = scene.drain(&FakeAgent::new(1, 0, true), notice).await;
    assert_eq!(report.release, Release::Completed("CONTINUE".to_owned()));
    scene.order(&["refused CompleteLifecycleAction", "CompleteLifecycleAction"]);
}

#[tokio::test]
async fn by_hand_on_a_healthy_instance_drains_completes_nothing_and_lives_on() {
    let world = World {
        target: Some("InService".to_owned()),
        active: false,
        state: Some("InService".to_owned()),
        ..World::default()
    };
    let mut scene = Scene::new(world).await;
    scene.plan.params.queue_url = None;
    let agent = FakeAgent::new(2, 1, true);
    let client = scene.aws.client();
    let mut stages = Vec::new();
    let run = by_hand(
        &agent,
        &scene.plan,
        &client,
        std::future::pending(),
        |view| stages.push(view.stage),
    );
    let report = tokio::time::timeout(PATIENCE, run)
        .await
        .expect("the drain ends");
    assert!(
        matches!(report.release, Release::Nothing(_)),
        "{:?}",
        report.release
    );
    assert_eq!(agent.safe(), 3);
    assert!(report.lives_on, "nobody has said that it ends");
    assert_eq!(stages.last(), Some(&Stage::Done));
    assert!(
        scene.aws.when("CompleteLifecycleAction").is_none() && scene.aws.when("refused").is_none()
    );
}

#[tokio::test]
async fn a_rehearsal_stops_no_input_and_releases_nothing() {
    let mut scene = Scene::new(dying()).await;
    scene.plan.params.dry_run = true;
    scene.plan.before = vec![scene.command("touch before")];
    scene.plan.after = vec![Step::Command(scene.command("touch after"))];
    let agent = FakeAgent::new(2, 1, true);
    let report = scene.drain(&agent, Notice::new(Cause::Doorbell)).await;
    assert_eq!(report.release, Release::DryRun);
    assert!(
        !scene.path("before").exists()
            && !scene.path("after").exists()
            && !scene.path("drain.json").exists()
    );
    assert!(!agent.ended() && report.lives_on);
    assert!(report.manifest.is_some());
    assert!(
        scene.aws.when("CompleteLifecycleAction").is_none() && scene.aws.when("delete").is_none()
    );
}

#[tokio::test]
async fn a_crash_is_resumed_where_it_stopped_and_history_is_put_aside() {
    let mut scene = Scene::new(dying()).await;
    scene.plan.before = vec![scene.command("touch again")];
    let journal = Journal::new(&scene.plan.params.journal_path);
    let entry = Entry {
        instance: ID.to_owned(),
        boot: boot_id(),
        stage: Stage::Flush,
        ..Entry::default()
    };
    journal.write(&entry).expect("written");
    let notice = resume(&scene.plan, &scene.aws.client())
        .await
        .expect("resumed");
    let report = scene.drain(&FakeAgent::new(2, 0, true), notice).await;
    assert_eq!(report.release, Release::Completed("CONTINUE".to_owned()));
    assert!(
        !scene.path("again").exists(),
        "the commands before are not run again"
    );
    journal
        .write(&Entry {
            boot: "another".to_owned(),
            ..entry
        })
        .expect("written");
    assert_eq!(resume(&scene.plan, &scene.aws.client()).await, None);
    assert!(scene.path("drain.json.old").exists());
}

#[tokio::test]
async fn a_spot_notice_is_heard_on_a_spot_instance() {
    let time = jiff::Timestamp::now() + Duration::from_secs(100);
    let spot = format!(r#"{{"action":"terminate","time":"{time}"}}"#);
    let world = World {
        target: Some("InService".to_owned()),
        spot: Some(spot),
        ..World::default()
    };
    let scene = Scene::new(world).await;
    let notice = scene.notice().await;
    assert_eq!(notice.cause, Cause::Spot("terminate".to_owned()));
    assert!(notice.spot.is_some() && notice.witness.is_some());
}

#[tokio::test]
async fn the_release_does_not_wait_for_a_letter_that_is_not_there() {
    let scene = Scene::new(World {
        messages: Vec::new(),
        ..dying()
    })
    .await;
    let agent = FakeAgent::new(1, 0, true);
    let client = scene.aws.client();
    let run = run(
        &agent,
        &scene.plan,
        &client,
        Notice::new(Cause::Doorbell),
        std::future::pending(),
    );
    let released = async {
        while scene.aws.when("CompleteLifecycleAction").is_none() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    let order = tokio::time::timeout(PATIENCE, async {
        tokio::select! {
            biased;
            () = released => "released first",
            _ = run => "the letter first",
        }
    });
    assert_eq!(order.await.expect("released"), "released first");
}

#[tokio::test]
async fn an_answered_bell_is_waited_out_before_the_next() {
    let scene = Scene::new(World {
        target: Some("Warmed:Stopped".to_owned()),
        ..dying()
    })
    .await;
    let notice = scene.notice().await;
    assert!(notice.warm_pool);
    let report = scene.drain(&FakeAgent::new(1, 0, true), notice).await;
    assert!(report.lives_on);
    scene.aws.world().target = Some("InService".to_owned());
    let client = scene.aws.client();
    tokio::time::timeout(PATIENCE, notice::in_service(&scene.plan, &client))
        .await
        .expect("in service");
}

#[tokio::test]
async fn a_heartbeat_that_aws_accepts_is_a_witness() {
    let mut scene = Scene::new(World {
        target: Some("InService".to_owned()),
        state: None,
        ..dying()
    })
    .await;
    scene.plan.params.source = Source::Queue;
    // The data is safe at once: the command before holds the drain until a heartbeat was heard.
    scene.plan.before = vec![scene.command("while ! test -e heard; do sleep 0.01; done")];
    scene.plan.after = vec![Step::Command(scene.command("touch done"))];
    let notice = scene.notice().await;
    let heard = async {
        while scene.aws.when("RecordLifecycleActionHeartbeat").is_none() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        std::fs::write(scene.path("heard"), "").expect("written");
    };
    let agent = FakeAgent::new(1, 0, true);
    let (report, ()) = tokio::join!(scene.drain(&agent, notice), heard);
    assert!(scene.path("done").exists(), "{report:?}");
    assert_eq!(report.release, Release::Completed("CONTINUE".to_owned()));
}
