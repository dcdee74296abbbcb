//! What `weft-dataplane` is told on its command line.

use clap::{Args, Parser, Subcommand, ValueEnum};
use process::CommonOptions;
use proxy::overload::MemorySize;
use proxy::redirect::Plan;
use proxy::vips::Cidr;
use proxy::{Config, Mode, Role, Sidecar};
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;

/// A sidecar needs more than one core seldom, and what one worker learns of endpoints it learns for itself.
const WORKERS: usize = 1;

/// Where redirected questions go, unless --dns-listen says otherwise.
const DNS_PORT: u16 = 15_053;
/// Virtual addresses in redirect mode: reserved for nobody's network (RFC 1112 section 4, class E), so no host has them.
const REDIRECT_VIPS: &str = "240.64.0.0/16";

/// The proxy next to a workload: takes the app's calls to the mesh, and the mesh's calls to the app.
#[derive(Debug, Parser)]
#[command(name = "weft-dataplane", version)]
pub struct Options {
    #[command(flatten)]
    pub common: CommonOptions,
    #[command(flatten)]
    pub run: Run,
    #[command(subcommand)]
    pub command: Option<Command>,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Serve; the default.
    Run,
    /// Redirect the app's traffic through this proxy (nftables; needs CAP_NET_ADMIN).
    Redirect {
        /// What to do with the rules.
        #[command(subcommand)]
        command: RedirectCommand,
    },
}

/// What to do with the rules.
#[derive(Clone, Debug, Subcommand)]
pub enum RedirectCommand {
    /// Put them in place, in one step.
    Up(Up),
    /// Take them away.
    Down,
    /// Print them.
    Show,
}

/// What to redirect, and what not. Ports of the proxy are those of its own options.
#[derive(Args, Clone, Debug)]
pub struct Up {
    /// User that the proxy runs as: its own traffic is left alone. A name or a number.
    #[arg(long, value_name = "USER")]
    pub proxy_user: String,
    /// Leave traffic of these users alone too.
    #[arg(long, value_name = "USER", value_delimiter = ',')]
    pub exclude_users: Vec<String>,
    /// Leave calls to these ports alone.
    #[arg(long, value_name = "PORT", value_delimiter = ',')]
    pub exclude_outbound_ports: Vec<u16>,
    /// Leave calls to these ranges alone, such as 192.0.2.0/24.
    #[arg(long, value_name = "CIDR", value_delimiter = ',')]
    pub exclude_outbound_ranges: Vec<String>,
    /// Let these ports be reached as they are.
    #[arg(long, value_name = "PORT", value_delimiter = ',', default_value = "22")]
    pub exclude_inbound_ports: Vec<u16>,
    /// Leave names to the resolvers the host uses.
    #[arg(long)]
    pub no_dns: bool,
}

impl Up {
    /// As the rules take it.
    pub fn plan(self, run: &Run) -> anyhow::Result<Plan> {
        let Self { proxy_user, exclude_users, exclude_outbound_ports, .. } = self;
        Ok(Plan {
            proxy_uid: uid(&proxy_user)?,
            exclude_uids: exclude_users.iter().map(|user| uid(user)).collect::<anyhow::Result<_>>()?,
            outbound_port: run.outbound_listen.port(),
            inbound_port: run.inbound_redirect_listen.port(),
            proxy_port: run.inbound_listen.port(),
            dns_port: (!self.no_dns).then(|| run.dns_listen.map_or(DNS_PORT, |address| address.port())),
            exclude_outbound_ports,
            exclude_outbound_ranges: self.exclude_outbound_ranges,
            exclude_inbound_ports: self.exclude_inbound_ports,
        })
    }
}

fn uid(user: &str) -> anyhow::Result<u32> {
    if let Ok(number) = user.parse() {
        return Ok(number);
    }
    let found = nix::unistd::User::from_name(user)?;
    let found =
        found.ok_or_else(|| anyhow::anyhow!("no user `{user}` on this host; create it with useradd --system"))?;
    Ok(found.uid.as_raw())
}

