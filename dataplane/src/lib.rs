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

fn redirect(command: RedirectCommand, run: &options::Run) -> ExitCode {
    let done = match command {
        RedirectCommand::Up(up) => up.plan(run).and_then(|plan| Ok(proxy::redirect::up(&plan)?)),
        RedirectCommand::Down => proxy::redirect::down().map_err(anyhow::Error::from),
        RedirectCommand::Show => show(),
    };
    done.map_or_else(|error| process::report(PROGRAM, &error), |()| ExitCode::SUCCESS)
}

fn show() -> anyhow::Result<()> {
    match proxy::redirect::show()? {
        Some(rules) => print!("{rules}"),
        None => eprintln!("nothing is redirected; `{PROGRAM} redirect up` does it"),
    }
    Ok(())
}
