//! Bytes at a limited pace: bodies and connections whose bytes wait until their bucket grants them.
//!
//! Whoever comes takes the next moment there is, so streams that share a bucket go on in turn and nobody is woken in
//! vain. What waits is not read further, so the pressure reaches whoever sends.

use super::bucket::{Bucket, Later, Meter};
use super::rate_limit::Limit;
use crate::http::body::BodyError;
use crate::limits::{PACED_AHEAD, PACED_BYTES_MAX, PACED_BYTES_MIN};
use crate::state::State;
use api::SpiffeId;
use api::config::Rate;
use bytes::{Buf, Bytes};
use http_body::{Body, Frame, SizeHint};
use smallvec::SmallVec;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Sleep, sleep};

/// What may go out now, by all the limits that hold.
pub struct Pace {
    state: Arc<State>,
    sources: SmallVec<[Source; 1]>,
    chunk: usize,
    granted: usize,
    waiting: Option<Pin<Box<Sleep>>>,
}

enum Source {
    /// Of a policy, shared with others.
    Shared { limit: Arc<Limit>, caller: Option<SpiffeId> },
    /// Of this stream alone.
    Own { meter: Meter, bucket: Bucket },
}

impl Source {
    fn ask<T>(&self, now_us: u64, ask: impl FnOnce(&Meter, &Bucket) -> T) -> Option<T> {
        match self {
            Self::Shared { limit, caller } => {
                limit.bandwidth(caller.as_ref(), now_us).map(|(meter, bucket)| ask(meter, bucket))
            }
            Self::Own { meter, bucket } => Some(ask(meter, bucket)),
        }
    }
}

impl Pace {
    /// Shared with everybody whom these limits hold for; `None`: they limit no bandwidth.
    pub fn shared(state: &Arc<State>, limits: &[Arc<Limit>], caller: Option<&SpiffeId>) -> Option<Self> {
        let rates = limits.iter().filter_map(|limit| Some((limit, limit.rule.bandwidth?)));
        let chunk = rates.clone().map(|(_, rate)| chunk(&rate)).min()?;
        let sources =
            rates.map(|(limit, _)| Source::Shared { limit: limit.clone(), caller: caller.cloned() }).collect();
        Some(Self { state: state.clone(), sources, chunk, granted: 0, waiting: None })
    }

    /// Of one stream alone.
    pub fn own(state: &Arc<State>, rate: &Rate) -> Self {
        let source = Source::Own { meter: Meter::new(rate), bucket: Bucket::default() };
        let sources = SmallVec::from_iter([source]);
        Self { state: state.clone(), sources, chunk: chunk(rate), granted: 0, waiting: None }
    }

    /// How many of `wanted` bytes may go out; at least one.
    fn poll(&mut self, cx: &mut Context<'_>, wanted: usize) -> Poll<usize> {
        loop {
            if let Some(waiting) = &mut self.waiting {
                ready!(waiting.as_mut().poll(cx));
                self.waiting = None;
            }
            if self.granted > 0 {
                return Poll::Ready(self.granted.min(wanted));
            }
            let bytes = wanted.min(self.chunk);
            let wait_us = match self.take(bytes as u64) {
                Ok(wait_us) => {
                    self.granted = bytes;
                    wait_us
                }
                Err(Later { wait_us }) => wait_us,
            };
            self.waiting = (wait_us > 0).then(|| Box::pin(sleep(Duration::from_micros(wait_us))));
        }
    }

    fn spent(&mut self, bytes: usize) {
        self.granted -= bytes;
    }

    /// From all, or from none.
    fn take(&self, bytes: u64) -> Result<u64, Later> {
        let now_us = self.state.now_us();
        let mut longest = 0;
        for (i, source) in self.sources.iter().enumerate() {
            let patience_us = PACED_AHEAD.as_micros() as u64;
            match source.ask(now_us, |meter, bucket| meter.take(bucket, bytes, now_us, patience_us)) {
                Some(Ok(wait_us)) => longest = longest.max(wait_us),
                Some(Err(later)) => {
                    for taken in &self.sources[..i] {
                        taken.ask(now_us, |meter, bucket| meter.give_back(bucket, bytes, now_us));
                    }
                    return Err(later);
                }
                None => {}
            }
        }
        Ok(longest)
    }
}

fn chunk(rate: &Rate) -> usize {
    let second = rate.count.saturating_mul(1_000) / rate.per_ms.max(1);
    let most = (PACED_BYTES_MAX as u64).min(rate.burst.max(1));
    (second / 20).clamp(PACED_BYTES_MIN.min(most as usize) as u64, most) as usize
}

/// A body at a limited pace.
pub struct Paced<B> {
    body: B,
    pace: Pace,
    rest: Bytes,
}

impl<B> Paced<B> {
    /// Slows `body` down.
    pub fn new(body: B, pace: Pace) -> Self {
        Self { body, pace, rest: Bytes::new() }
    }
}

impl<B: Body<Data = Bytes> + Unpin> Body for Paced<B>
where
    B::Error: Into<BodyError>,
{
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let Self { body, pace, rest } = self.get_mut();
        while rest.is_empty() {
            match ready!(Pin::new(&mut *body).poll_frame(cx)) {
                Some(Ok(frame)) => match frame.into_data() {
                    Ok(data) => *rest = data,
                    Err(trailers) => return Poll::Ready(Some(Ok(trailers))),
                },
                Some(Err(error)) => return Poll::Ready(Some(Err(error.into()))),
                None => return Poll::Ready(None),
            }
        }
        let bytes = ready!(pace.poll(cx, rest.remaining()));
        pace.spent(bytes);
        Poll::Ready(Some(Ok(Frame::data(rest.split_to(bytes)))))
    }

    fn is_end_stream(&self) -> bool {
        self.rest.is_empty() && self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        let (inner, rest) = (self.body.size_hint(), self.rest.len() as u64);
        let mut hint = SizeHint::new();
        hint.set_lower(inner.lower() + rest);
        if let Some(upper) = inner.upper() {
            hint.set_upper(upper + rest);
        }
        hint
    }
}

/// A connection on which we write at a limited pace; reading is not limited.
pub struct Slowed<I> {
    io: I,
    pace: Option<Pace>,
}

impl<I> Slowed<I> {
    /// Slows writing to `io` down; without a pace, not at all.
    pub fn new(io: I, pace: Option<Pace>) -> Self {
        Self { io, pace }
    }
}

impl<I: AsyncRead + Unpin> AsyncRead for Slowed<I> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().io).poll_read(cx, buf)
    }
}

impl<I: AsyncWrite + Unpin> AsyncWrite for Slowed<I> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let Self { io, pace } = self.get_mut();
        let Some(pace) = pace.as_mut().filter(|_| !buf.is_empty()) else { return Pin::new(io).poll_write(cx, buf) };
        let most = match pace.poll(cx, buf.len()) {
            Poll::Ready(most) => most,
            Poll::Pending => {
                // What was granted before should not lie in a buffer meanwhile.
                let _ = Pin::new(io).poll_flush(cx)?;
                return Poll::Pending;
            }
        };
        let written = ready!(Pin::new(io).poll_write(cx, &buf[..most]))?;
        pace.spent(written);
        Poll::Ready(Ok(written))
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().io).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().io).poll_shutdown(cx)
    }
}
