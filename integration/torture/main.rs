//! `cargo run --release --example torture -- --rounds 100 [--seed N] [--kind KIND]`: kill -9 at random moments under rotation, with
//! chunks in memory and on disk. The kinds of rounds take turns unless one is asked for.
//!
//! Prints seed, plan and verdict of each round. Ends with 1 when a line is lost or damaged, comes again without a reason, or a
//! round proves nothing; what is missing is named, and the round's files stay where the last line says.

#![allow(clippy::print_stdout, reason = "printing is what it is for")]

use std::process::ExitCode;

use anyhow::Result;
use clap::{Parser, ValueEnum};

#[path = "../support/mod.rs"]
mod support;
#[path = "mod.rs"]
mod torture;

use torture::plan::{Kind, Plan};

/// What is asked for.
#[derive(Parser)]
struct Args {
    /// How many rounds to run.
    #[arg(long, default_value_t = 10)]
    rounds: u64,
    /// The seed of the first round; the others follow it.
    #[arg(long)]
    seed: Option<u64>,
    /// Only rounds of this kind.
    #[arg(long)]
    kind: Option<Kind>,
}

#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn main() -> ExitCode {
    match run(&Args::parse()).await {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            println!("torture could not finish: {error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn run(args: &Args) -> Result<bool> {
    let binary = tokio::task::spawn_blocking(support::agent::binary).await??;
    let first = args.seed.unwrap_or_else(|| fastrand::u64(..1_000_000));
    let (mut good, mut written, mut duplicated, mut kills, mut in_flight) = (0, 0, 0, 0, 0);
    let mut not_played = 0;
    for (number, turn) in (0..args.rounds).zip(Kind::value_variants().iter().cycle()) {
        let kind = args.kind.unwrap_or(*turn);
        let plan = Plan::new(kind, first.wrapping_add(number));
        println!("round {}/{}, {plan}", number + 1, args.rounds);
        if let Some(reason) = torture::cannot_play(&plan)? {
            println!("  NOT PLAYED: {reason}");
            not_played += 1;
            continue;
        }
        let round = torture::run(&binary, &plan).await?;
        let verdict = &round.verdict;
        println!(
            "  {}: {verdict}",
            if verdict.is_good() { "good" } else { "BAD" }
        );
        written += verdict.written;
        duplicated += verdict.duplicated;
        kills += verdict.kills.len();
        in_flight += verdict.in_flight();
        if verdict.is_good() {
            good += 1;
        } else {
            std::fs::write(round.dir.path().join("agent.log"), &round.log)?;
            println!(
                "  its files and the agent's log are kept in {}",
                round.dir.keep().display()
            );
        }
    }
    println!(
        "{good} of {} rounds are good, {not_played} were not played: {written} lines written, {duplicated} duplicated; {kills} kills, \
         {in_flight} with chunks in flight",
        args.rounds
    );
    Ok(good + not_played == args.rounds && good > 0)
}
