//! The command line: every command, flag and value in one place.

use crate::dev::{DevCommand, StateArgs};
use crate::output::Format;
use clap::builder::PossibleValuesParser;
use clap::{Args, Parser, Subcommand};
use clap_complete::Shell;
use std::net::IpAddr;
use std::path::PathBuf;

/// Operate a federated service mesh
#[derive(Clone, Debug, Parser)]
#[command(name = "weft", version, about, after_help = AFTER_HELP, max_term_width = 110)]
pub struct Cli {
    /// Which control plane to ask, and how
    #[command(flatten)]
    pub global: GlobalArgs,
    /// What to do
    #[command(subcommand)]
    pub command: Command,
}

const AFTER_HELP: &str = "\
Exit codes: 0 done, 1 the answer is no, 2 wrong usage, 3 server not reached,
4 not allowed, 5 not found, 6 conflict, 7 partial, 70 a bug of ours, 130 interrupted.";

/// Flags of every command.
#[derive(Clone, Debug, Default, Args)]
pub struct GlobalArgs {
    /// Control plane to ask, such as http://127.0.0.1:5680
    #[arg(long, global = true, env = "WEFT_SERVER", value_name = "URL")]
    pub server: Option<String>,
    /// File that holds the token of its API
    #[arg(long, global = true, env = "WEFT_TOKEN_FILE", value_name = "FILE")]
    pub token_file: Option<PathBuf>,
    /// Use this entry of the contexts file
    #[arg(long, global = true, env = "WEFT_CONTEXT", value_name = "NAME")]
    pub context: Option<String>,
    /// How long the server may take
    #[arg(long, global = true, default_value = "10s", value_name = "SPAN")]
    pub timeout: Option<api::Span>,
}

/// Where an object lives.
#[derive(Clone, Debug, Default, Args)]
pub struct PlaceArgs {
    /// Mesh [default: default]
    #[arg(long, value_name = "MESH")]
    pub mesh: Option<String>,
    /// Namespace [default: default for one object, all for a list]
    #[arg(short, long, value_name = "NS")]
    pub namespace: Option<String>,
    /// Only what this zone wrote
    #[arg(long, value_name = "ZONE")]
    pub zone: Option<String>,
}

/// Files with documents.
#[derive(Clone, Debug, Args)]
pub struct FileArgs {
    /// YAML file, folder of YAML files, or `-` for standard input
    #[arg(short, long = "file", value_name = "FILE|DIR|-", required = true)]
    pub files: Vec<PathBuf>,
}

/// What to do.
#[derive(Clone, Debug, Subcommand)]
pub enum Command {
    /// Write documents
    Apply {
        /// Which
        #[command(flatten)]
        files: FileArgs,
        /// Let the server check them and write nothing
        #[arg(long)]
        dry_run: bool,
        /// Answer when every proxy concerned has acknowledged, or after this long
        #[arg(long, value_name = "SPAN", num_args = 0..=1, default_missing_value = "5s")]
        wait: Option<api::Span>,
        /// Do not ask
        #[arg(short, long)]
        yes: bool,
    },
    /// Show documents
    Get {
        /// Kind, plural or short name
        #[arg(value_parser = kinds())]
        kind: String,
        /// One of them
        name: Option<String>,
        /// Where
        #[command(flatten)]
        place: PlaceArgs,
        /// Labels, such as app=web,tier!=test
        #[arg(short = 'l', long, value_name = "SELECTOR")]
        selector: Option<String>,
        /// Go on showing changes
        #[arg(short, long)]
        watch: bool,
        /// How to print
        #[arg(short, long, default_value = "table")]
        output: Format,
    },
    /// Show one document with its status in words
    Describe {
        /// Kind, plural or short name
        #[arg(value_parser = kinds())]
        kind: String,
        /// Which
        name: String,
        /// Where
        #[command(flatten)]
        place: PlaceArgs,
    },
    /// Remove documents
    Delete {
        /// Kind, plural or short name
        #[arg(value_parser = kinds(), required_unless_present = "files", conflicts_with = "files")]
        kind: Option<String>,
        /// Which
        #[arg(required_unless_present = "files", conflicts_with = "files")]
        names: Vec<String>,
        /// Where
        #[command(flatten)]
        place: PlaceArgs,
        /// Remove what these files hold
        #[arg(short, long = "file", value_name = "FILE|DIR|-")]
        files: Vec<PathBuf>,
        /// Do not ask
        #[arg(short, long)]
        yes: bool,
    },
    /// Compare files with what is stored; exits with 1 when they differ
    Diff {
        /// Which
        #[command(flatten)]
        files: FileArgs,
    },
    /// Zones: register, list, drain
    #[command(subcommand)]
    Zone(ZoneCommand),
    /// Workloads of a zone: register, tokens
    #[command(subcommand)]
    Workload(WorkloadCommand),
    /// The whole mesh on one screen
    Status {
        /// How to print
        #[arg(short, long, default_value = "table")]
        output: Format,
    },
    /// Proxies of a zone and what they run
    #[command(subcommand)]
    Proxy(ProxyCommand),
    /// The global control plane itself
    #[command(subcommand)]
    Global(GlobalCommand),
    /// Meshes of real processes on this machine
    Dev {
        /// Which one
        #[command(flatten)]
        state: StateArgs,
        /// What to do
        #[command(subcommand)]
        command: DevCommand,
    },
    /// Servers and tokens to switch between
    #[command(subcommand)]
    Context(ContextCommand),
    /// Print a completion script
    Completion {
        /// For this shell
        shell: Shell,
    },
}

