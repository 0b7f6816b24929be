//! Which file an event goes to: the path of the configuration with time slice, tag and index. Pure.
//!
//! ```text
//! path /l/x       + timekey 1d            →  /l/x.20240102_0.log       (append: /l/x.20240102.log)
//! path /l/x.*.log + timekey 1h            →  /l/x.2024010203_0.log
//! path /l/%Y/%m%d/${tag} + timekey 1d     →  /l/2024/0102/app.access_0.log
//! ```

use crate::buffer::{Chunk, Timekey};
use crate::output::Chunks;
use crate::output::placeholder::{self, Template};

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
    /// The time slices that files are named by, if they are.
    pub time: Option<Timekey>,
    /// `time_slice_format` of old configurations.
    pub time_slice_format: Option<String>,
}

/// The names of one output.
#[derive(Clone, Debug)]
pub struct Names {
    template: Template,
    time: Option<Timekey>,
}

impl Names {
    /// Composes the template as Fluentd does, and checks that it has the placeholders that these chunks need.
    pub fn new(plan: &Plan, chunks: &Chunks) -> Result<Names, String> {
        let text = template(plan)?;
        let template = Template::new(&text, plan.time.as_ref())?;
        match chunks {
            Chunks::Own(_) => placeholder::check("path", &text, chunks)?,
            // Its events have a time and a tag, whatever its primary's chunks are cut by.
            Chunks::Primarys(keys) => placeholder::check_fields("path", &text, keys)?,
            Chunks::Any => {}
        }
        Ok(Names {
            template,
            time: plan.time.clone(),
        })
    }

    /// The second in which the slice of `sec` begins; 0 where files are not named by time.
    pub fn slice_start(&self, sec: u32) -> i64 {
        let start = |time: &Timekey| time.start_of(i64::from(sec));
        self.time.as_ref().map_or(0, start)
    }

    /// Whether files are named by time.
    pub fn slices(&self) -> bool {
        self.time.is_some()
    }

    /// The path of a chunk's events of the slice that begins at `start`, without index. A value that would lead elsewhere is an error.
    pub fn path(&self, start: i64, chunk: &Chunk) -> anyhow::Result<String> {
        self.template.fill(start, chunk)
    }
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
    let wanted = plan.time.as_ref().map(|time| {
        plan.time_slice_format
            .as_deref()
            .unwrap_or(slice_format(time.length().as_secs()))
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

fn slice_format(timekey: u64) -> &'static str {
    match timekey {
        0..60 => "%Y%m%d%H%M%S",
        60..3600 => "%Y%m%d%H%M",
        3600..86400 => "%Y%m%d%H",
        _ => "%Y%m%d",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::output::testing::chunk;
    use jiff::tz::TimeZone;
    use proptest::prelude::*;

    /// 2024-01-02 03:04:05 UTC.
    const SEC: u32 = 1_704_164_645;

    fn plan(path: &str, timekey: Option<u32>) -> Plan {
        Plan {
            path: path.into(),
            append: false,
            path_suffix: ".log".into(),
            compress_suffix: "",
            time: timekey.map(|seconds| Timekey::new(seconds, TimeZone::UTC)),
            time_slice_format: None,
        }
    }

    fn name(plan: &Plan) -> String {
        let names = Names::new(plan, &Chunks::Any).expect("valid");
        let path = names.path(names.slice_start(SEC), &chunk("app.access", &[]));
        with_index(&path.expect("a path"), 0)
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
        let refusal = |path: &str, timekey| {
            let plan = plan(path, timekey);
            let keys = crate::buffer::ChunkKeys {
                time: plan.time.clone(),
                ..Default::default()
            };
            Names::new(&plan, &Chunks::Own(keys)).expect_err("refused")
        };
        assert!(refusal("%Y/x", Some(86400)).contains("insufficient timestamp placeholders"));
        assert!(refusal("x.*", None).contains("chunk key time"));
        assert!(refusal("${hostname}", None).contains("hostname"));
        assert!(refusal("${tag}", None).contains("'tag' is not configured"));
        assert!(refusal("x%", Some(86400)).contains("time format"));
    }

    proptest! {
        #[test]
        fn a_slice_begins_before_its_events_and_is_whole_in_local_time(sec in 1u32<<20.., minutes in 1u32..2000) {
            let time = Some(Timekey::new(60 * minutes, TimeZone::fixed(jiff::tz::offset(9))));
            let names = Names::new(&Plan { time, ..plan("x", None) }, &Chunks::Any).expect("valid");
            let start = names.slice_start(sec);
            let length = i64::from(60 * minutes);
            prop_assert!(start <= i64::from(sec) && i64::from(sec) - start < length);
            prop_assert_eq!((start + 9 * 3600) % length, 0);
        }
    }
}
