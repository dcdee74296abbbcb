//! Telling systemd which process is the service now (sd_notify(3)), where it asked to be told.

use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};

/// Says that this process serves. Without `NOTIFY_SOCKET` in the environment nothing is said.
pub fn serving() {
    let Some(path) = std::env::var_os("NOTIFY_SOCKET").filter(|path| !path.is_empty()) else { return };
    let text = format!("READY=1\nMAINPID={}\n", std::process::id());
    let tell = || {
        let address = match path.as_bytes() {
            [b'@', name @ ..] => SocketAddr::from_abstract_name(name)?,
            _ => SocketAddr::from_pathname(&path)?,
        };
        UnixDatagram::unbound()?.send_to_addr(text.as_bytes(), &address)
    };
    if let Err(error) = tell() {
        tracing::warn!(%error, "systemd was not told that this process serves");
    }
}
