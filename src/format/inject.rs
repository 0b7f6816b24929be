//! `<inject>`: fields that an output adds to a copy of each record: host name, worker, tag, time, in this order. A field that the
//! record has already is overwritten.

use serde::Deserialize;

use crate::config::{Element, Result};
use crate::event::msgpack::{write_f64, write_int, write_map_header, write_str};
use crate::event::record::fields;
use crate::event::{EventTime, Tag};

use super::time::{TextType, TimeParams, TimeText};

/// The parameters of `<inject>`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
struct Params {
    /// The field that gets the host's name.
    hostname_key: Option<String>,
    /// That name, if not the machine's.
    hostname: Option<String>,
    /// The field that gets the worker's number, which is 0.
    worker_id_key: Option<String>,
    /// The field that gets the tag.
    tag_key: Option<String>,
    /// The field that gets the time.
    time_key: Option<String>,
    /// How the time is written.
    time_type: InjectedTime,
    /// With `time_type string`: its format.
    time_format: Option<String>,
    /// With `time_type string`: its zone.
    timezone: Option<String>,
    /// Whether the time is local (the default).
    localtime: Option<bool>,
    /// Whether the time is UTC.
    utc: Option<bool>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
enum InjectedTime {
    #[default]
    Float,
    Unixtime,
    UnixtimeMillis,
    UnixtimeMicros,
    UnixtimeNanos,
    String,
}

/// What is added to each record.
#[derive(Debug)]
pub struct Inject {
    hostname: Option<(String, String)>,
    worker_id_key: Option<String>,
    tag_key: Option<String>,
    time_key: Option<String>,
    time_type: InjectedTime,
    time_text: TimeText,
}

impl Inject {
    /// Reads the `<inject>` section of an output; `None` where it has none, or where that adds nothing.
    pub fn configure(output: &Element) -> Result<Option<Inject>> {
        let Some(section) = output.section("inject")? else {
            return Ok(None);
        };
        let params: Params = section.params()?;
        if params.time_format.is_some() && params.time_type != InjectedTime::String {
            section.warn_at(
                "time_format",
                "time_format is not used without time_type string, as in Fluentd",
            );
        }
        Inject::of(section, params)
    }

    fn of(section: &Element, params: Params) -> Result<Option<Inject>> {
        let time = TimeParams {
            time_type: TextType::String,
            time_format: params.time_format,
            timezone: params.timezone,
            localtime: params.localtime,
            utc: params.utc,
        };
        let machine = || {
            let name = nix::unistd::gethostname().unwrap_or_default();
            name.to_string_lossy().into_owned()
        };
        let name = params.hostname;
        let inject = Inject {
            hostname: params
                .hostname_key
                .map(|key| (key, name.unwrap_or_else(machine))),
            worker_id_key: params.worker_id_key,
            tag_key: params.tag_key,
            time_key: params.time_key,
            time_type: params.time_type,
            time_text: TimeText::configure(section, &time)?,
        };
        let adds = inject.keys().next().is_some();
        Ok(adds.then_some(inject))
    }

    /// Appends the record with the fields added. A record that is no map is appended as it is.
    pub fn write(&self, tag: &Tag, time: EventTime, record: &[u8], out: &mut Vec<u8>) {
        let Ok(old) = fields(record) else {
            return out.extend_from_slice(record);
        };
        let replaced = |key: &[u8]| self.keys().any(|own| own.as_bytes() == key);
        let kept: Vec<&[u8]> = old
            .flatten()
            .filter(|field| !replaced(field.key))
            .map(|field| field.raw)
            .collect();
        write_map_header(out, kept.len() + self.keys().count());
        kept.iter().for_each(|raw| out.extend_from_slice(raw));
        if let Some((key, name)) = &self.hostname {
            write_str(out, key.as_bytes());
            write_str(out, name.as_bytes());
        }
        if let Some(key) = &self.worker_id_key {
            write_str(out, key.as_bytes());
            write_int(out, 0);
        }
        if let Some(key) = &self.tag_key {
            write_str(out, key.as_bytes());
            write_str(out, tag.as_str().as_bytes());
        }
        if let Some(key) = &self.time_key {
            write_str(out, key.as_bytes());
            self.write_time(time, out);
        }
    }

    fn keys(&self) -> impl Iterator<Item = &str> {
        let hostname = self.hostname.as_ref().map(|(key, _)| key);
        let others = [&self.worker_id_key, &self.tag_key, &self.time_key];
        hostname
            .into_iter()
            .chain(others.into_iter().flatten())
            .map(String::as_str)
    }

    fn write_time(&self, time: EventTime, out: &mut Vec<u8>) {
        let (sec, nsec) = (i64::from(time.sec), i64::from(time.nsec));
        match self.time_type {
            // Cut to microseconds, as Fluentd does.
            InjectedTime::Float => write_f64(out, sec as f64 + (nsec / 1000) as f64 / 1e6),
            InjectedTime::Unixtime => write_int(out, sec),
            InjectedTime::UnixtimeMillis => write_int(out, sec * 1000 + nsec / 1_000_000),
            InjectedTime::UnixtimeMicros => write_int(out, sec * 1_000_000 + nsec / 1000),
            InjectedTime::UnixtimeNanos => write_int(out, sec * 1_000_000_000 + nsec),
            InjectedTime::String => {
                let mut text = Vec::new();
                self.time_text.write(time, &mut text);
                write_str(out, &text);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::json;
    use super::*;

    const TIME: EventTime = EventTime {
        sec: 1_362_020_400,
        nsec: 5_999_999,
    };

    fn injected(params: Params, record: &[u8]) -> String {
        let inject = Inject::of(&Element::default(), params)
            .expect("fine")
            .expect("something");
        let (mut bytes, mut text) = (Vec::new(), Vec::new());
        inject.write(&Tag::new("app.x"), TIME, record, &mut bytes);
        json::write(&mut text, &bytes);
        String::from_utf8(text).expect("text")
    }

    #[test]
    fn fields_are_added_in_order_and_overwrite() {
        let params = Params {
            hostname_key: Some("host".to_owned()),
            hostname: Some("web1".to_owned()),
            worker_id_key: Some("worker".to_owned()),
            tag_key: Some("tag".to_owned()),
            time_key: Some("time".to_owned()),
            ..Params::default()
        };
        assert_eq!(
            injected(params, b"\x82\xa3tag\xa1x\xa1a\x01"),
            r#"{"a":1,"host":"web1","worker":0,"tag":"app.x","time":1362020400.005999}"#
        );
    }

    #[test]
    fn times_are_written_in_every_type() {
        for (time_type, expected) in [
            (InjectedTime::Unixtime, "1362020400"),
            (InjectedTime::UnixtimeMillis, "1362020400005"),
            (InjectedTime::UnixtimeMicros, "1362020400005999"),
            (InjectedTime::UnixtimeNanos, "1362020400005999999"),
            (InjectedTime::String, "\"2013-02-28T03:00:00Z\""),
        ] {
            let params = Params {
                time_key: Some("t".to_owned()),
                time_type,
                utc: Some(true),
                ..Params::default()
            };
            assert_eq!(injected(params, b"\x80"), format!("{{\"t\":{expected}}}"));
        }
    }

    #[test]
    fn a_section_that_adds_nothing_is_none() {
        let nothing = Inject::of(&Element::default(), Params::default());
        assert!(nothing.expect("fine").is_none());
    }
}
