use super::*;
use std::fs;
use std::time::Duration;

use proptest::prelude::*;

fn targets(pieces: &[String], excludes: &[String]) -> Targets {
    Targets {
        pieces: pieces.to_vec(),
        excludes: excludes.to_vec(),
        glob_policy: GlobPolicy::BackwardCompatible,
        timezone: TimeZone::UTC,
    }
}

fn names(paths: &PathSet) -> Vec<String> {
    paths
        .iter()
        .filter_map(|path| path.file_name())
        .map(|name| name.to_string_lossy().into_owned())
        .collect()
}

#[test]
fn braces_expand_as_rubys_do() {
    assert_eq!(expand_braces("a{b,c{d,e}}f"), ["abf", "acdf", "acef"]);
    assert_eq!(expand_braces("{a,b}-{c,d}"), ["a-c", "a-d", "b-c", "b-d"]);
    assert_eq!(expand_braces("a{,b}"), ["a", "ab"]);
    assert_eq!(expand_braces("a{b"), ["a{b"]);
    assert_eq!(expand_braces("a}b"), ["a}b"]);
    assert_eq!(expand_braces("a{b{c,d}"), ["a{bc", "a{bd"]);
}

proptest! {
    #[test]
    fn no_pattern_makes_the_brace_expansion_panic(pattern in "[{},a*é]{0,12}") {
        prop_assert!(!expand_braces(&pattern).is_empty());
    }
}

#[test]
fn dates_expand_in_the_given_zone_and_unknown_conversions_stay() {
    let noon = SystemTime::UNIX_EPOCH + Duration::from_secs(1_700_000_000);
    let tokyo = TimeZone::fixed(jiff::tz::offset(9));
    assert_eq!(
        expand_date("/log/%Y%m%d-%H.log", noon, &TimeZone::UTC),
        "/log/20231114-22.log"
    );
    assert_eq!(
        expand_date("/log/%Y%m%d-%H.log", noon, &tokyo),
        "/log/20231115-07.log"
    );
    assert_eq!(expand_date("/log/100%%.log", noon, &tokyo), "/log/100%.log");
    assert_eq!(expand_date("/log/%!.log", noon, &tokyo), "/log/%!.log");
}

#[test]
fn a_piece_is_a_pattern_only_where_fluentd_says_so() {
    use GlobPolicy::*;
    assert!(is_pattern("/a/*.log", BackwardCompatible));
    assert!(!is_pattern("/a/?.log", BackwardCompatible));
    assert!(is_pattern("/a/?.log", Extended));
    assert!(!is_pattern("/a/{b}.log", Extended));
    assert!(is_pattern("/a/{b}.log", Always));
}

#[test]
fn globs_skip_hidden_and_compressed_and_excluded_names() {
    let dir = tempfile::tempdir().expect("a directory");
    for name in [
        "a.log",
        "b.log",
        "c.log",
        ".hidden.log",
        "a.log.gz",
        "b.txt",
    ] {
        fs::write(dir.path().join(name), "").expect("a file");
    }
    let at = |name: &str| dir.path().join(name).to_string_lossy().into_owned();
    let found = targets(
        &[at("*.log*"), at("b.txt"), at("later.log")],
        &[at("c*"), at("b.log")],
    )
    .find(SystemTime::now());
    assert_eq!(names(&found.globbed), ["a.log"]);
    assert_eq!(names(&found.fixed), ["b.txt", "later.log"]);
    assert!(found.directories.contains(dir.path()));
}

#[test]
fn directories_that_a_pattern_may_match_are_watched_too() {
    let dir = tempfile::tempdir().expect("a directory");
    fs::create_dir_all(dir.path().join("x")).expect("a directory");
    let found = targets(
        &[dir.path().join("*/app.log").to_string_lossy().into_owned()],
        &[],
    )
    .find(SystemTime::now());
    assert!(found.directories.contains(dir.path()));
    assert!(found.directories.contains(&dir.path().join("x")));
}

#[test]
fn two_stars_inside_a_component_are_one() {
    assert_eq!(one_star_inside("/a/**/b**c***/*"), "/a/**/b*c*/*");
}

#[test]
fn a_new_name_is_covered_as_if_it_had_been_found() {
    let at = |name: &str| format!("/var/log/{name}");
    let found = targets(&[at("*.log"), at("one.gz")], &[at("c*")]).find(SystemTime::now());
    let covers = |name: &str| found.matcher.covers(Path::new(&at(name)));
    assert!(covers("a.log") && covers("one.gz"));
    for name in ["c.log", "a.log.gz", ".a.log", "sub/a.log", "a.txt"] {
        assert!(!covers(name), "{name}");
    }
}
