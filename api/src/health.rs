//! Health of zones and links as every screen shows it. Computed by the `insight` crate, never in a browser.

use crate::kinds::ZoneState;
use crate::name::ZoneName;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Observed health of a zone.
#[derive(Clone, Copy, Debug, Eq, JsonSchema, Ord, PartialEq, PartialOrd, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Status {
    /// In sync, reachable from every peer.
    Healthy,
    /// Works, with a reason to look.
    Degraded,
    /// Some peers reach it and some do not, or one direction is cut.
    Partitioned,
    /// Nobody reaches it and it is silent.
    Offline,
    /// No fresh observation. Never shown as healthy.
    Unknown,
}

/// The four observations a verdict is made of, and what goes with them.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Signals {
    /// Age of the newest of our own observations, milliseconds; `None`: there is none.
    pub observed_ms: Option<u64>,
    /// The zone's control stream is open and answered lately.
    pub control_link: bool,
    /// The zone has connected at least once since it was created.
    pub joined: bool,
    /// Peers that reach it, of peers that reported.
    pub reached_by: (u32, u32),
    /// Peers it reaches, of peers it reported on.
    pub reaches: (u32, u32),
    /// Peers that do not reach it, or that it does not reach.
    pub unreachable: Vec<ZoneName>,
    /// Rejected items.
    pub rejected: u32,
    /// Proxies behind, and for how long, milliseconds.
    pub behind: (u32, u64),
    /// Ready and registered gateways.
    pub gateways: (u32, u32),
    /// Ready and registered proxies.
    pub proxies: (u32, u32),
    /// Remaining share of life of the certificate that ends first.
    pub certificate_left: Option<f64>,
    /// Utilisation.
    pub load: Option<f64>,
    /// The zone holds a history its publisher lost: words.
    pub estranged: Option<String>,
}

/// A verdict with its reason.
#[derive(Clone, Debug, Eq, JsonSchema, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Verdict {
    /// Health.
    pub status: Status,
    /// The first reason that holds, in words.
    pub why: String,
    /// Serves on its own, cut off from global.
    pub autonomous: bool,
}

/// One zone on the Zones page and in `weft status`.
#[derive(Clone, Debug, JsonSchema, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ZoneView {
    /// Which.
    pub name: ZoneName,
    /// Its region.
    pub region: Option<String>,
    /// Wanted by operators.
    pub state: ZoneState,
    /// Observed.
    pub status: Status,
    /// Why, in words.
    pub why: String,
    /// Serves on its own, cut off from global.
    pub autonomous: bool,
    /// Unix milliseconds since when the status holds.
    pub since_ms: u64,
    /// Unix milliseconds of the newest observation; `None`: never.
    pub seen_ms: Option<u64>,
    /// Policy revision the zone has applied.
    pub revision: Option<u64>,
    /// Proxies that have not acknowledged their latest configuration.
    pub behind: u32,
    /// Items refused.
    pub rejected: u32,
    /// Ready proxies.
    pub proxies_ready: u32,
    /// Registered proxies.
    pub proxies_total: u32,
    /// Ready gateways.
    pub gateways_ready: u32,
    /// Registered gateways.
    pub gateways_total: u32,
    /// Requests a second that workloads of this zone make.
    pub rps: f64,
    /// Of these, the share answered in the zone, 0.0 to 1.0; `None`: no requests.
    pub local: Option<f64>,
    /// Of these, failed, 0.0 to 1.0; `None`: no requests.
    pub failed: Option<f64>,
    /// Ready endpoints of all endpoints, 0.0 to 1.0; `None`: no endpoints.
    pub capacity: Option<f64>,
    /// Version of its control plane.
    pub version: String,
}

/// One direction between two zones.
#[derive(Clone, Debug, JsonSchema, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct LinkView {
    /// Caller's zone.
    pub from: ZoneName,
    /// Called zone.
    pub to: ZoneName,
    /// Observed.
    pub state: LinkState,
    /// Why, in words; empty when all is well.
    pub why: String,
    /// Median round trip, milliseconds.
    pub rtt_ms: Option<f64>,
    /// Share of probes without an answer.
    pub loss: Option<f64>,
    /// Requests a second over this link.
    pub rps: f64,
    /// Of these, sent here only because the usual zone could not.
    pub spill_rps: f64,
    /// Unix milliseconds of the latest probe; `None`: never.
    pub seen_ms: Option<u64>,
}

/// State of one direction.
#[derive(Clone, Copy, Debug, Eq, JsonSchema, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum LinkState {
    /// Probes are answered.
    Up,
    /// Probes are not answered.
    Down,
    /// No fresh probe.
    Unknown,
}

/// Something that happened, for the journal.
#[derive(Clone, Debug, JsonSchema, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Event {
    /// Grows by one.
    pub id: u64,
    /// Unix milliseconds.
    pub at_ms: u64,
    /// Of which zone, if of one.
    pub zone: Option<ZoneName>,
    /// Its status then, if it is about a status.
    pub status: Option<Status>,
    /// What happened, in words.
    pub text: String,
}

/// The Zones page: what the stream's `snapshot` carries and `delta` changes.
#[derive(Clone, Debug, Default, JsonSchema, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Overview {
    /// One sentence with the worst fact.
    pub headline: String,
    /// Whose view this is: `global`, or a zone's name.
    pub observer: String,
    /// Policy revision of the observer's store.
    pub revision: u64,
    /// Unix milliseconds at which this was computed.
    pub at_ms: u64,
    /// Worst first.
    pub zones: Vec<ZoneView>,
    /// Both directions of every pair.
    pub links: Vec<LinkView>,
    /// Newest first.
    pub events: Vec<Event>,
}
