//! `encoding` and `from_encoding`: which texts a file's bytes are, and how they reach the wire.
//!
//! Fluentd labels its strings, and msgpack sends every labelled string as UTF-8 str. Here lines become UTF-8 before they are
//! parsed: regexps and delimiters meet the same text whatever the file's encoding. What cannot be decoded becomes U+FFFD; no line
//! is lost for it. Characters that vendors added to a standard are decoded, where Ruby replaces them, too.
//!
//! encoding_rs knows the browsers' encodings, which differ from Ruby's in a few characters: the tables below say where
//! (compared with Ruby 3.1, every sequence of one and two bytes).

use encoding_rs as rs;
use encoding_rs::CoderResult;

use super::lines::Newline;
use crate::event::Label;

/// A name of Ruby's, and what it stands for.
struct Named {
    /// Ruby's name and its aliases; any case.
    names: &'static [&'static str],
    codec: Codec,
}

#[derive(Clone, Copy)]
enum Codec {
    /// `ASCII-8BIT`: bytes without meaning.
    Binary,
    Ascii,
    Latin1,
    Utf8,
    Utf16 {
        big_endian: bool,
    },
    Utf32 {
        big_endian: bool,
    },
    Browsers(Browsers),
}

/// An encoding of encoding_rs, and where Ruby's differs.
#[derive(Clone, Copy)]
struct Browsers {
    encoding: &'static rs::Encoding,
    /// Characters of encoding_rs and Ruby's in their place.
    other: &'static [(char, char)],
    /// Whether 0x80 to 0x9F are control characters.
    controls: bool,
}

/// JIS against Microsoft: the same code points of JIS X 0208 as different characters.
const JIS: &[(char, char)] = &[
    ('\u{2015}', '\u{2014}'),
    ('\u{ff5e}', '\u{301c}'),
    ('\u{2225}', '\u{2016}'),
    ('\u{ff0d}', '\u{2212}'),
    ('\u{ffe0}', '\u{a2}'),
    ('\u{ffe1}', '\u{a3}'),
    ('\u{ffe2}', '\u{ac}'),
];

/// Two letters of KOI8-RU stand where KOI8-U has box drawings.
const KOI8_U: &[(char, char)] = &[('\u{45e}', '\u{255d}'), ('\u{40e}', '\u{256c}')];

const fn plain(encoding: &'static rs::Encoding) -> Codec {
    differing(encoding, &[])
}

const fn differing(encoding: &'static rs::Encoding, other: &'static [(char, char)]) -> Codec {
    Codec::Browsers(Browsers {
        encoding,
        other,
        controls: false,
    })
}

const fn with_controls(encoding: &'static rs::Encoding) -> Codec {
    Codec::Browsers(Browsers {
        encoding,
        other: &[],
        controls: true,
    })
}

const fn named(names: &'static [&'static str], codec: Codec) -> Named {
    Named { names, codec }
}

