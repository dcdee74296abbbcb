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
//! An upgraded stream is no body and is never replayed.
//!
//! Mirrors are further readers, of the kept part only: a [`Whole`] is handed out once the whole body was read by a try and
//! kept, and shares its memory. So a mirror never makes a try wait, never sees half a request, and where nothing is kept
//! any more, because the body is beyond the limit, it ends and the request goes on.

use super::entire::Entire;
use super::gate::Bad;
use super::idle::Idle;
use crate::error::Failure;
use crate::filter::pace::{Pace, Paced};
use crate::limits::REPLAY_BYTES_MAX;
use crate::tcp::copy::Moved;
use api::RouteReason;
use bytes::Bytes;
use http::HeaderMap;
use http_body::{Body, Frame, SizeHint};
use smallvec::SmallVec;
use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};
use tokio::sync::oneshot;

/// Any error a body may end with.
pub type BodyError = Box<dyn std::error::Error + Send + Sync>;

/// An earlier try's body, read after a later try began.
#[derive(Debug, thiserror::Error)]
#[error("the request went on with another try")]
struct Superseded;

/// The body of one request, for all its tries.
pub struct Replay<B = Entire>(Option<Arc<Mutex<State<B>>>>);

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
    /// Why it has no end.
    broken: Option<Broken>,
    /// Number of the try that may read.
    try_now: u32,
    /// When something was last read; `None`: there is no body.
    moved: Option<Arc<Moved>>,
    /// Who waits for the whole body.
    copies: SmallVec<[oneshot::Sender<Result<Whole, TooLong>>; 1]>,
}

/// All of a body that was read and kept.
#[derive(Clone, Debug, Default)]
pub struct Whole {
    chunks: VecDeque<Bytes>,
    trailers: Option<HeaderMap>,
}

/// A body that is not kept, as there is more of it than may be.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error("the body is longer than {REPLAY_BYTES_MAX} bytes")]
pub struct TooLong;

/// Why a body has no end.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Broken {
    /// Whoever sends it broke off, or sent something malformed.
    Off,
    /// We would not take more of it.
    Refused(Bad),
}

