//! `weft-scenarios [--long] [FILTER]`: scenarios on real processes, as root. A filter names a story, or a part of a fact's
//! name. `--long`: as long as the promises say, where a suite has less time.

use e2e::scenarios::{self, Tally, plain};
use std::io::Write;
use std::process::ExitCode;
use tokio::signal::unix::{SignalKind, signal};

fn main() -> ExitCode {
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let args: Vec<String> = std::env::args().skip(1).collect();
    // One thread: processes are tied to the thread that started them, and so is the namespace a story moves into.
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("error: no runtime: {error}");
            return ExitCode::FAILURE;
        }
    };
    runtime.block_on(async {
        match args.iter().map(String::as_str).collect::<Vec<_>>()[..] {
            ["plain", ref rest @ ..] => plain::run(rest).await,
            [] => tell(None, false).await,
            ["--long"] => tell(None, true).await,
            ["--long", filter] => tell(Some(filter), true).await,
            [filter] if !filter.starts_with('-') => tell(Some(filter), false).await,
            _ => {
                eprintln!("usage: weft-scenarios [--long] [STORY | STORY/PART | PART]");
                ExitCode::from(2)
            }
        }
    })
}

/// An interrupted run ends what it started: dropping a story does that.
async fn tell(filter: Option<&str>, long: bool) -> ExitCode {
    if !nix::unistd::geteuid().is_root() {
        eprintln!("error: network namespaces need root\n  hint: sudo cargo xtask test netns");
        return ExitCode::from(2);
    }
    let mut terminated = signal(SignalKind::terminate()).expect("a runtime with signals");
    let told = tokio::select! {
        tally = scenarios::run(filter, long) => Some(tally),
        _ = tokio::signal::ctrl_c() => None,
        _ = terminated.recv() => None,
    };
    let Some(Tally { passed, failed }) = told else {
        eprintln!("interrupted; everything was ended");
        return ExitCode::from(130);
    };
    println!("\n{passed} passed, {failed} failed");
    let _ = std::io::stdout().flush();
    if failed == 0 && passed > 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
