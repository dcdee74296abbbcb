//! Who gets a core that two want: traffic before control, because a request waits for its proxy and nobody waits for a
//! new policy to the millisecond.

use tracing::debug;

/// Each step is a factor of about 1.25 of a core that is contended (sched(7)): ten are a tenth of what a thread with
/// traffic gets, enough to keep up with dozens of changes a second.
const GIVES_WAY: i32 = 10;

/// The calling thread, and those it starts, give way to all others. A core that nobody else wants is theirs as before.
pub(crate) fn give_way() {
    if let Err(error) = rustix::process::nice(GIVES_WAY) {
        debug!(%error, "control and traffic have the same priority");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::process::getpriority_process;

    #[test]
    fn a_thread_gives_way_and_those_it_starts_and_no_other() {
        let own = || getpriority_process(None).expect("its own");
        let before = own();
        let gives_way = std::thread::spawn(move || {
            give_way();
            (own(), std::thread::spawn(own).join().expect("a number"))
        });
        let lower = (before + GIVES_WAY).min(19);
        assert_eq!(gives_way.join().expect("two numbers"), (lower, lower));
        assert_eq!(own(), before);
    }
}
