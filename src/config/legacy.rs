//! v0.12's flat parameters, as two thirds of the public configurations still have them, to the sections of v1.
//!
//! A plugin that had flat parameters calls the conversions it needs and reads the returned element. Copied parameters keep their place in
//! the file and their used mark. Rules: `config.md` of the reference, §12 (measured on Fluentd 1.18); where Fluentd loses what the user asked
//! for, it is honoured and a warning says so.

use super::element::Element;
use super::{ConfigErrors, Result};

/// Flat buffer parameters and their names in `<buffer>`.
const BUFFER: [(&str, &str); 15] = [
    ("buffer_type", "@type"),
    ("buffer_path", "path"),
    ("num_threads", "flush_thread_count"),
    ("flush_interval", "flush_interval"),
    ("try_flush_interval", "flush_thread_interval"),
    ("queued_chunk_flush_interval", "flush_thread_burst_interval"),
    ("disable_retry_limit", "retry_forever"),
    ("retry_limit", "retry_max_times"),
    ("max_retry_wait", "retry_max_interval"),
    ("buffer_chunk_limit", "chunk_limit_size"),
    ("buffer_queue_limit", "queue_limit_length"),
    ("buffer_queue_full_action", "overflow_action"),
    ("flush_at_shutdown", "flush_at_shutdown"),
    ("time_slice_wait", "timekey_wait"),
    ("timezone", "timekey_zone"),
];

/// Flat parser parameters; all but `format` and `types` keep their names.
const PARSE: [&str; 20] = [
    "format",
    "types",
    "types_delimiter",
    "types_label_delimiter",
    "keys",
    "time_key",
    "time_format",
    "localtime",
    "utc",
    "delimiter",
    "keep_time_key",
    "null_empty_string",
    "null_value_pattern",
    "json_parser",
    "label_delimiter",
    "format_firstline",
    "message_key",
    "with_priority",
    "message_format",
    "rfc5424_time_format",
];

/// Flat formatter parameters; all but `format` keep their names.
const FORMAT: [&str; 15] = [
    "format",
    "delimiter",
    "force_quotes",
    "keys",
    "fields",
    "json_parser",
    "label_delimiter",
    "output_time",
    "output_tag",
    "localtime",
    "utc",
    "timezone",
    "message_key",
    "add_newline",
    "output_type",
];

/// Flat inject parameters that keep their names.
const INJECT: [&str; 6] = [
    "time_key",
    "time_format",
    "timezone",
    "tag_key",
    "localtime",
    "utc",
];

/// An output's element with a `<buffer>` made from its flat parameters, if it has such parameters and no `<buffer>`.
///
/// `default_chunk_key` is the plugin's: `tag` for forward, `time` for file, or nothing.
pub fn flat_buffer(element: &Element, default_chunk_key: &str) -> Result<Element> {
    if has_section(element, "buffer") {
        return Ok(flush_interval_beside_buffer(element));
    }
    let slices = element.has("time_slice_format");
    let key = if slices { "time" } else { default_chunk_key };
    // Without time slices `timezone` is the formatter's alone.
    let names = BUFFER
        .into_iter()
        .filter(|(flat, _)| *flat != "timezone" || key == "time");
    let flat = names.clone().map(|(flat, _)| flat);
    if !has_any(element, flat.chain(["time_slice_format", "retry_wait"])) {
        return Ok(element.clone());
    }
    let mut buffer = Element::synthetic(element, "buffer", Some(key).filter(|key| !key.is_empty()));
    let homeless = has_path_without_type(element, default_chunk_key);
    for (flat, name) in names.filter(|(flat, _)| *flat != "buffer_path" || !homeless) {
        buffer.copy_param(element, flat, name);
    }
    if element.has("flush_interval") {
        buffer.set_param("flush_mode", "interval", element, "flush_interval");
    }
    if buffer.text("overflow_action") == Some("exception") {
        let flat = "buffer_queue_full_action";
        buffer.set_param("overflow_action", "throw_exception", element, flat);
    }
    if element.has("retry_wait") {
        buffer.copy_param(element, "retry_wait", "retry_wait");
        let message = "Fluentd 1.x drops this parameter outside of <buffer>; here it is honoured";
        element.warn_at("retry_wait", message);
    }
    if slices {
        time_slices(element, &mut buffer)?;
    } else if key == "time" {
        buffer.set_text("timekey", "86400");
    }
    Ok(element.with_section(buffer))
}

