//! Parsers that are one regexp: nginx, apache and apache_error. Their fields stay text, `-` included, as in Fluentd.

use crate::config::{Element, Result};

use super::{Parser, regexp};

/// The time of web server logs.
pub const ACCESS_TIME: &str = "%d/%b/%Y:%H:%M:%S %z";

pub(super) const NGINX: &str = concat!(
    r#"^(?<remote>[^ ]*) (?<host>[^ ]*) (?<user>[^ ]*) \[(?<time>[^\]]*)\]"#,
    r#" "(?<method>\S+)(?: +(?<path>[^"]*?)(?: +\S*)?)?" (?<code>[^ ]*) (?<size>[^ ]*)"#,
    r#"(?: "(?<referer>[^"]*)" "(?<agent>[^"]*)"(?:\s+"?(?<http_x_forwarded_for>[^"]*)"?)?)?$"#,
);

pub(super) const APACHE: &str = concat!(
    r#"^(?<host>[^ ]*) [^ ]* (?<user>[^ ]*) \[(?<time>[^\]]*)\]"#,
    r#" "(?<method>\S+)(?: +(?<path>[^ ]*) +\S*)?" (?<code>[^ ]*) (?<size>[^ ]*)"#,
    r#"(?: "(?<referer>[^"]*)" "(?<agent>[^"]*)")?$"#,
);

pub(super) const APACHE_ERROR: &str = concat!(
    r"^\[[^ ]* (?<time>[^\]]*)\] \[(?<level>[^\]]*)\]",
    r"(?: \[pid (?<pid>[^\]]*)\])?(?: \[client (?<client>[^\]]*)\])? (?<message>.*)$",
);

/// `@type nginx`: the combined format, perhaps with a field for X-Forwarded-For.
pub fn nginx(section: &Element) -> Result<Box<dyn Parser>> {
    regexp::parser_of(section, NGINX, Some(ACCESS_TIME))
}

/// `@type apache`: common or combined format, everything as text.
pub fn apache(section: &Element) -> Result<Box<dyn Parser>> {
    regexp::parser_of(section, APACHE, Some(ACCESS_TIME))
}

/// `@type apache_error`: `[Wkd Mon DD … YYYY] [level] [pid …] [client …] message`.
pub fn apache_error(section: &Element) -> Result<Box<dyn Parser>> {
    regexp::parser_of(section, APACHE_ERROR, None)
}
