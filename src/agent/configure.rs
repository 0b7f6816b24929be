//! From the element tree to wired plugins: the one file that sees every room.
//!
//! Labels exist first, then each label's filters and matches, then the root's, then the sources: Fluentd's order. Nothing is
//! started here; a dry run ends after this step. All errors of a configuration are collected.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;

use super::buffer_paths::BufferPaths;
use crate::buffer::{self, Buffer, ChunkKeys, KeyDefaults};
use crate::config::legacy::flat_buffer;
use crate::config::{self, ConfigError, ConfigErrors, Element, Result};
use crate::event::Collector;
use crate::filter;
use crate::flush::params::Owner;
use crate::flush::{Flusher, params};
use crate::input::{self, Input};
use crate::output::{self, Chunks, Output, OutputContext};
use crate::route::circle::circles;
use crate::route::copy::Copy;
use crate::route::relabel::Relabel;
use crate::route::{Action, Pattern, Router, Rule};

/// out_file's `timekey`, in seconds.
const DAY: u32 = 86_400;
/// What `@log_level` may be.
const LEVELS: [&str; 6] = ["trace", "debug", "info", "warn", "error", "fatal"];

/// A source and where its events go.
pub struct PlannedInput {
    /// `@id`, or the type and a number.
    pub id: String,
    /// The source, not started.
    pub input: Box<dyn Input>,
    /// Where it emits.
    pub collector: Arc<dyn Collector>,
}

/// Everything that a configuration asks for, wired and not started.
pub struct Plan {
    /// The sources.
    pub inputs: Vec<PlannedInput>,
    /// The buffered outputs.
    pub flushers: Vec<Arc<Flusher>>,
    /// The root's router and the labels'.
    pub routers: Vec<Arc<Router>>,
    /// `@log_level` by plugin id.
    pub log_levels: HashMap<String, String>,
}

/// What `<system>` and the command line say to all plugins.
#[derive(Clone)]
pub struct Settings {
    /// Where backups go.
    pub root_dir: PathBuf,
    /// `workers` of `<system>`.
    pub workers: u32,
    /// What outputs share.
    pub outputs: OutputContext,
    /// `without_source`.
    pub without_source: bool,
    /// How many descriptors the process may have.
    pub open_files: usize,
}

/// Wires a configuration.
pub fn configure(root: &Element, settings: &Settings) -> Result<Plan> {
    let mut wiring = Wiring::new(settings);
    let sections = flatten_workers(root);
    wiring.find_labels(&sections);
    for label in sections.iter().filter(|section| section.name() == "label") {
        wiring.label(label);
    }
    wiring.root(&sections);
    if !settings.without_source {
        for source in sections.iter().filter(|section| section.name() == "source") {
            wiring.source(source);
        }
    }
    wiring.finish(&sections, root)
}

/// `<worker>` sections stand for their contents, behind everything else: one process is worker 0 and all others.
fn flatten_workers(root: &Element) -> Vec<Element> {
    mark_directives(root, &["source", "match", "filter", "label", "worker"]);
    let (workers, mut sections): (Vec<_>, Vec<_>) = root
        .children()
        .cloned()
        .partition(|section| section.name() == "worker");
    for worker in workers {
        mark_directives(&worker, &["source", "match", "filter", "label"]);
        worker.warn("<worker>: one process does the work of all workers, its contents are taken as they are");
        sections.extend(worker.children().cloned());
    }
    sections
}

/// Directives are walked in file order, which the lookup by name that marks a section as used does not give.
fn mark_directives(parent: &Element, names: &[&str]) {
    names
        .iter()
        .for_each(|name| parent.sections(name).for_each(drop));
}

struct Wiring<'a> {
    settings: &'a Settings,
    errors: ConfigErrors,
    labels: HashMap<String, Relabel>,
    ids: HashMap<String, Element>,
    counts: HashMap<&'static str, usize>,
    /// Where each relabel stands and leads, and its section.
    relabels: Vec<((String, String), Element)>,
    pos_files: HashMap<PathBuf, Element>,
    buffer_paths: BufferPaths,
    smallest_total: usize,
    plan: Plan,
}

