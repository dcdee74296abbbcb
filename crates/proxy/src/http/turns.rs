//! A connection's turns: it and the requests it brought are one task, which reads some requests and takes some steps of
//! those under way each time it is polled. So a worker is shared by connections, however many requests each of them has.

use super::gate::Told;
use super::line::Place;
use futures_util::stream::{FuturesUnordered, StreamExt};
use hyper::rt::Executor;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};

type Boxed = Pin<Box<dyn Future<Output = ()> + Send>>;

/// Where a connection puts requests that begin, instead of a task for each. Used by its task only, so the lock is never
/// waited for.
#[derive(Clone, Default)]
pub struct Begun(Arc<Mutex<Vec<Boxed>>>);

impl<F: Future<Output = ()> + Send + 'static> Executor<F> for Begun {
    fn execute(&self, request: F) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(Box::pin(request));
    }
}

/// One request, which waits for the next turn when the steps of this one are used up.
struct Request {
    told: Arc<Told>,
    request: Boxed,
}

impl Future for Request {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        if !self.told.step() {
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        self.request.as_mut().poll(cx)
    }
}

/// The task of a connection. h2 asks for more bytes after each request it hands on, so that only here can be told where a
/// turn ends.
pub struct Turns<C> {
    told: Arc<Told>,
    begun: Begun,
    requests: FuturesUnordered<Request>,
    /// There was more to do than the last turn held.
    next: Option<Place>,
    /// hyper's.
    pub connection: C,
}

impl<C> Turns<C> {
    /// Of what reads through the gate that gave `told`, and executes by `begun`.
    pub fn new(told: Arc<Told>, begun: Begun, connection: C) -> Self {
        Self { told, begun, requests: FuturesUnordered::new(), next: None, connection }
    }

    fn step(&mut self, cx: &mut Context<'_>) {
        while let Poll::Ready(Some(())) = self.requests.poll_next_unpin(cx) {}
    }
}

impl<C: Future + Unpin> Future for Turns<C> {
    type Output = C::Output;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<C::Output> {
        let this = self.get_mut();
        if this.next.as_mut().is_some_and(|next| Pin::new(next).poll(cx).is_pending()) {
            return Poll::Pending;
        }
        this.told.turn_begins();
        this.step(cx);
        let served = Pin::new(&mut this.connection).poll(cx);
        let mut begun = this.begun.0.lock().unwrap_or_else(PoisonError::into_inner);
        if !begun.is_empty() {
            let told = &this.told;
            this.requests.extend(begun.drain(..).map(|request| Request { told: told.clone(), request }));
            drop(begun);
            this.step(cx);
        }
        this.next = (served.is_pending() && this.told.is_turn_used()).then(Place::last);
        served
    }
}
