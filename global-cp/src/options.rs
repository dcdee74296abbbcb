//! Command line of `weft-global-cp`.

use clap::Parser;
use process::CommonOptions;
use std::net::SocketAddr;

/// Weft's global control plane: where operators write policy; keeps every zone in step.
#[derive(Clone, Debug, Parser)]
#[command(name = "weft-global-cp", version)]
pub struct Options {
    /// Options every program has.
    #[command(flatten)]
    pub common: CommonOptions,
    /// Address of the REST API and the page.
    #[arg(long, env = "WEFT_API_LISTEN", default_value = "127.0.0.1:5680", value_name = "ADDR")]
    pub api_listen: SocketAddr,
    /// Host name, besides addresses and localhost, under which browsers open the page. May be repeated.
    #[arg(long, env = "WEFT_API_HOST", value_name = "NAME", value_delimiter = ',')]
    pub api_host: Vec<String>,
    /// Address on which zones connect.
    #[arg(long, env = "WEFT_SYNC_LISTEN", default_value = "127.0.0.1:5681", value_name = "ADDR")]
    pub sync_listen: SocketAddr,
    /// Where zones reach --sync-listen, HOST:PORT; goes into join tokens. May be repeated; the listen address otherwise.
    #[arg(long, env = "WEFT_SYNC_ADDRESS", value_name = "HOST:PORT", value_delimiter = ',')]
    pub sync_address: Vec<String>,
    /// memory, file (in the data folder), file:PATH, or etcd:URL,URL.
    #[arg(long, env = "WEFT_STORE", default_value = "file", value_name = "STORE")]
    pub store: String,
}
