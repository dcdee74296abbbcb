//! Counters in the form Prometheus reads.

use crate::edge::gateway::Edge;
use crate::http::refused;
use crate::outbound::breaker::Limit;
use crate::record::{BUCKETS_US, Count, Series};
use crate::state::State;
use api::config::ServiceRef;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, MetricEncoder, NoLabelSet};
use prometheus_client::metrics::MetricType;
use prometheus_client::registry::Unit;
use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

/// Collects at each scrape.
pub struct Traffic {
    state: Arc<State>,
    edge: Option<Arc<Edge>>,
}

impl Traffic {
    /// Of this proxy.
    pub fn new(state: Arc<State>, edge: Option<Arc<Edge>>) -> Self {
        Self { state, edge }
    }
}

impl fmt::Debug for Traffic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Traffic")
    }
}

impl Collector for Traffic {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let sum = self.state.counters.sum();
        let mut requests =
            encoder.encode_descriptor("weft_requests", "Requests and connections", None, MetricType::Counter)?;
        for (series, count) in &sum {
            each(&mut requests, series, true, |mut one| {
                one.encode_counter::<NoLabelSet, u64, u64>(&count.requests, None)
            })?;
        }
        // Without the code: a histogram a code would be too many series.
        let mut merged: BTreeMap<Series, Count> = BTreeMap::new();
        for (series, count) in &sum {
            merged.entry(Series { code: 0, ..series.clone() }).or_default().merge(count);
        }
        let unit = Some(&Unit::Seconds);
        let help = "Time to the head of the answer";
        let mut latency = encoder.encode_descriptor("weft_request_duration", help, unit, MetricType::Histogram)?;
        for (series, count) in &merged {
            let bounds = BUCKETS_US.iter().map(|us| *us as f64 / 1e6).chain([f64::INFINITY]);
            let buckets: Vec<(f64, u64)> = bounds.zip(count.buckets).collect();
            each(&mut latency, series, false, |mut one| {
                one.encode_histogram::<NoLabelSet>(count.latency_us as f64 / 1e6, count.requests, &buckets, None)
            })?;
        }
        let mut denied =
            encoder.encode_descriptor("weft_denied", "Requests refused by policy", None, MetricType::Counter)?;
        for (policy, count) in self.state.counters.denials() {
            denied.encode_family(&[("policy", policy)])?.encode_counter::<NoLabelSet, u64, u64>(&count, None)?;
        }
        let help = "Answers of services whose body ended before its end";
        let mut cut = encoder.encode_descriptor("weft_answers_cut", help, None, MetricType::Counter)?;
        for ((service, reason), count) in self.state.counters.cuts() {
            let labels = [("service", service.to_string()), ("reason", reason.to_string())];
            cut.encode_family(&labels)?.encode_counter::<NoLabelSet, u64, u64>(&count, None)?;
        }
        self.breakers(&mut encoder)?;
        let help = "What was refused before it was a request";
        let mut refused = encoder.encode_descriptor("weft_refused", help, None, MetricType::Counter)?;
        for (why, count) in refused::all() {
            refused.encode_family(&[("why", why)])?.encode_counter::<NoLabelSet, u64, u64>(&count, None)?;
        }
        let counters = [
            ("weft_config_swaps", "Configurations this proxy has begun to run", self.state.swaps()),
            (
                "weft_connections_refused",
                "Connections closed for want of memory or files",
                self.state.overload.refused_connections(),
            ),
            ("weft_certificate_renewals", "Certificates this proxy has got", self.state.credentials.replacements()),
        ];
        for (name, help, count) in counters {
            let mut counter = encoder.encode_descriptor(name, help, None, MetricType::Counter)?;
            counter.encode_counter::<NoLabelSet, u64, u64>(&count, None)?;
        }
        if let Some(edge) = &self.edge {
            let help = "Connections relayed to workloads";
            let mut relayed = encoder.encode_descriptor("weft_gateway_relayed", help, None, MetricType::Counter)?;
            relayed.encode_counter::<NoLabelSet, u64, u64>(&edge.relayed(), None)?;
            let help = "Connections refused";
            let mut refused = encoder.encode_descriptor("weft_gateway_refused", help, None, MetricType::Counter)?;
            for (why, count) in edge.refusals() {
                refused.encode_family(&[("why", why)])?.encode_counter::<NoLabelSet, u64, u64>(&count, None)?;
            }
        }
        Ok(())
    }
}

impl Traffic {
    fn breakers(&self, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let breakers = self.state.breakers.all();
        let labels = |service: &ServiceRef, limit: Limit| {
            [("service", service.to_string()), ("limit", limit.as_str().to_owned())]
        };
        let help = "What calls to a service have in use, as circuit breakers count it";
        let mut used = encoder.encode_descriptor("weft_breaker_used", help, None, MetricType::Gauge)?;
        for (service, breaker) in &breakers {
            for limit in Limit::ALL {
                used.encode_family(&labels(service, limit))?.encode_gauge(&breaker.used(limit))?;
            }
        }
        let help = "Refused by a circuit breaker";
        let mut refused = encoder.encode_descriptor("weft_breaker_refused", help, None, MetricType::Counter)?;
        for (service, breaker) in &breakers {
            for limit in Limit::ALL {
                let count = breaker.refused(limit);
                refused.encode_family(&labels(service, limit))?.encode_counter::<NoLabelSet, u64, u64>(&count, None)?;
            }
        }
        Ok(())
    }
}

fn each(
    encoder: &mut MetricEncoder<'_>,
    series: &Series,
    with_code: bool,
    encode: impl FnOnce(MetricEncoder<'_>) -> fmt::Result,
) -> fmt::Result {
    let Series { direction, service, zone, code, reason } = series;
    let mut labels = vec![
        ("direction", direction.as_str().to_owned()),
        ("service", service.as_ref().map_or_else(|| "other".to_owned(), ToString::to_string)),
        ("zone", zone.as_ref().map(ToString::to_string).unwrap_or_default()),
        ("reason", reason.to_string()),
    ];
    if with_code {
        labels.push(("code", code.to_string()));
    }
    encode(encoder.encode_family(&labels)?)
}
