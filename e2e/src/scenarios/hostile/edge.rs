//! An edge gateway with routes to both apps.

use super::ground::{EDGE_OTHERS_HOST, HOST, UP};
use crate::caller::Caller;
use crate::scenarios::base::Base;
use crate::scenarios::scene::{Start, free, until};
use anyhow::{Context, Result};
use http::Method;
use rustls::ClientConfig;
use rustls_pki_types::ServerName;
use serde_json::json;
use std::net::SocketAddr;
use std::sync::Arc;
use tokio::net::TcpStream;

/// Where an edge gateway listens.
pub struct Edge {
    /// Without TLS.
    pub clear: SocketAddr,
    /// With TLS.
    pub secure: SocketAddr,
    /// What it takes to shake hands there.
    pub tls: (Arc<ClientConfig>, ServerName<'static>),
}

/// Starts it, and waits until it is reached.
pub async fn start(base: &Base) -> Result<Edge> {
    let (clear, secure, proxies) = (free()?, free()?, free()?);
    let made = rcgen::generate_simple_self_signed([HOST.to_owned()])?;
    let certificates = base.scene.path("certificates");
    let folder = certificates.join("shop/public");
    std::fs::create_dir_all(&folder)?;
    std::fs::write(folder.join("tls.key"), made.signing_key.serialize_pem())?;
    std::fs::write(folder.join("tls.crt"), made.cert.pem())?;
    let kind = |kind: &str, name: &str, spec: serde_json::Value| {
        json!({"apiVersion": "gateway.networking.k8s.io/v1", "kind": kind,
            "metadata": {"name": name, "namespace": "shop"}, "spec": spec})
    };
    let route = |host: &str, port: u16| {
        json!({"parentRefs": [{"kind": "Gateway", "name": "public"}], "hostnames": [host],
            "rules": [{"backendRefs": [{"name": "cart", "port": port}]}]})
    };
    let listeners = json!({"listeners": [
        {"name": "http", "port": clear.port(), "protocol": "HTTP"},
        {"name": "https", "port": secure.port(), "protocol": "HTTPS", "tls": {"certificateRefs": [{"name": "public"}]}}]});
    for (path, document) in [
        ("gateways/default/shop/public", kind("Gateway", "public", listeners)),
        ("httproutes/default/shop/attacked", kind("HTTPRoute", "attacked", route(HOST, 8080))),
        ("httproutes/default/shop/others", kind("HTTPRoute", "others", route(EDGE_OTHERS_HOST, 8081))),
    ] {
        base.global.send(Method::PUT, &format!("/resources/{path}"), Some(&document), &[]).await?;
    }
    let workload = json!({"mesh": "default", "namespace": "default", "name": "edge",
        "spec": {"address": "127.0.0.1", "proxyPort": proxies.port(), "role": "EdgeGateway"}});
    let answer = base.west.post("/workloads", &workload).await?;
    let token = base.scene.secret("edge.token", answer["token"].as_str().context("a token")?, None)?;
    let path = |path: &std::path::Path| path.display().to_string();
    let mut args: Vec<String> = Vec::new();
    for (flag, value) in [
        ("--data-dir", path(&base.scene.path("edge"))),
        ("--token-file", path(&token)),
        ("--listen", proxies.to_string()),
        ("--admin-listen", free()?.to_string()),
        ("--ingress-address", clear.ip().to_string()),
        ("--certificates", path(&certificates)),
    ] {
        args.extend([flag.to_owned(), value]);
    }
    base.scene.start("edge", &Start { program: "weft-gateway", args, ..Start::default() })?;
    let caller = Caller::new(clear);
    until("a caller outside reaches the app", UP, async || {
        let reply = caller.get(EDGE_OTHERS_HOST, "/").await;
        anyhow::ensure!(reply.good(), "{}", reply.words());
        TcpStream::connect(secure).await?;
        Ok(true)
    })
    .await?;
    let mut roots = rustls::RootCertStore::empty();
    roots.add(made.cert.der().clone())?;
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions()?;
    let mut config = builder.with_root_certificates(roots).with_no_client_auth();
    config.alpn_protocols = vec![b"h2".to_vec()];
    Ok(Edge { clear, secure, tls: (Arc::new(config), ServerName::try_from(HOST)?) })
}
