//! connectconformance: gRPC, gRPC-Web and Connect over HTTP/1.1 and HTTP/2, all four kinds of streams, with trailers,
//! deadlines and compression. Its reference client and server check each other's bytes, and so what is between them.

use super::cache::{Cache, GoModule, Missing};
use super::stand::{Place, Target};
use super::{Score, said};
use anyhow::{Context, Result, bail, ensure};
use std::io::{Read, Write};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use tokio::process::Command;
use tokio::signal::unix::{SignalKind, signal};

/// Of the suite.
pub const VERSION: &str = "1.0.6";
/// Cases of that version with our choice of protocols, codecs and compressions.
pub const CASES: u32 = 1130;
/// Of those, the basic ones.
pub const BASIC_CASES: u32 = 84;
const BASIC: &str = "Basic/**";
/// Protocols, codecs and compressions.
const CONFIG: &str = include_str!("../../judges/connectconformance/conf.yaml");
/// Longest message between the suite and its server; a TLS certificate is the largest part and we use none.
const MESSAGE_BYTES_MAX: usize = 64 * 1024;
/// `ServerCompatRequest.http_version` and its value for HTTP/2.
const HTTP_VERSION: u64 = 2;
const HTTP_2: u64 = 2;
/// `ServerCompatResponse.host` and `.port`.
const HOST: u8 = 1;
const PORT: u8 = 2;

/// Obtains it.
pub fn obtain(cache: &Cache) -> Result<PathBuf, Missing> {
    cache.go(&GoModule {
        name: "connectconformance",
        version: VERSION,
        module: include_str!("../../judges/connectconformance/go.mod"),
        sums: include_str!("../../judges/connectconformance/go.sum"),
        packages: &[
            "connectrpc.com/conformance/cmd/connectconformance",
            "connectrpc.com/conformance/cmd/referenceserver",
        ],
    })
}

/// Judges what lies between both places' apps and entries.
pub async fn judge(folder: &Path, work: &Path, target: &Target, basic: bool) -> Result<Score> {
    let config = work.join("connectconformance.yaml");
    std::fs::write(&config, CONFIG)?;
    let mut command = Command::new(folder.join("connectconformance"));
    // One server at a time: both cores have enough to do, and the apps' addresses are fixed.
    command.args(["--mode", "server", "--max-servers", "1", "--conf"]).arg(&config);
    if basic {
        command.args(["--run", BASIC]);
    }
    command.arg("--").arg(std::env::current_exe()?).arg("connect-server").arg(folder.join("referenceserver"));
    for Place { app, entry, asks } in [target.http1, target.http2] {
        command.arg(format!("{app}={entry}={asks}"));
    }
    read(&said(&mut command).await?)
}

/// `1129 passed, 1 failed`, and a line `FAILED: NAME` for each case.
fn read(output: &str) -> Result<Score> {
    let counts = output.lines().rev().find_map(|line| {
        let (passed, failed) = line.split_once(" passed, ")?;
        Some((passed.trim().parse().ok()?, failed.split_once(" failed")?.0.trim().parse().ok()?))
    });
    let (passed, failed) = counts.with_context(|| format!("it counted nothing: {}", output.trim()))?;
    let name = |line: &str| Some(line.strip_prefix("FAILED: ")?.trim_end_matches(':').to_owned());
    Ok(Score { passed, failed, skipped: 0, failures: output.lines().filter_map(name).collect() })
}

