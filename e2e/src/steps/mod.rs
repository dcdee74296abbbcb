//! The twelve steps of the demo. Each one is a claim; it runs on a mesh at rest and leaves it at rest.

#[path = "10_convergence.rs"]
mod convergence;
#[path = "07_deny.rs"]
mod deny;
#[path = "05_eject.rs"]
mod eject;
#[path = "11_frozen.rs"]
mod frozen;
#[path = "06_gateway.rs"]
mod gateway;
#[path = "09_global_back.rs"]
mod global_back;
#[path = "01_local.rs"]
mod local;
#[path = "04_lose_all.rs"]
mod lose_all;
#[path = "12_lost_history.rs"]
mod lost_history;
#[path = "02_named_zone.rs"]
mod named_zone;
#[path = "03_split.rs"]
mod split;
#[path = "08_without_global.rs"]
mod without_global;

use crate::load::{Aim, Load, Summary};
use crate::mesh::Mesh;
use crate::row::Row;
use anyhow::Result;
use std::pin::Pin;
use std::time::Duration;

/// The service most steps call.
const CART: &str = "cart.shop.mesh";
/// Its port.
const CART_PORT: u16 = 8080;
/// Who calls.
const WEB: &str = "west/web-1";
/// Requests a second of every load.
const RATE: u32 = 200;
/// How long a load may take to end after its last request.
const END_WAIT: Duration = Duration::from_secs(20);

type Run = for<'a> fn(&'a Mesh, &'a mut Row) -> Pin<Box<dyn Future<Output = Result<()>> + Send + 'a>>;

/// One step.
pub struct Step {
    /// From 1.
    pub number: u8,
    /// The claim.
    pub name: &'static str,
    /// What shows it.
    pub run: Run,
}

macro_rules! steps {
    ($($number:literal $module:ident $name:literal,)*) => {
        /// In the order in which they run.
        pub const STEPS: &[Step] = &[$(Step {
            number: $number,
            name: $name,
            run: |mesh, row| Box::pin($module::run(mesh, row)),
        },)*];
    };
}

steps! {
    1 local "web in west calls cart: answered in west only",
    2 named_zone "web in west calls cart of east: answered there, as itself",
    3 split "a route splits 90/10 between west and east",
    4 lose_all "all cart of west killed: nobody notices, and it comes home",
    5 eject "one cart of east answers 500: it is ejected, its zone is not",
    6 gateway "a gateway of west killed under cross-zone load",
    7 deny "Authorization denies edge calling payments, and says so",
    8 without_global "global dead: everything goes on, newcomers too",
    9 global_back "global back: converged, only what changed is sent",
    10 convergence "50 changes: from PUT to the last proxy's acknowledgement",
    11 frozen "a frozen cart proxy leaves the rotation, and returns",
    12 lost_history "global lost its store: nothing is unlearned, one command restores",
}

/// Requests by the clock, to their end.
async fn fire(mesh: &Mesh, from: &str, host: &str, count: usize) -> Result<Summary> {
    let load = Load::start(mesh.caller(from)?, Aim::new(host, RATE).count(count));
    Ok(Summary::of(&load.finish(Duration::from_secs_f64(count as f64 / f64::from(RATE)) + END_WAIT).await?))
}
