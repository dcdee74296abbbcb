//! One run: warm up, load, and what the proxies spent.

use crate::peers::{BACKEND, BODY_BYTES, ENTRY_CONNECTIONS, LOAD_CORE, Proxies};
use anyhow::{Context as _, Result, bail};
use serde::Serialize;
use std::fs;
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::process::Command;
use std::time::Duration;

/// Connections whose memory is looked at.
pub const MANY: usize = 1_000;
/// An answer to one request on an idle machine.
const ANSWER_MAX: Duration = Duration::from_secs(10);

/// Figures of one run.
#[derive(Clone, Debug, Serialize)]
pub struct Measured {
    /// CPU seconds of all proxies per 100,000 requests.
    pub cpu_s_per_100k: f64,
    /// Requests a second.
    pub rate: f64,
    /// Microseconds.
    pub p50_us: f64,
    /// Microseconds.
    pub p99_us: f64,
    /// Answers that were no success, and connections that broke.
    pub bad: u64,
    /// Resident memory of all proxies before the load, MiB.
    pub idle_mib: f64,
    /// With [`MANY`] connections of callers, each of which has had one answer; before the load, too.
    pub many_mib: f64,
    /// After the load.
    pub loaded_mib: f64,
}

/// Memory of proxies that have served no load yet.
#[derive(Clone, Copy, Debug)]
pub struct Calm {
    idle_mib: f64,
    many_mib: f64,
}

/// Waits for `proxies`, looks at their memory, and warms them up.
pub fn prepare(proxies: &Proxies) -> Result<Calm> {
    proxies.wait_ready()?;
    let idle_mib = resident_mib(&proxies.pids);
    let many_mib = many(proxies)?;
    wrk(proxies, 1)?;
    Ok(Calm { idle_mib, many_mib })
}

/// Loads the entry of `proxies` for `seconds`.
pub fn load(proxies: &Proxies, seconds: u32, calm: Calm) -> Result<Measured> {
    let Calm { idle_mib, many_mib } = calm;
    let before = cpu_seconds(&proxies.pids);
    let seen = wrk(proxies, seconds)?;
    let spent = cpu_seconds(&proxies.pids) - before;
    if seen.requests == 0 {
        bail!("no request was answered");
    }
    Ok(Measured {
        cpu_s_per_100k: spent / seen.requests as f64 * 100_000.0,
        rate: seen.rate,
        p50_us: seen.p50_us,
        p99_us: seen.p99_us,
        bad: seen.bad,
        idle_mib,
        many_mib,
        loaded_mib: resident_mib(&proxies.pids),
    })
}

/// Memory of all proxies while many connections are open and idle.
fn many(proxies: &Proxies) -> Result<f64> {
    let files = nix::sys::resource::Resource::RLIMIT_NOFILE;
    let (_, most) = nix::sys::resource::getrlimit(files)?;
    nix::sys::resource::setrlimit(files, most, most)?;
    let mut open = Vec::with_capacity(MANY);
    let request = format!("GET / HTTP/1.1\r\nHost: {}\r\n\r\n", proxies.host);
    for number in 0..MANY {
        let mut stream = TcpStream::connect(proxies.entry)?;
        stream.set_read_timeout(Some(ANSWER_MAX))?;
        stream.write_all(request.as_bytes())?;
        let (mut answer, mut buffer) = (Vec::new(), [0; 4096]);
        let whole = |answer: &[u8]| {
            let head = answer.windows(4).position(|end| end == b"\r\n\r\n");
            head.is_some_and(|at| answer.len() - at - 4 >= BODY_BYTES)
        };
        while !whole(&answer) {
            let count = stream.read(&mut buffer).with_context(|| format!("connection {number} had no answer"))?;
            if count == 0 {
                bail!("connection {number} was closed: {}", String::from_utf8_lossy(&answer));
            }
            answer.extend_from_slice(&buffer[..count]);
        }
        open.push(stream);
    }
    Ok(resident_mib(&proxies.pids))
}

struct Seen {
    requests: u64,
    rate: f64,
    p50_us: f64,
    p99_us: f64,
    bad: u64,
}

