use proptest::prelude::*;

use super::*;
use crate::event::{Entries, EventTime};

/// One gzip member.
fn pack(plain: &[u8]) -> Vec<u8> {
    Compress::Gzip.pack(&[plain]).expect("packs")
}

fn entry(message: &[u8]) -> Vec<u8> {
    let mut batch = Entries::default();
    let mut record = batch.begin(EventTime { sec: 1, nsec: 2 });
    record.bin("message", message);
    record.finish();
    batch.freeze().0.to_vec()
}

fn checked(data: &[u8], groups: &[Group]) -> Checked {
    let mut read = |at: u64, buffer: &mut [u8]| {
        let rest = data.get(at as usize..).unwrap_or(&[]);
        let len = rest.len().min(buffer.len());
        buffer[..len].copy_from_slice(&rest[..len]);
        Ok(len)
    };
    check(&mut read, data.len() as u64, groups).expect("memory")
}

/// The bytes that a salvage would write.
fn kept(data: &[u8], checked: &Checked) -> Vec<u8> {
    let part = |kept: &Kept| match kept {
        Kept::Range(range) => data[range.start as usize..range.end as usize].to_vec(),
        Kept::Rebuilt(bytes) => bytes.clone(),
    };
    checked.kept.iter().flat_map(part).collect()
}

fn group(start: usize, data: &[u8], records: u32) -> Group {
    Group {
        start: start as u64,
        end: (start + data.len()) as u64,
        records,
        crc: crc32fast::hash(data),
        confirmed: true,
    }
}

#[test]
fn entries_larger_than_a_window_are_read() {
    let data = [
        entry(&vec![b'x'; 3 * WINDOW]),
        entry(b"y"),
        entry(&vec![b'z'; WINDOW]),
    ]
    .concat();
    let found = checked(&data, &[]);
    assert!(found.is_whole());
    assert_eq!(found.records, 3);
    assert_eq!(kept(&data, &found), data);
}

#[test]
fn a_sound_group_behind_a_damaged_one_is_kept() {
    let (first, second, third) = (
        entry(b"first"),
        [entry(b"2"), entry(b"3")].concat(),
        entry(b"third"),
    );
    let mut data = [&first[..], &second, &third].concat();
    let at = first.len() + entry(b"2").len();
    let groups = [
        group(0, &first, 1),
        group(first.len(), &second, 2),
        group(first.len() + second.len(), &third, 1),
    ];
    assert!(checked(&data, &groups).is_whole());
    data[at] = 0xc1;
    let found = checked(&data, &groups);
    assert_eq!(found.records, 3);
    assert_eq!(kept(&data, &found), [first, entry(b"2"), third].concat());
    assert_eq!(found.cut(), None);
}

#[test]
fn a_damage_that_leaves_whole_entries_is_seen_by_the_checksum_alone() {
    let mut data = entry(b"amount 100");
    let groups = [group(0, &data, 1)];
    let at = data.len() - 3;
    data[at] = b'9';
    // It is an entry: better a wrong digit than a lost line.
    let found = checked(&data, &groups);
    assert_eq!((found.records, found.is_whole()), (1, true));
    assert_eq!(
        (found.is_sound(), found.altered),
        (false, data.len() as u64)
    );
}

#[test]
fn data_that_end_between_two_entries_are_known_to_lack_what_was_durable_once() {
    let (first, second) = (entry(b"first"), [entry(b"two"), entry(b"three")].concat());
    let whole = [&first[..], &second].concat();
    let groups = [group(0, &first, 1), group(first.len(), &second, 2)];
    assert!(checked(&whole, &groups).is_sound());
    let cut = first.len() + entry(b"two").len();
    let found = checked(&whole[..cut], &groups);
    assert_eq!((found.records, found.is_whole()), (2, true));
    assert_eq!(
        (found.is_sound(), found.missing),
        (false, (whole.len() - cut) as u64)
    );
    // What was never durable is not missed.
    let begun = [
        groups[0],
        Group {
            confirmed: false,
            ..groups[1]
        },
    ];
    assert!(checked(&first, &begun).is_sound());
}

#[test]
fn gzip_members_are_read_and_a_damaged_one_as_far_as_it_inflates() {
    let plain = |n: u8| (0..n).flat_map(|i| entry(&[i; 50])).collect::<Vec<_>>();
    let (first, second) = (pack(&plain(3)), pack(&plain(40)));
    let data = [&first[..], &second].concat();
    let found = checked(&data, &[]);
    assert!(found.is_whole() && found.packed);
    assert_eq!(found.records, 43);
    assert_eq!(
        unpack(&data, 1 << 20).expect("inflates"),
        [plain(3), plain(40)].concat()
    );
    let torn = checked(&data[..data.len() - 12], &[]);
    assert!(!torn.is_whole());
    assert!(torn.records >= 3, "{torn:?}");
    let salvaged = kept(&data, &torn);
    let inflated = unpack(&salvaged, 1 << 20).expect("inflates");
    assert!([plain(3), plain(40)].concat().starts_with(&inflated));
    assert_eq!(count(&inflated, Trust::Sound).1, torn.records);
}

