//! What a kind is: for policies the two traits a spec type implements, for everybody else one row of a table.

use crate::check::check_spec;
use crate::shape::{Rules, Traffic};
use api::config::{AuthorizationRule, Balancing, Breaker, Faults, HealthCheck, RateLimitRule, Retry, Timeouts};
use api::kinds::Spec;
use api::name::ZoneName;
use api::object::{Owner, Scope};
use api::problem::Diagnostic;
use api::target::TargetKind;
use schemars::{JsonSchema, Schema, schema_for};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use serde_json::Value;

/// A policy about calls. All fields are optional, so that documents can be laid over each other field by field.
pub trait Outbound: DeserializeOwned + JsonSchema + Serialize {
    /// PascalCase, as in documents.
    const KIND: &'static str;
    /// Lowercase, as in paths.
    const PLURAL: &'static str;
    /// A valid spec of a document, as YAML: shown in docs, and tested.
    const EXAMPLE: &'static str;
    /// Whether its values may differ between the rules of one service.
    const GRAIN: Grain;

    /// What the schema cannot say: `(field, what is wrong)`.
    fn check(&self) -> Vec<(String, String)> {
        Vec::new()
    }

    /// Writes the merged values into what a proxy runs. Called without any document too, with nothing set.
    fn lower(&self, into: &mut Settings, around: &Around);
}

/// A policy about being called. Its rules are collected, never merged.
pub trait Inbound: DeserializeOwned + JsonSchema + Serialize {
    /// PascalCase, as in documents.
    const KIND: &'static str;
    /// Lowercase, as in paths.
    const PLURAL: &'static str;
    /// A valid spec of a document, as YAML: shown in docs, and tested.
    const EXAMPLE: &'static str;

    /// What the schema cannot say about one rule: `(field, what is wrong)`.
    fn check(&self) -> Vec<(String, String)> {
        Vec::new()
    }

    /// The rule a proxy enforces; `policy` is `NAMESPACE/NAME` of its document.
    fn lower(&self, policy: &str) -> InboundRule;
}

/// What a rule about being called lowers to.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(untagged)]
pub enum InboundRule {
    /// Who may call.
    Authorization(AuthorizationRule),
    /// How often.
    RateLimit(RateLimitRule),
}

/// How finely the values of an outbound policy may differ.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Grain {
    /// One value for a whole service.
    Service,
    /// One value for each port and each rule of a route.
    Rule,
    /// One value for a whole service, run by the proxies of its own workloads instead of its callers'.
    Callee,
}

impl Grain {
    /// Kinds that `to[].targetRef` of such a policy may name.
    pub const fn traffic(self) -> &'static [TargetKind] {
        use TargetKind::*;
        match self {
            Self::Service => &[Mesh, Namespace, Service, ExternalService],
            Self::Callee => &[Mesh, Namespace, Service],
            Self::Rule => &[Mesh, Namespace, Service, ExternalService, HTTPRoute, GRPCRoute, TCPRoute],
        }
    }
}

/// What outbound policies write into: the settings of one rule of one service. Begins with what holds without any
/// policy.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Settings {
    /// Time limits.
    pub timeouts: Timeouts,
    /// Another try.
    pub retry: Retry,
    /// How places and endpoints are chosen.
    pub balancing: Balancing,
    /// How much may be in use at a time.
    pub breaker: Breaker,
    /// What the app of a called workload is asked by its own proxy.
    pub health: HealthCheck,
    /// What calls suffer on purpose.
    pub faults: Faults,
}

/// What lowering may know of the world: where the caller is, and which zones there are.
#[derive(Clone, Debug, PartialEq)]
pub struct Around {
    /// The caller's zone.
    pub zone: ZoneName,
    /// Zones of the caller's mesh, its own among them, by name.
    pub zones: Vec<ZoneAround>,
}

/// One zone, as far as ordering zones goes.
#[derive(Clone, Debug, PartialEq)]
pub struct ZoneAround {
    /// Which.
    pub zone: ZoneName,
    /// Its region.
    pub region: Option<String>,
    /// How far it is from the caller's zone ([`api::report::distance`]); `None` where nothing was measured.
    pub distance: Option<u32>,
}

/// What types say is wrong: `(field path below spec, what)`.
type Mistakes = Vec<(String, String)>;

