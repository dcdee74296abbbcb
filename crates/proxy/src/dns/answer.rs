//! From a question to its answer, for names of the mesh. Pure.

use super::TTL_SECONDS;
use crate::vips::Names;
use hickory_proto::op::{Message, MessageType, OpCode, ResponseCode};
use hickory_proto::rr::rdata::{A, SOA};
use hickory_proto::rr::{Name, RData, Record, RecordType};
use std::net::IpAddr;
use std::str::FromStr as _;

/// What to do with a question.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Answer {
    /// Send this.
    Now(Vec<u8>),
    /// Not a name of the mesh: ask a resolver.
    Elsewhere,
    /// Not a question, or not readable: say nothing, so that nobody can be made to answer somebody else.
    Nothing,
}

/// Answers one message.
pub fn answer(bytes: &[u8], names: &Names) -> Answer {
    let Ok(question) = Message::from_vec(bytes) else { return Answer::Nothing };
    if question.metadata.message_type != MessageType::Query {
        return Answer::Nothing;
    }
    let [query] = &question.queries[..] else { return encoded(reply(&question, ResponseCode::FormErr)) };
    let host = query.name().to_ascii();
    let host = host.trim_end_matches('.');
    if !Names::ours(host) {
        return Answer::Elsewhere;
    }
    if question.metadata.op_code != OpCode::Query {
        return encoded(reply(&question, ResponseCode::NotImp));
    }
    let Some(address) = names.address(host) else {
        let mut message = reply(&question, ResponseCode::NXDomain);
        message.add_authority(start_of_authority());
        return encoded(message);
    };
    let mut message = reply(&question, ResponseCode::NoError);
    match (query.query_type(), address) {
        (RecordType::A | RecordType::ANY, IpAddr::V4(v4)) => {
            message.add_answer(Record::from_rdata(query.name().clone(), TTL_SECONDS, RData::A(A(v4))));
        }
        // The name exists and has no record of this type: an empty answer, so that apps go on to ask for A at once.
        _ => {
            message.add_authority(start_of_authority());
        }
    }
    encoded(message)
}

/// "Server failure", for a question no resolver answered.
pub fn failed(bytes: &[u8]) -> Option<Vec<u8>> {
    let question = Message::from_vec(bytes).ok()?;
    reply(&question, ResponseCode::ServFail).to_vec().ok()
}

fn encoded(message: Message) -> Answer {
    message.to_vec().map_or(Answer::Nothing, Answer::Now)
}

fn reply(question: &Message, code: ResponseCode) -> Message {
    let mut message = Message::response(question.metadata.id, question.metadata.op_code);
    message.metadata.authoritative = true;
    message.metadata.recursion_desired = question.metadata.recursion_desired;
    message.metadata.recursion_available = true;
    message.metadata.response_code = code;
    message.add_queries(question.queries.iter().cloned());
    message
}

/// Without one a resolver may not keep a negative answer (RFC 2308 section 5).
fn start_of_authority() -> Record {
    let name = |text: &str| Name::from_str(text).expect("a constant name");
    let (refresh, retry, expire) = (3600, 600, 86_400);
    let soa = SOA::new(name("dns.mesh."), name("weft.mesh."), 1, refresh, retry, expire, TTL_SECONDS);
    Record::from_rdata(name("mesh."), TTL_SECONDS, RData::SOA(soa))
}
