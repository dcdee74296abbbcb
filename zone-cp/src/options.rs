//! Command line of `weft-zone-cp`.

use api::Span;
use clap::Parser;
use process::CommonOptions;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

/// Weft's zone control plane: knows its zone, programs its proxies and gateways, and goes on without global.
#[derive(Clone, Debug, Parser)]
#[command(name = "weft-zone-cp", version)]
pub struct Options {
    /// Options every program has.
    #[command(flatten)]
    pub common: CommonOptions,
    /// File with the join token that `weft zone create` printed. Read at first start only.
    #[arg(long, env = "WEFT_TOKEN_FILE", value_name = "FILE")]
    pub token_file: Option<PathBuf>,
    /// Address of the REST API and the page.
    #[arg(long, env = "WEFT_API_LISTEN", default_value = "127.0.0.1:5690", value_name = "ADDR")]
    pub api_listen: SocketAddr,
    /// Host name, besides addresses and localhost, under which browsers open the page. May be repeated.
    #[arg(long, env = "WEFT_API_HOST", value_name = "NAME", value_delimiter = ',')]
    pub api_host: Vec<String>,
    /// Address on which proxies and gateways of the zone connect.
    #[arg(long, env = "WEFT_SYNC_LISTEN", default_value = "127.0.0.1:5691", value_name = "ADDR")]
    pub sync_listen: SocketAddr,
    /// Where proxies reach --sync-listen, HOST:PORT; goes into workload tokens. May be repeated.
    #[arg(long, env = "WEFT_SYNC_ADDRESS", value_name = "HOST:PORT", value_delimiter = ',')]
    pub sync_address: Vec<String>,
    /// Address on which the zone's gateways hand over connections of peer zones.
    #[arg(long, env = "WEFT_PEER_LISTEN", default_value = "127.0.0.1:5692", value_name = "ADDR")]
    pub peer_listen: SocketAddr,
    /// Where the zone's gateways reach --peer-listen, IP:PORT; the listen address otherwise.
    #[arg(long, env = "WEFT_PEER_ADDRESS", value_name = "ADDR")]
    pub peer_address: Option<SocketAddr>,
    /// Region of the zone, for workloads that do not say theirs.
    #[arg(long, env = "WEFT_REGION", value_name = "NAME")]
    pub region: Option<String>,
    /// Lifetime of certificates of workloads, from 1m to 24h. Proxies renew from half of it on, at most once a second.
    #[arg(long, env = "WEFT_CERTIFICATE_LIFETIME", default_value = "24h", value_name = "SPAN")]
    pub certificate_lifetime: Span,
}

/// Shorter certificates would end while a renewal that failed once waits to be tried again.
const CERTIFICATE_LIFETIME_MIN: Duration = Duration::from_secs(60);

impl Options {
    /// Lifetime of certificates of workloads, if it is within bounds.
    pub fn certificate_lifetime(&self) -> anyhow::Result<Duration> {
        let lifetime = Duration::from(self.certificate_lifetime);
        let fits = (CERTIFICATE_LIFETIME_MIN..=identity::LEAF_LIFETIME).contains(&lifetime);
        anyhow::ensure!(fits, "--certificate-lifetime {}: give 1m to 24h", self.certificate_lifetime);
        Ok(lifetime)
    }
}
