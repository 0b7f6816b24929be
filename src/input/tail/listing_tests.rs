use super::*;

#[test]
fn rotated_names_are_those_that_rotation_tools_make() {
    for name in [
        "app.log.1",
        "app.log-20260101",
        "app-20260101.log",
        "app.1.log",
        "app.log.2026-01-01T00:00",
        "app.log.old",
        "app.log~",
    ] {
        assert!(is_rotated_name(b"app.log", name.as_bytes()), "{name}");
    }
    for name in [
        "app.log",
        "app.logger",
        "app-error.log",
        "apps.log",
        "app.log2",
        "app.log.pos",
        "app.log.pos.lock",
        "app.log-errors.log",
        "app.log.bak",
        "app.log.1.pos",
        "b.log.1",
        "application.1.log",
    ] {
        assert!(!is_rotated_name(b"app.log", name.as_bytes()), "{name}");
    }
}

#[test]
fn siblings_are_found_by_name_and_by_inode_in_one_listing() {
    let dir = tempfile::tempdir().expect("a directory");
    let at = |name: &str| dir.path().join(name);
    for name in [
        "app.log",
        "app.log.1",
        "app-2026.log",
        "apple.log.1",
        "app.log.2.gz",
        "odd",
    ] {
        fs::write(at(name), name).expect("a file");
    }
    let mut listings = Listings::default();
    let mut found: Vec<PathBuf> = listings
        .siblings(&at("app.log"))
        .into_iter()
        .map(|sibling| sibling.path)
        .collect();
    found.sort();
    assert_eq!(found, [at("app-2026.log"), at("app.log.1")]);
    let odd = Sibling::at(at("odd")).expect("a file").identity.inode;
    let by_inode = listings.with_inode(&at("app.log"), odd).expect("there");
    assert_eq!(by_inode.path, at("odd"));
    fs::rename(at("odd"), at("odder")).expect("renamed");
    assert!(
        listings.with_inode(&at("app.log"), odd).is_none(),
        "an old listing"
    );
    listings.forget_beside(&at("app.log"));
    assert!(listings.with_inode(&at("app.log"), odd).is_some());
}
