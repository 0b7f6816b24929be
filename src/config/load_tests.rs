use std::fs;
use std::path::Path;

use tempfile::TempDir;

use super::*;

/// A directory with files in it.
fn files(files: &[(&str, &str)]) -> TempDir {
    let directory = TempDir::new().expect("directory");
    for (name, text) in files {
        let path = directory.path().join(name);
        fs::create_dir_all(path.parent().expect("parent")).expect("directory");
        fs::write(path, text).expect("file");
    }
    directory
}

fn read(directory: &TempDir) -> Result<Config, String> {
    let path = directory.path().join("main.conf");
    let prefix = format!("{}/", directory.path().display());
    load(&path, &LoadOptions::default()).map_err(|errors| {
        let lines: Vec<_> = errors.iter().map(|error| error.line()).collect();
        lines.join("\n").replace(&prefix, "")
    })
}

/// The parameters and sections of the root.
fn root(directory: &TempDir) -> String {
    let config = read(directory).expect("config");
    let params = config.root().entries();
    let params = params.map(|(key, value)| format!("{key}={}", value.unwrap_or("nil")));
    let sections = config
        .root()
        .children()
        .map(|child| format!("<{}>", child.name()));
    params.chain(sections).collect::<Vec<_>>().join(" ")
}

#[test]
fn an_include_is_pasted_where_it_stands_relative_to_its_own_file() {
    let directory = files(&[
        (
            "main.conf",
            "a 1\n@include sub/one.conf\nc 1\n<s>\n  @include sub/params.conf\n</s>",
        ),
        ("sub/one.conf", "a 2\nb 2\n@include two.conf\n<x>\n</x>"),
        ("sub/two.conf", "b 3\nc 3\n"),
        ("sub/params.conf", "p 1\n<q>\n</q>\n"),
    ]);
    assert_eq!(root(&directory), "a=2 b=3 c=1 <x> <s>");
    let config = read(&directory).expect("config");
    let section = config.root().sections("s").next().expect("section");
    assert_eq!(section.get("p"), Some("1"));
    assert_eq!(section.children().count(), 1);
}

#[test]
fn patterns_are_sorted_and_skip_dot_files() {
    let directory = files(&[
        (
            "main.conf",
            "@include d/*.conf\n@include \"#{'e'}/**/x?.conf\"\n@include file:d/b.conf",
        ),
        ("d/b.conf", "<b>\n</b>"),
        ("d/a.conf", "<a>\n</a>"),
        ("d/.hidden.conf", "<hidden>\n</hidden>"),
        ("e/f/x1.conf", "<x1>\n</x1>"),
        ("e/x2.conf", "<x2>\n</x2>"),
    ]);
    assert_eq!(root(&directory), "<a> <b> <x1> <x2> <b>");
}

#[test]
fn an_old_include_works_at_the_top_and_is_a_parameter_elsewhere() {
    let directory = files(&[
        ("main.conf", "include a.conf\n<s>\ninclude a.conf\n</s>"),
        ("a.conf", "<a>\n</a>"),
    ]);
    assert_eq!(root(&directory), "<a> <s>");
    let config = read(&directory).expect("config");
    assert!(
        config.warnings()[0]
            .line()
            .ends_with("'include' is deprecated. Use '@include' instead")
    );
    let section = config.root().sections("s").next().expect("section");
    assert_eq!(section.get("include"), Some("a.conf"));
}

#[test]
fn a_missing_file_is_an_error_and_a_pattern_without_files_a_warning() {
    let directory = files(&[(
        "main.conf",
        "@include none.conf\n@include none/*.conf\n@include %41.conf",
    )]);
    let error = read(&directory).expect_err("missing");
    assert_eq!(
        error,
        "main.conf:1: cannot include none.conf: no such file\n\
         main.conf:3: cannot include A.conf: no such file"
    );
    let directory = files(&[("main.conf", "@include none/*.conf")]);
    let config = read(&directory).expect("config");
    assert!(
        config.warnings()[0]
            .line()
            .contains("no file matches this @include")
    );
}

#[test]
fn files_that_include_each_other_are_named() {
    let directory = files(&[
        ("main.conf", "@include a.conf"),
        ("a.conf", "\n@include ./b.conf"),
        ("b.conf", "@include a.conf"),
    ]);
    let error = read(&directory).expect_err("loop");
    assert!(
        error.starts_with("./b.conf:1: cannot include a.conf: the files include each other: "),
        "{error}"
    );
    assert!(error.ends_with("a.conf -> b.conf -> a.conf"), "{error}");
}

#[test]
fn a_file_may_be_included_twice() {
    let directory = files(&[
        ("main.conf", "@include a.conf\n@include a.conf"),
        ("a.conf", "<a>\n</a>"),
    ]);
    assert_eq!(root(&directory), "<a> <a>");
}

#[test]
fn errors_of_all_files_are_reported_in_one_run() {
    let directory = files(&[
        (
            "main.conf",
            "a 'x\n@include a.conf\n@include https://example.com/x\n<s>\n",
        ),
        ("a.conf", "\nb [1,]\n</s>"),
    ]);
    let error = read(&directory).expect_err("errors");
    let starts: Vec<_> = error
        .lines()
        .map(|line| line.split(": ").next().unwrap_or(""))
        .collect();
    assert_eq!(
        starts,
        [
            "a.conf:2",
            "a.conf:3",
            "main.conf:1",
            "main.conf:3",
            "main.conf:4"
        ],
        "{error}"
    );
    assert!(error.contains("@include over the network is not supported"));
}

#[test]
fn what_is_no_text_is_refused_with_its_place_or_size() {
    let directory = files(&[("main.conf", "")]);
    let path = directory.path().join("main.conf");
    let check = |bytes: &[u8], message: &str| {
        fs::write(&path, bytes).expect("write");
        assert_eq!(
            read(&directory).expect_err(message),
            format!("main.conf: {message}")
        );
    };
    check(b"abc\xff", "the file is not UTF-8 (at byte 3)");
    check(b"ab\0c", "the file contains a NUL (at byte 2)");
    check(
        &vec![b'#'; (1 << 20) + 1],
        "the file has 1048577 bytes, more than the 1048576 that a configuration may have",
    );
    fs::remove_file(&path).expect("remove");
    assert_eq!(
        read(&directory).expect_err("missing"),
        "main.conf: no such file"
    );
    fs::create_dir(&path).expect("directory");
    assert_eq!(
        read(&directory).expect_err("directory"),
        "main.conf: this is a directory, not a file"
    );
}

#[test]
fn the_inline_configuration_comes_last() {
    let directory = files(&[("main.conf", "a 1\nb 1"), ("x.conf", "c 1")]);
    let options = LoadOptions {
        inline: Some("b 2\\n@include x.conf\\n<s>\\n</s>".to_owned()),
        ..LoadOptions::default()
    };
    let config = load(&directory.path().join("main.conf"), &options).expect("config");
    let pairs: Vec<_> = config.root().entries().collect();
    assert_eq!(
        pairs,
        [("a", Some("1")), ("b", Some("2")), ("c", Some("1"))]
    );
    let wrong = LoadOptions {
        inline: Some("</s>".to_owned()),
        ..LoadOptions::default()
    };
    let errors = load(&directory.path().join("main.conf"), &wrong).expect_err("error");
    assert!(errors.to_string().starts_with("inline configuration:1: "));
}

#[test]
fn a_relative_path_needs_no_directory() {
    assert!(load(Path::new("no-such-file.conf"), &LoadOptions::default()).is_err());
    assert_eq!(percent_decoded("a%20b%zz%4"), "a b%zz%4");
}