/// The encodings that can be read.
const ENCODINGS: &[Named] = &[
    named(&["UTF-8", "CP65001"], Codec::Utf8),
    named(&["ASCII-8BIT", "BINARY"], Codec::Binary),
    named(
        &["US-ASCII", "ASCII", "ANSI_X3.4-1968", "646"],
        Codec::Ascii,
    ),
    named(&["UTF-16LE"], Codec::Utf16 { big_endian: false }),
    named(&["UTF-16BE", "UCS-2BE"], Codec::Utf16 { big_endian: true }),
    named(&["UTF-32LE", "UCS-4LE"], Codec::Utf32 { big_endian: false }),
    named(&["UTF-32BE", "UCS-4BE"], Codec::Utf32 { big_endian: true }),
    named(&["Shift_JIS"], differing(rs::SHIFT_JIS, JIS)),
    named(
        &["Windows-31J", "CP932", "csWindows31J", "SJIS", "PCK"],
        plain(rs::SHIFT_JIS),
    ),
    named(&["EUC-JP", "eucJP"], differing(rs::EUC_JP, JIS)),
    named(&["eucJP-ms", "euc-jp-ms"], plain(rs::EUC_JP)),
    named(&["CP51932"], plain(rs::EUC_JP)),
    named(
        &["ISO-2022-JP", "ISO2022-JP"],
        differing(rs::ISO_2022_JP, JIS),
    ),
    named(&["CP50221"], plain(rs::ISO_2022_JP)),
    named(&["CP50220"], plain(rs::ISO_2022_JP)),
    named(&["EUC-KR", "eucKR"], plain(rs::EUC_KR)),
    named(&["CP949"], plain(rs::EUC_KR)),
    named(&["GB18030"], plain(rs::GB18030)),
    named(&["GBK", "CP936"], plain(rs::GBK)),
    named(&["GB2312", "EUC-CN", "eucCN"], plain(rs::GBK)),
    named(&["Big5"], plain(rs::BIG5)),
    named(&["CP950"], plain(rs::BIG5)),
    named(&["Big5-HKSCS", "Big5-HKSCS:2008"], plain(rs::BIG5)),
    named(&["ISO-8859-1", "ISO8859-1"], Codec::Latin1),
    named(&["ISO-8859-2", "ISO8859-2"], plain(rs::ISO_8859_2)),
    named(&["ISO-8859-3", "ISO8859-3"], plain(rs::ISO_8859_3)),
    named(&["ISO-8859-4", "ISO8859-4"], plain(rs::ISO_8859_4)),
    named(&["ISO-8859-5", "ISO8859-5"], plain(rs::ISO_8859_5)),
    named(&["ISO-8859-6", "ISO8859-6"], plain(rs::ISO_8859_6)),
    named(&["ISO-8859-7", "ISO8859-7"], plain(rs::ISO_8859_7)),
    named(&["ISO-8859-8", "ISO8859-8"], plain(rs::ISO_8859_8)),
    named(
        &["ISO-8859-9", "ISO8859-9"],
        with_controls(rs::WINDOWS_1254),
    ),
    named(&["ISO-8859-10", "ISO8859-10"], plain(rs::ISO_8859_10)),
    named(
        &["ISO-8859-11", "ISO8859-11"],
        with_controls(rs::WINDOWS_874),
    ),
    named(&["TIS-620"], with_controls(rs::WINDOWS_874)),
    named(&["ISO-8859-13", "ISO8859-13"], plain(rs::ISO_8859_13)),
    named(&["ISO-8859-14", "ISO8859-14"], plain(rs::ISO_8859_14)),
    named(&["ISO-8859-15", "ISO8859-15"], plain(rs::ISO_8859_15)),
    named(&["ISO-8859-16", "ISO8859-16"], plain(rs::ISO_8859_16)),
    named(&["KOI8-R", "CP878"], plain(rs::KOI8_R)),
    named(&["KOI8-U"], differing(rs::KOI8_U, KOI8_U)),
    named(&["IBM866", "CP866"], plain(rs::IBM866)),
    named(&["Windows-874", "CP874"], plain(rs::WINDOWS_874)),
    named(&["Windows-1250", "CP1250"], plain(rs::WINDOWS_1250)),
    named(&["Windows-1251", "CP1251"], plain(rs::WINDOWS_1251)),
    named(&["Windows-1252", "CP1252"], plain(rs::WINDOWS_1252)),
    named(&["Windows-1253", "CP1253"], plain(rs::WINDOWS_1253)),
    named(&["Windows-1254", "CP1254"], plain(rs::WINDOWS_1254)),
    named(&["Windows-1255", "CP1255"], plain(rs::WINDOWS_1255)),
    named(&["Windows-1256", "CP1256"], plain(rs::WINDOWS_1256)),
    named(&["Windows-1257", "CP1257"], plain(rs::WINDOWS_1257)),
    named(&["Windows-1258", "CP1258"], plain(rs::WINDOWS_1258)),
];

/// What Ruby knows and we cannot read. Names that begin with `mac`, `IBM` or `CP` are counted to them as well.
const RUBYS: &[&str] = &[
    "Big5-UAO",
    "CESU-8",
    "ebcdic-cp-us",
    "Emacs-Mule",
    "EUC-JIS-2004",
    "EUC-JISX0213",
    "EUC-TW",
    "eucTW",
    "GB12345",
    "GB1988",
    "ISO-2022-JP-2",
    "ISO2022-JP2",
    "ISO-2022-JP-KDDI",
    "MacJapanese",
    "SJIS-DoCoMo",
    "SJIS-KDDI",
    "SJIS-SoftBank",
    "stateless-ISO-2022-JP",
    "stateless-ISO-2022-JP-KDDI",
    "UTF-7",
    "UTF-8-HFS",
    "UTF-8-MAC",
    "UTF8-DoCoMo",
    "UTF8-KDDI",
    "UTF8-MAC",
    "UTF8-SoftBank",
    "external",
    "filesystem",
    "internal",
    "locale",
];

