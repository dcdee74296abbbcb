//! The life of a token.

use super::*;
use crate::fixture::at;
use crate::token::TokenTextError;
use rustls_pki_types::CertificateDer;
use std::os::unix::fs::PermissionsExt;

const NOW: u64 = 1_800_000_000;

fn grant(kind: TokenKind, subject: &str) -> Grant {
    Grant {
        kind,
        addresses: vec!["global.example:5681".into(), "10.0.0.1:5681".into()],
        pin: Pin::of(&CertificateDer::from(b"root".as_slice())),
        server: SpiffeId::global_cp(),
        subject: subject.into(),
    }
}

fn book_with_token() -> (TokenBook, Token) {
    let mut book = TokenBook::new();
    let token = book.issue(grant(TokenKind::Join, "west"), at(NOW)).unwrap();
    (book, token)
}

#[test]
fn a_token_survives_being_written_down() {
    for (kind, prefix) in [(TokenKind::Join, "weft-join."), (TokenKind::Workload, "weft-workload.")] {
        let mut book = TokenBook::new();
        let token = book.issue(grant(kind, "default/shop/cart-1"), at(NOW)).unwrap();
        let text = token.to_string();
        assert!(text.starts_with(prefix), "{text}");
        let read: Token = format!("  {text}\n").parse().unwrap();
        assert_eq!(read.to_string(), text);
        assert_eq!((read.kind, &read.addresses, read.pin), (kind, &token.addresses, token.pin));
        assert_eq!((&read.server, read.expires()), (&SpiffeId::global_cp(), at(NOW + 600)));
        assert_eq!(book.redeem(&read, at(NOW + 1)).unwrap(), "default/shop/cart-1");
    }
}

#[test]
fn a_text_that_is_no_token_says_so() {
    let (_, token) = book_with_token();
    let text = token.to_string();
    assert_eq!("hello".parse::<Token>().unwrap_err(), TokenTextError::Prefix);
    for bad in [&text[..text.len() - 3], "weft-join.", "weft-join.e30", &format!("weft-join.{}", "A".repeat(9_000))] {
        assert_eq!(bad.parse::<Token>().unwrap_err(), TokenTextError::Damaged, "{bad}");
    }
}

#[test]
fn a_token_works_once() {
    let (mut book, token) = book_with_token();
    assert_eq!(book.redeem(&token, at(NOW + 5)).unwrap(), "west");
    let error = book.redeem(&token, at(NOW + 65)).unwrap_err();
    assert_eq!(
        error.to_string(),
        format!(
            "token {} for west was used 60 s ago; tokens work once, make a new one (if nobody of yours used it, revoke \
             what it let in)",
            token.id
        )
    );
}

#[test]
fn a_token_lives_ten_minutes_and_a_minute_for_slow_clocks() {
    let (book, token) = book_with_token();
    assert!(book.clone().redeem(&token, at(NOW + 660)).is_ok());
    let expired = TokenError::Expired { id: token.id.clone(), seconds: 61 };
    assert_eq!(book.clone().redeem(&token, at(NOW + 661)), Err(expired.clone()));
    assert_eq!(
        expired.to_string(),
        format!("token {} expired 61 s ago; make a new one, and is this host's clock right?", token.id)
    );
    // Also when the book has forgotten it.
    assert!(matches!(TokenBook::new().redeem(&token, at(NOW + 90_000)), Err(TokenError::Expired { .. })));
}

#[test]
fn a_token_of_another_issuer_is_foreign() {
    let (_, token) = book_with_token();
    let (mut other, _) = book_with_token();
    assert_eq!(
        other.redeem(&token, at(NOW)).unwrap_err().to_string(),
        format!(
            "token {} was not made here; it names spiffe://global.control/global-cp, is this the right address?",
            token.id
        )
    );
}

#[test]
fn whatever_is_changed_in_a_token_it_is_refused_and_stays_good_for_its_true_holder() {
    let (mut book, token) = book_with_token();
    let changes: [fn(&mut Token); 6] = [
        |token| token.secret = Secret::random().unwrap(),
        |token| token.subject = "east".into(),
        |token| token.kind = TokenKind::Workload,
        |token| token.expires_unix += 3_600,
        |token| token.server = "spiffe://west.control/zone-cp".parse().unwrap(),
        |token| token.pin = Pin::of(&CertificateDer::from(b"other".as_slice())),
    ];
    for change in changes {
        let mut changed = token.clone();
        change(&mut changed);
        assert_eq!(book.redeem(&changed, at(NOW)), Err(TokenError::Malformed { id: token.id.clone() }));
    }
    assert_eq!(book.redeem(&token, at(NOW)).unwrap(), "west");
}

#[test]
fn a_revoked_token_lets_nobody_in() {
    let (mut book, token) = book_with_token();
    assert!(book.revoke(&token.id, at(NOW)));
    assert!(!book.revoke(&token.id, at(NOW)), "there is nothing left to revoke");
    assert!(matches!(book.redeem(&token, at(NOW)), Err(TokenError::Revoked { .. })));
    let again = book.issue(grant(TokenKind::Join, "west"), at(NOW)).unwrap();
    let other = book.issue(grant(TokenKind::Join, "east"), at(NOW)).unwrap();
    assert_eq!(book.revoke_subject("west", at(NOW)), 1);
    assert!(matches!(book.redeem(&again, at(NOW)), Err(TokenError::Revoked { .. })));
    assert_eq!(book.redeem(&other, at(NOW)).unwrap(), "east");
}

#[test]
fn a_book_remembers_over_a_restart_and_holds_no_secret() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("tokens.json");
    let mut book = TokenBook::load(&path).unwrap();
    let used = book.issue(grant(TokenKind::Join, "west"), at(NOW)).unwrap();
    let open = book.issue(grant(TokenKind::Join, "east"), at(NOW)).unwrap();
    book.redeem(&used, at(NOW)).unwrap();
    book.save(&path).unwrap();
    assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    let mut read = TokenBook::load(&path).unwrap();
    assert_eq!(read.list(), book.list());
    assert!(matches!(read.redeem(&used, at(NOW)), Err(TokenError::Used { .. })));
    assert_eq!(read.redeem(&open, at(NOW)).unwrap(), "east");
    std::fs::write(&path, "{").unwrap();
    assert!(TokenBook::load(&path).unwrap_err().to_string().contains("tokens.json"));
}

#[test]
fn what_ended_a_day_ago_is_forgotten() {
    let (mut book, token) = book_with_token();
    book.issue(grant(TokenKind::Join, "east"), at(NOW + 600 + 86_399)).unwrap();
    assert_eq!(book.list().len(), 2);
    book.issue(grant(TokenKind::Join, "south"), at(NOW + 600 + 86_400)).unwrap();
    assert!(!book.list().iter().any(|view| view.id == token.id));
}

#[test]
fn debug_tells_no_secret() {
    let (book, token) = book_with_token();
    let text = format!("{token:?}");
    assert!(text.contains("secret: redacted") && text.contains("west"), "{text}");
    // The secret as the token carries it, and the parts of the token's own text.
    let body = token.to_string();
    assert!(!text.contains(&body[10..40]) && !format!("{book:?}").contains(&body[10..40]));
}
