//! Configuration files: reads them and what they `@include`, and refuses what is no text.
//!
//! Differences from Fluentd on purpose: a missing file is an error, a pattern that matches nothing is a warning, a loop of includes is named.

use std::fs;
use std::path::{Path, PathBuf};

use super::element::Element;
use super::parser::{GivenUp, Parser};
use super::source::{Source, Span};
use super::{Config, ConfigError, ConfigErrors, Result, World};

/// Larger files are not configurations.
const LARGEST: u64 = 1 << 20;
/// Files in one configuration, each counted as often as it is included.
const MOST_FILES: usize = 1000;
/// Files that include each other in a row.
const LONGEST_CHAIN: usize = 32;

/// How a configuration is read.
#[derive(Clone, Debug, Default)]
pub struct LoadOptions {
    /// `-i`: appended to the file; each two-character `\n` in it is a line end.
    pub inline: Option<String>,
    /// `--strict-config-value`: numbers with something behind them are errors, not warnings.
    pub strict: bool,
    /// What embedded Ruby can see.
    pub world: World,
}

/// Reads the configuration in `path`: all errors of all files, or the tree.
pub fn load(path: &Path, options: &LoadOptions) -> Result<Config> {
    let mut reader = Reader::new(options);
    let mut root = Element::root(options.strict);
    root.set_file(path.to_string_lossy().into_owned());
    reader.file(path, None, &mut root, 0);
    if let Some(inline) = &options.inline {
        let text = inline.replace("\\n", "\n");
        let directory = path.parent().unwrap_or(Path::new("")).to_owned();
        reader.text("inline configuration", text, directory, &mut root);
    }
    reader.finish(root)
}

/// Reads a configuration from a text; `name` stands for the file in messages. `@include` is relative to the working directory.
pub fn parse_text(name: &str, text: &str, options: &LoadOptions) -> Result<Config> {
    let mut reader = Reader::new(options);
    let mut root = Element::root(options.strict);
    match check(text.as_bytes()) {
        Ok(text) => reader.text(name, text.to_owned(), PathBuf::new(), &mut root),
        Err(message) => reader.errors.push(ConfigError::new(message).in_file(name)),
    }
    reader.finish(root)
}

/// What is collected while the files of one configuration are read.
pub(crate) struct Reader {
    pub(crate) world: World,
    pub(crate) errors: ConfigErrors,
    /// The files that are being read, each included by the one before.
    open: Vec<PathBuf>,
    files: usize,
}

impl Reader {
    fn new(options: &LoadOptions) -> Reader {
        Reader {
            world: options.world.clone(),
            errors: ConfigErrors::new(),
            open: Vec::new(),
            files: 0,
        }
    }

    fn finish(self, root: Element) -> Result<Config> {
        self.errors.into_result()?;
        let config = Config::new(root);
        config.note_old_spellings();
        Ok(config)
    }

    /// Reads the files that `target` names into `element`.
    pub(crate) fn include(
        &mut self,
        target: &str,
        place: &Span,
        directory: &Path,
        element: &mut Element,
        depth: usize,
    ) {
        let fail = |message: String| ConfigError::new(message).at(place.clone());
        let target = match target.split_once(':') {
            Some(("file", path)) => path.strip_prefix("//").unwrap_or(path),
            Some(("http" | "https" | "ftp", _)) => {
                let error = fail("@include over the network is not supported".to_owned());
                let help = "fetch the file beforehand and include its path";
                return self.errors.push(error.help(help));
            }
            _ => target,
        };
        if target.is_empty() {
            return self.errors.push(fail("@include needs a path".to_owned()));
        }
        let path = directory.join(percent_decoded(target));
        if !target.contains(['*', '?', '[']) {
            return self.file(&path, Some(place), element, depth);
        }
        match matches(&path) {
            Err(message) => self.errors.push(fail(message)),
            Ok(paths) if paths.is_empty() => {
                let message = "no file matches this @include: nothing is included";
                element.add_warning(fail(message.to_owned()).got(&path.to_string_lossy()));
            }
            Ok(paths) => {
                for path in paths {
                    self.file(&path, Some(place), element, depth);
                }
            }
        }
    }

