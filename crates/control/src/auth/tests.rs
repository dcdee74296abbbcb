//! Who is let in.

use super::*;

fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
    pairs.iter().map(|(name, value)| (http::HeaderName::from_static(name), value.parse().unwrap())).collect()
}

#[test]
fn only_the_admin_token_opens() {
    let auth = Auth::with_token("right", Vec::new());
    for (value, expect) in [("Bearer right", true), ("Bearer wrong", false), ("right", false), ("Bearer ", false)] {
        let given = headers(&[("authorization", value)]);
        assert_eq!(auth.check(&Method::GET, &given, 0).is_ok(), expect, "{value}");
    }
    assert!(auth.check(&Method::GET, &headers(&[("host", "127.0.0.1:5680")]), 0).is_err(), "localhost is nobody");
}

#[test]
fn a_session_writes_only_from_its_own_page() {
    let auth = Auth::with_token("right", vec!["weft.example".into()]);
    let session = auth.login("right", 0).ok().unwrap();
    let cookie = format!("{COOKIE}={session}");
    for (host, origin, expect) in [
        ("127.0.0.1:5680", "http://127.0.0.1:5680", true),
        ("weft.example", "https://weft.example", true),
        ("127.0.0.1:5680", "http://evil.example", false),
        ("evil.example", "http://evil.example", false),
        ("localhost:5680", "", false),
    ] {
        let given = headers(&[("cookie", &cookie), ("host", host), ("origin", origin)]);
        assert_eq!(auth.check(&Method::PUT, &given, 1).is_ok(), expect, "{host} {origin}");
    }
    let given = headers(&[("cookie", &cookie), ("host", "localhost")]);
    assert!(auth.check(&Method::GET, &given, 1).is_ok());
    assert!(auth.check(&Method::GET, &given, SESSION_MS + 1).is_err(), "sessions end");
    auth.logout(&given);
    assert!(auth.check(&Method::GET, &given, 1).is_err());
}

#[test]
fn guessing_is_slowed_down() {
    let auth = Auth::with_token("right", Vec::new());
    for _ in 0..FAILURES_PER_MINUTE {
        assert_eq!(auth.login("wrong", 1).unwrap_err().0.status, 401);
    }
    assert_eq!(auth.login("right", 1).unwrap_err().0.status, 429);
    assert!(auth.login("right", 100_000).is_ok());
}

#[test]
fn hexadecimal_reads_as_it_is_written() {
    assert_eq!(unhex(&hex(b"Timeout/default")).unwrap(), b"Timeout/default");
    assert_eq!(unhex("0"), None);
    assert_eq!(unhex("zz"), None);
}
