//! What an operator sees of a configuration that is wrong: every row of the table is one mistake, run through the real binary.

use std::process::Command;

use anyhow::Result;

use self::mistakes::{
    FORWARD, GOOD_MATCH, GOOD_SOURCE, behind_a_source, forward, mistakes, source, tail,
};

mod mistakes;

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

#[test]
fn every_mistake_is_named_with_its_place() -> Result<()> {
    let mut wrong = Vec::new();
    for (name, config, expected) in mistakes() {
        let (status, text) = dry_run(config.as_bytes())?;
        let silent: Vec<_> = expected
            .iter()
            .filter(|part| !text.contains(**part))
            .collect();
        let doubled = text
            .lines()
            .any(|line| line.contains("..") || line.matches("Got: ").count() > 1);
        if status != Some(1) || !silent.is_empty() || doubled || text.contains("panicked") {
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
    for part in ["'path' parameter is required", "forwrad", "a.conf:10"] {
        assert!(text.contains(part), "{part} is not in:\n{text}");
    }
    Ok(())
}

#[test]
fn mistakes_below_a_wrong_section_are_named_too_in_the_order_of_the_file() -> Result<()> {
    let config = "<source>\n  @type tail\n  paht /x\n  tag a\n  format none\n  reed_from_head true\n</source>\n".to_owned()
        + "<match **>\n  @type forward\n  heartbeat_type foo\n  <buffer>\n    chunk_limit_size 8q\n  </buffer>\n  <secondary>\n    @type copy\n  </secondary>\n  <server>\n    host a\n    port 0\n  </server>\n</match>\n";
    let (status, text) = dry_run(config.as_bytes())?;
    assert_eq!(status, Some(1));
    let mut rest = text.as_str();
    for part in [
        "'paht' stands here: did you mean 'path'?",
        "heartbeat_type",
        "chunk_limit_size",
        "cannot be used in <secondary>",
        "a port is between",
        "did you mean 'read_from_head'?",
    ] {
        let at = rest.find(part);
        assert!(at.is_some(), "{part} is not, or not in order, in:\n{text}");
        rest = &rest[at.unwrap_or_default()..];
    }
    Ok(())
}

#[test]
fn what_has_another_effect_only_warns() -> Result<()> {
    let stdout = |inside: &str| {
        behind_a_source(&format!("<match **>\n  @type stdout\n{inside}\n</match>\n"))
    };
    for (config, part) in [
        (
            stdout("  <buffer>\n    timekey 1h\n  </buffer>"),
            "'timekey' has no effect",
        ),
        (
            forward("  <buffer>\n    flush_at_shutdown false\n  </buffer>"),
            "is read again at the next start",
        ),
        (
            format!("<system>\n  file_permission 0644\n</system>\n{GOOD_SOURCE}{GOOD_MATCH}"),
            "file modes are fixed",
        ),
    ] {
        let (status, text) = dry_run(config.as_bytes())?;
        assert_eq!(status, Some(0), "{text}");
        assert!(text.contains(part), "{part} is not in:\n{text}");
        assert!(!text.contains("is not used"), "{text}");
    }
    Ok(())
}

#[test]
fn what_looks_like_a_mistake_and_is_none_starts() -> Result<()> {
    for config in [
        forward("  <server>\n    host name.invalid\n  </server>"),
        source("  path /x\n  tag a\n  format /(?<a>x(?=y)(?<!z))/"),
        tail("  encoding Windows-31J"),
        forward("  <buffer tag,time>\n    timekey 1h\n  </buffer>"),
    ] {
        let (status, text) = dry_run(config.as_bytes())?;
        assert_eq!(status, Some(0), "{config}{text}");
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
        (&b"<source>\n\xff\n</source>\n"[..], "byte 9"),
        (b"<source>\n\0\n</source>\n", "byte 9"),
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
    let passwords = forward(&format!(
        "  <server>\n    host a\n    username u\n    password {secret}\n    port 0\n    password \"{secret}\n  </server>"
    ));
    let (status, text) = dry_run(passwords.as_bytes())?;
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
    assert_eq!(missing.status.code(), Some(2));
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

#[test]
fn a_tail_parameter_without_effect_is_announced_with_its_line() -> Result<()> {
    let asked = [
        "pos_file_compaction_interval 72h",
        "skip_refresh_on_startup true",
        "enable_watch_timer false",
        "ignore_repeated_permission_error true",
    ];
    let lines = asked.map(|line| format!("  {line}\n")).concat();
    let source = GOOD_SOURCE.replace("</source>\n", &format!("{lines}</source>\n"));
    let (status, text) = dry_run(format!("{source}{GOOD_MATCH}").as_bytes())?;
    assert_eq!(status, Some(0), "{text}");
    for (number, line) in asked.iter().enumerate() {
        let name = line.split(' ').next().unwrap_or_default();
        let said = format!("a.conf:{}: in <source>: {name}:", number + 6);
        assert!(text.contains(&said), "{said} is not in:\n{text}");
    }
    Ok(())
}

#[test]
fn a_tail_parameter_about_multiline_texts_that_does_nothing_is_announced() -> Result<()> {
    let multiline = "<parse>\n    @type multiline\n    format1 /(?<a>.)/\n  </parse>";
    for (inside, said) in [
        (
            "format none\n  multiline_flush_interval 5s",
            "multiline_flush_interval: has no effect: the parser takes each line by itself",
        ),
        (
            &format!("multiline_flush_interval 5s\n  {multiline}"),
            "multiline_flush_interval: has no effect without format_firstline",
        ),
        (
            &format!("emit_unmatched_lines false\n  {multiline}"),
            "emit_unmatched_lines: multiline texts that do not match are emitted all the same",
        ),
    ] {
        let source = format!(
            "<source>\n  @type tail\n  path /tmp/a.log\n  pos_file /tmp/a.pos\n  tag a\n  {inside}\n</source>\n"
        );
        let (status, text) = dry_run(format!("{source}{GOOD_MATCH}").as_bytes())?;
        assert_eq!(status, Some(0), "{text}");
        assert!(text.contains(said), "{said} is not in:\n{text}");
    }
    Ok(())
}
