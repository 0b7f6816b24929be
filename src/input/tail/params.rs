//! The parameters of `<source> @type tail` and what is checked about them. Nothing outside the configuration is touched,
//! except that the place of the pos_file is looked at and tried.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use jiff::tz::TimeZone;
use serde::Deserialize;

use super::discover::Targets;
use super::encoding::{self, Encodings};
use super::group::{Groups, Rules};
use super::pos_file;
use super::read::READ_SIZE;
use super::throttle::Throttle;
use crate::config::types::{Size, Time};
use crate::config::{ConfigErrors, Element, Result};

/// The longest line where `max_line_size` is not set: a bound on memory that Fluentd does not have.
pub const MAX_LINE_SIZE: u64 = 32 << 20;

/// When a piece of `path` is a pattern.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum GlobPolicy {
    /// Only where it has a `*`.
    #[default]
    BackwardCompatible,
    /// Also where it has `?` or `[…]`.
    Extended,
    /// Also where it has `{…}`.
    Always,
}

/// The parameters, spelled and defaulted as Fluentd's.
#[derive(Clone, Debug, Deserialize)]
#[serde(default)]
pub struct Params {
    /// Files to read: names and patterns, separated by `path_delimiter`, with strftime conversions.
    pub path: String,
    /// What separates the pieces of `path`.
    pub path_delimiter: String,
    /// When a piece is a pattern.
    pub glob_policy: GlobPolicy,
    /// The zone of the conversions in `path` and `exclude_path`; unset: the system's.
    pub path_timezone: Option<String>,
    /// Files and patterns that are taken out of `path`.
    pub exclude_path: Vec<String>,
    /// The tag; `*` stands for the path with `/` as `.`.
    pub tag: String,
    /// Where positions are kept across restarts.
    pub pos_file: Option<PathBuf>,
    /// Accepted with a warning: the pos_file is always compact.
    pub pos_file_compaction_interval: Option<Time>,
    /// Whether the pos_file has an entry for each inode instead of each path. Files are recognised by their inode either way.
    pub follow_inodes: bool,
    /// How often `path` is expanded anew; file events make it quicker.
    pub refresh_interval: Time,
    /// Accepted with a warning: the first look is at start.
    pub skip_refresh_on_startup: bool,
    /// Leaves out globbed files that were not written for so long; one that is being read is read on.
    pub limit_recently_modified: Option<Time>,
    /// Whether files of the very first start are read from their head.
    pub read_from_head: bool,
    /// What the lines are, or become where `from_encoding` says something else. Values then are MessagePack str, in UTF-8;
    /// unset: they are bin.
    pub encoding: Option<String>,
    /// What the lines are converted from.
    pub from_encoding: Option<String>,
    /// Most lines of one batch; unset: all lines of one read (at most 1 MiB).
    pub read_lines_limit: Option<u64>,
    /// Most bytes of one file in a second; unset: as many as there are.
    pub read_bytes_limit_per_second: Option<Size>,
    /// How long a multi-line text waits for more lines; unset: until the next first line or the end.
    pub multiline_flush_interval: Option<Time>,
    /// How long a rotated file stays open at least.
    pub rotate_wait: Time,
    /// Accepted with a warning where false: files are always looked at once a second.
    pub enable_watch_timer: bool,
    /// Whether file events are used.
    pub enable_stat_watcher: bool,
    /// Whether files are opened for each read and closed behind it.
    pub open_on_every_update: bool,
    /// Whether a line that does not parse is sent as `{"unmatched_line": line}`.
    pub emit_unmatched_lines: bool,
    /// An unreadable file is always named once, until its state changes.
    pub ignore_repeated_permission_error: bool,
    /// A field that gets the file's path.
    pub path_key: Option<String>,
    /// Longer lines (newline included) are skipped; unset: 32 MiB.
    pub max_line_size: Option<Size>,
    /// Whether a multi-line parser emits what does not match, whatever [`Params::emit_unmatched_lines`] says: Fluentd's does as soon as
    /// the parameter stands there.
    #[serde(skip)]
    pub emit_unmatched_texts: bool,
    /// The `<group>` section.
    #[serde(skip)]
    pub group: Option<Arc<Rules>>,
}

impl Default for Params {
    fn default() -> Self {
        Params {
            path: String::new(),
            path_delimiter: ",".into(),
            glob_policy: GlobPolicy::default(),
            path_timezone: None,
            exclude_path: Vec::new(),
            tag: String::new(),
            pos_file: None,
            pos_file_compaction_interval: None,
            follow_inodes: false,
            refresh_interval: Time(std::time::Duration::from_secs(60)),
            skip_refresh_on_startup: false,
            limit_recently_modified: None,
            read_from_head: false,
            encoding: None,
            from_encoding: None,
            read_lines_limit: None,
            read_bytes_limit_per_second: None,
            multiline_flush_interval: None,
            rotate_wait: Time(std::time::Duration::from_secs(5)),
            enable_watch_timer: true,
            enable_stat_watcher: true,
            open_on_every_update: false,
            emit_unmatched_lines: false,
            ignore_repeated_permission_error: false,
            path_key: None,
            max_line_size: None,
            emit_unmatched_texts: false,
            group: None,
        }
    }
}

