//! Bodies on their way through, and when a request body can be sent a second time.
//!
//! # Who owns a request body
//! The retry loop owns it, as a [`Replay`]. Each try gets an [`Outgoing`] that reads through it; only the latest try may
//! read, an earlier one that is still being torn down sees its body end with an error. What is read is kept, up to
//! [`REPLAY_BYTES_MAX`]:
//!
//! | body | kept | another try |
//! |---|---|---|
//! | none | nothing | always |
//! | not yet read by a try (refused connection) | nothing | always |
//! | read, no more than the limit so far | all of it, trailers included | starts with what is kept, goes on with the rest |
//! | read beyond the limit, or announced longer | nothing: what was kept is let go | never |
//!
//! Mirrors and upgrades would be further readers; an upgraded stream is no body and is never replayed.

use crate::filter::pace::{Pace, Paced};
use crate::limits::REPLAY_BYTES_MAX;
use bytes::Bytes;
use http::HeaderMap;
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};

/// Any error a body may end with.
pub type BodyError = Box<dyn std::error::Error + Send + Sync>;

/// An earlier try's body, read after a later try began.
#[derive(Debug, thiserror::Error)]
#[error("the request went on with another try")]
struct Superseded;

/// The body of one request, for all its tries.
pub struct Replay<B = Incoming>(Option<Arc<Mutex<State<B>>>>);

struct State<B> {
    source: Option<B>,
    kept: Vec<Bytes>,
    trailers: Option<HeaderMap>,
    bytes: usize,
    bytes_max: usize,
    /// False once more was read than may be kept.
    whole: bool,
    /// Some try has read something.
    begun: bool,
    /// Number of the try that may read.
    try_now: u32,
}

impl<B> Clone for Replay<B> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<B: Body<Data = Bytes>> Replay<B> {
    /// Takes a body over. One that announces more than the limit is never kept.
    pub fn new(source: B) -> Self {
        Self::bounded(source, REPLAY_BYTES_MAX)
    }

    fn bounded(source: B, bytes_max: usize) -> Self {
        if source.is_end_stream() {
            return Self(None);
        }
        let fits = source.size_hint().lower() <= bytes_max as u64;
        Self(Some(Arc::new(Mutex::new(State {
            source: Some(source),
            kept: Vec::new(),
            trailers: None,
            bytes: 0,
            bytes_max,
            whole: fits,
            begun: false,
            try_now: 0,
        }))))
    }

    /// Whether a further try would send the same body.
    pub fn replayable(&self) -> bool {
        let Self(Some(state)) = self else { return true };
        let state = lock(state);
        state.whole || !state.begun
    }

    /// The body for the next try; the one before it ends here.
    pub fn next_try(&self) -> Outgoing<B> {
        let Self(Some(body)) = self else { return Outgoing::Empty };
        let mut state = lock(body);
        state.try_now += 1;
        Outgoing::Replay(Try { body: body.clone(), number: state.try_now, at: 0, trailers_sent: false })
    }
}

fn lock<B>(state: &Mutex<State<B>>) -> MutexGuard<'_, State<B>> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What one try sends.
pub enum Outgoing<B = Incoming> {
    /// Nothing.
    Empty,
    /// Read through the loop's copy.
    Replay(Try<B>),
    /// Straight through; for inbound requests, which are never replayed.
    Once(B),
}

/// One try's way through a body.
pub struct Try<B> {
    body: Arc<Mutex<State<B>>>,
    /// Which try.
    number: u32,
    /// Chunks of the kept ones already sent.
    at: usize,
    /// The kept trailers went out.
    trailers_sent: bool,
}

