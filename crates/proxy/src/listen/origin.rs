//! Where a redirected connection was going (`SO_ORIGINAL_DST`).

use socket2::SockRef;
use std::io;
use std::net::SocketAddr;
use tokio::net::TcpStream;

/// The destination before redirection. A connection made to the proxy itself has its own local address.
pub fn original(stream: &TcpStream) -> io::Result<SocketAddr> {
    let socket = SockRef::from(stream);
    let address = match stream.local_addr()? {
        SocketAddr::V4(_) => socket.original_dst_v4(),
        SocketAddr::V6(_) => socket.original_dst_v6(),
    };
    address?.as_socket().ok_or_else(|| io::Error::other("the original destination is no internet address"))
}
