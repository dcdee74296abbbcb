//! From a snapshot of documents to what each proxy runs, and where every value came from.
//!
//! Pure: the same snapshot gives the same bytes, whatever the order of its documents. So `explain` is the second half
//! of the answer, `plan` is two calls and a comparison, and a test is a YAML file. Replicas of one workload share one
//! [`ClassKey`] and with it one answer; what changes often, endpoints and trust, is [`shared`] by all classes of a mesh
//! and never makes a class resolve again.

mod class;
mod egress;
mod exports;
mod index;
mod listeners;
mod merge;
mod plan;
mod program;
mod reach;
mod route;
mod service;
mod shared;
mod snapshot;

pub use class::{ClassKey, ClassPort, class_of, classes};
pub use exports::exports;
pub use index::{OPERATOR_NAMESPACE, Policies, Writer};
pub use merge::Origin;
pub use plan::{Change, ClassChange, ItemChange, Plan, plan};
pub use program::{Resolved, resolve};
pub use reach::{dangling, reach};
pub use service::ServiceInfo;
pub use shared::{gateway, shared};
pub use snapshot::{PeerZone, Snapshot, WorkloadEntry};

#[cfg(test)]
mod tests;
