//! Figures of the real binary, each beside the least that the work needs, in the same run: `cargo bench`, or `cargo bench -- catch_up`.
//!
//! Nothing is asserted about time. A row says FAILED, and the run ends with status 1, when lines are missing or a work cannot be done.
//! `AFFLUENT_BENCH_MB` (1000) is the size of the catch-up, `AFFLUENT_BENCH_ROUNDS` (3) how often it is repeated.

#![allow(clippy::print_stdout, reason = "the table is the result")]

mod away;
mod bare_loop;
mod catch_up;
#[cfg(feature = "aws")]
mod drain;
mod file_buffer;
mod idle;
mod latency;
mod lines;
mod loss;
mod many_files;
mod process;
mod receiver;
mod start_many;
#[cfg(feature = "aws")]
#[path = "../integration/support/mod.rs"]
mod support;
mod table;
mod wire;

use std::process::ExitCode;

use anyhow::{Context, Result};

use table::{Row, Table};

type Work = fn() -> Result<Vec<Row>>;

/// Every work by the name that selects it.
const WORKS: &[(&str, Work)] = &[
    ("catch_up", catch_up::rows),
    ("file_buffer", file_buffer::rows),
    ("away", away::rows),
    ("latency", latency::rows),
    ("idle", idle::rows),
    ("many_files", many_files::rows),
    ("start_many", start_many::rows),
    #[cfg(feature = "aws")]
    ("drain", drain::rows),
    ("kill9", loss::kill9),
    ("sigterm", loss::sigterm),
];

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    // `cargo test --all-targets` starts benches too, without this flag: figures of a debug build mislead.
    if !args.iter().any(|arg| arg == "--bench") {
        println!("the benches run by `cargo bench`");
        return ExitCode::SUCCESS;
    }
    let wanted: Vec<&String> = args.iter().filter(|arg| !arg.starts_with('-')).collect();
    let names: Vec<&str> = WORKS.iter().map(|work| work.0).collect();
    if let Some(unknown) = wanted.iter().find(|name| !names.contains(&name.as_str())) {
        println!("there is no work {unknown}: {}", names.join(", "));
        return ExitCode::FAILURE;
    }
    let mut table = Table::default();
    for (name, work) in WORKS {
        if wanted.is_empty() || wanted.iter().any(|wanted| wanted == name) {
            eprintln!("{name} …");
            let failed = |error: anyhow::Error| {
                eprintln!("{name}: {error:#}");
                vec![Row::failed(*name, error.root_cause())]
            };
            table.rows.extend(work().unwrap_or_else(failed));
        }
    }
    println!("\n{table}");
    if table.rows.iter().any(Row::has_failed) {
        return ExitCode::FAILURE;
    }
    ExitCode::SUCCESS
}

/// A number from the environment.
fn env_or(name: &str, default: u64) -> Result<u64> {
    match std::env::var(name) {
        Ok(value) => value
            .parse()
            .with_context(|| format!("{name} is no number: {value}")),
        Err(_) => Ok(default),
    }
}
