use std::time::{Duration, UNIX_EPOCH};

use proptest::prelude::*;

use super::*;

proptest! {
    #[test]
    fn the_overlap_is_the_end_of_what_was_read_however_it_was_split(
        pieces in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..200), 0..12),
    ) {
        let mut overlap = Overlap::default();
        let mut all = Vec::new();
        for piece in &pieces {
            let known = all.len() - overlap.len();
            all.extend_from_slice(piece);
            overlap = Overlap::of(&all[known..]);
            let from = all.len().saturating_sub(OVERLAP);
            prop_assert_eq!(overlap.len(), all.len() - from);
            prop_assert!(overlap.fits(&all[from..]));
            let mut other = all[from..].to_vec();
            other.iter_mut().take(1).for_each(|byte| *byte ^= 1);
            prop_assert_eq!(overlap.fits(&other), other.is_empty());
        }
    }

    #[test]
    fn the_head_is_the_same_however_it_was_read(
        text in prop::collection::vec(any::<u8>(), 0..600),
        cut in any::<prop::sample::Index>(),
    ) {
        let cut = cut.index(text.len() + 1);
        let mut head = Head::default();
        head.advance(&text[..cut]);
        head.advance(&text[cut..]);
        prop_assert_eq!(head.mark(), Head::of(&text, text.len() as u64).mark());
        prop_assert!(head.mark().fits(&text));
        let mut resumed = Head::of(&text, cut as u64);
        resumed.advance(&text[cut..]);
        prop_assert_eq!(head.mark(), resumed.mark());
    }
}

fn candidate<'a>(first: &'a [u8], before: &'a [u8]) -> Candidate<'a> {
    Candidate {
        size: 100,
        born: Some(UNIX_EPOCH),
        first,
        before,
    }
}

fn at(position: u64) -> Resume {
    Resume {
        position,
        ..Resume::default()
    }
}

#[test]
fn a_position_without_evidence_is_believed_at_the_beginning_of_a_line_only() {
    assert_eq!(at(0).doubt(candidate(b"", b"")), None);
    assert_eq!(at(8).doubt(candidate(b"a line\nb", b"a line\n")), None);
    assert_eq!(at(8).doubt(candidate(b"a\0\n\0", b"a\0\n\0")), None);
    assert!(at(8).doubt(candidate(b"a line\nb", b"a line\nb")).is_some());
    assert!(at(101).doubt(candidate(b"a line\n", b"")).is_some());
}

#[test]
fn first_bytes_and_birth_decide_where_they_are_known() {
    let head = Some(Head::of(b"first", 5).mark());
    let known = Resume { head, ..at(5) };
    // Left in the middle of a line at the end of a rotated file: the first bytes prove it.
    assert_eq!(known.doubt(candidate(b"first and more", b"first")), None);
    assert!(known.doubt(candidate(b"other\n", b"other\n")).is_some());
    assert!(known.doubt(candidate(b"fir", b"fir")).is_some());
    let born = Some(UNIX_EPOCH + Duration::from_secs(1));
    let reborn = Resume { born, ..known };
    assert!(reborn.doubt(candidate(b"first", b"first")).is_some());
}
