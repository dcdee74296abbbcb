//! Transparent redirection by nftables: the app knows nothing of the mesh.
//!
//! One table of our own, replaced as a whole and so atomically, and removed as a whole:
//! - what the app connects to goes to the proxy's outbound listener, but for the proxy's own traffic (by user), loopback and
//!   excluded ranges and ports;
//! - what reaches the host from outside on any port goes to the proxy's inbound listener, but for excluded ports;
//! - DNS questions of the app go to the proxy's resolver.
//!
//! The proxy finds the original destination by `SO_ORIGINAL_DST`.

mod nft;
mod rules;

pub use nft::{RedirectError, down, show, up};
pub use rules::{Plan, script};

/// Name of our table, in family `inet`.
pub const TABLE: &str = "weft";
