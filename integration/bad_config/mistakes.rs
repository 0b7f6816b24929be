//! The mistakes: one configuration each, and what must be said about it.

/// A section that is right.
pub const GOOD_SOURCE: &str =
    "<source>\n  @type tail\n  path /nonexistent/app.log\n  tag app\n  format none\n</source>\n";
/// A section that is right.
pub const GOOD_MATCH: &str = "<match **>\n  @type null\n</match>\n";
/// A section that is right once it is closed.
pub const FORWARD: &str =
    "<match **>\n  @type forward\n  <server>\n    host 127.0.0.1\n  </server>\n";

/// A mistake: its name, the configuration, what must be said about it.
pub type Mistake = (&'static str, String, &'static [&'static str]);

/// A good configuration but for these lines.
pub fn source(inside: &str) -> String {
    format!("<source>\n  @type tail\n{inside}\n</source>\n{GOOD_MATCH}")
}

/// A good configuration but for these lines.
pub fn forward(inside: &str) -> String {
    format!("{GOOD_SOURCE}{FORWARD}{inside}\n</match>\n")
}

/// A good configuration but for these lines.
pub fn behind_a_source(text: &str) -> String {
    format!("{GOOD_SOURCE}{text}")
}

/// A good configuration but for these lines.
pub fn tail(inside: &str) -> String {
    source(&format!("  path /x\n  tag a\n  format none\n{inside}"))
}

/// All of them.
pub fn mistakes() -> Vec<Mistake> {
    [
        mistakes_of_structure(),
        mistakes_of_wiring(),
        mistakes_of_types(),
        mistakes_of_files(),
        mistakes_of_parameters(),
        mistakes_of_limits(),
        mistakes_of_what_cannot_be_done(),
    ]
    .concat()
}

fn labelled(inside: &str) -> String {
    let source = GOOD_SOURCE.replace("</source>", "  @label @A\n</source>");
    format!("{source}{inside}")
}

fn mistakes_of_wiring() -> Vec<Mistake> {
    let relabel = |from: &str, inside: &str| format!("<label {from}>\n{inside}\n</label>\n");
    let to =
        |label: &str| format!("  <match **>\n    @type relabel\n    @label {label}\n  </match>");
    let filtered = "  <filter **>\n    @type grep\n    <regexp>\n      key a\n      pattern b\n    </regexp>\n  </filter>\n";
    let copied = "  <match **>\n    @type copy\n    <store>\n      @type relabel\n      @label @A\n    </store>\n  </match>";
    let null = "  <match **>\n    @type null\n  </match>";
    vec![
        (
            "a label that relabels to itself",
            labelled(&relabel("@A", &to("@A"))),
            &["a.conf:11", "for ever: @A -> @A"],
        ),
        (
            "a circle of labels behind filters and copies",
            labelled(&(relabel("@A", &(filtered.to_owned() + &to("@B"))) + &relabel("@B", copied))),
            &["a.conf:18", "for ever: @A -> @B -> @A", "a.conf:26"],
        ),
        (
            "a label given twice",
            labelled(&(relabel("@A", null) + &relabel("@A", null))),
            &["a.conf:13", "appears twice", "a.conf:8"],
        ),
        (
            "no source",
            GOOD_MATCH.to_owned(),
            &["a.conf: nothing to do", "--without-source"],
        ),
    ]
}

fn mistakes_of_types() -> Vec<Mistake> {
    vec![
        (
            "a copy in a secondary",
            forward("  <secondary>\n    @type copy\n  </secondary>"),
            &["a.conf:13", "'copy' cannot be used in <secondary>"],
        ),
        (
            "a source that is not there yet",
            format!("<source>\n  @type forward\n</source>\n{GOOD_MATCH}"),
            &["a.conf:2", "'forward' is not supported yet"],
        ),
        (
            "a source without a type",
            format!("<source>\n  path /x\n</source>\n{GOOD_MATCH}"),
            &["a.conf:1", "known types: tail"],
        ),
        (
            "a filter without a type",
            behind_a_source(&format!("<filter>\n</filter>\n{GOOD_MATCH}")),
            &["a.conf:7", "known types: grep, record_transformer"],
        ),
    ]
}

fn mistakes_of_files() -> Vec<Mistake> {
    vec![
        (
            "an include loop",
            "@include a.conf\n".to_owned(),
            &["a.conf:1", "include each other", "a.conf -> "],
        ),
        (
            "an included directory",
            "@include /tmp\n".to_owned(),
            &["a.conf:1", "/tmp", "directory"],
        ),
        (
            "a file over 1 MB",
            "#".repeat((1 << 20) + 1),
            &["a.conf", "1048577 bytes"],
        ),
    ]
}

fn mistakes_of_limits() -> Vec<Mistake> {
    vec![
        (
            "a pause beyond all clocks",
            forward("  <buffer>\n    flush_thread_burst_interval 1e30\n  </buffer>"),
            &["a.conf:13", "flush_thread_burst_interval", "1e30"],
        ),
        (
            "a slow flush beyond all clocks",
            forward("  slow_flush_log_threshold 1e40"),
            &["a.conf:12", "slow_flush_log_threshold", "1e40"],
        ),
        (
            "a time beyond all clocks",
            forward("  <buffer>\n    retry_timeout 999999999999d\n  </buffer>"),
            &["a.conf:13", "retry_timeout", "too long"],
        ),
        (
            "too many flush threads",
            forward("  <buffer>\n    flush_thread_count 65\n  </buffer>"),
            &["a.conf:13", "flush_thread_count", "at most 64"],
        ),
        (
            "lines of no length",
            tail("  max_line_size 0"),
            &["a.conf:6", "max_line_size", "greater than 0"],
        ),
        (
            "a port with a letter",
            forward("  <server>\n    host a\n    port 24224x\n  </server>"),
            &["a.conf:14", "port: not a whole number", "Got: 24224x"],
        ),
        (
            "a broken port",
            forward("  <server>\n    host a\n    port 1.5\n  </server>"),
            &["a.conf:14", "port: not a whole number", "Got: 1.5"],
        ),
        (
            "a negative port",
            forward("  <server>\n    host a\n    port -1\n  </server>"),
            &["a.conf:14", "between 1 and 65535. Got: -1\n"],
        ),
    ]
}

fn mistakes_of_what_cannot_be_done() -> Vec<Mistake> {
    vec![
        (
            "an encoding that is none",
            tail("  encoding foo-bar"),
            &["a.conf:6", "encoding: unknown encoding name - foo-bar"],
        ),
        (
            "an encoding that cannot be read",
            tail("  from_encoding utf8-mac\n  encoding utf-8"),
            &[
                "a.conf:6",
                "the encoding utf8-mac, which Ruby knows, cannot be read",
            ],
        ),
        (
            "a conversion to nothing",
            tail("  from_encoding sjis"),
            &["a.conf:6", "must be specified with 'encoding' parameter"],
        ),
        (
            "a limit of bytes without a timer that ends the wait",
            tail("  read_bytes_limit_per_second 1m\n  enable_watch_timer false"),
            &["a.conf:6", "Need to enable watch timer"],
        ),
        (
            "a group without rules",
            tail("  <group>\n    pattern /(?<name>.+)/\n  </group>"),
            &["a.conf:6", "'<rule>' sections are required"],
        ),
        (
            "a limit below none",
            tail("  <group>\n    <rule>\n      limit -7\n    </rule>\n  </group>"),
            &["a.conf:8", "limit: must be -1"],
        ),
        (
            "a log level that is none",
            tail("  @log_level verbose"),
            &["a.conf:6", "trace, debug, info, warn, error, fatal"],
        ),
        (
            "a pos_file whose directory cannot be made",
            tail("  pos_file /proc/nope/x.pos"),
            &["a.conf:6", "pos_file", "/proc/nope"],
        ),
        (
            "chunks without a tag for forward",
            forward("  <buffer time>\n    timekey 1h\n  </buffer>"),
            &["a.conf:12", "must include 'tag' for forward output"],
        ),
        (
            "time slices for forward",
            forward("  time_slice_format %Y%m%d"),
            &["a.conf:12", "must include 'tag' for forward output"],
        ),
        (
            "TLS",
            forward("  transport tls"),
            &["a.conf:12", "TLS is not supported yet"],
        ),
    ]
}

fn mistakes_of_structure() -> Vec<Mistake> {
    let ids =
        "<match a>\n  @type null\n  @id x\n</match>\n<match b>\n  @type null\n  @id x\n</match>\n";
    let labels = "  @label @APP\n</source>\n<label @APPS>\n  <match **>\n    @type null\n  </match>\n</label>\n";
    let unknown_label = GOOD_SOURCE.replace("</source>\n", labels);
    vec![
        (
            "a section that is not closed",
            behind_a_source("<match **>\n  @type null\n"),
            &["a.conf:7", "match"],
        ),
        (
            "a wrong end tag",
            behind_a_source("<match **>\n  @type null\n</source>\n"),
            &["a.conf:9", "source"],
        ),
        (
            "no @type",
            behind_a_source("<match **>\n</match>\n"),
            &["a.conf:7", "@type", "known types: forward, file"],
        ),
        (
            "an unknown @type",
            behind_a_source("<match **>\n  @type forwrad\n</match>\n"),
            &["a.conf:8", "forwrad", "forward"],
        ),
        (
            "an unknown source",
            format!("<source>\n  @type tial\n</source>\n{GOOD_MATCH}"),
            &["a.conf:2", "tial", "tail"],
        ),
        (
            "a missing include",
            format!("@include /nonexistent/x.conf\n{GOOD_SOURCE}{GOOD_MATCH}"),
            &["a.conf:1", "/nonexistent/x.conf"],
        ),
        ("nothing to do", String::new(), &["nothing to do"]),
        ("no match", GOOD_SOURCE.to_owned(), &["nothing to do"]),
        (
            "an unknown label",
            unknown_label,
            &["a.conf:6", "@APP", "@APPS"],
        ),
        (
            "an id given twice",
            behind_a_source(ids),
            &["a.conf:13", "fix it", "a.conf:9"],
        ),
    ]
}

fn mistakes_of_parameters() -> Vec<Mistake> {
    let tail = "<source>\n  @type tail\n  path /x\n  tag a\n  format none\n  pos_file /tmp/affluent-test-one.pos\n</source>\n";
    vec![
        (
            "an unknown parser",
            source("  path /x\n  tag a\n  format jsno"),
            &["a.conf", "jsno", "json"],
        ),
        (
            "a missing path",
            source("  tag a\n  format none"),
            &["a.conf:1", "'path' parameter is required"],
        ),
        (
            "a missing tag",
            source("  path /x\n  format none"),
            &["a.conf:1", "'tag' parameter is required"],
        ),
        (
            "a forward without servers",
            behind_a_source("<match **>\n  @type forward\n</match>\n"),
            &["a.conf:7", "server"],
        ),
        (
            "a size with a wrong unit",
            forward("  <buffer>\n    chunk_limit_size 8q\n  </buffer>"),
            &["a.conf:13", "chunk_limit_size", "8q"],
        ),
        (
            "a time that is none",
            forward("  recover_wait soon"),
            &["a.conf:12", "recover_wait", "soon"],
        ),
        (
            "a boolean that is none",
            forward("  require_ack_response maybe"),
            &["a.conf:12", "require_ack_response", "maybe"],
        ),
        (
            "a word that is not allowed",
            forward("  heartbeat_type pigeon"),
            &["a.conf:12", "heartbeat_type", "transport"],
        ),
        (
            "a port out of range",
            forward("  <server>\n    host a\n    port 99999\n  </server>"),
            &["a.conf:14", "port", "99999"],
        ),
        (
            "a regexp that does not compile",
            source("  path /x\n  tag a\n  format /(?<a>x/"),
            &["a.conf:5"],
        ),
        (
            "embedded Ruby that is not supported",
            source("  path \"#{`hostname -i`}\"\n  tag a\n  format none"),
            &["a.conf:3", "path: ", "ENV"],
        ),
        (
            "two tails with one pos_file",
            format!("{tail}{tail}{GOOD_MATCH}"),
            &["a.conf:13", "pos_file", "a.conf:6"],
        ),
        (
            "a pos_file that is a directory",
            source("  path /x\n  tag a\n  format none\n  pos_file /tmp"),
            &["a.conf:6", "/tmp"],
        ),
    ]
}
