//! Chunks are cut by their keys, and end in the files that these name.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Instant;

use anyhow::{Result, ensure};

use crate::scene::DEADLINE;
use crate::support::agent::Agent;

/// All files below a folder with their content.
fn files(folder: &Path) -> BTreeMap<String, Vec<u8>> {
    let mut found = BTreeMap::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(inner) = folders.pop() {
        for entry in std::fs::read_dir(&inner).into_iter().flatten().flatten() {
            let path = entry.path();
            if path.is_dir() {
                folders.push(path);
            } else if let (Ok(name), Ok(content)) =
                (path.strip_prefix(folder), std::fs::read(&path))
            {
                found.insert(name.display().to_string(), content);
            }
        }
    }
    found
}

async fn wait_for(
    folder: &Path,
    agent: &Agent,
    enough: impl Fn(&BTreeMap<String, Vec<u8>>) -> bool,
) -> Result<BTreeMap<String, Vec<u8>>> {
    let end = Instant::now() + DEADLINE;
    loop {
        let found = files(folder);
        if enough(&found) {
            return Ok(found);
        }
        ensure!(
            Instant::now() < end,
            "only {:?}:\n{}",
            found.keys(),
            agent.log_text()
        );
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
}

#[tokio::test]
async fn each_time_slice_and_field_value_has_its_file_as_soon_as_the_slice_is_over() -> Result<()> {
    let directory = tempfile::tempdir()?;
    let (log, out) = (directory.path().join("a.log"), directory.path().join("out"));
    // Two hours of 2024-01-02, in UTC.
    let lines = [
        r#"{"time":1704164645,"k":{"host":"a"},"n":1}"#,
        r#"{"time":1704168245,"k":{"host":"a"},"n":2}"#,
        r#"{"time":1704164646,"k":{"host":"b"},"n":3}"#,
        r#"{"time":1704164647,"k":{"host":"a"},"n":4}"#,
        r#"{"time":1704164648,"n":5}"#,
    ];
    std::fs::write(&log, lines.map(|line| line.to_owned() + "\n").concat())?;
    let config = format!(
        "<source>\n  @type tail\n  path {}\n  tag app.web\n  read_from_head true\n  <parse>\n    @type json\n    time_type unixtime\n  </parse>\n</source>\n\
         <match **>\n  @type file\n  path {}/${{tag[1]}}/${{$.k.host}}.%Y%m%d%H\n  append true\n  <format>\n    @type json\n  </format>\n\
         <buffer tag,time,$.k.host>\n    @type memory\n    timekey 1h\n    timekey_wait 0\n    timekey_use_utc true\n  </buffer>\n</match>\n",
        log.display(),
        out.display()
    );
    let agent = Agent::start(&config, &[]).await?;
    let found = wait_for(&out, &agent, |found| {
        let newlines = |content: &Vec<u8>| content.iter().filter(|byte| **byte == b'\n').count();
        found.values().map(newlines).sum::<usize>() == lines.len()
    })
    .await?;
    let text = |name: &str| found.get(name).map(|text| String::from_utf8_lossy(text));
    let line = |n: usize, host: &str| format!("{{{host}\"n\":{n}}}\n");
    let (a, b) = (r#""k":{"host":"a"},"#, r#""k":{"host":"b"},"#);
    assert_eq!(
        text("web/a.2024010203.log").as_deref(),
        Some(&*(line(1, a) + &line(4, a)))
    );
    assert_eq!(text("web/a.2024010204.log").as_deref(), Some(&*line(2, a)));
    assert_eq!(text("web/b.2024010203.log").as_deref(), Some(&*line(3, b)));
    assert_eq!(text("web/.2024010203.log").as_deref(), Some(&*line(5, "")));
    assert_eq!(found.len(), 4, "{:?}", found.keys());
    Ok(())
}

#[tokio::test]
async fn what_no_server_takes_goes_to_the_secondary_file_chunk_by_chunk() -> Result<()> {
    let directory = tempfile::tempdir()?;
    let (log, out) = (directory.path().join("a.log"), directory.path().join("out"));
    std::fs::write(&log, "first\nsecond\n")?;
    // Nobody listens on a port that was just given back.
    let port = std::net::TcpListener::bind("127.0.0.1:0")?
        .local_addr()?
        .port();
    let config = format!(
        "<source>\n  @type tail\n  path {}\n  tag app\n  read_from_head true\n  format none\n</source>\n\
         <match **>\n  @type forward\n  <server>\n    host 127.0.0.1\n    port {port}\n  </server>\n\
         <buffer tag>\n    flush_mode immediate\n    retry_max_times 0\n    compress gzip\n  </buffer>\n\
         <secondary>\n    @type secondary_file\n    directory {}\n    basename ${{tag}}\n  </secondary>\n</match>\n",
        log.display(),
        out.display()
    );
    let agent = Agent::start(&config, &[]).await?;
    let contains = |content: &[u8], part: &[u8]| content.windows(part.len()).any(|at| at == part);
    let found = wait_for(&out, &agent, |found| {
        let all: Vec<u8> = found.values().flatten().copied().collect();
        contains(&all, b"first") && contains(&all, b"second")
    })
    .await?;
    assert!(found.keys().all(|name| name.starts_with("app.")));
    agent
        .wait_for_line("hit limit for retries", DEADLINE)
        .await?;
    Ok(())
}
