//! SIGTERM: a proxy finishes what it has while others take over.

use super::{Loads, PROCESS_WAIT, Town, all_good};
use crate::row::Row;
use crate::scenarios::scene::until;
use anyhow::Result;
use cli::dev::process::{Alive, alive, signal};
use nix::sys::signal::Signal;
use std::time::{Duration, Instant};

pub const FACT: &str = "steady: draining a sidecar and a gateway under load fails no request";
/// Load goes on for so long after a drain began.
const UNDER_WAY: Duration = Duration::from_secs(4);

pub async fn look(town: &Town<'_>, row: &mut Row) -> Result<()> {
    for (name, host) in [("west/cart-2/proxy", "cart.shop.mesh"), ("east/gateway-2", "cart.shop.east.mesh")] {
        let loads = Loads::start(town.mesh, host).await?;
        loads.laps();
        let process = town.mesh.process(name)?;
        let begun = Instant::now();
        signal(&process, Signal::SIGTERM).map_err(|failure| anyhow::anyhow!(failure.text()))?;
        tokio::time::sleep(UNDER_WAY).await;
        loads.flows().await?;
        let laps = loads.stop().await;
        until(format!("{name} has ended"), PROCESS_WAIT, async || Ok(alive(&process) == Alive::Dead)).await?;
        row.saw(format!("{name}: ended {:.1} s after SIGTERM", begun.elapsed().as_secs_f64()));
        all_good(row, name, &laps);
        town.mesh.start(name).await?;
        town.mesh.at_rest().await?;
    }
    Ok(())
}
