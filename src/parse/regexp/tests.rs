use super::*;
use proptest::prelude::*;

/// Each name with what its group matched.
type Named<'t> = Vec<(String, Option<&'t [u8]>)>;

fn find<'t>(expression: &str, text: &'t [u8]) -> Option<Named<'t>> {
    let pattern = Pattern::from_config(expression).unwrap_or_else(|error| panic!("{error}"));
    let mut captures = Captures::default();
    pattern.captures(text, &mut captures).then(|| {
        let names = pattern.names().enumerate();
        names
            .map(|(at, name)| (name.to_owned(), captures.get(at).map(|range| &text[range])))
            .collect()
    })
}

fn whole<'t>(expression: &str, text: &'t str) -> Option<&'t str> {
    let pattern =
        Pattern::compile(expression, Flags::default()).unwrap_or_else(|error| panic!("{error}"));
    let mut captures = Captures::default();
    pattern
        .captures(text.as_bytes(), &mut captures)
        .then(|| &text[captures.whole()])
}

#[test]
fn ruby_syntax_means_what_it_means_in_ruby() {
    for (expression, text, expected) in [
        (r"\h+", "xyzBEEF", Some("BEEF")),
        (r"[\h]+", "xyzbeef", Some("beef")),
        (r"a{2}+b", "aaaab", Some("aaaab")),
        (r"xa{2}?b", "xb", Some("xb")),
        (r"a{,2}b", "aaab", Some("aab")),
        (r"{a{b", "{a{b", Some("{a{b")),
        (r"a**", "aaa", Some("aaa")),
        (r"[]a]+", "x]a]", Some("]a]")),
        (r"[^]]+", "]ab]", Some("ab")),
        (r"[a[bc]]+", "xcab", Some("cab")),
        (r"[a&&b]", "a", None),
        (r"[a-c&&[^b]]+", "bacb", Some("ac")),
        (r"[\w-\.]+", "-a.b", Some("-a.b")),
        (r"(?m:a.b)", "a\nb", Some("a\nb")),
        (r"a.b", "a\nb", None),
        (r"^b$", "a\nb\nc", Some("b")),
        (r"\Aa\z", "a\n", None),
        (r"\Aa\Z", "a\n", Some("a")),
        (r"a(?i)b|c", "aC", Some("aC")),
        (r"(a)(?<n>b)", "ab", Some("ab")),
        (r"\_\-\/\y\<", "_-/y<", Some("_-/y<")),
        (r"(?<a>x)\k<a>", "xx", Some("xx")),
        (r"(x)\1", "xx", Some("xx")),
        (r"(?>a+)b", "aab", Some("aab")),
        (r"a++b", "aab", Some("aab")),
        (r"(?<!a)b", "abb", Some("b")),
        (r"é+", "xéé", Some("éé")),
        (r"[éa]+", "xéaé", Some("éaé")),
        (r"[^éa]+", "axyéx", Some("xy")),
        (r"^[^é]+", "xèé", Some("xè")),
        (r"\u00e9", "é", Some("é")),
        (r"\x41\101\t", "AA\t", Some("AA\t")),
        (r"[[:alpha:]]+", "1ab", Some("ab")),
        (r"\p{Digit}+", "a12", Some("12")),
        (r"(?x) a b # comment", "ab", Some("ab")),
        (r"a(?#comment)b", "ab", Some("ab")),
        (r"\Ra", "\r\na", Some("\r\na")),
    ] {
        assert_eq!(
            whole(expression, text),
            expected,
            "{expression} on {text:?}"
        );
    }
}

#[test]
fn what_ruby_refuses_is_refused_with_the_place() {
    for (expression, before) in [
        (r"ab(?P<x>c)", "ab"),
        (r"a(b", "a"),
        (r"ab)", "ab"),
        (r"*a", ""),
        (r"a[b", "a"),
        (r"(?s)a", ""),
        (r"(?<1a>x)", ""),
        (r"a\", "a"),
        (r"(?<n>x)\1", "(?<n>x)"),
        (r"[b-a]", "[b"),
    ] {
        let error = Pattern::compile(expression, Flags::default()).expect_err(expression);
        assert_eq!(error.before, before, "{error}");
    }
}

#[test]
fn names_may_be_odd_and_of_equal_names_the_last_match_counts() {
    let named = find(r"/(?<a-b.c@d>x)(?<é>y)?/", b"x").expect("a match");
    assert_eq!(
        named,
        [
            ("a-b.c@d".to_owned(), Some(&b"x"[..])),
            ("é".to_owned(), None)
        ]
    );
    for (text, value) in [("1", "1"), ("12", "2")] {
        let named = find(r"/(?<n>1)(?<n>2)?/", text.as_bytes()).expect("a match");
        assert_eq!(named, [("n".to_owned(), Some(value.as_bytes()))]);
    }
}

#[test]
fn texts_are_bytes() {
    assert!(find("/(?<x>^.$)/", b"\xff").is_some());
    assert!(find("/(?<x>^.$)/", "é".as_bytes()).is_none());
    assert!(find(r"/(?<x>^[^ ]*$)/", b"\xe3\x81").is_some());
}

fn whole_characters<'t>(expression: &str, text: &'t [u8]) -> Option<&'t [u8]> {
    let flags = Flags {
        characters: true,
        ..Flags::default()
    };
    let pattern = Pattern::compile(expression, flags).unwrap_or_else(|error| panic!("{error}"));
    let mut captures = Captures::default();
    let found = pattern.captures(text, &mut captures);
    assert_eq!(pattern.is_match(text), found, "{expression}");
    found.then(|| &text[captures.whole()])
}