/// What the suite starts as its server: the reference server at the app's place, told to the suite as being at the entry.
/// `places` are those of HTTP/1.1 and HTTP/2, as [`judge`] writes them.
pub async fn serve(reference: &Path, places: &[String]) -> Result<()> {
    let [one, two] = places else { bail!("two places are needed") };
    let asked = message(&mut std::io::stdin())?;
    let http2 = number(&asked, HTTP_VERSION) == Some(HTTP_2);
    let place = parse(if http2 { two } else { one })?;
    let (address, port) = (place.app.ip().to_string(), place.app.port().to_string());
    let (theirs, mut input) = std::io::pipe()?;
    let (mut output, says) = std::io::pipe()?;
    let mut server = Command::new(reference)
        .args(["-bind", &address, "-port", &port])
        .stdin(Stdio::from(theirs))
        .stdout(Stdio::from(says))
        .kill_on_drop(true)
        .spawn()
        .context("the reference server")?;
    input.write_all(&framed(&asked))?;
    // Where it listens, as we told it.
    message(&mut output)?;
    place.reached().await?;
    let mut out = std::io::stdout();
    out.write_all(&framed(&at(place.entry)))?;
    out.flush()?;
    let mut terminated = signal(SignalKind::terminate())?;
    tokio::select! {
        ended = server.wait() => ended.map(drop)?,
        _ = terminated.recv() => server.kill().await?,
    }
    Ok(())
}

fn parse(place: &str) -> Result<Place> {
    let [app, entry, asks] = place.split('=').collect::<Vec<_>>()[..] else { bail!("`{place}` is no place") };
    Ok(Place { app: app.parse()?, entry: entry.parse()?, asks: asks.parse()? })
}

/// Four bytes of length, then a protobuf message.
fn message(from: &mut impl Read) -> Result<Vec<u8>> {
    let mut length = [0; 4];
    from.read_exact(&mut length)?;
    let length = u32::from_be_bytes(length) as usize;
    ensure!(length <= MESSAGE_BYTES_MAX, "a message of {length} bytes");
    let mut bytes = vec![0; length];
    from.read_exact(&mut bytes)?;
    Ok(bytes)
}

fn framed(message: &[u8]) -> Vec<u8> {
    [&(message.len() as u32).to_be_bytes()[..], message].concat()
}

fn at(entry: SocketAddr) -> Vec<u8> {
    let host = entry.ip().to_string();
    let mut bytes = vec![HOST << 3 | 2, host.len() as u8];
    bytes.extend(host.as_bytes());
    bytes.push(PORT << 3);
    let mut port = entry.port();
    while port > 127 {
        bytes.push(port as u8 | 128);
        port >>= 7;
    }
    bytes.push(port as u8);
    bytes
}

/// A number in a protobuf message, by its field; other kinds of fields are passed over.
fn number(message: &[u8], field: u64) -> Option<u64> {
    let mut at = 0;
    let varint = |at: &mut usize| {
        let mut value = 0;
        for shift in (0..64).step_by(7) {
            let byte = *message.get(*at)?;
            *at += 1;
            value |= u64::from(byte & 127) << shift;
            if byte < 128 {
                return Some(value);
            }
        }
        None
    };
    while at < message.len() {
        let key = varint(&mut at)?;
        let value = varint(&mut at)?;
        match key & 7 {
            0 if key >> 3 == field => return Some(value),
            0 => {}
            2 => at = at.checked_add(usize::try_from(value).ok()?)?,
            _ => return None,
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn its_messages_are_read_and_written() {
        // protocol = 2, http_version = 2, client_tls_cert = 3 bytes
        let message = [8, 2, 16, 2, 34, 3, 1, 2, 3];
        assert_eq!((number(&message, 1), number(&message, 2), number(&message, 7)), (Some(2), Some(2), None));
        assert_eq!(number(&message[..5], 9), None);
        assert_eq!(at("1.2.3.4:8080".parse().unwrap()), b"\x0a\x071.2.3.4\x10\x90\x3f");
    }

    #[test]
    fn its_last_count_is_the_score() {
        let score = read("FAILED: Basic/unary:\n\texpected ...\nTotal cases: 84\n83 passed, 1 failed\n").unwrap();
        assert_eq!((score.passed, score.failed), (83, 1));
        assert_eq!(score.failures, ["Basic/unary"]);
        assert!(read("error").is_err());
    }
}