/// How connections of the app arrive.
#[derive(Clone, Copy, Debug, Eq, PartialEq, ValueEnum)]
pub enum ModeName {
    /// The app calls names, virtual addresses or the proxy itself.
    Explicit,
    /// The kernel redirects.
    Redirect,
}

/// Options of serving.
#[derive(Clone, Debug, Args)]
pub struct Run {
    /// Token for the first start; not read once a certificate is there.
    #[arg(long, env = "WEFT_TOKEN_FILE", value_name = "FILE")]
    pub token_file: Option<PathBuf>,
    /// Mutual TLS, from other proxies.
    #[arg(long, default_value = "0.0.0.0:15008", value_name = "ADDR")]
    pub inbound_listen: SocketAddr,
    /// From the app: HTTP by Host, or redirected connections.
    #[arg(long, default_value = "127.0.0.1:15001", value_name = "ADDR")]
    pub outbound_listen: SocketAddr,
    /// Redirected connections to the app.
    #[arg(long, default_value = "0.0.0.0:15006", value_name = "ADDR")]
    pub inbound_redirect_listen: SocketAddr,
    /// DNS for names of the mesh. Not served unless given.
    #[arg(long, value_name = "ADDR")]
    pub dns_listen: Option<SocketAddr>,
    /// Addresses for services, such as 127.64.0.0/16; in explicit mode each service port is listened on there.
    #[arg(long, value_name = "CIDR")]
    pub vips: Option<Cidr>,
    /// Where the app listens.
    #[arg(long, default_value = "127.0.0.1", value_name = "IP")]
    pub app_address: IpAddr,
    /// How connections of the app arrive.
    #[arg(long, value_enum, default_value = "explicit")]
    pub mode: ModeName,
    /// Threads that carry traffic.
    #[arg(long, default_value_t = WORKERS, value_name = "N")]
    pub workers: usize,
    /// Memory this process may use, such as 256M. From 85 % of it on connections are let go, then refused, then requests.
    /// Without it: what its control group may use, if that is bounded.
    #[arg(long, env = "WEFT_MEMORY_MAX", value_name = "SIZE")]
    pub memory_max: Option<MemorySize>,
    /// Take over from the process that serves with this data folder: its sockets, its identity and its place at the
    /// control plane; it then finishes what it has and ends. With nobody to take over from, start as usual.
    #[arg(long, env = "WEFT_TAKE_OVER")]
    pub take_over: bool,
    /// Do not tell in answers which zone and workload gave them.
    #[arg(long)]
    pub no_answer_headers: bool,
}

impl Run {
    /// As the proxy takes it.
    pub fn config(&self) -> anyhow::Result<Config> {
        anyhow::ensure!(self.workers > 0, "--workers must be at least 1");
        let mode = match self.mode {
            ModeName::Explicit => Mode::Explicit,
            ModeName::Redirect => Mode::Redirect,
        };
        // Redirection needs addresses and names even if nobody asked for them.
        let redirected = mode == Mode::Redirect;
        let vips = self.vips.or_else(|| redirected.then(|| REDIRECT_VIPS.parse().expect("a constant range")));
        let own_dns = || SocketAddr::from(([127, 0, 0, 1], DNS_PORT));
        let sidecar = Sidecar {
            inbound: self.inbound_listen,
            outbound: self.outbound_listen,
            inbound_redirected: (mode == Mode::Redirect).then_some(self.inbound_redirect_listen),
            dns: self.dns_listen.or_else(|| redirected.then(own_dns)),
            vips,
            app: self.app_address,
            mode,
        };
        Ok(Config {
            role: Role::Sidecar(sidecar),
            workers: self.workers,
            answer_headers: !self.no_answer_headers,
            memory_max: self.memory_max,
            take_over: self.take_over,
            token_file: self.token_file.clone(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
        })
    }
}
