//! What a proxy asks its app to know whether it is well.

use serde::{Deserialize, Serialize};

/// What a proxy asks its app, and how it takes the answers. Accepting connections is asked for in any case.
#[derive(Clone, Debug, Eq, PartialEq, Serialize, Deserialize)]
pub struct HealthCheck {
    /// What is asked.
    pub question: Question,
    /// The app's port to ask, for all ports; `None`: each port for itself.
    pub port: Option<u16>,
    /// Pause between questions.
    pub interval_ms: u64,
    /// No answer within it is a bad one.
    pub timeout_ms: u64,
    /// Good answers in a row before the app is well.
    pub healthy: u32,
    /// Bad answers in a row before it is not.
    pub unhealthy: u32,
}

/// What is asked.
#[derive(Clone, Debug, Eq, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Question {
    /// Nothing besides whether connections are accepted.
    Tcp,
    /// A request over HTTP.
    Http {
        /// Its method.
        method: String,
        /// Its path and query.
        path: String,
        /// Its `Host`.
        host: String,
        /// Statuses of an app that is well. Empty: 200 to 299.
        statuses: Vec<u16>,
    },
    /// `grpc.health.v1.Health/Check` (<https://github.com/grpc/grpc/blob/master/doc/health-checking.md>).
    Grpc {
        /// About this service; empty: about the server as a whole.
        service: String,
    },
}

impl HealthCheck {
    /// What holds for a question without anything else said: every 10 s, 1 s for an answer, 2 good ones and 3 bad ones in
    /// a row (Kubernetes: every 10 s, 1 s, 1 and 3; Kuma: every 60 s, 15 s, 1 and 5; Envoy has no defaults). Connections
    /// every 5 s.
    pub fn asking(question: Question) -> Self {
        let interval_ms = if question == Question::Tcp { 5_000 } else { 10_000 };
        Self { question, port: None, interval_ms, timeout_ms: 1_000, healthy: 2, unhealthy: 3 }
    }
}

impl Default for HealthCheck {
    fn default() -> Self {
        Self::asking(Question::Tcp)
    }
}
