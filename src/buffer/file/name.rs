//! File names of chunks, as Fluentd makes them. Pure.
//!
//! ```text
//! file         PREFIX.b<id>SUFFIX             staged          buffer.b660d594200885010eead92f8e879e0bd.log
//!              PREFIX.q<id>SUFFIX             queued          …and NAME.meta beside each
//! v0.12        PREFIX.<key>.b<16 hex>SUFFIX   staged, `q` queued, no .meta
//! file_single  fsb.<key>.b<id>.buf            staged, `q` queued, no .meta
//! ours         PREFIX.<id>.affluent           checksums and the tag (see `side`)
//!              PREFIX.<id>.part               a chunk that is not there yet: it gets its name when it is durable
//!              NAME.broken                    set aside
//! ```
//!
//! A chunk's glob in Fluentd is `PREFIX.*SUFFIX`, so it sees none of ours.

use crate::buffer::ChunkId;

/// The longest encoded key in a name: a file name has at most 255 bytes. The side file knows the whole tag.
const MOST_KEY: usize = 160;

/// Where a chunk is in its life, as its name tells it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Letter {
    /// `b`
    Staged,
    /// `q`
    Queued,
}

impl Letter {
    /// The other one.
    pub fn opposite(self) -> Letter {
        match self {
            Letter::Staged => Letter::Queued,
            Letter::Queued => Letter::Staged,
        }
    }

    fn as_char(self) -> char {
        match self {
            Letter::Staged => 'b',
            Letter::Queued => 'q',
        }
    }
}

/// Which of Fluentd's two buffers on disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// `@type file`
    File,
    /// `@type file_single`
    Single,
}

/// How the chunks of one buffer are named.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Naming {
    /// Which of the two.
    pub kind: Kind,
    /// Before `.b<id>`.
    pub prefix: String,
    /// Behind the id: `.log`.
    pub suffix: String,
}

/// The name of one chunk's data file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Name {
    /// `PREFIX`, or `PREFIX.<key>`.
    stem: String,
    letter: Letter,
    /// As it is written: 32 digits, or 16 of v0.12.
    digits: String,
    suffix: String,
}

/// What a file in a buffer directory is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Found {
    /// A chunk's data.
    Data(Name),
    /// `NAME.meta`
    Meta(Name),
    /// A side file.
    Side(ChunkId),
    /// A chunk that never became one.
    Part(ChunkId),
    /// What was set aside before.
    Broken,
    /// None of ours.
    Other,
}

impl Naming {
    /// `@type file`, chunks named `PREFIX.*SUFFIX`.
    pub fn file(prefix: &str, suffix: &str) -> Naming {
        Naming {
            kind: Kind::File,
            prefix: prefix.to_owned(),
            suffix: suffix.to_owned(),
        }
    }

    /// `@type file_single`.
    pub fn single() -> Naming {
        Naming {
            kind: Kind::Single,
            prefix: "fsb".to_owned(),
            suffix: ".buf".to_owned(),
        }
    }

    /// How the chunks of a buffer are named of which this is one.
    pub fn guess(name: &str) -> Option<Naming> {
        let id = |part: &str| ChunkId::from_hex(part.strip_prefix(['b', 'q'])?);
        let parts: Vec<&str> = name.split('.').collect();
        let at = parts.iter().rposition(|part| id(part).is_some())?;
        let is_v0_12 = parts[at].len() == 17;
        if parts.last() == Some(&"meta") {
            return None;
        }
        if parts[0] == "fsb" && parts[at + 1..] == ["buf"] {
            return Some(Naming::single());
        }
        let suffix = parts[at + 1..]
            .iter()
            .map(|part| format!(".{part}"))
            .collect::<String>();
        match is_v0_12 {
            // Its key may have points, and most often the prefix has none.
            true => (at > 1).then(|| Naming::file(parts[0], &suffix)),
            false => (at > 0).then(|| Naming::file(&parts[..at].join("."), &suffix)),
        }
    }

    /// The name of a new chunk. `key` is the text of its tag or field; only file_single writes it.
    pub fn name(&self, id: ChunkId, letter: Letter, key: &str) -> Name {
        let stem = match self.kind {
            Kind::File => self.prefix.clone(),
            Kind::Single => format!("{}.{}", self.prefix, cut(&encode_key(key))),
        };
        Name {
            stem,
            letter,
            digits: id.to_string(),
            suffix: self.suffix.clone(),
        }
    }

