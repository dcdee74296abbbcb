//! How long a ticket opens the door.

use super::*;
use crate::authority::Authority;
use crate::fixture::{authority, credentials, live, trust_in};
use rustls_pki_types::UnixTime;

const CART: &str = "spiffe://west.default/ns/shop/sa/cart";

fn tickets(west: &Authority) -> (Tickets, LiveCredentials, TrustStore) {
    let (cart, trust) = (live(west, CART, UnixTime::now()), trust_in(&[west]));
    (Tickets::new(cart.clone(), trust.clone()), cart, trust)
}

fn minutes(count: u64) -> Duration {
    Duration::from_secs(60 * count)
}

#[test]
fn a_ticket_lives_an_hour_also_over_a_change_of_keys() {
    let (tickets, ..) = tickets(&authority("west.default", UnixTime::now()));
    let start = tickets.began;
    let ticket = tickets.seal(b"session", start + minutes(50)).unwrap();
    assert_eq!(tickets.open(&ticket, start + minutes(50)).unwrap(), b"session");
    let later = tickets.seal(b"later", start + minutes(61)).unwrap();
    assert_eq!(tickets.open(&ticket, start + minutes(110)).unwrap(), b"session", "sealed with the key before");
    assert_eq!(tickets.open(&later, start + minutes(110)).unwrap(), b"later");
    assert_eq!(tickets.open(&ticket, start + minutes(111)), None, "an hour and more");
    assert_eq!(tickets.open(&later, start + minutes(250)), None);
}

#[test]
fn a_ticket_that_was_touched_opens_nothing() {
    let (tickets, ..) = tickets(&authority("west.default", UnixTime::now()));
    let ticket = tickets.seal(b"session", tickets.began).unwrap();
    for index in 0..ticket.len() {
        let mut touched = ticket.clone();
        touched[index] ^= 1;
        assert_eq!(tickets.open(&touched, tickets.began), None, "byte {index}");
    }
    assert_eq!(tickets.open(&ticket[..NONCE_LEN - 1], tickets.began), None);
    assert_eq!(tickets.open(&[], tickets.began), None);
    assert!(!ticket.windows(7).any(|part| part == b"session"));
}

#[test]
fn after_a_withdrawal_old_tickets_are_void_and_new_ones_wait() {
    let west = authority("west.default", UnixTime::now());
    let (tickets, cart, trust) = tickets(&west);
    let start = tickets.began;
    let ticket = tickets.seal(b"session", start).unwrap();
    assert!(trust.remove(west.domain()));
    assert_eq!(tickets.open(&ticket, start), None);
    assert_eq!(tickets.seal(b"early", start + QUIET / 2), None, "a handshake from before may still run");
    let fresh = tickets.seal(b"fresh", start + QUIET).unwrap();
    assert_eq!(tickets.open(&fresh, start + QUIET).unwrap(), b"fresh");

    cart.replace(credentials(&west, CART, UnixTime::now()));
    assert_eq!(tickets.open(&fresh, start + QUIET), None);
}
