//! What outcomes change: latency, failure shares, and who is in.

use crate::ask::{CandidateId, Outcome, Target};
use crate::balancer::Balancer;
use crate::connections::most_out;
use crate::fault::{Fault, planted};
use crate::standing::Why;

impl Balancer {
    /// A try was sent, to an endpoint or on a connection. Followed by exactly one [`finished`](Self::finished).
    pub fn started(&mut self, target: impl Into<Target>, _now_us: u64) {
        let Target { candidate, connection } = target.into();
        let Some(member) = self.member_mut(candidate) else { return };
        if connection.is_some() || !member.is_gateway() {
            member.in_flight += 1;
            let at = member.locality;
            self.localities[at].in_flight += 1;
        }
        if let Some(connection) = connection
            && let Some(member) = self.member_mut(candidate)
        {
            member.connections.started(connection.number);
        }
    }

    /// A try ended. With a gateway's own id: a connection that was asked for did not come about, so there is nothing
    /// that started.
    pub fn finished(&mut self, target: impl Into<Target>, now_us: u64, outcome: Outcome) {
        let Target { candidate: id, connection } = target.into();
        let Some(member) = self.member_mut(id) else { return };
        let at = member.locality;
        if connection.is_some() || !member.is_gateway() {
            member.in_flight = member.in_flight.saturating_sub(1);
            let place = &mut self.localities[at];
            place.in_flight = place.in_flight.saturating_sub(1);
        }
        self.remember(at, outcome, connection.is_some(), now_us);
        match connection {
            Some(connection) => self.through(id, connection.number, outcome, now_us),
            None => self.straight(id, outcome, now_us),
        }
    }

    /// The data path saw a sign of life (a pong, a byte): what hung may be probed at once.
    pub fn alive(&mut self, target: impl Into<Target>, now_us: u64) {
        let Target { candidate, connection } = target.into();
        let Some(member) = self.member_mut(candidate) else { return };
        if let Some(connection) = connection {
            member.connections.alive(connection.number, now_us);
        }
        if member.standing.out() == Some(Why::Hung) {
            member.standing.due_now(now_us);
            self.probe_at_us = self.probe_at_us.min(now_us);
        }
    }

    /// An answer of this candidate told its utilisation, 0.0 to 1.0 and beyond.
    pub fn load(&mut self, id: CandidateId, load: f64, now_us: u64) {
        if let Some(member) = self.member_mut(id).filter(|_| load.is_finite() && load >= 0.0) {
            member.load = Some((load, now_us));
        }
    }

    /// What the outcome says of the whole place. `behind`: it happened on a connection, not while making one.
    fn remember(&mut self, at: usize, outcome: Outcome, behind: bool, now_us: u64) {
        let place = &mut self.localities[at];
        match outcome {
            Outcome::Answered { status, .. } if status < 500 => {
                place.failures.observe(false, now_us);
                (place.trouble, place.proven) = (0, true);
            }
            Outcome::Answered { .. } => place.failures.observe(true, now_us),
            // One unreachable address says nothing of what is behind the others.
            Outcome::ConnectFailed if !behind => place.trouble = place.trouble.saturating_add(1),
            Outcome::ConnectFailed | Outcome::Broken | Outcome::Hung => {
                place.failures.observe(true, now_us);
                place.trouble = place.trouble.saturating_add(1);
            }
            Outcome::Cancelled => {}
        }
    }

    /// An endpoint, or a gateway through which no connection came about.
    fn straight(&mut self, id: CandidateId, outcome: Outcome, now_us: u64) {
        let ejection = self.config.ejection.clone();
        let Some(member) = self.member_mut(id) else { return };
        let gateway = member.is_gateway();
        if gateway {
            member.connections.opening_ended();
        }
        match outcome {
            Outcome::Answered { latency_us, status } if status < 500 => {
                member.latency.observe(latency_us, now_us);
                member.failures.observe(false, now_us);
                member.tally.count(false);
                if member.standing.succeeded(now_us) {
                    self.came_back(id, now_us);
                }
            }
            Outcome::Answered { latency_us, .. } => {
                member.latency.observe_failure(latency_us, now_us);
                member.failures.observe(true, now_us);
                member.tally.count(true);
                if member.standing.failed(&ejection) {
                    self.eject(id, now_us);
                }
            }
            // While other connections through it work, it is a workload behind the gateway that failed.
            Outcome::ConnectFailed | Outcome::Hung if gateway && member.connections.any_good() => {
                if !member.standing.is_in() {
                    self.take_out(id, Why::Refused, now_us);
                }
            }
            Outcome::ConnectFailed => self.take_out(id, Why::Refused, now_us),
            Outcome::Hung => self.take_out(id, Why::Hung, now_us),
            Outcome::Broken => {
                member.failures.observe(true, now_us);
                member.tally.count(true);
                if member.standing.failed(&ejection) {
                    self.eject(id, now_us);
                }
            }
            Outcome::Cancelled => {
                member.standing.probe_said_nothing(now_us);
                self.probe_at_us = self.probe_at_us.min(now_us);
            }
        }
    }

    /// One connection through a gateway: its own standing changes, the gateway's only when all of them hang.
    fn through(&mut self, id: CandidateId, number: u32, outcome: Outcome, now_us: u64) {
        let ejection = self.config.ejection.clone();
        let Some(member) = self.member_mut(id) else { return };
        let gateway_at_fault = member.connections.finished(number, outcome, &ejection, now_us);
        if gateway_at_fault {
            return self.take_out(id, Why::Hung, now_us);
        }
        if let Outcome::Answered { latency_us, status } = outcome {
            if status < 500 {
                member.latency.observe(latency_us, now_us);
            }
            // Any answer proves that the gateway passes on.
            if member.standing.succeeded(now_us) {
                self.came_back(id, now_us);
            }
        }
    }

    /// After failed answers: only while enough others of the place stay in. A failed probe stays out regardless.
    pub(crate) fn eject(&mut self, id: CandidateId, now_us: u64) {
        let Some(member) = self.member(id) else { return };
        let zone = &member.zone;
        let (all, out) = self
            .members()
            .filter(|(_, other)| other.zone == *zone && (other.chosen || planted(Fault::SubsetEjectsAll)))
            .fold((0, 0), |(all, out), (_, one)| (all + 1, out + usize::from(!one.standing.is_in())));
        if !member.standing.is_in() || out < most_out(all, &self.config.ejection) {
            self.take_out(id, Why::Failing, now_us);
        }
    }

    fn take_out(&mut self, id: CandidateId, why: Why, now_us: u64) {
        let ejection = self.config.ejection.clone();
        let Some(member) = self.member_mut(id) else { return };
        let at = member.locality;
        if member.standing.take_out(why, &ejection, now_us) {
            self.changed(at, now_us);
        } else {
            self.probe_at_us = self.probe_at_us.min(now_us);
        }
    }
}
