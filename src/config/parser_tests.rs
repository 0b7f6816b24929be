use proptest::prelude::*;

use crate::config::{Config, LoadOptions, World, parse_text};

fn world() -> World {
    World {
        env: [
            ("SET", "value"),
            ("PORT", "24224"),
            ("EMPTY", ""),
            ("QUOTE", "a\"b"),
        ]
        .map(|(key, value)| (key.to_owned(), value.to_owned()))
        .into(),
        hostname: "web-1".to_owned(),
    }
}

fn read(text: &str) -> Result<Config, String> {
    let options = LoadOptions {
        world: world(),
        ..LoadOptions::default()
    };
    parse_text("test.conf", text, &options).map_err(|errors| {
        let lines: Vec<_> = errors.iter().map(|error| error.line()).collect();
        lines.join("\n")
    })
}

/// The value of `a` in a text.
fn value(text: &str) -> Result<String, String> {
    let config = read(text)?;
    let value = config.root().get("a").map(str::to_owned);
    value.ok_or_else(|| "nil".to_owned())
}

#[track_caller]
fn check(text: &str, expected: &str) {
    assert_eq!(value(text).as_deref(), Ok(expected), "{text:?}");
}

#[track_caller]
fn refused(text: &str, message: &str) {
    let error = value(text).expect_err(text);
    assert!(error.contains(message), "{text:?}: {error}");
}

#[test]
fn a_hash_is_a_comment_only_behind_a_blank_inside_a_plain_value() {
    check("a x#y", "x#y");
    check("a x #y", "x");
    check("a b#", "b#");
    check("a b #", "b");
    check("a #foo", "#foo");
    check("a /^a #x$/", "/^a");
    check("a /a# b/", "/a# b/");
    check("a x\t#y", "x");
    check("  a  x  y  ", "x  y");
}

#[test]
fn line_ends_are_cr_lf_and_crlf() {
    check("a 1\rb 2", "1");
    check("a 1\r\nb 2", "1");
    check("b 1\ra 2\r", "2");
    check("\u{feff}a 1", "1");
    check("# x\r\n\r\n\ta\t1\t# y\r\n", "1");
}

#[test]
fn a_key_alone_has_an_empty_value() {
    check("a", "");
    check("a   ", "");
    check("a\nb 1", "");
    check("a\rb 1", "");
    check("a\r\nb 1", "");
}

#[test]
fn keys_may_be_quoted_and_hold_almost_anything() {
    let config =
        read("a.b-c/d 1\n$x 2\nschlüssel 3\n\"with blank\" 4\n'q' 5\nk#x 6").expect("config");
    let root = config.root();
    let pairs: Vec<_> = root.entries().collect();
    let expected = [
        ("a.b-c/d", Some("1")),
        ("$x", Some("2")),
        ("schlüssel", Some("3")),
        ("with blank", Some("4")),
        ("q", Some("5")),
        ("k#x", Some("6")),
    ];
    assert_eq!(pairs, expected);
}

#[test]
fn the_last_of_repeated_keys_counts_and_repeated_sections_stay() {
    let config = read("a 1\nb 2\na 3\n<s x>\n</s>\n<t>\n</t>\n<s y>\n</s>").expect("config");
    let pairs: Vec<_> = config.root().entries().collect();
    assert_eq!(pairs, [("a", Some("3")), ("b", Some("2"))]);
    let args: Vec<_> = config.root().sections("s").map(|s| s.arg()).collect();
    assert_eq!(args, [Some("x"), Some("y")]);
}

