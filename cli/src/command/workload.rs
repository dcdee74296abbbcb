//! `weft workload`: asked of the zone's control plane, which is the one that issues identities.

use super::of_zone;
use super::zone::token;
use crate::args::WorkloadCommand;
use crate::client::{Client, escape};
use crate::exit::{Exit, Failure};
use serde_json::{Map, Value, json};

/// Runs it.
pub async fn run(client: &Client, command: WorkloadCommand) -> Result<Exit, Failure> {
    of_zone(client).await?;
    match command {
        WorkloadCommand::Register {
            name,
            address,
            service,
            account,
            ports,
            proxy_port,
            labels,
            gateway,
            edge,
            place,
        } => {
            let ports = ports.iter().map(|port| parse_port(port)).collect::<Result<Vec<Value>, Failure>>()?;
            let mut spec = json!({"address": address, "proxyPort": proxy_port});
            if let Some(service) = service {
                spec["service"] = service.as_str().into();
            }
            if let Some(account) = account {
                spec["account"] = account.as_str().into();
            }
            if !ports.is_empty() {
                spec["ports"] = ports.into();
            }
            if let Some(role) = match (gateway, edge) {
                (true, _) => Some("EastWestGateway"),
                (_, true) => Some("EdgeGateway"),
                _ => None,
            } {
                spec["role"] = role.into();
            }
            let (mesh, namespace) = (place.mesh(), place.namespace());
            let labels = parse_labels(&labels)?;
            let body = json!({"mesh": mesh, "namespace": namespace, "name": name, "labels": labels, "spec": spec});
            let answer = client.post("/workloads", &body).await?;
            let program = if gateway || edge { "weft-gateway" } else { "weft-dataplane" };
            token(&answer, &format!("{program} --token-file FILE ...   # {mesh}/{namespace}/{name}"))
        }
        WorkloadCommand::Token { name, place } => {
            let (mesh, namespace) = (escape(place.mesh()), escape(place.namespace()));
            let answer = client.post(&format!("/workloads/{mesh}/{namespace}/{name}/token"), &json!({})).await?;
            token(&answer, &format!("weft-dataplane --token-file FILE ...   # {mesh}/{namespace}/{name}"))
        }
    }
}

/// `8080`, `8080:http`, `8080:grpc:9090` (the last one is the app's own port).
fn parse_port(text: &str) -> Result<Value, Failure> {
    let wrong = |why: &str| {
        Failure::usage(format!("--port {text}: {why}"))
            .hint("write PORT, PORT:PROTOCOL or PORT:PROTOCOL:APP-PORT, with protocol http, http2, grpc or tcp")
    };
    let number = |text: &str| {
        text.parse::<u16>().ok().filter(|port| *port > 0).ok_or_else(|| wrong("a port is a number between 1 and 65535"))
    };
    let parts: Vec<&str> = text.split(':').collect();
    let (port, protocol, target) = match parts[..] {
        [port] => (port, "http", None),
        [port, protocol] => (port, protocol, None),
        [port, protocol, target] => (port, protocol, Some(target)),
        _ => return Err(wrong("too many parts")),
    };
    if !["http", "http2", "grpc", "tcp"].contains(&protocol) {
        return Err(wrong("that is no protocol"));
    }
    let mut value = json!({"port": number(port)?, "appProtocol": protocol});
    if let Some(target) = target {
        value["target"] = number(target)?.into();
    }
    Ok(value)
}

fn parse_labels(given: &[String]) -> Result<Map<String, Value>, Failure> {
    given
        .iter()
        .map(|label| match label.split_once('=') {
            Some((name, value)) if !name.is_empty() => Ok((name.to_owned(), Value::from(value))),
            _ => Err(Failure::usage(format!("--label {label}: expected KEY=VALUE"))),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_read_as_they_are_written() {
        assert_eq!(parse_port("8080").unwrap(), json!({"port": 8080, "appProtocol": "http"}));
        assert_eq!(parse_port("80:tcp:8080").unwrap(), json!({"port": 80, "appProtocol": "tcp", "target": 8080}));
        for wrong in ["", "0", "99999", "80:udp", "80:tcp:x", "1:tcp:2:3"] {
            assert_eq!(parse_port(wrong).unwrap_err().exit, Exit::Usage, "{wrong}");
        }
    }

    #[test]
    fn labels_have_a_key_and_a_value() {
        assert_eq!(parse_labels(&["app=web".into()]).unwrap()["app"], "web");
        assert!(parse_labels(&["app".into()]).is_err());
    }
}