#[test]
fn a_group_whose_write_was_interrupted_is_cut_whatever_stands_there() {
    let (first, second) = (entry(b"one"), [entry(b"two"), entry(b"three")].concat());
    let begun = Group {
        confirmed: false,
        ..group(first.len(), &second, 2)
    };
    let groups = [group(0, &first, 1), begun];
    let whole = [&first[..], &second].concat();
    assert!(checked(&whole, &groups).is_whole());
    let mut torn = whole.clone();
    torn[first.len() + 20..first.len() + 24].fill(0);
    for data in [
        &torn[..],
        &whole[..first.len() + entry(b"two").len()],
        &whole[..whole.len() - 1],
    ] {
        assert_eq!(checked(data, &groups).cut(), Some(first.len() as u64));
    }
    // One that was durable once was damaged later: what can be read of it is.
    let confirmed = [groups[0], group(first.len(), &second, 2)];
    let found = checked(&whole[..whole.len() - 1], &confirmed);
    assert_eq!((found.records, found.cut()), (2, None));
    // And what somebody else appended behind it is not ours to cut.
    let appended = [&torn[..], &entry(b"four")].concat();
    assert_eq!(checked(&appended, &groups).cut(), None);
}

#[test]
fn members_behind_a_damaged_one_are_kept() {
    let members = [
        pack(&entry(b"one")),
        pack(&entry(b"two")),
        pack(&entry(b"three")),
    ];
    for at in 0..members[1].len() {
        let mut data = members.concat();
        data[members[0].len() + at] ^= 0xff;
        let found = checked(&data, &[]);
        let plain = unpack(&kept(&data, &found), 1 << 20).expect("readable");
        let read: Vec<_> = entries(&plain)
            .map(|entry| entry.expect("whole").bytes.to_vec())
            .collect();
        assert_eq!(read.first(), Some(&entry(b"one")), "{at}");
        assert_eq!(read.last(), Some(&entry(b"three")), "{at}");
        assert_eq!(found.records as usize, read.len());
    }
}

#[test]
fn what_is_no_member_behind_one_is_lost_and_nothing_else() {
    for junk in [&b"x"[..], b"\x1f", b"\x92\x01"] {
        let data = [pack(&entry(b"one")), junk.to_vec(), pack(&entry(b"two"))].concat();
        let found = checked(&data, &[]);
        assert_eq!((found.records, found.lost_bytes()), (2, junk.len() as u64));
        let data = [pack(&entry(b"one")), junk.to_vec()].concat();
        let found = checked(&data, &[]);
        assert_eq!((found.records, found.lost_bytes()), (1, junk.len() as u64));
    }
}

#[test]
fn entries_behind_a_damaged_one_are_kept() {
    let long = vec![b'z'; WINDOW];
    for (damage, behind) in [
        (5, &b"y"[..]),
        (WINDOW - 20, b"y"),
        (WINDOW - 2, b"y"),
        (2 * WINDOW, &long),
    ] {
        let data = [
            entry(b"one"),
            vec![0xc1; damage],
            entry(behind),
            entry(b"last"),
        ]
        .concat();
        let found = checked(&data, &[]);
        assert_eq!(
            (found.records, found.lost_bytes()),
            (3, damage as u64),
            "{damage}"
        );
    }
}

#[test]
fn a_record_that_would_spoil_the_chunk_for_its_receiver_is_left_out() {
    let mut odd = entry(b"two");
    let at = odd.len() - 5;
    // bin of three bytes to an extension of an unknown type.
    odd.splice(at..at + 2, [0xd4, 0x55]);
    let odd_len = odd.len() as u64;
    let data = [entry(b"one"), odd, entry(b"three")].concat();
    let found = checked(&data, &[]);
    assert_eq!((found.records, found.lost_bytes()), (2, odd_len));
    let plain: Vec<u8> = (0..200)
        .flat_map(|n| entry(format!("line {n}").as_bytes()))
        .collect();
    let packed = pack(&plain);
    for at in 10..packed.len() {
        let mut damaged = packed.clone();
        damaged[at] ^= 0x55;
        let found = checked(&damaged, &[]);
        let kept = unpack(&kept(&damaged, &found), 1 << 20).expect("readable");
        for entry in entries(&kept) {
            assert!(
                is_readable(entry.expect("whole").record, Trust::Damaged),
                "{at}"
            );
        }
    }
}

#[test]
fn what_inflates_beyond_the_limit_is_refused() {
    let bomb = pack(&entry(&vec![0; 1 << 20]));
    let error = unpack(&bomb, 1000).expect_err("too large");
    assert_eq!(
        error.to_string(),
        "inflates to more than 1000 bytes (decompression_size_limit)"
    );
}

proptest! {
    #[test]
    fn a_cut_anywhere_keeps_every_whole_entry(sizes in proptest::collection::vec(0usize..40, 1..12), cut in any::<prop::sample::Index>()) {
        let all: Vec<Vec<u8>> = sizes.iter().map(|size| entry(&vec![b'x'; *size])).collect();
        let data = all.concat();
        let cut = cut.index(data.len() + 1);
        let found = checked(&data[..cut], &[]);
        let mut end = 0;
        let whole = all.iter().take_while(|entry| { end += entry.len(); end <= cut }).count();
        prop_assert_eq!(found.records, whole as u64);
        prop_assert_eq!(kept(&data, &found), all[..whole].concat());
        prop_assert_eq!(found.is_whole(), all[..whole].concat().len() == cut);
    }

    #[test]
    fn what_is_kept_of_garbage_is_whole(
        data in proptest::collection::vec(prop_oneof![Just(0x92u8), Just(0x1f), Just(0x8b), Just(0x80), any::<u8>()], 0..80),
        groups in proptest::collection::vec((0u64..60, 1u64..30, any::<u32>()), 0..4),
    ) {
        let groups: Vec<_> = groups.into_iter().map(|(start, len, crc)| Group { start, end: start + len, records: 1, crc, confirmed: true }).collect();
        let found = checked(&data, &groups);
        let again = kept(&data, &found);
        let found_again = checked(&again, &[]);
        prop_assert!(found_again.is_whole());
        prop_assert_eq!(found_again.records, found.records);
    }
}
