use super::super::tests::{NOW, events_of, section};
use super::*;
use proptest::prelude::*;
use serde_json::json;

fn parser(formats: &[&str], first_line: Option<&str>) -> MultilineParser {
    let formats: Vec<String> = formats.iter().map(|format| (*format).to_owned()).collect();
    let (section, common) = (section(), Common::default());
    let flags = Flags::default();
    MultilineParser::new(&section, &common, &formats, first_line, flags).expect("a parser")
}

fn stack_traces() -> MultilineParser {
    parser(
        &[r"^\[(?<level>\w+)\] ", r"(?<message>.*)"],
        Some(r"/^\[\w+\]/"),
    )
}

#[test]
fn a_first_line_completes_the_text_before_it() {
    let parser = stack_traces();
    let joining = parser.joining().expect("joins");
    let mut joiner = Joiner::new();
    assert_eq!(joiner.push(b"  lost\n", joining), Joined::Stray);
    assert_eq!(joiner.push(b"[E] one\n", joining), Joined::Held);
    assert_eq!(joiner.push(b"  at x\r\n", joining), Joined::Held);
    assert_eq!(joiner.held_bytes(), 16);
    assert_eq!(
        joiner.push(b"[W] two\n", joining),
        Joined::Complete(b"[E] one\n  at x".to_vec())
    );
    assert_eq!(joiner.held_bytes(), 8);
    assert_eq!(joiner.flush(), Some(b"[W] two".to_vec()));
    assert_eq!((joiner.flush(), joiner.held_bytes()), (None, 0));
}

#[test]
fn joined_texts_are_parsed_with_a_dot_that_matches_newlines() {
    let events = events_of(&mut stack_traces(), b"[E] one\n  at x");
    assert_eq!(
        events,
        [(NOW, json!({"level": "E", "message": "one\n  at x"}))]
    );
}

#[test]
fn without_a_first_line_a_text_ends_where_it_matches() {
    let mut parser = parser(&[r"(?<a>\d+)\n", r"end (?<b>\w+)$"], None);
    let joining = parser.joining().expect("joins");
    let mut joiner = Joiner::new();
    assert_eq!(joiner.push(b"rubbish\n", joining), Joined::Held);
    assert_eq!(joiner.push(b"12\n", joining), Joined::Held);
    let Joined::Complete(text) = joiner.push(b"end x\n", joining) else {
        panic!("not complete");
    };
    assert_eq!(joiner.held_bytes(), 0);
    assert_eq!(
        events_of(&mut parser, &text),
        [(NOW, json!({"a": "12", "b": "x"}))]
    );
}

#[test]
fn what_is_behind_a_match_is_parsed_again() {
    let mut parser = parser(&[r"(?<n>\d+);"], Some("/x/"));
    let events = events_of(&mut parser, b"1;\n2;3;");
    assert_eq!(events.len(), 3);
    let mut batch = Entries::default();
    let parsed = parser.parse(b"1;rest", NOW, Extra::default(), &mut batch);
    let partly = Partly {
        events: 1,
        unmatched: 1,
        from: 2,
        invalid: None,
    };
    assert_eq!((parsed, batch.count()), (Parsed::Partly(partly), 1));
}

#[test]
fn what_is_held_is_bounded() {
    let joining = Joining {
        when: When::FirstLine(Pattern::compile("^F", Flags::default()).expect("a pattern")),
        bound: 10,
    };
    let mut joiner = Joiner::new();
    joiner.push(b"First\n", &joining);
    assert_eq!(
        joiner.push(b"second\n", &joining),
        Joined::Complete(b"First".to_vec())
    );
    assert_eq!(joiner.held_bytes(), 7);
}

proptest! {
    /// The position that a source would save is exactly where the texts that it got end, whatever the lines are.
    #[test]
    fn texts_and_held_bytes_cover_every_line_but_the_strays(lines in proptest::collection::vec("(\\[E\\] )?[a-c ]{0,6}\n", 0..40), flush_at in 0usize..40) {
        let parser = stack_traces();
        let joining = parser.joining().expect("joins");
        let mut joiner = Joiner::new();
        let (mut given, mut expected) = (Vec::new(), Vec::new());
        for (at, line) in lines.iter().enumerate() {
            match joiner.push(line.as_bytes(), joining) {
                Joined::Complete(text) => {
                    given.extend_from_slice(&text);
                    given.push(b'\n');
                }
                Joined::Held | Joined::Stray => {}
            }
            let stray = joiner.held_bytes() == 0;
            if !stray {
                expected.extend_from_slice(line.as_bytes());
            }
            prop_assert_eq!(given.len() + joiner.held_bytes(), expected.len());
            if at == flush_at && let Some(text) = joiner.flush() {
                given.extend_from_slice(&text);
                given.push(b'\n');
            }
        }
        if let Some(text) = joiner.flush() {
            given.extend_from_slice(&text);
            given.push(b'\n');
        }
        prop_assert_eq!(given, expected);
    }
}
