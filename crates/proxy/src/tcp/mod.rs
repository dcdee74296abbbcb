//! Bytes without requests: the preamble between proxies, and copying.

pub mod copy;
pub mod preamble;
