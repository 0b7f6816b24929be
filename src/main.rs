//! The command line of affluent; everything else is in the library.

use std::process::ExitCode;

use affluent::args::Args;
use affluent::run::run;
use clap::Parser;

fn main() -> ExitCode {
    match run(&Args::parse()) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("affluent: {error:#}");
            tracing::error!("{error:#}");
            ExitCode::from(1)
        }
    }
}