fn wrk(proxies: &Proxies, seconds: u32) -> Result<Seen> {
    let out = Command::new("taskset")
        .args(["-c", LOAD_CORE, "wrk", "-t1", &format!("-c{ENTRY_CONNECTIONS}"), &format!("-d{seconds}s"), "--latency"])
        .args(["-H", &format!("Host: {}", proxies.host)])
        .arg(format!("http://{}/", proxies.entry))
        .output()
        .context("wrk did not start")?;
    parse_wrk(&String::from_utf8_lossy(&out.stdout)).with_context(|| {
        format!(
            "wrk said something unexpected:\n{}{}",
            String::from_utf8_lossy(&out.stdout),
            String::from_utf8_lossy(&out.stderr)
        )
    })
}

fn parse_wrk(text: &str) -> Option<Seen> {
    let line = |mark: &str| text.lines().map(str::trim).find(|line| line.contains(mark));
    let number = |text: &str| text.trim().parse::<f64>().ok();
    let latency = |mark: &str| {
        let value = text.lines().map(str::trim).find_map(|line| line.strip_prefix(mark))?.trim().to_owned();
        let split = value.find(|c: char| c.is_ascii_alphabetic())?;
        let factor = match &value[split..] {
            "us" => 1.0,
            "ms" => 1e3,
            "s" => 1e6,
            _ => return None,
        };
        Some(number(&value[..split])? * factor)
    };
    let requests = line(" requests in ")?.split_whitespace().next()?.parse().ok()?;
    let errors: u64 = line("Socket errors:")
        .map(|line| line.split(|c: char| !c.is_ascii_digit()).filter_map(|n| n.parse::<u64>().ok()).sum())
        .unwrap_or(0);
    let non_2xx: u64 = line("Non-2xx").and_then(|line| line.rsplit(' ').next()?.parse().ok()).unwrap_or(0);
    Some(Seen {
        requests,
        rate: number(line("Requests/sec:")?.strip_prefix("Requests/sec:")?)?,
        p50_us: latency("50%")?,
        p99_us: latency("99%")?,
        bad: errors + non_2xx,
    })
}

/// CPU time of all threads, from the scheduler's own account (nanoseconds in the first field).
fn cpu_seconds(pids: &[u32]) -> f64 {
    let nanos: u64 = pids
        .iter()
        .filter_map(|pid| fs::read_dir(format!("/proc/{pid}/task")).ok())
        .flatten()
        .filter_map(|task| fs::read_to_string(task.ok()?.path().join("schedstat")).ok())
        .filter_map(|text| text.split_whitespace().next()?.parse::<u64>().ok())
        .sum();
    nanos as f64 / 1e9
}

fn resident_mib(pids: &[u32]) -> f64 {
    let kib: u64 = pids
        .iter()
        .filter_map(|pid| fs::read_to_string(format!("/proc/{pid}/status")).ok())
        .filter_map(|text| {
            text.lines().find_map(|line| line.strip_prefix("VmRSS:"))?.split_whitespace().next()?.parse::<u64>().ok()
        })
        .sum();
    kib as f64 / 1024.0
}

/// Whether the backend answers; the first thing to look at when a run fails.
pub fn backend_answers() -> bool {
    std::net::TcpStream::connect(BACKEND).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_wrk_prints_is_understood() {
        let text = "Running 5s test @ http://127.0.0.1:10000/\n  1 threads and 64 connections\n  Latency Distribution\n     50%    1.23ms\n     75%    2.00ms\n     90%    3.00ms\n     99%  950.00us\n  254321 requests in 5.10s, 300.00MB read\n  Socket errors: connect 0, read 1, write 0, timeout 2\n  Non-2xx or 3xx responses: 4\nRequests/sec:  49866.86\nTransfer/sec:     58.82MB\n";
        let seen = parse_wrk(text).unwrap();
        assert_eq!((seen.requests, seen.p50_us, seen.p99_us, seen.bad), (254_321, 1230.0, 950.0, 7));
        assert!(parse_wrk("unable to connect").is_none());
    }
}
