//! Handing listening sockets to the next process of the same program, over a Unix socket in the data folder.
//!
//! ```text
//! next process                     running process
//! hello                      ->                        the same user? then it stops writing to its folder
//!                            <-    sockets, lock       file descriptors (SCM_RIGHTS, unix(7)), in parts
//! reads what is on disk, gets ready                    goes on serving
//! ready                      ->
//!                            <-    yours               takes nothing new, finishes what it has
//! ```
//! A handed socket is the same socket: connections that wait in its queue wait for whoever accepts next, and none is
//! lost. Until "yours" nothing that happens to the next process changes anything for the running one.

use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags, SendAncillaryBuffer, SendAncillaryMessage,
    SendFlags, recvmsg, sendmsg,
};
use serde::{Deserialize, Serialize};
use std::io::{self, ErrorKind, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;
use tokio::io::Interest;
use tokio::net::{UnixListener, UnixStream};
use tokio::time::timeout;

/// In the data folder.
const SOCKET: &str = "handover.sock";
/// Version of what is said on it.
const PROTOCOL: u32 = 1;
/// File descriptors of one message (the kernel takes 253: SCM_MAX_FD).
const FDS_MAX: usize = 128;
/// Names of [`FDS_MAX`] sockets are far below.
const MESSAGE_BYTES_MAX: usize = 64 * 1024;
/// One message, from a process of this host that has nothing else to do.
const ANSWER: Duration = Duration::from_secs(5);
/// From the sockets to "ready": the next process reads its configuration meanwhile.
const READY: Duration = Duration::from_secs(60);

/// Why nothing was handed over. Whoever served goes on serving.
#[derive(Debug, thiserror::Error)]
pub enum HandoverError {
    /// The Unix socket cannot be made.
    #[error("cannot offer sockets to a next process at {path}: {source}; a shorter --data-dir may help")]
    Offer {
        /// Where.
        path: PathBuf,
        /// The kernel's words.
        #[source]
        source: io::Error,
    },
    /// The line broke.
    #[error("the other process went away before sockets had changed hands: {0}")]
    Broken(#[from] io::Error),
    /// Nothing came.
    #[error("the other process said nothing for {} s", .0.as_secs())]
    Silent(Duration),
    /// Of another user.
    #[error("the other process runs as user {found}, this one as user {own}; only the same user takes over")]
    Stranger {
        /// Theirs.
        found: u32,
        /// Ours.
        own: u32,
    },
    /// The running process said no.
    #[error("the running process keeps its sockets: {0}")]
    Refused(String),
    /// Another message was due.
    #[error("the other process does not follow the protocol; restart without --take-over")]
    Confused,
}

#[derive(Debug, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
enum Message {
    Hello { protocol: u32, program: String, version: String },
    Sockets { names: Vec<String>, more: bool },
    Refused { why: String },
    Ready,
    Yours,
}

/// The running process's end: waits for a next one.
#[derive(Debug)]
pub struct Offer {
    listener: UnixListener,
    program: &'static str,
}

/// A next process that asked. Dropped before [`Self::yours`], it gets nothing.
#[derive(Debug)]
pub struct Heir {
    stream: UnixStream,
    /// Its number.
    pub pid: Option<i32>,
    /// Its version.
    pub version: String,
}

impl Offer {
    /// Listens in `folder`, in the place of whoever did before.
    pub fn open(folder: &Path, program: &'static str) -> Result<Self, HandoverError> {
        let path = folder.join(SOCKET);
        let open = || {
            // Renamed into place, so that there is always one to ask.
            let fresh = folder.join(format!("{SOCKET}.{}", std::process::id()));
            match std::fs::remove_file(&fresh) {
                Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
                _ => {}
            }
            let listener = UnixListener::bind(&fresh)?;
            std::fs::set_permissions(&fresh, std::fs::Permissions::from_mode(0o600))?;
            std::fs::rename(&fresh, &path)?;
            Ok(listener)
        };
        let listener = open().map_err(|source| HandoverError::Offer { path: path.clone(), source })?;
        Ok(Self { listener, program })
    }

    /// The next process that may ask.
    pub async fn next(&self) -> Heir {
        loop {
            let heard = match self.listener.accept().await {
                Ok((stream, _)) => self.hear(stream).await,
                Err(error) => {
                    tokio::time::sleep(ANSWER).await;
                    Err(error.into())
                }
            };
            match heard {
                Ok(heir) => return heir,
                Err(error) => tracing::warn!(%error, "somebody asked for our sockets, and gets none"),
            }
        }
    }

    async fn hear(&self, stream: UnixStream) -> Result<Heir, HandoverError> {
        let pid = same_user(&stream)?;
        let heard = match receive(&stream, ANSWER).await?.0 {
            Message::Hello { program, .. } if program != self.program => {
                Err(format!("this is {}, not {program}", self.program))
            }
            Message::Hello { protocol, .. } if protocol != PROTOCOL => {
                Err(format!("it hands over by protocol {PROTOCOL}, not {protocol}; restart without --take-over"))
            }
            Message::Hello { version, .. } => Ok(version),
            _ => return Err(HandoverError::Confused),
        };
        match heard {
            Ok(version) => Ok(Heir { stream, pid, version }),
            Err(why) => {
                send(&stream, &Message::Refused { why: why.clone() }, &[]).await?;
                Err(HandoverError::Refused(why))
            }
        }
    }
}

impl Heir {
    /// Gives copies of these. Both processes hold the sockets now; only one accepts.
    pub async fn give(&self, sockets: &[(&str, BorrowedFd<'_>)]) -> Result<(), HandoverError> {
        let mut parts = sockets.chunks(FDS_MAX).peekable();
        while let Some(part) = parts.next() {
            let names = part.iter().map(|(name, _)| (*name).to_owned()).collect();
            let fds: Vec<_> = part.iter().map(|(_, fd)| *fd).collect();
            let message = Message::Sockets { names, more: parts.peek().is_some() };
            within(ANSWER, send(&self.stream, &message, &fds)).await?;
        }
        Ok(())
    }

    /// Says no.
    pub async fn refuse(&self, why: &str) -> Result<(), HandoverError> {
        within(ANSWER, send(&self.stream, &Message::Refused { why: why.to_owned() }, &[])).await
    }

    /// Waits until it is ready to serve.
    pub async fn ready(&self) -> Result<(), HandoverError> {
        match receive(&self.stream, READY).await?.0 {
            Message::Ready => Ok(()),
            _ => Err(HandoverError::Confused),
        }
    }

    /// From now on it accepts, and we do not.
    pub async fn yours(&self) -> Result<(), HandoverError> {
        within(ANSWER, send(&self.stream, &Message::Yours, &[])).await
    }
}

/// The next process's end: what the running one gave. Dropped before [`Self::ready`], that one goes on.
#[derive(Debug)]
pub struct Inherited {
    stream: UnixStream,
    sockets: Vec<(String, OwnedFd)>,
}

impl Inherited {
    /// Asks whoever serves with this folder. `None`: nobody does.
    pub async fn ask(folder: &Path, program: &str, version: &str) -> Result<Option<Self>, HandoverError> {
        let stream = match UnixStream::connect(folder.join(SOCKET)).await {
            Ok(stream) => stream,
            Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::ConnectionRefused) => {
                return Ok(None);
            }
            Err(error) => return Err(error.into()),
        };
        same_user(&stream)?;
        let (program, version) = (program.to_owned(), version.to_owned());
        within(ANSWER, send(&stream, &Message::Hello { protocol: PROTOCOL, program, version }, &[])).await?;
        let mut sockets = Vec::new();
        loop {
            let (message, fds) = receive(&stream, ANSWER).await?;
            match message {
                Message::Sockets { names, more } if names.len() == fds.len() => {
                    sockets.extend(names.into_iter().zip(fds));
                    if !more {
                        return Ok(Some(Self { stream, sockets }));
                    }
                }
                Message::Refused { why } => return Err(HandoverError::Refused(why)),
                _ => return Err(HandoverError::Confused),
            }
        }
    }

    /// Everything given under a name.
    pub fn take(&mut self, name: &str) -> Vec<OwnedFd> {
        let (wanted, rest) = std::mem::take(&mut self.sockets).into_iter().partition(|(given, _)| given == name);
        self.sockets = rest;
        let wanted: Vec<(String, OwnedFd)> = wanted;
        wanted.into_iter().map(|(_, fd)| fd).collect()
    }

    /// Says that we are ready, and waits until the sockets are ours.
    pub async fn ready(self) -> Result<(), HandoverError> {
        within(ANSWER, send(&self.stream, &Message::Ready, &[])).await?;
        match receive(&self.stream, ANSWER).await?.0 {
            Message::Yours => Ok(()),
            Message::Refused { why } => Err(HandoverError::Refused(why)),
            _ => Err(HandoverError::Confused),
        }
    }
}

/// The other end's process number, if it belongs to the same user.
fn same_user(stream: &UnixStream) -> Result<Option<i32>, HandoverError> {
    let (other, own) = (stream.peer_cred()?, nix::unistd::geteuid().as_raw());
    if other.uid() == own { Ok(other.pid()) } else { Err(HandoverError::Stranger { found: other.uid(), own }) }
}

async fn within(limit: Duration, doing: impl Future<Output = io::Result<()>>) -> Result<(), HandoverError> {
    timeout(limit, doing).await.map_err(|_| HandoverError::Silent(limit))?.map_err(HandoverError::from)
}

/// Length, text, and the descriptors with the first byte of it.
async fn send(stream: &UnixStream, message: &Message, fds: &[BorrowedFd<'_>]) -> io::Result<()> {
    let text = serde_json::to_vec(message).expect("messages are plain data");
    let mut bytes = (text.len() as u32).to_le_bytes().to_vec();
    bytes.extend(text);
    let first = || {
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(FDS_MAX))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        if !fds.is_empty() && !control.push(SendAncillaryMessage::ScmRights(fds)) {
            return Err(io::Error::other("too many descriptors for one message"));
        }
        Ok(sendmsg(stream, &[IoSlice::new(&bytes)], &mut control, SendFlags::NOSIGNAL)?)
    };
    let mut sent = stream.async_io(Interest::WRITABLE, first).await?;
    while sent < bytes.len() {
        sent += stream.async_io(Interest::WRITABLE, || stream.try_write(&bytes[sent..])).await?;
    }
    Ok(())
}

async fn receive(stream: &UnixStream, limit: Duration) -> Result<(Message, Vec<OwnedFd>), HandoverError> {
    let reading = async {
        let (mut length, mut fds) = ([0; 4], Vec::new());
        fill(stream, &mut length, &mut fds).await?;
        let length = u32::from_le_bytes(length) as usize;
        if length > MESSAGE_BYTES_MAX {
            return Err(HandoverError::Confused);
        }
        let mut text = vec![0; length];
        fill(stream, &mut text, &mut fds).await?;
        let message = serde_json::from_slice(&text).map_err(|_| HandoverError::Confused)?;
        Ok((message, fds))
    };
    timeout(limit, reading).await.map_err(|_| HandoverError::Silent(limit))?
}

async fn fill(stream: &UnixStream, buffer: &mut [u8], fds: &mut Vec<OwnedFd>) -> io::Result<()> {
    let mut at = 0;
    while at < buffer.len() {
        let read = || {
            let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(FDS_MAX))];
            let mut control = RecvAncillaryBuffer::new(&mut space);
            let mut into = [IoSliceMut::new(&mut buffer[at..])];
            let got = recvmsg(stream, &mut into, &mut control, RecvFlags::CMSG_CLOEXEC)?;
            for message in control.drain() {
                if let RecvAncillaryMessage::ScmRights(received) = message {
                    fds.extend(received);
                }
            }
            if got.flags.contains(ReturnFlags::CTRUNC) {
                return Err(io::Error::other("not all descriptors fitted; raise the limit of open files"));
            }
            Ok(got.bytes)
        };
        match stream.async_io(Interest::READABLE, read).await? {
            0 => return Err(ErrorKind::UnexpectedEof.into()),
            count => at += count,
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;
