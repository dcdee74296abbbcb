//! CONNECT (RFC 9110 section 9.3.6): an app that knows its proxy asks it for a connection to a service. What flows then is
//! served as if the app had connected to a virtual address of that service.

use super::http::{Destination, Hold, Via, app, called};
use super::tcp;
use crate::compile::Running;
use crate::error::Failure;
use crate::http::body::Answer;
use crate::vips::Named;
use crate::worker::Worker;
use api::RouteReason;
use http::Response;
use http::request::Parts;
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use std::pin::Pin;
use std::sync::Arc;
use tokio::sync::oneshot;

type Tunnel = Pin<Box<dyn Future<Output = ()> + Send>>;

/// Opens one, to a service of the mesh and nowhere else. A connection of bytes stands before the answer says so.
pub async fn open(
    worker: &Arc<Worker>,
    running: &Running,
    via: &Via,
    parts: &mut Parts,
) -> Result<Response<Answer<Hold>>, Failure> {
    let refused = |text: &str| Failure::new(RouteReason::BadRequest, text);
    if !matches!(via, Via::Host) {
        return Err(refused("CONNECT is served at the proxy's own address only; call the service by its name"));
    }
    let to = parts.uri.authority().filter(|to| to.port_u16().is_some());
    let to = to.ok_or_else(|| refused("CONNECT needs a port: NAME.NAMESPACE.mesh:PORT"))?;
    let Destination { service, port, zone } = called(running, via, Some(to))?;
    let named = Named { service: service.config.service.clone(), zone };
    let coming = parts.extensions.remove::<OnUpgrade>();
    let coming = coming.ok_or_else(|| refused("this connection cannot become a tunnel"))?;
    if port.protocol.is_http() {
        worker.state.connections.spawn(requests(worker.clone(), Via::Service(named, port.port), coming));
    } else {
        let (told, standing) = oneshot::channel();
        worker.state.connections.spawn(bytes(worker.clone(), named, port.port, coming, told));
        let standing = standing.await.unwrap_or(Err(RouteReason::ConnectFailed));
        standing.map_err(|reason| Failure::new(reason, format!("{} ({to})", reason.about())))?;
    }
    Ok(Response::new(Answer::text("")))
}

/// Boxed: what serves requests opens tunnels that serve requests.
fn requests(worker: Arc<Worker>, via: Via, coming: OnUpgrade) -> Tunnel {
    Box::pin(async move {
        if let Ok(io) = coming.await {
            app(worker, via, TokioIo::new(io)).await;
        }
    })
}

fn bytes(
    worker: Arc<Worker>,
    named: Named,
    port: u16,
    coming: OnUpgrade,
    told: oneshot::Sender<Result<(), RouteReason>>,
) -> Tunnel {
    Box::pin(async move {
        let app = |standing: Result<(), RouteReason>| {
            let _ = told.send(standing);
            async move { coming.await.ok().map(TokioIo::new) }
        };
        tcp::serve(&worker, &named, port, app).await;
    })
}
