//! Heads and bodies as callers send them: what passes as it is, and what is refused.

use super::*;
use crate::limits::{CHUNK_EXTENSION_BYTES_MAX, CHUNK_EXTRA_BYTES_MAX, REQUESTS_PER_YOUNG_TURN};
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};

fn head(text: &str, side: &'static Bounds) -> Result<Option<Head>, Bad> {
    HeadReader::default().read(text.as_bytes(), &side.head)
}

/// `fields` behind a request line, each with its line end.
fn post(fields: &str) -> Result<Option<Head>, Bad> {
    head(&format!("POST /a HTTP/1.1\r\nhost: cart\r\n{fields}\r\n"), &MESH)
}

fn framed(fields: &str) -> (Framing, bool) {
    let head = post(fields).unwrap().unwrap();
    (head.body, head.switches)
}

#[test]
fn honest_heads_are_taken() {
    assert_eq!(framed(""), (Framing::Length(0), false));
    assert_eq!(framed("Content-Length: 12\r\n"), (Framing::Length(12), false));
    assert_eq!(framed("transfer-encoding:\tChunked \r\n"), (Framing::Chunked, false));
    assert_eq!(framed("Connection: keep-alive, Upgrade\r\nUpgrade: websocket\r\n"), (Framing::Length(0), true));
    assert_eq!(framed("x: caf\u{e9} \t \r\nempty:\r\nmy_own: 1\r\n"), (Framing::Length(0), false));
    for line in [
        "GET / HTTP/1.1\r\nhost: [::1]:80",
        "GET http://Cart.shop:80/x?y HTTP/1.1\r\nhost: cart.shop",
        "OPTIONS * HTTP/1.1\r\nhost: a_b.c:1",
        "\r\nGET / HTTP/1.0",
        "CONNECT cart:80 HTTP/1.1\r\nhost: cart:80",
    ] {
        assert!(matches!(head(&format!("{line}\r\n\r\n"), &MESH), Ok(Some(_))), "{line}");
    }
}

#[test]
fn fields_with_two_readings_are_refused() {
    for (fields, bad) in [
        ("content-length: 1\r\ncontent-length: 1\r\n", Bad::Length),
        ("content-length: 1, 1\r\n", Bad::Length),
        ("content-length: +1\r\n", Bad::Length),
        ("content-length: 0x1\r\n", Bad::Length),
        ("content-length:\r\n", Bad::Length),
        ("content-length: 18446744073709551616\r\n", Bad::Length),
        ("content-length: 1\r\ntransfer-encoding: chunked\r\n", Bad::Both),
        ("transfer-encoding: chunked\r\ntransfer-encoding: chunked\r\n", Bad::Coding),
        ("transfer-encoding: chunked, chunked\r\n", Bad::Coding),
        ("transfer-encoding: gzip, chunked\r\n", Bad::Coding),
        ("transfer-encoding: identity\r\n", Bad::Coding),
        ("transfer-encoding: \x0bchunked\r\n", Bad::Value),
        ("transfer_encoding: chunked\r\n", Bad::Pretender),
        ("Content_Length: 1\r\n", Bad::Pretender),
        ("transfer-encoding : chunked\r\n", Bad::Name),
        ("x\r\n", Bad::Name),
        (": x\r\n", Bad::Name),
        ("x\x00: y\r\n", Bad::Name),
        ("x: y\x00\r\n", Bad::Value),
        ("x: y\x7f\r\n", Bad::Value),
        ("x: y\n", Bad::LineEnd),
        ("x: y\rz\r\n", Bad::LineEnd),
        ("x: y\r\n z\r\n", Bad::Folded),
        ("host: cart\r\n", Bad::Host),
    ] {
        assert_eq!(post(fields), Err(bad), "{fields:?}");
    }
}