fn find(name: &str) -> Result<&'static Named, String> {
    let is = |known: &&str| known.eq_ignore_ascii_case(name);
    if let Some(found) = ENCODINGS.iter().find(|named| named.names.iter().any(&is)) {
        return Ok(found);
    }
    let lower = name.to_ascii_lowercase();
    if lower == "utf-16" || lower == "utf-32" {
        return Err(format!(
            "{name} does not say which byte of a character comes first: write {name}LE or {name}BE"
        ));
    }
    let page = ["cp", "ibm"]
        .iter()
        .find_map(|head| lower.strip_prefix(head));
    let page = page.is_some_and(|page| page.len() >= 3 && page.bytes().all(|b| b.is_ascii_digit()));
    if page || lower.starts_with("mac") || RUBYS.iter().any(is) {
        return Err(format!(
            "the encoding {name}, which Ruby knows, cannot be read: have the lines converted by who writes them, or leave the parameter out to pass bytes on as they are"
        ));
    }
    let distance = |known: &str| strsim::damerau_levenshtein(&lower, &known.to_ascii_lowercase());
    let near = names().map(|known| (distance(known), known)).min();
    let near = near.filter(|(distance, _)| *distance <= 1 + name.len() / 4);
    Err(match near {
        Some((_, known)) => format!("unknown encoding name - {name} (did you mean {known}?)"),
        None => format!("unknown encoding name - {name}"),
    })
}

/// The names that can be read.
fn names() -> impl Iterator<Item = &'static str> {
    ENCODINGS
        .iter()
        .flat_map(|named| named.names.iter().copied())
}

/// What is wrong with the two parameters: which one, and why.
#[derive(Debug, PartialEq, Eq)]
pub struct Wrong {
    /// The parameter.
    pub key: &'static str,
    /// What is wrong with it.
    pub message: String,
}

/// What a source makes of its files' bytes.
#[derive(Default)]
pub struct Encodings {
    /// What ends a line in the file.
    pub newline: Newline,
    /// What the texts are on the wire.
    pub label: Label,
    /// Makes UTF-8 of lines that are something else.
    pub transcoder: Option<Transcoder>,
    /// `from_encoding` is `encoding` by another name: lines are only labelled.
    pub same: bool,
}

impl Encodings {
    /// Reads `encoding` and `from_encoding`.
    pub fn of(encoding: Option<&str>, from: Option<&str>) -> Result<Encodings, Wrong> {
        let known = |key, name: Option<&str>| {
            let found = name.map(find).transpose();
            found.map_err(|message| Wrong { key, message })
        };
        let to = known("encoding", encoding)?;
        let from = known("from_encoding", from)?;
        let Some(to) = to else {
            let message = "'from_encoding' parameter must be specified with 'encoding' parameter";
            return match from {
                None => Ok(Encodings::default()),
                Some(_) => Err(Wrong {
                    key: "from_encoding",
                    message: message.to_owned(),
                }),
            };
        };
        let source = from.unwrap_or(to);
        let same = std::ptr::eq(source, to);
        let label = match to.codec {
            Codec::Binary => Label::Bytes,
            _ => Label::Text,
        };
        let as_it_is = same && matches!(to.codec, Codec::Utf8 | Codec::Binary);
        Ok(Encodings {
            newline: source.codec.newline(),
            label,
            transcoder: (!as_it_is).then(|| Transcoder {
                from: source.codec,
                to: (!same).then_some(to.codec),
                text: String::new(),
            }),
            same: same && from.is_some(),
        })
    }
}

/// Makes UTF-8 of one line after the other.
pub struct Transcoder {
    from: Codec,
    /// What the line passes through: what this encoding lacks becomes `?`.
    to: Option<Codec>,
    text: String,
}

