//! Encodings: as Ruby 3.1 decodes them, at any split.

use super::super::lines::{Line, Splitter};
use super::*;
use proptest::prelude::*;

fn decoded(from: &str, to: &str, line: &[u8]) -> String {
    let encodings = Encodings::of(Some(to), Some(from)).expect("known names");
    let text = match encodings.transcoder {
        Some(mut transcoder) => transcoder.decode(line).to_vec(),
        None => line.to_vec(),
    };
    String::from_utf8(text).expect("UTF-8")
}

#[test]
fn texts_are_decoded_as_ruby_decodes_them() {
    for (from, line, text) in [
        ("Shift_JIS", &b"a\x81\x60\x81\x7c\x93\xfa\\"[..], "a〜−日\\"),
        ("Windows-31J", b"\x81\x60\x81\x7c\x87\x40", "～－①"),
        ("sjis", b"\x81\x60", "～"),
        ("EUC-JP", b"\xa1\xc1\xc6\xfc\x8e\xb1", "〜日ｱ"),
        ("CP51932", b"\xa1\xc1\xad\xa1", "～①"),
        ("ISO-2022-JP", b"\x1b$B$\"!A\x1b(Ba", "あ〜a"),
        ("UTF-16LE", b"\xff\xfea\0\x3d\xd8\x00\xde", "\u{feff}a😀"),
        ("UTF-16BE", b"\0a\x30\x42", "aあ"),
        ("UTF-32LE", b"a\0\0\0\x00\xf6\x01\0", "a😀"),
        ("UCS-4BE", b"\0\0\0a\0\0\x30\x42", "aあ"),
        ("ISO-8859-1", b"\x80\xe9", "\u{80}é"),
        ("ISO-8859-9", b"\x80\xfd", "\u{80}ı"),
        ("ISO-8859-15", b"\xa4", "€"),
        ("windows-1252", b"\x80\xe9", "€é"),
        ("KOI8-U", b"\xae\xa4", "╝є"),
        ("EUC-KR", b"\xb0\xa1", "가"),
        ("GBK", b"\xc4\xe3", "你"),
        ("GB18030", b"\x81\x39\xef\x30", "㐁"),
        ("Big5", b"\xa7\x41", "你"),
    ] {
        assert_eq!(decoded(from, "UTF-8", line), text, "{from}");
    }
}

#[test]
fn what_cannot_be_decoded_is_replaced_as_ruby_replaces_it() {
    for (from, line, text) in [
        ("Shift_JIS", &b"a\x81\x20b"[..], "a\u{fffd} b"),
        ("Shift_JIS", b"a\x81", "a\u{fffd}"),
        ("EUC-JP", b"\xa4\x41z", "\u{fffd}Az"),
        ("EUC-JP", b"\x8f\xa1", "\u{fffd}"),
        ("UTF-16LE", b"a\0\x00\xd8b\0", "a\u{fffd}b"),
        ("UTF-16LE", b"a\0b", "a\u{fffd}"),
        ("UTF-16LE", b"\x00\xdc\x0a\0", "\u{fffd}\n"),
        (
            "UTF-32LE",
            b"a\0\0\0\xff\xff\xff\xffb\0\0\0cc",
            "a\u{fffd}b\u{fffd}",
        ),
        ("US-ASCII", b"a\xe3z", "a\u{fffd}z"),
        // What 1.18 did to every source that said only `encoding UTF-8`.
        ("ASCII-8BIT", b"a\xe3\x81z", "a\u{fffd}\u{fffd}z"),
    ] {
        assert_eq!(decoded(from, "UTF-8", line), text, "{from} {line:?}");
    }
    let line = b"\xe3\x81\xe3\x81\x82\xffz\xf0\x90\x80";
    let text = "\u{fffd}あ\u{fffd}z\u{fffd}";
    assert_eq!(decoded("UTF-8", "UTF-16LE", line), text);
}

#[test]
fn what_the_target_lacks_becomes_a_question_mark() {
    let text = "あ\u{301c}é".as_bytes();
    // Ruby has é of JIS X 0212 in EUC-JP; encoding_rs, as the browsers, reads it but does not write it.
    assert_eq!(decoded("UTF-8", "EUC-JP", text), "あ〜?");
    assert_eq!(decoded("UTF-8", "CP51932", "あ〜€".as_bytes()), "あ??");
    assert_eq!(decoded("UTF-8", "Shift_JIS", b"\xff\xe3\x81\x82"), "?あ");
    assert_eq!(decoded("UTF-8", "ISO-8859-1", "éあ".as_bytes()), "é?");
    assert_eq!(decoded("UTF-8", "BINARY", "あa".as_bytes()), "?a");
}

#[test]
fn a_label_decides_between_str_and_bin() {
    let of = |to, from| Encodings::of(to, from).expect("known names");
    assert_eq!(of(None, None).label, Label::Bytes);
    assert_eq!(of(Some("utf-8"), None).label, Label::Text);
    assert_eq!(of(Some("BINARY"), None).label, Label::Bytes);
    assert_eq!(of(Some("EUC-JP"), None).label, Label::Text);
    assert_eq!(of(Some("binary"), Some("utf-8")).label, Label::Bytes);
    for (to, from) in [
        ("UTF-8", None),
        ("utf-8", Some("CP65001")),
        ("BINARY", None),
    ] {
        assert!(
            of(Some(to), from).transcoder.is_none(),
            "{to} is only labelled"
        );
    }
    assert!(of(Some("SJIS"), Some("cp932")).same);
    assert!(!of(Some("SJIS"), Some("Shift_JIS")).same);
    assert!(!of(Some("UTF-8"), None).same);
}

