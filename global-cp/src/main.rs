//! `weft-global-cp`.

use clap::Parser;
use std::process::ExitCode;

fn main() -> ExitCode {
    // Refused only if another provider was installed before, and nothing ran before.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let options = global_cp::Options::parse();
    process::main(global_cp::PROGRAM, options.common.clone(), process::Runtime::Control, |process| async move {
        let drain = process.drain.clone();
        let running = global_cp::start(process, options).await?;
        drain.begun().await;
        running.stop().await;
        Ok(())
    })
}
