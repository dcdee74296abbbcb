//! The commands, one file each; here is only which one runs.

mod apply;
mod confirm;
mod delete;
mod describe;
mod diff;
mod get;
mod global;
pub mod kinds;
mod proxy;
mod status;
mod workload;
mod zone;

use crate::args::{Cli, Command, PlaceArgs};
use crate::client::Client;
use crate::exit::{Exit, Failure};
use crate::{context, dev};
use clap::CommandFactory;

/// Runs one command.
pub async fn run(cli: Cli) -> Result<Exit, Failure> {
    let Cli { global, command } = cli;
    let client = || context::client(&global);
    match command {
        Command::Apply { files, dry_run, wait, yes } => apply::run(&client()?, &files.files, dry_run, wait, yes).await,
        Command::Get { kind, name, place, selector, watch, output } => {
            get::run(&client()?, get::Ask { kind: kinds::find(&kind)?, name, place, selector, watch, output }).await
        }
        Command::Describe { kind, name, place } => describe::run(&client()?, kinds::find(&kind)?, &name, &place).await,
        Command::Delete { kind, names, place, files, yes } => {
            let kind = kind.as_deref().map(kinds::find).transpose()?;
            delete::run(&client()?, kind, &names, &place, &files, yes).await
        }
        Command::Diff { files } => diff::run(&client()?, &files.files).await,
        Command::Zone(command) => zone::run(&client()?, command).await,
        Command::Workload(command) => workload::run(&client()?, command).await,
        Command::Status { output } => status::run(&client()?, output).await,
        Command::Proxy(command) => proxy::run(&client()?, command).await,
        Command::Global(command) => global::run(&client()?, command).await,
        Command::Dev { state, command } => dev::run(state, command).await,
        Command::Context(command) => context::run(command),
        Command::Completion { shell } => {
            clap_complete::generate(shell, &mut Cli::command(), "weft", &mut std::io::stdout());
            Ok(Exit::Done)
        }
    }
}

/// Refuses, with the reason, when a control plane that only zones can answer was asked at global.
async fn of_zone(client: &Client) -> Result<(), Failure> {
    let meta = client.get("/meta").await?;
    if meta["role"] == "global" {
        return Err(Failure::usage(format!("{} is the global control plane, and this is asked of a zone", client.server()))
            .hint("give --server and --token-file of the zone's control plane; with `weft dev`: eval \"$(weft dev env --zone ZONE)\""));
    }
    Ok(())
}

/// Refuses, with the reason, when a zone was asked for what only global answers.
async fn of_global(client: &Client) -> Result<(), Failure> {
    let meta = client.get("/meta").await?;
    if let Some(zone) = meta["zone"].as_str() {
        let server = client.server();
        return Err(Failure::usage(format!(
            "{server} is the control plane of zone {zone}, and this is asked of global"
        ))
        .hint(
            "give --server and --token-file of the global control plane; with `weft dev`: eval \"$(weft dev env)\"",
        ));
    }
    Ok(())
}

impl PlaceArgs {
    /// Mesh of one object.
    fn mesh(&self) -> &str {
        self.mesh.as_deref().unwrap_or("default")
    }

    /// Namespace of one object.
    fn namespace(&self) -> &str {
        self.namespace.as_deref().unwrap_or("default")
    }

    /// Path of one resource below `/api/v1`.
    fn path(&self, kind: &policy::Kind, name: &str) -> String {
        use crate::client::escape;
        match kind.scope {
            api::object::Scope::Global => format!("/resources/{}/{}", kind.plural, escape(name)),
            api::object::Scope::Namespaced => {
                let (mesh, namespace) = (escape(self.mesh()), escape(self.namespace()));
                let zone = self.zone.as_ref().map(|zone| format!("?zone={}", escape(zone))).unwrap_or_default();
                format!("/resources/{}/{mesh}/{namespace}/{}{zone}", kind.plural, escape(name))
            }
        }
    }
}
