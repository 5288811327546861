//! Bugs that are planted from outside, to see that they are found: each spoils what one kind of actor, or the store, does ([`crate::spoiler`]), and nothing in the project's code knows of it.

/// Which.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Plant {
    /// The collector's fences are acknowledged and not written.
    FenceNotWritten,
    /// The collector's tombstones come to be after its fences.
    TombstonesAfterFence,
    /// Tombstones vanish when packs are deleted.
    TombstonesTakenBack,
    /// Writers do not see tombstones.
    TombstonesUnseen,
    /// Writers see the tombstones of their beginning only.
    TombstonesSeenOnce,
    /// Writers see the tombstones that there were before they read the timeline.
    TombstonesSeenEarly,
    /// Packs of the same chunks have the same name: writers but for watchers, whose journals need names of their own, draw the same random numbers each time.
    NamesUsedAgain,
    /// The collector does not see one timeline.
    TimelineUnseen,
    /// The collector does not see timelines that have only begun.
    BeginningUnseen,
    /// The collector deletes journals that are not folded.
    JournalsDeleted,
    /// What the collector copies, and lists anew, comes to be after what it deletes is gone.
    CopiesAfterDeletions,
    /// What the collector copies is acknowledged and not written.
    CopiesNotWritten,
    /// The collector's clock is a day ahead.
    ClockAhead,
    /// Listings lag, and the collector is not told.
    LagUntold,
    /// Some packs are acknowledged and not written.
    PacksNotWritten,
    /// Some index segments are acknowledged and not written.
    SegmentsNotWritten,
    /// Some journal objects are acknowledged and come to be much later.
    JournalsLate,
    /// A watcher's entries are acknowledged and not written.
    FoldsNotWritten,
    /// An entry that is there is overwritten.
    EntriesOverwritten,
    /// Any object may be acknowledged and not written.
    WritesLost,
    /// Who has created an entry does not see the stone behind it.
    StonesUnseen,
    /// One of several destinations acknowledges some writes that it does not do.
    DestinationForgets,
    /// A destination that is away acknowledges what is written to it.
    AbsenceUnseen,
    /// A sync, and what brings a destination up to date with it, does not copy index segments.
    SyncSkips,
    /// What repair carries over, or takes from the live databases, is acknowledged and not written.
    MendedNotWritten,
    /// What repair lists anew is acknowledged and not written.
    RelistedNotWritten,
    /// What repair says in the log is acknowledged and not written.
    MarksNotWritten,
}

impl Plant {
    /// All of them.
    pub const ALL: [Self; 27] = [
        Self::FenceNotWritten,
        Self::TombstonesAfterFence,
        Self::TombstonesTakenBack,
        Self::TombstonesUnseen,
        Self::TombstonesSeenOnce,
        Self::TombstonesSeenEarly,
        Self::NamesUsedAgain,
        Self::TimelineUnseen,
        Self::BeginningUnseen,
        Self::JournalsDeleted,
        Self::CopiesAfterDeletions,
        Self::CopiesNotWritten,
        Self::ClockAhead,
        Self::LagUntold,
        Self::PacksNotWritten,
        Self::SegmentsNotWritten,
        Self::JournalsLate,
        Self::FoldsNotWritten,
        Self::EntriesOverwritten,
        Self::WritesLost,
        Self::StonesUnseen,
        Self::DestinationForgets,
        Self::AbsenceUnseen,
        Self::SyncSkips,
        Self::MendedNotWritten,
        Self::RelistedNotWritten,
        Self::MarksNotWritten,
    ];

    /// Whether it shows only where there are several destinations or repairs.
    pub fn is_wide(self) -> bool {
        matches!(
            self,
            Self::DestinationForgets
                | Self::AbsenceUnseen
                | Self::SyncSkips
                | Self::MendedNotWritten
                | Self::RelistedNotWritten
                | Self::MarksNotWritten
        )
    }
}
