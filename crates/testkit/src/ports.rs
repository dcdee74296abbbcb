//! Ports that others must know before anybody listens on them, and that stay ours while nobody does.

use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::sync::atomic::{AtomicU16, Ordering};

/// Below the range from which Linux takes ports for outgoing connections (32768, net.ipv4.ip_local_port_range), so that
/// no connection of anybody takes a port while its owner is away.
const FIRST: u16 = 20_000;
/// So many are tried.
const COUNT: u16 = 12_000;
/// A listener here says that the same port of 127.0.0.1 is taken: to tests of other processes, too.
const CLAIMS: Ipv4Addr = Ipv4Addr::new(127, 255, 255, 253);

/// A port of 127.0.0.1. It is given back when this is dropped.
pub struct Port {
    number: u16,
    _claim: TcpListener,
}

impl Port {
    /// One that is free.
    pub fn claim() -> Self {
        static NEXT: AtomicU16 = AtomicU16::new(0);
        // Processes begin at different places, so that they seldom meet.
        let begin = (std::process::id() as u16).wrapping_mul(257) % COUNT;
        for _ in 0..COUNT {
            let step = NEXT.fetch_add(1, Ordering::Relaxed) % COUNT;
            let number = FIRST + (begin + step) % COUNT;
            let Ok(claim) = TcpListener::bind((CLAIMS, number)) else { continue };
            if TcpListener::bind((Ipv4Addr::LOCALHOST, number)).is_ok() {
                return Self { number, _claim: claim };
            }
        }
        panic!("no free port between {FIRST} and {}", FIRST + COUNT);
    }

    /// Its number.
    pub fn number(&self) -> u16 {
        self.number
    }

    /// Its address.
    pub fn at(&self) -> SocketAddr {
        (Ipv4Addr::LOCALHOST, self.number).into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_is_claimed_once_and_can_be_listened_on() {
        let (one, other) = (Port::claim(), Port::claim());
        assert_ne!(one.number(), other.number());
        TcpListener::bind(one.at()).unwrap();
    }
}
