//! HTTP as the proxies see it: matching, filters, headers, bodies, retries and serving.

pub mod body;
pub mod deadline;
pub mod entire;
pub mod filter;
pub mod gate;
pub mod headers;
pub mod idle;
pub mod joined;
pub mod line;
pub mod matching;
pub mod meter;
pub mod parting;
pub mod path;
pub mod rate_min;
pub mod refused;
pub mod retry;
pub mod serve;
pub mod turns;
pub mod upgrade;
