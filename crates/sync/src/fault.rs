//! Planted bugs: proof that the simulation would notice the real ones.
//!
//! `fault!(Name)` is `false` outside tests, so that nothing of this reaches a program. In tests it asks whether the
//! named bug is switched on for this thread; `simulate` switches on one after another and expects to catch each.

#[cfg(not(test))]
macro_rules! fault {
    ($name:ident) => {
        false
    };
}

#[cfg(test)]
macro_rules! fault {
    ($name:ident) => {
        $crate::fault::active($crate::fault::Fault::$name)
    };
}

pub(crate) use fault;

#[cfg(test)]
pub(crate) use planted::{ALL, Fault, active, with};

#[cfg(test)]
mod planted {
    use std::cell::Cell;

    /// One bug each, as somebody might really write it.
    #[derive(Clone, Copy, Debug, Eq, PartialEq)]
    pub(crate) enum Fault {
        /// View: forgets removals without raising the floor, so old followers keep deleted items.
        CompactsInSilence,
        /// View: resumes a cursor of another history.
        ResumesAnyEpoch,
        /// View: `since` starts one revision late.
        SinceSkipsOne,
        /// View: one that was never filled speaks, and says that there is nothing.
        BlankViewSpeaks,
        /// Feed: takes an ack as "holds the head" instead of "holds what was sent".
        AckMeansHead,
        /// Feed: a resync sends what is new and never what is gone.
        ResyncKeepsGone,
        /// Feed: takes the first slice of an inventory for all of it.
        HalfInventory,
        /// Feed: goes on sending after a decline, so that a publisher that caught up is never heard again.
        DeclineIsForever,
        /// Replica: shows every slice as it arrives.
        ShowsSlices,
        /// Replica: ignores what a delta builds on.
        BuildsOnAnything,
        /// Replica: ignores the numbers of slices.
        CountsNoSlices,
        /// Replica: puts slices of different transactions together.
        MixesTransactions,
        /// Replica: a half-received transaction survives a reconnect.
        KeepsHalfTransactions,
        /// Replica: takes any history, though it should keep.
        FollowsAnyHistory,
        /// Replica: a reject removes the last good item.
        RejectRemoves,
        /// Replica: a reject swallows the rest of its transaction.
        RejectBlocks,
        /// Replica: what was refused stays listed as refused when it became good.
        RejectIsForever,
        /// Replica: a restarted follower resumes by cursor though it holds rejects, which are never offered again.
        RestartForgetsRejects,
        /// Replica: adopting another history drops what is held instead of comparing it.
        AdoptEmpties,
    }

    /// Every planted bug.
    pub(crate) const ALL: [Fault; 19] = [
        Fault::CompactsInSilence,
        Fault::ResumesAnyEpoch,
        Fault::SinceSkipsOne,
        Fault::BlankViewSpeaks,
        Fault::AckMeansHead,
        Fault::ResyncKeepsGone,
        Fault::HalfInventory,
        Fault::DeclineIsForever,
        Fault::ShowsSlices,
        Fault::BuildsOnAnything,
        Fault::CountsNoSlices,
        Fault::MixesTransactions,
        Fault::KeepsHalfTransactions,
        Fault::FollowsAnyHistory,
        Fault::RejectRemoves,
        Fault::RejectBlocks,
        Fault::RejectIsForever,
        Fault::RestartForgetsRejects,
        Fault::AdoptEmpties,
    ];

    thread_local! {
        static ACTIVE: Cell<Option<Fault>> = const { Cell::new(None) };
    }

    pub(crate) fn active(fault: Fault) -> bool {
        ACTIVE.get() == Some(fault)
    }

    /// Runs `body` with one bug, or none, switched on for this thread.
    pub(crate) fn with<T>(fault: Option<Fault>, body: impl FnOnce() -> T) -> T {
        ACTIVE.set(fault);
        let answer = body();
        ACTIVE.set(None);
        answer
    }
}
