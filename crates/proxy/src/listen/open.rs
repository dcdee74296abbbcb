//! Sockets that listen: those open now, so that a next process can be given them, and those a process before us left,
//! which are taken instead of binding anew.

use std::collections::HashMap;
use std::net::{SocketAddr, TcpListener, UdpSocket};
use std::os::fd::{AsFd, OwnedFd};
use std::sync::{Arc, Mutex, PoisonError, Weak};

/// Name of a TCP listener on the line between two processes.
pub const TCP: &str = "tcp";
/// Name of a UDP socket.
pub const UDP: &str = "udp";

/// A socket somebody uses, with the means to give a copy of it away.
pub type Socket = Arc<dyn AsFd + Send + Sync>;

/// All of a process.
#[derive(Default)]
pub struct Listening {
    open: Mutex<Vec<(&'static str, Weak<dyn AsFd + Send + Sync>)>>,
    left: Mutex<Left>,
}

#[derive(Default)]
struct Left {
    tcp: HashMap<SocketAddr, Vec<Option<TcpListener>>>,
    udp: HashMap<SocketAddr, UdpSocket>,
    workers: usize,
}

impl Listening {
    /// These were left to us, who will be so many workers.
    pub fn inherit(&self, tcp: Vec<OwnedFd>, udp: Vec<OwnedFd>, workers: usize) {
        let mut left = self.left.lock().unwrap_or_else(PoisonError::into_inner);
        left.workers = workers;
        for socket in tcp.into_iter().map(TcpListener::from) {
            if let Ok(address) = socket.local_addr() {
                left.tcp.entry(address).or_default().push(Some(socket));
            }
        }
        for socket in udp.into_iter().map(UdpSocket::from) {
            if let Ok(address) = socket.local_addr() {
                left.udp.insert(address, socket);
            }
        }
    }

    /// Whether somebody left any for this address.
    pub fn was_left(&self, address: SocketAddr) -> bool {
        self.left.lock().unwrap_or_else(PoisonError::into_inner).tcp.contains_key(&address)
    }

    /// Those that fall to one worker. Each falls to somebody: a queue that nobody serves would lose who waits in it.
    pub fn left(&self, address: SocketAddr, worker: usize) -> Vec<TcpListener> {
        let mut left = self.left.lock().unwrap_or_else(PoisonError::into_inner);
        let workers = left.workers.max(1);
        let sockets = left.tcp.get_mut(&address).map(Vec::as_mut_slice).unwrap_or_default();
        sockets.iter_mut().skip(worker).step_by(workers).filter_map(Option::take).collect()
    }

    /// The UDP socket for this address, if somebody left one.
    pub fn left_udp(&self, address: SocketAddr) -> Option<UdpSocket> {
        self.left.lock().unwrap_or_else(PoisonError::into_inner).udp.remove(&address)
    }

    /// Closes what nobody took: addresses this process does not serve any more.
    pub fn close_left(&self) {
        *self.left.lock().unwrap_or_else(PoisonError::into_inner) = Left::default();
    }

    /// A socket is open until its last user drops it.
    pub fn add<S: AsFd + Send + Sync + 'static>(&self, name: &'static str, socket: &Arc<S>) {
        let socket: Weak<S> = Arc::downgrade(socket);
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        open.retain(|(_, socket)| socket.strong_count() > 0);
        open.push((name, socket));
    }

    /// All that are open.
    pub fn open(&self) -> Vec<(&'static str, Socket)> {
        let open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        open.iter().filter_map(|(name, socket)| Some((*name, socket.upgrade()?))).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bind(address: SocketAddr) -> TcpListener {
        crate::listen::bind(address).unwrap()
    }

    #[test]
    fn every_socket_left_falls_to_exactly_one_worker() {
        let first = bind("127.0.0.1:0".parse().unwrap());
        let address = first.local_addr().unwrap();
        let sockets: Vec<OwnedFd> = [first, bind(address), bind(address)].map(OwnedFd::from).into();
        let listening = Listening::default();
        assert!(!listening.was_left(address));
        listening.inherit(sockets, Vec::new(), 2);
        assert!(listening.was_left(address));
        let counts = [0, 1].map(|worker| listening.left(address, worker).len());
        assert_eq!(counts, [2, 1]);
        assert!(listening.left(address, 0).is_empty(), "nobody gets one twice");
    }

    #[test]
    fn a_socket_is_given_away_only_while_it_is_used() {
        let listening = Listening::default();
        let socket = Arc::new(bind("127.0.0.1:0".parse().unwrap()));
        listening.add(TCP, &socket);
        assert_eq!(listening.open().len(), 1);
        drop(socket);
        assert!(listening.open().is_empty());
    }
}
