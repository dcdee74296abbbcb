//! One gRPC connection with our own TLS settings, for joining and renewing.

use hyper_util::rt::TokioIo;
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tonic::transport::{Channel, Endpoint, Uri};

/// Connecting and the handshake together: six round trips around the world.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);
/// One call: an issuer signs in a millisecond, and may be busy.
const CALL_TIMEOUT: Duration = Duration::from_secs(10);

/// Connects to `HOST:PORT`. The identity is checked by `tls`; `name` goes into SNI only.
pub async fn connect(
    address: &str,
    tls: Arc<ClientConfig>,
    name: ServerName<'static>,
) -> Result<Channel, tonic::transport::Error> {
    let address = address.to_owned();
    let connector = tower::service_fn(move |_: Uri| {
        let (address, tls, name) = (address.clone(), tls.clone(), name.clone());
        async move {
            let tcp = TcpStream::connect(&address).await?;
            tcp.set_nodelay(true)?;
            let stream = TlsConnector::from(tls).connect(name, tcp).await?;
            Ok::<_, std::io::Error>(TokioIo::new(stream))
        }
    });
    // The scheme says nothing here: the connector does TLS.
    let endpoint = Endpoint::from_static("http://weft").connect_timeout(CONNECT_TIMEOUT).timeout(CALL_TIMEOUT);
    endpoint.connect_with_connector(connector).await
}

/// The part of `HOST:PORT` that goes into SNI.
pub fn server_name(address: &str) -> ServerName<'static> {
    let host = address.rsplit_once(':').map_or(address, |(host, _)| host);
    let host = host.trim_start_matches('[').trim_end_matches(']');
    ServerName::try_from(host.to_owned()).unwrap_or_else(|_| ServerName::try_from("global.weft").expect("a DNS name"))
}
