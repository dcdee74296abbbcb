//! Sockets that change hands over a real Unix socket.

use super::*;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::AsFd;

fn offered() -> (tempfile::TempDir, Offer) {
    let folder = tempfile::tempdir().unwrap();
    let offer = Offer::open(folder.path(), "weft-test").unwrap();
    (folder, offer)
}

fn listen() -> (TcpListener, SocketAddr) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    (listener, address)
}

#[tokio::test]
async fn a_connection_that_waited_is_accepted_by_the_next_process() {
    let (folder, offer) = offered();
    let (listener, address) = listen();
    let mut waiting = TcpStream::connect(address).unwrap();
    let old = async {
        let heir = offer.next().await;
        assert_eq!((heir.version.as_str(), heir.pid), ("2", Some(std::process::id() as i32)));
        heir.give(&[("tcp", listener.as_fd())]).await.unwrap();
        heir.ready().await.unwrap();
        heir.yours().await.unwrap();
        drop(listener);
    };
    let new = async {
        let mut inherited = Inherited::ask(folder.path(), "weft-test", "2").await.unwrap().expect("somebody offers");
        let mut sockets = inherited.take("tcp");
        assert!(inherited.take("tcp").is_empty());
        inherited.ready().await.unwrap();
        TcpListener::from(sockets.remove(0))
    };
    let ((), socket) = tokio::join!(old, new);
    let (mut accepted, _) = socket.accept().unwrap();
    accepted.write_all(b"!").unwrap();
    let mut byte = [0];
    waiting.read_exact(&mut byte).unwrap();
    assert_eq!(&byte, b"!");
}

#[tokio::test]
async fn more_sockets_than_fit_one_message_all_arrive_in_order() {
    let (folder, offer) = offered();
    let sockets: Vec<_> = (0..FDS_MAX + 3).map(|_| listen()).collect();
    let give = async {
        let heir = offer.next().await;
        let all: Vec<_> = sockets.iter().map(|(socket, _)| ("tcp", socket.as_fd())).collect();
        heir.give(&all).await.unwrap();
    };
    let ask = async { Inherited::ask(folder.path(), "weft-test", "2").await.unwrap().unwrap().take("tcp") };
    let ((), taken) = tokio::join!(give, ask);
    let addresses: Vec<_> = taken.into_iter().map(|fd| TcpListener::from(fd).local_addr().unwrap()).collect();
    assert_eq!(addresses, sockets.iter().map(|(_, address)| *address).collect::<Vec<_>>());
}

#[tokio::test]
async fn a_next_process_that_dies_leaves_the_running_one_as_it_was() {
    let (folder, offer) = offered();
    let (listener, address) = listen();
    let old = async {
        let heir = offer.next().await;
        heir.give(&[("tcp", listener.as_fd())]).await.unwrap();
        assert!(matches!(heir.ready().await, Err(HandoverError::Broken(_))));
    };
    let new = async {
        let inherited = Inherited::ask(folder.path(), "weft-test", "2").await.unwrap().unwrap();
        drop(inherited);
    };
    tokio::join!(old, new);
    let _client = TcpStream::connect(address).unwrap();
    listener.accept().unwrap();
}

#[tokio::test]
async fn nobody_to_ask_and_the_wrong_program_are_told_apart() {
    let (folder, offer) = offered();
    let empty = tempfile::tempdir().unwrap();
    assert!(Inherited::ask(empty.path(), "weft-test", "2").await.unwrap().is_none());
    let ask = Inherited::ask(folder.path(), "weft-other", "2");
    let refused = tokio::select! {
        asked = ask => asked.unwrap_err().to_string(),
        _ = offer.next() => panic!("nobody may be let in"),
    };
    assert_eq!(refused, "the running process keeps its sockets: this is weft-test, not weft-other");
    drop(offer);
    assert!(Inherited::ask(folder.path(), "weft-test", "2").await.unwrap().is_none(), "a socket nobody listens on");
}
