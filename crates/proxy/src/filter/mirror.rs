//! Copies of requests, sent to somebody else as well: fire and forget.
//!
//! A copy is a task of its own that begins when a try has read the whole body (see [`crate::http::body`]). Its answer is
//! read and dropped. Whatever happens to it, the request knows nothing of it: it takes its own connection or waits for
//! one, is tried once, and says nothing about endpoints to the balancer, so that a bad mirror ejects nobody.
//!
//! The host stays as it is (Envoy appends `-shadow`, which apps that look at it do not understand); the header `weft-mirror`
//! marks a copy, and records of both proxies tell copies from what users asked for.

use crate::http::body::{Outgoing, Replay, TooLong, Whole};
use crate::http::{headers, upgrade};
use crate::limits::{MIRROR_ANSWER_BYTES_MAX, MIRROR_TIME};
use crate::outbound::callee::{Refused, name};
use crate::record::{Direction, Record};
use crate::worker::Worker;
use api::RouteReason;
use api::config::Mirror;
use balance::Ask;
use http::request::Parts;
use hyper::body::Incoming;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::oneshot::Receiver;
use tokio::time::{Instant, timeout_at};

/// Begins copies of one request for those mirrors whose share it falls into. `parts` are as they go to the backend.
pub fn begin(worker: &Arc<Worker>, rule: &str, mirrors: &[Mirror], connect: Duration, parts: &Parts, body: &Replay) {
    for mirror in mirrors {
        if worker.chance() * f64::from(mirror.denominator) >= f64::from(mirror.numerator) {
            continue;
        }
        let one = One {
            worker: worker.clone(),
            mirror: mirror.clone(),
            parts: marked(parts, rule),
            connect,
            began: Instant::now(),
        };
        match worker.mirrors.clone().try_acquire_owned() {
            Ok(place) => {
                let copy = body.copy();
                tokio::spawn(async move {
                    one.run(copy).await;
                    drop(place);
                });
            }
            Err(_) => one.record(503, RouteReason::Overloaded, None, ""),
        }
    }
}

fn marked(parts: &Parts, rule: &str) -> Parts {
    let mut copy = parts.clone();
    copy.headers.insert(headers::MIRROR, headers::value(rule));
    copy
}

/// One copy.
struct One {
    worker: Arc<Worker>,
    mirror: Mirror,
    parts: Parts,
    connect: Duration,
    began: Instant,
}

impl One {
    async fn run(self, copy: Receiver<Result<Whole, TooLong>>) {
        let deadline = self.began + MIRROR_TIME;
        match timeout_at(deadline, copy).await {
            Ok(Ok(Ok(copy))) => {
                if timeout_at(deadline, self.send(copy)).await.is_err() {
                    self.record(504, RouteReason::RequestTimeout, None, "");
                }
            }
            Ok(Ok(Err(TooLong))) => self.record(413, RouteReason::Overloaded, None, ""),
            // The request itself was never sent, or is still sending its body.
            Ok(Err(_)) => {}
            Err(_) => self.record(504, RouteReason::RequestTimeout, None, ""),
        }
    }

    async fn send(&self, copy: Whole) {
        let Self { worker, mirror, parts, connect, .. } = self;
        let running = worker.running().clone();
        let callee = worker.callee(&mirror.service, mirror.port);
        // Copies have a bound of their own, and are nobody's connection.
        let Ok(admitted) = callee.admit(&running, &Arc::default(), worker.now_us()) else {
            return self.record(503, RouteReason::CircuitOpen, None, "");
        };
        let ask = Ask { zone: mirror.zone.as_ref(), tried: &[], precious: false, hash: None };
        let mut lease = match callee.lease(worker, &running, &ask, *connect).await {
            Ok(lease) => lease,
            Err(Refused::Nobody(reason)) => return self.record(503, reason, None, ""),
            Err(Refused::NoRoom(_)) => return self.record(503, RouteReason::CircuitOpen, None, ""),
            Err(Refused::Connect { error, .. }) => return self.record(503, error.reason(), None, ""),
        };
        let sent = lease.send(upgrade::outgoing(parts, &None, Outgoing::Whole(copy.into()))).await;
        lease.blameless();
        lease.hold([admitted]);
        let (zone, peer) = (lease.choice.zone.clone(), name(&lease.choice.candidate));
        match sent {
            Ok(response) => {
                self.record(response.status().as_u16(), RouteReason::Mirrored, Some(&zone), &peer);
                drain(response.into_body()).await;
            }
            Err(error) => {
                tracing::debug!(text = error.text, service = %mirror.service, "a copy was not answered");
                self.record(502, RouteReason::UpstreamReset, Some(&zone), &peer);
            }
        }
    }

    fn record(&self, code: u16, reason: RouteReason, zone: Option<&api::ZoneName>, peer: &str) {
        self.worker.cells.add(&Record {
            direction: Direction::Mirror,
            service: Some(&self.mirror.service),
            zone,
            code,
            reason,
            latency: self.began.elapsed(),
            method: self.parts.method.as_str(),
            path: self.parts.uri.path(),
            tries: 1,
            peer,
        });
    }
}

/// Reads, so that the connection stays usable; a long answer is cut off.
async fn drain(mut body: Incoming) {
    let mut bytes = 0;
    while bytes <= MIRROR_ANSWER_BYTES_MAX {
        let frame = std::future::poll_fn(|cx| http_body::Body::poll_frame(Pin::new(&mut body), cx)).await;
        match frame {
            Some(Ok(frame)) => bytes += frame.data_ref().map_or(0, bytes::Bytes::len),
            Some(Err(_)) | None => return,
        }
    }
}
