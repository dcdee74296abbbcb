//! A mesh within the test's process: control planes, proxies and gateways as the programs run them, each on a runtime of
//! its own that ends as abruptly as a killed process; apps that answer who they are, and loads that watch every answer.
//!
//! ```no_run
//! # async fn scenario() {
//! let zones = testkit::mesh().zone("west", |zone| zone.gateways(2).app("web", 1).app("cart", 2));
//! let mut mesh = zones.zone("east", |zone| zone.gateways(1).app("cart", 2)).start().await;
//! let answer = mesh.from("west/web-1").get("cart.shop.mesh", "/").await;
//! assert_eq!(answer.zone, "west");
//! mesh.lose("west/cart-*").await;
//! assert_eq!(mesh.from("west/web-1").get("cart.shop.mesh", "/").await.zone, "east");
//! # }
//! ```
//!
//! Parts are named as `weft dev` names them: `global`, `west/cp`, `west/gateway-1`, `west/cart-1`. What a scenario needs
//! and cannot have is a panic that says so.

mod app;
mod caller;
mod control;
mod front;
mod load;
mod mesh;
mod plan;
mod ports;
mod program;
mod proxies;
mod wait;

pub use app::App;
pub use caller::{Answer, Caller};
pub use control::{Api, Reply};
pub use load::{Load, Seen, Shot};
pub use mesh::Mesh;
pub use plan::{Plan, ZonePlan, mesh};
pub use wait::{SOON, until};