#[test]
fn request_lines_and_hosts_are_strict() {
    for (text, bad) in [
        ("GET /\r\n", Bad::RequestLine),
        ("GET / HTTP/1.2\r\n", Bad::RequestLine),
        ("GET / HTTP/0.9\r\n", Bad::RequestLine),
        ("GET  / HTTP/1.1\r\n", Bad::RequestLine),
        ("GET / HTTP/1.1 \r\n", Bad::RequestLine),
        ("G\x01T / HTTP/1.1\r\n", Bad::RequestLine),
        ("\r\n\r\nGET / HTTP/1.1\r\n", Bad::RequestLine),
        ("GET / HTTP/1.1\n", Bad::LineEnd),
        ("GET /\tx HTTP/1.1\r\n", Bad::Target),
        ("GET /x#y HTTP/1.1\r\n", Bad::Target),
        ("GET x HTTP/1.1\r\n", Bad::Target),
        ("GET * HTTP/1.1\r\n", Bad::Target),
        ("GET ftp://x/ HTTP/1.1\r\n", Bad::Target),
        ("GET http://u@x/ HTTP/1.1\r\nhost: x\r\n\r\n", Bad::Target),
        ("GET http://x/ HTTP/1.1\r\nhost: y\r\n\r\n", Bad::Authority),
        ("CONNECT x:80 HTTP/1.1\r\nhost: y:80\r\n\r\n", Bad::Authority),
        ("CONNECT x:80 HTTP/1.1\r\nhost: x:80\r\ncontent-length: 1\r\n\r\n", Bad::Target),
        ("GET / HTTP/1.1\r\n\r\n", Bad::Host),
        ("GET / HTTP/1.1\r\nhost:\r\n\r\n", Bad::Host),
        ("GET / HTTP/1.1\r\nhost: a, b\r\n\r\n", Bad::Host),
        ("GET / HTTP/1.1\r\nhost: a:99999\r\n\r\n", Bad::Host),
        ("GET / HTTP/1.1\r\nhost: a/b\r\n\r\n", Bad::Host),
        ("GET / HTTP/1.0\r\ntransfer-encoding: chunked\r\n\r\n", Bad::Coding),
    ] {
        assert_eq!(head(text, &MESH), Err(bad), "{text:?}");
    }
    assert_eq!(head("GET / HTTP/1.1\r\nhost: a\r\nmy_own: 1\r\n", &EDGE), Err(Bad::Pretender));
}

#[test]
fn heads_are_bounded() {
    let long = format!("GET /{} HTTP/1.1\r\n", "x".repeat(REQUEST_LINE_MAX));
    assert_eq!(head(&long, &MESH), Err(Bad::RequestLineLong));
    assert_eq!(head(&long[..long.len() - 2], &MESH), Err(Bad::RequestLineLong), "also without an end");
    let large = format!("x: {}", "y".repeat(HEADER_BYTES_MAX));
    assert_eq!(post(&large), Err(Bad::TooLarge));
    assert_eq!(post(&"x: y\r\n".repeat(crate::limits::HEADERS_MAX)), Err(Bad::TooLarge));
    assert!(post(&"x: y\r\n".repeat(crate::limits::HEADERS_MAX - 1)).is_ok());
}

#[test]
fn a_head_in_pieces_is_the_same_head() {
    let text = b"POST /a HTTP/1.1\r\nhost: cart\r\ncontent-length: 3\r\n\r\nabc";
    let mut reader = HeadReader::default();
    for end in 0..text.len() - 3 {
        let read = reader.read(&text[..end], &MESH.head).unwrap();
        assert_eq!(read, None, "{end} bytes");
    }
    assert_eq!(reader.read(text, &MESH.head).unwrap().unwrap().body, Framing::Length(3));
}

#[test]
fn chunks_are_followed_to_their_end_and_no_further() {
    let whole = b"3\r\nabc\r\nA;x=\"y\"\r\n0123456789\r\n0\r\nsum: 1\r\n\r\nGET /";
    for piece in 1..whole.len() {
        let (mut chunks, mut at) = (Chunks::default(), 0);
        let ended = whole.chunks(piece).any(|bytes| {
            let (count, ended) = chunks.take(bytes).unwrap();
            at += count;
            ended
        });
        assert_eq!((ended, &whole[at..]), (true, &b"GET /"[..]), "in pieces of {piece}");
    }
    let long = |bytes: usize| format!("1;{}\r\n", "x".repeat(bytes - 1));
    let (whole, long) = (long(CHUNK_EXTENSION_BYTES_MAX), long(CHUNK_EXTENSION_BYTES_MAX + 1));
    assert_eq!(Chunks::default().take(whole.as_bytes()), Ok((whole.len(), false)));
    let many = format!("1;{}\r\nx\r\n", "x".repeat(1_000)).repeat(CHUNK_EXTRA_BYTES_MAX / 1_000 + 1);
    let trailers = format!("0\r\n{}", "x: y\r\n".repeat(CHUNK_EXTRA_BYTES_MAX / 3));
    for bad in [
        "\r\n",
        "x\r\n",
        "-1\r\n",
        "+1\r\n",
        "0x1\r\n",
        " 1\r\n",
        "1 \r\n",
        "1\n",
        "1\r\nab",
        "1\r\na\n",
        "1;\n",
        "10000000000000000\r\n",
        "1;x\x00\r\n",
        "0\r\n x\r\n",
        "0\r\nx : y\r\n",
        "0\r\nx: y\n",
        &long,
        &many,
        &trailers,
    ] {
        assert_eq!(Chunks::default().take(bad.as_bytes()), Err(Bad::Chunk), "{:?}", &bad[..bad.len().min(20)]);
    }
}

