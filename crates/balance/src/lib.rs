//! Chooses a place, then an endpoint, for one service as one proxy sees it.
//!
//! Pure: time (`now_us`, microseconds of a clock that never goes back) and randomness arrive as arguments. The proxy
//! [`update`](Balancer::update)s it when configuration changes, asks [`pick`](Balancer::pick) for every try, and tells
//! how each one [`started`](Balancer::started) and [`finished`](Balancer::finished).
//!
//! 1. Tiers: the own zone from near to far, then the zones of the failover list.
//! 2. A tier's effective capacity is ready endpoints x weight x (1 - recent failure share); its health is that of all.
//!    At or above the threshold it carries everything. Below, the missing part moves on: at 35 % of 70 %, a half.
//! 3. Tiers are filled in order. When nothing is healthy anywhere, everything is tried (panic).
//! 4. Hard facts (refused, hung, unready) act at once. Soft ones (failure shares, summaries, load) wait for two
//!    observations for the worse and five for the better, and what comes back starts slowly.
//! 5. Within a place: the better of two random endpoints by peak-EWMA, unless the service says otherwise. Hash algorithms
//!    send requests of one key to one endpoint, and to one place while places share requests.
//!
//! What fails is taken out on the level it failed on: a connection through a gateway, a gateway's address, an endpoint.
//! After refusals and hangs it returns by single probes, after failed answers too, but never more than a set share of a
//! place is out for failed answers alone: for some in a row, or for more of them than others give.

mod ask;
mod balancer;
mod compare;
mod connections;
mod explain;
mod fault;
mod key;
mod limits;
mod locality;
mod measure;
mod member;
mod outcome;
mod pick;
mod place;
mod settle;
mod standing;
mod sticky;
mod subset;
mod table;
mod update;

#[cfg(test)]
mod tests;

pub use ask::{Ask, Candidate, CandidateId, Choice, ConnectionId, Outcome, Target, Tier, TierPlace, Tiers};
pub use balancer::Balancer;
pub use key::hash_key;
