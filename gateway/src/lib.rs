//! `weft-gateway`: the proxy at a zone's edge. Options, and handing over to the `proxy` crate.

use clap::Parser;
use process::{CommonOptions, Process, Runtime};
use proxy::overload::MemorySize;
use proxy::{Config, Gateway, Role};
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::process::ExitCode;

/// Name of the program.
pub const PROGRAM: &str = "weft-gateway";

/// A gateway of a zone; which one, its registration says. Between zones: reads whom a connection is for, and passes its
/// bytes on unread. At the edge: opens the listeners of Gateways, and brings requests from outside to services.
#[derive(Debug, Parser)]
#[command(name = PROGRAM, version)]
pub struct Options {
    #[command(flatten)]
    pub common: CommonOptions,
    /// Token for the first start; not read once a certificate is there.
    #[arg(long, env = "WEFT_TOKEN_FILE", value_name = "FILE")]
    pub token_file: Option<PathBuf>,
    /// From other zones (registered with --gateway), or from sidecars on the way out (registered with --edge).
    #[arg(long, default_value = "0.0.0.0:15443", value_name = "ADDR")]
    pub listen: SocketAddr,
    /// Address on which ports of Gateways are opened (registered with --edge).
    #[arg(long, default_value = "0.0.0.0", value_name = "IP")]
    pub ingress_address: IpAddr,
    /// Certificates that Gateways name: NAMESPACE/NAME/tls.crt and tls.key below this folder.
    #[arg(long, default_value = "/etc/weft/certificates", value_name = "FOLDER")]
    pub certificates: PathBuf,
    /// Memory this process may use, such as 256M. From 85 % of it on connections are let go, then refused.
    /// Without it: what its control group may use, if that is bounded.
    #[arg(long, env = "WEFT_MEMORY_MAX", value_name = "SIZE")]
    pub memory_max: Option<MemorySize>,
    /// Take over from the process that serves with this data folder: its sockets, its identity and its place at the
    /// control plane; it then finishes what it has and ends. With nobody to take over from, start as usual.
    #[arg(long, env = "WEFT_TAKE_OVER")]
    pub take_over: bool,
    /// Threads that carry traffic. All cores unless given.
    #[arg(long, value_name = "N")]
    pub workers: Option<usize>,
}

/// Runs the program to its end.
pub fn main(options: Options) -> ExitCode {
    let Options { common, token_file, listen, ingress_address, certificates, memory_max, take_over, workers } = options;
    let cores = || std::thread::available_parallelism().map_or(1, usize::from);
    let config = Config {
        role: Role::Gateway(Gateway { listen, ingress: ingress_address, certificates }),
        workers: workers.filter(|workers| *workers > 0).unwrap_or_else(cores),
        answer_headers: false,
        memory_max,
        take_over,
        token_file,
        version: env!("CARGO_PKG_VERSION").to_owned(),
    };
    process::main(PROGRAM, common, Runtime::Current, move |process| serve(config, process))
}

async fn serve(config: Config, process: Process) -> anyhow::Result<()> {
    proxy::runtime::run(config, process).await.map_err(anyhow::Error::from)
}
