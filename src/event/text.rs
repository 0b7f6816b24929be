//! A value as text, as Ruby's `to_s` and `inspect` print it.

use std::io::Write;

use super::accessor::items;
use super::msgpack::{self, read_text};
use super::record;

/// Appends the text of an encoded value; nothing for nil.
pub fn append(value: &[u8], out: &mut Vec<u8>) {
    match read_text(value) {
        Ok(Some((text, _))) => out.extend_from_slice(text),
        _ if value != [0xc0] => inspect(value, out),
        _ => {}
    }
}

fn inspect(value: &[u8], out: &mut Vec<u8>) {
    let mut cursor = value;
    let done = match value.first() {
        Some(0xc0) => out.write_all(b"nil"),
        Some(0xc2) => out.write_all(b"false"),
        Some(0xc3) => out.write_all(b"true"),
        Some(0xca) => {
            let float = rmp::decode::read_f32(&mut cursor).unwrap_or_default();
            out.write_all(float_text(f64::from(float)).as_bytes())
        }
        Some(0xcb) => {
            let float = rmp::decode::read_f64(&mut cursor).unwrap_or_default();
            out.write_all(float_text(float).as_bytes())
        }
        Some(0xcf) => write!(
            out,
            "{}",
            rmp::decode::read_u64(&mut cursor).unwrap_or_default()
        ),
        Some(0x80..=0x8f | 0xde | 0xdf) => inspect_map(value, out),
        Some(0x90..=0x9f | 0xdc | 0xdd) => inspect_array(value, out),
        Some(0xc7 | 0xd7) => write!(
            out,
            "{}",
            msgpack::read_time(value).map_or(0, |time| time.sec)
        ),
        _ => match (
            read_text(value),
            rmp::decode::read_int::<i64, _>(&mut cursor),
        ) {
            (Ok(Some((text, _))), _) => write!(out, "{:?}", String::from_utf8_lossy(text)),
            (_, Ok(int)) => write!(out, "{int}"),
            _ => Ok(()),
        },
    };
    done.expect("writing to memory cannot fail");
}

fn inspect_map(value: &[u8], out: &mut Vec<u8>) -> std::io::Result<()> {
    out.push(b'{');
    for (at, field) in record::fields(value)
        .into_iter()
        .flatten()
        .flatten()
        .enumerate()
    {
        let comma = if at > 0 { ", " } else { "" };
        write!(out, "{comma}{:?}=>", String::from_utf8_lossy(field.key))?;
        inspect(field.value, out);
    }
    out.push(b'}');
    Ok(())
}

fn inspect_array(value: &[u8], out: &mut Vec<u8>) -> std::io::Result<()> {
    out.push(b'[');
    for (at, item) in items(value).into_iter().flatten().flatten().enumerate() {
        if at > 0 {
            out.extend_from_slice(b", ");
        }
        inspect(item, out);
    }
    out.push(b']');
    Ok(())
}

/// Ruby's `Float#to_s`: shortest digits, always with a point, with an exponent outside 1e-4 … 1e16.
fn float_text(float: f64) -> String {
    let size = float.abs();
    if float.is_nan() {
        "NaN".to_owned()
    } else if float.is_infinite() {
        if float > 0.0 { "Infinity" } else { "-Infinity" }.to_owned()
    } else if size != 0.0 && !(1e-4..1e16).contains(&size) {
        let text = format!("{float:e}");
        let (digits, exponent) = text.split_once('e').unwrap_or((&text, "0"));
        let point = if digits.contains('.') { "" } else { ".0" };
        let (sign, exponent) = match exponent.strip_prefix('-') {
            Some(exponent) => ('-', exponent),
            None => ('+', exponent),
        };
        format!("{digits}{point}e{sign}{exponent:0>2}")
    } else {
        format!("{float:?}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(value: &[u8]) -> String {
        let mut out = Vec::new();
        append(value, &mut out);
        String::from_utf8(out).expect("UTF-8")
    }

    #[test]
    fn scalars_print_as_ruby_prints_them() {
        assert_eq!(text(b"\xc0"), "");
        assert_eq!(text(b"\xa2hi"), "hi");
        assert_eq!(text(b"\xc4\x02hi"), "hi");
        assert_eq!(text(b"\xc3"), "true");
        assert_eq!(text(b"\xff"), "-1");
        assert_eq!(text(b"\xcd\x01\x00"), "256");
        assert_eq!(
            text(b"\xcf\xff\xff\xff\xff\xff\xff\xff\xff"),
            u64::MAX.to_string()
        );
    }

    #[test]
    fn floats_print_as_ruby_prints_them() {
        for (float, expected) in [
            (1.0, "1.0"),
            (-0.5, "-0.5"),
            (1e20, "1.0e+20"),
            (1.5e-7, "1.5e-07"),
            (1e15, "1000000000000000.0"),
            (1e16, "1.0e+16"),
        ] {
            assert_eq!(float_text(float), expected);
        }
    }

    #[test]
    fn maps_and_arrays_print_as_ruby_inspects_them() {
        assert_eq!(
            text(b"\x82\xa1a\x92\x01\xa1x\xa1b\xc0"),
            r#"{"a"=>[1, "x"], "b"=>nil}"#
        );
    }
}
