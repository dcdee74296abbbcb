//! One question to a proxy's DNS (RFC 1035 section 4), as a resolver library of an app would ask it.

use anyhow::{Context, Result, bail, ensure};
use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;
use tokio::net::UdpSocket;

const ANSWER_WAIT: Duration = Duration::from_secs(2);
const TRIES: usize = 3;
const TYPE_A: u16 = 1;
const CLASS_IN: u16 = 1;
const ID: u16 = 0x5745;
/// Longest answer without EDNS (RFC 1035 section 4.2.1).
const ANSWER_BYTES_MAX: usize = 512;

/// IPv4 address of a name.
pub async fn lookup(server: SocketAddr, name: &str) -> Result<Ipv4Addr> {
    let socket = UdpSocket::bind("127.0.0.1:0").await?;
    socket.connect(server).await?;
    let question = question(name);
    for _ in 0..TRIES {
        socket.send(&question).await?;
        let mut answer = [0; ANSWER_BYTES_MAX];
        if let Ok(length) = tokio::time::timeout(ANSWER_WAIT, socket.recv(&mut answer)).await {
            return address(&answer[..length?]).with_context(|| format!("{name} at {server}"));
        }
    }
    bail!("{server} did not answer a question for {name}")
}

fn question(name: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    // Recursion desired, one question.
    for word in [ID, 0x0100, 1, 0, 0, 0] {
        bytes.extend(word.to_be_bytes());
    }
    for label in name.trim_end_matches('.').split('.') {
        bytes.push(label.len() as u8);
        bytes.extend(label.as_bytes());
    }
    bytes.push(0);
    bytes.extend(TYPE_A.to_be_bytes());
    bytes.extend(CLASS_IN.to_be_bytes());
    bytes
}

fn address(answer: &[u8]) -> Result<Ipv4Addr> {
    let word = |at: usize| Some(u16::from_be_bytes([*answer.get(at)?, *answer.get(at + 1)?]));
    let header = |at: usize| word(at).context("the answer is cut off");
    ensure!(header(0)? == ID, "the answer is to another question");
    let code = header(2)? & 0x000f;
    ensure!(code == 0, "response code {code}");
    let (questions, answers) = (header(4)?, header(6)?);
    let mut at = 12;
    for _ in 0..questions {
        at = skip_name(answer, at)? + 4;
    }
    for _ in 0..answers {
        at = skip_name(answer, at)?;
        let (kind, length) = (header(at)?, usize::from(header(at + 8)?));
        at += 10;
        if kind == TYPE_A && length == 4 {
            let octets: [u8; 4] = answer.get(at..at + 4).context("the answer is cut off")?.try_into()?;
            return Ok(octets.into());
        }
        at += length;
    }
    bail!("the answer holds no IPv4 address")
}

fn skip_name(answer: &[u8], mut at: usize) -> Result<usize> {
    loop {
        match *answer.get(at).context("the answer is cut off")? {
            0 => return Ok(at + 1),
            // A pointer ends a name (section 4.1.4).
            length if length >= 0xc0 => return Ok(at + 2),
            length => at += usize::from(length) + 1,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_with_a_pointer_is_read() {
        let mut answer = question("cart.shop.mesh");
        (answer[2], answer[7]) = (0x81, 1);
        answer.extend([0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 30, 0, 4, 127, 101, 0, 1]);
        assert_eq!(address(&answer).unwrap(), Ipv4Addr::new(127, 101, 0, 1));
        answer[3] = 3;
        assert!(address(&answer).unwrap_err().to_string().contains("response code 3"));
        assert!(address(&answer[..10]).is_err());
    }
}