impl Params {
    /// The files that are asked for.
    pub fn targets(&self) -> Targets {
        let mut pieces: Vec<String> = Vec::new();
        for piece in self.path.split(self.path_delimiter.as_str()) {
            let piece = piece.trim();
            if !piece.is_empty() && !pieces.iter().any(|known| known == piece) {
                pieces.push(piece.to_owned());
            }
        }
        let timezone = self.path_timezone.as_deref().and_then(zone);
        Targets {
            pieces,
            excludes: self
                .exclude_path
                .iter()
                .map(|piece| piece.trim().to_owned())
                .collect(),
            glob_policy: self.glob_policy,
            timezone: timezone.unwrap_or_else(TimeZone::system),
        }
    }

    /// The longest line, newline included.
    pub fn line_limit(&self) -> u64 {
        self.max_line_size
            .map_or(MAX_LINE_SIZE, |size| size.0.min(MAX_LINE_SIZE))
    }

    /// Checks what can be checked before anything starts; warns where we do something else than what is asked for.
    pub fn check(&self, element: &Element) -> Result<()> {
        let mut errors = ConfigErrors::new();
        for key in ["path", "tag"] {
            if !element.has(key) {
                errors.push(element.missing(key));
            }
        }
        let mut wrong = |key: &str, message: String| errors.push(element.error_at(key, message));
        if element.has("path")
            && (self.path_delimiter.is_empty() || self.targets().pieces.is_empty())
        {
            wrong(
                "path",
                "tail: 'path' parameter is required on tail input".into(),
            );
        }
        if element.has("tag") && self.tag.is_empty() {
            wrong("tag", "'tag' parameter is required".into());
        }
        if ["/", "*", "%"].contains(&self.path_delimiter.as_str()) {
            wrong(
                "path_delimiter",
                "these characters are reserved in tail path: / * %".into(),
            );
        }
        if self.glob_policy == GlobPolicy::Always && self.path_delimiter == "," {
            wrong(
                "glob_policy",
                "cannot be 'always' while path_delimiter is ','".into(),
            );
        }
        let braces = |piece: &String| piece.contains('{') && piece.contains(['*', '?', '[']);
        if self.glob_policy == GlobPolicy::Extended && self.targets().pieces.iter().any(braces) {
            wrong(
                "path",
                "'{' and '}' together with other wildcards need glob_policy always".into(),
            );
        }
        if let Some(name) = self
            .path_timezone
            .as_deref()
            .filter(|name| zone(name).is_none())
        {
            wrong("path_timezone", format!("unknown time zone '{name}'"));
        }
        self.check_timers(&mut wrong);
        if let Some(pos_file) = &self.pos_file
            && let Err(reason) = pos_file::check(pos_file).and_then(|()| try_directory(pos_file))
        {
            wrong(
                "pos_file",
                format!("cannot use pos_file {}: {reason}", pos_file.display()),
            );
        }
        if self.follow_inodes && self.pos_file.is_none() {
            wrong(
                "follow_inodes",
                "Can't follow inodes without pos_file configuration parameter".into(),
            );
        }
        if self.max_line_size.is_some_and(|size| size.0 == 0) {
            wrong(
                "max_line_size",
                "must be greater than 0: every line would be skipped".into(),
            );
        }
        self.check_encodings(element, &mut errors);
        self.warn_of_differences(element);
        errors.into_result()
    }

    fn check_timers(&self, wrong: &mut impl FnMut(&str, String)) {
        if !self.enable_watch_timer && !self.enable_stat_watcher {
            wrong(
                "enable_stat_watcher",
                "either of enable_watch_timer or enable_stat_watcher must be true".into(),
            );
        }
        if self.bytes_limit().is_some() && !self.enable_watch_timer {
            wrong(
                "read_bytes_limit_per_second",
                "Need to enable watch timer when using log throttling feature".into(),
            );
        }
    }

    /// `read_bytes_limit_per_second`, where it is a limit.
    fn bytes_limit(&self) -> Option<u64> {
        let limit = self.read_bytes_limit_per_second?.0;
        (limit != u64::MAX).then_some(limit)
    }

    /// The limits of `<group>` and `read_bytes_limit_per_second`.
    pub fn throttle(&self) -> Throttle {
        let bytes = self.bytes_limit().map(|limit| limit.max(READ_SIZE as u64));
        Throttle::new(self.group.clone().map(Groups::new), bytes)
    }

    /// What `encoding` and `from_encoding` ask for; as if they were not there where they are wrong, which [`Params::check`] has
    /// refused.
    pub fn encodings(&self) -> Encodings {
        self.read_encodings().unwrap_or_default()
    }

