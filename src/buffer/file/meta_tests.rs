use proptest::prelude::*;

use super::*;

fn bytes(hex: &str) -> Vec<u8> {
    let hex: String = hex.split_whitespace().collect();
    let digit = |at: usize| u8::from_str_radix(&hex[at..at + 2], 16).expect("hexadecimal");
    (0..hex.len()).step_by(2).map(digit).collect()
}

/// Captured from a Fluentd 1.18.0 with `<buffer tag,time,host>` and one record.
fn captured() -> Vec<u8> {
    bytes(
        "c100 00000056 88
         a7 74696d656b6579 ce 6553ede0
         a3 746167 a5 612e622f63
         a9 7661726961626c6573 81 a4 686f7374 a2 6831
         a3 736571 00
         a2 6964 c410 660d594200885010eead92f8e879e0bd
         a1 73 01  a1 63 ce6b0269e1  a1 6d ce6b0269e1",
    )
}

fn meant() -> Meta {
    Meta {
        timekey: Some(1_699_999_200),
        tag: Some("a.b/c".into()),
        variables: Some(vec![("host".into(), vec![0xa2, b'h', b'1'])]),
        seq: 0,
        id: ChunkId::from_hex("660d594200885010eead92f8e879e0bd").expect("an id"),
        records: 1,
        created: 0x6b02_69e1,
        modified: 0x6b02_69e1,
    }
}

#[test]
fn fluentds_own_bytes_are_read_and_written() {
    assert_eq!(Meta::decode(&captured()), Ok(meant()));
    assert_eq!(meant().encode(), captured());
}

#[test]
fn what_an_earlier_longer_map_left_behind_does_not_count() {
    let mut file = captured();
    file.extend_from_slice(b"\xa1\x6d\xff\xff");
    assert_eq!(Meta::decode(&file), Ok(meant()));
}

#[test]
fn the_bare_map_of_older_versions_is_read() {
    assert_eq!(Meta::decode(&captured()[6..]), Ok(meant()));
}

#[test]
fn nil_keys_are_none() {
    let none = Meta {
        timekey: None,
        tag: None,
        variables: None,
        ..meant()
    };
    assert_eq!(Meta::decode(&none.encode()), Ok(none));
}

#[test]
fn what_fluentd_1_19_calls_broken_is_damaged() {
    assert_eq!(Meta::decode(b""), Err(Damaged::NoMap));
    assert_eq!(
        Meta::decode(b"\xc1\x00\x00\x00\x00\x01\x93"),
        Err(Damaged::NoMap)
    );
    assert_eq!(Meta::decode(&captured()[..40]), Err(Damaged::NoMap));
    assert_eq!(Meta::decode(b"\x80"), Err(Damaged::Id));
    let mut short_id = captured();
    let at = short_id
        .windows(2)
        .position(|pair| pair == [0xc4, 0x10])
        .expect("an id");
    short_id[at + 1] = 0x0f;
    short_id.remove(at + 2);
    short_id[5] -= 1;
    assert_eq!(Meta::decode(&short_id), Err(Damaged::Id));
    let mut no_size = captured();
    let at = no_size
        .windows(3)
        .position(|part| part == b"\xa1s\x01")
        .expect("a size");
    no_size[at + 2] = 0xc3;
    assert_eq!(Meta::decode(&no_size), Err(Damaged::Size));
    let mut no_tag = captured();
    let at = no_tag
        .windows(4)
        .position(|part| part == b"\xa3tag")
        .expect("a tag");
    no_tag[at + 4..at + 10].copy_from_slice(&[0x95, 1, 2, 3, 4, 5]);
    assert_eq!(Meta::decode(&no_tag), Err(Damaged::Keys));
}

fn value() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        "[a-z]{0,40}".prop_map(|text| {
            let mut out = Vec::new();
            write_str(&mut out, text.as_bytes());
            out
        }),
        any::<i64>().prop_map(|number| {
            let mut out = Vec::new();
            write_int(&mut out, number);
            out
        }),
        Just(vec![NIL]),
    ]
}

prop_compose! {
    fn metas()(
        timekey in any::<Option<i64>>(),
        tag in proptest::option::of(".{0,40}"),
        variables in proptest::option::of(proptest::collection::vec((".{0,10}", value()), 0..4)),
        seq in any::<i64>(),
        id in any::<[u8; 16]>(),
        records in 0..=i64::MAX as u64,
        created in any::<i64>(),
        modified in any::<i64>(),
    ) -> Meta {
        Meta { timekey, tag, variables, seq, id: ChunkId::from_bytes(id), records, created, modified }
    }
}

proptest! {
    #[test]
    fn metadata_come_back_from_their_bytes(meta in metas(), behind in proptest::collection::vec(any::<u8>(), 0..20)) {
        let mut file = meta.encode();
        file.extend_from_slice(&behind);
        prop_assert_eq!(Meta::decode(&file), Ok(meta));
    }

    #[test]
    fn garbage_never_panics_and_reads_again_as_what_it_was_read(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        if let Ok(meta) = Meta::decode(&bytes) {
            prop_assert_eq!(Meta::decode(&meta.encode()), Ok(meta));
        }
    }

    #[test]
    fn a_damaged_file_never_panics(meta in metas(), at in any::<prop::sample::Index>(), byte in any::<u8>(), cut in any::<prop::sample::Index>()) {
        let mut file = meta.encode();
        let at = at.index(file.len());
        file[at] = byte;
        file.truncate(cut.index(file.len() + 1));
        if let Ok(meta) = Meta::decode(&file) {
            prop_assert_eq!(Meta::decode(&meta.encode()), Ok(meta));
        }
    }
}
