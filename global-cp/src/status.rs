//! How global says it is: `/status` and metrics.

use crate::hub::Hub;
use control::{Board, StatusView};
use process::Metrics;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use serde_json::json;
use std::collections::BTreeMap;

/// What `/status` answers.
pub fn view(hub: &Hub, board: &Board) -> StatusView {
    let estranged = hub.estranged();
    let mut sync = BTreeMap::new();
    for uplink in hub.uplinks() {
        let connected = uplink.report.link().borrow().connected;
        let progress = uplink.progress.borrow().clone();
        let channels: BTreeMap<String, _> =
            progress.into_iter().map(|(channel, progress)| (channel, control::status::channel(&progress))).collect();
        sync.insert(uplink.zone.to_string(), json!({"connected": connected, "channels": channels}));
    }
    let headline = estranged.clone().unwrap_or_else(|| board.look().headline);
    StatusView { headline, role: "global", link: None, estranged, sync }
}

/// Registers what is counted about zones.
pub fn metrics(metrics: &Metrics, hub: Hub) {
    metrics.with(|registry| registry.register_collector(Box::new(Zones { hub })));
}

struct Zones {
    hub: Hub,
}

impl std::fmt::Debug for Zones {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Zones")
    }
}

impl Collector for Zones {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), std::fmt::Error> {
        let uplinks = self.hub.uplinks();
        let (mut bytes, mut items, mut connected) = (0, 0, 0);
        for uplink in &uplinks {
            connected += i64::from(uplink.report.link().borrow().connected);
            for progress in uplink.progress.borrow().values() {
                bytes += progress.sent_bytes;
                items += progress.sent_items;
            }
        }
        let kinds = [
            ("weft_sync_sent_bytes", "Payload sent to zones, on streams that are open", bytes),
            ("weft_sync_sent_items", "Items sent to zones, on streams that are open", items),
        ];
        for (name, help, value) in kinds {
            let metric = ConstCounter::new(value);
            metric.encode(encoder.encode_descriptor(name, help, None, metric.metric_type())?)?;
        }
        let zones = i64::try_from(uplinks.len()).unwrap_or(i64::MAX);
        for (name, help, value) in
            [("weft_zones", "Zones that may connect", zones), ("weft_zones_connected", "Zones connected", connected)]
        {
            let metric = ConstGauge::new(value);
            metric.encode(encoder.encode_descriptor(name, help, None, metric.metric_type())?)?;
        }
        Ok(())
    }
}
