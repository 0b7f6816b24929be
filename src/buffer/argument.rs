//! `<buffer ARG>`: which chunk keys a configuration asks for, refused in Fluentd's words where they make no sense.

use std::sync::Arc;

use jiff::tz::TimeZone;
use serde::Deserialize;

use super::keys::{ChunkKeys, KeyField, Timekey};
use crate::config::types::{Time, Zone};
use crate::config::{Element, Result};
use crate::event::accessor::Accessor;

/// From so many tag and field keys on Fluentd warns.
const MANY: usize = 4;

/// What an output has where its `<buffer>` says nothing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct KeyDefaults {
    /// Chunk keys, as they would be written: `tag`, `time` or nothing.
    pub keys: &'static str,
    /// `timekey` in seconds.
    pub timekey: Option<u32>,
}

/// Parameters that shape the time slices of chunks.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct TimeParams {
    /// Length of a time slice; needed by the chunk key `time`.
    pub timekey: Option<Time>,
    /// Whether slices are cut and named in UTC.
    pub timekey_use_utc: bool,
    /// The zone that they are cut and named in; unset: the system's.
    pub timekey_zone: Option<Zone>,
}

/// Reads the argument and the time parameters of a `<buffer>` section.
pub fn chunk_keys(section: &Element, defaults: KeyDefaults) -> Result<ChunkKeys> {
    let argument = section.arg().filter(|argument| !argument.is_empty());
    let names = names(argument.unwrap_or(defaults.keys)).map_err(|why| section.error(why))?;
    let params: TimeParams = section.params()?;
    let mut keys = ChunkKeys::default();
    for name in &names {
        match name.as_str() {
            "tag" => keys.tag = true,
            "time" => keys.time = Some(timekey(section, &params, defaults)?),
            _ if keys.fields.iter().any(|field| *field.key == **name) => {}
            _ => keys
                .fields
                .push(field(name).map_err(|why| section.error(why))?),
        }
    }
    if usize::from(keys.tag) + keys.fields.len() >= MANY {
        section.warn("many chunk keys specified, and it may cause too many chunks on your system: each value of each key has its own");
    }
    if keys.time.is_none() {
        for name in ["timekey", "timekey_use_utc", "timekey_zone", "timekey_wait"] {
            if section.get(name).is_some() {
                let message = format!("'{name}' has no effect: 'time' is not a chunk key here");
                section.warn_at(name, message);
            }
        }
    }
    Ok(keys)
}

/// Comma-separated names, or a JSON array of them.
fn names(argument: &str) -> std::result::Result<Vec<String>, String> {
    if argument.trim_start().starts_with('[') {
        return serde_json::from_str(argument)
            .map_err(|error| format!("chunk_keys is no JSON array of names: {error}"));
    }
    let names = argument.trim_end_matches([',', ' ', '\t']);
    Ok(match names {
        "" => Vec::new(),
        names => names
            .split(',')
            .map(|name| name.trim().to_owned())
            .collect(),
    })
}

fn timekey(section: &Element, params: &TimeParams, defaults: KeyDefaults) -> Result<Timekey> {
    let given = params.timekey.map(|time| time.0.as_secs());
    let seconds = given.or(defaults.timekey.map(u64::from)).ok_or_else(|| {
        section.error("<buffer ...> argument includes 'time', but timekey is not configured")
    })?;
    if seconds == 0 {
        let message = "timekey should be greater than 0, in whole seconds";
        return Err(section.error_at("timekey", message).into());
    }
    let zone = match &params.timekey_zone {
        _ if params.timekey_use_utc => TimeZone::UTC,
        Some(zone) => zone.0.clone(),
        None => TimeZone::system(),
    };
    Ok(Timekey::new(
        u32::try_from(seconds).unwrap_or(u32::MAX),
        zone,
    ))
}

fn field(name: &str) -> std::result::Result<KeyField, String> {
    let plain = |name: &str| {
        name.bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b"-_.@".contains(&byte))
            && !name.is_empty()
    };
    if name.starts_with("$[") {
        return Err(format!(
            "in chunk_keys: bracket notation is not allowed at the beginning of '{name}': write $.a['b']"
        ));
    }
    if !name.starts_with("$.") && !plain(name) {
        return Err(format!(
            "chunk_keys specification includes invalid char: '{name}' (names are separated by commas)"
        ));
    }
    Ok(KeyField {
        key: Arc::from(name),
        accessor: Accessor::parse(name).map_err(|why| format!("in chunk_keys: {why}"))?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const PLAIN: KeyDefaults = KeyDefaults {
        keys: "tag",
        timekey: None,
    };

    fn keys(argument: &str, params: &[(&str, &str)]) -> std::result::Result<ChunkKeys, String> {
        let nothing = Element::default();
        let mut section = Element::synthetic(&nothing, "buffer", Some(argument));
        for (key, value) in params {
            section.set_param(key, value, &nothing, key);
        }
        chunk_keys(&section, PLAIN).map_err(|errors| errors.to_string())
    }

    fn fields(keys: &ChunkKeys) -> Vec<&str> {
        keys.fields.iter().map(|field| &*field.key).collect()
    }

    #[test]
    fn names_are_separated_by_commas_or_stand_in_an_array() {
        for argument in ["tag, host ,$.a.b", r#"["tag", "host", "$.a.b"]"#] {
            let keys = keys(argument, &[]).expect("valid");
            assert!(keys.tag && keys.time.is_none(), "{argument}");
            assert_eq!(fields(&keys), ["host", "$.a.b"], "{argument}");
        }
        assert!(keys("", &[]).expect("the default").tag);
        let none = keys("[]", &[]).expect("valid");
        assert!(!none.tag && none.fields.is_empty());
        let nested = keys("$.a['b c']", &[]).expect("valid");
        assert_eq!(fields(&nested), ["$.a['b c']"]);
    }

    #[test]
    fn what_fluentd_refuses_is_refused_in_its_words() {
        let refusal = |argument: &str, params: &[(&str, &str)]| {
            keys(argument, params).expect_err("refused").to_string()
        };
        assert!(refusal("tag host", &[]).contains("includes invalid char"));
        assert!(refusal("tag,,host", &[]).contains("includes invalid char"));
        assert!(refusal("$['a']", &[]).contains("bracket notation is not allowed"));
        assert!(refusal("time", &[]).contains("timekey is not configured"));
        assert!(refusal("time", &[("timekey", "0")]).contains("should be greater than 0"));
        let zone = [("timekey", "1h"), ("timekey_zone", "UTC")];
        assert!(refusal("time", &zone).contains("Unsupported timezone"));
        assert!(refusal("[tag]", &[]).contains("JSON array"));
    }

    #[test]
    fn slices_have_the_configured_length_and_zone() {
        let params = [("timekey", "1h"), ("timekey_zone", "+09:00")];
        let time = keys("tag,time", &params).expect("valid").time;
        let hours = TimeZone::fixed(jiff::tz::offset(9));
        assert_eq!(time, Some(Timekey::new(3600, hours)));
        let params = [params[0], params[1], ("timekey_use_utc", "true")];
        let time = keys("time", &params).expect("valid").time;
        assert_eq!(time, Some(Timekey::new(3600, TimeZone::UTC)));
    }
}
