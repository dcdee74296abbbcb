//! Questions to the proxy's DNS: an answer is one, to this question, with the address the name has.
#![no_main]

use hickory_proto::op::{Message, MessageType, ResponseCode};
use libfuzzer_sys::fuzz_target;
use proxy::compile::Compiler;
use proxy::dns::{Answer, answer};
use proxy::vips::{Names, Vips};
use std::sync::LazyLock;

const OUTBOUND: &[u8] = include_bytes!("../seeds/config/outbound");

static NAMES: LazyLock<Names> = LazyLock::new(|| {
    let items = [("outbound/default/shop/cart".into(), OUTBOUND[1..].to_vec().into())].into();
    let (running, wrong) = Compiler::default().compile(&items);
    assert!(wrong.is_empty(), "{wrong:?}");
    let names = Vips::open("127.64.0.0/16".parse().expect("a range"), None).names(&running);
    assert!(names.address("cart.shop.mesh").is_some());
    names
});

fuzz_target!(|bytes: &[u8]| {
    let Answer::Now(said) = answer(bytes, &NAMES) else { return };
    let question = Message::from_vec(bytes).expect("it was read before");
    let said = Message::from_vec(&said).expect("what we send can be read");
    assert_eq!(said.metadata.message_type, MessageType::Response);
    assert_eq!(said.metadata.id, question.metadata.id);
    assert!(said.answers.len() <= 1);
    if !said.answers.is_empty() {
        assert_eq!(said.metadata.response_code, ResponseCode::NoError);
        assert!(question.queries[0].name().to_ascii().to_ascii_lowercase().trim_end_matches('.').ends_with(".mesh"));
    }
});