impl Broken {
    /// By the error it ended with.
    pub fn of(error: &(dyn std::error::Error + 'static)) -> Self {
        Bad::behind(error).map_or(Self::Off, Self::Refused)
    }

    /// For whoever sends it.
    pub fn failure(self) -> Failure {
        match self {
            Self::Off => Failure::new(RouteReason::BadRequest, "the body of the request is malformed or broke off"),
            Self::Refused(bad) => Failure::refused(bad),
        }
    }
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
            broken: None,
            try_now: 0,
            moved: Some(Arc::new(Moved::new())),
            copies: SmallVec::new(),
        }))))
    }

    /// The whole body, as soon as a try has read it. Ends without one when none ever does.
    pub fn copy(&self) -> oneshot::Receiver<Result<Whole, TooLong>> {
        let (copy, copied) = oneshot::channel();
        let Self(Some(state)) = self else {
            // Nobody reads it: there is nothing to wait for.
            let _ = copy.send(Ok(Whole::default()));
            return copied;
        };
        let mut state = lock(state);
        state.copies.push(copy);
        if state.source.is_none() || !state.whole {
            state.copied();
        }
        copied
    }

    /// Whether a further try would send the same body.
    pub fn replayable(&self) -> bool {
        let Self(Some(state)) = self else { return true };
        let state = lock(state);
        state.whole || !state.begun
    }

    /// Why a try failed, if that was because of who sends the body, and not because of who gets it.
    pub fn broken(&self) -> Option<Broken> {
        self.0.as_ref().and_then(|state| lock(state).broken)
    }

    /// When something of the body last moved; `None`: there is none.
    pub fn moved(&self) -> Option<Arc<Moved>> {
        self.0.as_ref().and_then(|state| lock(state).moved.clone())
    }

    /// Whether the caller owes some of it still.
    pub fn owed(&self) -> bool {
        self.0.as_ref().is_some_and(|state| lock(state).source.is_some())
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
pub enum Outgoing<B = Entire> {
    /// Nothing.
    Empty,
    /// Read through the loop's copy.
    Replay(Try<B>),
    /// All of a body, for a mirror. Few are, and every request is moved some times.
    Whole(Box<Whole>),
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
            Self::Whole(whole) => {
                let Whole { chunks, trailers } = &mut **whole;
                let frame = chunks.pop_front().map(Frame::data);
                Poll::Ready(frame.or_else(|| trailers.take().map(Frame::trailers)).map(Ok))
            }
            Self::Once(body) => Pin::new(body).poll_frame(cx).map_err(Into::into),
            Self::Replay(Try { body, number, at, trailers_sent }) => lock(body).poll(cx, *number, at, trailers_sent),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Empty => true,
            Self::Whole(whole) => whole.chunks.is_empty() && whole.trailers.is_none(),
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
            Self::Whole(whole) => SizeHint::with_exact(whole.chunks.iter().map(|chunk| chunk.len() as u64).sum()),
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

impl<B> State<B> {
    /// Nothing more will be kept: those who wait hear of it. One that went away meanwhile does not matter.
    fn copied(&mut self) {
        for copy in std::mem::take(&mut self.copies) {
            let all = || Whole { chunks: self.kept.iter().cloned().collect(), trailers: self.trailers.clone() };
            let _ = copy.send(if self.whole { Ok(all()) } else { Err(TooLong) });
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
        let frame = ready!(Pin::new(&mut *source).poll_frame(cx));
        if let Some(moved) = &self.moved {
            moved.now();
        }
        let Some(frame) = frame else {
            self.source = None;
            self.copied();
            return Poll::Ready(None);
        };
        let frame = match frame {
            Ok(frame) => frame,
            Err(error) => {
                // The caller broke off; there is nothing to send again.
                self.source = None;
                self.whole = false;
                self.copies.clear();
                let error = error.into();
                self.broken = Some(Broken::of(&*error));
                return Poll::Ready(Some(Err(error)));
            }
        };
        if let Some(data) = frame.data_ref() {
            self.bytes += data.len();
            if self.whole && self.bytes <= self.bytes_max {
                self.kept.push(data.clone());
                *at += 1;
                // Whoever knows the length asks for no frame after the last byte.
                if source.is_end_stream() {
                    self.source = None;
                    self.copied();
                }
            } else {
                self.whole = false;
                self.kept.clear();
                self.copied();
                *at = 0;
            }
        } else if let Some(trailers) = frame.trailers_ref() {
            self.source = None;
            if self.whole {
                self.trailers = Some(trailers.clone());
                *trailers_sent = true;
            }
            self.copied();
        }
        Poll::Ready(Some(Ok(frame)))
    }
}

/// The body of an answer: from upstream, or a text of ours. Holds `until_end` until it is dropped, so that whoever
/// counts requests in flight sees the end of the body and not only of the head.
pub struct Answer<G = ()> {
    body: AnswerBody,
    until_end: Option<G>,
    idle: Option<Idle>,
}

/// What an answer holds on to until its end.
pub trait UntilEnd {
    /// The body ended before its end, for this reason: the head is gone already, so only we can tell.
    fn cut(&mut self, _reason: RouteReason) {}
}

impl UntilEnd for () {}

enum AnswerBody {
    Upstream(Entire),
    Paced(Box<Paced<Entire>>),
    Text(Bytes),
}

impl<G> Answer<G> {
    /// From upstream.
    pub fn upstream(body: Entire, until_end: G) -> Self {
        Self { body: AnswerBody::Upstream(body), until_end: Some(until_end), idle: None }
    }

    /// From upstream, at a limited pace.
    pub fn paced(body: Entire, pace: Pace, until_end: Option<G>) -> Self {
        Self { body: AnswerBody::Paced(Box::new(Paced::new(body, pace))), until_end, idle: None }
    }

    /// Ends it when it stands still.
    pub fn watched(self, idle: Idle) -> Self {
        Self { idle: Some(idle), ..self }
    }

    /// The same at a limited pace.
    pub fn at_pace(self, pace: Pace) -> Self {
        match self.body {
            AnswerBody::Upstream(body) => Self::paced(body, pace, self.until_end),
            AnswerBody::Paced(_) | AnswerBody::Text(_) => self,
        }
    }

    /// Of our own.
    pub fn text(text: impl Into<Bytes>) -> Self {
        Self { body: AnswerBody::Text(text.into()), until_end: None, idle: None }
    }
}

impl<G: UntilEnd> Answer<G> {
    fn cut(&mut self, reason: RouteReason, error: impl Into<BodyError>) -> BodyError {
        if let Some(mut until_end) = self.until_end.take() {
            until_end.cut(reason);
        }
        error.into()
    }
}

impl<G: UntilEnd + Unpin> Body for Answer<G> {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let this = self.get_mut();
        let frame = match &mut this.body {
            AnswerBody::Upstream(body) => Pin::new(body).poll_frame(cx),
            AnswerBody::Paced(body) => Pin::new(body).poll_frame(cx),
            AnswerBody::Text(text) if text.is_empty() => return Poll::Ready(None),
            AnswerBody::Text(text) => return Poll::Ready(Some(Ok(Frame::data(std::mem::take(text))))),
        };
        match (frame, &mut this.idle) {
            (Poll::Ready(Some(Ok(frame))), idle) => {
                if let Some(idle) = idle {
                    idle.moved();
                }
                Poll::Ready(Some(Ok(frame)))
            }
            (Poll::Ready(Some(Err(error))), _) => Poll::Ready(Some(Err(this.cut(RouteReason::UpstreamReset, error)))),
            (Poll::Ready(None), _) => {
                this.until_end = None;
                Poll::Ready(None)
            }
            (Poll::Pending, None) => Poll::Pending,
            (Poll::Pending, Some(idle)) => {
                let stood_still = ready!(idle.poll(cx));
                Poll::Ready(Some(Err(this.cut(RouteReason::StreamIdle, stood_still))))
            }
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

    #[tokio::test]
    async fn a_copy_is_the_whole_body_and_no_try_waits_for_it() {
        let replay = Replay::bounded(chunks(&["ab", "cd"], true), 4);
        let mut copy = replay.copy();
        let mut first = replay.next_try();
        first.frame().await.unwrap().unwrap();
        assert!(copy.try_recv().is_err(), "half a body is none");
        assert_eq!(text(replay.next_try()).await, ("abcd".into(), true));
        for copied in [copy.await, replay.copy().await] {
            assert_eq!(text(Outgoing::Whole(copied.unwrap().unwrap().into())).await, ("abcd".into(), true));
        }
    }

    #[tokio::test]
    async fn a_body_beyond_the_limit_ends_the_copy_and_not_the_request() {
        let replay = Replay::bounded(chunks(&["abc", "def"], false), 5);
        let copy = replay.copy();
        assert_eq!(text(replay.next_try()).await, ("abcdef".into(), false));
        assert_eq!(copy.await.unwrap().unwrap_err(), TooLong);
        let announced = Replay::bounded(Full::new(Bytes::from_static(b"0123456789")), 5);
        assert_eq!(announced.copy().await.unwrap().unwrap_err(), TooLong);
    }

    #[tokio::test]
    async fn a_body_that_nobody_reads_is_not_copied() {
        let replay = Replay::new(chunks(&["ab"], false));
        let copy = replay.copy();
        drop(replay);
        assert!(copy.await.is_err());
        let empty = Replay::new(Full::new(Bytes::new()));
        assert!(text(Outgoing::Whole(empty.copy().await.unwrap().unwrap().into())).await.0.is_empty());
    }
}
