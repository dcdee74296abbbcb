//! The topology file of `weft dev`: which zones, gateways and apps to run as real processes on this machine.
//!
//! ```yaml
//! name: demo                        # omitted: the file's name
//! global: {address: 127.0.0.1}      # its ports: API and GUI 5680, sync 5681, admin 5682
//! meshes:                           # omitted: one mesh `default` that allows what no policy forbids
//!   default: {defaultAuthorization: Allow}
//! zones:
//!   - name: west
//!     region: us
//!     network: "127.1"              # first two numbers of all its addresses; omitted: 127.1, 127.2, ... in order
//!     gateways: 2                   # omitted: 1
//!     ingress: 1                    # omitted: 0. Edge gateways, on which the ports of Gateways are opened
//!     apps: {cart: 3}               # replicas here, where they differ; 0: none
//!     delay: 20ms                   # omitted: none. Traffic of other zones into this one takes so much longer
//! apps:                             # in every zone unless `zones` says otherwise
//!   - name: cart
//!     namespace: shop               # omitted: default
//!     mesh: default                 # omitted: default
//!     protocol: http                # http, http2, grpc or tcp; omitted: http
//!     port: 8080                    # omitted: 8080
//!     replicas: 2                   # omitted: 1
//!     zones: [west, east]           # omitted: all
//! resources: []                     # documents to apply once everything runs
//! ```
//! Unknown fields are refused, with the place and the nearest name.

use super::yaml;
use crate::exit::Failure;
use api::kinds::{DefaultAuthorization, Mesh, Protocol};
use api::{MeshName, Name, Namespace, Object, Span, ZoneName};
use serde::Deserialize;
use serde_saphyr::Spanned;
use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;
use std::path::Path;

/// Zones in one file: the second number of their addresses, and half of the numbers are for virtual addresses.
const ZONES_MAX: usize = 99;
/// Apps in one file, and replicas of one app in one zone: together they number a zone's workloads in one byte.
pub const APPS_MAX: usize = 16;
/// See [`APPS_MAX`].
pub const REPLICAS_MAX: u32 = 16;
/// Gateways of one zone.
const GATEWAYS_MAX: u32 = 9;

/// A whole file.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Topology {
    /// Name of the state folder. Omitted: the file's name without its ending.
    #[serde(default)]
    pub name: Option<Name>,
    /// The global control plane.
    #[serde(default)]
    pub global: GlobalPlan,
    /// Meshes to create. Empty: `default`, which allows what no policy forbids.
    #[serde(default)]
    pub meshes: BTreeMap<MeshName, Mesh>,
    /// At least one.
    pub zones: Vec<ZonePlan>,
    /// What runs in them.
    #[serde(default)]
    pub apps: Vec<App>,
    /// Applied once everything runs.
    #[serde(default)]
    pub resources: Vec<Object>,
}

/// Where the global control plane listens.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct GlobalPlan {
    /// Loopback address.
    #[serde(default = "localhost")]
    pub address: Ipv4Addr,
    /// `file`, `memory` or `etcd:URL,URL`.
    #[serde(default = "file_store")]
    pub store: String,
}

/// One zone.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ZonePlan {
    /// Its name.
    pub name: Spanned<ZoneName>,
    /// Its region.
    #[serde(default)]
    pub region: Option<String>,
    /// First two numbers of its addresses, such as `127.3`.
    #[serde(default)]
    pub network: Option<Spanned<String>>,
    /// East-west gateways.
    #[serde(default = "one")]
    pub gateways: u32,
    /// Edge gateways, on which the ports of Gateways are opened.
    #[serde(default)]
    pub ingress: u32,
    /// Replicas of apps here, where they differ from the app's own number.
    #[serde(default)]
    pub apps: BTreeMap<Name, u32>,
    /// Added to every piece of data on its way into the zone's gateways.
    #[serde(default)]
    pub delay: Option<Span>,
}

/// One app.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct App {
    /// Name of its service and prefix of its workloads' names.
    pub name: Spanned<Name>,
    /// Its namespace.
    #[serde(default)]
    pub namespace: Namespace,
    /// Its mesh.
    #[serde(default)]
    pub mesh: MeshName,
    /// What it speaks.
    #[serde(default)]
    pub protocol: Protocol,
    /// Where it is called.
    #[serde(default = "app_port")]
    pub port: u16,
    /// Instances in each zone.
    #[serde(default = "one")]
    pub replicas: u32,
    /// Where it runs. Empty: everywhere.
    #[serde(default)]
    pub zones: Vec<ZoneName>,
}

