//! `weft`: the operator's command.

use clap::Parser;
use cli::args::Cli;
use cli::exit::Exit;
use std::process::ExitCode;

fn main() -> ExitCode {
    let cli = Cli::parse();
    // One thread: the command waits for a few answers, and processes it starts are tied to the thread that did it.
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("error: no runtime: {error}");
            return Exit::Bug.into();
        }
    };
    let exit = match runtime.block_on(cli::run(cli)) {
        Ok(exit) => exit,
        Err(failure) => {
            eprintln!("{}", failure.text());
            failure.exit
        }
    };
    exit.into()
}
