//! Bugs planted by tests, to know that the simulator would find them.

/// One bug each.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Fault {
    /// A tier exactly at its threshold spills.
    ThresholdExclusive,
    /// Returning endpoints and places get their full share at once.
    NoSlowStart,
    /// A bad connection takes its gateway out.
    ConnectionBlamesGateway,
    /// What hung is never probed.
    HungForever,
    /// Another try goes where the first went.
    RetriesForget,
    /// Places are better at once.
    NoHysteresis,
    /// Proportional spilling moves everything.
    SpillsEverything,
    /// Nothing healthy: refuse.
    NoPanic,
    /// Ejection knows no limit.
    EjectsAll,
    /// A returning endpoint is open to everybody.
    ProbesFlood,
    /// Of two endpoints the worse one.
    PrefersWorse,
    /// Overload is answered by giving up the place and taking all of it back.
    ReliefOvershoots,
    /// Weights of endpoints are ignored.
    WeightsIgnored,
    /// Tables of keys depend on the order in which endpoints came.
    TableByArrival,
    /// Tables of keys give everybody the same.
    TableForgetsWeights,
    /// A key goes to its endpoint whatever its standing.
    KeyMeetsAnybody,
    /// A key finds another zone each time while a place spills.
    KeyForgetsPlace,
    /// Any request finds out whether an endpoint is back, its key regardless.
    KeyProbesStrangers,
    /// Who returns has all its keys at once.
    KeysReturnAtOnce,
    /// An endpoint with enough to do takes its keys all the same.
    BoundIgnored,
    /// Every proxy has the same subset.
    SubsetsAlike,
    /// A place is as well as the subset is.
    SubsetHidesOthers,
    /// Ejection counts endpoints outside of the subset as in.
    SubsetEjectsAll,
    /// Endpoints are compared by a handful of requests.
    FewAreCompared,
    /// A request in a thousand makes an endpoint worse than others.
    EveryDeviationEjects,
    /// What is compared never begins anew.
    TallyNeverEnds,
    /// Health is believed however little of it there is.
    PanicIgnored,
}

#[cfg(test)]
thread_local! {
    static PLANTED: std::cell::Cell<Option<Fault>> = const { std::cell::Cell::new(None) };
}

/// Whether a test planted this bug.
#[cfg(test)]
pub(crate) fn planted(fault: Fault) -> bool {
    PLANTED.get() == Some(fault)
}

/// Outside tests there are none.
#[cfg(not(test))]
pub(crate) const fn planted(_: Fault) -> bool {
    false
}

/// Runs with one bug planted.
#[cfg(test)]
pub(crate) fn with<T>(fault: Option<Fault>, run: impl FnOnce() -> T) -> T {
    struct Clear;
    impl Drop for Clear {
        fn drop(&mut self) {
            PLANTED.set(None);
        }
    }
    PLANTED.set(fault);
    let _clear = Clear;
    run()
}