/// `weft zone`
#[derive(Clone, Debug, Subcommand)]
pub enum ZoneCommand {
    /// Register a zone and print the token it joins with
    Create {
        /// Its name
        name: api::ZoneName,
        /// Its region
        #[arg(long)]
        region: Option<String>,
    },
    /// Show zones
    List {
        /// How to print
        #[arg(short, long, default_value = "table")]
        output: Format,
    },
    /// Send no new traffic of other zones there
    Drain {
        /// Which
        name: api::ZoneName,
        /// Do not ask
        #[arg(short, long)]
        yes: bool,
    },
    /// Send traffic there again
    Undrain {
        /// Which
        name: api::ZoneName,
    },
    /// Print another join token
    Token {
        /// Which
        name: api::ZoneName,
    },
    /// In a zone: accept the history of a global control plane that lost the one this zone holds
    Adopt {
        /// Do not ask
        #[arg(short, long)]
        yes: bool,
    },
}

/// `weft workload`
#[derive(Clone, Debug, Subcommand)]
pub enum WorkloadCommand {
    /// Register a workload at its zone and print the token its proxy joins with
    Register {
        /// Its name
        name: api::Name,
        /// Where other proxies of the zone reach its proxy
        #[arg(long)]
        address: IpAddr,
        /// The service it is an endpoint of
        #[arg(long)]
        service: Option<api::Name>,
        /// The account it runs as
        #[arg(long)]
        account: Option<api::Account>,
        /// Port of the app, such as 8080 or 9000:tcp; may be given several times
        #[arg(long = "port", value_name = "PORT[:PROTOCOL]")]
        ports: Vec<String>,
        /// Port of its proxy's inbound listener
        #[arg(long, default_value_t = api::kinds::PROXY_PORT_DEFAULT)]
        proxy_port: u16,
        /// Label, such as app=web; may be given several times
        #[arg(short, long = "label", value_name = "KEY=VALUE")]
        labels: Vec<String>,
        /// It is an east-west gateway of the zone
        #[arg(long, conflicts_with_all = ["service", "ports"])]
        gateway: bool,
        /// It is an edge gateway: it opens the listeners of Gateways
        #[arg(long, conflicts_with_all = ["service", "ports", "gateway"])]
        edge: bool,
        /// Where
        #[command(flatten)]
        place: PlaceArgs,
    },
    /// Print another token for a workload's proxy
    Token {
        /// Its name
        name: api::Name,
        /// Where
        #[command(flatten)]
        place: PlaceArgs,
    },
}

/// `weft proxy`
#[derive(Clone, Debug, Subcommand)]
pub enum ProxyCommand {
    /// Show proxies of a zone
    List {
        /// Only those that do not run the latest configuration
        #[arg(long)]
        behind: bool,
        /// Only those that refused something
        #[arg(long)]
        rejected: bool,
        /// How to print
        #[arg(short, long, default_value = "table")]
        output: Format,
    },
    /// Show what a proxy runs, and where each value comes from
    Config {
        /// Name of its workload
        name: String,
        /// Where
        #[command(flatten)]
        place: PlaceArgs,
        /// Only items whose key begins so, such as outbound/
        #[arg(long, default_value = "")]
        item: String,
        /// How to print
        #[arg(short, long, default_value = "yaml")]
        output: Format,
    },
}

/// `weft global`
#[derive(Clone, Debug, Subcommand)]
pub enum GlobalCommand {
    /// Fill an empty global control plane from the copy that a zone keeps
    Restore {
        /// The zone's control plane
        #[arg(long, value_name = "URL")]
        from_zone: String,
        /// File that holds the token of the zone's API
        #[arg(long, value_name = "FILE")]
        zone_token_file: Option<PathBuf>,
        /// Do not ask
        #[arg(short, long)]
        yes: bool,
    },
}

/// `weft context`
#[derive(Clone, Debug, Subcommand)]
pub enum ContextCommand {
    /// Show them
    List,
    /// Use one from now on
    Use {
        /// Which
        name: String,
    },
    /// Add or replace one
    Add {
        /// Its name
        name: String,
        /// Its control plane (as --server)
        url: String,
        /// File that holds its token (as --token-file)
        token: Option<PathBuf>,
    },
}

/// Names by which kinds are known on the command line.
fn kinds() -> PossibleValuesParser {
    crate::command::kinds::names().into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_tree_of_commands_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn wrong_usage_is_told_before_anything_is_asked() {
        for line in [
            "weft get",
            "weft get timeoutz",
            "weft apply",
            "weft zone create West",
            "weft workload register a",
            "weft workload register a --address here",
            "weft workload register a --address 127.0.0.1 --gateway --port 1",
            "weft delete",
            "weft apply -f x --wait soon",
            "weft get mesh -o xml",
            "weft dev kill",
            "weft completion tcsh",
            "weft get mesh --timeout 5",
        ] {
            let wrong = Cli::try_parse_from(line.split(' ')).unwrap_err();
            assert_eq!(wrong.exit_code(), 2, "{line}");
        }
    }

    #[test]
    fn kinds_have_plurals_and_short_names() {
        for word in ["timeout", "timeouts", "Timeout", "httproute", "svc", "authz", "wl"] {
            assert!(Cli::try_parse_from(["weft", "get", word]).is_ok(), "{word}");
        }
    }
}
