//! `weft-dataplane`: the proxy next to a workload. Options, and handing over to the `proxy` crate.

mod options;

pub use options::{Command, ModeName, Options, RedirectCommand};

use process::{Process, Runtime};
use proxy::Config;
use std::process::ExitCode;

/// Name of the program.
pub const PROGRAM: &str = "weft-dataplane";

/// Runs the program to its end.
pub fn main(options: Options) -> ExitCode {
    let Options { common, run, command } = options;
    match command {
        Some(Command::Redirect { command }) => redirect(command, &run),
        None | Some(Command::Run) => {
            let config = run.config();
            process::main(PROGRAM, common, Runtime::Current, move |process| serve(config, process))
        }
    }
}

async fn serve(config: anyhow::Result<Config>, process: Process) -> anyhow::Result<()> {
    proxy::runtime::run(config?, process).await.map_err(anyhow::Error::from)
}

fn redirect(_command: RedirectCommand, _run: &options::Run) -> ExitCode {
    process::report(PROGRAM, &anyhow::anyhow!("this build cannot redirect; use --mode explicit"))
}
