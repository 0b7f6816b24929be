use crate::config::{Config, Element, Result};

/// The rendered errors of a text.
fn rendered(text: &str) -> String {
    Config::from_text(text).expect_err(text).to_string()
}

fn section(config: &Config) -> Result<Element> {
    Ok(config.root().children().next().expect("section").clone())
}

#[track_caller]
fn shows(actual: &str, expected: &str) {
    let expected = expected.strip_prefix('\n').expect("starts on its own line");
    assert_eq!(actual.trim_end(), expected.trim_end(), "\n{actual}");
}

#[test]
fn a_line_that_cannot_be_read_is_shown_and_underlined() {
    shows(
        &rendered("<source>\n  @type tail\n  path \"a\\q\"\n</source>\n"),
        r#"
text:3: in <source>: path: unexpected back-slash escape character 'q' (write \\ for a backslash, or use single quotes)
 --> text:3:10
  |
3 |   path "a\q"
  |          ^
"#,
    );
}

#[test]
fn an_unclosed_section_shows_where_it_opened_and_where_its_end_is_missed() {
    shows(
        &rendered("<match **>\n  <server>\n    host x\n</match>\n"),
        "
text:4: in <match **> > <server>: unmatched end tag: expected '</server>' but got '</match>'
 --> text:4:1
  |
4 | </match>
  | ^^^^^^^^
  |
 ::: text:2:3
  |
2 |   <server>
  |   -------- the section that is open
",
    );
}

#[test]
fn a_line_behind_a_broken_secret_is_shown_as_its_own() {
    let text = "<server>\nshared_key \"#{`s3cr3t`}\"\nhost h\npassword \"s3cr3t\n</server>";
    let shown = rendered(text);
    assert!(!shown.contains("s3cr3t"), "{shown}");
    let second = shown.find("text:4").expect("two errors");
    shows(
        &shown[second..],
        "
text:4: in <server>: the double-quoted string that starts here does not end
 --> text:4:1
  |
4 | xxxxxx
  | ^^^^^^
",
    );
}

#[test]
fn a_wrong_value_is_underlined_with_what_is_allowed() {
    let config =
        Config::from_text("# first\n<match>\n  port   99999 # why\n</match>").expect("config");
    let element = section(&config).expect("section");
    let error = element.error_at("port", "not a port").help("1 to 65535");
    shows(
        &error.to_string(),
        "
text:3: in <match>: port: not a port (1 to 65535). Got: 99999
 --> text:3:10
  |
3 |   port   99999 # why
  |          ^^^^^
",
    );
}

#[test]
fn embedded_ruby_is_underlined_where_it_is_not_supported() {
    let text = rendered("<s>\n  host \"x#{ENV['A'] || `id`}\"\n</s>");
    let expected = r#"
 --> text:2:24
  |
2 |   host "x#{ENV['A'] || `id`}"
  |                        ^^^^
"#;
    let (line, place) = text.split_once('\n').expect("lines");
    assert!(
        line.contains("this embedded Ruby is not supported (supported are ENV['X'], "),
        "{line}"
    );
    shows(place, expected);
}

#[test]
fn secrets_are_shown_nowhere() {
    let config = Config::from_text(
        "<server>\n  shared_key top\\secret # x\n  password 'two words'\n  host h\n</server>",
    )
    .expect("config");
    let server = section(&config).expect("section");
    shows(
        &server.error_at("shared_key", "is too short").to_string(),
        "
text:2: in <server>: shared_key: is too short. Got: xxxxxx
 --> text:2:14
  |
2 |   shared_key xxxxxx
  |              ^^^^^^
",
    );
    assert_eq!(
        config.dump(),
        "<ROOT>\n  <server>\n    shared_key xxxxxx\n    password xxxxxx\n    host h\n  </server>\n</ROOT>"
    );
    for broken in [
        "password \"hunter2\\q\"",
        "password \"hunter2\nhunter3",
        "password 'hunter2",
        "password hunter2\n<x",
        "\"password\" \"hunter2\" hunter3",
        "tls_private_key_passphrase [hunter2",
        "password \"hunter2\nhunter3\" hunter4",
        "password \"\\q\nhunter2 'x",
    ] {
        let shown = rendered(broken);
        assert!(!shown.contains("hunter"), "{broken}: {shown}");
    }
    config
        .root()
        .children()
        .for_each(|server| server.warn("look"));
    let debug = format!("{config:?} {server:?} {:?}", config.warnings());
    assert!(
        !debug.contains("secret") && !debug.contains("words"),
        "{debug}"
    );

    let said: String = config
        .warnings()
        .iter()
        .chain(&config.unused())
        .map(|w| w.to_string())
        .collect();
    assert!(
        !said.contains("secret") && !said.contains("words"),
        "{said}"
    );
}

#[test]
fn places_stay_right_behind_a_masked_line() {
    let config = Config::from_text("a 1\npassword \"x\ny\nz\" \ntoken abc\n<s>\nkey value\n</s>")
        .expect("config");
    let element = section(&config).expect("section");
    shows(
        &element.error_at("key", "wrong").to_string(),
        "
text:7: in <s>: key: wrong. Got: value
 --> text:7:5
  |
7 | key value
  |     ^^^^^
",
    );
}

#[test]
fn long_values_and_control_characters_are_shown_on_one_line() {
    let config = Config::from_text(&format!("<s>\na \"x\\ny\"\nb {}\n</s>", "v".repeat(500)))
        .expect("config");
    let element = section(&config).expect("section");
    assert!(
        element
            .error_at("a", "wrong")
            .line()
            .ends_with("Got: x\\ny")
    );
    let line = element.error_at("b", "wrong").line();
    assert!(line.len() < 200 && line.ends_with('…'), "{line}");
}

#[test]
fn a_section_that_stands_twice_shows_both() {
    let config =
        Config::from_text("<match>\n<buffer>\n</buffer>\n<buffer tag>\n</buffer>\n</match>")
            .expect("config");
    let errors = section(&config)
        .expect("section")
        .section("buffer")
        .expect_err("twice");
    shows(
        &errors.to_string(),
        "
text:4: in <match> > <buffer tag>: '<buffer>' section cannot be written twice or more
 --> text:4:1
  |
4 | <buffer tag>
  | ^^^^^^^^^^^^
  |
 ::: text:2:1
  |
2 | <buffer>
  | -------- the first one
",
    );
}

#[test]
fn a_plugin_without_a_type_is_an_error_at_its_section() {
    let config = Config::from_text(
        "<match a>\n</match>\n<match b>\ntype null\n@id x\nlog_level debug\n</match>",
    )
    .expect("config");
    let sections: Vec<_> = config.root().sections("match").collect();
    let line = sections[0]
        .plugin_type()
        .expect_err("none")
        .iter()
        .next()
        .expect("one")
        .line();
    assert_eq!(
        line,
        "text:1: in <match a>: Missing '@type' parameter on <match> directive"
    );
    assert_eq!(sections[1].plugin_type().expect("type"), "null");
    assert_eq!(
        (sections[1].id(), sections[1].log_level()),
        (Some("x"), Some("debug"))
    );
    assert!(config.unused().is_empty());
}