fn localhost() -> Ipv4Addr {
    Ipv4Addr::LOCALHOST
}

fn file_store() -> String {
    "file".into()
}

fn one() -> u32 {
    1
}

fn app_port() -> u16 {
    8080
}

impl Default for GlobalPlan {
    fn default() -> Self {
        Self { address: localhost(), store: file_store() }
    }
}

impl Topology {
    /// Reads and checks a file; every mistake is drawn with its line.
    pub fn read(path: &Path) -> Result<Self, Failure> {
        let text = std::fs::read_to_string(path).map_err(|error| {
            Failure::file("read the topology", path, &error).hint("`weft dev up FILE.yaml` takes a file you write")
        })?;
        let mut topology = Self::parse(&path.display().to_string(), &text)?;
        if topology.name.is_none() {
            let stem = path.file_stem().map(|stem| stem.to_string_lossy().to_lowercase()).unwrap_or_default();
            topology.name = Some(stem.parse().unwrap_or_else(|_| "dev".parse().expect("a DNS label")));
        }
        Ok(topology)
    }

    /// Reads and checks text.
    pub fn parse(file: &str, text: &str) -> Result<Self, Failure> {
        let mut topology: Self = yaml::read(file, text)?;
        let wrong = topology.check();
        if !wrong.is_empty() {
            return Err(yaml::failure(file, text, wrong));
        }
        if topology.meshes.is_empty() {
            let open = Mesh { default_authorization: DefaultAuthorization::Allow, ..Mesh::default() };
            topology.meshes.insert(MeshName::default(), open);
        }
        Ok(topology)
    }

    /// What the types cannot say.
    fn check(&self) -> Vec<yaml::Mistake> {
        let mut wrong = Vec::new();
        let mut say = |at: Option<serde_saphyr::Location>, field: String, message: String| {
            wrong.push(yaml::Mistake { at, field, message, suggestion: None });
        };
        if self.zones.is_empty() || self.zones.len() > ZONES_MAX {
            say(None, "zones".into(), format!("a topology needs between 1 and {ZONES_MAX} zones"));
        }
        if self.apps.len() > APPS_MAX {
            say(None, "apps".into(), format!("at most {APPS_MAX} apps fit into the address plan"));
        }
        if !self.global.address.is_loopback() {
            say(
                None,
                "global.address".into(),
                "must be a loopback address: nothing of `weft dev` listens outside".into(),
            );
        }
        let mut networks = BTreeSet::new();
        for (i, zone) in self.zones.iter().enumerate() {
            let at = Some(zone.name.referenced);
            if self.zones[..i].iter().any(|earlier| earlier.name.value == zone.name.value) {
                say(at, format!("zones[{i}].name"), format!("zone `{}` is written twice", zone.name.value));
            }
            let place = zone.network.as_ref().map_or(at, |network| Some(network.referenced));
            match zone.number(i) {
                None => say(place, format!("zones[{i}].network"), "expected 127.1 to 127.99".into()),
                Some(number) if !networks.insert(number) => {
                    say(place, format!("zones[{i}].network"), format!("127.{number} belongs to another zone already"));
                }
                Some(_) => {}
            }
            if zone.ingress > GATEWAYS_MAX {
                say(at, format!("zones[{i}].ingress"), format!("at most {GATEWAYS_MAX} edge gateways"));
            }
            if zone.gateways > GATEWAYS_MAX {
                say(at, format!("zones[{i}].gateways"), format!("at most {GATEWAYS_MAX} gateways"));
            }
            for (name, replicas) in &zone.apps {
                let field = format!("zones[{i}].apps.{name}");
                if !self.apps.iter().any(|app| app.name.value == *name) {
                    say(at, field, format!("no app is named `{name}`; apps are listed under `apps`"));
                } else if *replicas > REPLICAS_MAX {
                    say(at, field, format!("at most {REPLICAS_MAX} replicas"));
                }
            }
        }
        for (i, app) in self.apps.iter().enumerate() {
            let at = Some(app.name.referenced);
            if self.apps[..i].iter().any(|earlier| earlier.name.value == app.name.value) {
                say(at, format!("apps[{i}].name"), format!("app `{}` is written twice", app.name.value));
            }
            if app.replicas > REPLICAS_MAX {
                say(at, format!("apps[{i}].replicas"), format!("at most {REPLICAS_MAX} replicas"));
            }
            for zone in &app.zones {
                if !self.zones.iter().any(|known| known.name.value == *zone) {
                    say(at, format!("apps[{i}].zones"), format!("no zone is named `{zone}`"));
                }
            }
            if !self.meshes.is_empty() && !self.meshes.contains_key(&app.mesh) {
                say(at, format!("apps[{i}].mesh"), format!("no mesh is named `{}`; add it under `meshes`", app.mesh));
            }
            if self.meshes.is_empty() && app.mesh != MeshName::default() {
                say(at, format!("apps[{i}].mesh"), format!("mesh `{}` is missing under `meshes`", app.mesh));
            }
        }
        wrong
    }
}

