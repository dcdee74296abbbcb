//! `weft-scenarios plain ...`: programs that know nothing of a mesh, run inside a namespace. They use the system's
//! resolver and ordinary sockets; each prints one JSON line a finding.
//!
//! `get URL`, `load URL RATE`, `echo HOST:PORT TEXT`, `resolve NAME`, `names ADDRESS`: a DNS server that knows one
//! address for every name, and `ledger ADDRESS FILE`: an app that writes orders down.

use crate::caller::Caller;
use anyhow::{Context, Result, bail};
use serde_json::{Value, json};
use std::net::{Ipv4Addr, SocketAddr};
use std::process::ExitCode;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UdpSocket, lookup_host};
use tokio::time::{MissedTickBehavior, timeout};

/// What the DNS server answers to everything (RFC 5737: documentation).
pub const ELSEWHERE: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 53);
/// An answer over TCP.
const ECHO_WAIT: Duration = Duration::from_secs(5);
/// Longest question without EDNS (RFC 1035 section 4.2.1).
const QUESTION_BYTES_MAX: usize = 512;

/// Runs one of them.
pub async fn run(args: &[&str]) -> ExitCode {
    let done = match args {
        ["get", url] => get(url).await,
        ["load", url, rate] => load(url, rate).await,
        ["echo", to, text] => echo(to, text).await,
        ["resolve", name] => resolve(name).await,
        ["names", address] => names(address).await,
        ["ledger", address, file] => super::steady::ledger::serve(address, file).await,
        _ => Err(anyhow::anyhow!("no such program: {args:?}")),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            println!("{}", json!({"error": format!("{error:#}")}));
            ExitCode::FAILURE
        }
    }
}

/// Host, its first address, and path of `http://HOST:PORT/PATH`.
async fn target(url: &str) -> Result<(String, SocketAddr, String)> {
    let uri: http::Uri = url.parse()?;
    let host = uri.host().context("a URL with a host")?.to_owned();
    let port = uri.port_u16().unwrap_or(80);
    let address = first(&format!("{host}:{port}")).await?;
    Ok((format!("{host}:{port}"), address, uri.path().to_owned()))
}

async fn first(host: &str) -> Result<SocketAddr> {
    let mut found = lookup_host(host).await.with_context(|| format!("resolving {host}"))?;
    found.find(SocketAddr::is_ipv4).with_context(|| format!("{host} has no address"))
}

async fn get(url: &str) -> Result<()> {
    let (host, address, path) = target(url).await?;
    let reply = Caller::new(address).get(&host, &path).await;
    println!("{}", told(&reply, &json!({"address": address.to_string()})));
    Ok(())
}

fn told(reply: &crate::caller::Reply, more: &Value) -> Value {
    let mut line = json!({
        "status": reply.status, "zone": reply.zone, "workload": reply.workload, "peer": reply.peer,
        "reason": reply.reason, "body": reply.body, "error": reply.error,
    });
    for (name, value) in more.as_object().into_iter().flatten() {
        line[name] = value.clone();
    }
    line
}

/// Open loop, over connections that stay, until the process is ended.
async fn load(url: &str, rate: &str) -> Result<()> {
    let (host, address, path) = target(url).await?;
    let caller = Caller::new(address);
    let mut tick = tokio::time::interval(Duration::from_secs(1) / rate.parse::<u32>()?);
    tick.set_missed_tick_behavior(MissedTickBehavior::Burst);
    loop {
        tick.tick().await;
        let (caller, host, path) = (caller.clone(), host.clone(), path.clone());
        tokio::spawn(async move {
            let (at, since) = (unix_ms(), Instant::now());
            let reply = caller.get(&host, &path).await;
            let took = since.elapsed().as_millis() as u64;
            println!("{}", told(&reply, &json!({"at": at, "tookMs": took})));
        });
    }
}

/// Milliseconds since 1970.
pub fn unix_ms() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as u64)
}

async fn echo(to: &str, text: &str) -> Result<()> {
    let address = first(to).await?;
    let back = timeout(ECHO_WAIT, async {
        let mut stream = TcpStream::connect(address).await?;
        stream.write_all(text.as_bytes()).await?;
        stream.shutdown().await?;
        let mut back = String::new();
        stream.read_to_string(&mut back).await?;
        anyhow::Ok(back)
    });
    let back = back.await.context("no answer in time")??;
    println!("{}", json!({"address": address.to_string(), "back": back}));
    Ok(())
}

async fn resolve(name: &str) -> Result<()> {
    let found = lookup_host((name, 0)).await.with_context(|| format!("resolving {name}"))?;
    let addresses: Vec<String> = found.map(|address| address.ip().to_string()).collect();
    println!("{}", json!({ "addresses": addresses }));
    Ok(())
}

/// Answers every question for an address with [`ELSEWHERE`], and every other with nothing.
async fn names(address: &str) -> Result<()> {
    let socket = UdpSocket::bind(address).await?;
    let mut bytes = [0; QUESTION_BYTES_MAX];
    loop {
        let (length, from) = socket.recv_from(&mut bytes).await?;
        if let Ok(answer) = answered(&bytes[..length]) {
            socket.send_to(&answer, from).await?;
        }
    }
}

fn answered(question: &[u8]) -> Result<Vec<u8>> {
    const HEADER: usize = 12;
    const TYPE_A: [u8; 2] = [0, 1];
    let mut end = HEADER;
    while *question.get(end).context("a whole name")? != 0 {
        end += 1 + usize::from(question[end]);
    }
    let Some(kind) = question.get(end + 1..end + 3) else { bail!("a name without a type") };
    let is_address = kind == TYPE_A;
    let mut answer = question[..2].to_vec();
    // Response, recursion available; one question; one answer or none.
    answer.extend([0x81, 0x80, 0, 1, 0, u8::from(is_address), 0, 0, 0, 0]);
    answer.extend(question.get(HEADER..end + 5).context("a whole question")?);
    if is_address {
        // The name by a pointer to the question, type A, class IN, 5 s, 4 bytes.
        answer.extend([0xc0, HEADER as u8, 0, 1, 0, 1, 0, 0, 0, 5, 0, 4]);
        answer.extend(ELSEWHERE.octets());
    }
    Ok(answer)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_has_one_address_and_nothing_else() {
        let mut question = vec![7, 7, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0, 2, b'a', b'b', 0, 0, 1, 0, 1];
        let answer = answered(&question).unwrap();
        assert_eq!((answer[7], &answer[answer.len() - 4..]), (1, &[192, 0, 2, 53][..]));
        question[17] = 28;
        assert_eq!(answered(&question).unwrap()[7], 0);
        assert!(answered(&question[..14]).is_err());
    }
}