impl<B: Body<Data = Bytes> + Unpin> Body for Outgoing<B>
where
    B::Error: Into<BodyError>,
{
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        match self.get_mut() {
            Self::Empty => Poll::Ready(None),
            Self::Once(body) => Pin::new(body).poll_frame(cx).map_err(Into::into),
            Self::Replay(Try { body, number, at, trailers_sent }) => lock(body).poll(cx, *number, at, trailers_sent),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Empty => true,
            Self::Once(body) => body.is_end_stream(),
            Self::Replay(Try { body, at, trailers_sent, .. }) => {
                let state = lock(body);
                let rest = state.source.as_ref().is_some_and(|source| !source.is_end_stream());
                !rest && *at == state.kept.len() && (*trailers_sent || state.trailers.is_none())
            }
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Empty => SizeHint::with_exact(0),
            Self::Once(body) => body.size_hint(),
            Self::Replay(Try { body, at, .. }) => {
                let state = lock(body);
                let kept: u64 = state.kept[(*at).min(state.kept.len())..].iter().map(|chunk| chunk.len() as u64).sum();
                let rest = state.source.as_ref().map_or_else(|| SizeHint::with_exact(0), Body::size_hint);
                let mut hint = SizeHint::new();
                hint.set_lower(kept + rest.lower());
                if let Some(upper) = rest.upper() {
                    hint.set_upper(kept + upper);
                }
                hint
            }
        }
    }
}

impl<B: Body<Data = Bytes> + Unpin> State<B>
where
    B::Error: Into<BodyError>,
{
    fn poll(
        &mut self,
        cx: &mut Context<'_>,
        number: u32,
        at: &mut usize,
        trailers_sent: &mut bool,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        if number != self.try_now {
            return Poll::Ready(Some(Err(Superseded.into())));
        }
        if let Some(chunk) = self.kept.get(*at) {
            *at += 1;
            return Poll::Ready(Some(Ok(Frame::data(chunk.clone()))));
        }
        let Some(source) = &mut self.source else {
            let trailers = self.trailers.clone().filter(|_| !std::mem::replace(trailers_sent, true));
            return Poll::Ready(trailers.map(|trailers| Ok(Frame::trailers(trailers))));
        };
        self.begun = true;
        let Some(frame) = ready!(Pin::new(source).poll_frame(cx)) else {
            self.source = None;
            return Poll::Ready(None);
        };
        let frame = match frame {
            Ok(frame) => frame,
            Err(error) => {
                // The caller broke off; there is nothing to send again.
                self.source = None;
                self.whole = false;
                return Poll::Ready(Some(Err(error.into())));
            }
        };
        if let Some(data) = frame.data_ref() {
            self.bytes += data.len();
            if self.whole && self.bytes <= self.bytes_max {
                self.kept.push(data.clone());
                *at += 1;
            } else {
                self.whole = false;
                self.kept.clear();
                *at = 0;
            }
        } else if let Some(trailers) = frame.trailers_ref() {
            self.source = None;
            if self.whole {
                self.trailers = Some(trailers.clone());
                *trailers_sent = true;
            }
        }
        Poll::Ready(Some(Ok(frame)))
    }
}

/// The body of an answer: from upstream, or a text of ours. Holds `until_end` until it is dropped, so that whoever
/// counts requests in flight sees the end of the body and not only of the head.
pub struct Answer<G = ()> {
    body: AnswerBody,
    until_end: Option<G>,
}

enum AnswerBody {
    Upstream(Incoming),
    Paced(Box<Paced<Incoming>>),
    Text(Bytes),
}

impl<G> Answer<G> {
    /// From upstream.
    pub fn upstream(body: Incoming, until_end: G) -> Self {
        Self { body: AnswerBody::Upstream(body), until_end: Some(until_end) }
    }

    /// From upstream, at a limited pace.
    pub fn paced(body: Incoming, pace: Pace, until_end: Option<G>) -> Self {
        Self { body: AnswerBody::Paced(Box::new(Paced::new(body, pace))), until_end }
    }

    /// Of our own.
    pub fn text(text: impl Into<Bytes>) -> Self {
        Self { body: AnswerBody::Text(text.into()), until_end: None }
    }
}

