//! Virtual addresses: each service has one, and each of its zones another, so that protocols without host names can
//! be told apart by where they connect to.
//!
//! An address stays with its name for as long as the data folder lives, because apps keep what DNS once answered.

use crate::compile::Running;
use crate::limits::VIPS_MAX;
use api::ZoneName;
use api::config::ServiceRef;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr};
use std::path::PathBuf;
use std::str::FromStr;
use tracing::warn;

const FILE: &str = "vips.json";

/// A range of IPv4 addresses, `127.64.0.0/16`.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Cidr {
    first: u32,
    count: u32,
}

/// A text that is no range.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error("`{0}` is not a range of IPv4 addresses; write one such as 127.64.0.0/16, at least /30")]
pub struct CidrError(String);

impl FromStr for Cidr {
    type Err = CidrError;
    fn from_str(given: &str) -> Result<Self, CidrError> {
        let wrong = || CidrError(given.into());
        let (address, bits) = given.split_once('/').ok_or_else(wrong)?;
        let address: Ipv4Addr = address.parse().map_err(|_| wrong())?;
        let bits: u32 = bits.parse().ok().filter(|bits| (8..=30).contains(bits)).ok_or_else(wrong)?;
        let count = 1 << (32 - bits);
        Ok(Self { first: u32::from(address) & !(count - 1), count })
    }
}

impl Cidr {
    /// Whether `address` lies within.
    pub fn contains(&self, address: IpAddr) -> bool {
        match address {
            IpAddr::V4(address) => u32::from(address).checked_sub(self.first).is_some_and(|at| at < self.count),
            IpAddr::V6(_) => false,
        }
    }

    fn address(&self, at: u32) -> IpAddr {
        Ipv4Addr::from(self.first + at).into()
    }
}

/// What an address stands for.
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub struct Named {
    /// Service.
    pub service: ServiceRef,
    /// Only this zone.
    pub zone: Option<ZoneName>,
}

/// Names and addresses as DNS and listeners need them.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Names {
    by_host: BTreeMap<String, IpAddr>,
    by_address: BTreeMap<IpAddr, Named>,
}

impl Names {
    /// Address of a host name, without trailing dot; case does not matter.
    pub fn address(&self, host: &str) -> Option<IpAddr> {
        self.by_host.get(&host.to_ascii_lowercase()).copied()
    }

    /// Hosts and their addresses, for tests of what only looks names up.
    #[cfg(test)]
    pub(crate) fn of<'a>(hosts: impl IntoIterator<Item = (&'a str, IpAddr)>) -> Self {
        let by_host = hosts.into_iter().map(|(host, address)| (host.to_owned(), address)).collect();
        Self { by_host, by_address: BTreeMap::new() }
    }

    /// What an address stands for.
    pub fn named(&self, address: IpAddr) -> Option<&Named> {
        self.by_address.get(&address)
    }

    /// All addresses in use.
    pub fn addresses(&self) -> impl Iterator<Item = (IpAddr, &Named)> {
        self.by_address.iter().map(|(address, named)| (*address, named))
    }

    /// Whether a host name belongs to the mesh, known or not: nobody else is asked about it.
    pub fn ours(host: &str) -> bool {
        let host = host.trim_end_matches('.');
        host.rsplit('.').next().is_some_and(|last| last.eq_ignore_ascii_case(api::config::DNS_SUFFIX))
    }
}

/// Gives out addresses and remembers them.
#[derive(Debug)]
pub struct Vips {
    range: Cidr,
    file: Option<PathBuf>,
    given: Given,
}

/// By `MESH/NAMESPACE/NAME` or `MESH/NAMESPACE/NAME@ZONE`: place in the range.
#[derive(Clone, Debug, Default, Eq, PartialEq, Serialize, Deserialize)]
struct Given(BTreeMap<String, u32>);

impl Vips {
    /// Continues what the data folder remembers; without one, nothing is remembered.
    pub fn open(range: Cidr, data: Option<&std::path::Path>) -> Self {
        let file = data.map(|folder| folder.join(FILE));
        let text = file.as_ref().and_then(|file| std::fs::read(file).ok());
        let given = text.map(|text| serde_json::from_slice(&text).unwrap_or_default()).unwrap_or_default();
        Self { range, file, given }
    }

    /// Names for what may be called now. New services get new addresses, old ones keep theirs.
    pub fn names(&mut self, running: &Running) -> Names {
        let wanted = wanted(running);
        let before = self.given.clone();
        for key in wanted.keys() {
            self.give(key, &wanted);
        }
        if self.given != before {
            self.remember();
        }
        let mut names = Names::default();
        for (key, (named, hosts)) in wanted {
            let Some(at) = self.given.0.get(&key) else { continue };
            let address = self.range.address(*at);
            names.by_host.extend(hosts.into_iter().map(|host| (host, address)));
            names.by_address.insert(address, named);
        }
        names
    }

