//! What calls suffer on purpose: delays, failures and slow answers of Fault policies.
//!
//! Injected before an endpoint is chosen. Nobody is asked, so nothing is tried again and nothing counts against an endpoint.

use super::pace::Pace;
use crate::error::{Failure, Instead};
use crate::worker::Worker;
use api::config::{AbortFault, DelayFault, Faults, HeaderFault, SlowFault};
use api::{RouteReason, Share};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use std::sync::Arc;
use std::time::Duration;
use tokio::time::{Instant, sleep_until};

/// The faults of a rule, compiled.
#[derive(Debug)]
pub struct Fault {
    faults: Faults,
    when: Option<(HeaderName, HeaderValue)>,
}

/// What happened to a call that goes on.
#[derive(Default)]
pub struct Injected {
    /// It waited.
    pub delayed: bool,
    /// Its answer is slow.
    pub pace: Option<Pace>,
}

impl Injected {
    /// Whether the call differs from others.
    pub fn is_anything(&self) -> bool {
        self.delayed || self.pace.is_some()
    }
}

impl Fault {
    /// Compiles; `None`: nothing is injected. The text says what is wrong.
    pub fn compile(faults: &Faults) -> Result<Option<Self>, String> {
        if faults.is_none() {
            return Ok(None);
        }
        let when = match &faults.when {
            None => None,
            Some(HeaderFault { header, value }) => {
                let name = header.parse().map_err(|_| format!("`{header}` is not a header name"))?;
                Some((name, value.parse().map_err(|_| format!("header {header} has an impossible value"))?))
            }
        };
        Ok(Some(Self { faults: faults.clone(), when }))
    }

    /// One request: ends it, or lets it go on after its delay. `deadline` is the request's own.
    pub async fn request(
        &self,
        worker: &Arc<Worker>,
        headers: &HeaderMap,
        grpc: bool,
        deadline: Option<Instant>,
    ) -> Result<Injected, Failure> {
        match &self.when {
            Some((name, value)) if headers.get(name) != Some(value) => return Ok(Injected::default()),
            _ => {}
        }
        let injected = self.delay(worker, deadline).await?;
        match self.faults.abort.filter(|abort| hits(worker, abort.share)) {
            Some(abort) => aborted(abort, grpc).map_or(Ok(injected), Err),
            None => Ok(injected),
        }
    }

    /// One connection of bytes, which has no header and no status.
    pub async fn connection(&self, worker: &Arc<Worker>) -> Result<Injected, Failure> {
        if self.when.is_some() {
            return Ok(Injected::default());
        }
        let injected = self.delay(worker, None).await?;
        match self.faults.abort.filter(|abort| abort.status.is_some() && hits(worker, abort.share)) {
            Some(_) => Err(Failure::new(RouteReason::FaultInjected, "a Fault policy closes this connection")),
            None => Ok(injected),
        }
    }

    async fn delay(&self, worker: &Arc<Worker>, deadline: Option<Instant>) -> Result<Injected, Failure> {
        let delay = self.faults.delay.filter(|delay| hits(worker, delay.share));
        if let Some(DelayFault { us, .. }) = delay {
            let until = Instant::now() + Duration::from_micros(us);
            sleep_until(deadline.map_or(until, |deadline| until.min(deadline))).await;
            if deadline.is_some_and(|deadline| deadline <= until) {
                let text = "a Fault policy delayed the request beyond its timeout";
                return Err(Failure::new(RouteReason::RequestTimeout, text));
            }
        }
        let slow = self.faults.bandwidth.filter(|slow| hits(worker, slow.share));
        let pace = slow.map(|SlowFault { rate, .. }| Pace::own(&worker.state, &rate));
        Ok(Injected { delayed: delay.is_some(), pace })
    }
}

fn hits(worker: &Worker, share: Share) -> bool {
    worker.chance() < share.ratio()
}

/// `None`: the abort is for gRPC only, and this is not gRPC.
fn aborted(abort: AbortFault, grpc: bool) -> Option<Failure> {
    let AbortFault { status, grpc_status, .. } = abort;
    let http = status.and_then(|status| StatusCode::from_u16(status).ok());
    if http.is_none() && !grpc {
        return None;
    }
    let status = http.unwrap_or(StatusCode::SERVICE_UNAVAILABLE);
    let instead = Instead { status, grpc: grpc_status.unwrap_or_else(|| grpc_of(status)) };
    let text = "a Fault policy answers instead of the service";
    Some(Failure { instead: Some(instead), ..Failure::new(RouteReason::FaultInjected, text) })
}

/// <https://github.com/grpc/grpc/blob/master/doc/http-grpc-status-mapping.md>
fn grpc_of(status: StatusCode) -> u8 {
    match status.as_u16() {
        400 => 13,
        401 => 16,
        403 => 7,
        404 => 12,
        429 | 502 | 503 | 504 => 14,
        _ => 2,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Dialect;

    #[test]
    fn an_abort_speaks_the_language_of_the_call() {
        let abort = |status, grpc_status| AbortFault { status, grpc_status, share: Share::ALL };
        let heard = |abort, grpc| {
            let dialect = if grpc { Dialect::Grpc("application/grpc".parse().unwrap()) } else { Dialect::Http };
            let response = aborted(abort, grpc)?.answer::<()>(&dialect);
            let code = response.headers().get("grpc-status").map(|code| code.to_str().unwrap().to_owned());
            Some((response.status().as_u16(), code))
        };
        let code = |code: &str| Some(code.to_owned());
        for (abort, grpc, expect) in [
            (abort(Some(500), None), false, Some((500, None))),
            (abort(Some(503), None), true, Some((200, code("14")))),
            (abort(Some(418), None), true, Some((200, code("2")))),
            (abort(Some(503), Some(8)), true, Some((200, code("8")))),
            (abort(None, Some(4)), true, Some((200, code("4")))),
            (abort(None, Some(4)), false, None),
        ] {
            assert_eq!(heard(abort, grpc), expect, "{abort:?} {grpc}");
        }
    }
}
