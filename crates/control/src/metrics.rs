//! What both control planes count.

use process::Metrics;
use prometheus_client::metrics::histogram::Histogram;

/// Seconds from a write to the last acknowledgement: from a loopback hop to a slow zone.
const BUCKETS: [f64; 10] = [0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0];

/// Registers `weft_convergence_seconds`; the answer records one value.
pub fn convergence(metrics: &Metrics) -> Box<dyn Fn(f64) + Send + Sync> {
    let histogram = Histogram::new(BUCKETS);
    let help = "Time from a write until every proxy it is for acknowledged it";
    metrics.register("weft_convergence_seconds", help, histogram.clone());
    Box::new(move |seconds| histogram.observe(seconds))
}
