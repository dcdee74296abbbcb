//! The zone's own authorities: one per mesh, and one for its control plane. Their keys are made here and never leave.

use api::config::Trust;
use api::kinds::Role;
use api::{Key, MeshName, SpiffeId, TrustDomain, ZoneName};
use control::Issuer;
use control::issuer::{IssuerError, advance};
use identity::{Authority, CertificateDer, Issue, UnixTime};
use resolve::WorkloadEntry;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::watch;
use tracing::{error, info};

/// How often authorities are asked whether a step of their rotation is due.
const ADVANCE_EVERY: Duration = Duration::from_secs(300);

/// All of them. Cheap to clone.
#[derive(Clone)]
pub struct Authorities {
    shared: Arc<Shared>,
}

struct Shared {
    zone: ZoneName,
    directory: PathBuf,
    control: Issuer,
    /// Of certificates of workloads.
    lifetime: Duration,
    meshes: Mutex<BTreeMap<MeshName, Arc<Authority>>>,
    changed: watch::Sender<u64>,
}

impl Authorities {
    /// Opens the control plane's authority; those of meshes follow with [`Self::ensure`]. `lifetime` is that of
    /// certificates of workloads.
    pub fn open(data: &Path, zone: &ZoneName, lifetime: Duration) -> Result<Self, IssuerError> {
        let directory = data.join("authorities");
        let control = Issuer::open(&directory.join("control"), SpiffeId::zone_cp(zone))?;
        let (meshes, changed) = (Mutex::default(), watch::Sender::new(0));
        let shared = Shared { zone: zone.clone(), directory, control, lifetime, meshes, changed };
        Ok(Self { shared: Arc::new(shared) })
    }

    /// Certificate and trust of the control plane itself; the trust covers every authority of the zone.
    pub fn control(&self) -> &Issuer {
        &self.shared.control
    }

    /// Fires when an authority was made or rotated.
    pub fn changed(&self) -> watch::Receiver<u64> {
        self.shared.changed.subscribe()
    }

    /// Makes or opens what is missing.
    pub fn ensure(&self, meshes: impl IntoIterator<Item = MeshName>) {
        let mut held = self.meshes();
        let mut fresh = false;
        for mesh in meshes {
            if held.contains_key(&mesh) {
                continue;
            }
            let domain = TrustDomain::workloads(&self.shared.zone, &mesh);
            let directory = self.shared.directory.join(format!("mesh-{mesh}"));
            match Authority::load_or_create(&directory, domain, UnixTime::now()) {
                Ok(authority) => {
                    if let Err(error) = self.shared.control.trust().set(&authority.trust()) {
                        error!(%mesh, %error, "the mesh's own proxies cannot be verified");
                    }
                    info!(%mesh, "authority of the mesh is open");
                    held.insert(mesh, Arc::new(authority));
                    fresh = true;
                }
                Err(error) => error!(%mesh, %error, "no identities for this mesh"),
            }
        }
        drop(held);
        if fresh {
            self.shared.changed.send_modify(|count| *count += 1);
        }
    }

    /// Anchors of all of them.
    pub fn trust(&self) -> Vec<Trust> {
        let mut all = vec![self.shared.control.authority().trust()];
        all.extend(self.meshes().values().map(|authority| authority.trust()));
        all
    }

    /// Who a workload is.
    pub fn identity(&self, key: &Key, entry: &WorkloadEntry) -> SpiffeId {
        match entry.spec.role {
            Role::Sidecar | Role::EdgeGateway => entry.identity(key, &self.shared.zone),
            Role::EastWestGateway => SpiffeId::gateway(&self.shared.zone, &key.name),
        }
    }

    /// A certificate for a workload's proxy.
    pub fn issue(&self, csr: &[u8], key: &Key, entry: &WorkloadEntry) -> Result<Vec<CertificateDer<'static>>, String> {
        let id = self.identity(key, entry);
        let name = common_name(key);
        if entry.spec.role == Role::EastWestGateway {
            return self.shared.control.issue(csr, id, Some(&name)).map_err(|error| error.to_string());
        }
        let mesh = key.mesh.clone().unwrap_or_default();
        let authority = self.meshes().get(&mesh).cloned();
        let authority = authority.ok_or_else(|| format!("mesh {mesh} has no authority in this zone yet"))?;
        let now = UnixTime::now();
        let lifetime = self.shared.lifetime;
        let request = Issue { csr_der: csr, id, common_name: Some(&name), dns_names: &[], lifetime, now };
        authority.issue(request).map_err(|error| error.to_string())
    }

    /// Keeps them fresh.
    pub async fn run(self) {
        let bump = || self.shared.changed.send_modify(|count| *count += 1);
        let control = self.shared.control.clone().run(bump);
        let meshes = async {
            loop {
                tokio::time::sleep(ADVANCE_EVERY).await;
                let all: Vec<_> = self.meshes().values().cloned().collect();
                for authority in all {
                    advance(&authority, Some(self.shared.control.trust()), &bump);
                }
            }
        };
        tokio::join!(control, meshes);
    }

    fn meshes(&self) -> std::sync::MutexGuard<'_, BTreeMap<MeshName, Arc<Authority>>> {
        self.shared.meshes.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// `MESH/NAMESPACE/WORKLOAD`, as in certificates and tokens.
pub fn common_name(key: &Key) -> String {
    let mesh = key.mesh.clone().unwrap_or_default();
    let namespace = key.namespace.clone().unwrap_or_default();
    format!("{mesh}/{namespace}/{}", key.name)
}

/// The workload that a common name or token speaks of.
pub fn workload_key(zone: &ZoneName, name: &str) -> Option<Key> {
    let (mesh, rest) = name.split_once('/')?;
    let (namespace, name) = rest.split_once('/')?;
    Some(Key {
        kind: "Workload".into(),
        mesh: Some(mesh.parse().ok()?),
        zone: Some(zone.clone()),
        namespace: Some(namespace.parse().ok()?),
        name: name.parse().ok()?,
    })
}
