use super::*;
use crate::buffer::ChunkKey;
use crate::event::Tag;
use proptest::prelude::*;
use std::time::{Duration, Instant, UNIX_EPOCH};

#[test]
fn tags_become_one_folder_each() {
    assert_eq!(percent_encode("app.access"), "app.access");
    assert_eq!(percent_encode("a/b c"), "a%2Fb%20c");
    assert_eq!(percent_encode(".."), "%2E%2E");
    assert_eq!(percent_encode("ログ"), "%E3%83%AD%E3%82%B0");
}

#[test]
fn keys_have_no_empty_folders() {
    assert_eq!(join("", "x"), "x");
    assert_eq!(join("/a/b/", "x"), "a/b/x");
}

#[test]
fn a_chunk_has_the_same_time_at_every_try() {
    let clock = UNIX_EPOCH + Duration::from_secs(1_772_356_542);
    let chunk = Chunk::new(ChunkKey::of_tag(Tag::new("app")), Instant::now(), clock);
    assert_eq!(born(chunk.id()).to_string(), "2026-03-01T09:15:42Z");
    let path = expand_time("logs/%Y/%m/%d/%H/%q", born(chunk.id()));
    assert_eq!(path, "logs/2026/03/01/09/%q");
    assert_eq!(compact(clock), "20260301T091542Z");
}

proptest! {
    #[test]
    fn different_tags_never_share_a_folder(a in ".{0,12}", b in ".{0,12}") {
        prop_assert_eq!(a == b, percent_encode(&a) == percent_encode(&b));
    }
}

#[test]
fn what_would_stay_in_a_path_unexpanded_is_refused() {
    for path in ["", "a/${tag}/%Y/%m/%d", "${instance_id}-${hostname}/100%"] {
        assert_eq!(check_path(path, &ChunkKeys::default()), Ok(()), "{path}");
    }
    for (path, part) in [("a/${nope}", "${nope}"), ("%Y/%q", "%q"), ("${tag", "")] {
        let refused = check_path(path, &ChunkKeys::default()).err();
        assert_eq!(refused.is_none(), part.is_empty(), "{path}");
        assert!(refused.unwrap_or_default().contains(part), "{path}");
    }
}
