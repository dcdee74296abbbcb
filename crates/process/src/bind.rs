//! Opening a listening socket, with an error a person can act on.

use std::io::{self, ErrorKind};
use std::net::SocketAddr;
use tokio::net::{TcpListener, UdpSocket};

/// Why an address cannot be listened on. The flag that sets it is named without its dashes.
#[derive(Debug, thiserror::Error)]
pub enum BindError {
    /// Somebody else listens there.
    #[error("address {addr} is in use; stop what listens there or choose another with --{flag}")]
    InUse {
        /// What was asked for.
        addr: SocketAddr,
        /// The option that sets it.
        flag: String,
    },
    /// No interface of this machine has the address.
    #[error("address {addr} does not belong to this machine; choose another with --{flag}")]
    Foreign {
        /// What was asked for.
        addr: SocketAddr,
        /// The option that sets it.
        flag: String,
    },
    /// A port below 1024 without the capability for it.
    #[error("not permitted to listen on {addr}; choose a port above 1023 with --{flag} or grant CAP_NET_BIND_SERVICE")]
    Forbidden {
        /// What was asked for.
        addr: SocketAddr,
        /// The option that sets it.
        flag: String,
    },
    /// Anything else the kernel says.
    #[error("cannot listen on {addr}: {source}; choose another address with --{flag}")]
    Other {
        /// What was asked for.
        addr: SocketAddr,
        /// The option that sets it.
        flag: String,
        /// The kernel's words.
        #[source]
        source: io::Error,
    },
}

impl BindError {
    fn new(addr: SocketAddr, flag: &str, source: io::Error) -> Self {
        let flag = flag.trim_start_matches('-').to_owned();
        match source.kind() {
            ErrorKind::AddrInUse => Self::InUse { addr, flag },
            ErrorKind::AddrNotAvailable => Self::Foreign { addr, flag },
            ErrorKind::PermissionDenied => Self::Forbidden { addr, flag },
            _ => Self::Other { addr, flag, source },
        }
    }
}

/// Listens on `addr`; `flag` is the option that sets it, named in the error.
pub async fn bind(addr: SocketAddr, flag: &str) -> Result<TcpListener, BindError> {
    TcpListener::bind(addr).await.map_err(|error| BindError::new(addr, flag, error))
}

/// As [`bind`], for code that has no runtime yet. The socket does not block.
pub fn bind_std(addr: SocketAddr, flag: &str) -> Result<std::net::TcpListener, BindError> {
    let open = || {
        let listener = std::net::TcpListener::bind(addr)?;
        listener.set_nonblocking(true)?;
        Ok(listener)
    };
    open().map_err(|error| BindError::new(addr, flag, error))
}

/// As [`bind`], for datagrams.
pub async fn bind_udp(addr: SocketAddr, flag: &str) -> Result<UdpSocket, BindError> {
    UdpSocket::bind(addr).await.map_err(|error| BindError::new(addr, flag, error))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_taken_port_is_said_with_the_flag_that_changes_it() {
        let first = bind("127.0.0.1:0".parse().unwrap(), "api-listen").await.unwrap();
        let addr = first.local_addr().unwrap();
        let said = bind(addr, "--api-listen").await.unwrap_err().to_string();
        assert_eq!(
            said,
            format!("address {addr} is in use; stop what listens there or choose another with --api-listen")
        );
    }

    #[tokio::test]
    async fn an_address_of_another_machine_is_said_so() {
        let said = bind("192.0.2.1:0".parse().unwrap(), "sync-listen").await.unwrap_err().to_string();
        assert!(said.contains("does not belong to this machine"), "{said}");
    }
}
