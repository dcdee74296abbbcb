//! What a proxy says before the first byte of an opaque connection (ALPN `weft-tcp/1`).
//!
//! One fixed head: version, hops, port, and the length of a source name. The server name already tells the service;
//! the port stands here as well, so that the two can be compared. Small enough to travel with the first bytes.

use tokio::io::{AsyncRead, AsyncReadExt};

/// ALPN of opaque connections.
pub const ALPN: &[u8] = b"weft-tcp/1";
/// More proxies than this in a row are a loop (client's sidecar, two gateways, server's sidecar, and room).
pub const HOPS_MAX: u8 = 8;
/// A source is a zone name.
const SOURCE_MAX: usize = api::name::NAME_LENGTH_MAX;
const VERSION: u8 = 1;

/// The head of an opaque connection.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Preamble {
    /// Port, as callers name it.
    pub port: u16,
    /// Proxies passed so far, this one included.
    pub hops: u8,
    /// Zone of the caller; for records only, identity comes from the certificate.
    pub source: String,
}

/// A head that cannot be taken.
#[derive(Debug, thiserror::Error)]
pub enum PreambleError {
    /// Newer than us.
    #[error("the caller speaks version {0} of weft-tcp, we speak {VERSION}; update this proxy first")]
    Version(u8),
    /// A loop.
    #[error("the connection passed {0} proxies; two routes lead to each other")]
    Loop(u8),
    /// Not text.
    #[error("the source is not a zone name")]
    Source,
    /// The connection ended.
    #[error("the connection ended within its head")]
    Io(#[from] std::io::Error),
}

impl Preamble {
    /// As sent.
    pub fn to_bytes(&self) -> Vec<u8> {
        let source = &self.source.as_bytes()[..self.source.len().min(SOURCE_MAX)];
        let mut bytes = Vec::with_capacity(5 + source.len());
        bytes.extend([VERSION, self.hops]);
        bytes.extend(self.port.to_be_bytes());
        bytes.push(source.len() as u8);
        bytes.extend_from_slice(source);
        bytes
    }

    /// Reads one, and not a byte more.
    pub async fn read(io: &mut (impl AsyncRead + Unpin)) -> Result<Self, PreambleError> {
        let version = io.read_u8().await?;
        if version != VERSION {
            return Err(PreambleError::Version(version));
        }
        let hops = io.read_u8().await?;
        let port = io.read_u16().await?;
        let length = usize::from(io.read_u8().await?);
        if length > SOURCE_MAX {
            return Err(PreambleError::Source);
        }
        let mut source = vec![0; length];
        io.read_exact(&mut source).await?;
        if hops > HOPS_MAX {
            return Err(PreambleError::Loop(hops));
        }
        let source = String::from_utf8(source).map_err(|_| PreambleError::Source)?;
        Ok(Self { port, hops, source })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_head_is_read_as_written_and_nothing_after_it() {
        let given = Preamble { port: 5432, hops: 1, source: "west".into() };
        let mut bytes = given.to_bytes();
        bytes.extend(b"SELECT");
        let mut io = &bytes[..];
        assert_eq!(Preamble::read(&mut io).await.unwrap(), given);
        assert_eq!(io, b"SELECT");
    }

    #[tokio::test]
    async fn a_newer_a_looping_and_a_short_head_are_refused() {
        assert!(matches!(Preamble::read(&mut &[2u8, 1, 0, 0, 0][..]).await, Err(PreambleError::Version(2))));
        assert!(matches!(Preamble::read(&mut &[1u8, 9, 0, 80, 0][..]).await, Err(PreambleError::Loop(9))));
        assert!(matches!(Preamble::read(&mut &[1u8, 1, 0, 80, 200][..]).await, Err(PreambleError::Source)));
        assert!(matches!(Preamble::read(&mut &[1u8, 1, 0][..]).await, Err(PreambleError::Io(_))));
    }
}
