//! `compress`: how a chunk's bytes are kept.
//!
//! Each append is one gzip member or zstd frame, and members are concatenated, as in Fluentd: whoever can read one can read the chunk. All
//! limits count the bytes as they are kept.

use std::io::{self, ErrorKind, Read, Write};

use bytes::Bytes;
use flate2::Compression;
use flate2::bufread::GzDecoder;
use flate2::read::MultiGzDecoder;
use flate2::write::GzEncoder;
use serde::Deserialize;

/// Packs about as well as gzip's default, at several times its speed.
const ZSTD_LEVEL: i32 = 1;

/// `compress`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Compress {
    /// As they are.
    #[default]
    Text,
    /// gzip members.
    Gzip,
    /// zstd frames.
    Zstd,
}

impl Compress {
    /// As the configuration and the forward protocol have it.
    pub fn word(self) -> &'static str {
        match self {
            Compress::Text => "text",
            Compress::Gzip => "gzip",
            Compress::Zstd => "zstd",
        }
    }

    /// How bytes are kept that begin like this: entries never begin as a gzip member or a zstd frame does.
    pub fn of(bytes: &[u8]) -> Compress {
        match bytes {
            [0x1f, 0x8b, ..] => Compress::Gzip,
            [0x28, 0xb5, 0x2f, 0xfd, ..] => Compress::Zstd,
            _ => Compress::Text,
        }
    }

    /// One member or frame of all these parts; text as it is.
    pub fn pack<B: AsRef<[u8]>>(self, parts: &[B]) -> io::Result<Vec<u8>> {
        match self {
            Compress::Text => {
                let parts = parts.iter().map(AsRef::as_ref);
                Ok(parts.collect::<Vec<_>>().concat())
            }
            Compress::Gzip => {
                let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
                write_all(&mut encoder, parts)?;
                encoder.finish()
            }
            Compress::Zstd => {
                let mut encoder = zstd::Encoder::new(Vec::new(), ZSTD_LEVEL)?;
                write_all(&mut encoder, parts)?;
                encoder.finish()
            }
        }
    }

    /// The entries in a chunk's parts, each of whole members or frames.
    pub fn unpack(self, parts: Vec<Bytes>) -> io::Result<Vec<Bytes>> {
        if self == Compress::Text {
            return Ok(parts);
        }
        let unpack = |part: Bytes| {
            let mut entries = Vec::with_capacity(8 * part.len());
            match self {
                Compress::Zstd => zstd::Decoder::with_buffer(&part[..])?.read_to_end(&mut entries),
                _ => MultiGzDecoder::new(&part[..]).read_to_end(&mut entries),
            }?;
            Ok(Bytes::from(entries))
        };
        parts.into_iter().map(unpack).collect()
    }

    /// The first member or frame of `data`, inflated as far as it is sound and not longer than `most`, and what comes behind it; an error where it
    /// is cut (`UnexpectedEof`), damaged or longer.
    pub fn member(self, data: &[u8], most: u64) -> (Vec<u8>, io::Result<&[u8]>) {
        let mut plain = Vec::new();
        let limit = most.saturating_add(1);
        let rest = match self {
            Compress::Text => Ok(data),
            Compress::Gzip => {
                let mut member = GzDecoder::new(data);
                let read = member.by_ref().take(limit).read_to_end(&mut plain);
                read.map(|_| member.into_inner())
            }
            Compress::Zstd => zstd::Decoder::with_buffer(data).and_then(|frame| {
                let mut frame = frame.single_frame();
                frame.by_ref().take(limit).read_to_end(&mut plain)?;
                Ok(frame.finish())
            }),
        };
        if plain.len() as u64 > most {
            let message = format!("inflates to more than {most} bytes");
            return (plain, Err(io::Error::new(ErrorKind::InvalidData, message)));
        }
        (plain, rest)
    }

    /// How many bytes of `data` that begin with a damaged member come before the next one that is whole; all where none is.
    pub fn next_whole(data: &[u8], most: u64) -> usize {
        let heads = memchr::memchr2_iter(0x1f, 0x28, data).filter(|at| *at > 0);
        let is_whole = |at: &usize| {
            let rest = &data[*at..];
            let compress = Compress::of(rest);
            compress != Compress::Text && compress.member(rest, most).1.is_ok()
        };
        heads.into_iter().find(is_whole).unwrap_or(data.len())
    }

    /// How many bytes may be packed so that even what does not shrink takes no more than `most`.
    pub fn safely(self, most: usize) -> usize {
        match self {
            Compress::Text => most,
            Compress::Gzip | Compress::Zstd => most.saturating_sub(most / 128 + 64).max(1),
        }
    }
}

fn write_all<B: AsRef<[u8]>>(out: &mut impl Write, parts: &[B]) -> io::Result<()> {
    parts
        .iter()
        .try_for_each(|part| out.write_all(part.as_ref()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const ALL: [Compress; 3] = [Compress::Text, Compress::Gzip, Compress::Zstd];

    proptest! {
        #[test]
        fn members_that_follow_one_another_are_read_as_one(
            parts in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..300), 1..5),
        ) {
            for compress in ALL {
                let members: Vec<Vec<u8>> = parts.iter().map(|part| compress.pack(&[part]).expect("packed")).collect();
                let unpacked = compress.unpack(vec![Bytes::from(members.concat())]).expect("unpacked");
                prop_assert_eq!(unpacked.concat(), parts.concat());
            }
        }

        #[test]
        fn what_does_not_shrink_stays_within_its_bound(most in 200usize..20_000, seed in any::<u64>()) {
            let mut random = fastrand::Rng::with_seed(seed);
            for compress in ALL {
                let noise: Vec<u8> = (0..compress.safely(most)).map(|_| random.u8(..)).collect();
                prop_assert!(compress.pack(&[noise]).expect("packed").len() <= most);
            }
        }
    }

    #[test]
    fn packed_bytes_are_known_by_their_head() {
        for compress in ALL {
            let entry = b"\x92\x01\x80";
            let packed = compress.pack(&[entry]).expect("packed");
            assert_eq!(Compress::of(&packed), compress);
        }
    }

    #[test]
    fn a_whole_member_is_found_behind_damage() {
        for compress in [Compress::Gzip, Compress::Zstd] {
            let whole = compress.pack(&[[7; 1000]]).expect("packed");
            // As they may stand in compressed bytes.
            let heads = b"\x1f\x8b\x08\x00 \x28\xb5\x2f\xfd".to_vec();
            for damage in [&whole[..whole.len() / 2], &heads[..], b"x"] {
                let data = [damage, &whole, &whole].concat();
                assert_eq!(Compress::next_whole(&data, 1000), damage.len());
                assert_eq!(Compress::next_whole(damage, 1000), damage.len());
            }
        }
    }

    #[test]
    fn cut_off_members_are_an_error() {
        for compress in [Compress::Gzip, Compress::Zstd] {
            let mut packed = compress.pack(&[[7; 1000]]).expect("packed");
            packed.truncate(packed.len() - 4);
            assert!(compress.unpack(vec![Bytes::from(packed)]).is_err());
        }
    }
}