/// What somebody means who writes this into a `<buffer>`.
pub fn hint_in_buffer(key: &str) -> Option<String> {
    if key == "slow_flush_log_threshold" {
        return Some("it belongs to the section around <buffer>".to_owned());
    }
    let renamed = BUFFER
        .iter()
        .find(|(flat, name)| *flat == key && name != flat);
    renamed.map(|(_, name)| format!("did you mean '{name}'?"))
}

/// A `buffer_path` where nobody asks for a file buffer. out_file, whose chunk key is `time`, has one by default.
fn has_path_without_type(element: &Element, default_chunk_key: &str) -> bool {
    let homeless =
        element.has("buffer_path") && !element.has("buffer_type") && default_chunk_key != "time";
    if homeless && element.get("buffer_path").is_some() {
        let message = "without buffer_type file Fluentd keeps chunks in memory and never uses this path, and so it is here: tailed lines stay \
                       safe in their files; to keep chunks on disk add buffer_type file";
        element.warn_at("buffer_path", message);
    }
    homeless
}

/// A flat `flush_interval` beside a `<buffer>`: Fluentd takes its presence, and then flushes at `<buffer>`'s own interval, 60 seconds by default.
fn flush_interval_beside_buffer(element: &Element) -> Element {
    let buffer = element.children().find(|child| child.name() == "buffer");
    let mode = buffer.and_then(|buffer| buffer.text("flush_mode"));
    if !element.has("flush_interval") || !matches!(mode, None | Some("default" | "interval")) {
        return element.clone();
    }
    if buffer.is_some_and(|buffer| buffer.has("flush_interval")) {
        return element.map_sections("buffer", |buffer| {
            if mode != Some("interval") {
                buffer.set_param("flush_mode", "interval", element, "flush_interval");
            }
        });
    }
    let message = "it stands outside of <buffer>, where Fluentd 1.x would flush every 60 seconds; here it is taken as the <buffer>'s \
                   flush_interval";
    element.warn_at("flush_interval", message);
    element.map_sections("buffer", |buffer| {
        buffer.set_param("flush_mode", "interval", element, "flush_interval");
        buffer.copy_param(element, "flush_interval", "flush_interval");
    })
}

/// `time_slice_format` to the length of a slice: that of its finest part.
fn time_slices(element: &Element, buffer: &mut Element) -> Result<()> {
    let mut errors = ConfigErrors::new();
    let from = "time_slice_format";
    let format = element.text(from).unwrap_or_default();
    let parts = [("%S", "1"), ("%M", "60"), ("%H", "3600"), ("%d", "86400")];
    match parts.iter().find(|(part, _)| format.contains(part)) {
        Some((_, timekey)) => buffer.set_param("timekey", timekey, element, from),
        None => {
            let message = "time_slice_format only with %Y or %m is too long";
            errors.push(element.error_at(from, message));
        }
    }
    match (element.has("utc"), element.has("localtime")) {
        (true, true) => {
            errors.push(element.error_at("utc", "both of utc and localtime are specified"))
        }
        (true, false) => buffer.set_param("timekey_use_utc", "true", element, "utc"),
        (false, true) => buffer.set_param("timekey_use_utc", "false", element, "localtime"),
        (false, false) => {}
    }
    errors.into_result()
}

/// An element with a `<parse>` made from its flat parser parameters, if it has such parameters and no `<parse>`.
///
/// `format /…/` becomes `@type regexp` with this expression (flags too, which Fluentd refuses here), another `format` the `@type`.
/// The numbered formats of multiline come along.
pub fn flat_parse(element: &Element) -> Result<Element> {
    if has_section(element, "parse") || !has_any(element, PARSE) {
        return Ok(element.clone());
    }
    let mut parse = Element::synthetic(element, "parse", None);
    match element.text("format") {
        Some(format) if format.starts_with('/') => {
            parse.set_param("@type", "regexp", element, "format");
            parse.copy_param(element, "format", "expression");
        }
        _ => parse.copy_param(element, "format", "@type"),
    }
    for name in &PARSE[4..] {
        parse.copy_param(element, name, name);
    }
    for param in element.all_params() {
        let number = param.key.strip_prefix("format").unwrap_or_default();
        if !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit()) {
            parse.copy_param(element, &param.key, &param.key);
        }
    }
    types(element, &mut parse);
    Ok(element.with_section(parse))
}