impl<'a> Wiring<'a> {
    fn new(settings: &'a Settings) -> Wiring<'a> {
        Wiring {
            settings,
            errors: ConfigErrors::new(),
            labels: HashMap::new(),
            ids: HashMap::new(),
            counts: HashMap::new(),
            relabels: Vec::new(),
            pos_files: HashMap::new(),
            buffer_paths: BufferPaths::default(),
            smallest_total: usize::MAX,
            plan: Plan {
                inputs: vec![],
                flushers: vec![],
                routers: vec![],
                log_levels: HashMap::new(),
            },
        }
    }

    fn find_labels(&mut self, sections: &[Element]) {
        for section in sections.iter().filter(|section| section.name() == "label") {
            match section.arg() {
                None | Some("") => self
                    .errors
                    .push(section.error("Missing symbol argument on <label> directive")),
                Some("@ROOT") => self
                    .errors
                    .push(section.error("Cannot use <label @ROOT>: it is the name of the root")),
                Some(name) => {
                    let label = Relabel::default();
                    if self.labels.insert(name.to_owned(), label).is_some() {
                        let same = |other: &&Element| {
                            other.name() == "label" && other.arg() == section.arg()
                        };
                        let error = section.error(format!("Section <label {name}> appears twice"));
                        self.errors.push(match sections.iter().find(same) {
                            Some(first) => error.together_with(first, ""),
                            None => error,
                        });
                    }
                }
            }
        }
        self.labels.entry("@ROOT".into()).or_default();
    }

    fn label(&mut self, section: &Element) {
        let Some(name) = section.arg().map(str::to_owned) else {
            return;
        };
        match name.as_str() {
            "@FLUENT_LOG" => section.warn("the agent's own log lines are not emitted as events; they are in its log (-o PATH)"),
            "@ERROR" => section.warn("no events come here: a record that cannot be used is logged and counted, a full buffer pauses its source"),
            _ => {}
        }
        mark_directives(section, &["match", "filter"]);
        let children: Vec<_> = section.children().cloned().collect();
        if !children.iter().any(|child| child.name() == "match") {
            self.errors.push(section.error(format!(
                "Missing <match> sections in <label {name}> section"
            )));
        }
        self.router(&name, &children);
    }

    fn root(&mut self, sections: &[Element]) {
        self.router("@ROOT", sections);
    }

    fn router(&mut self, name: &str, sections: &[Element]) {
        let mut rules = Vec::new();
        for section in sections {
            let action = match section.name() {
                "filter" => self
                    .attempt(filter::configure(section))
                    .map(|filter| Action::Filter(filter.into())),
                "match" => self.collector(section, name).map(Action::Match),
                _ => continue,
            };
            let pattern = Pattern::new(section.arg().unwrap_or("**"))
                .map_err(|message| section.error(message).into());
            if let (Some(pattern), Some(action)) = (self.attempt(pattern), action) {
                rules.push(Rule { pattern, action });
            }
        }
        let router = Arc::new(Router::new(name, rules));
        if let Some(relabel) = self.labels.get(name) {
            relabel.lead_to(&router);
        }
        self.plan.routers.push(router);
    }

    /// The collector of a `<match>` or `<store>` in a label.
    fn collector(&mut self, section: &Element, within: &str) -> Option<Arc<dyn Collector>> {
        let plugin_type = output::plugin_type(section).map(str::to_owned);
        match self.attempt(plugin_type)?.as_str() {
            "copy" => self.copy(section, within),
            "relabel" => {
                let label = section
                    .get("@label")
                    .ok_or_else(|| section.missing("@label").into());
                let label = self.attempt(label.map(str::to_owned))?;
                let way = (within.to_owned(), label.clone());
                self.relabels.push((way, section.clone()));
                self.label_named(&label, section)
            }
            _ => self.output(section),
        }
    }

    fn copy(&mut self, section: &Element, within: &str) -> Option<Arc<dyn Collector>> {
        for key in ["copy_mode", "deep_copy"] {
            if section.get(key).is_some() {
                section.warn_at(key, format!("'{key}' has no effect: a batch is never changed after it was emitted, so copies share it"));
            }
        }
        let sections: Vec<_> = section.sections("store").cloned().collect();
        if sections.is_empty() {
            self.errors
                .push(section.error("no <store> sections in @type copy: events would go nowhere"));
        }
        for store in &sections {
            if let Some(arg) = store.arg().filter(|arg| !arg.is_empty()) {
                store.warn(format!("<store {arg}>: a store never fails its neighbours here, each has its own buffer and retries"));
            }
        }
        let stores: Vec<_> = sections
            .iter()
            .filter_map(|store| self.collector(store, within))
            .collect();
        Some(Arc::new(Copy::new(stores)))
    }

    fn label_named(&mut self, name: &str, section: &Element) -> Option<Arc<dyn Collector>> {
        if let Some(relabel) = self.labels.get(name) {
            return Some(Arc::new(relabel.clone()));
        }
        let known = self.labels.keys().map(String::as_str);
        let error = section
            .error_at("@label", format!("{name} label not found"))
            .suggest(name, known);
        self.errors.push(error);
        None
    }

    fn output(&mut self, section: &Element) -> Option<Arc<dyn Collector>> {
        let buffered = section.children().any(|child| child.name() == "buffer");
        // With an error here or below the rest is still read for its own errors.
        let flat = self.attempt(flat_buffer(section, default_keys(section).keys));
        let section = flat.as_ref().unwrap_or(section);
        let keys = self.attempt(chunk_keys(section));
        let settings = self.settings;
        let context = |chunks| OutputContext {
            chunks,
            ..settings.outputs.clone()
        };
        // Where the keys are wrong, nothing more is said about them.
        let (own, primarys) = match &keys {
            Some(keys) => (Chunks::Own(keys.clone()), Chunks::Primarys(keys.clone())),
            None => (Chunks::Any, Chunks::Any),
        };
        let configured = output::configure(section, &context(own));
        let secondary = self.secondary(section, &context(primarys));
        let configured = self.attempt(configured);
        let known = configured.as_ref();
        let id = known.map(|known| self.id(section, known.plugin_type));
        let unbuffered = known.is_some_and(|known| known.unbuffered) && !buffered;
        let no_keys = ChunkKeys::default();
        let owner = Owner {
            section,
            unbuffered,
            keys: keys.as_ref().unwrap_or(&no_keys),
            has_secondary: secondary.is_some(),
            root_dir: &self.settings.root_dir,
            workers: self.settings.workers,
            keeps_files: known.is_some_and(|known| known.plugin_type == "file"),
        };
        let settings = self.attempt(params::configure(owner));
        let (configured, id, settings, keys) = (configured?, id?, settings?, keys?);
        self.smallest_total = self.smallest_total.min(settings.limits.total_bytes);
        let buffer = match settings.disk {
            None => Buffer::new(id.clone(), keys, settings.limits),
            Some(disk) => {
                let disk = disk.formatted_if(configured.formats);
                let owned = self.buffer_paths.claim(section, &disk);
                self.attempt(owned)?;
                Buffer::on_disk(id.clone(), keys, settings.limits, disk)
            }
        };
        let flusher = Flusher::new(
            id,
            buffer.clone(),
            configured.output,
            secondary,
            settings.flush,
            settings.backup,
        );
        self.plan.flushers.push(flusher);
        Some(buffer)
    }

    /// The `<secondary>` of an output; without a type of its own it has its primary's.
    fn secondary(&mut self, section: &Element, context: &OutputContext) -> Option<Arc<dyn Output>> {
        let secondary =
            self.attempt(section.section("secondary").map(|found| found.cloned()))??;
        let typed = if secondary.has("@type") || secondary.has("type") {
            secondary
        } else {
            let mut typed = secondary;
            typed.copy_param(
                section,
                if section.has("@type") {
                    "@type"
                } else {
                    "type"
                },
                "@type",
            );
            typed
        };
        for inner in ["buffer", "secondary"] {
            if self.attempt(typed.section(inner).map(|found| found.is_some())) == Some(true) {
                self.errors
                    .push(typed.error(format!("<{inner}> is not allowed in <secondary>")));
            }
        }
        let configured = output::configure(&typed, context);
        self.attempt(configured).map(|configured| configured.output)
    }

    fn source(&mut self, section: &Element) {
        let configured = self.attempt(input::configure(section));
        let label = section.get("@label").unwrap_or("@ROOT").to_owned();
        let collector = self.label_named(&label, section);
        let Some(configured) = configured else {
            return;
        };
        if let Some(path) = configured.input.pos_file()
            && let Some(first) = self.pos_files.insert(path.to_owned(), section.clone())
        {
            let message = format!(
                "Other 'in_{}' plugin already use same pos_file path: plugin = {}",
                configured.plugin_type,
                path.display()
            );
            let error = section.error_at("pos_file", message);
            self.errors.push(error.together_with(&first, "pos_file"));
        }
        let id = self.id(section, configured.plugin_type);
        let Some(collector) = collector else {
            return;
        };
        self.plan.inputs.push(PlannedInput {
            id,
            input: configured.input,
            collector,
        });
    }

    /// `@id`, which must be unique, or the type and a number.
    fn id(&mut self, section: &Element, plugin_type: &'static str) -> String {
        let id = match section.id() {
            Some(id) => id.to_owned(),
            None => {
                let count = self.counts.entry(plugin_type).or_default();
                *count += 1;
                format!("{plugin_type}.{}", *count - 1)
            }
        };
        if let Some(first) = self.ids.insert(id.clone(), section.clone()) {
            let message =
                format!("Duplicated plugin id `{id}`. Check whole configuration and fix it");
            let error = section.error_at("@id", message);
            self.errors.push(error.together_with(&first, "@id"));
        }
        if let Some(level) = section.log_level() {
            if crate::logger::level(level).is_none() {
                let message = format!("unknown log level '{level}'");
                let error = section.error_at("@log_level", message);
                self.errors
                    .push(error.help(format!("known levels: {}", LEVELS.join(", "))));
            }
            self.plan.log_levels.insert(id.clone(), level.to_owned());
        }
        id
    }

    fn attempt<T>(&mut self, step: Result<T>) -> Option<T> {
        self.errors.collect(step)
    }

    /// An event that is relabelled in a circle would go round for ever.
    fn refuse_circles(&mut self) {
        let ways: Vec<_> = self.relabels.iter().map(|(way, _)| way.clone()).collect();
        for circle in circles(&ways) {
            let (first, others) = (circle[0], &circle[1..]);
            let labels: Vec<_> = circle.iter().map(|at| ways[*at].0.as_str()).collect();
            let message = format!(
                "labels lead back to themselves, events would go round for ever: {} -> {}",
                labels.join(" -> "),
                labels[0]
            );
            let error = self.relabels[first].1.error_at("@label", message);
            let error = others.iter().fold(error, |error, at| {
                error.together_with(&self.relabels[*at].1, "@label")
            });
            self.errors.push(error);
        }
    }

    fn finish(mut self, sections: &[Element], root: &Element) -> Result<Plan> {
        self.refuse_circles();
        if self.errors.is_empty() && (self.plan.flushers.is_empty() || self.plan.inputs.is_empty())
        {
            let (sources, matches) = (count(sections, "source"), count(sections, "match"));
            if sources == 0 && !self.settings.without_source
                || matches == 0 && count(sections, "label") == 0
            {
                let message =
                    format!("nothing to do: {sources} <source> and {matches} <match> sections");
                let help = "--without-source starts without any";
                let mut error = ConfigError::new(message);
                if let Some(file) = root.file() {
                    error = error.in_file(file);
                }
                if sources == 0 && matches > 0 {
                    error = error.help(help);
                }
                self.errors.push(error);
            }
        }
        if !self.errors.is_empty() {
            self.errors.note(config::misspelt(root));
            self.errors.note(root.warnings());
        }
        self.errors.into_result()?;
        let limit = u64::try_from(self.smallest_total).unwrap_or(u64::MAX);
        let open_files = open_files_each(self.settings.open_files, self.plan.inputs.len());
        for planned in &mut self.plan.inputs {
            planned.input.limit_read_ahead(limit);
            planned.input.limit_open_files(open_files);
        }
        Ok(self.plan)
    }
}

/// How many files each of the sources may keep open: a quarter of what the process may, and no fewer than 64, is left to sockets, chunks and
/// libraries.
fn open_files_each(limit: usize, sources: usize) -> usize {
    let files = limit.saturating_sub((limit / 4).max(64));
    (files / sources.max(1)).max(1)
}

/// Fluentd's chunk keys of an output whose `<buffer>` names none.
fn default_keys(section: &Element) -> KeyDefaults {
    let (keys, timekey) = match section.plugin_type() {
        Ok("file" | "s3") => ("time", Some(DAY)),
        Ok("forward") => ("tag", None),
        _ => ("", None),
    };
    KeyDefaults { keys, timekey }
}

/// The chunk keys of an output.
fn chunk_keys(section: &Element) -> Result<ChunkKeys> {
    let absent = Element::synthetic(section, "buffer", None);
    let buffer = section.section("buffer")?.unwrap_or(&absent);
    buffer::chunk_keys(buffer, default_keys(section))
}

fn count(sections: &[Element], name: &str) -> usize {
    let named = |section: &&Element| section.name() == name;
    sections.iter().filter(named).count()
}

#[cfg(test)]
#[path = "configure_tests.rs"]
mod tests;
