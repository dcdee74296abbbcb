//! Memory and delay as numbers: when readiness falls, when it returns.

use super::*;
use crate::limits::{DELAY_SAMPLE, DELAY_STANDS, DELAY_TARGET};

const LONG: Duration = Duration::from_secs(1);

fn admitted(overload: &Overload, load: &Load) -> Result<(), &'static str> {
    load.admit(overload, 1, || 0.5).map(drop)
}

#[test]
fn memory_takes_away_in_order() {
    let (overload, load) = (Overload::default(), Load::default());
    let seen = |permille| {
        overload.learn(permille, false);
        let idle = overload.idle(Duration::from_secs(100)).as_secs();
        (idle, overload.is_unready(), overload.admits_connection(0), admitted(&overload, &load).is_ok())
    };
    assert_eq!(seen(850), (100, false, true, true));
    assert_eq!(seen(875), (75, false, true, true), "idle connections go sooner");
    assert_eq!(seen(900), (50, true, true, true), "unready while everybody is still served");
    assert_eq!(seen(920), (30, true, false, true), "no new connections");
    assert_eq!(seen(950), (2, true, false, false), "no requests");
    assert!(seen(860).1, "ready again only well below");
    assert_eq!(seen(840), (100, false, true, true));
}

#[test]
fn a_burst_is_no_overload_and_a_standing_queue_is() {
    let (overload, load) = (Overload::default(), Load::default());
    let mut standing = Standing::default();
    let mut samples = |count: u32, wait: Duration| {
        (0..count).for_each(|_| standing.sample(wait, DELAY_SAMPLE));
        load.learn(&standing);
        (load.is_late(), load.shed())
    };
    let interval = DELAY_STANDS.div_duration_f64(DELAY_SAMPLE).ceil() as u32;
    assert_eq!(samples(interval - 1, LONG), (false, 0));
    assert_eq!(samples(1, Duration::ZERO), (false, 0), "one short wait: the queue had gone");
    assert_eq!(samples(interval, DELAY_TARGET), (true, 0), "unready first");
    let (_, shed) = samples(interval + 9, LONG);
    assert!(shed > 0, "then a share is refused");
    assert!(admitted(&overload, &load).is_ok(), "not yet half of them");
    samples(100, LONG);
    assert_eq!(admitted(&overload, &load).unwrap_err(), "requests wait too long in the proxy");
    assert!(load.shed() < 1_000, "some are always served");
    assert_eq!(samples(1_000, Duration::ZERO), (false, 0));
    standing.sample(DELAY_STANDS * 9, DELAY_STANDS * 9);
    assert_eq!((standing.is_late(), standing.shed()), (true, 0), "a frozen process finds one long wait");
    standing.sample(DELAY_STANDS, DELAY_STANDS);
    assert!(standing.shed() > 0, "a second one in a row is a queue");
}

#[test]
fn requests_under_way_and_connections_are_bounded() {
    let (overload, load) = (Overload::default(), Load::default());
    let all: Vec<_> = (0..IN_FLIGHT_MAX / 4).map(|_| load.admit(&overload, 4, || 0.0).unwrap()).collect();
    assert!(load.admit(&overload, 4, || 0.0).is_err());
    drop(all);
    assert!(load.admit(&overload, 4, || 0.0).is_ok());
    assert!(overload.admits_connection(overload.connections_max - 1));
    assert!(!overload.admits_connection(overload.connections_max));
    assert_eq!(overload.refused_connections(), 1);
}
