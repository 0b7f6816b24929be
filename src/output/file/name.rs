//! Which file an event goes to: the path of the configuration with time slice, tag and index. Pure.
//!
//! ```text
//! path /l/x       + timekey 1d            →  /l/x.20240102_0.log       (append: /l/x.20240102.log)
//! path /l/x.*.log + timekey 1h            →  /l/x.2024010203_0.log
//! path /l/%Y/%m%d/${tag} + timekey 1d     →  /l/2024/0102/app.access_0.log
//! ```

use jiff::Timestamp;
use jiff::tz::TimeZone;

use crate::buffer::ChunkId;

/// Where the index of files that are not appended to goes.
const INDEX: &str = "_**";

/// What names are made from: parameters of out_file.
#[derive(Clone, Debug)]
pub struct Plan {
    /// `path`.
    pub path: String,
    /// `append`: no index.
    pub append: bool,
    /// `path_suffix`, empty without `add_path_suffix`.
    pub path_suffix: String,
    /// `.gz` or nothing.
    pub compress_suffix: &'static str,
    /// `timekey`, in seconds; `None` without the chunk key time.
    pub timekey: Option<u32>,
    /// `time_slice_format` of old configurations.
    pub time_slice_format: Option<String>,
    /// `timekey_zone`.
    pub zone: TimeZone,
}

/// The names of one output.
#[derive(Clone, Debug)]
pub struct Names {
    template: String,
    timekey: Option<u32>,
    zone: TimeZone,
}

impl Names {
    /// Composes the template as Fluentd does, and checks that it can be filled in.
    pub fn new(plan: &Plan) -> Result<Names, String> {
        let names = Names {
            template: template(plan)?,
            timekey: plan.timekey,
            zone: plan.zone.clone(),
        };
        names.slice(0)?;
        let mut rest = &names.template[..];
        while let Some((_, behind)) = rest.split_once("${") {
            let (placeholder, behind) = behind
                .split_once('}')
                .ok_or("a placeholder is not closed")?;
            if placeholder != "chunk_id" && tag_part(placeholder).is_none() {
                return Err(format!(
                    "'${{{placeholder}}}' is not supported: use ${{tag}}, ${{tag[N]}} or ${{chunk_id}}"
                ));
            }
            rest = behind;
        }
        Ok(names)
    }

    /// The second in which the slice of `sec` begins, as Fluentd cuts it: at multiples of timekey in local time.
    pub fn slice_start(&self, sec: u32) -> u32 {
        let Some(timekey) = self.timekey.map(i64::from) else {
            return 0;
        };
        let sec = i64::from(sec);
        let offset = i64::from(self.zone.to_offset(timestamp(sec)).seconds());
        u32::try_from(sec - (sec + offset).rem_euclid(timekey)).unwrap_or(0)
    }

    /// The path of the slice that begins at `start`, without tag and index.
    pub fn slice(&self, start: u32) -> Result<String, String> {
        if self.timekey.is_none() {
            return Ok(self.template.clone());
        }
        let local = timestamp(i64::from(start)).to_zoned(self.zone.clone());
        jiff::fmt::strtime::format(&self.template, &local)
            .map_err(|error| format!("the time format is not supported: {error}"))
    }
}

/// Puts tag and chunk id into the path of a slice. A tag that would lead elsewhere is an error.
pub fn place(slice: &str, tag: &str, chunk: ChunkId) -> Result<String, String> {
    let mut path = String::with_capacity(slice.len() + tag.len());
    let mut rest = slice;
    while let Some((before, behind)) = rest.split_once("${") {
        path.push_str(before);
        let (placeholder, behind) = behind.split_once('}').unwrap_or((behind, ""));
        let value = match tag_part(placeholder) {
            Some(part) => part_of(tag, part).to_owned(),
            None => chunk.to_string(),
        };
        if value.contains("../")
            || value.contains("..\\")
            || value.starts_with('/')
            || value == ".."
        {
            return Err(format!(
                "the tag '{tag}' would lead out of the configured path"
            ));
        }
        path.push_str(&value);
        rest = behind;
    }
    path.push_str(rest);
    Ok(path)
}

/// The path with its index filled in; the same path where files are appended to.
pub fn with_index(path: &str, index: usize) -> String {
    path.replace(INDEX, &format!("_{index}"))
}

/// Whether names carry an index: one file per write.
pub fn is_indexed(path: &str) -> bool {
    path.contains(INDEX)
}

fn template(plan: &Plan) -> Result<String, String> {
    let index = if plan.append { "" } else { INDEX };
    let tail = format!("{index}{}{}", plan.path_suffix, plan.compress_suffix);
    let path = &plan.path;
    let wanted = (plan.timekey).map(|timekey| {
        plan.time_slice_format
            .as_deref()
            .unwrap_or(slice_format(timekey))
    });
    if path.contains('*') {
        let wanted = wanted.ok_or("path including '*' needs the chunk key time")?;
        let name = path.replace('*', &format!("{wanted}{index}"));
        return Ok(name + plan.compress_suffix);
    }
    let Some(wanted) = wanted else {
        return Ok(path.clone() + &tail);
    };
    if plan.time_slice_format.is_some() {
        return Ok(format!("{path}.{wanted}{tail}"));
    }
    let directives: Vec<&str> = (0..wanted.len())
        .step_by(2)
        .map(|at| &wanted[at..at + 2])
        .collect();
    let there = |directive: &&str| path.contains(*directive);
    if directives.iter().all(there) {
        Ok(path.clone() + &tail)
    } else if directives.iter().any(there) {
        Err(format!(
            "insufficient timestamp placeholders in path: it needs all of {wanted}, or none"
        ))
    } else {
        Ok(format!("{path}.{wanted}{tail}"))
    }
}

