//! What the zone tells global of itself: its health, how far each document got, and the objects it owns.

use crate::join::Membership;
use crate::program::Installed;
use crate::registry::{Proxy, Registry};
use crate::world::World;
use api::Key;
use api::kinds::{Gateway, Role, Spec};
use api::report::{PolicyReport, ProxyReport, ZoneReport, item};
use bytes::Bytes;
use control::documents::payload;
use control::{Programmed, ZoneProgress};
use policy::Inbound;
use policy::authorization::Authorization;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use sync_grpc::Published;
use tokio::sync::watch;

/// Two reports are at least this far apart: a burst of acknowledgements becomes one.
const REPORT_MIN: Duration = Duration::from_millis(20);
/// Shares of certificate life are told anew this often, though nothing else changed.
const REPORT_MAX: Duration = Duration::from_secs(600);
/// Refusals of one document that are told in full.
const REJECTS_MAX: usize = 8;

/// What reports.
pub struct Reporter {
    /// Who we are.
    pub membership: Membership,
    /// What is known.
    pub world: watch::Receiver<Arc<World>>,
    /// What is programmed.
    pub installed: watch::Receiver<Arc<Installed>>,
    /// Proxies.
    pub registry: Registry,
    /// Where reports go.
    pub view: Published,
    /// Status of documents, for our own REST.
    pub programmed: watch::Sender<Arc<Programmed>>,
    /// Our own latest report, for our own overview.
    pub latest: watch::Sender<Arc<ZoneReport>>,
}

impl Reporter {
    /// Works until nobody changes anything any more.
    pub async fn run(mut self) {
        let mut registry = self.registry.changed();
        loop {
            registry.mark_unchanged();
            let (world, installed) =
                (self.world.borrow_and_update().clone(), self.installed.borrow_and_update().clone());
            if installed.snapshot.is_some() {
                self.report(&world, &installed);
            }
            tokio::time::sleep(REPORT_MIN).await;
            let ended = tokio::select! {
                changed = self.world.changed() => changed.is_err(),
                changed = self.installed.changed() => changed.is_err(),
                changed = registry.changed() => changed.is_err(),
                () = tokio::time::sleep(REPORT_MAX) => false,
            };
            if ended {
                return;
            }
        }
    }

    fn report(&self, world: &World, installed: &Installed) {
        let proxies = self.registry.proxies();
        let zone = self.zone(world, installed, &proxies);
        let policies: BTreeMap<Key, Arc<PolicyReport>> = installed
            .documents
            .iter()
            .map(|(key, (revision, reach))| {
                (key.clone(), Arc::new(progress_of(key, *revision, reach, installed, &proxies)))
            })
            .collect();
        let mut items: BTreeMap<Arc<str>, Bytes> = BTreeMap::new();
        items.insert(item::ZONE.into(), payload(&zone));
        for (key, report) in &policies {
            items.insert(item::policy(key).into(), payload(&**report));
        }
        for (key, object) in world.objects.items.iter().filter(|(key, _)| key.zone.is_some()) {
            items.insert(item::object(key).into(), payload(&**object));
        }
        self.view.replace(items);
        let progress = ZoneProgress {
            applied: installed.lineage.map(|lineage| lineage.revision),
            applied_own: Some(world.objects.revision),
            behind: zone.behind,
            policies,
        };
        let programmed = Programmed::from([(self.membership.zone.clone(), progress)]);
        self.programmed.send_replace(Arc::new(programmed));
        self.latest.send_replace(Arc::new(zone));
    }

