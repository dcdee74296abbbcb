//! The least rate of a request's body that comes as a stream of HTTP/2 from outside. For HTTP/1 the gate sees to it, where
//! the bytes of a connection are those of one request.

use super::gate::Bad;
use crate::limits::{BODY_RATE_MIN, BODY_WINDOW};
use http::header::CONTENT_TYPE;
use http::{HeaderMap, HeaderValue};
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;
use tokio::time::{Sleep, sleep};

/// The least bytes of a body from outside in each such time.
pub const LEAST: (u64, Duration) = (BODY_RATE_MIN * BODY_WINDOW.as_secs(), BODY_WINDOW);

/// Watches one body. Time counts only while somebody waits for bytes, so that an app which reads slowly is no fault of the
/// caller's.
pub struct RateMin {
    least: u64,
    window: Duration,
    /// Bytes of the present window.
    bytes: u64,
    timer: Option<Pin<Box<Sleep>>>,
}

impl RateMin {
    /// Of a request with these fields: [`LEAST`]. `None`: a stream of gRPC or Connect, which
    /// says something now and then for as long as its time allows.
    pub fn outside(fields: &HeaderMap) -> Option<Self> {
        const STREAMS: [&[u8]; 2] = [b"application/grpc", b"application/connect+"];
        let kind = fields.get(CONTENT_TYPE).map(HeaderValue::as_bytes).unwrap_or_default();
        let streams = STREAMS.iter().any(|stream| kind.starts_with(stream));
        (!streams).then(|| Self::new(LEAST))
    }

    fn new((least, window): (u64, Duration)) -> Self {
        Self { least, window, bytes: 0, timer: None }
    }

    /// So many bytes came.
    pub fn came(&mut self, bytes: usize) {
        self.bytes += bytes as u64;
    }

    /// Nothing is there now; ready when too little came in a whole window.
    pub fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Bad> {
        loop {
            let window = self.window;
            let timer = self.timer.get_or_insert_with(|| Box::pin(sleep(window)));
            ready!(timer.as_mut().poll(cx));
            if self.bytes < self.least {
                return Poll::Ready(Bad::SlowBody);
            }
            self.bytes = 0;
            self.timer = None;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::future::poll_fn;
    use tokio::time::{Instant, timeout};

    const WINDOW: Duration = Duration::from_millis(200);

    #[test]
    fn streams_of_calls_are_left_to_their_timeout() {
        let watched = |kind: &'static str| {
            RateMin::outside(&HeaderMap::from_iter([(CONTENT_TYPE, HeaderValue::from_static(kind))])).is_some()
        };
        assert!(RateMin::outside(&HeaderMap::new()).is_some() && watched("application/json"));
        assert!(watched("application/connect"), "a body, whatever it is called");
        assert!(
            !watched("application/grpc") && !watched("application/grpc+proto") && !watched("application/connect+json")
        );
    }

    #[tokio::test]
    async fn a_body_that_comes_in_time_goes_on_and_one_that_drips_ends() {
        let mut rate = RateMin::new((4, WINDOW));
        for _ in 0..8 {
            rate.came(4);
            let waiting = poll_fn(|cx| rate.poll(cx));
            assert!(timeout(WINDOW / 2, waiting).await.is_err(), "4 bytes in each half of a window");
        }
        let began = Instant::now();
        let ended = timeout(WINDOW * 20, async {
            loop {
                rate.came(1);
                if let Ok(bad) = timeout(WINDOW / 2, poll_fn(|cx| rate.poll(cx))).await {
                    return bad;
                }
            }
        });
        assert_eq!(ended.await.unwrap(), Bad::SlowBody);
        assert!(began.elapsed() >= WINDOW / 2, "{:?}", began.elapsed());
    }
}
