//! in_tail: lines of files, as they are written. One thread per source: discover, read, emit, until stopped.
//!
//! `params.rs` what is asked for; `source.rs` the thread and `clock.rs` its time; `watch.rs`, `bell.rs` and `flood.rs` what wakes it; `discover.rs` and
//! `listing.rs` names; `begin.rs` names to files, with what `memory.rs` knows of earlier runs; `files.rs` all paths, `track.rs` one path and its
//! generations, `file.rs` one generation, `copies.rs` what copytruncate makes of it, `evidence.rs` and `links.rs` whether it is the one that is meant; `lines.rs`, `encoding.rs` and `read.rs`
//! bytes to batches, `group.rs` and `throttle.rs` how fast;
//! `position.rs` what is safe, and `store.rs`, `pos_file.rs` and `state_file.rs` where that is kept. Batches go to the [`Collector`](crate::event::Collector); a position moves only when the receipt of its batch
//! comes back.

mod begin;
mod bell;
mod clock;
mod complaints;
mod copies;
mod discover;
mod encoding;
mod evidence;
mod file;
mod files;
mod flood;
mod group;
mod known;
mod lend;
mod lines;
mod links;
mod listing;
mod memory;
mod params;
mod paths;
mod pos_file;
mod position;
mod read;
mod recalled;
mod source;
mod state_file;
mod store;
mod throttle;
mod told;
mod track;
mod walk;
mod watch;

use std::path::{Path, PathBuf};

pub use params::{GlobPolicy, Params};

use super::{Configured, Input, Surroundings};
use crate::config::{ConfigErrors, Element, Result, legacy};
use crate::parse::multiline::{self, Joining};
use crate::parse::{self, Parser};

/// How far a source reads ahead of what is safe where nobody lowers it.
const READ_AHEAD: u64 = 64 << 20;

/// A configured tail source.
pub struct Tail {
    params: Params,
    parser: Box<dyn Parser>,
    limits: Limits,
}

/// What a source may take.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Bytes that may be read and not safe.
    pub read_ahead: u64,
    /// Files that may be open at once; the others are opened in turns.
    pub open_files: usize,
}

impl Tail {
    /// A source with these parameters, which [`Params::check`] has found to be good.
    pub fn new(params: Params, parser: Box<dyn Parser>) -> Tail {
        Tail {
            params,
            parser,
            limits: Limits {
                read_ahead: READ_AHEAD,
                open_files: usize::MAX,
            },
        }
    }
}

impl Input for Tail {
    fn run(self: Box<Self>, surroundings: Surroundings) -> anyhow::Result<()> {
        source::Source::start(self.params, self.parser, self.limits, surroundings)?.run()
    }

    fn limit_read_ahead(&mut self, bytes: u64) {
        self.limits.read_ahead = self.limits.read_ahead.min(bytes.max(1));
    }

    fn most_memory(&self) -> usize {
        read::MOST_MEMORY
    }

    fn limit_open_files(&mut self, files: usize) {
        self.limits.open_files = files.max(1);
    }

    fn pos_file(&self) -> Option<&Path> {
        self.params.pos_file.as_deref()
    }
}

/// Reads a `<source>` section with `@type tail`.
pub fn configure(section: &Element) -> Result<Configured> {
    let mut errors = ConfigErrors::new();
    let params = errors.collect(section.params::<Params>().and_then(|params| {
        params.check(section)?;
        Ok(params)
    }));
    let encodings = params.as_ref().map(Params::encodings).unwrap_or_default();
    let parser = parse_section(section);
    let parser = parser.and_then(|parse| parse::configure_for(&parse, encodings.label));
    let parser = errors.collect(parser);
    let group = errors.collect(group::configure(section)).flatten();
    errors.into_result()?;
    let (Some(params), Some(parser)) = (params, parser) else {
        return Err(section.error("tail: not configured").into());
    };
    let joining = parser.joining();
    warn_about_joining(section, &params, joining);
    let params = Params {
        emit_unmatched_texts: joining.is_some() && section.has("emit_unmatched_lines"),
        group,
        ..params
    };
    Ok(Configured {
        plugin_type: "tail",
        id: section.id().map(str::to_owned),
        label: section.get("@label").map(str::to_owned),
        input: Box::new(Tail::new(params, parser)),
    })
}

/// Says what a parameter about multi-line texts does not do.
fn warn_about_joining(section: &Element, params: &Params, joining: Option<&Joining>) {
    if params.multiline_flush_interval.is_some() {
        let key = "multiline_flush_interval";
        match joining {
            None => section.warn_at(key, "has no effect: the parser takes each line by itself"),
            Some(joining) if !joining.needs_first_line() => section.warn_at(
                key,
                "has no effect without format_firstline, as in Fluentd: a text ends where it matches",
            ),
            Some(_) => {}
        }
    }
    if joining.is_some() && section.has("emit_unmatched_lines") && !params.emit_unmatched_lines {
        section.warn_at(
            "emit_unmatched_lines",
            "multiline texts that do not match are emitted all the same, as in Fluentd: leave the parameter out to turn that off",
        );
    }
}

/// The `<parse>` section, or what the flat parameters of v0.12 say. The formats of multi-line texts may stand outside of it, too.
fn parse_section(section: &Element) -> Result<Element> {
    let section = legacy::flat_parse(section)?;
    let Some(parse) = section.section("parse")? else {
        return Err(section.error("<parse> section is required.").into());
    };
    let mut parse = parse.clone();
    for number in 1..=multiline::FORMATS {
        let format = format!("format{number}");
        parse.copy_param(&section, &format, &format);
    }
    Ok(parse)
}

/// A path in the form in which two sources' pos_files can be compared.
fn absolute(path: &Path) -> PathBuf {
    std::path::absolute(path).unwrap_or_else(|_| path.to_owned())
}

#[cfg(test)]
mod tests;
#[cfg(test)]
mod world_tests;
