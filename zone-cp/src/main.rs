//! `weft-zone-cp`.

use clap::Parser;
use std::process::ExitCode;

fn main() -> ExitCode {
    // Refused only if another provider was installed before, and nothing ran before.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let options = zone_cp::Options::parse();
    process::main(zone_cp::PROGRAM, options.common.clone(), process::Runtime::Control, |process| async move {
        let drain = process.drain.clone();
        let running = tokio::select! {
            running = zone_cp::start(process, options) => running?,
            // Joining may wait for global for as long as it takes.
            () = drain.begun() => return Ok(()),
        };
        drain.begun().await;
        running.stop().await;
        Ok(())
    })
}