#[test]
fn double_quotes_have_escapes_and_may_span_lines() {
    check(r#"a "x\"y\'\r\n\t\f\b\0""#, "x\"y'\r\n\t\u{c}\u{8}\0");
    check(r##"a "\/\#\\ \#{x}""##, "/#\\ #{x}");
    check("a \"x\ny\"", "x\ny");
    check("a \"x\\\ny\"", "xy");
    check("a \"x\\\r\ny\"", "xy");
    check("a \"\nx\n\ny\\t\nz\"", "\nx\n\ny\t\nz");
    check("a \"x\r\n\r\ny\"", "x\r\n\r\ny");
    check("a \"x\" # comment", "x");
    refused(r#"a "\q""#, "unexpected back-slash escape character 'q'");
    refused(
        "a \"x\ny",
        "the double-quoted string that starts here does not end",
    );
    refused(r#"a "x""y""#, "expected end of line");
    refused(r#"a "x" y"#, "expected end of line");
}

#[test]
fn single_quotes_keep_almost_everything_and_end_on_their_line() {
    check(r"a 'x\'y\\z\t#{ENV}'", r"x'y\z\t#{ENV}");
    refused("a 'x\ny'", "does not end on its line");
}

#[test]
fn json_values_span_lines_and_come_out_compact() {
    check("a [\"x\", # one\n \"y\" # two\n]", r#"["x","y"]"#);
    check(
        r#"a {"b": 1.50, "a": [1e3, null, true]}"#,
        r#"{"b":1.5,"a":[1000.0,null,true]}"#,
    );
    check(r#"a {"k":1,"l":2,"k":3}"#, r#"{"k":3,"l":2}"#);
    check(
        r##"a ["#{ENV['SET']}", #{1 + 1}, "]#"]"##,
        r##"["value",2,"]#"]"##,
    );
    check(r##"a ["#{ENV['QUOTE']}"]"##, r#"["a\"b"]"#);
    check("a {\"x\": [1, # nested\n2]}", r#"{"x":[1,2]}"#);
    refused("a [1, 2", "got incomplete JSON array configuration");
    refused("a {\"x\"", "got incomplete JSON hash configuration");
    refused("a [1,]", "not a JSON array");
    refused("a [1] 2", "expected end of line");
}

#[test]
fn sections_take_raw_or_quoted_arguments() {
    let arg = |text: &str| {
        let config = read(&format!("{text}\n</s>"))?;
        let section = config.root().children().next().expect("section");
        Ok::<_, String>(section.arg().map(str::to_owned))
    };
    assert_eq!(arg("<s a.** # c>"), Ok(Some("a.** # c".to_owned())));
    assert_eq!(arg("<s  a  b >"), Ok(Some("a  b".to_owned())));
    assert_eq!(
        arg("<s \"app.#{ENV['SET']}.**\" > # c"),
        Ok(Some("app.value.**".to_owned()))
    );
    assert_eq!(arg("<s 'x>y'>"), Ok(Some("x>y".to_owned())));
    assert_eq!(arg("<s>"), Ok(None));
    assert_eq!(arg("<s []>"), Ok(Some("[]".to_owned())));
    assert!(arg("<s-t>").is_err());
    assert!(arg("<s x\ny>").is_err());
    assert!(arg("<s \"x\"y>").is_err());
}

#[test]
fn only_blanks_and_comments_may_stand_behind_a_tag() {
    refused("<a><b>\n</b></a>", "expected end of line after tag");
    refused(
        "<match x> @type y\n</match>",
        "expected end of line after tag",
    );
    assert_eq!(
        read("<a> x\n<b>\n</b> y\n</a> z")
            .expect_err("three")
            .lines()
            .count(),
        3
    );
    refused("<a>\n</a> x", "expected end of line after end tag");
    assert!(read("<a>\n</a >").is_ok());
    assert!(read("<a> # x\n</a> # y").is_ok());
    assert!(read("<>\n</>").is_ok());
    refused("<a>\n</ a>", "expected character in tag name");
}

#[test]
fn unclosed_sections_name_both_places() {
    refused(
        "<match x>\n  <server>\n</match>",
        "test.conf:3: in <match x> > <server>: unmatched end tag: expected '</server>' but got '</match>'",
    );
    refused(
        "a 1\n<match x>\n",
        "test.conf:2: in <match x>: expected end tag '</match>' but got end of file",
    );
    refused("</match>", "unmatched end tag: no section is open here");
}

#[test]
fn keys_with_at_are_reserved_in_plugin_sections_and_warned_about_elsewhere() {
    refused("@foo 1", "'@' is the system reserved prefix");
    refused("<source>\n@tpye tail\n</source>", "did you mean '@type'?");
    let config = read("<source>\n<x>\n@foo 1\n</x>\n</source>").expect("config");
    assert_eq!(config.warnings().len(), 1);
}

#[test]
fn every_line_that_cannot_be_read_is_reported_in_one_run() {
    let error = read("a 'x\n<source>\n@foo 1\nb \"\\q\"\n</source>\nc [1,]").expect_err("errors");
    assert_eq!(error.lines().count(), 4, "{error}");
}

#[test]
fn use_nil_and_use_default_stand_for_the_whole_value() {
    let config = read("a \"#{use_nil}x\"\nb \"#{ENV['NONE'] || use_default}\"").expect("config");
    assert_eq!(config.root().get("a"), None);
    assert!(config.root().has("a"));
    assert!(!config.root().has("b"));
}

#[test]
fn sections_may_not_be_nested_without_end() {
    let text = format!("{}{}", "<a>\n".repeat(10_000), "</a>\n".repeat(10_000));
    assert!(
        read(&text)
            .expect_err("too deep")
            .contains("more than 64 sections in each other")
    );
    let text = format!("a {}{}", "[".repeat(10_000), "]".repeat(10_000));
    assert!(
        read(&text)
            .expect_err("too deep")
            .contains("not a JSON array")
    );
}

/// The tree as text, for comparisons.
fn tree(element: &crate::config::Element) -> String {
    let params: Vec<_> = element.entries().collect();
    let children: Vec<_> = element.children().map(tree).collect();
    format!(
        "{} {:?} {params:?} {children:?}",
        element.name(),
        element.arg()
    )
}

proptest! {
    #[test]
    fn the_parser_never_panics(text in "[ -~\t\r\n\u{e9}]{0,200}") {
        let _ = read(&text);
    }

    #[test]
    fn the_parser_never_panics_on_things_that_look_like_a_configuration(
        words in proptest::collection::vec(
            prop::sample::select(vec![
                "<a>\n", "</a>\n", "<b ", ">\n", "key ", "\"", "'", "#{", "}", "[", "]", "{", "\\", "#", "\r\n", "\n",
                "ENV['SET']", "||", "@type ", "@include ", "x", ",", "\u{feff}", "é", " ", "password ", "(", ")",
            ]),
            0..60,
        )
    ) {
        if let Err(errors) = parse_text("t", &words.concat(), &LoadOptions { world: world(), ..LoadOptions::default() }) {
            prop_assert!(!errors.to_string().is_empty());
        }
    }

    #[test]
    fn the_dump_reads_back_as_the_same_tree(
        params in proptest::collection::vec(("[ -~\n\té]{1,8}", "[ -~\n\r\té\u{0}]{0,12}"), 0..6),
        arg in "[ -~\té]{0,8}",
    ) {
        let quote = |text: &str| serde_json::Value::from(text).to_string().replace('#', "\\#").replace("\\u0000", "\\0");
        let mut text = format!("<s {}>\n", quote(&arg));
        for (key, value) in params.iter().filter(|(key, _)| !key.starts_with('@') ) {
            text += &format!("{} {}\n", quote(key), quote(value));
        }
        text += "</s>\n";
        let first = read(&text).expect("first reading");
        let second = read(&first.dump()).expect("second reading");
        let dumped = second.root().children().next().expect("ROOT");
        prop_assert_eq!(tree(first.root()), tree(dumped));
    }
}
