use std::io::Read;

use super::*;
use crate::buffer::{ChunkKey, ChunkKeys};
use crate::event::Tag;
use crate::output::testing::{chunk, chunk_of, section};
use tempfile::TempDir;

/// 2024-01-02 03:04:05 UTC.
const SEC: u32 = 1_704_164_645;

/// An output whose chunks are cut by day, or by `timekey`, and by nothing else.
fn file(
    directory: &TempDir,
    path: &str,
    params: &[(&str, &str)],
    timekey: u32,
) -> Result<Configured> {
    let path = directory.path().join(path);
    let mut all = vec![("path", path.to_str().expect("UTF-8"))];
    all.extend_from_slice(params);
    let children = vec![section("format", &[("@type", "json")], vec![])];
    let context = OutputContext {
        chunks: Chunks::Own(ChunkKeys {
            tag: path.to_string_lossy().contains("${tag}"),
            time: Some(Timekey::new(timekey, TimeZone::UTC)),
            ..ChunkKeys::default()
        }),
        ..OutputContext::default()
    };
    configure(&section("match", &all, children), &context)
}

async fn write(output: &Configured, events: &[(u32, &str)]) {
    output
        .output
        .write(&chunk("app.x", events))
        .await
        .expect("written");
}

fn listing(directory: &TempDir) -> Vec<(String, String)> {
    let mut files: Vec<(String, String)> = std::fs::read_dir(directory.path())
        .expect("a directory")
        .map(|entry| {
            let entry = entry.expect("an entry");
            let content = std::fs::read(entry.path()).expect("a file");
            let name = entry.file_name().to_string_lossy().into_owned();
            (name, String::from_utf8_lossy(&content).into_owned())
        })
        .collect();
    files.sort();
    files
}

fn line(message: &str) -> String {
    format!("{{\"message\":\"{message}\"}}\n")
}

#[tokio::test]
async fn each_write_makes_a_file_with_the_next_index() {
    let directory = TempDir::new().expect("a directory");
    let output = file(&directory, "x", &[], DAY).expect("valid");
    write(&output, &[(SEC, "a"), (SEC, "b")]).await;
    write(&output, &[(SEC + 1, "c")]).await;
    let expected = [
        ("x.20240102_0.log".to_owned(), line("a") + &line("b")),
        ("x.20240102_1.log".to_owned(), line("c")),
    ];
    assert_eq!(listing(&directory), expected);
}

#[tokio::test]
async fn append_goes_on_in_the_same_file() {
    let directory = TempDir::new().expect("a directory");
    let output = file(&directory, "${tag}", &[("append", "true")], DAY).expect("valid");
    write(&output, &[(SEC, "a")]).await;
    write(&output, &[(SEC, "b")]).await;
    let expected = [("app.x.20240102.log".to_owned(), line("a") + &line("b"))];
    assert_eq!(listing(&directory), expected);
}

#[tokio::test]
async fn events_of_one_chunk_go_to_the_files_of_their_time() {
    let directory = TempDir::new().expect("a directory");
    let output = file(&directory, "x.*", &[("append", "true")], 3600).expect("valid");
    write(&output, &[(SEC, "a"), (SEC + 3600, "b"), (SEC, "c")]).await;
    let expected = [
        ("x.2024010203".to_owned(), line("a") + &line("c")),
        ("x.2024010204".to_owned(), line("b")),
    ];
    assert_eq!(listing(&directory), expected);
}

#[tokio::test]
async fn gzip_members_follow_one_another() {
    let directory = TempDir::new().expect("a directory");
    let output = file(
        &directory,
        "x",
        &[("append", "true"), ("compress", "gzip")],
        DAY,
    )
    .expect("valid");
    write(&output, &[(SEC, "a")]).await;
    write(&output, &[(SEC, "b")]).await;
    let bytes = std::fs::read(directory.path().join("x.20240102.log.gz")).expect("a file");
    let mut text = String::new();
    flate2::read::MultiGzDecoder::new(&bytes[..])
        .read_to_string(&mut text)
        .expect("gzip");
    assert_eq!(text, line("a") + &line("b"));
}

#[tokio::test]
async fn a_symbolic_link_is_not_followed() {
    let directory = TempDir::new().expect("a directory");
    let elsewhere = TempDir::new().expect("a directory");
    let target = elsewhere.path().join("target");
    std::fs::write(&target, "untouched").expect("written");
    std::os::unix::fs::symlink(&target, directory.path().join("x.20240102.log")).expect("linked");
    let output = file(&directory, "x", &[("append", "true")], DAY).expect("valid");
    let error = output
        .output
        .write(&chunk("a", &[(SEC, "a")]))
        .await
        .expect_err("refused");
    assert!(matches!(error, WriteError::Retry(_)), "{error}");
    assert_eq!(
        std::fs::read_to_string(&target).expect("a file"),
        "untouched"
    );
}

#[tokio::test]
async fn a_tag_that_leads_elsewhere_is_unrecoverable() {
    let directory = TempDir::new().expect("a directory");
    let output = file(&directory, "${tag}", &[], DAY).expect("valid");
    let error = output
        .output
        .write(&chunk("../x", &[(SEC, "a")]))
        .await
        .expect_err("refused");
    assert!(matches!(error, WriteError::Unrecoverable(_)), "{error}");
    assert_eq!(listing(&directory), []);
}

#[tokio::test]
async fn a_chunk_of_one_slice_goes_to_the_file_of_that_slice() {
    let directory = TempDir::new().expect("a directory");
    let output = file(&directory, "x.*", &[("append", "true")], 3600).expect("valid");
    let key = ChunkKey {
        timekey: Some(i64::from(SEC) - 245),
        ..ChunkKey::of_tag(Tag::new("app"))
    };
    let chunk = chunk_of(key, &[(SEC, "a")]);
    output.output.write(&chunk).await.expect("written");
    assert_eq!(
        listing(&directory),
        [("x.2024010203".to_owned(), line("a"))]
    );
}

#[tokio::test]
async fn another_outputs_chunks_go_to_daily_files() {
    let directory = TempDir::new().expect("a directory");
    let path = directory.path().join("x").display().to_string();
    let params = [("path", path.as_str()), ("format", "json")];
    let context = OutputContext {
        chunks: Chunks::Primarys(ChunkKeys::tag()),
        ..OutputContext::default()
    };
    let output = configure(&section("secondary", &params, vec![]), &context).expect("valid");
    write(&output, &[(SEC, "a")]).await;
    assert!(listing(&directory)[0].0.starts_with("x.202401"));
    let stranger = format!("{path}/${{host}}");
    let params = [("path", stranger.as_str())];
    let error = configure(&section("secondary", &params, vec![]), &context).err();
    let error = error.expect("no such chunk key").to_string();
    assert!(error.contains("doesn't have keys host"), "{error}");
}

#[test]
fn what_is_not_supported_is_an_error() {
    let directory = TempDir::new().expect("a directory");
    let refusal = |params: &[(&str, &str)]| {
        file(&directory, "x", params, DAY)
            .err()
            .expect("refused")
            .to_string()
    };
    assert!(refusal(&[("compress", "zstd")]).contains("zstd"));
    let nothing = section("match", &[], vec![]);
    let error = configure(&nothing, &OutputContext::default())
        .err()
        .expect("no path");
    assert!(
        error.to_string().contains("'path' parameter is required"),
        "{error}"
    );
}
