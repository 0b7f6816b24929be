use proptest::prelude::*;

use super::*;

fn generation() -> impl Strategy<Value = Remembered> {
    let path = prop::collection::vec(1u8..=255, 1..20);
    let head = prop::option::of((0u16..=256, any::<u32>()));
    (
        path,
        any::<u64>(),
        any::<u64>(),
        prop::option::of(any::<u32>()),
        head,
    )
        .prop_map(|(path, inode, position, born, head)| Remembered {
            path: PathBuf::from(OsString::from_vec(path)),
            inode,
            resume: Resume {
                position,
                born: born
                    .map(|born| UNIX_EPOCH + Duration::from_nanos(u64::from(born) * 1_000_000_007)),
                head: head.map(|(length, sum)| HeadMark { length, sum }),
            },
            kind: Kind::Owed,
        })
}

proptest! {
    #[test]
    fn what_is_written_is_read_again(
        generations in prop::collection::vec(generation(), 0..8),
        since in prop::option::of(any::<u32>()),
    ) {
        let searching_since = since.map(|since| UNIX_EPOCH + Duration::from_nanos(u64::from(since)));
        let state = State { generations, searching_since, written: None };
        let text = print(&state).expect("memory");
        prop_assert_eq!(parse(&text), Read::Whole(state));
    }

    #[test]
    fn whatever_is_changed_is_noticed(
        generations in prop::collection::vec(generation(), 0..5),
        at in any::<prop::sample::Index>(),
        change in 1u8..=255,
        cut in any::<prop::sample::Index>(),
    ) {
        let state = State { generations, searching_since: None, written: None };
        let text = print(&state).expect("memory");
        let mut changed = text.clone();
        changed[at.index(text.len())] ^= change;
        let is_same = parse(&changed) == Read::Whole(state);
        let is_damaged = matches!(parse(&changed), Read::Damaged(_));
        // White space in the last line changes nothing.
        prop_assert!(is_damaged || is_same);
        let short = &text[..cut.index(text.len())];
        prop_assert!(matches!(parse(short), Read::Damaged(_)));
    }
}

#[test]
fn the_pos_file_tells_positions_and_the_side_file_the_rest() {
    let remembered = |path: &str, inode, position, head| Remembered {
        path: path.into(),
        inode,
        resume: Resume {
            position,
            born: None,
            head,
        },
        kind: Kind::Owed,
    };
    let head = Some(HeadMark { length: 3, sum: 7 });
    let state = vec![remembered("/a", 1, 10, head), remembered("/a", 2, 5, head)];
    let entry = |path: &str, inode, position| Entry {
        path: path.into(),
        position,
        inode,
    };
    let merged = merge(vec![entry("/a", 1, 30), entry("/b", 3, 4)], state);
    let mut other = remembered("/b", 3, 4, None);
    other.kind = Kind::Entry;
    assert_eq!(
        merged,
        [
            remembered("/a", 1, 30, head),
            remembered("/a", 2, 5, head),
            other
        ]
    );
}

#[test]
fn a_damaged_side_file_is_set_aside() {
    let dir = tempfile::tempdir().expect("a directory");
    let pos_file = dir.path().join("app.pos");
    assert_eq!(read(&pos_file), Read::Missing);
    write(&pos_file, &State::default(), SystemTime::now()).expect("written");
    let Read::Whole(state) = read(&pos_file) else {
        panic!("it is whole");
    };
    assert!(state.written.is_some() && state.generations.is_empty());
    fs::write(path_for(&pos_file), "{}\n").expect("written");
    assert!(matches!(read(&pos_file), Read::Damaged(_)));
    assert_eq!(read(&pos_file), Read::Missing);
    assert!(dir.path().join("app.pos.state.damaged").exists());
}
