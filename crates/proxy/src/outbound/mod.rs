//! From the app to whoever it calls.

pub mod breaker;
pub mod callee;
pub mod external;
pub mod forward;
pub mod hashing;
pub mod http;
pub mod origination;
pub mod outside;
pub mod tcp;
pub mod tunnel;
