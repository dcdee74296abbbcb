//! What compiles, what is kept from before, and what is refused.

use super::*;
use serde_json::json;

fn cart() -> ServiceRef {
    serde_json::from_value(json!({"mesh": "default", "namespace": "shop", "name": "cart"})).unwrap()
}

fn outbound(rule: &str) -> Bytes {
    let rule = OutboundRule {
        name: rule.into(),
        matches: Vec::new(),
        filters: Vec::new(),
        backends: Vec::new(),
        timeouts: Timeouts::default(),
        retry: Retry::default(),
        faults: Default::default(),
        mirrors: Vec::new(),
    };
    let ports = vec![OutboundPort { port: 80, protocol: Protocol::Http, rules: vec![rule] }];
    let hosts = vec!["cart.shop.mesh".into(), "Shop.Example".into()];
    let outbound = Outbound {
        service: cart(),
        hosts,
        ports,
        balancing: Balancing::default(),
        breaker: Default::default(),
        external: None,
    };
    serde_json::to_vec(&outbound).unwrap().into()
}

fn endpoints(zone: &str, ready: bool) -> (Arc<str>, Bytes) {
    let zone: ZoneName = zone.parse().unwrap();
    let endpoint = json!({"workload": "cart-1", "address": "127.0.0.1:1", "identity": "spiffe://west.default/ns/shop/sa/cart",
        "weight": 1, "ready": ready, "place": {}});
    let set = json!({"service": cart(), "zone": zone, "place": {"local": [endpoint]}});
    (item::endpoints(&cart(), &zone).into(), serde_json::to_vec(&set).unwrap().into())
}

#[test]
fn a_host_leads_to_its_service_with_or_without_zone() {
    let items = Items::from([(item::outbound(&cart()).into(), outbound("default")), endpoints("west", true)]);
    let (running, wrong) = Compiler::default().compile(&items);
    assert!(wrong.is_empty());
    for (host, zone) in [
        ("cart.shop.mesh", Some(None)),
        ("CART.shop.mesh.", Some(None)),
        ("shop.example", Some(None)),
        ("cart.shop.west.mesh", Some(Some("west"))),
        ("cart.shop.east.mesh", None),
        ("other.shop.mesh", None),
        ("", None),
    ] {
        let found = running.by_host(host).map(|(_, zone)| zone.map(|zone| zone.to_string()));
        assert_eq!(found, zone.map(|zone: Option<&str>| zone.map(str::to_owned)), "{host}");
    }
}

#[test]
fn what_did_not_change_stays_the_same_object() {
    let mut compiler = Compiler::default();
    let mut items = Items::from([(item::outbound(&cart()).into(), outbound("default")), endpoints("west", true)]);
    let first = compiler.compile(&items).0;
    items.insert(item::outbound(&cart()).into(), outbound("other"));
    let second = compiler.compile(&items).0;
    assert!(Arc::ptr_eq(&first.places[&cart()], &second.places[&cart()]), "a route says nothing about endpoints");
    assert_eq!(second.services[&cart()].ports[&80].rules[0].name, "other");
    items.extend([endpoints("west", false)]);
    let third = compiler.compile(&items).0;
    assert!(!Arc::ptr_eq(&second.places[&cart()], &third.places[&cart()]));
    assert_eq!((second.places[&cart()].ready(None), third.places[&cart()].ready(None)), (1, 0));
    items.insert("outbound/default/shop/cart".into(), {
        let text = String::from_utf8(outbound("other").to_vec()).unwrap();
        text.replace("\"port\":80", "\"port\":81").into_bytes().into()
    });
    let fourth = compiler.compile(&items).0;
    let empty = Running::default();
    let steps = [(&empty, &first, true), (&first, &second, false), (&second, &third, true), (&third, &fourth, true)];
    for (number, (before, after, moves)) in steps.into_iter().enumerate() {
        assert_eq!((after.moves(before), before.moves(after)), (moves, moves), "step {number}");
    }
}

#[test]
fn an_item_that_cannot_run_is_told() {
    assert!(check("outbound/default/shop/cart", b"{}").is_err());
    assert!(check("newer/kind", b"anything").is_ok());
    assert!(check("inbound", b"not json").unwrap_err().contains("cannot be read"));
}

#[test]
fn weights_split_and_a_backend_without_endpoints_gives_its_share_away() {
    let backend = |port, weight| Backend { service: cart(), port, zone: None, weight };
    let backends = [backend(1, 90), backend(2, 10), backend(3, 0)];
    let share = |ready: &dyn Fn(&Backend) -> bool| {
        let mut got = [0; 4];
        for i in 0..1000 {
            got[usize::from(split(&backends, ready, f64::from(i) / 1000.0).unwrap().port)] += 1;
        }
        (got[1], got[2], got[3])
    };
    assert_eq!(share(&|_| true), (900, 100, 0));
    assert_eq!(share(&|b| b.port != 1), (0, 1000, 0));
    assert_eq!(share(&|_| false), (900, 100, 0));
    assert_eq!(split(&[backend(1, 0)], |_| true, 0.5), None);
    assert_eq!(split(&[], |_| true, 0.5), None);
}

#[test]
fn what_the_fuzzer_begins_with_is_what_a_control_plane_sends() {
    let seeds: [(&str, &[u8]); 3] = [
        ("inbound", include_bytes!("../../fuzz/seeds/config/inbound")),
        ("outbound/default/shop/cart", include_bytes!("../../fuzz/seeds/config/outbound")),
        ("endpoints/default/shop/cart/west", include_bytes!("../../fuzz/seeds/config/endpoints")),
    ];
    for (key, seed) in seeds {
        // The first byte says which of the keys it is for.
        assert_eq!(super::check(key, &seed[1..]), Ok(()), "{key}");
    }
}
