//! Configuration items: what the check lets through compiles, and what it refuses is refused in words.
#![no_main]

use libfuzzer_sys::fuzz_target;
use proxy::compile::{Compiler, check};

const KEYS: [&str; 6] = [
    "inbound",
    "gateway",
    "outbound/default/shop/cart",
    "endpoints/default/shop/cart/west",
    "zone/west",
    "trust/west.default",
];

fuzz_target!(|bytes: &[u8]| {
    let [which, payload @ ..] = bytes else { return };
    let key = KEYS[usize::from(*which) % KEYS.len()];
    match check(key, payload) {
        Err(text) => assert!(!text.is_empty()),
        Ok(()) => {
            let mut compiler = Compiler::default();
            let items = [(key.into(), payload.to_vec().into())].into();
            let (running, wrong) = compiler.compile(&items);
            assert!(wrong.is_empty(), "{wrong:?}");
            for host in ["cart.shop.mesh", "cart.shop.west.mesh"] {
                running.by_host(host);
            }
            compiler.compile(&Default::default());
        }
    }
});
