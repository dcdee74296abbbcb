//! Bodies as they came, that end only where their sender ended them.
//!
//! A stream of HTTP/2 that is reset with `NO_ERROR` looks to hyper like one that has ended: so a server says that it needs
//! no more of a request after it has answered all of it (RFC 9113 section 8.1). Before that end it is broken off as by
//! any other reset.

use super::body::BodyError;
use super::rate_min::RateMin;
use super::refused;
use bytes::Bytes;
use http::{HeaderMap, Version};
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

/// Reset before the end.
#[derive(Debug, thiserror::Error)]
#[error("the stream was reset before its end")]
struct Reset;

/// See the module's text.
pub struct Entire {
    body: Incoming,
    /// A stream; HTTP/1 tells hyper of every end.
    http2: bool,
    /// How slow it may be; `None`: as it likes, or somebody else sees to it.
    rate: Option<Box<RateMin>>,
}

impl Entire {
    /// Of a message of this version, as it came.
    pub fn new(version: Version, body: Incoming) -> Self {
        Self { body, http2: version == Version::HTTP_2, rate: None }
    }

    /// Of a request from outside, with these fields. The rate of HTTP/1 is the gate's to watch.
    #[must_use]
    pub fn from_outside(self, fields: &HeaderMap) -> Self {
        let rate = if self.http2 && !self.body.is_end_stream() { RateMin::outside(fields) } else { None };
        Self { rate: rate.map(Box::new), ..self }
    }
}

impl Body for Entire {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let Self { body, http2, rate } = &mut *self;
        let frame = match (Pin::new(&mut *body).poll_frame(cx), rate) {
            (Poll::Pending, None) => return Poll::Pending,
            (Poll::Pending, Some(rate)) => {
                let bad = ready!(rate.poll(cx));
                refused::count(&bad);
                return Poll::Ready(Some(Err(bad.into())));
            }
            (Poll::Ready(frame), None) => frame,
            (Poll::Ready(frame), Some(rate)) => {
                let data = frame.as_ref().and_then(|frame| frame.as_ref().ok()?.data_ref());
                rate.came(data.map_or(0, Bytes::len));
                frame
            }
        };
        Poll::Ready(match frame {
            None if *http2 && !body.is_end_stream() => Some(Err(Reset.into())),
            frame => frame.map(|frame| frame.map_err(Into::into)),
        })
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::stream::pending;
    use h2::Reason;
    use http::{Request, Response};
    use http_body_util::{BodyExt, Empty, StreamBody};
    use hyper_util::rt::{TokioExecutor, TokioIo};
    use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};
    use tokio::sync::oneshot;

    /// What a server does once the caller has the beginning of its answer.
    #[derive(Clone, Copy, Debug)]
    enum Then {
        Resets(Reason),
        Ends,
        EndsAndResets,
        EndsWithTrailers,
    }

    /// The body of an answer to a request that never ends.
    async fn answered(then: Then) -> Result<Bytes, BodyError> {
        let (near, far) = duplex(1 << 16);
        let (seen, was_seen) = oneshot::channel();
        tokio::spawn(async move {
            let mut connection = h2::server::handshake(far).await.unwrap();
            let (request, mut respond) = connection.accept().await.unwrap().unwrap();
            let mut upload = Some(request.into_body());
            let mut stream = respond.send_response(Response::new(()), false).unwrap();
            stream.send_data(Bytes::from_static(b"begun"), false).unwrap();
            let answering = async {
                was_seen.await.unwrap();
                match then {
                    Then::Resets(reason) => stream.send_reset(reason),
                    Then::Ends => stream.send_data(Bytes::new(), true).unwrap(),
                    Then::EndsAndResets => {
                        stream.send_data(Bytes::new(), true).unwrap();
                        // No more of the request is wanted.
                        drop(upload.take());
                    }
                    Then::EndsWithTrailers => stream.send_trailers(HeaderMap::new()).unwrap(),
                }
            };
            tokio::join!(answering, async { while connection.accept().await.is_some() {} });
        });
        let handshake = hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(near));
        let (mut sender, connection) = handshake.await.unwrap();
        tokio::spawn(connection);
        let request = Request::new(StreamBody::new(pending::<Result<Frame<Bytes>, BodyError>>()));
        let response = sender.send_request(request).await.unwrap();
        let mut body = Entire::new(response.version(), response.into_body());
        assert_eq!(body.frame().await.unwrap().unwrap().into_data().unwrap(), "begun");
        seen.send(()).unwrap();
        body.collect().await.map(http_body_util::Collected::to_bytes)
    }

    #[tokio::test]
    async fn a_stream_has_ended_where_its_sender_ended_it_and_nowhere_else() {
        for (then, whole) in [
            (Then::Ends, true),
            (Then::EndsAndResets, true),
            (Then::EndsWithTrailers, true),
            (Then::Resets(Reason::NO_ERROR), false),
            (Then::Resets(Reason::CANCEL), false),
        ] {
            let answered = answered(then).await;
            assert_eq!(answered.is_ok(), whole, "{then:?}: {answered:?}");
        }
    }

    #[tokio::test]
    async fn http_1_ends_by_its_own_rules() {
        let (near, mut far) = duplex(1 << 16);
        let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(near)).await.unwrap();
        tokio::spawn(connection);
        let answering = async {
            far.read_u8().await.unwrap();
            far.write_all(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n").await.unwrap();
        };
        let (response, ()) = tokio::join!(sender.send_request(Request::new(Empty::<Bytes>::new())), answering);
        let response = response.unwrap();
        let body = Entire::new(response.version(), response.into_body());
        assert_eq!(body.collect().await.unwrap().to_bytes(), "ok");
    }
}