    /// The side file of a chunk.
    pub fn side(&self, id: ChunkId) -> String {
        format!("{}.{id}.affluent", self.prefix)
    }

    /// A chunk on its way to being one.
    pub fn part(&self, id: ChunkId) -> String {
        format!("{}.{id}.part", self.prefix)
    }

    /// The lock of the whole buffer.
    pub fn lock(&self) -> String {
        format!("{}.lock", self.prefix)
    }

    /// What the file of this name is.
    pub fn read(&self, name: &str) -> Found {
        let Some(rest) = name
            .strip_prefix(&self.prefix)
            .filter(|rest| rest.starts_with('.'))
        else {
            return Found::Other;
        };
        let id = |middle: &str| middle.strip_prefix('.').and_then(ChunkId::from_hex);
        if let Some(id) = rest.strip_suffix(".affluent").and_then(id) {
            return Found::Side(id);
        }
        if let Some(id) = rest.strip_suffix(".part").and_then(id) {
            return Found::Part(id);
        }
        if rest.contains(".broken") {
            return Found::Broken;
        }
        if let Some(data) = name.strip_suffix(".meta")
            && let Some(name) = self.chunk(data)
        {
            return Found::Meta(name);
        }
        self.chunk(name).map_or(Found::Other, Found::Data)
    }

    fn chunk(&self, name: &str) -> Option<Name> {
        let (stem, last) = name.strip_suffix(&self.suffix)?.rsplit_once('.')?;
        let (letter, digits) = match last.split_at_checked(1)? {
            ("b", digits) => (Letter::Staged, digits),
            ("q", digits) => (Letter::Queued, digits),
            _ => return None,
        };
        ChunkId::from_hex(digits)?;
        let ours = stem.strip_prefix(&self.prefix)?;
        if !(ours.is_empty() || ours.starts_with('.'))
            || self.kind == Kind::Single && ours.is_empty()
        {
            return None;
        }
        Some(Name {
            stem: stem.to_owned(),
            letter,
            digits: digits.to_owned(),
            suffix: self.suffix.clone(),
        })
    }

    /// The key in a name: the tag or field of file_single, the tag or time slice of v0.12.
    pub fn key(&self, name: &Name) -> Option<String> {
        let key = name.stem.strip_prefix(&self.prefix)?.strip_prefix('.')?;
        Some(decode_key(key))
    }
}

impl Name {
    /// Staged or queued.
    pub fn letter(&self) -> Letter {
        self.letter
    }

    /// The chunk's id; v0.12's eight bytes count twice, as in Fluentd.
    pub fn id(&self) -> ChunkId {
        ChunkId::from_hex(&self.digits).expect("a name is made of an id")
    }

    /// Whether v0.12 wrote it.
    pub fn is_v0_12(&self) -> bool {
        self.digits.len() == 16
    }

    /// The same chunk in another state.
    pub fn with(&self, letter: Letter) -> Name {
        Name {
            letter,
            ..self.clone()
        }
    }

    /// The data file.
    pub fn data(&self) -> String {
        let letter = self.letter.as_char();
        format!("{}.{letter}{}{}", self.stem, self.digits, self.suffix)
    }

    /// Its metadata.
    pub fn meta(&self) -> String {
        format!("{}.meta", self.data())
    }
}

fn cut(key: &str) -> &str {
    let mut end = key.len().min(MOST_KEY);
    // Not within `%2F`.
    if end < key.len() {
        let tail = &key.as_bytes()[end - 2..end];
        end -= tail
            .iter()
            .rev()
            .position(|byte| *byte == b'%')
            .map_or(0, |at| at + 1);
    }
    &key[..end]
}

/// Everything but letters, digits, `-`, `_` and `.` as `%XX`.
fn encode_key(key: &str) -> String {
    key.bytes().fold(String::new(), |mut out, byte| {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' => out.push(byte.into()),
            _ => out.push_str(&format!("%{byte:02X}")),
        }
        out
    })
}

fn decode_key(text: &str) -> String {
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((first, behind)) = rest.split_first() {
        let escaped = behind
            .split_at_checked(2)
            .filter(|_| *first == b'%')
            .and_then(|(digits, behind)| Some((hex_byte(digits)?, behind)));
        let (byte, behind) = escaped.unwrap_or((*first, behind));
        out.push(byte);
        rest = behind;
    }
    String::from_utf8_lossy(&out).into_owned()
}

