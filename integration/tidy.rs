//! The house rules that a reader relies on: imports go one way, files and functions stay short.
//!
//! Goals are lower than these limits (300 lines a file, 25 a function); lower the limits when the tree allows it, never raise them.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

const FILE_LINES: usize = 500;
const FUNCTION_LINES: usize = 70;

/// Which rooms a room may import from, in the order of the flow. What is not listed is not allowed.
const MAY_IMPORT: &[(&str, &[&str])] = &[
    ("stop", &[]),
    ("config", &[]),
    ("event", &[]),
    ("aws", &["config"]),
    ("logger", &[]),
    ("signal", &[]),
    ("args", &[]),
    ("process", &["args"]),
    ("parse", &["event", "config"]),
    ("format", &["event", "config"]),
    ("buffer", &["event", "config"]),
    ("input", &["parse", "event", "config", "stop"]),
    ("filter", &["parse", "event", "config"]),
    ("route", &["filter", "event", "config"]),
    (
        "output",
        &["buffer", "format", "aws", "event", "config", "stop"],
    ),
    ("flush", &["buffer", "output", "event", "config", "stop"]),
    (
        "agent",
        &[
            "input", "parse", "filter", "route", "buffer", "flush", "output", "event", "config",
            "stop", "logger",
        ],
    ),
    (
        "drain",
        &[
            "agent", "output", "aws", "buffer", "config", "stop", "event",
        ],
    ),
    ("control", &[]),
    (
        "run",
        &[
            "args", "logger", "signal", "process", "control", "config", "output", "flush", "agent",
            "aws", "drain", "buffer", "format",
        ],
    ),
    ("main", &["args", "run"]),
    ("lib", &[]),
];

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

fn sources(folder: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut folders = vec![root().join(folder)];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).expect("a folder of the house") {
            let path = entry.expect("an entry").path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                found.push(path);
            }
        }
    }
    found.sort();
    found
}

fn is_test_file(path: &Path) -> bool {
    let name = path.file_stem().expect("a name").to_string_lossy();
    name == "tests" || name.ends_with("_tests")
}

/// The code before the tests module of a file.
fn without_tests(text: &str) -> &str {
    let end = text.find("#[cfg(test)]\nmod tests {").unwrap_or(text.len());
    &text[..end]
}

fn room_of(path: &Path) -> String {
    let inside = path.strip_prefix(root().join("src")).expect("below src");
    let first = inside
        .components()
        .next()
        .expect("a component")
        .as_os_str()
        .to_string_lossy();
    first.trim_end_matches(".rs").to_owned()
}

/// The rooms that a text names as `crate::room`.
fn imported_rooms(text: &str) -> Vec<String> {
    let mut rooms = Vec::new();
    for (at, _) in text.match_indices("crate::") {
        let after_word = at.checked_sub(1).is_some_and(|before| {
            text.as_bytes()[before].is_ascii_alphanumeric() || text.as_bytes()[before] == b'_'
        });
        let rest = &text[at + "crate::".len()..];
        let name: String = rest
            .chars()
            .take_while(|c| c.is_ascii_alphanumeric() || *c == '_')
            .collect();
        if !after_word && !name.is_empty() {
            rooms.push(name);
        }
    }
    rooms
}

#[test]
fn imports_go_one_way() {
    let allowed: BTreeMap<_, _> = MAY_IMPORT.iter().copied().collect();
    let mut wrong = Vec::new();
    for path in sources("src")
        .into_iter()
        .filter(|path| !is_test_file(path))
    {
        let room = room_of(&path);
        let text = fs::read_to_string(&path).expect("readable");
        let code: String = without_tests(&text)
            .lines()
            .filter(|line| !line.trim_start().starts_with("//"))
            .collect::<Vec<_>>()
            .join("\n");
        let list = allowed
            .get(room.as_str())
            .unwrap_or_else(|| panic!("the room {room} is not in the table"));
        for imported in imported_rooms(&code) {
            if imported != room && !list.contains(&imported.as_str()) {
                wrong.push(format!("{} imports {imported}", path.display()));
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn no_two_rooms_import_each_other() {
    let allowed: BTreeMap<_, _> = MAY_IMPORT.iter().copied().collect();
    for (room, imports) in MAY_IMPORT {
        for imported in *imports {
            assert!(
                !allowed[imported].contains(room),
                "{room} and {imported} may import each other"
            );
        }
    }
}

#[test]
fn files_are_short() {
    let long: Vec<_> = ["src", "integration", "benches"]
        .iter()
        .flat_map(|folder| sources(folder))
        .filter(|path| !is_test_file(path))
        .filter_map(|path| {
            let lines = without_tests(&fs::read_to_string(&path).expect("readable"))
                .lines()
                .count();
            (lines > FILE_LINES).then(|| format!("{}: {lines} lines", path.display()))
        })
        .collect();
    assert!(
        long.is_empty(),
        "longer than {FILE_LINES} lines without tests: {long:#?}"
    );
}

#[test]
fn functions_are_short() {
    let mut long = Vec::new();
    for path in ["src", "integration", "benches"]
        .iter()
        .flat_map(|folder| sources(folder))
    {
        let text = fs::read_to_string(&path).expect("readable");
        let lines: Vec<_> = text.lines().collect();
        for (number, line) in lines.iter().enumerate() {
            let trimmed = line.trim_start();
            let indent = line.len() - trimmed.len();
            let opens = [
                "fn ",
                "pub fn ",
                "async fn ",
                "pub async fn ",
                "pub(crate) fn ",
                "pub(super) fn ",
                "pub(super) async fn ",
            ];
            if !opens.iter().any(|head| trimmed.starts_with(head)) {
                continue;
            }
            // rustfmt closes a function at its own indentation.
            let close = format!("{}}}", " ".repeat(indent));
            let end = lines[number..]
                .iter()
                .position(|line| *line == close || line.ends_with(';') && number == 0);
            if let Some(length) = end.filter(|length| *length > FUNCTION_LINES) {
                long.push(format!("{}:{}: {length} lines", path.display(), number + 1));
            }
        }
    }
    assert!(
        long.is_empty(),
        "longer than {FUNCTION_LINES} lines: {long:#?}"
    );
}

#[test]
fn nothing_is_left_for_later() {
    let marks = [
        "TO".to_owned() + "DO",
        "FIX".to_owned() + "ME",
        "unimplemented".to_owned() + "!",
        "X".repeat(3),
    ];
    for path in ["src", "integration", "benches"]
        .iter()
        .flat_map(|folder| sources(folder))
    {
        let text = fs::read_to_string(&path).expect("readable");
        for mark in &marks {
            assert!(
                !text.contains(mark.as_str()),
                "{} says {mark}",
                path.display()
            );
        }
    }
}
