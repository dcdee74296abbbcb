//! Metrics of a process, as OpenMetrics text. Names are registered in full (`weft_..`), so that a search finds them.

use prometheus_client::collector::Collector;
use prometheus_client::encoding::text::encode;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::{Metric, Registry, Unit};
use std::fmt;
use std::fs;
use std::sync::{Arc, Mutex, PoisonError};

/// Content type of [`Metrics::encode`] (OpenMetrics 1.0, section "Protocol Negotiation").
pub(crate) const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";
/// Clock ticks per second in /proc/PID/stat: USER_HZ, fixed at 100 on every architecture Linux reports it for.
const TICKS_PER_SECOND: f64 = 100.0;

/// The registry of a process. Clones share it.
#[derive(Clone, Debug)]
pub struct Metrics {
    registry: Arc<Mutex<Registry>>,
}

impl Metrics {
    /// With what every process tells about itself: build, memory, CPU time, threads and open files.
    pub fn new(program: &'static str) -> Self {
        let mut registry = Registry::default();
        let build = vec![("program", program), ("version", env!("CARGO_PKG_VERSION"))];
        registry.register("weft_build", "What runs here", Info::new(build));
        registry.register_collector(Box::new(OwnProcess));
        Self { registry: Arc::new(Mutex::new(registry)) }
    }

    /// Registers one metric: a full name without `_total`, a sentence of help, and a (cheap) clone of the metric.
    pub fn register(&self, name: &str, help: &str, metric: impl Metric) {
        self.with(|registry| registry.register(name, help, metric));
    }

    /// Registers many at once, or collectors.
    pub fn with<T>(&self, register: impl FnOnce(&mut Registry) -> T) -> T {
        register(&mut self.registry.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// All metrics as OpenMetrics text.
    pub fn encode(&self) -> String {
        let mut text = String::new();
        self.with(|registry| encode(&mut text, registry)).expect("writing to a string cannot fail");
        text
    }
}

/// Reads /proc at the moment of the scrape.
#[derive(Debug)]
struct OwnProcess;

impl Collector for OwnProcess {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        if let Some(bytes) = status_kib("VmRSS:").map(|kib| kib * 1024) {
            gauge(&mut encoder, "process_resident_memory", "Resident memory", Some(Unit::Bytes), bytes)?;
        }
        if let Some(threads) = status_kib("Threads:") {
            gauge(&mut encoder, "process_threads", "Threads", None, threads)?;
        }
        if let Ok(open) = fs::read_dir("/proc/self/fd") {
            let open = i64::try_from(open.count()).unwrap_or(i64::MAX);
            gauge(&mut encoder, "process_open_fds", "Open file descriptors", None, open)?;
        }
        if let Some(seconds) = cpu_seconds() {
            let metric = ConstCounter::new(seconds);
            let name = "process_cpu";
            let unit = Some(&Unit::Seconds);
            metric.encode(encoder.encode_descriptor(
                name,
                "CPU time, user and system",
                unit,
                metric.metric_type(),
            )?)?;
        }
        Ok(())
    }
}

fn gauge(
    encoder: &mut DescriptorEncoder<'_>,
    name: &str,
    help: &str,
    unit: Option<Unit>,
    value: i64,
) -> Result<(), fmt::Error> {
    let metric = ConstGauge::new(value);
    metric.encode(encoder.encode_descriptor(name, help, unit.as_ref(), metric.metric_type())?)
}

/// The number behind `field` in /proc/self/status.
fn status_kib(field: &str) -> Option<i64> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix(field))?;
    line.split_whitespace().next()?.parse().ok()
}

/// Fields 14 and 15 of /proc/self/stat (proc_pid_stat(5)), counted behind the program name, which may hold spaces.
fn cpu_seconds() -> Option<f64> {
    let stat = fs::read_to_string("/proc/self/stat").ok()?;
    let mut fields = stat.rsplit_once(')')?.1.split_whitespace().skip(11);
    let user: u32 = fields.next()?.parse().ok()?;
    let system: u32 = fields.next()?.parse().ok()?;
    Some((f64::from(user) + f64::from(system)) / TICKS_PER_SECOND)
}

#[cfg(test)]
mod tests {
    use super::*;
    use prometheus_client::metrics::counter::Counter;

    #[test]
    fn a_registered_metric_and_the_process_itself_are_shown() {
        let metrics = Metrics::new("weft-test");
        let puts = Counter::<u64>::default();
        metrics.register("weft_store_puts", "Objects written", puts.clone());
        puts.inc();
        let text = metrics.encode();
        for line in ["weft_store_puts_total 1", "process_resident_memory_bytes ", "process_cpu_seconds_total ", "# EOF"]
        {
            assert!(text.contains(line), "{line} is not in\n{text}");
        }
        assert!(text.contains(r#"program="weft-test""#), "{text}");
    }
}
