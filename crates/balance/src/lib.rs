//! Chooses a place, then an endpoint, for one service as one proxy sees it.
//!
//! Pure: time (`now_us`, microseconds of a clock that never goes back) and randomness arrive as arguments. The proxy
//! [`update`](Balancer::update)s it when configuration changes, asks [`pick`](Balancer::pick) for every try, and tells
//! how each one [`started`](Balancer::started) and [`finished`](Balancer::finished).

mod ask;
mod balancer;

pub use ask::{Ask, Candidate, CandidateId, Choice, ConnectionId, Outcome, Target, Tier, TierPlace, Tiers};
pub use balancer::Balancer;
