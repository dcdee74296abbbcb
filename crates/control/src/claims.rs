//! What a zone may say of itself. Whatever it publishes is held against the name in its certificate, so a zone can
//! neither offer another zone's services nor vouch for another's identities.

use crate::documents::parse;
use api::config::Trust;
use api::name::TrustDomain;
use api::object::Owner;
use api::report::{GatewayExport, PolicyReport, ServiceExport, Source, ZoneReport, item};
use api::{SpiffeId, ZoneName};
use bytes::Bytes;
use serde::de::DeserializeOwned;

/// Judges items of the `exports` view of a zone.
pub fn export(zone: &ZoneName, key: &str, payload: &Bytes) -> Result<(), String> {
    if key == item::SOURCE {
        return read::<Source>(payload).map(drop);
    }
    if let Some(named) = key.strip_prefix(item::EXPORT) {
        let export: ServiceExport = read(payload)?;
        if export.service.to_string() != named {
            return Err(format!("the item is named {named} and speaks about {}", export.service));
        }
        let domain = TrustDomain::workloads(zone, &export.service.mesh);
        return match export.identities.iter().find(|id| *id.trust_domain() != domain) {
            Some(foreign) => Err(foreign_identity(zone, foreign)),
            None => Ok(()),
        };
    }
    if let Some(named) = key.strip_prefix(item::TRUST) {
        let trust: Trust = read(payload)?;
        if trust.domain.as_str() != named {
            return Err(format!("the item is named {named} and speaks about {}", trust.domain));
        }
        let own = trust.domain == TrustDomain::zone_control(zone)
            || trust.domain.zone_and_mesh().is_some_and(|(of, _)| of == *zone);
        return if own { Ok(()) } else { Err(format!("zone {zone} may not vouch for trust domain {named}")) };
    }
    if key.starts_with(item::GATEWAY) {
        return read::<GatewayExport>(payload).map(drop);
    }
    // A newer zone may say more than we understand; it harms nobody.
    Ok(())
}

/// Judges items of the `report` view of a zone.
pub fn report(zone: &ZoneName, key: &str, payload: &Bytes) -> Result<(), String> {
    if key == item::ZONE {
        return read::<ZoneReport>(payload).map(drop);
    }
    if key.starts_with(item::POLICY) {
        return read::<PolicyReport>(payload).map(drop);
    }
    let Some(named) = key.strip_prefix(item::OBJECT) else { return Ok(()) };
    let (key, object) = parse(named, payload)?;
    if key.zone.as_ref() != Some(zone) {
        return Err(format!("zone {zone} may not publish {key}, which is not its own"));
    }
    if crate::objects::key_of(&object).as_ref() != Some(&key) {
        return Err(format!("the item is named {key} and holds another object"));
    }
    match policy::kind(&key.kind) {
        Some(kind) if kind.owner == Owner::Global => Err(format!("{} is written at global only", key.kind)),
        _ => Ok(()),
    }
}

fn read<T: DeserializeOwned>(payload: &Bytes) -> Result<T, String> {
    serde_json::from_slice(payload).map_err(|error| format!("it does not read: {error}"))
}

fn foreign_identity(zone: &ZoneName, id: &SpiffeId) -> String {
    format!("zone {zone} may not offer identity {id}, which is of another trust domain")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::documents::payload;
    use serde_json::json;

    #[test]
    fn a_zone_speaks_for_itself_only() {
        let zone: ZoneName = "east".parse().unwrap();
        let service = json!({"mesh": "default", "namespace": "shop", "name": "cart"});
        let offer = |id: &str| json!({"service": service, "ports": [], "ready": 1, "total": 1, "weight": 1, "load": null, "identities": [id]});
        let trust = |domain: &str| json!({"domain": domain, "anchors": [], "sequence": 1});
        for (key, value, accepted) in [
            ("export/default/shop/cart", offer("spiffe://east.default/ns/shop/sa/cart"), true),
            ("export/default/shop/cart", offer("spiffe://west.default/ns/shop/sa/cart"), false),
            ("export/default/shop/cart", offer("spiffe://east.other/ns/shop/sa/cart"), false),
            ("export/default/shop/other", offer("spiffe://east.default/ns/shop/sa/cart"), false),
            ("trust/east.default", trust("east.default"), true),
            ("trust/east.control", trust("east.control"), true),
            ("trust/west.default", trust("west.default"), false),
            ("trust/east.default", trust("west.default"), false),
            ("trust/global.control", trust("global.control"), false),
            ("gateway/gw", json!({"name": "gw", "address": "127.0.0.1:1", "ready": true}), true),
            ("gateway/gw", json!({"name": "gw"}), false),
            ("source", json!({"history": 1, "revision": 2}), true),
        ] {
            assert_eq!(export(&zone, key, &payload(&value)).is_ok(), accepted, "{key} {value}");
        }
    }

    #[test]
    fn a_zone_reports_its_own_objects_only() {
        let zone: ZoneName = "east".parse().unwrap();
        let object = |kind: &str, of: &str| {
            let spec = if kind == "Mesh" { json!({}) } else { json!({"address": "10.0.0.1"}) };
            json!({"apiVersion": "weft.dev/v1", "kind": kind, "spec": spec,
                "metadata": {"name": "a", "namespace": "shop", "labels": {"weft.dev/zone": of}}})
        };
        for (key, value, accepted) in [
            ("object/Workload/default/east/shop/a", object("Workload", "east"), true),
            ("object/Workload/default/west/shop/a", object("Workload", "west"), false),
            ("object/Workload/default/east/shop/a", object("Workload", "west"), false),
            ("object/Mesh/-/-/-/a", object("Mesh", "east"), false),
        ] {
            assert_eq!(report(&zone, key, &payload(&value)).is_ok(), accepted, "{key}");
        }
    }
}