/// What a kind lowers to.
#[derive(Clone, Copy, Debug)]
pub enum Lower {
    /// A resource: read by its own type.
    Resource,
    /// Merged values of one kind.
    Outbound {
        /// How finely values may differ.
        grain: Grain,
        /// Writes merged values into settings.
        lower: fn(&Value, &mut Settings, &Around) -> Result<(), serde_json::Error>,
    },
    /// Rules of one document.
    Inbound {
        /// The document's rules; the text is `NAMESPACE/NAME` of the document.
        lower: fn(&Value, &str) -> Result<Vec<InboundRule>, serde_json::Error>,
    },
}

/// One row of [`KINDS`](crate::KINDS): a kind without its type.
#[derive(Clone, Copy, Debug)]
pub struct Kind {
    /// PascalCase, as in documents.
    pub name: &'static str,
    /// Lowercase, as in paths and on the command line.
    pub plural: &'static str,
    /// `apiVersion` of its documents.
    pub api_version: &'static str,
    /// Where its objects live.
    pub scope: Scope,
    /// Who writes it.
    pub owner: Owner,
    /// Whether it is a traffic policy, with targets.
    pub is_policy: bool,
    /// A valid spec, as YAML.
    pub example: &'static str,
    /// Schema of the whole spec.
    pub schema: fn() -> Schema,
    /// Everything wrong with a spec; field paths begin with `spec`.
    pub check: fn(&Value) -> Vec<Diagnostic>,
    /// What the type says beyond the schema: `(field path below spec, what is wrong)`, or why it does not read.
    pub(crate) semantics: fn(&Value) -> Result<Mistakes, serde_json::Error>,
    /// What it lowers to.
    pub lower: Lower,
}

impl Kind {
    /// A row for a resource.
    pub const fn resource<S: Spec>() -> Self {
        Self {
            name: S::KIND,
            plural: S::PLURAL,
            api_version: S::API_VERSION,
            scope: S::SCOPE,
            owner: S::OWNER,
            is_policy: false,
            example: S::EXAMPLE,
            schema: || schema_for!(S),
            check: |spec| check_spec(crate::kind(S::KIND).expect("the table has a row for each type"), spec),
            semantics: |spec| Ok(S::deserialize(spec)?.check()),
            lower: Lower::Resource,
        }
    }

    /// A row for a policy about calls.
    pub const fn outbound<P: Outbound>() -> Self {
        Self {
            schema: || schema_for!(Traffic<P>),
            check: |spec| check_spec(crate::kind(P::KIND).expect("the table has a row for each type"), spec),
            semantics: |spec| Ok(Traffic::<P>::deserialize(spec)?.check()),
            lower: Lower::Outbound {
                grain: P::GRAIN,
                lower: |merged, into, around| {
                    P::deserialize(merged)?.lower(into, around);
                    Ok(())
                },
            },
            ..Self::policy(P::KIND, P::PLURAL, P::EXAMPLE)
        }
    }

    /// A row for a policy about being called.
    pub const fn inbound<P: Inbound>() -> Self {
        Self {
            schema: || schema_for!(Rules<P>),
            check: |spec| check_spec(crate::kind(P::KIND).expect("the table has a row for each type"), spec),
            semantics: |spec| Ok(Rules::<P>::deserialize(spec)?.check()),
            lower: Lower::Inbound {
                lower: |spec, policy| {
                    Ok(Rules::<P>::deserialize(spec)?.rules.iter().map(|rule| rule.lower(policy)).collect())
                },
            },
            ..Self::policy(P::KIND, P::PLURAL, P::EXAMPLE)
        }
    }

    const fn policy(name: &'static str, plural: &'static str, example: &'static str) -> Self {
        Self {
            name,
            plural,
            api_version: api::API_VERSION,
            scope: Scope::Namespaced,
            owner: Owner::Either,
            is_policy: true,
            example,
            schema: || schema_for!(()),
            check: |_| Vec::new(),
            semantics: |_| Ok(Vec::new()),
            lower: Lower::Resource,
        }
    }

    /// A whole document with the example spec, as YAML.
    pub fn document(&self) -> String {
        let indented: String = self.example.lines().map(|line| format!("  {line}\n")).collect();
        let Self { api_version, name, plural, .. } = self;
        format!("apiVersion: {api_version}\nkind: {name}\nmetadata:\n  name: {plural}-example\nspec:\n{indented}")
    }
}