impl ZonePlan {
    /// Second number of its addresses; `None` when `network` makes no sense.
    pub fn number(&self, index: usize) -> Option<u8> {
        let number = match &self.network {
            Some(network) => network.value.strip_prefix("127.")?.parse().ok()?,
            None => u8::try_from(index + 1).ok()?,
        };
        (1..=ZONES_MAX).contains(&usize::from(number)).then_some(number)
    }

    /// Replicas of an app in this zone.
    pub fn replicas(&self, app: &App) -> u32 {
        let here = app.zones.is_empty() || app.zones.contains(&self.name.value);
        self.apps.get(&app.name.value).copied().unwrap_or(if here { app.replicas } else { 0 })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = "\
zones:
  - {name: west, region: us, gateways: 2}
  - {name: east, apps: {cart: 3}}
apps:
  - {name: cart, namespace: shop, replicas: 2}
  - {name: web, zones: [west]}
";

    #[test]
    fn replicas_are_the_apps_unless_the_zone_says_otherwise() {
        let topology = Topology::parse("t.yaml", GOOD).unwrap();
        let [west, east] = &topology.zones[..] else { panic!("two zones") };
        let [cart, web] = &topology.apps[..] else { panic!("two apps") };
        assert_eq!((west.replicas(cart), east.replicas(cart)), (2, 3));
        assert_eq!((west.replicas(web), east.replicas(web)), (1, 0));
        assert_eq!((west.number(0), east.number(1)), (Some(1), Some(2)));
        assert_eq!(topology.meshes[&MeshName::default()].default_authorization, DefaultAuthorization::Allow);
    }

    #[test]
    fn a_mistake_is_shown_where_it_stands() {
        for (text, line, words) in [
            ("zones:\n  - {name: west, gatewys: 2}\n", "t.yaml:2", "gatewys"),
            ("zones:\n  - {name: West}\n", "t.yaml:2", "not a DNS label"),
            ("zones:\n  - {name: west}\n  - {name: west}\n", "t.yaml:3", "written twice"),
            ("zones:\n  - {name: west, network: \"10.1\"}\n", "t.yaml:2", "127.1 to 127.99"),
            ("zones:\n  - {name: west}\napps:\n  - {name: a, zones: [eats]}\n", "t.yaml:4", "no zone is named `eats`"),
            ("zones:\n  - {name: west}\napps:\n  - {name: a, mesh: blue}\n", "t.yaml:4", "mesh `blue` is missing"),
            ("zones:\n  - {name: west}\napps:\n  - {name: a, protocol: htpp}\n", "t.yaml:4", "htpp"),
            ("zones:\n  - {name: west, apps: {cart: 1}}\n", "t.yaml:2", "no app is named `cart`"),
            ("zones: []\n", "t.yaml", "between 1 and 99"),
            ("zones:\n  - {name: west\n", "t.yaml", ""),
        ] {
            let failure = Topology::parse("t.yaml", text).unwrap_err();
            let said = failure.text();
            assert!(said.contains(line) && said.contains(words), "{text}\n{said}");
        }
    }

    #[test]
    fn the_topologies_of_the_repository_are_good() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../e2e/topologies");
        for file in ["demo.yaml", "four-zones.yaml"] {
            Topology::read(&folder.join(file)).unwrap_or_else(|failure| panic!("{}", failure.text()));
        }
    }

    #[test]
    fn an_unknown_field_names_the_nearest() {
        let said = Topology::parse("t.yaml", "zones:\n  - {name: west, gatewys: 2}\n").unwrap_err().text();
        assert!(said.contains("gateways"), "{said}");
    }
}
