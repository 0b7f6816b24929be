use std::sync::Arc;
use std::time::{Instant, SystemTime};

use proptest::prelude::*;

use super::*;
use crate::buffer::{ChunkKey, KeyField, Variable};
use crate::event::Tag;
use crate::event::accessor::Accessor;

/// 2024-01-02 03:04:05 UTC.
const SEC: i64 = 1_704_164_645;

fn keys(tag: bool, time: Option<u32>, fields: &[&str]) -> ChunkKeys {
    let field = |key: &&str| KeyField {
        key: Arc::from(*key),
        accessor: Accessor::parse(key).expect("well formed"),
    };
    ChunkKeys {
        tag,
        time: time.map(|seconds| Timekey::new(seconds, TimeZone::UTC)),
        fields: fields.iter().map(field).collect(),
    }
}

fn chunk(tag: &str, variables: &[(&str, &[u8])]) -> Chunk {
    let variable = |(key, value): &(&str, &[u8])| Variable {
        key: Arc::from(*key),
        value: (*value).into(),
    };
    let key = ChunkKey {
        variables: Some(variables.iter().map(variable).collect()),
        ..ChunkKey::of_tag(Tag::new(tag))
    };
    Chunk::new(key, Instant::now(), SystemTime::now())
}

fn filled(text: &str, chunk: &Chunk) -> String {
    let template = Template::new(text, None).expect("valid");
    template.fill(SEC, chunk).expect("filled")
}

#[test]
fn tags_fields_and_ids_are_filled_in() {
    let chunk = chunk(
        "app.web.access",
        &[("host", b"\xa2h1"), ("$.k.n", b"\x07"), ("gone", b"\xc0")],
    );
    assert_eq!(
        filled("${tag}|${tag[0]}|${tag[-1]}|${tag[7]}|", &chunk),
        "app.web.access|app|access||"
    );
    assert_eq!(
        filled("${host}-${$.k.n}-${gone}-${other}", &chunk),
        "h1-7--"
    );
    assert_eq!(filled("${chunk_id}", &chunk), chunk.id().to_string());
    assert_eq!(filled("${not a key}${", &chunk), "${not a key}${");
}

#[test]
fn times_are_the_begin_of_the_slice_in_its_zone() {
    let time = Timekey::new(3600, TimeZone::fixed(jiff::tz::offset(9)));
    let template = Template::new("%Y/%m%d/%H-${tag}", Some(&time)).expect("valid");
    let text = template.fill(SEC, &chunk("a%Hb", &[])).expect("filled");
    // What a tag brings is no time format.
    assert_eq!(text, "2024/0102/12-a%Hb");
    let literal = Template::new("100%H", None).expect("valid");
    let text = literal.fill(SEC, &chunk("a", &[])).expect("filled");
    assert_eq!(text, "100%H");
}

#[test]
fn values_do_not_lead_out_of_a_path_and_are_not_expanded_again() {
    for tag in ["../../etc/passwd", "/etc/passwd", "..", "..\\x"] {
        let template = Template::new("logs/${tag}", None).expect("valid");
        assert!(template.fill(SEC, &chunk(tag, &[])).is_err(), "{tag}");
    }
    assert_eq!(filled("${tag}", &chunk("${chunk_id}", &[])), "${chunk_id}");
}

#[test]
fn an_outputs_own_keys_must_all_be_there_and_no_others() {
    let check = |text: &str, keys: ChunkKeys| {
        check("path", text, &Chunks::Own(keys)).map_err(|why| {
            assert!(
                why.starts_with(&format!("Parameter 'path: {text}' ")),
                "{why}"
            );
            why
        })
    };
    assert_eq!(check("x", keys(false, None, &[])), Ok(()));
    let all = keys(true, Some(3600), &["host"]);
    assert_eq!(check("${tag[1]}/${host}.%Y%m%d%H", all.clone()), Ok(()));
    for (text, keys, part) in [
        (
            "${tag}",
            keys(false, None, &[]),
            "chunk key 'tag' is not configured",
        ),
        ("x", keys(true, None, &[]), "doesn't have tag placeholder"),
        (
            "%Y",
            keys(false, None, &[]),
            "chunk key 'time' is not configured",
        ),
        (
            "x",
            keys(false, Some(60), &[]),
            "doesn't have timestamp placeholders for timekey 60",
        ),
        (
            "%Y%m%d",
            keys(false, Some(3600), &[]),
            "for timekey 3600: its finest is %d",
        ),
        (
            "x",
            keys(false, None, &["host"]),
            "enough placeholders for keys host",
        ),
        ("${pod}", keys(false, None, &[]), "doesn't have keys pod"),
    ] {
        let why = check(text, keys).expect_err("refused");
        assert!(why.contains(part), "{why}");
    }
    assert_eq!(check("%Y%m", keys(false, Some(86_400), &[])), Ok(()));
}

#[test]
fn a_secondary_may_leave_out_its_primarys_keys_but_not_invent_any() {
    let primary = Chunks::Primarys(keys(true, None, &["host"]));
    assert_eq!(check("path", "x", &primary), Ok(()));
    assert_eq!(check("path", "${tag}/${host}", &primary), Ok(()));
    assert!(check("path", "${pod}", &primary).is_err());
    assert!(check("path", "%Y", &primary).is_err());
    assert_eq!(check("path", "${pod}%Y", &Chunks::Any), Ok(()));
}

proptest! {
    #[test]
    fn a_text_without_placeholders_stays_as_it_is(text in "[^$]{0,40}") {
        prop_assert_eq!(filled(&text, &chunk("a", &[])), text);
    }
}