    fn give(&mut self, key: &str, wanted: &BTreeMap<String, (Named, Vec<String>)>) {
        // The first address of a range is left out: of 127.0.0.0/8 it would be the network.
        let room = 1..self.range.count.saturating_sub(1).min(VIPS_MAX as u32);
        if self.given.0.get(key).is_some_and(|at| room.contains(at)) {
            return;
        }
        let taken: BTreeSet<u32> = self.given.0.values().copied().collect();
        let free = room.clone().find(|at| !taken.contains(at)).or_else(|| {
            // Full: what is not called any more makes room.
            self.given.0.retain(|key, _| wanted.contains_key(key));
            let taken: BTreeSet<u32> = self.given.0.values().copied().collect();
            room.clone().find(|at| !taken.contains(at))
        });
        match free {
            Some(at) => drop(self.given.0.insert(key.to_owned(), at)),
            None => warn!(service = key, "no virtual address is left; give --vips a larger range"),
        }
    }

    fn remember(&self) {
        let Some(file) = &self.file else { return };
        let text = serde_json::to_vec(&self.given).expect("a map of texts to numbers is JSON");
        if let Err(error) = process::write_atomic(file, &text, 0o600) {
            warn!(file = %file.display(), %error, "virtual addresses are not remembered and may change at the next start");
        }
    }
}

fn wanted(running: &Running) -> BTreeMap<String, (Named, Vec<String>)> {
    let mut wanted = BTreeMap::new();
    for (service, compiled) in &running.services {
        let mut hosts: Vec<String> = compiled.config.hosts.iter().map(|host| host.to_ascii_lowercase()).collect();
        if compiled.config.external.is_none() {
            hosts.push(service.host(None));
        }
        wanted.insert(service.to_string(), (Named { service: service.clone(), zone: None }, hosts));
        for set in running.places.get(service).iter().flat_map(|places| &places.sets) {
            let named = Named { service: service.clone(), zone: Some(set.zone.clone()) };
            wanted.insert(format!("{service}@{}", set.zone), (named, vec![service.host(Some(&set.zone))]));
        }
    }
    wanted
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::compile::{Compiler, Items};
    use serde_json::json;

    fn running(services: &[&str]) -> std::sync::Arc<Running> {
        let item = |name: &&str| {
            let service = json!({"mesh": "default", "namespace": "shop", "name": name});
            let outbound = json!({"service": service, "hosts": [], "ports": [],
                "balancing": api::config::Balancing::default()});
            (format!("outbound/default/shop/{name}").into(), serde_json::to_vec(&outbound).unwrap().into())
        };
        Compiler::default().compile(&services.iter().map(item).collect::<Items>()).0
    }

    #[test]
    fn an_address_stays_with_its_name() {
        let folder = tempfile::tempdir().unwrap();
        let range: Cidr = "127.64.0.0/24".parse().unwrap();
        let first = Vips::open(range, Some(folder.path())).names(&running(&["cart", "web"]));
        let later = Vips::open(range, Some(folder.path())).names(&running(&["admin", "web", "zebra"]));
        assert_eq!(first.address("WEB.shop.mesh"), later.address("web.shop.mesh"));
        assert!(range.contains(later.address("zebra.shop.mesh").unwrap()));
        assert_eq!(later.address("cart.shop.mesh"), None);
        let back = Vips::open(range, Some(folder.path())).names(&running(&["cart"]));
        assert_eq!(first.address("cart.shop.mesh"), back.address("cart.shop.mesh"));
    }

    #[test]
    fn a_full_range_gives_away_what_is_not_called_any_more() {
        let mut vips = Vips::open("127.64.0.0/30".parse().unwrap(), None);
        assert_eq!(vips.names(&running(&["a", "b", "c"])).addresses().count(), 2);
        assert!(vips.names(&running(&["c"])).address("c.shop.mesh").is_some());
    }

    #[test]
    fn ranges_are_read_strictly() {
        for bad in ["", "127.0.0.1", "127.0.0.0/33", "127.0.0.0/31", "::1/64", "127.0.0/8"] {
            assert!(bad.parse::<Cidr>().is_err(), "{bad}");
        }
        assert!(!"127.64.0.0/16".parse::<Cidr>().unwrap().contains("127.65.0.0".parse().unwrap()));
        assert!(Names::ours("x.Mesh.") && !Names::ours("mesh.example"));
    }
}
