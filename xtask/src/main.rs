//! All automation: `cargo xtask demo`, `test`, `check`, `new`, `web`, `bench`, `fuzz`, `judges`.

mod bench;
mod cargo;
mod check;
mod demo;
mod fuzz;
mod judges;
mod new;
mod run;
mod suite;
mod test;
mod tools;
mod web;

use anyhow::Result;
use clap::{Parser, Subcommand};
use std::path::PathBuf;
use std::process::ExitCode;

/// What this repository can do for you.
#[derive(Parser)]
#[command(name = "cargo xtask")]
struct Options {
    #[command(subcommand)]
    task: Task,
}

#[derive(Subcommand)]
enum Task {
    /// Builds everything and runs a mesh of three zones on this machine.
    Demo {
        /// Runs all twelve steps, prints a table and ends.
        #[arg(long)]
        check: bool,
        /// With --check: writes each step's figures and verdict.
        #[arg(long, requires = "check")]
        json: Option<PathBuf>,
        /// Only these steps, such as 1,4,11.
        #[arg(long, value_delimiter = ',', requires = "check")]
        steps: Vec<u8>,
    },
    /// Passes all tests, or one suite of them.
    Test {
        /// One of: check, unit, web, demo, judges, netns. All unless given.
        suite: Option<String>,
        /// Only tests whose name contains this.
        filter: Option<String>,
    },
    /// Formatting, lints, layers, file sizes, links, forbidden dependencies.
    Check,
    /// Writes the first files of something new.
    New {
        /// Only `policy` so far.
        #[arg(value_parser = ["policy"])]
        what: String,
        /// In PascalCase, such as `CircuitBreaker`.
        name: String,
    },
    /// Builds the GUI into web/dist, where the control planes take it from.
    Web,
    /// Mutates what anybody may send to a proxy, until it breaks or time is up; see crates/proxy/fuzz.
    Fuzz {
        /// All unless given.
        targets: Vec<String>,
        /// For each target.
        #[arg(long, default_value_t = 60)]
        seconds: u32,
    },
    /// Conformance suites written by others, against the proxies; see docs/reference/judges.md.
    Judges {
        /// `install`, `run` or `list`, and names of judges; `--help` tells more.
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        flags: Vec<String>,
    },
    /// Measures Weft beside its peers; see bench/README.md.
    Bench {
        /// Passed on; `--help` lists them.
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        flags: Vec<String>,
    },
}

fn main() -> ExitCode {
    match perform(Options::parse().task) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn perform(task: Task) -> Result<bool> {
    std::env::set_current_dir(cargo::root())?;
    match task {
        Task::Demo { check, json, steps } => demo::run(check, json, &steps),
        Task::Test { suite, filter } => test::run(suite.as_deref(), filter.as_deref()),
        Task::Check => check::run(),
        Task::New { name, .. } => new::policy(&name).map(|()| true),
        Task::Web => web::build().map(|()| true),
        Task::Fuzz { targets, seconds } => fuzz::run(&targets, seconds),
        Task::Judges { flags } => judges::run(&flags),
        Task::Bench { flags } => bench::run(&flags),
    }
}
