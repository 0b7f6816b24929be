//! A regular expression of the configuration, matched against raw text.

use pcre2::bytes::{Regex, RegexBuilder};

/// A compiled expression.
#[derive(Clone, Debug)]
pub struct Pattern(Regex);

impl Pattern {
    /// Compiles `source` with Ruby's flags: `i` ignores case, `m` lets a dot match a newline. `^` and `$` match at lines, as
    /// always in Ruby.
    pub fn compile(source: &str, flags: &str) -> Result<Pattern, String> {
        RegexBuilder::new()
            .multi_line(true)
            .dotall(flags.contains('m'))
            .caseless(flags.contains('i'))
            .utf(true)
            .jit_if_available(true)
            .build(source)
            .map(Pattern)
            .map_err(|error| format!("the pattern does not compile: {error}"))
    }

    /// Whether it matches anywhere. Bytes that are not UTF-8 count as `?`. A match that hits PCRE2's limits is none.
    pub fn is_match(&self, text: &[u8]) -> bool {
        match std::str::from_utf8(text) {
            Ok(_) => self.0.is_match(text).unwrap_or(false),
            Err(_) => {
                let scrubbed = String::from_utf8_lossy(text).replace('\u{fffd}', "?");
                self.0.is_match(scrubbed.as_bytes()).unwrap_or(false)
            }
        }
    }
}