fn hex_byte(digits: &[u8]) -> Option<u8> {
    let digit = |byte: u8| char::from(byte).to_digit(16);
    match digits {
        [high, low] => u8::try_from(digit(*high)? << 4 | digit(*low)?).ok(),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const ID: &str = "660d594200885010eead92f8e879e0bd";

    fn id() -> ChunkId {
        ChunkId::from_hex(ID).expect("an id")
    }

    #[test]
    fn names_are_fluentds() {
        let naming = Naming::file("buffer", ".log");
        let name = naming.name(id(), Letter::Queued, "a.b/c");
        assert_eq!(name.data(), format!("buffer.q{ID}.log"));
        assert_eq!(name.meta(), format!("buffer.q{ID}.log.meta"));
        let staged = name.with(Letter::Staged);
        assert_eq!(staged.data(), format!("buffer.b{ID}.log"));
        let single = Naming::single().name(id(), Letter::Queued, "a.b/c");
        assert_eq!(single.data(), format!("fsb.a.b%2Fc.q{ID}.buf"));
        let empty = Naming::single().name(id(), Letter::Staged, "");
        assert_eq!(empty.data(), format!("fsb..b{ID}.buf"));
    }

    #[test]
    fn a_v0_12_name_gives_id_and_key() {
        let naming = Naming::file("out", ".log");
        let Found::Data(name) = naming.read("out.app%2Eaccess.q5a1b2c3d4e5f6071.log") else {
            panic!("a chunk of v0.12");
        };
        assert!(name.is_v0_12());
        assert_eq!(name.id().to_string(), "5a1b2c3d4e5f60715a1b2c3d4e5f6071");
        assert_eq!(naming.key(&name).as_deref(), Some("app.access"));
        let staged = name.with(Letter::Staged).data();
        assert_eq!(staged, "out.app%2Eaccess.b5a1b2c3d4e5f6071.log");
    }

    #[test]
    fn fluentds_glob_sees_none_of_our_files() {
        let naming = Naming::file("buffer", ".log");
        let name = naming.name(id(), Letter::Staged, "");
        for ours in [
            naming.side(id()),
            naming.part(id()),
            naming.lock(),
            name.data() + ".broken",
        ] {
            assert!(!ours.ends_with(".log"), "{ours}");
            assert!(!matches!(
                naming.read(&ours),
                Found::Data(_) | Found::Meta(_)
            ));
        }
        assert_eq!(naming.read(&naming.side(id())), Found::Side(id()));
        assert_eq!(naming.read(&naming.part(id())), Found::Part(id()));
    }

    #[test]
    fn what_is_no_chunk_is_left_alone() {
        let naming = Naming::file("buffer", ".log");
        for other in [
            "buffer.log",
            "buffer.x660d594200885010eead92f8e879e0bd.log",
            "buffer.b66.log",
            "buffer2.b660d594200885010eead92f8e879e0bd.log",
            "buffer.b660d594200885010eead92f8e879e0bd.txt",
            "",
        ] {
            assert_eq!(naming.read(other), Found::Other, "{other}");
        }
    }

    #[test]
    fn a_long_key_still_makes_a_file_name() {
        let name = Naming::single().name(id(), Letter::Staged, &"ログ/".repeat(100));
        assert!(name.data().len() < 240);
        assert!(matches!(
            Naming::single().read(&name.data()),
            Found::Data(_)
        ));
    }

    proptest! {
        #[test]
        fn a_name_reads_back_as_what_it_was_made_of(key in "[^\u{0}]{0,12}", staged in any::<bool>(), bytes in any::<[u8; 16]>()) {
            let naming = Naming::single();
            let letter = if staged { Letter::Staged } else { Letter::Queued };
            let name = naming.name(ChunkId::from_bytes(bytes), letter, &key);
            prop_assert_eq!(naming.read(&name.data()), Found::Data(name.clone()));
            prop_assert_eq!(naming.read(&name.meta()), Found::Meta(name.clone()));
            prop_assert_eq!(naming.key(&name), Some(key));
            prop_assert_eq!(name.id(), ChunkId::from_bytes(bytes));
        }

        #[test]
        fn any_text_is_read_without_panic(text in ".{0,80}") {
            let naming = Naming::file("buffer", ".log");
            if let Found::Data(name) = naming.read(&text) {
                prop_assert_eq!(name.data(), text);
            }
        }
    }
}
