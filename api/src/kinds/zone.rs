//! Zone: a registered zone.

use super::Spec;
use crate::object::{Owner, Scope};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A zone that may join, and what should happen to its traffic.
#[derive(Clone, Debug, Default, Eq, JsonSchema, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Zone {
    /// Where it is; zones of one region are preferred to others.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub region: Option<String>,
    /// Whether it takes traffic.
    #[serde(default)]
    pub state: ZoneState,
}

/// Whether a zone takes traffic.
#[derive(Clone, Copy, Debug, Default, Eq, JsonSchema, PartialEq, Serialize, Deserialize)]
pub enum ZoneState {
    /// Takes traffic.
    #[default]
    Active,
    /// Keeps what it has, gets nothing new from other zones.
    Draining,
    /// Gets no new traffic at all from other zones.
    Disabled,
}

impl Spec for Zone {
    const KIND: &'static str = "Zone";
    const PLURAL: &'static str = "zones";
    const SCOPE: Scope = Scope::Global;
    const OWNER: Owner = Owner::Global;
    const EXAMPLE: &'static str = "region: europe\nstate: Active\n";

    fn check(&self) -> Vec<(String, String)> {
        match &self.region {
            Some(region) if region.is_empty() => vec![("region".into(), "may not be empty; leave it out".into())],
            _ => Vec::new(),
        }
    }
}
