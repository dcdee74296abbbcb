//! New configuration, over and over, while requests go on.

use crate::peers::{LOAD_CORE, Proxies};
use anyhow::{Context as _, Result, bail};
use nix::sched::{CpuSet, sched_setaffinity};
use nix::unistd::Pid;
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::time::{Duration, Instant};

/// How the proxies of one run get another configuration.
pub struct Swap {
    /// Gives them the one of this number; none is like the one before.
    pub give: Box<dyn Fn(u64) -> Result<()> + Sync>,
    /// Configurations they have begun to run, added up.
    pub seen: Box<dyn Fn() -> Result<u64>>,
}

/// A control plane answers within this.
const ANSWER_MAX: Duration = Duration::from_secs(5);

/// Does `work` while `rate` configurations a second are given; how many the proxies have run, each for itself.
pub fn beside<T>(proxies: &Proxies, rate: f64, work: impl FnOnce() -> Result<T>) -> Result<(T, f64)> {
    let Swap { give, seen } = proxies.swap.as_ref().context("these proxies take no configuration while they run")?;
    let (before, begun) = (seen()?, Instant::now());
    let (end, ended) = channel::<()>();
    let (done, given) = std::thread::scope(|scope| {
        let giver = scope.spawn(move || {
            let mut cores = CpuSet::new();
            cores.set(LOAD_CORE.parse()?)?;
            sched_setaffinity(Pid::from_raw(0), &cores)?;
            for number in 1_u32.. {
                give(u64::from(number))?;
                let due = Duration::from_secs_f64(f64::from(number) / rate);
                if ended.recv_timeout(due.saturating_sub(begun.elapsed())) != Err(RecvTimeoutError::Timeout) {
                    break;
                }
            }
            anyhow::Ok(())
        });
        let done = work();
        drop(end);
        (done, giver.join())
    });
    given.map_err(|_| anyhow::anyhow!("the thread that gave configurations ended early"))??;
    Ok((done?, (seen()? - before) as f64 / proxies.pids.len() as f64))
}

/// One request over a connection of its own; the body of a good answer.
pub fn ask(to: SocketAddr, method: &str, path: &str, headers: &str, body: &str) -> Result<String> {
    let mut stream = TcpStream::connect(to)?;
    stream.set_read_timeout(Some(ANSWER_MAX))?;
    let length = body.len();
    write!(
        stream,
        "{method} {path} HTTP/1.1\r\nHost: {to}\r\nConnection: close\r\nContent-Length: {length}\r\n{headers}\r\n{body}"
    )?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    let (head, body) = answer.split_once("\r\n\r\n").with_context(|| format!("{to} answered {answer:?}"))?;
    if !head.starts_with("HTTP/1.1 2") {
        bail!("{method} {path} of {to}: {head}\n{body}");
    }
    Ok(body.to_owned())
}

/// The value of the first line of a metrics page that begins with `name`.
pub fn metric(page: &str, name: &str) -> Result<u64> {
    let line = page.lines().find(|line| line.starts_with(name)).with_context(|| format!("there is no {name}"))?;
    let value = line.rsplit([' ', ':']).next().unwrap_or_default();
    value.parse().with_context(|| format!("not a count: {line}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_count_is_found_on_a_page_of_weft_and_of_envoy() {
        let page = "# HELP weft_config_swaps Configurations\nweft_config_swaps 17\n";
        assert_eq!(metric(page, "weft_config_swaps").unwrap(), 17);
        assert_eq!(metric("http.in.rds.all.config_reload: 4\n", "http.in.rds.all.config_reload").unwrap(), 4);
        assert!(metric(page, "another").is_err());
    }
}
