//! Network namespaces, joined by routed veth links through one router, and rules in the router that cut links.
//!
//! The story itself moves into the router: from there it reaches every control plane's REST interface, and being no
//! member of the mesh it is also the outsider. Host `i` of zone `z` is `10.77.(16z+i).2`, so a zone is one /20.

use anyhow::{Context, Result, bail};
use nix::sched::{CloneFlags, setns};
use std::fs::File;
use std::io::Write;
use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::process::{Command, Stdio};

/// First two numbers of all addresses inside.
const NETWORK: (u8, u8) = (10, 77);
/// Hosts of one zone.
const HOSTS_MAX: u8 = 16;

/// All namespaces of one story.
pub struct Nets {
    tag: String,
    home: File,
    spaces: Vec<String>,
    folders: Vec<PathBuf>,
}

/// One host.
#[derive(Clone, Debug)]
pub struct Host {
    /// Name of its namespace.
    pub space: String,
    /// Its address.
    pub address: Ipv4Addr,
}

/// What the router drops.
#[derive(Clone, Copy, Debug)]
pub enum Rule {
    /// Everything between two zones.
    Between(u8, u8),
    /// What connections made by the first zone send to the second; the second still reaches the first.
    Calls(u8, u8),
    /// The same, but for calls to one port of one host.
    CallsBut(u8, u8, Ipv4Addr, u16),
}

impl Rule {
    fn script(self) -> String {
        match self {
            Self::Between(a, b) => {
                let (a, b) = (prefix(a), prefix(b));
                format!("ip saddr {a} ip daddr {b} drop\nip saddr {b} ip daddr {a} drop\n")
            }
            Self::Calls(from, to) => {
                format!("ip saddr {} ip daddr {} ct direction original drop\n", prefix(from), prefix(to))
            }
            Self::CallsBut(from, to, host, port) => {
                let calls = format!("ip saddr {} ip daddr {}", prefix(from), prefix(to));
                format!("{calls} ip daddr {host} tcp dport {port} accept\n{calls} ct direction original drop\n")
            }
        }
    }
}

impl Nets {
    /// Makes the router and moves this thread into it.
    pub fn new() -> Result<Self> {
        let home = File::open("/proc/thread-self/ns/net").context("opening the own namespace")?;
        let tag = format!("weft{}", std::process::id());
        let mut nets = Self { tag, home, spaces: Vec::new(), folders: Vec::new() };
        let router = nets.space("router")?;
        let file = File::open(format!("/run/netns/{router}"))?;
        setns(file, CloneFlags::CLONE_NEWNET).context("moving into the router")?;
        ip(&["link", "set", "lo", "up"])?;
        std::fs::write("/proc/sys/net/ipv4/ip_forward", "1").context("letting the router forward")?;
        Ok(nets)
    }

    fn space(&mut self, name: &str) -> Result<String> {
        let space = format!("{}-{name}", self.tag);
        ip(&["netns", "add", &space])?;
        self.spaces.push(space.clone());
        Ok(space)
    }

    /// Adds host `index` of a zone, with a default route to the router and the router as its resolver.
    pub fn host(&mut self, name: &str, zone: u8, index: u8) -> Result<Host> {
        assert!(index < HOSTS_MAX, "a zone has {HOSTS_MAX} hosts");
        let space = self.space(name)?;
        let number = zone * HOSTS_MAX + index;
        let (router, address) = (address(number, 1), address(number, 2));
        let outside = format!("h{number}");
        ip(&["link", "add", &outside, "type", "veth", "peer", "name", "eth0", "netns", &space])?;
        ip(&["addr", "add", &format!("{router}/24"), "dev", &outside])?;
        ip(&["link", "set", &outside, "up"])?;
        ip(&["-n", &space, "link", "set", "lo", "up"])?;
        ip(&["-n", &space, "addr", "add", &format!("{address}/24"), "dev", "eth0"])?;
        ip(&["-n", &space, "link", "set", "eth0", "up"])?;
        ip(&["-n", &space, "route", "add", "default", "via", &router.to_string()])?;
        // `ip netns exec` puts it in place of the host's own (ip-netns(8)).
        let folder = PathBuf::from("/etc/netns").join(&space);
        std::fs::create_dir_all(&folder)?;
        std::fs::write(folder.join("resolv.conf"), format!("nameserver {router}\noptions timeout:1 attempts:2\n"))?;
        self.folders.push(folder);
        Ok(Host { space, address })
    }

    /// From now on these links are cut, and no others.
    pub fn cut(&self, rules: &[Rule]) -> Result<()> {
        self.rules("cut", rules)
    }

    /// Replaces a table of the router.
    pub fn rules(&self, table: &str, rules: &[Rule]) -> Result<()> {
        let mut script = format!("add table inet {table}\ndelete table inet {table}\n");
        if !rules.is_empty() {
            let rules: String = rules.iter().map(|rule| rule.script()).collect();
            let chain = "chain forward { type filter hook forward priority 0; policy accept;";
            script.push_str(&format!("table inet {table} {{ {chain}\n{rules}}}\n}}\n"));
        }
        let mut nft = Command::new("nft").args(["-f", "-"]).stdin(Stdio::piped()).spawn().context("running nft")?;
        nft.stdin.take().context("asked for above")?.write_all(script.as_bytes())?;
        let status = nft.wait()?;
        if !status.success() {
            bail!("nft ended with {status} on:\n{script}");
        }
        Ok(())
    }
}

impl Drop for Nets {
    fn drop(&mut self) {
        if let Err(error) = setns(&self.home, CloneFlags::CLONE_NEWNET) {
            eprintln!("could not move back to the own namespace: {error}");
        }
        for space in &self.spaces {
            if let Err(error) = ip(&["netns", "del", space]) {
                eprintln!("{error:#}");
            }
        }
        for folder in &self.folders {
            let _ = std::fs::remove_dir_all(folder);
        }
        // Only if nobody else has one there.
        let _ = std::fs::remove_dir("/etc/netns");
    }
}

fn address(number: u8, last: u8) -> Ipv4Addr {
    Ipv4Addr::new(NETWORK.0, NETWORK.1, number, last)
}

fn prefix(zone: u8) -> String {
    format!("{}/20", address(zone * HOSTS_MAX, 0))
}

fn ip(args: &[&str]) -> Result<()> {
    let output = Command::new("ip").args(args).output().context("running ip")?;
    if !output.status.success() {
        bail!("`ip {}` failed: {}", args.join(" "), String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(())
}
