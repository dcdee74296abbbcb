//! Paths in their one form: nothing is left that a server could read in a second way.
#![no_main]

use libfuzzer_sys::fuzz_target;
use proxy::http::path::normal;

fuzz_target!(|path: &str| {
    let Ok(one) = normal(path) else { return };
    assert_eq!(normal(&one).as_deref(), Ok(&*one), "a second time changes it");
    assert!(one.starts_with('/') && !one.contains("//") && !one.contains('\\'), "{one:?}");
    assert!(one.split('/').all(|segment| segment != "." && segment != ".."), "{one:?}");
    assert!(one.bytes().all(|byte| byte >= 0x20 && byte != 0x7f), "{one:?}");
});
