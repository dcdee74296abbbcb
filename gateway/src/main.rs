//! Entry of `weft-gateway`.

use clap::Parser;
use std::process::ExitCode;

fn main() -> ExitCode {
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    gateway::main(gateway::Options::parse())
}