impl<G: Unpin> Body for Answer<G> {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let this = self.get_mut();
        match &mut this.body {
            AnswerBody::Upstream(body) => {
                let frame = ready!(Pin::new(body).poll_frame(cx));
                if !matches!(frame, Some(Ok(_))) {
                    this.until_end = None;
                }
                Poll::Ready(frame.map(|frame| frame.map_err(Into::into)))
            }
            AnswerBody::Paced(body) => {
                let frame = ready!(Pin::new(body).poll_frame(cx));
                if !matches!(frame, Some(Ok(_))) {
                    this.until_end = None;
                }
                Poll::Ready(frame)
            }
            AnswerBody::Text(text) if text.is_empty() => Poll::Ready(None),
            AnswerBody::Text(text) => Poll::Ready(Some(Ok(Frame::data(std::mem::take(text))))),
        }
    }

    fn is_end_stream(&self) -> bool {
        match &self.body {
            AnswerBody::Upstream(body) => body.is_end_stream(),
            AnswerBody::Paced(body) => body.is_end_stream(),
            AnswerBody::Text(text) => text.is_empty(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.body {
            AnswerBody::Upstream(body) => body.size_hint(),
            AnswerBody::Paced(body) => body.size_hint(),
            AnswerBody::Text(text) => SizeHint::with_exact(text.len() as u64),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use http_body_util::{BodyExt, Full, StreamBody, combinators::UnsyncBoxBody};

    type Boxed = UnsyncBoxBody<Bytes, BodyError>;

    fn chunks(chunks: &[&'static str], trailers: bool) -> Boxed {
        let mut frames: Vec<Result<Frame<Bytes>, BodyError>> =
            chunks.iter().map(|chunk| Ok(Frame::data(Bytes::from_static(chunk.as_bytes())))).collect();
        if trailers {
            let map = HeaderMap::from_iter([("grpc-status".parse().unwrap(), "0".parse().unwrap())]);
            frames.push(Ok(Frame::trailers(map)));
        }
        StreamBody::new(futures_util::stream::iter(frames)).boxed_unsync()
    }

    async fn text(body: Outgoing<Boxed>) -> (String, bool) {
        let all = body.collect().await.unwrap();
        let trailers = all.trailers().is_some();
        (String::from_utf8(all.to_bytes().to_vec()).unwrap(), trailers)
    }

    #[tokio::test]
    async fn a_second_try_sends_what_the_first_read_and_then_the_rest() {
        let replay = Replay::bounded(chunks(&["ab", "cd", "ef"], true), 6);
        let mut first = replay.next_try();
        for _ in 0..2 {
            first.frame().await.unwrap().unwrap();
        }
        assert!(replay.replayable());
        let second = replay.next_try();
        assert!(first.frame().await.unwrap().is_err(), "an earlier try may not read any more");
        assert_eq!(text(second).await, ("abcdef".into(), true));
        assert_eq!(text(replay.next_try()).await, ("abcdef".into(), true));
    }

    #[tokio::test]
    async fn a_body_beyond_the_limit_is_sent_once() {
        let replay = Replay::bounded(chunks(&["abc", "def"], false), 5);
        assert!(replay.replayable());
        assert_eq!(text(replay.next_try()).await, ("abcdef".into(), false));
        assert!(!replay.replayable());
    }

    #[tokio::test]
    async fn a_body_nobody_read_can_always_be_sent() {
        let replay = Replay::bounded(Full::new(Bytes::from_static(b"0123456789")), 5);
        let _refused = replay.next_try();
        assert!(replay.replayable(), "the first try never read it");
        let mut body = replay.next_try();
        assert_eq!(body.frame().await.unwrap().unwrap().into_data().unwrap(), "0123456789");
        assert!(!replay.replayable());
    }

    #[tokio::test]
    async fn no_body_is_always_replayable() {
        let replay = Replay::new(Full::new(Bytes::new()));
        for _ in 0..3 {
            assert!(replay.next_try().is_end_stream());
            assert!(replay.replayable());
        }
    }
}
