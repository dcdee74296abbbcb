//! What a mesh is to consist of.

use crate::mesh::Mesh;

/// Begins the plan of a mesh.
pub fn mesh() -> Plan {
    Plan::default()
}

/// A mesh in the making.
#[derive(Clone, Debug, Default)]
pub struct Plan {
    pub(crate) zones: Vec<ZonePlan>,
}

/// A zone in the making.
#[derive(Clone, Debug, Default)]
pub struct ZonePlan {
    pub(crate) name: String,
    pub(crate) gateways: usize,
    pub(crate) edges: usize,
    pub(crate) apps: Vec<(String, usize)>,
    pub(crate) fronted: Vec<String>,
}

impl Plan {
    /// Adds a zone.
    #[must_use]
    pub fn zone(mut self, name: &str, plan: impl FnOnce(ZonePlan) -> ZonePlan) -> Self {
        self.zones.push(plan(ZonePlan { name: name.into(), ..ZonePlan::default() }));
        self
    }

    /// Starts everything and waits until it has converged.
    pub async fn start(self) -> Mesh {
        Mesh::start(self).await
    }
}

impl ZonePlan {
    /// Adds gateways.
    #[must_use]
    pub fn gateways(mut self, count: usize) -> Self {
        self.gateways += count;
        self
    }

    /// Adds edge gateways, `west/edge-1` and so on. What calls from them comes from outside, at [`Mesh::port`].
    #[must_use]
    pub fn edges(mut self, count: usize) -> Self {
        self.edges += count;
        self
    }

    /// Adds replicas of an app, each with its proxy. Their service is `APP.shop.mesh`.
    #[must_use]
    pub fn app(mut self, name: &str, replicas: usize) -> Self {
        self.apps.push((name.into(), replicas));
        self
    }

    /// Puts something before a workload's proxy that can keep it from answering.
    #[must_use]
    pub fn freezable(mut self, workload: &str) -> Self {
        self.fronted.push(workload.into());
        self
    }
}
