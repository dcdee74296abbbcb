//! One spelling per path, before anything is decided about it.
//!
//! Authorization that compares `/admin` must not be walked around by `/x/../admin`, `//admin` or `/%61dmin`. So the path
//! is brought to one form first, and that form is what the app gets (Istio's DECODE_AND_MERGE_SLASHES, strict).

use http::Uri;
use http::uri::{Parts, PathAndQuery};
use std::borrow::Cow;

/// Why a path was refused. All of these have no honest use and two readings.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum PathError {
    /// `%` without two hexadecimal digits.
    #[error("the path has a `%` without two hexadecimal digits")]
    Escape,
    /// NUL or another control character, plain or escaped.
    #[error("the path has a control character")]
    Control,
    /// An escaped escape, `%25..`: somebody hopes that we decode once and the app twice.
    #[error("the path is escaped twice")]
    Twice,
    /// `..` above the root.
    #[error("the path leaves the root")]
    Above,
}

/// The path in its one form: unreserved characters, `/` and `\` decoded, slashes merged, dot segments resolved.
pub fn normal(path: &str) -> Result<Cow<'_, str>, PathError> {
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"-_~!$&'()*+,;=:@".contains(&b);
    let bytes = path.as_bytes();
    let clean = bytes.iter().enumerate().all(|(i, b)| {
        plain(*b) || (*b == b'.' && i > 0 && bytes[i - 1] != b'/' && bytes[i - 1] != b'.') || {
            *b == b'/' && (i == 0 || bytes[i - 1] != b'/')
        }
    });
    if clean && bytes.first() == Some(&b'/') { Ok(Cow::Borrowed(path)) } else { rewrite(bytes).map(Cow::Owned) }
}

fn rewrite(bytes: &[u8]) -> Result<String, PathError> {
    let mut decoded = Vec::with_capacity(bytes.len() + 1);
    let mut rest = bytes;
    while let [byte, tail @ ..] = rest {
        rest = tail;
        match *byte {
            b'%' => {
                let (pair, after) = tail.split_at_checked(2).ok_or(PathError::Escape)?;
                let value = hex(pair).ok_or(PathError::Escape)?;
                rest = after;
                match value {
                    0..0x20 | 0x7f => return Err(PathError::Control),
                    b'/' | b'\\' => decoded.push(b'/'),
                    b if b.is_ascii_alphanumeric() || b"-._~".contains(&b) => decoded.push(b),
                    _ => decoded.extend([b'%', pair[0].to_ascii_uppercase(), pair[1].to_ascii_uppercase()]),
                }
            }
            b'\\' => decoded.push(b'/'),
            0..0x20 | 0x7f => return Err(PathError::Control),
            // Left plain by sloppy clients; `%C3%A9` and its two bytes are one path.
            b if !b.is_ascii() => decoded.extend(format!("%{b:02X}").bytes()),
            b => decoded.push(b),
        }
    }
    // Looked for in what was decoded: `%25%36%31` is `%61` escaped twice, too.
    if decoded.windows(5).any(|five| five.starts_with(b"%25") && hex(&five[3..]).is_some()) {
        return Err(PathError::Twice);
    }
    let text = String::from_utf8_lossy(&decoded);
    let mut out: Vec<&str> = Vec::new();
    for segment in text.split('/') {
        match segment {
            "" | "." => {}
            ".." => {
                out.pop().ok_or(PathError::Above)?;
            }
            segment => out.push(segment),
        }
    }
    let folder = ["/", "/.", "/.."].iter().any(|end| text.ends_with(end));
    let mut path = String::with_capacity(text.len() + 1);
    for segment in &out {
        path.push('/');
        path.push_str(segment);
    }
    if folder || out.is_empty() {
        path.push('/');
    }
    Ok(path)
}

fn hex(pair: &[u8]) -> Option<u8> {
    u8::from_str_radix(std::str::from_utf8(pair).ok().filter(|s| !s.starts_with('+'))?, 16).ok()
}

/// `uri` with its path in its one form. `OPTIONS *` stays as it is.
pub fn normalise(uri: &mut Uri) -> Result<(), PathError> {
    if uri.path() == "*" || uri.path().is_empty() {
        return Ok(());
    }
    let path = match normal(uri.path())? {
        Cow::Borrowed(_) => return Ok(()),
        Cow::Owned(path) => path,
    };
    replace(uri, &path);
    Ok(())
}

/// Puts `path` in place of the present one and keeps the query. A path that is no path leaves `uri` as it was.
pub fn replace(uri: &mut Uri, path: &str) {
    let text = match uri.query() {
        Some(query) => format!("{path}?{query}"),
        None => path.to_owned(),
    };
    let Ok(path_and_query) = text.parse::<PathAndQuery>() else { return };
    let mut parts: Parts = std::mem::take(uri).into_parts();
    parts.path_and_query = Some(path_and_query);
    *uri = Uri::from_parts(parts).expect("only the path changed, and it parsed");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_spelling_of_a_path_becomes_one() {
        for (given, expect) in [
            ("/", "/"),
            ("/a/b", "/a/b"),
            ("/a.b/c..d", "/a.b/c..d"),
            ("//admin", "/admin"),
            ("/x/../admin", "/admin"),
            ("/./admin/", "/admin/"),
            ("/x/%2e%2e/admin", "/admin"),
            ("/x%2f..%2Fadmin", "/admin"),
            ("/%61dmin", "/admin"),
            ("\\admin", "/admin"),
            ("/x\\..\\admin", "/admin"),
            ("/a/..", "/"),
            ("/a/.", "/a/"),
            ("/a%20b", "/a%20b"),
            ("/a%c3%a9", "/a%C3%A9"),
            ("/a\u{e9}", "/a%C3%A9"),
            ("/100%25", "/100%25"),
        ] {
            assert_eq!(normal(given).as_deref(), Ok(expect), "{given}");
            assert_eq!(normal(expect).as_deref(), Ok(expect), "{expect} is not stable");
        }
    }

    #[test]
    fn paths_with_two_readings_are_refused() {
        for (given, expect) in [
            ("/%", PathError::Escape),
            ("/%4", PathError::Escape),
            ("/%zz", PathError::Escape),
            ("/%+1", PathError::Escape),
            ("/%00", PathError::Control),
            ("/a%0d%0ab", PathError::Control),
            ("/%252e%252e/admin", PathError::Twice),
            ("/%25%36%31dmin", PathError::Twice),
            ("/%25%61d", PathError::Twice),
            ("/..", PathError::Above),
            ("/a/../../b", PathError::Above),
        ] {
            assert_eq!(normal(given), Err(expect), "{given}");
        }
    }

    #[test]
    fn the_query_is_left_alone() {
        let mut uri: Uri = "http://cart.shop.mesh//a/../b?x=../y&z=%00".parse().unwrap();
        normalise(&mut uri).unwrap();
        assert_eq!(uri.to_string(), "http://cart.shop.mesh/b?x=../y&z=%00");
    }
}
