//! A control plane of the mesh, and its REST interface.

use crate::ports::Port;
use crate::program::{Program, Threads};
use crate::wait::SOON;
use anyhow::anyhow;
use bytes::Bytes;
use clap::Parser;
use http::{HeaderMap, Method, Request, header};
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use process::Process;
use serde_json::Value;
use std::future::Future;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use tokio::net::TcpStream;
use tokio::sync::oneshot;

/// Nobody asks for it in a test, but every program has one.
pub(crate) const ADMIN: &str = "127.0.0.1:0";

/// Which one.
#[derive(Clone, Debug)]
pub(crate) enum Role {
    Global,
    Zone,
}

/// A control plane that runs, or ran and will again.
pub(crate) struct Control {
    name: String,
    role: Role,
    data: PathBuf,
    token_file: PathBuf,
    api: Port,
    sync: Port,
    peer: Port,
    program: Option<Program>,
}

impl Control {
    /// Where everything will be; nothing runs yet.
    pub fn new(name: &str, role: Role, folder: &Path) -> Self {
        let file = name.replace('/', "_");
        let (data, token_file) = (folder.join(&file), folder.join(format!("{file}.token")));
        let (api, sync, peer) = (Port::claim(), Port::claim(), Port::claim());
        Self { name: name.into(), role, data, token_file, api, sync, peer, program: None }
    }

    /// Where its join token is read.
    pub fn token_file(&self) -> &Path {
        &self.token_file
    }

    /// Starts it, and waits until its API answers.
    pub async fn start(&mut self) {
        let (up, started) = oneshot::channel();
        let name = self.name.clone();
        let program = match self.role {
            Role::Global => {
                let options: global_cp::Options = self.options(&[]);
                let process = Process::new(global_cp::PROGRAM, options.common.clone());
                Program::start(name, Threads::Two, move || stay(up, global_cp::start(process, options)))
            }
            Role::Zone => {
                let token = self.token_file.display().to_string();
                let options: zone_cp::Options =
                    self.options(&["--token-file", &token, "--peer-listen", &self.peer.at().to_string()]);
                let process = Process::new(zone_cp::PROGRAM, options.common.clone());
                Program::start(name, Threads::Two, move || stay(up, zone_cp::start(process, options)))
            }
        };
        self.program = Some(program);
        let up = tokio::time::timeout(SOON, started).await;
        let up = up.unwrap_or_else(|_| panic!("{} did not start within {SOON:?}", self.name));
        up.unwrap_or_else(|_| panic!("{} did not start; it said why above", self.name));
    }

    /// As on its command line.
    fn options<P: Parser>(&self, further: &[&str]) -> P {
        let Self { name, data, api, sync, .. } = self;
        let (data, api, sync) = (data.display().to_string(), api.at().to_string(), sync.at().to_string());
        let both = ["--data-dir", &data, "--api-listen", &api, "--sync-listen", &sync, "--admin-listen", ADMIN];
        let words = [name.as_str()].into_iter().chain(both).chain(further.iter().copied());
        P::try_parse_from(words).unwrap_or_else(|error| panic!("{error}"))
    }

    /// Ends it without a word.
    pub async fn kill(&mut self) {
        let program = self.program.take().unwrap_or_else(|| panic!("{} does not run", self.name));
        program.kill().await;
    }

    /// Begins to kill it.
    pub fn condemn(&mut self) {
        if let Some(program) = &mut self.program {
            program.condemn();
        }
    }

    /// Removes what it has stored, and nothing else of its data.
    pub fn forget(&self) {
        assert!(self.program.is_none(), "{} runs; lose it first", self.name);
        std::fs::remove_file(self.data.join("store")).expect("the store is a file");
    }

    /// Its REST interface.
    pub fn api(&self) -> Api {
        let token = std::fs::read_to_string(self.data.join("admin.token")).expect("it has started once");
        Api { address: self.api.at(), token: token.trim().into() }
    }

    pub fn runs(&self) -> bool {
        self.program.is_some()
    }
}

/// Runs a control plane for ever, once it has started.
async fn stay<R>(up: oneshot::Sender<()>, start: impl Future<Output = anyhow::Result<R>>) -> anyhow::Result<()> {
    let _running = start.await?;
    let _ = up.send(());
    std::future::pending().await
}

/// A client of a REST interface.
#[derive(Clone, Debug)]
pub struct Api {
    address: SocketAddr,
    token: String,
}

/// What a REST interface answered.
#[derive(Clone, Debug)]
pub struct Reply {
    /// Status of HTTP.
    pub status: u16,
    /// Headers.
    pub headers: HeaderMap,
    /// Body; null when it was no JSON.
    pub body: Value,
}

impl Api {
    /// Reads a path below `/api/v1`.
    pub async fn get(&self, path: &str) -> anyhow::Result<Value> {
        self.good(Method::GET, path, None).await.map(|reply| reply.body)
    }

    /// A request that is meant to be granted.
    pub async fn good(&self, method: Method, path: &str, body: Option<&Value>) -> anyhow::Result<Reply> {
        let reply = self.send(method.clone(), path, body).await?;
        let Reply { status, body, .. } = &reply;
        if (200..300).contains(status) { Ok(reply) } else { Err(anyhow!("{method} {path} answered {status}: {body}")) }
    }

    /// Any request.
    pub async fn send(&self, method: Method, path: &str, body: Option<&Value>) -> anyhow::Result<Reply> {
        let stream = TcpStream::connect(self.address).await?;
        let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
        tokio::spawn(connection);
        let request = Request::builder()
            .method(method)
            .uri(format!("/api/v1{path}"))
            .header(header::HOST, self.address.to_string())
            .header(header::AUTHORIZATION, format!("Bearer {}", self.token))
            .header(header::CONTENT_TYPE, "application/json")
            .body(Full::new(Bytes::from(body.map(Value::to_string).unwrap_or_default())))?;
        let answered = tokio::time::timeout(SOON, sender.send_request(request)).await;
        let (head, incoming) = answered.map_err(|_| anyhow!("no answer from {}", self.address))??.into_parts();
        let bytes = incoming.collect().await?.to_bytes();
        let body = serde_json::from_slice(&bytes).unwrap_or_default();
        Ok(Reply { status: head.status.as_u16(), headers: head.headers, body })
    }
}
