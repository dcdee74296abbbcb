//! Traffic from outside: listeners of Gateways, whose requests go on as those of a sidecar's app do.
//!
//! An edge gateway is a workload of its mesh: it calls services with an identity of its own, which Authorization sees
//! like any other. What callers outside say of themselves and of others is taken away before anything is decided.

pub mod certificates;
pub mod listeners;
pub mod serve;
pub mod table;

use super::sources::Sources;
use certificates::Certificates;
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};

/// What all workers of an edge gateway share.
pub struct Ingress {
    /// Address on which ports are opened.
    pub address: IpAddr,
    /// What callers are shown.
    pub certificates: Certificates,
    sources: Sources,
}

impl Ingress {
    /// Opens ports on `address`; certificates are below `folder`.
    pub fn new(address: IpAddr, folder: PathBuf) -> Self {
        Self { address, certificates: Certificates::new(folder), sources: Sources::default() }
    }
}

/// Why listeners are not served, or not as written: what is wrong, in words, by `port PORT` or `certificate NAME`.
#[derive(Debug, Default)]
pub struct Problems(Mutex<BTreeMap<String, String>>);

impl Problems {
    /// Sets or takes away what is said of one thing. True: that was news.
    pub fn set(&self, about: &str, what: Option<String>) -> bool {
        let mut held = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match what {
            None => held.remove(about).is_some(),
            Some(what) if held.get(about) == Some(&what) => false,
            Some(what) => {
                tracing::warn!(about, what, "a listener is not served as written");
                held.insert(about.to_owned(), what);
                true
            }
        }
    }

    /// Forgets what is not about any of these.
    pub fn keep(&self, about: impl Fn(&str) -> bool) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).retain(|name, _| about(name));
    }

    /// What is wrong, by `MESH/NAMESPACE/GATEWAY/LISTENER`.
    pub fn of(&self, running: &crate::compile::Running) -> BTreeMap<String, String> {
        let held = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let mut problems = BTreeMap::new();
        for host in running.listeners.values().flat_map(|listener| listener.hosts()) {
            let certificate = host.certificate.as_ref().map(|name| about_certificate(name));
            let about = [Some(about_port(host.port)), certificate].into_iter().flatten();
            let found: Vec<&str> = about.filter_map(|about| held.get(&about).map(String::as_str)).collect();
            if !found.is_empty() {
                problems.insert(format!("{}/{}", host.gateway, host.listener), found.join("; "));
            }
        }
        problems
    }
}

fn about_port(port: u16) -> String {
    format!("port {port}")
}

fn about_certificate(name: &str) -> String {
    format!("certificate {name}")
}