/// A gate, and the caller's end of its connection.
fn gate(side: Side) -> (Gate<DuplexStream>, Arc<Told>, DuplexStream) {
    let (near, far) = duplex(1 << 20);
    let (gate, told) = Gate::new(near, side);
    (gate, told, far)
}

async fn expect(gate: &mut Gate<DuplexStream>, bytes: &[u8]) {
    let mut got = vec![0; bytes.len()];
    gate.read_exact(&mut got).await.unwrap();
    assert_eq!(String::from_utf8_lossy(&got), String::from_utf8_lossy(bytes));
}

const GET: &[u8] = b"GET / HTTP/1.1\r\nhost: cart\r\n\r\n";

#[tokio::test]
async fn a_refusal_waits_for_its_turn() {
    let (mut gate, told, mut far) = gate(Side::Mesh);
    far.write_all(&[GET, b"GET / HTTP/1.1\r\nhost: a\r\nhost: b\r\n\r\n", GET].concat()).await.unwrap();
    expect(&mut gate, GET).await;
    assert_eq!(told.begin(), None);
    expect(&mut gate, REFUSED).await;
    assert_eq!(told.begin(), Some(Bad::Host));
    let more = tokio::time::timeout(Duration::from_millis(10), gate.read_u8()).await;
    assert!(more.is_err(), "nothing passes behind a refused head");
}

const SHORT: Duration = Duration::from_millis(60);
/// Times that a test can wait for.
const HASTY: Bounds =
    Bounds { head: MESH.head, head_deadline: SHORT, first_byte: Some(SHORT), body_pace: Some((1_000, SHORT)) };

async fn drip(mut far: DuplexStream, pieces: impl IntoIterator<Item = Vec<u8>>) {
    for piece in pieces {
        if far.write_all(&piece).await.is_err() {
            return;
        }
        tokio::time::sleep(SHORT / 10).await;
    }
    std::future::pending().await
}

#[tokio::test]
async fn a_slow_head_is_refused_and_an_idle_connection_is_not() {
    let (near, mut far) = duplex(1 << 20);
    let (mut gate, told) = Gate::bounded(near, &HASTY);
    far.write_all(GET).await.unwrap();
    expect(&mut gate, GET).await;
    told.begin();
    assert!(tokio::time::timeout(SHORT * 3, gate.read_u8()).await.is_err(), "an idle connection stays");
    let start = tokio::time::Instant::now();
    let dripping = tokio::spawn(drip(far, GET.iter().map(|byte| vec![*byte])));
    expect(&mut gate, REFUSED).await;
    assert!((SHORT..SHORT * 2).contains(&start.elapsed()), "{:?}", start.elapsed());
    assert_eq!(told.begin(), Some(Bad::Slow));
    dripping.abort();
}

#[tokio::test]
async fn a_silent_connection_and_a_slow_body_are_ended() {
    let (near, _far) = duplex(1 << 20);
    let (mut silent, _) = Gate::bounded(near, &HASTY);
    assert_eq!(silent.read_u8().await.unwrap_err().kind(), io::ErrorKind::InvalidData);

    let (near, mut far) = duplex(1 << 20);
    let (mut gate, _) = Gate::bounded(near, &HASTY);
    let post = b"POST / HTTP/1.1\r\nhost: cart\r\ncontent-length: 1000000\r\n\r\n";
    far.write_all(post).await.unwrap();
    expect(&mut gate, post).await;
    let pieces = std::iter::repeat_n(500, 40).chain(std::iter::repeat(1));
    let dripping = tokio::spawn(drip(far, pieces.map(|size| vec![b'x'; size])));
    let mut body = Vec::new();
    assert_eq!(gate.read_to_end(&mut body).await.unwrap_err().kind(), io::ErrorKind::InvalidData);
    assert!(body.len() >= 40 * 500, "what came at a fair pace passed");
    dripping.abort();
}

#[tokio::test]
async fn a_header_block_of_http2_has_its_time_too() {
    let (near, mut far) = duplex(1 << 20);
    let (mut gate, _) = Gate::bounded(near, &HASTY);
    far.write_all(&[PREFACE, &[0, 0, 1, 1, 0, 0, 0, 0, 1, 0x82][..]].concat()).await.unwrap();
    let mut got = Vec::new();
    let ended = tokio::time::timeout(SHORT * 20, gate.read_to_end(&mut got)).await;
    assert!(ended.unwrap().is_err());
}

#[tokio::test]
async fn a_head_in_pieces_reaches_hyper_whole() {
    let (mut gate, _, mut far) = gate(Side::Mesh);
    let sending = async {
        for byte in GET.iter().chain(GET) {
            far.write_all(&[*byte]).await.unwrap();
            tokio::task::yield_now().await;
        }
    };
    let reading = async {
        let mut bytes = [0; 1_024];
        for _ in 0..2 {
            let count = gate.read(&mut bytes).await.unwrap();
            assert_eq!(&bytes[..count], GET);
        }
    };
    tokio::join!(sending, reading);
}

