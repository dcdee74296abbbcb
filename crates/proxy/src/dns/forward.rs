//! Questions about other names go, byte for byte, to the resolvers the host already uses.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpStream, UdpSocket};
use tokio::time::timeout;

/// Where hosts name their resolvers.
const RESOLV_CONF: &str = "/etc/resolv.conf";
/// Resolvers that are asked, one after the other (resolv.conf(5): MAXNS 3).
const RESOLVERS_MAX: usize = 3;
/// One resolver (resolv.conf(5) waits 5 s; shorter, because the app waits as well).
const ASK: Duration = Duration::from_secs(2);
const DNS_PORT: u16 = 53;
const UDP_BYTES_MAX: usize = 4096;

/// Resolvers in the order in which they are asked.
#[derive(Clone, Debug, Default)]
pub struct Resolvers(Vec<SocketAddr>);

/// The host's resolvers, without `own`: a proxy that asked itself would never stop.
pub fn resolvers(own: SocketAddr) -> Resolvers {
    let text = std::fs::read_to_string(RESOLV_CONF).unwrap_or_default();
    parse(&text, own)
}

fn parse(text: &str, own: SocketAddr) -> Resolvers {
    let servers = text
        .lines()
        .filter_map(|line| line.trim().strip_prefix("nameserver")?.trim().parse::<IpAddr>().ok())
        .map(|address| SocketAddr::new(address, DNS_PORT))
        .filter(|server| *server != own && !server.ip().is_unspecified());
    Resolvers(servers.take(RESOLVERS_MAX).collect())
}

impl Resolvers {
    /// These, in this order.
    pub fn new(servers: Vec<SocketAddr>) -> Self {
        Self(servers)
    }

    /// The first answer that comes, with the question's own number; `None` when nobody answers.
    pub async fn ask_udp(&self, question: &[u8]) -> Option<Vec<u8>> {
        for server in &self.0 {
            if let Ok(Ok(answer)) = timeout(ASK, udp(*server, question)).await {
                return Some(answer);
            }
        }
        None
    }

    /// The same over TCP.
    pub async fn ask_tcp(&self, question: &[u8]) -> Option<Vec<u8>> {
        for server in &self.0 {
            if let Ok(Ok(answer)) = timeout(ASK, tcp(*server, question)).await {
                return Some(answer);
            }
        }
        None
    }
}

async fn udp(server: SocketAddr, question: &[u8]) -> std::io::Result<Vec<u8>> {
    // A socket of its own, so that its port is as hard to guess as the system makes it.
    let any: SocketAddr = if server.is_ipv4() { ([0, 0, 0, 0], 0).into() } else { ([0u16; 8], 0).into() };
    let socket = UdpSocket::bind(any).await?;
    socket.connect(server).await?;
    socket.send(question).await?;
    let mut buffer = vec![0; UDP_BYTES_MAX];
    loop {
        let length = socket.recv(&mut buffer).await?;
        if length >= 2 && buffer[..2] == question[..2] {
            buffer.truncate(length);
            return Ok(buffer);
        }
    }
}

async fn tcp(server: SocketAddr, question: &[u8]) -> std::io::Result<Vec<u8>> {
    let mut stream = TcpStream::connect(server).await?;
    let length = u16::try_from(question.len()).map_err(|_| std::io::ErrorKind::InvalidInput)?;
    stream.write_u16(length).await?;
    stream.write_all(question).await?;
    let mut answer = vec![0; usize::from(stream.read_u16().await?)];
    stream.read_exact(&mut answer).await?;
    Ok(answer)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hosts_resolvers_are_asked_and_never_ourselves() {
        let own: SocketAddr = "127.0.0.53:53".parse().unwrap();
        let text = "# comment\nsearch example.com\nnameserver 127.0.0.53\nnameserver 192.0.2.1\n nameserver 2001:db8::1\nnameserver x\nnameserver 192.0.2.2\nnameserver 192.0.2.3\n";
        let found = parse(text, own).0;
        let wanted: Vec<SocketAddr> =
            ["192.0.2.1:53", "[2001:db8::1]:53", "192.0.2.2:53"].iter().map(|text| text.parse().unwrap()).collect();
        assert_eq!(found, wanted);
        assert!(parse("", own).0.is_empty());
    }
}
