//! The nftables script, as text. Pure.

use super::TABLE;
use std::fmt::Write as _;

/// What is to be redirected, and what not.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Plan {
    /// Traffic of this user is the proxy's own.
    pub proxy_uid: u32,
    /// Traffic of these users is left alone too.
    pub exclude_uids: Vec<u32>,
    /// Port of the outbound listener.
    pub outbound_port: u16,
    /// Port of the inbound listener for redirected connections.
    pub inbound_port: u16,
    /// Port of the listener for mutual TLS; what reaches it is for the proxy already.
    pub proxy_port: u16,
    /// Port of the proxy's resolver; `None`: names are not redirected.
    pub dns_port: Option<u16>,
    /// Destination ports of the app that are left alone.
    pub exclude_outbound_ports: Vec<u16>,
    /// Destination ranges of the app that are left alone, IPv4 or IPv6.
    pub exclude_outbound_ranges: Vec<String>,
    /// Ports of the host that are reached as they are.
    pub exclude_inbound_ports: Vec<u16>,
}

impl Default for Plan {
    fn default() -> Self {
        Self {
            proxy_uid: 0,
            exclude_uids: Vec::new(),
            outbound_port: 15_001,
            inbound_port: 15_006,
            proxy_port: 15_008,
            dns_port: Some(15_053),
            exclude_outbound_ports: Vec::new(),
            exclude_outbound_ranges: Vec::new(),
            exclude_inbound_ports: vec![22],
        }
    }
}

/// A connection that was there before the rules is new to the kernel's tracking: its next packet, of either side, would
/// be redirected into nowhere. Only a packet that opens a connection may be.
const FROM_BEFORE: &str = "    tcp flags & (fin | syn | rst | ack) != syn return comment \"connections from before\"";

/// Replaces our table by one with these rules, in one transaction.
pub fn script(plan: &Plan) -> String {
    let Plan {
        proxy_uid,
        exclude_uids,
        outbound_port,
        inbound_port,
        proxy_port,
        dns_port,
        exclude_outbound_ports,
        exclude_outbound_ranges,
        exclude_inbound_ports,
    } = plan;
    let uids = list(std::iter::once(proxy_uid).chain(exclude_uids));
    let mut out = String::new();
    let mut line = |text: &str| {
        let _ = writeln!(out, "{text}");
    };
    line(&format!("add table inet {TABLE}"));
    line(&format!("delete table inet {TABLE}"));
    line(&format!("table inet {TABLE} {{"));
    line("  chain outbound {");
    line("    type nat hook output priority -100; policy accept;");
    line(FROM_BEFORE);
    line(&format!("    meta skuid {{ {uids} }} return comment \"the proxy itself\""));
    if let Some(port) = dns_port {
        line(&format!("    meta l4proto {{ tcp, udp }} th dport 53 redirect to :{port} comment \"names\""));
    }
    line("    oifname \"lo\" return comment \"the app talking to itself\"");
    line("    fib daddr type local return");
    if !exclude_outbound_ports.is_empty() {
        line(&format!("    tcp dport {{ {} }} return", list(exclude_outbound_ports)));
    }
    for (family, v6) in [("ip", false), ("ip6", true)] {
        let ranges: Vec<&str> =
            exclude_outbound_ranges.iter().map(String::as_str).filter(|range| range.contains(':') == v6).collect();
        if !ranges.is_empty() {
            line(&format!("    {family} daddr {{ {} }} return", ranges.join(", ")));
        }
    }
    line(&format!("    meta l4proto tcp redirect to :{outbound_port} comment \"calls of the app\""));
    line("  }");
    line("  chain inbound {");
    line("    type nat hook prerouting priority dstnat; policy accept;");
    line(FROM_BEFORE);
    line("    iifname \"lo\" return");
    line("    fib daddr type != local return comment \"not for this host\"");
    let own = [*proxy_port, *inbound_port, *outbound_port];
    line(&format!("    tcp dport {{ {} }} return", list(own.iter().chain(exclude_inbound_ports))));
    line(&format!("    meta l4proto tcp redirect to :{inbound_port} comment \"calls of others\""));
    line("  }");
    line("}");
    out
}

fn list<'a, T: ToString + 'a>(items: impl IntoIterator<Item = &'a T>) -> String {
    items.into_iter().map(T::to_string).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_proxys_own_traffic_is_left_alone_before_anything_else() {
        let text = script(&Plan { proxy_uid: 998, ..Plan::default() });
        let own = text.find("skuid { 998 }").unwrap();
        assert!(own < text.find("th dport 53").unwrap());
        assert!(own < text.find("redirect to :15001").unwrap());
    }

    #[test]
    fn the_table_is_replaced_as_a_whole() {
        let text = script(&Plan::default());
        assert!(text.starts_with("add table inet weft\ndelete table inet weft\ntable inet weft {"));
        assert_eq!(text.matches('{').count(), text.matches('}').count());
    }

    #[test]
    fn connections_from_before_are_left_alone_in_both_directions() {
        let text = script(&Plan::default());
        let chains: Vec<&str> = text.split("chain ").skip(1).collect();
        assert!(chains.len() == 2 && chains.iter().all(|chain| chain.find(FROM_BEFORE) < chain.find("redirect to")));
    }

    #[test]
    fn exclusions_are_written_by_family() {
        let text = script(&Plan {
            exclude_outbound_ports: vec![5432, 6379],
            exclude_outbound_ranges: vec!["192.0.2.0/24".into(), "2001:db8::/32".into()],
            exclude_inbound_ports: vec![22, 9100],
            exclude_uids: vec![7],
            dns_port: None,
            ..Plan::default()
        });
        for line in [
            "tcp dport { 5432, 6379 } return",
            "ip daddr { 192.0.2.0/24 } return",
            "ip6 daddr { 2001:db8::/32 } return",
            "tcp dport { 15008, 15006, 15001, 22, 9100 } return",
            "meta skuid { 0, 7 } return",
        ] {
            assert!(text.contains(line), "{line}\n{text}");
        }
        assert!(!text.contains("dport 53"));
    }
}
