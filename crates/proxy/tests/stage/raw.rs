//! Apps and callers that speak byte by byte, with a pair of proxies between them.

use super::{LOCALHOST, Plan, Proxy, SOON, Trusts, allow_all, rule_to};
use api::config::InboundPort;
use api::kinds::Protocol;
use bytes::Bytes;
use http::{Request, Response};
use http_body_util::combinators::UnsyncBoxBody;
use hyper::body::Incoming;
use hyper::client::conn::http2::SendRequest;
use hyper_util::rt::{TokioExecutor, TokioIo};
use std::future::Future;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};
use tokio::time::timeout;

pub const HOST: &str = "cart.shop.mesh";
pub type Error = Box<dyn std::error::Error + Send + Sync>;
pub type Sent = UnsyncBoxBody<Bytes, Error>;

/// An app of one's own words behind a pair of proxies.
pub struct Through {
    pub web: Proxy,
    pub cart: Proxy,
    task: tokio::task::JoinHandle<()>,
    _trusts: Trusts,
}

impl Drop for Through {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Through {
    /// `serve` gets each connection that the inbound proxy makes.
    pub async fn to<F, S>(protocol: Protocol, serve: S) -> Self
    where
        F: Future<Output = ()> + Send + 'static,
        S: Fn(TcpStream) -> F + Send + 'static,
    {
        let listener = TcpListener::bind((LOCALHOST, 0)).await.unwrap();
        let target = listener.local_addr().unwrap().port();
        let task = tokio::spawn(async move {
            let mut connections = tokio::task::JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                connections.spawn(serve(stream));
            }
        });
        let trusts = Trusts::of(&["west"]);
        let cart = Proxy::sidecar(&trusts, "west", "cart", "cart-1");
        let ports = vec![InboundPort { port: 80, target, protocol }];
        cart.apply(&Plan::default().own("west", "cart", ports, allow_all()).0);
        let web = Proxy::sidecar(&trusts, "west", "web", "web-1");
        let mut rule = rule_to("cart");
        // What is judged here is one try.
        rule.retry.max = 0;
        let plan = Plan::default()
            .own("west", "web", Vec::new(), allow_all())
            .outbound("cart", protocol, rule, &[])
            .local("cart", "west", &[("cart-1", cart.inbound, true)]);
        web.apply(&plan.0);
        Self { web, cart, task, _trusts: trusts }
    }

    /// An app that answers every request head with `answer`, byte for byte, and then does what `then` says.
    pub async fn saying(answer: &'static str, then: Then) -> Self {
        Self::to(Protocol::Http, move |mut stream| async move {
            while !head(&mut stream).await.is_empty() {
                stream.write_all(answer.as_bytes()).await.unwrap();
                match then {
                    Then::Stays => {}
                    Then::Closes => return,
                    Then::Breaks => return super::reset(stream),
                }
            }
        })
        .await
    }

    /// The same, and every head that the app got.
    pub async fn hearing(answer: &'static str) -> (Self, UnboundedReceiver<String>) {
        let (told, heard) = unbounded_channel();
        let through = Self::to(Protocol::Http, move |mut stream| {
            let told = told.clone();
            async move {
                let head = head(&mut stream).await;
                if !head.is_empty() {
                    told.send(head).unwrap();
                    stream.write_all(answer.as_bytes()).await.unwrap();
                }
            }
        });
        (through.await, heard)
    }

    /// A connection of an app to its proxy.
    pub async fn connect(&self) -> TcpStream {
        TcpStream::connect(self.web.outbound).await.unwrap()
    }

    /// Says `request` on a connection of its own, and reads until the proxy closes it.
    pub async fn ask(&self, request: &str) -> String {
        let mut stream = self.connect().await;
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = Vec::new();
        // A reset is an end as well; what came before counts.
        let _ = timeout(SOON, stream.read_to_end(&mut answer)).await.expect("the proxy ends the connection");
        String::from_utf8(answer).unwrap()
    }

    /// A caller of HTTP/2.
    pub async fn http2(&self) -> SendRequest<Sent> {
        let stream = self.connect().await;
        let handshake = hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream));
        let (sender, connection) = handshake.await.unwrap();
        tokio::spawn(connection);
        sender
    }
}

/// What an app does after an answer.
#[derive(Clone, Copy)]
pub enum Then {
    /// Waits for the next request.
    Stays,
    /// Closes in good order.
    Closes,
    /// Is killed with bytes unread: the kernel resets the connection.
    Breaks,
}

/// Everything up to the end of a head; empty at the end of the connection.
pub async fn head(stream: &mut TcpStream) -> String {
    let mut bytes = Vec::new();
    while !bytes.ends_with(b"\r\n\r\n") {
        match stream.read_u8().await {
            Ok(byte) => bytes.push(byte),
            Err(_) => break,
        }
    }
    String::from_utf8(bytes).unwrap()
}

/// Reads until `end` has come.
pub async fn until(stream: &mut TcpStream, end: &str) -> String {
    let mut bytes = Vec::new();
    let reading = async {
        while !bytes.ends_with(end.as_bytes()) {
            match stream.read_u8().await {
                Ok(byte) => bytes.push(byte),
                Err(error) => panic!("{error} after {:?}", String::from_utf8_lossy(&bytes)),
            }
        }
    };
    let waited = timeout(SOON, reading).await;
    assert!(waited.is_ok(), "{end:?} did not come, but {:?}", String::from_utf8_lossy(&bytes));
    String::from_utf8(bytes).unwrap()
}

/// An app of HTTP/2 in the words of a service.
pub async fn serve_http2<F, B>(stream: TcpStream, serve: impl Fn(Request<Incoming>) -> F)
where
    F: Future<Output = Response<B>> + Send + 'static,
    B: http_body::Body<Data = Bytes, Error = Error> + Send + 'static,
{
    let service = hyper::service::service_fn(move |request| {
        let answer = serve(request);
        async move { Ok::<_, std::convert::Infallible>(answer.await) }
    });
    let builder = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
    let _ = builder.serve_connection(TokioIo::new(stream), service).await;
}
