use std::io::Read;

use super::*;
use crate::output::testing::{chunk, section};
use tempfile::TempDir;

/// 2024-01-02 03:04:05 UTC.
const SEC: u32 = 1_704_164_645;

fn file(
    directory: &TempDir,
    path: &str,
    params: &[(&str, &str)],
    buffer: &[(&str, &str)],
) -> Result<Configured> {
    let path = directory.path().join(path);
    let mut all = vec![("path", path.to_str().expect("UTF-8"))];
    all.extend_from_slice(params);
    let mut utc = vec![("timekey_use_utc", "true")];
    utc.extend_from_slice(buffer);
    let children = vec![
        section("buffer", &utc, vec![]),
        section("format", &[("@type", "json")], vec![]),
    ];
    configure(&section("match", &all, children), &OutputContext::default())
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
    let output = file(&directory, "x", &[], &[]).expect("valid");
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
    let output = file(&directory, "${tag}", &[("append", "true")], &[]).expect("valid");
    write(&output, &[(SEC, "a")]).await;
    write(&output, &[(SEC, "b")]).await;
    let expected = [("app.x.20240102.log".to_owned(), line("a") + &line("b"))];
    assert_eq!(listing(&directory), expected);
}

#[tokio::test]
async fn events_of_one_chunk_go_to_the_files_of_their_time() {
    let directory = TempDir::new().expect("a directory");
    let output = file(
        &directory,
        "x.*",
        &[("append", "true")],
        &[("timekey", "1h")],
    )
    .expect("valid");
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
        &[],
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
    let output = file(&directory, "x", &[("append", "true")], &[]).expect("valid");
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
    let output = file(&directory, "${tag}", &[], &[]).expect("valid");
    let error = output
        .output
        .write(&chunk("../x", &[(SEC, "a")]))
        .await
        .expect_err("refused");
    assert!(matches!(error, WriteError::Unrecoverable(_)), "{error}");
    assert_eq!(listing(&directory), []);
}

#[test]
fn zones_are_offsets_or_names() {
    let zone = |zone: &str| {
        super::zone(&SliceParams {
            timekey_zone: Some(zone.into()),
            ..SliceParams::default()
        })
    };
    assert_eq!(
        zone("+09:00").expect("valid"),
        TimeZone::fixed(jiff::tz::offset(9))
    );
    assert_eq!(
        zone("-0530")
            .expect("valid")
            .to_fixed_offset()
            .expect("fixed")
            .seconds(),
        -19_800
    );
    assert!(zone("Asia/Tokyo").is_ok());
    assert!(zone("Nowhere/Land").is_err());
}

#[test]
fn what_is_not_supported_is_an_error() {
    let directory = TempDir::new().expect("a directory");
    let refusal = |params: &[(&str, &str)]| {
        file(&directory, "x", params, &[])
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
