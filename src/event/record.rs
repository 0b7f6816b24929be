//! A record as filters and formatters see it: keys with raw value slices, decoded only on demand.

use super::msgpack::{Malformed, read_map_header, read_text, skip_value};

/// One field of a record, undecoded.
#[derive(Clone, Copy, Debug)]
pub struct Field<'a> {
    /// The key's text.
    pub key: &'a [u8],
    /// Key and value as they are encoded.
    pub raw: &'a [u8],
    /// The encoded value.
    pub value: &'a [u8],
}

/// Walks the fields of an encoded record.
pub fn fields(
    record: &[u8],
) -> Result<impl Iterator<Item = Result<Field<'_>, Malformed>>, Malformed> {
    let (head, pairs) = read_map_header(record)?.ok_or(Malformed::Invalid)?;
    let mut at = head;
    Ok((0..pairs).map(move |_| {
        let start = at;
        let (key, key_len) = read_text(&record[at..])?.ok_or(Malformed::Invalid)?;
        let value_at = at + key_len;
        at = value_at + skip_value(&record[value_at..])?;
        Ok(Field {
            key,
            raw: &record[start..at],
            value: &record[value_at..at],
        })
    }))
}

/// The encoded value of `key`; the last one where a key stands twice.
pub fn find<'a>(record: &'a [u8], key: &str) -> Option<&'a [u8]> {
    let wanted = key.as_bytes();
    fields(record)
        .ok()?
        .flatten()
        .filter(|field| field.key == wanted)
        .last()
        .map(|field| field.value)
}

/// The text of `key`, if it is there and is text or bytes.
pub fn find_text<'a>(record: &'a [u8], key: &str) -> Option<&'a [u8]> {
    read_text(find(record, key)?).ok()?.map(|(text, _)| text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::{Entries, EventTime, msgpack};

    fn sample() -> Vec<u8> {
        let mut batch = Entries::default();
        let mut record = batch.begin(EventTime { sec: 1, nsec: 0 });
        record.str("a", b"first");
        record.nil("b");
        record.bin("a", b"second");
        record.finish();
        let (bytes, _) = batch.freeze();
        let entry = msgpack::entries(&bytes)
            .next()
            .expect("one")
            .expect("well formed");
        entry.record.to_vec()
    }

    #[test]
    fn the_last_of_a_repeated_key_counts() {
        assert_eq!(find_text(&sample(), "a"), Some(&b"second"[..]));
    }

    #[test]
    fn absent_and_nil_have_no_text() {
        assert_eq!(find_text(&sample(), "b"), None);
        assert_eq!(find_text(&sample(), "c"), None);
        assert_eq!(find(&sample(), "b"), Some(&[0xc0][..]));
    }
}