/// Seen in Ruby 3.1 with texts that are labelled UTF-8.
#[test]
fn texts_of_a_known_encoding_are_characters() {
    for (expression, text, expected) in [
        (r".{2}", "漢字かな", Some("漢字")),
        (r"[ぁ-ん]+", "漢ぁかんx", Some("ぁかん")),
        (r"[^：]+", "x：y", Some("x")),
        (r"[^あ-んx]", "いx漢", Some("漢")),
        (r"[漢字]{2}", "字漢", Some("字漢")),
        (r"エラー+", "エラーーー", Some("エラーーー")),
        (r"\u65e5", "日本語", Some("日")),
        (r"[\u65e0-\u65f0]", "日", Some("日")),
        (r"\bあ", "xあy", None),
        (r"\bあ", "x あ", Some("あ")),
        (r"あ\Bい", "あい", Some("あい")),
        (r"\w+", "あいう", None),
        (r"\W", "あ", Some("あ")),
        (r"\d", "１", None),
        (r"[[:digit:]]", "１", Some("１")),
        (r"\s", "　", None),
        (r"[[:space:]]", "　", Some("　")),
        (r"[[:alpha:]]+", "1あÉー1", Some("あÉー")),
        (r"[[:^alpha:]]", "あ", None),
        (r"[^[:alpha:]]", "あ", None),
        (r"[[:word:]]+", "。é_1", Some("é_1")),
        (r"[[:punct:]]+", "€。+", Some("。+")),
        (r"[[:graph:]]", "　\u{200b}", Some("\u{200b}")),
        (r"[[:lower:]]", "É", None),
        (r"(?i)é", "É", Some("É")),
        (r"\p{Han}+", "あ漢字ー", Some("漢字")),
        (r"\p{Katakana}+", "ーカタ", Some("カタ")),
        (r"\p{^Han}", "漢a", Some("a")),
        (r"\P{Han}", "漢a", Some("a")),
        (r"[\p{Han}a]+", "あ漢a", Some("漢a")),
        (r"[^\p{Hiragana}]", "あ漢", Some("漢")),
        (r"\p{L}+", "1漢é", Some("漢é")),
        (r"\p{Lu}", "éÉ", Some("É")),
        (r"\p{Letter}", "1漢", Some("漢")),
        (r"\p{Alpha}", "1é", Some("é")),
        (r"\H", "aあ", Some("あ")),
        (r"[\H]", "aあ", Some("あ")),
        (r"\Ra", "\u{2028}a", Some("\u{2028}a")),
        (r"(?<名>漢)\k<名>", "漢漢", Some("漢漢")),
    ] {
        let found = whole_characters(expression, text.as_bytes());
        let found = found.map(|found| std::str::from_utf8(found).expect("characters"));
        assert_eq!(found, expected, "{expression} on {text:?}");
    }
}

#[test]
fn a_text_that_is_not_valid_is_matched_as_bytes() {
    let text = b"a \xff\xe3\x81 b";
    assert_eq!(whole_characters(r"^a .* b$", text), Some(&text[..]));
    assert_eq!(whole_characters(r"\xff", b"\xff"), Some(&b"\xff"[..]));
    assert_eq!(whole_characters(r"\p{Han}", b"\xff"), None);
}

#[test]
fn values_of_a_configuration_are_read_as_fluentd_reads_them() {
    assert!(find("/ABC/i", b"abc").is_some());
    assert!(find("/a.b/m", b"a\nb").is_some());
    assert!(find("/ABC/xi", b"abc").is_some());
    assert!(find("ab", b"ab").is_some());
    assert!(find("/x", b"anything").is_some());
    assert!(Pattern::from_config("/a/imx").is_err());
    let pattern = Pattern::from_config("/var/lo").expect("a body and flags");
    assert_eq!(pattern.as_str(), "var");
}

#[test]
fn a_text_that_takes_too_long_is_given_up() {
    let pattern = Pattern::compile(r"(?<x>(a+)+)$", Flags::default()).expect("a pattern");
    let text = "a".repeat(40) + "b";
    assert!(!pattern.is_match(text.as_bytes()));
    assert!(!pattern.captures(text.as_bytes(), &mut Captures::default()));
}

#[test]
fn a_long_user_agent_does_not_exhaust_the_stack() {
    let pattern =
        Pattern::compile(r#""(?<agent>(?:[^"]|\\")*)"$"#, Flags::default()).expect("a pattern");
    let text = format!("\"{}\"", "x".repeat(10_000));
    assert!(pattern.is_match(text.as_bytes()));
}

proptest! {
    #[test]
    fn no_expression_and_no_text_panics(expression in r"[ab\\(){}\[\]?<>:|*+^$.,1k&p-]{0,16}", text in proptest::collection::vec(any::<u8>(), 0..40)) {
        for characters in [false, true] {
            let flags = Flags { characters, ..Flags::default() };
            if let Ok(pattern) = Pattern::compile(&expression, flags) {
                let mut captures = Captures::default();
                let found = pattern.captures(&text, &mut captures);
                prop_assert!(!found || captures.whole().end <= text.len());
            }
        }
    }

    #[test]
    fn any_text_is_found_by_its_escaped_self(text in "[ -~é\n]{1,30}") {
        let escaped: String = text.chars().map(|c| if c.is_ascii_punctuation() { format!("\\{c}") } else { c.to_string() }).collect();
        let around = [b"..", text.as_bytes(), b".."].concat();
        for characters in [false, true] {
            let flags = Flags { characters, ..Flags::default() };
            let pattern = Pattern::compile(&escaped, flags).expect("literals");
            prop_assert!(pattern.is_match(&around));
        }
    }
}