    /// Reads one file into `element`; `place` is the target of the `@include` that asked for it.
    fn file(&mut self, path: &Path, place: Option<&Span>, element: &mut Element, depth: usize) {
        let name = path.to_string_lossy().into_owned();
        let fail = |message: String| {
            let error = ConfigError::new(message).in_file(&name);
            match place {
                Some(place) => error.at(place.clone()),
                None => error,
            }
        };
        let read = self
            .check_chain(path)
            .and_then(|canonical| Ok((canonical, read_file(path)?)));
        let (canonical, text) = match read {
            Ok(read) => read,
            Err(message) if place.is_some() => {
                return self
                    .errors
                    .push(fail(format!("cannot include {name}: {message}")));
            }
            Err(message) => return self.errors.push(fail(message)),
        };
        let directory = path.parent().unwrap_or(Path::new("")).to_owned();
        self.open.push(canonical);
        let source = Source::new(name, text);
        // Its errors are with us already.
        let _: Result<(), GivenUp> = Parser::new(self, source, directory).all(element, depth);
        self.open.pop();
    }

    fn text(&mut self, name: &str, text: String, directory: PathBuf, root: &mut Element) {
        // Its errors are with us already.
        let _: Result<(), GivenUp> =
            Parser::new(self, Source::new(name, text), directory).all(root, 0);
    }

    /// The canonical path of a file that may be opened now.
    fn check_chain(&mut self, path: &Path) -> Result<PathBuf, String> {
        let canonical = fs::canonicalize(path).map_err(|error| reason(&error))?;
        if let Some(first) = self.open.iter().position(|open| *open == canonical) {
            let chain: Vec<_> = self.open[first..]
                .iter()
                .chain([&canonical])
                .map(|path| path.to_string_lossy())
                .collect();
            return Err(format!(
                "the files include each other: {}",
                chain.join(" -> ")
            ));
        }
        if self.open.len() >= LONGEST_CHAIN {
            return Err(format!(
                "more than {LONGEST_CHAIN} files include each other in a row"
            ));
        }
        self.files += 1;
        if self.files > MOST_FILES {
            return Err(format!("more than {MOST_FILES} files are included"));
        }
        Ok(canonical)
    }
}

/// The text of a file, or why it is none.
fn read_file(path: &Path) -> Result<String, String> {
    let metadata = fs::metadata(path).map_err(|error| reason(&error))?;
    if metadata.is_dir() {
        return Err("this is a directory, not a file".to_owned());
    }
    if !metadata.is_file() {
        return Err("this is not a regular file".to_owned());
    }
    if metadata.len() > LARGEST {
        return Err(format!(
            "the file has {} bytes, more than the {LARGEST} that a configuration may have",
            metadata.len()
        ));
    }
    let bytes = fs::read(path).map_err(|error| reason(&error))?;
    check(&bytes).map(str::to_owned)
}

/// The text, if it is one.
fn check(bytes: &[u8]) -> Result<&str, String> {
    let text = std::str::from_utf8(bytes)
        .map_err(|error| format!("the file is not UTF-8 (at byte {})", error.valid_up_to()))?;
    match text.find('\0') {
        Some(at) => Err(format!("the file contains a NUL (at byte {at})")),
        None => Ok(text),
    }
}

fn reason(error: &std::io::Error) -> String {
    match error.kind() {
        std::io::ErrorKind::NotFound => "no such file".to_owned(),
        _ => error.to_string(),
    }
}

/// The files that match a pattern, sorted. Names that start with a dot must be asked for.
fn matches(pattern: &Path) -> Result<Vec<PathBuf>, String> {
    let options = glob::MatchOptions {
        case_sensitive: true,
        require_literal_separator: true,
        require_literal_leading_dot: true,
    };
    let pattern = pattern.to_string_lossy();
    let found = glob::glob_with(&pattern, options)
        .map_err(|error| format!("the pattern of this @include is wrong: {}", error.msg))?;
    let mut paths = Vec::new();
    for path in found {
        paths.push(path.map_err(|error| format!("cannot look for the included files: {error}"))?);
    }
    paths.sort();
    Ok(paths)
}

/// `%20` is a space, as in a URL, which an `@include` target is. A percent sign before anything else stays.
fn percent_decoded(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, behind @ ..] = rest {
        let digits = behind
            .get(..2)
            .and_then(|digits| std::str::from_utf8(digits).ok());
        let byte = digits
            .filter(|digits| digits.bytes().all(|digit| digit.is_ascii_hexdigit()))
            .and_then(|digits| u8::from_str_radix(digits, 16).ok());
        match (first, byte) {
            (b'%', Some(byte)) => {
                bytes.push(byte);
                rest = &behind[2..];
            }
            _ => {
                bytes.push(*first);
                rest = behind;
            }
        }
    }
    String::from_utf8(bytes).unwrap_or_else(|_| text.to_owned())
}

#[cfg(test)]
#[path = "load_tests.rs"]
mod tests;
