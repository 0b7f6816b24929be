//! out_stdout: one line per event on the log stream, as Fluentd: standard output, or the file of `-o`.

use super::lines::Lines;
use super::{Boxed, Configured, LogStream, Output, OutputContext, WriteError, entries_of};
use crate::buffer::Chunk;
use crate::config::{Element, Result};
use crate::event::msgpack::entries;

/// The output.
struct Stdout {
    lines: Lines,
    log: LogStream,
}

/// Reads a `<match>` or `<store>` section of type stdout.
pub fn configure(section: &Element, context: &OutputContext) -> Result<Configured> {
    let lines = Lines::configure(section, "stdout")?;
    let log = context.log.clone();
    Ok(Configured::unbuffered("stdout", Stdout { lines, log }))
}

impl Stdout {
    async fn print(&self, chunk: &Chunk) -> std::result::Result<(), WriteError> {
        let mut text = Vec::with_capacity(2 * chunk.len());
        for entry in entries_of(chunk)
            .await?
            .iter()
            .flat_map(|bytes| entries(bytes))
        {
            let entry = entry.map_err(|error| WriteError::Unrecoverable(error.into()))?;
            self.lines
                .append(chunk.tag(), entry.time, entry.record, &mut text);
        }
        let log = self.log.clone();
        // A terminal or a pipe may not take it at once.
        tokio::task::spawn_blocking(move || log.print(&text)).await??;
        Ok(())
    }
}

impl Output for Stdout {
    fn write<'a>(&'a self, chunk: &'a Chunk) -> Boxed<'a, std::result::Result<(), WriteError>> {
        Box::pin(self.print(chunk))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::output::Chunks;
    use crate::output::testing::{chunk, section};
    use std::sync::{Arc, Mutex};

    #[tokio::test]
    async fn each_event_is_a_line_with_time_tag_and_json() {
        let sink = Arc::new(Mutex::new(Vec::new()));
        let context = OutputContext {
            chunks: Chunks::Any,
            log: LogStream::new(sink.clone()),
        };
        let output = configure(&section("match", &[], vec![]), &context).expect("valid");
        assert!(output.unbuffered);
        let chunk = chunk("app.x", &[(0, "one"), (1, "tw\"o")]);
        output.output.write(&chunk).await.expect("printed");
        let text = String::from_utf8(sink.lock().expect("unpoisoned").clone()).expect("UTF-8");
        let lines: Vec<&str> = text
            .lines()
            .map(|line| &line["1970-01-01 00:00:0".len()..])
            .collect();
        let zone = &lines[0]["0.000000000 ".len()..][..5];
        assert_eq!(
            lines,
            [
                format!(r#"0.000000000 {zone} app.x: {{"message":"one"}}"#),
                format!(r#"1.000000000 {zone} app.x: {{"message":"tw\"o"}}"#),
            ]
        );
    }

    #[tokio::test]
    async fn the_flat_format_and_inject_parameters_of_old_configurations_count() {
        let sink = Arc::new(Mutex::new(Vec::new()));
        let context = OutputContext {
            chunks: Chunks::Any,
            log: LogStream::new(sink.clone()),
        };
        let params = [
            ("format", "json"),
            ("include_tag_key", "true"),
            ("tag_key", "from"),
        ];
        let output = configure(&section("match", &params, vec![]), &context).expect("valid");
        output
            .output
            .write(&chunk("app.x", &[(0, "one")]))
            .await
            .expect("printed");
        let text = String::from_utf8(sink.lock().expect("unpoisoned").clone()).expect("UTF-8");
        assert_eq!(text, "{\"message\":\"one\",\"from\":\"app.x\"}\n");
    }
}
