use super::*;
use crate::event::{Entries, EventTime, record};
use crate::filter::testing::section;
use proptest::prelude::*;

fn batch(records: &[&[(&str, &str)]]) -> (Bytes, usize) {
    let mut batch = Entries::default();
    for fields in records {
        let mut record = batch.begin(EventTime { sec: 1, nsec: 2 });
        fields
            .iter()
            .for_each(|(key, value)| record.bin(key, value.as_bytes()));
        record.finish();
    }
    batch.freeze()
}

fn texts(filtered: &Filtered) -> Vec<String> {
    let text = |record| {
        String::from_utf8_lossy(record::find_text(record, "m").unwrap_or(b"-")).into_owned()
    };
    let kept: Vec<String> = entries(&filtered.entries)
        .map(|entry| text(entry.expect("whole").record))
        .collect();
    assert_eq!(kept.len(), filtered.count);
    kept
}

fn rule(name: &str, key: &str, pattern: &str) -> Element {
    section(name, &[("key", key), ("pattern", pattern)], vec![])
}

fn grep(children: Vec<Element>) -> Box<dyn Filter> {
    configure(&section("filter", &[], children)).expect("valid")
}

fn kept(filter: &dyn Filter, lines: &[&str]) -> Vec<String> {
    let records: Vec<[(&str, &str); 1]> = lines.iter().map(|line| [("m", *line)]).collect();
    let records: Vec<&[(&str, &str)]> = records.iter().map(|record| &record[..]).collect();
    let (entries, count) = batch(&records);
    texts(&filter.apply(&Tag::new("t"), entries, count))
}

#[test]
fn regexp_keeps_and_exclude_drops() {
    let filter = grep(vec![
        rule("regexp", "m", "/^a/i"),
        rule("exclude", "m", "z"),
    ]);
    assert_eq!(kept(&*filter, &["ab", "Ab", "ba", "az"]), ["ab", "Ab"]);
}

#[test]
fn a_missing_field_is_empty_text() {
    let filter = grep(vec![rule("regexp", "other", "^$")]);
    assert_eq!(kept(&*filter, &["x"]), ["x"]);
}

#[test]
fn groups_join_as_in_fluentd() {
    let or = section(
        "or",
        &[],
        vec![rule("regexp", "m", "a"), rule("regexp", "n", "b")],
    );
    let and = section(
        "and",
        &[],
        vec![rule("exclude", "m", "x"), rule("exclude", "$.m", "y")],
    );
    // `$.m` and `m` are one key to us and to Ruby alike, but a key may stand in different groups.
    let error = configure(&section("filter", &[], vec![and]))
        .err()
        .expect("a repeated key");
    assert!(error.to_string().contains("stands twice"), "{error}");
    let and = section(
        "and",
        &[],
        vec![rule("exclude", "m", "x"), rule("exclude", "k", "^$")],
    );
    let filter = grep(vec![or, and]);
    assert_eq!(kept(&*filter, &["a", "ax", "c"]), ["a"]);
}

#[test]
fn old_parameters_take_the_pattern_as_it_stands() {
    let filter = configure(&section(
        "filter",
        &[("regexp1", "m ^a b"), ("exclude1", "m z")],
        vec![],
    ))
    .expect("valid");
    assert_eq!(kept(&*filter, &["a b", "a bz", "ab"]), ["a b"]);
}

#[test]
fn a_key_through_a_scalar_keeps_the_record() {
    let filter = grep(vec![rule("regexp", "$.m[0]", "never")]);
    assert_eq!(kept(&*filter, &["x"]), ["x"]);
}

#[test]
fn a_batch_that_is_kept_whole_is_not_copied() {
    let filter = grep(vec![rule("exclude", "m", "never")]);
    let (entries, count) = batch(&[&[("m", "a")], &[("m", "b")]]);
    let filtered = filter.apply(&Tag::new("t"), entries.clone(), count);
    assert_eq!(filtered.entries.as_ptr(), entries.as_ptr());
}

#[test]
fn text_that_is_not_utf8_is_matched_with_question_marks() {
    let pattern = Pattern::compile("^a\\?b$", Flags::default()).expect("compiles");
    assert!(is_match(&pattern, b"a\xffb"));
}

#[test]
fn wrong_sections_are_errors_all_at_once() {
    let children = vec![
        section("regexp", &[("key", "a")], vec![]),
        rule("regexp", "b", "("),
        section(
            "and",
            &[],
            vec![rule("regexp", "c", "x"), rule("exclude", "c", "x")],
        ),
    ];
    let errors = configure(&section("filter", &[], children))
        .err()
        .expect("wrong");
    assert_eq!(errors.iter().count(), 3, "{errors}");
}

proptest! {
    #[test]
    fn what_is_kept_is_what_matches(lines in proptest::collection::vec("[abc]{0,4}", 0..30)) {
        let filter = grep(vec![rule("regexp", "m", "a")]);
        let lines: Vec<&str> = lines.iter().map(String::as_str).collect();
        let expected: Vec<&str> = lines.iter().copied().filter(|line| line.contains('a')).collect();
        prop_assert_eq!(kept(&*filter, &lines), expected);
    }
}
