use super::*;
use proptest::prelude::*;

fn entry(path: &str, position: u64, inode: u64) -> Entry {
    Entry {
        path: PathBuf::from(path),
        position,
        inode,
    }
}

#[test]
fn a_td_agents_file_is_taken_over_as_it_is() {
    let text = b"/var/log/a.log\t00000000000004D2\t000a1b2c\n\
        /var/log/gone.log\tffffffffffffffff\t0000000000000001\n\
        /var/log/new.log\t0000000000000000\t0000000000000000\n\
        nonsense\n\
        /var/log/a b.log\t1\tff trailing\n\
        /var/log/a.log\t00000000000004d3\t00000000000a1b2c\n";
    assert_eq!(
        parse(text),
        Parsed {
            entries: vec![
                entry("/var/log/a b.log", 1, 0xff),
                entry("/var/log/a.log", 0x4d3, 0xa1b2c)
            ],
            unparsable: 1,
        }
    );
}

#[test]
fn an_inode_that_was_cut_is_no_inode() {
    let text = print(&[entry("/a", 7, 9), entry("/b", 8, 0xa1b2c)]);
    assert_eq!(parse(&text[..text.len() - 1]).entries.len(), 2);
    let cut = parse(&text[..text.len() - 3]);
    assert_eq!((cut.entries, cut.unparsable), (vec![entry("/a", 7, 9)], 1));
}

#[test]
fn fluentd_reads_what_we_print() {
    assert_eq!(
        print(&[entry("/var/log/a.log", 1234, 0xa1b2c)]),
        b"/var/log/a.log\t00000000000004d2\t00000000000a1b2c\n"
    );
}

proptest! {
    #[test]
    fn what_is_printed_is_read_back(
        entries in prop::collection::btree_map("/[a-z .]{1,20}", (0..u64::MAX, 1u64..), 0..20)
    ) {
        let entries: Vec<Entry> = entries.iter().map(|(path, (position, inode))| entry(path, *position, *inode)).collect();
        prop_assert_eq!(parse(&print(&entries)), Parsed { entries, unparsable: 0 });
    }

    #[test]
    fn no_text_makes_the_reader_panic_and_what_it_reads_can_be_printed(text in prop::collection::vec(
        prop_oneof![Just(b'\t'), Just(b'\n'), Just(b'f'), Just(b'0'), any::<u8>()], 0..200)) {
        let parsed = parse(&text);
        let again = parse(&print(&parsed.entries));
        prop_assert_eq!(again.entries, parsed.entries);
    }
}

#[test]
fn a_second_owner_is_refused_by_name() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("sub/app.pos");
    let (_first, found) = PosFile::open(&path).expect("the first owner");
    assert!(!found.existed);
    let error = format!("{:#}", PosFile::open(&path).expect_err("one owner only"));
    assert!(error.contains("app.pos"), "{error}");
    assert!(error.contains(&std::process::id().to_string()), "{error}");
}

#[test]
fn replacing_leaves_the_new_text_and_nothing_else() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("app.pos");
    fs::write(dir.path().join("app.pos.tmp"), "left by a crash").expect("a file");
    let (mut file, _) = PosFile::open(&path).expect("an owner");
    let entries = [entry("/a", 7, 9)];
    file.replace(&entries, SystemTime::now())
        .expect("it is written");
    assert_eq!(
        parse(&fs::read(&path).expect("it is there")).entries,
        entries
    );
    assert!(!dir.path().join("app.pos.tmp").exists());
}

#[test]
fn a_directory_or_a_link_in_place_of_a_pos_file_is_said_at_start() {
    let dir = tempfile::tempdir().expect("a directory");
    assert!(
        check(dir.path())
            .expect_err("a directory")
            .contains("os error 21")
    );
    let link = dir.path().join("link");
    std::os::unix::fs::symlink("/nowhere", &link).expect("a link");
    assert!(check(&link).is_err());
    assert!(check(&dir.path().join("not/yet/there.pos")).is_ok());
    assert!(!dir.path().join("not").exists());
}
