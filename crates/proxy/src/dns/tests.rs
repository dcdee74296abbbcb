//! Real questions over real sockets.

use super::*;
use crate::vips::Names;
use hickory_proto::op::{Message, OpCode, Query, ResponseCode};
use hickory_proto::rr::{Name, RData, RecordType};
use std::net::IpAddr;
use std::str::FromStr as _;

fn question(id: u16, host: &str, kind: RecordType) -> Vec<u8> {
    let mut message = Message::new(id, hickory_proto::op::MessageType::Query, OpCode::Query);
    message.metadata.recursion_desired = true;
    message.add_query(Query::query(Name::from_str(host).unwrap(), kind));
    message.to_vec().unwrap()
}

fn names() -> Names {
    Names::of([
        ("cart.shop.mesh", IpAddr::from([127, 64, 0, 1])),
        ("cart.shop.east.mesh", IpAddr::from([127, 64, 0, 2])),
    ])
}

fn asked(host: &str, kind: RecordType) -> (ResponseCode, Vec<String>) {
    match answer(&question(7, host, kind), &names()) {
        Answer::Now(bytes) => read(&bytes),
        other => panic!("{other:?}"),
    }
}

fn read(bytes: &[u8]) -> (ResponseCode, Vec<String>) {
    let message = Message::from_vec(bytes).unwrap();
    assert_eq!(message.metadata.id, 7);
    let addresses = message.answers.iter().map(|record| match &record.data {
        RData::A(a) => a.0.to_string(),
        other => panic!("{other:?}"),
    });
    (message.metadata.response_code, addresses.collect())
}

#[test]
fn a_name_of_the_mesh_has_its_address_and_no_other_record() {
    assert_eq!(asked("cart.shop.mesh.", RecordType::A), (ResponseCode::NoError, vec!["127.64.0.1".into()]));
    assert_eq!(asked("Cart.Shop.East.Mesh.", RecordType::A), (ResponseCode::NoError, vec!["127.64.0.2".into()]));
    assert_eq!(asked("cart.shop.mesh.", RecordType::AAAA), (ResponseCode::NoError, vec![]));
}

#[test]
fn an_unknown_name_of_the_mesh_does_not_exist() {
    assert_eq!(asked("crat.shop.mesh.", RecordType::A), (ResponseCode::NXDomain, vec![]));
}

#[test]
fn other_names_are_asked_elsewhere_and_rubbish_is_not_answered() {
    assert_eq!(answer(&question(1, "example.com.", RecordType::A), &names()), Answer::Elsewhere);
    assert_eq!(answer(&question(1, "mesh.example.com.", RecordType::A), &names()), Answer::Elsewhere);
    for rubbish in [&b""[..], b"x", &[0xff; 40]] {
        assert_eq!(answer(rubbish, &names()), Answer::Nothing);
    }
    let mut reply = question(1, "cart.shop.mesh.", RecordType::A);
    reply[2] |= 0x80;
    assert_eq!(answer(&reply, &names()), Answer::Nothing, "an answer is no question");
}

#[tokio::test]
async fn questions_are_answered_over_udp_and_tcp_and_others_forwarded() {
    let resolver = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let resolver_at = resolver.local_addr().unwrap();
    tokio::spawn(async move {
        let mut buffer = [0; 512];
        let (length, from) = resolver.recv_from(&mut buffer).await.unwrap();
        let mut reply = Message::from_vec(&buffer[..length]).unwrap().into_response();
        reply.metadata.response_code = ResponseCode::Refused;
        resolver.send_to(&reply.to_vec().unwrap(), from).await.unwrap();
    });
    let udp = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let tcp = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (udp_at, tcp_at) = (udp.local_addr().unwrap(), tcp.local_addr().unwrap());
    let (_keep, names) = watch::channel(Arc::new(names()));
    let server = tokio::spawn(serve(udp.into(), tcp.into(), names, Resolvers::new(vec![resolver_at])));

    let client = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let mut buffer = [0; 512];
    client.send_to(&question(7, "cart.shop.mesh.", RecordType::A), udp_at).await.unwrap();
    let length = client.recv(&mut buffer).await.unwrap();
    assert_eq!(read(&buffer[..length]).1, ["127.64.0.1"]);
    client.send_to(&question(7, "example.com.", RecordType::A), udp_at).await.unwrap();
    let length = client.recv(&mut buffer).await.unwrap();
    assert_eq!(read(&buffer[..length]).0, ResponseCode::Refused, "the resolver's own words");

    let mut stream = TcpStream::connect(tcp_at).await.unwrap();
    let asked = question(7, "cart.shop.east.mesh.", RecordType::A);
    stream.write_u16(asked.len() as u16).await.unwrap();
    stream.write_all(&asked).await.unwrap();
    let mut reply = vec![0; usize::from(stream.read_u16().await.unwrap())];
    stream.read_exact(&mut reply).await.unwrap();
    assert_eq!(read(&reply).1, ["127.64.0.2"]);
    server.abort();
}