/// `types a:int,b:time:%d` to a JSON hash: v0.12 could choose the delimiters.
fn types(element: &Element, parse: &mut Element) {
    let Some(text) = element.text("types") else {
        return;
    };
    if text.trim_start().starts_with('{') {
        return parse.copy_param(element, "types", "types");
    }
    let delimiter = |key, default| element.get(key).unwrap_or(default).to_owned();
    let (between, inside) = (
        delimiter("types_delimiter", ","),
        delimiter("types_label_delimiter", ":"),
    );
    let pairs = text.split(&between).filter(|pair| !pair.is_empty());
    let pairs = pairs.map(|pair| match pair.split_once(&inside) {
        Some((key, kind)) => match kind.strip_prefix(&format!("time{inside}")) {
            Some(format) => (key, format!("time:{format}")),
            None => (key, kind.to_owned()),
        },
        None => (pair, String::new()),
    });
    let quote = |text: &str| serde_json::Value::from(text).to_string();
    let pairs: Vec<_> = pairs
        .map(|(key, kind)| format!("{}:{}", quote(key), quote(&kind)))
        .collect();
    let json = format!("{{{}}}", pairs.join(","));
    parse.set_param("types", &json, element, "types");
}

/// An element with a `<format>` made from its flat formatter parameters, if it has such parameters and no `<format>`.
pub fn flat_format(element: &Element) -> Result<Element> {
    if has_section(element, "format") || !has_any(element, FORMAT) {
        return Ok(element.clone());
    }
    let mut format = Element::synthetic(element, "format", None);
    format.copy_param(element, "format", "@type");
    for name in &FORMAT[1..] {
        format.copy_param(element, name, name);
    }
    time_as_epoch(element, &mut format);
    Ok(element.with_section(format))
}

/// An element with an `<inject>` made from its flat parameters, if it has such parameters and no `<inject>`.
pub fn flat_inject(element: &Element) -> Result<Element> {
    let asks = ["include_time_key", "include_tag_key"];
    if has_section(element, "inject") || !has_any(element, INJECT.into_iter().chain(asks)) {
        return Ok(element.clone());
    }
    let mut inject = Element::synthetic(element, "inject", None);
    for name in INJECT {
        inject.copy_param(element, name, name);
    }
    if is_true(element, "include_time_key") {
        if !inject.has("time_key") {
            inject.set_param("time_key", "time", element, "include_time_key");
        }
        inject.set_param("time_type", "string", element, "include_time_key");
    }
    if is_true(element, "include_tag_key") && !inject.has("tag_key") {
        inject.set_param("tag_key", "tag", element, "include_tag_key");
    }
    time_as_epoch(element, &mut inject);
    Ok(element.with_section(inject))
}

fn time_as_epoch(element: &Element, section: &mut Element) {
    if is_true(element, "time_as_epoch") {
        section.set_param("time_type", "unixtime", element, "time_as_epoch");
    }
}

fn is_true(element: &Element, key: &str) -> bool {
    let text = element.get(key);
    text.is_some_and(|text| super::convert::boolean(text) == Ok(true))
}

fn has_section(element: &Element, name: &str) -> bool {
    element.children().any(|child| child.name() == name)
}

/// Whether one of the flat parameters stands here. All of them are known names from now on.
fn has_any<'a>(element: &Element, names: impl IntoIterator<Item = &'a str>) -> bool {
    let known = names.into_iter().inspect(|name| element.know(name));
    known.filter(|name| element.has(name)).count() > 0
}

#[cfg(test)]
#[path = "legacy_tests.rs"]
mod tests;