fn slice_format(timekey: u32) -> &'static str {
    match timekey {
        0..60 => "%Y%m%d%H%M%S",
        60..3600 => "%Y%m%d%H%M",
        3600..86400 => "%Y%m%d%H",
        _ => "%Y%m%d",
    }
}

/// `None` for the whole tag, `Some(n)` for a part of it.
fn tag_part(placeholder: &str) -> Option<Option<i64>> {
    if placeholder == "tag" {
        return Some(None);
    }
    let n = placeholder.strip_prefix("tag[")?.strip_suffix(']')?;
    n.parse().ok().map(Some)
}

fn part_of(tag: &str, part: Option<i64>) -> &str {
    let Some(n) = part else { return tag };
    let mut parts = tag.split('.');
    let found = match usize::try_from(n) {
        Ok(n) => parts.nth(n),
        Err(_) => parts.rev().nth(n.unsigned_abs() as usize - 1),
    };
    found.unwrap_or_default()
}

fn timestamp(sec: i64) -> Timestamp {
    Timestamp::from_second(sec).unwrap_or(Timestamp::UNIX_EPOCH)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::time::UNIX_EPOCH;

    /// 2024-01-02 03:04:05 UTC.
    const SEC: u32 = 1_704_164_645;

    fn plan(path: &str, timekey: Option<u32>) -> Plan {
        Plan {
            path: path.into(),
            append: false,
            path_suffix: ".log".into(),
            compress_suffix: "",
            timekey,
            time_slice_format: None,
            zone: TimeZone::UTC,
        }
    }

    fn name(plan: &Plan) -> String {
        let names = Names::new(plan).expect("valid");
        let slice = names.slice(names.slice_start(SEC)).expect("a path");
        let id = ChunkId::new(UNIX_EPOCH);
        with_index(&place(&slice, "app.access", id).expect("a path"), 0)
    }

    #[test]
    fn names_are_fluentds() {
        assert_eq!(name(&plan("x", Some(86400))), "x.20240102_0.log");
        assert_eq!(name(&plan("x", Some(3600))), "x.2024010203_0.log");
        assert_eq!(name(&plan("x", None)), "x_0.log");
        let gzip = Plan {
            compress_suffix: ".gz",
            ..plan("x.*.log", Some(86400))
        };
        assert_eq!(name(&gzip), "x.20240102_0.log.gz");
        let append = Plan {
            append: true,
            path_suffix: String::new(),
            ..plan("x", Some(60))
        };
        assert_eq!(name(&append), "x.202401020304");
        assert_eq!(
            name(&plan("%Y/%m%d/${tag}", Some(86400))),
            "2024/0102/app.access_0.log"
        );
        assert_eq!(
            name(&plan("${tag[0]}-${tag[-1]}${tag[5]}", None)),
            "app-access_0.log"
        );
        let old = Plan {
            time_slice_format: Some("%H".into()),
            ..plan("x", Some(3600))
        };
        assert_eq!(name(&old), "x.03_0.log");
    }

    #[test]
    fn what_cannot_be_filled_in_is_refused() {
        let refusal = |path: &str, timekey| Names::new(&plan(path, timekey)).expect_err("refused");
        assert!(refusal("%Y/x", Some(86400)).contains("insufficient timestamp placeholders"));
        assert!(refusal("x.*", None).contains("chunk key time"));
        assert!(refusal("${hostname}", None).contains("${hostname}"));
        assert!(refusal("x%", Some(86400)).contains("time format"));
    }

    #[test]
    fn a_tag_cannot_lead_out_of_the_path() {
        for tag in ["../../etc/passwd", "/etc/passwd", ".."] {
            assert!(
                place("logs/${tag}", tag, ChunkId::new(UNIX_EPOCH)).is_err(),
                "{tag}"
            );
        }
    }

    proptest! {
        #[test]
        fn a_slice_begins_before_its_events_and_is_whole_in_local_time(sec in 1u32<<20.., minutes in 1u32..2000) {
            let zone = TimeZone::fixed(jiff::tz::offset(9));
            let names = Names::new(&Plan { zone, ..plan("x", Some(60 * minutes)) }).expect("valid");
            let start = names.slice_start(sec);
            prop_assert!(start <= sec && sec - start < 60 * minutes);
            prop_assert_eq!((u64::from(start) + 9 * 3600) % u64::from(60 * minutes), 0);
            prop_assert_eq!(names.slice_start(start), start);
        }
    }
}
