//! What an operator sees of a configuration that is wrong: every row of the table is one mistake, run through the real binary.

use std::process::Command;

use anyhow::Result;

const GOOD_SOURCE: &str =
    "<source>\n  @type tail\n  path /nonexistent/app.log\n  tag app\n  format none\n</source>\n";
const GOOD_MATCH: &str = "<match **>\n  @type null\n</match>\n";
const FORWARD: &str = "<match **>\n  @type forward\n  <server>\n    host 127.0.0.1\n  </server>\n";

/// Exit status and everything that was printed by a dry run on this configuration.
fn dry_run(config: &[u8]) -> Result<(Option<i32>, String)> {
    let dir = tempfile::tempdir()?;
    let file = dir.path().join("a.conf");
    std::fs::write(&file, config)?;
    let output = Command::new(env!("CARGO_BIN_EXE_affluent"))
        .arg("--dry-run")
        .arg("-c")
        .arg(&file)
        .output()?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned()
        + &String::from_utf8_lossy(&output.stderr);
    Ok((output.status.code(), text))
}

/// A mistake: its name, the configuration, what must be said about it.
type Mistake = (&'static str, String, &'static [&'static str]);

fn source(inside: &str) -> String {
    format!("<source>\n  @type tail\n{inside}\n</source>\n{GOOD_MATCH}")
}

fn forward(inside: &str) -> String {
    format!("{GOOD_SOURCE}{FORWARD}{inside}\n</match>\n")
}

fn behind_a_source(text: &str) -> String {
    format!("{GOOD_SOURCE}{text}")
}

fn mistakes_of_structure() -> Vec<Mistake> {
    let ids =
        "<match a>\n  @type null\n  @id x\n</match>\n<match b>\n  @type null\n  @id x\n</match>\n";
    let labels = "  @label @APP\n</source>\n<label @APPS>\n  <match **>\n    @type null\n  </match>\n</label>\n";
    let unknown_label = GOOD_SOURCE.replace("</source>\n", labels);
    vec![
        (
            "a section that is not closed",
            behind_a_source("<match **>\n  @type null\n"),
            &["a.conf:7", "match"],
        ),
        (
            "a wrong end tag",
            behind_a_source("<match **>\n  @type null\n</source>\n"),
            &["a.conf:9", "source"],
        ),
        (
            "no @type",
            behind_a_source("<match **>\n</match>\n"),
            &["a.conf:7", "@type"],
        ),
        (
            "an unknown @type",
            behind_a_source("<match **>\n  @type forwrad\n</match>\n"),
            &["a.conf:8", "forwrad", "forward"],
        ),
        (
            "an unknown source",
            format!("<source>\n  @type tial\n</source>\n{GOOD_MATCH}"),
            &["a.conf:2", "tial", "tail"],
        ),
        (
            "a missing include",
            format!("@include /nonexistent/x.conf\n{GOOD_SOURCE}{GOOD_MATCH}"),
            &["a.conf:1", "/nonexistent/x.conf"],
        ),
        ("nothing to do", String::new(), &["nothing to do"]),
        ("no match", GOOD_SOURCE.to_owned(), &["nothing to do"]),
        (
            "an unknown label",
            unknown_label,
            &["a.conf:6", "@APP", "@APPS"],
        ),
        (
            "an id given twice",
            behind_a_source(ids),
            &["a.conf:13", "x"],
        ),
    ]
}

fn mistakes_of_parameters() -> Vec<Mistake> {
    let tail = "<source>\n  @type tail\n  path /x\n  tag a\n  format none\n  pos_file /tmp/affluent-test-one.pos\n</source>\n";
    vec![
        (
            "an unknown parser",
            source("  path /x\n  tag a\n  format jsno"),
            &["a.conf", "jsno", "json"],
        ),
        (
            "a missing path",
            source("  tag a\n  format none"),
            &["a.conf:1", "'path' parameter is required"],
        ),
        (
            "a missing tag",
            source("  path /x\n  format none"),
            &["a.conf:1", "'tag' parameter is required"],
        ),
        (
            "a forward without servers",
            behind_a_source("<match **>\n  @type forward\n</match>\n"),
            &["a.conf:7", "server"],
        ),
        (
            "a size with a wrong unit",
            forward("  <buffer>\n    chunk_limit_size 8q\n  </buffer>"),
            &["a.conf:13", "chunk_limit_size", "8q"],
        ),
        (
            "a time that is none",
            forward("  recover_wait soon"),
            &["a.conf:12", "recover_wait", "soon"],
        ),
        (
            "a boolean that is none",
            forward("  require_ack_response maybe"),
            &["a.conf:12", "require_ack_response", "maybe"],
        ),
        (
            "a word that is not allowed",
            forward("  heartbeat_type pigeon"),
            &["a.conf:12", "heartbeat_type", "transport"],
        ),
        (
            "a port out of range",
            forward("  <server>\n    host a\n    port 99999\n  </server>"),
            &["a.conf:14", "port", "99999"],
        ),
        (
            "a regexp that does not compile",
            source("  path /x\n  tag a\n  format /(?<a>x/"),
            &["a.conf:5"],
        ),
        (
            "embedded Ruby that is not supported",
            source("  path \"#{`hostname -i`}\"\n  tag a\n  format none"),
            &["a.conf:3", "ENV"],
        ),
        (
            "two tails with one pos_file",
            format!("{tail}{tail}{GOOD_MATCH}"),
            &["a.conf:13", "pos_file"],
        ),
        (
            "a pos_file that is a directory",
            source("  path /x\n  tag a\n  format none\n  pos_file /tmp"),
            &["a.conf:6", "/tmp"],
        ),
    ]
}

#[test]
fn every_mistake_is_named_with_its_place() -> Result<()> {
    let mut wrong = Vec::new();
    for (name, config, expected) in mistakes_of_structure()
        .into_iter()
        .chain(mistakes_of_parameters())
    {
        let (status, text) = dry_run(config.as_bytes())?;
        let silent: Vec<_> = expected
            .iter()
            .filter(|part| !text.contains(**part))
            .collect();
        if status != Some(1) || !silent.is_empty() || text.contains("panicked") {
            wrong.push(format!(
                "{name}: status {status:?}, not said: {silent:?}\n{text}"
            ));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    Ok(())
}

#[test]
fn all_mistakes_of_a_file_are_named_in_one_run() -> Result<()> {
    let config = "<source>\n  @type tail\n  tag a\n  format none\n</source>\n<match **>\n  @type forwrad\n</match>\n<match a>\n  @type nul\n</match>\n";
    let (status, text) = dry_run(config.as_bytes())?;
    assert_eq!(status, Some(1));
    for part in ["'path' parameter is required", "forwrad", "nul"] {
        assert!(text.contains(part), "{part} is not in:\n{text}");
    }
    Ok(())
}

#[test]
fn an_unknown_parameter_only_warns_and_suggests() -> Result<()> {
    let config = format!(
        "<source>\n  @type tail\n  path /nonexistent/x\n  tga x\n  tag a\n  format none\n  reed_from_head true\n</source>\n{GOOD_MATCH}"
    );
    let (status, text) = dry_run(config.as_bytes())?;
    assert_eq!(status, Some(0), "{text}");
    assert!(
        text.contains("reed_from_head") && text.contains("read_from_head"),
        "{text}"
    );
    assert!(text.contains("a.conf:7"), "{text}");
    Ok(())
}

#[test]
fn bytes_that_are_no_text_are_refused_with_their_offset() -> Result<()> {
    for (bytes, offset) in [
        (&b"<source>\n\xff\n</source>\n"[..], "9"),
        (b"<source>\n\0\n</source>\n", "9"),
    ] {
        let (status, text) = dry_run(bytes)?;
        assert_eq!(status, Some(1));
        assert!(
            text.contains(offset) && !text.contains("panicked"),
            "{text}"
        );
    }
    Ok(())
}

#[test]
fn secrets_are_never_printed() -> Result<()> {
    let secret = "correcthorse";
    let config = format!(
        "{GOOD_SOURCE}{FORWARD}  <security>\n    self_hostname a\n    shared_key {secret}\n  </security>\n  bogus_parameter 1\n</match>\n"
    );
    let (status, text) = dry_run(config.as_bytes())?;
    assert_eq!(status, Some(0), "{text}");
    assert!(text.contains("shared_key xxxxxx"), "{text}");
    assert!(!text.contains(secret), "{text}");
    let broken = config.replace("bogus_parameter 1", "recover_wait soon");
    let (status, text) = dry_run(broken.as_bytes())?;
    assert_eq!(status, Some(1));
    assert!(!text.contains(secret), "{text}");
    Ok(())
}

#[test]
fn a_missing_file_and_an_unknown_flag_are_said_in_one_sentence() -> Result<()> {
    let run = |args: &[&str]| {
        Command::new(env!("CARGO_BIN_EXE_affluent"))
            .args(args)
            .output()
    };
    let missing = run(&["-c", "/nonexistent/affluent.conf"])?;
    assert_eq!(missing.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&missing.stderr).contains("/nonexistent/affluent.conf"));
    let unknown = run(&["--frobnicate"])?;
    assert_eq!(unknown.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&unknown.stderr).contains("--frobnicate"));
    Ok(())
}

#[test]
fn the_production_block_loads_unchanged() -> Result<()> {
    let block = "<match app.**>
type forward
heartbeat_type tcp
flush_at_shutdown true
flush_interval 60s
buffer_chunk_limit 256m
<server>
name logserver1
host 192.168.74.150
port 24224
</server>
<server>
name logserver2
host 192.168.74.151
port 24224
standby
</server>
</match>
";
    let (status, text) = dry_run(format!("{GOOD_SOURCE}{block}").as_bytes())?;
    assert_eq!(status, Some(0), "{text}");
    assert!(!text.contains("is not used"), "{text}");
    Ok(())
}