impl Transcoder {
    /// The line as UTF-8.
    pub fn decode(&mut self, line: &[u8]) -> &[u8] {
        self.text.clear();
        // A long line's memory is not kept for the short ones that follow.
        self.text.shrink_to(1 << 20);
        self.from.decode(line, &mut self.text);
        if let Some(to) = self.to
            && !self.text.is_ascii()
            && !self.text.chars().all(|c| to.has(c))
        {
            let kept = self.text.chars().map(|c| if to.has(c) { c } else { '?' });
            self.text = kept.collect();
        }
        self.text.as_bytes()
    }
}

impl Codec {
    fn newline(self) -> Newline {
        match self {
            Codec::Utf16 { big_endian } => Newline::Unit {
                width: 2,
                big_endian,
            },
            Codec::Utf32 { big_endian } => Newline::Unit {
                width: 4,
                big_endian,
            },
            _ => Newline::Byte,
        }
    }

    fn decode(self, line: &[u8], text: &mut String) {
        match self {
            Codec::Binary | Codec::Ascii => text.extend(line.iter().map(|byte| match byte {
                0..0x80 => char::from(*byte),
                _ => char::REPLACEMENT_CHARACTER,
            })),
            Codec::Latin1 => text.extend(line.iter().map(|byte| char::from(*byte))),
            Codec::Utf8 => decode_with(rs::UTF_8, line, text),
            Codec::Utf16 { big_endian: true } => decode_with(rs::UTF_16BE, line, text),
            Codec::Utf16 { big_endian: false } => decode_with(rs::UTF_16LE, line, text),
            Codec::Utf32 { big_endian } => text.extend(line.chunks(4).map(|unit| {
                let number = <[u8; 4]>::try_from(unit).map(|unit| match big_endian {
                    true => u32::from_be_bytes(unit),
                    false => u32::from_le_bytes(unit),
                });
                let character = number.ok().and_then(char::from_u32);
                character.unwrap_or(char::REPLACEMENT_CHARACTER)
            })),
            Codec::Browsers(browsers) => browsers.decode(line, text),
        }
    }

    /// Whether the encoding has this character.
    fn has(self, character: char) -> bool {
        match self {
            Codec::Binary | Codec::Ascii => character.is_ascii(),
            Codec::Latin1 => u32::from(character) < 0x100,
            Codec::Utf8 | Codec::Utf16 { .. } | Codec::Utf32 { .. } => true,
            Codec::Browsers(browsers) => browsers.has(character),
        }
    }
}

impl Browsers {
    fn decode(self, line: &[u8], text: &mut String) {
        if self.controls {
            let control = |byte: &u8| (0x80..0xa0).contains(byte);
            for run in line.chunk_by(|a, b| control(a) == control(b)) {
                match run.first().is_some_and(control) {
                    true => text.extend(run.iter().map(|byte| char::from(*byte))),
                    false => decode_with(self.encoding, run, text),
                }
            }
            return;
        }
        decode_with(self.encoding, line, text);
        if !self.other.is_empty() && text.contains(|c| self.rubys(c) != c) {
            *text = text.chars().map(|c| self.rubys(c)).collect();
        }
    }

    fn rubys(self, character: char) -> char {
        let other = self.other.iter().find(|(rs, _)| *rs == character);
        other.map_or(character, |(_, ruby)| *ruby)
    }

    fn has(self, character: char) -> bool {
        let of_ruby = self.other.iter().any(|(_, ruby)| *ruby == character);
        if of_ruby || self.controls && ('\u{80}'..'\u{a0}').contains(&character) {
            return true;
        }
        let (_, _, replaced) = self.encoding.encode(character.encode_utf8(&mut [0; 4]));
        !replaced && self.rubys(character) == character
    }
}

/// Appends the text; a byte order mark stays the character that it is.
fn decode_with(encoding: &'static rs::Encoding, line: &[u8], text: &mut String) {
    let mut decoder = encoding.new_decoder_without_bom_handling();
    let most = decoder.max_utf8_buffer_length(line.len());
    text.reserve(most.unwrap_or(line.len() * 3 + 3));
    let (result, _, _) = decoder.decode_to_string(line, text, true);
    debug_assert_eq!(result, CoderResult::InputEmpty);
}

/// A line as its parser is to see it.
#[inline]
pub fn utf8<'l>(transcoder: &'l mut Option<Transcoder>, line: &'l [u8]) -> &'l [u8] {
    match transcoder {
        None => line,
        Some(transcoder) => transcoder.decode(line),
    }
}

#[cfg(test)]
#[path = "encoding_tests.rs"]
mod tests;