    fn zone(&self, world: &World, installed: &Installed, proxies: &BTreeMap<Key, Proxy>) -> ZoneReport {
        let mut report = ZoneReport { version: env!("CARGO_PKG_VERSION").into(), ..ZoneReport::default() };
        let workloads = installed.snapshot.iter().flat_map(|snapshot| &snapshot.workloads);
        for (key, entry) in workloads {
            let ready = u32::from(self.registry.is_ready(key));
            if entry.spec.role == Role::EastWestGateway {
                report.gateways_total += 1;
                report.gateways_ready += ready;
            } else {
                report.proxies_total += 1;
                report.proxies_ready += ready;
            }
        }
        report.behind = count(proxies.values().filter(|proxy| proxy.is_behind()));
        report.rejected = count(proxies.values().flat_map(|proxy| &proxy.progress.rejects));
        report.applied = installed.lineage.map(|lineage| (format!("{:016x}", lineage.history), lineage.revision));
        report.estranged = world.policy.estranged.as_ref().map(|estranged| {
            let words = format!(
                "global lost its history at revision {}; it now tells {}",
                estranged.held.revision, estranged.offered
            );
            (estranged.held.revision, words)
        });
        report.flows = self.registry.flows();
        report.probes = self.registry.probes().into_values().collect();
        report.certificate_left = Some(certificate_left(&self.membership));
        report
    }
}

/// How far one document got. It is for the proxies that are connected: one that is not runs its last good state, and
/// gets the present one when it comes back.
fn progress_of(
    key: &Key,
    revision: u64,
    reach: &[Key],
    installed: &Installed,
    proxies: &BTreeMap<Key, Proxy>,
) -> PolicyReport {
    let mut report = PolicyReport { revision, ..PolicyReport::default() };
    // As proxies name the policy that refused a request.
    let named = format!("{}/{}", key.namespace.clone().unwrap_or_default(), key.name);
    let denies = key.kind == Authorization::KIND;
    for workload in reach {
        let (Some(proxy), Some(class)) = (proxies.get(workload), installed.views.get(workload)) else { continue };
        report.total += 1;
        if let Some(said) = proxy.said.as_ref().filter(|_| denies) {
            report.denied += said.denied.get(&named).copied().unwrap_or_default();
        }
        let refused = proxy.progress.rejects.iter().find(|reject| class.documents_of(&reject.key).any(|of| of == key));
        if let Some(reject) = refused {
            if report.rejects.len() < REJECTS_MAX {
                report.rejects.push((crate::authorities::common_name(workload), reject.reason.clone()));
            }
            continue;
        }
        let required = class.required.get(key).map(|(_, cursor)| *cursor).unwrap_or_default();
        let problem =
            proxy.said.as_ref().filter(|_| key.kind == Gateway::KIND).and_then(|said| listener_problem(said, key));
        if let Some(problem) = problem {
            if report.rejects.len() < REJECTS_MAX {
                report.rejects.push((crate::authorities::common_name(workload), problem));
            }
            continue;
        }
        let runs = proxy.progress.acked.is_some_and(|acked| acked.epoch == required.epoch && acked.rev >= required.rev);
        report.programmed += u32::from(runs);
    }
    report
}

/// What a gateway says of the listeners of one Gateway.
fn listener_problem(said: &ProxyReport, gateway: &Key) -> Option<String> {
    let of = format!("{}/", crate::authorities::common_name(gateway));
    let problems =
        said.listener_problems.iter().filter_map(|(listener, what)| Some((listener.strip_prefix(&of)?, what)));
    let words: Vec<String> = problems.map(|(listener, what)| format!("listener {listener}: {what}")).collect();
    (!words.is_empty()).then(|| words.join("; "))
}

fn count<T>(of: impl Iterator<Item = T>) -> u32 {
    u32::try_from(of.count()).unwrap_or(u32::MAX)
}

/// In hundredths, so that it changes seldom.
fn certificate_left(membership: &Membership) -> f64 {
    let present = membership.live.current();
    let (from, until) = (present.not_before().as_secs(), present.not_after().as_secs());
    let left = until.saturating_sub(process::clock::unix_seconds()) as f64;
    let whole = until.saturating_sub(from).max(1) as f64;
    ((left / whole).min(1.0) * 100.0).round() / 100.0
}