    fn read_encodings(&self) -> std::result::Result<Encodings, encoding::Wrong> {
        Encodings::of(self.encoding.as_deref(), self.from_encoding.as_deref())
    }

    fn check_encodings(&self, element: &Element, errors: &mut ConfigErrors) {
        match self.read_encodings() {
            Ok(encodings) if encodings.same => element.warn_at(
                "from_encoding",
                "'encoding' and 'from_encoding' are same encoding. No effect",
            ),
            Ok(_) => {}
            Err(encoding::Wrong { key, message }) => errors.push(element.error_at(key, message)),
        }
    }

    fn warn_of_differences(&self, element: &Element) {
        let warn_if = |asked: bool, key: &str, instead: &str| {
            if asked {
                element.warn_at(key, instead);
            }
        };
        warn_if(
            self.pos_file_compaction_interval.is_some(),
            "pos_file_compaction_interval",
            "has no effect: every write of the pos_file makes it compact",
        );
        warn_if(
            self.skip_refresh_on_startup,
            "skip_refresh_on_startup",
            "has no effect: files are looked for at start, or what is written before the first refresh could be missed",
        );
        warn_if(
            self.bytes_limit()
                .is_some_and(|limit| limit < READ_SIZE as u64),
            "read_bytes_limit_per_second",
            &format!(
                "Should specify greater equal than {READ_SIZE}. Use {READ_SIZE} for read_bytes_limit_per_second"
            ),
        );
        warn_if(
            !self.enable_watch_timer,
            "enable_watch_timer",
            "has no effect: files are looked at once a second",
        );
        warn_if(
            self.ignore_repeated_permission_error,
            "ignore_repeated_permission_error",
            "has no effect: an unreadable file is told once, and again when that changes",
        );
        warn_if(
            self.max_line_size
                .is_some_and(|size| size.0 > MAX_LINE_SIZE),
            "max_line_size",
            "lines longer than 32 MiB are skipped all the same",
        );
        if self.pos_file.is_none() {
            element.warn("'pos_file PATH' parameter is not set to a 'tail' source. this parameter is highly recommended to save the position to resume tailing.");
        }
    }
}

/// Whether the missing directories of the pos_file can be made at start: the first of them is made and taken away again, since
/// permissions alone do not tell.
fn try_directory(pos_file: &Path) -> Result<(), String> {
    let directories = pos_file.ancestors().skip(1);
    let missing = directories.take_while(|path| !path.as_os_str().is_empty() && !path.exists());
    let Some(first) = missing.last() else {
        return Ok(());
    };
    match fs::create_dir(first) {
        Ok(()) => {
            // Somebody may have put something there meanwhile: then it stays.
            let _ = fs::remove_dir(first);
            Ok(())
        }
        Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => Ok(()),
        Err(error) => Err(format!("cannot make {}: {error}", first.display())),
    }
}

fn zone(name: &str) -> Option<TimeZone> {
    if name.starts_with(['+', '-']) {
        let time = jiff::fmt::strtime::parse("%z", name)
            .or_else(|_| jiff::fmt::strtime::parse("%:z", name));
        return time.ok()?.offset().map(TimeZone::fixed);
    }
    TimeZone::get(name).ok()
}

/// The tag of a file: the first `*` becomes the path with its slashes as single dots; what stands behind a second `*` is
/// dropped, as in Fluentd.
pub fn tag_for(pattern: &str, path: &str) -> String {
    let mut parts = pattern.split('*');
    let (prefix, Some(suffix)) = (parts.next().unwrap_or_default(), parts.next()) else {
        return pattern.to_owned();
    };
    let mut name = String::with_capacity(path.len());
    for character in path.chars() {
        let character = if character == '/' { '.' } else { character };
        if character != '.' || !name.ends_with('.') {
            name.push(character);
        }
    }
    let name = name.strip_prefix('.').unwrap_or(&name);
    format!("{prefix}{name}{suffix}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_star_in_the_tag_is_the_path_with_dots() {
        assert_eq!(tag_for("a.*.b", "/var/log/x.log"), "a.var.log.x.log.b");
        assert_eq!(tag_for("a.*.b*c", "/var//log/../x"), "a.var.log.x.b");
        assert_eq!(tag_for("app", "/var/log/x.log"), "app");
        assert_eq!(tag_for("*", "/x"), "x");
    }

    #[test]
    fn pieces_are_stripped_and_told_apart() {
        let params = Params {
            path: " /a.log , /b/*.log,,/a.log".into(),
            ..Params::default()
        };
        assert_eq!(params.targets().pieces, ["/a.log", "/b/*.log"]);
    }

    #[test]
    fn zones_are_offsets_or_names() {
        for name in ["+09:00", "+0900", "-0330", "Asia/Tokyo", "UTC"] {
            assert!(zone(name).is_some(), "{name}");
        }
        for name in ["+9999", "Nowhere/City", ""] {
            assert!(zone(name).is_none(), "{name}");
        }
    }
}