#[tokio::test]
async fn bytes_of_another_protocol_pass_only_once_it_is_agreed() {
    for agreed in [true, false] {
        let (mut gate, told, mut far) = gate(Side::Mesh);
        let ask = b"GET / HTTP/1.1\r\nhost: cart\r\nconnection: upgrade\r\nupgrade: echo\r\n\r\n";
        far.write_all(&[&ask[..], b"\x00\x01anything\n"].concat()).await.unwrap();
        expect(&mut gate, ask).await;
        told.begin();
        let early = tokio::time::timeout(Duration::from_millis(10), gate.read_u8()).await;
        assert!(early.is_err(), "bytes went before the protocol was agreed");
        told.answered(agreed, false);
        expect(&mut gate, if agreed { b"\x00\x01anything\n" } else { REFUSED }).await;
    }
}

#[tokio::test]
async fn a_bad_chunk_ends_the_body() {
    let (mut gate, _, mut far) = gate(Side::Mesh);
    let post = b"POST / HTTP/1.1\r\nhost: cart\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n";
    far.write_all(post).await.unwrap();
    expect(&mut gate, post).await;
    far.write_all(b"zz\r\n").await.unwrap();
    assert!(gate.read_u8().await.is_err());
}

#[tokio::test]
async fn a_bad_chunk_that_comes_with_its_head_refuses_the_request() {
    let get = b"GET / HTTP/1.1\r\nhost: cart\r\n\r\n";
    let post = b"POST / HTTP/1.1\r\nhost: cart\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\nzz\r\n";
    let requests: [&[&[u8]]; 2] = [&[post], &[get, post]];
    for (requests, room) in requests.into_iter().flat_map(|requests| [(requests, 4_096), (requests, 50)]) {
        let (mut gate, told, mut far) = gate(Side::Mesh);
        far.write_all(&requests.concat()).await.unwrap();
        let (_, before) = requests.split_last().unwrap();
        let wanted = [&before.concat(), REFUSED].concat();
        let mut got = Vec::new();
        while got.len() < wanted.len() {
            let mut bytes = vec![0; room];
            let count = gate.read(&mut bytes).await.unwrap();
            got.extend_from_slice(&bytes[..count]);
        }
        assert_eq!(String::from_utf8_lossy(&got), String::from_utf8_lossy(&wanted), "{room}");
        before.iter().for_each(|_| assert_eq!(told.begin(), None));
        assert_eq!(told.begin(), Some(Bad::Chunk));
    }
}

#[tokio::test]
async fn http2_tells_itself_and_its_floods_end() {
    let (mut gate, _, mut far) = gate(Side::Mesh);
    far.write_all(PREFACE).await.unwrap();
    expect(&mut gate, PREFACE).await;
    let ping = [0, 0, 8, 6, 0, 0, 0, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8];
    far.write_all(&ping.repeat(2_000)).await.unwrap();
    let mut got = Vec::new();
    assert!(gate.read_to_end(&mut got).await.is_err());
    let mut goodbye = [0; 17];
    far.read_exact(&mut goodbye).await.unwrap();
    assert_eq!((goodbye[3], goodbye[16]), (7, 0x0b), "GOAWAY, ENHANCE_YOUR_CALM");
}

#[tokio::test]
async fn a_connection_is_read_no_further_than_its_turn_until_it_is_polled_again() {
    let (mut gate, told, mut far) = gate(Side::Mesh);
    let request = |number: u32| {
        let stream = (2 * number + 1).to_be_bytes();
        [&[0, 0, 1, 1, 5][..], &stream, &[0x82]].concat()
    };
    let turn: Vec<u8> = PREFACE.iter().copied().chain((0..REQUESTS_PER_YOUNG_TURN).flat_map(request)).collect();
    let all = [&turn[..], &request(REQUESTS_PER_YOUNG_TURN)].concat();
    far.write_all(&all).await.unwrap();
    let mut got = vec![0];
    // As h2 does, each poll asks for more whatever it was told before.
    let connection = std::future::poll_fn(|cx| {
        let mut bytes = [0; 4_096];
        for _ in 0..3 {
            let mut out = ReadBuf::new(&mut bytes);
            while Pin::new(&mut gate).poll_read(cx, &mut out).is_ready() {}
            *got.last_mut().unwrap() += out.filled().len();
        }
        let sum = got.iter().sum::<usize>();
        got.push(0);
        if sum == all.len() { Poll::Ready(()) } else { Poll::Pending }
    });
    crate::http::turns::Turns::new(told, Default::default(), connection).await;
    // Its last head was looked at, and what is in that frame waits with the rest.
    assert_eq!(got[..2], [turn.len() - 1, all.len() - turn.len() + 1]);
}
