use super::*;
use std::fs;
use std::os::unix::ffi::OsStrExt;
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

fn names<'a>(paths: impl Iterator<Item = &'a Path>) -> Vec<String> {
    paths
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
    assert_eq!(names(found.globbed.iter()), ["a.log"]);
    assert_eq!(names(found.fixed.keys()), ["b.txt", "later.log"]);
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
    assert_eq!(one_star_inside("/a/**/**"), "/a/**/*");
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

/// A tree of empty files; hidden and linked directories are in it.
fn tree(dir: &Path) {
    for directory in ["a/b", ".hidden", "c"] {
        fs::create_dir_all(dir.join(directory)).expect("a directory");
    }
    for name in ["x.log", "a/x.log", "a/b/x.log", ".hidden/x.log", "c/y.log"] {
        fs::write(dir.join(name), "").expect("a file");
    }
    std::os::unix::fs::symlink(dir.join("a"), dir.join("link")).expect("a link");
}

fn found_in(dir: &Path, piece: &str) -> Vec<String> {
    let found = targets(&[format!("{}/{piece}", dir.display())], &[]).find(SystemTime::now());
    let below = |path: &Path| path.strip_prefix(dir).expect("below").to_owned();
    let names = found.globbed.iter().map(below);
    names.map(|path| path.display().to_string()).collect()
}

#[test]
fn a_pattern_finds_what_rubys_glob_finds() {
    let dir = tempfile::tempdir().expect("a directory");
    tree(dir.path());
    let found = |piece: &str| found_in(dir.path(), piece);
    assert_eq!(found("*.log"), ["x.log"]);
    assert_eq!(found("*/x.log"), ["a/x.log", "link/x.log"]);
    assert_eq!(
        found("**/*.log"),
        ["a/b/x.log", "a/x.log", "c/y.log", "x.log"]
    );
    assert_eq!(found("**/b/*"), ["a/b/x.log"]);
    assert_eq!(found(".h*/*.log"), [".hidden/x.log"]);
    assert_eq!(found("none/*.log"), Vec::<String>::new());
}

#[test]
fn slashes_and_dots_too_many_in_a_pattern_find_the_same_files() {
    let dir = tempfile::tempdir().expect("a directory");
    tree(dir.path());
    for piece in ["/*.log", "./*.log", "a/..//./*.log"] {
        let found = found_in(dir.path(), piece);
        assert_eq!(found.len(), 1, "{piece}: {found:?}");
        assert!(found[0].ends_with("x.log"), "{piece}: {found:?}");
    }
    let excluded = targets(
        &[format!("{}/*.log", dir.path().display())],
        &[format!("{}//./x*", dir.path().display())],
    );
    assert_eq!(
        names(excluded.find(SystemTime::now()).globbed.iter()),
        Vec::<String>::new()
    );
}

#[test]
fn a_name_that_is_not_utf8_is_found_like_any_other() {
    let dir = tempfile::tempdir().expect("a directory");
    let name = std::ffi::OsStr::from_bytes(b"caf\xe9.log");
    let sub = std::ffi::OsStr::from_bytes(b"d\xe9");
    fs::create_dir(dir.path().join(sub)).expect("a directory");
    for at in [dir.path().join(name), dir.path().join(sub).join("x.log")] {
        fs::write(at, "").expect("a file");
    }
    for piece in ["*.log", "caf*.log", "*/x.log", "**/x.log"] {
        let pattern = format!("{}/{piece}", dir.path().display());
        let found = targets(&[pattern], &[]).find(SystemTime::now());
        assert_eq!(found.globbed.iter().count(), 1, "{piece}");
        assert!(found.globbed.iter().all(|path| found.matcher.covers(path)));
    }
}

#[test]
fn a_fixed_path_keeps_the_form_in_which_it_is_written() {
    let found = targets(&["/var//log/./a.log".into()], &[]).find(SystemTime::now());
    let written = found.fixed.get(Path::new("/var/log/a.log")).expect("known");
    assert_eq!(written.as_os_str(), "/var//log/./a.log");
}
