//! HealthCheck: what a workload's own proxy asks the app to know whether it is well.

use crate::kind::{Around, Grain, Outbound, Settings};
use api::Span;
use api::config::{self, Question};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Says what the proxies of a service's workloads ask their apps. A workload whose app is not well gets no calls, from
/// any zone, while there are others.
#[derive(Clone, Debug, Default, Eq, JsonSchema, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct HealthCheck {
    /// What is asked: `Tcp`, whether the app's ports accept connections, which every proxy does in any case; `Http` or
    /// `Grpc` besides. Unless set: what `http` or `grpc` is given for, else Tcp.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ask: Option<Ask>,
    /// The question over HTTP.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub http: Option<Http>,
    /// The question over gRPC.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub grpc: Option<Grpc>,
    /// The app's port to ask, whose answer then speaks for all ports. Unless set, each port of the service that speaks
    /// what is asked speaks for itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub port: Option<u16>,
    /// Pause between questions, 10 % more or less. Once answers disagree with what holds, one second at most, until they
    /// agree again. 10s unless set, 5s for Tcp.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub interval: Option<Span>,
    /// No answer within it is a bad one. 1s unless set.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout: Option<Span>,
    /// Good answers in a row before the app is well again. 2 unless set.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub healthy_threshold: Option<u32>,
    /// Bad answers in a row before it is not; a refused connection takes one. 3 unless set.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unhealthy_threshold: Option<u32>,
}

/// What is asked.
#[derive(Clone, Copy, Debug, Eq, JsonSchema, PartialEq, Serialize, Deserialize)]
pub enum Ask {
    /// Does the port accept connections?
    Tcp,
    /// A request, judged by its status.
    Http,
    /// `grpc.health.v1.Health/Check`.
    Grpc,
}

/// A question over HTTP.
#[derive(Clone, Debug, Default, Eq, JsonSchema, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Http {
    /// Path, with a query if need be. `/` unless set.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
    /// `Host` of the request. `localhost` unless set.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub host: Option<String>,
    /// GET, HEAD or OPTIONS. GET unless set.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub method: Option<String>,
    /// Statuses of an app that is well. Any of 200 to 299 unless set. Replaces, never extends, a less specific list.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub statuses: Option<Vec<u16>>,
}

/// A question over gRPC.
#[derive(Clone, Debug, Default, Eq, JsonSchema, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Grpc {
    /// The service asked about. Unless set: the server as a whole.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub service: Option<String>,
}

impl Outbound for HealthCheck {
    const KIND: &'static str = "HealthCheck";
    const PLURAL: &'static str = "healthchecks";
    const EXAMPLE: &'static str = include_str!("example.yaml");
    const GRAIN: Grain = Grain::Callee;

    fn check(&self) -> Vec<(String, String)> {
        let Self { ask, http, grpc, port, interval, timeout, healthy_threshold, unhealthy_threshold } = self;
        let mut wrong = Vec::new();
        let mut say = |field: &str, what: &str| wrong.push((field.to_owned(), what.to_owned()));
        if http.is_some() && ask.is_some_and(|ask| ask != Ask::Http) {
            say("http", "is only asked with `ask: Http`");
        }
        if grpc.is_some() && ask.is_some_and(|ask| ask != Ask::Grpc) {
            say("grpc", "is only asked with `ask: Grpc`");
        }
        if http.is_some() && grpc.is_some() {
            say("grpc", "one question is asked; give `http` or `grpc`");
        }
        if *port == Some(0) {
            say("port", "must be between 1 and 65535");
        }
        for (field, span) in [("interval", interval), ("timeout", timeout)] {
            if *span == Some(Span::default()) {
                say(field, "may not be zero");
            }
        }
        for (field, threshold) in [("healthyThreshold", healthy_threshold), ("unhealthyThreshold", unhealthy_threshold)] {
            if *threshold == Some(0) {
                say(field, "must be at least 1");
            }
        }
        if let Some(Http { path, host, method, statuses }) = http {
            if path.as_ref().is_some_and(|path| !path.starts_with('/') || !path.bytes().all(|b| b.is_ascii_graphic())) {
                say("http.path", "must begin with `/` and hold no blanks");
            }
            if host.as_ref().is_some_and(|host| host.is_empty() || !host.bytes().all(|b| b.is_ascii_graphic())) {
                say("http.host", "is not a host name");
            }
            if method.as_ref().is_some_and(|method| !["GET", "HEAD", "OPTIONS"].contains(&method.as_str())) {
                say("http.method", "must change nothing: use GET, HEAD or OPTIONS");
            }
            if statuses.as_ref().is_some_and(Vec::is_empty) {
                say("http.statuses", "needs at least one status; leave it out to mean any of 200 to 299");
            }
            for (i, status) in statuses.iter().flatten().enumerate() {
                if !(200..=599).contains(status) {
                    say(&format!("http.statuses[{i}]"), "is no status of an answer; use 200 to 599");
                }
            }
        }
        wrong
    }

    fn lower(&self, into: &mut Settings, _: &Around) {
        let Self { ask, http, grpc, port, interval, timeout, healthy_threshold, unhealthy_threshold } = self.clone();
        let ask = ask.unwrap_or(match (&http, &grpc) {
            (Some(_), _) => Ask::Http,
            (None, Some(_)) => Ask::Grpc,
            (None, None) => Ask::Tcp,
        });
        let question = match ask {
            Ask::Tcp => Question::Tcp,
            Ask::Http => {
                let Http { path, host, method, statuses } = http.unwrap_or_default();
                Question::Http {
                    method: method.unwrap_or_else(|| "GET".into()),
                    path: path.unwrap_or_else(|| "/".into()),
                    host: host.unwrap_or_else(|| "localhost".into()),
                    statuses: statuses.unwrap_or_default(),
                }
            }
            Ask::Grpc => Question::Grpc { service: grpc.unwrap_or_default().service.unwrap_or_default() },
        };
        let without = config::HealthCheck::asking(question);
        let millis = |span: Span| u64::try_from(span.0.as_millis()).unwrap_or(u64::MAX).max(1);
        into.health = config::HealthCheck {
            port,
            interval_ms: interval.map_or(without.interval_ms, millis),
            timeout_ms: timeout.map_or(without.timeout_ms, millis),
            healthy: healthy_threshold.unwrap_or(without.healthy),
            unhealthy: unhealthy_threshold.unwrap_or(without.unhealthy),
            question: without.question,
        };
    }
}