#[test]
fn a_name_that_cannot_be_read_is_told_from_one_that_is_unknown() {
    let wrong = |to, from| Encodings::of(to, from).err().expect("an error");
    let unknown = wrong(Some("utf8"), None);
    assert_eq!(unknown.key, "encoding");
    let message = "unknown encoding name - utf8 (did you mean UTF-8?)";
    assert_eq!(unknown.message, message);
    let message = wrong(Some("UTF-8"), Some("foo-bar")).message;
    assert_eq!(message, "unknown encoding name - foo-bar");
    let rubys = wrong(Some("UTF-8"), Some("IBM037"));
    assert_eq!(rubys.key, "from_encoding");
    assert!(rubys.message.contains("which Ruby knows"), "{rubys:?}");
    for name in ["UTF8-MAC", "macJapan", "CP437", "locale", "UTF-7"] {
        let message = wrong(Some(name), None).message;
        assert!(message.contains("which Ruby knows"), "{message}");
    }
    let order = wrong(Some("utf-16"), None).message;
    assert!(order.contains("write utf-16LE or utf-16BE"), "{order}");
    assert!(wrong(None, Some("EUC-JP")).message.contains("'encoding'"));
}

/// What encodes a text, as the property below needs it.
fn encode(name: &str, text: &str) -> Vec<u8> {
    let units = |big: bool| {
        text.encode_utf16()
            .flat_map(move |unit| {
                if big {
                    unit.to_be_bytes()
                } else {
                    unit.to_le_bytes()
                }
            })
            .collect()
    };
    match name {
        "UTF-16LE" => units(false),
        "UTF-16BE" => units(true),
        "UTF-32LE" => text
            .chars()
            .flat_map(|c| u32::from(c).to_le_bytes())
            .collect(),
        "UTF-32BE" => text
            .chars()
            .flat_map(|c| u32::from(c).to_be_bytes())
            .collect(),
        "Windows-31J" => rs::SHIFT_JIS.encode(text).0.into_owned(),
        "CP51932" => rs::EUC_JP.encode(text).0.into_owned(),
        other => panic!("{other} is not encoded here"),
    }
}

proptest! {
    #[test]
    fn lines_of_any_encoding_are_the_same_however_their_bytes_are_split(
        name in prop::sample::select(vec![
            "UTF-16LE", "UTF-16BE", "UTF-32LE", "UTF-32BE", "Windows-31J", "CP51932",
        ]),
        lines in prop::collection::vec("[a-z \\\\ぁ-んァ-ヶ一-丂亜-亞ｱ-ﾝ表ソ\u{0a0a}]{0,12}", 1..8),
        cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..12),
    ) {
        let wide = name.starts_with("UTF");
        let lines: Vec<String> = lines
            .into_iter()
            .map(|line| if wide { line } else { line.replace(|c: char| rs::SHIFT_JIS.encode(&c.to_string()).2, "日") })
            .collect();
        let mut bytes = Vec::new();
        let mut ends = Vec::new();
        for line in &lines {
            bytes.extend(encode(name, &format!("{line}\n")));
            ends.push(bytes.len() as u64);
        }
        let whole = bytes.len();
        bytes.extend(encode(name, "rest"));
        let encodings = Encodings::of(Some("UTF-8"), Some(name)).expect("a known name");
        let mut transcoder = encodings.transcoder.expect("not UTF-8");
        let mut splitter = Splitter::new(1 << 20);
        let mut at: Vec<usize> = cuts.iter().map(|cut| cut.index(bytes.len() + 1)).collect();
        at.extend([0, bytes.len()]);
        at.sort_unstable();
        let (mut texts, mut positions, mut end) = (Vec::new(), Vec::new(), 0);
        for pair in at.windows(2) {
            splitter.feed(&bytes[pair[0]..pair[1]], encodings.newline, |line| {
                let Line::Whole(line) = line else { panic!("no line is too long") };
                end += line.len() as u64;
                positions.push(end);
                let text = transcoder.decode(line).to_vec();
                texts.push(String::from_utf8(text).expect("UTF-8"));
            });
            prop_assert_eq!(end + splitter.unfinished(), pair[1] as u64);
        }
        prop_assert_eq!(positions, ends);
        prop_assert_eq!(splitter.unfinished(), (bytes.len() - whole) as u64);
        for (text, line) in texts.iter().zip(&lines) {
            prop_assert_eq!(text, &format!("{line}\n"));
        }
    }

    #[test]
    fn no_bytes_panic_and_every_text_is_utf8(
        at in any::<prop::sample::Index>(),
        to in any::<prop::sample::Index>(),
        line in prop::collection::vec(any::<u8>(), 0..60),
    ) {
        let names: Vec<&str> = names().collect();
        let (from, to) = (names[at.index(names.len())], names[to.index(names.len())]);
        let encodings = Encodings::of(Some(to), Some(from)).expect("known names");
        if let Some(mut transcoder) = encodings.transcoder {
            prop_assert!(std::str::from_utf8(transcoder.decode(&line)).is_ok());
        }
    }
}
