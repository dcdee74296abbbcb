//! HTTP as the proxies see it: matching, filters, headers, bodies, retries and serving.

pub mod body;
pub mod filter;
pub mod headers;
pub mod matching;
pub mod path;
pub mod retry;
pub mod serve;
pub mod upgrade;
