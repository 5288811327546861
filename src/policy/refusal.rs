//! When a policy is not carried out although it could be: what it goes by may be wrong.

use super::calendar::SECOND;
use super::retention::{Candidate, Decision};
use crate::base::clock::UnixMicros;

/// Clocks of hosts that back up to one repository may differ by so much before it counts.
pub const CLOCK_TOLERANCE: i64 = 600 * SECOND;

/// Of so few snapshots any share may be forgotten.
pub const FEW: usize = 10;

/// The largest share of a database's snapshots that is forgotten at once, unless told otherwise: a typing error in a policy, or a clock that is years ahead, is noticed.
pub const MAX_SHARE: f64 = 0.75;

/// What is allowed although it looks wrong.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Allowed {
    /// Times in the future, and times that go back.
    pub odd_times: bool,
    /// So large a share of the snapshots, from 0 to 1.
    pub max_share: f64,
}

impl Default for Allowed {
    fn default() -> Self {
        Self { odd_times: false, max_share: MAX_SHARE }
    }
}

/// Why nothing of a database is forgotten.
#[derive(Clone, Debug, PartialEq)]
pub enum Refusal {
    /// Captured or recorded later than now: by a clock that was wrong, or the clock is wrong now.
    Future {
        /// Places of the snapshots.
        sequences: Vec<u64>,
    },
    /// Captured earlier than an earlier snapshot: a clock was set back, or a time is forged.
    BackDated {
        /// Places of the snapshots.
        sequences: Vec<u64>,
    },
    /// More would be forgotten than is allowed at once.
    Share {
        /// How many would be.
        dropped: usize,
        /// Of how many.
        count: usize,
        /// What is allowed.
        max_share: f64,
    },
}

/// Everything that speaks against forgetting what is decided.
pub fn refusals(candidates: &[Candidate], decisions: &[Decision], allowed: Allowed, now: UnixMicros) -> Vec<Refusal> {
    let dropped = decisions.iter().filter(|decision| !decision.is_kept()).count();
    if dropped == 0 {
        return Vec::new();
    }
    let mut refusals = Vec::new();
    if !allowed.odd_times {
        let future = future(candidates, now);
        refusals.extend((!future.is_empty()).then_some(Refusal::Future { sequences: future }));
        let back_dated = back_dated(candidates);
        refusals.extend((!back_dated.is_empty()).then_some(Refusal::BackDated { sequences: back_dated }));
    }
    let (count, max_share) = (candidates.len(), allowed.max_share);
    if count > FEW && dropped as f64 > count as f64 * max_share {
        refusals.push(Refusal::Share { dropped, count, max_share });
    }
    refusals
}

fn future(candidates: &[Candidate], now: UnixMicros) -> Vec<u64> {
    let latest = now.0.saturating_add(CLOCK_TOLERANCE);
    let is_later = |candidate: &&Candidate| candidate.captured.0.max(candidate.recorded.0) > latest;
    candidates.iter().filter(is_later).map(|candidate| candidate.sequence).collect()
}

fn back_dated(candidates: &[Candidate]) -> Vec<u64> {
    let mut latest = i64::MIN;
    let mut found = Vec::new();
    for candidate in candidates {
        if candidate.captured.0 < latest.saturating_sub(CLOCK_TOLERANCE) {
            found.push(candidate.sequence);
        }
        latest = latest.max(candidate.captured.0);
    }
    found
}

#[cfg(test)]
mod tests {
    use super::super::retention::{Kind, Reason};
    use super::*;

    const NOW: UnixMicros = UnixMicros(1_764_000_000_000_000);
    const MINUTE: i64 = 60 * SECOND;

    /// Snapshots captured and recorded so many minutes before now, of which the first `dropped` are to go.
    fn check(minutes: &[(i64, i64)], dropped: usize, allowed: Allowed, expected: &[Refusal]) {
        let candidate = |(at, &(captured, recorded)): (usize, &(i64, i64))| Candidate {
            sequence: at as u64 + 1,
            captured: UnixMicros(NOW.0 - captured * MINUTE),
            recorded: UnixMicros(NOW.0 - recorded * MINUTE),
            kind: Kind::Full,
            tags: Vec::new(),
            is_held: false,
            is_verified: false,
            is_damaged: false,
        };
        let candidates: Vec<Candidate> = minutes.iter().enumerate().map(candidate).collect();
        let reasons = |at: usize| if at < dropped { Vec::new() } else { vec![Reason::Newest] };
        let decision = |at: usize| Decision { sequence: at as u64 + 1, reasons: reasons(at) };
        let decisions: Vec<Decision> = (0..candidates.len()).map(decision).collect();
        assert_eq!(refusals(&candidates, &decisions, allowed, NOW), expected, "{minutes:?}, {dropped} dropped");
    }

    #[test]
    fn times_in_the_future_are_refused() {
        let refused = |sequences: &[u64]| [Refusal::Future { sequences: sequences.to_vec() }];
        check(&[(90, 90), (-10, -10)], 1, Allowed::default(), &[]);
        check(&[(90, 90), (-11, 0)], 1, Allowed::default(), &refused(&[2]));
        check(&[(90, 90), (0, -11)], 1, Allowed::default(), &refused(&[2]));
        check(&[(90, -11), (0, -11)], 1, Allowed::default(), &refused(&[1, 2]));
        check(&[(90, 90), (-11, 0)], 0, Allowed::default(), &[]);
        check(&[(90, 90), (-11, 0)], 1, Allowed { odd_times: true, ..Allowed::default() }, &[]);
    }

    #[test]
    fn times_that_go_back_are_refused() {
        let refused = |sequences: &[u64]| [Refusal::BackDated { sequences: sequences.to_vec() }];
        check(&[(90, 90), (100, 80), (50, 50)], 1, Allowed::default(), &[]);
        check(&[(90, 90), (101, 80), (50, 50)], 1, Allowed::default(), &refused(&[2]));
        // All that is earlier than the latest before, until the clock has caught up.
        check(&[(20, 20), (90, 15), (80, 5), (1, 1)], 1, Allowed::default(), &refused(&[2, 3]));
        check(&[(20, 20), (90, 15)], 1, Allowed { odd_times: true, ..Allowed::default() }, &[]);
    }

    #[test]
    fn too_large_a_share_is_refused() {
        let minutes: Vec<(i64, i64)> = (0..12).rev().map(|minute| (minute, minute)).collect();
        let refused = |dropped, max_share| [Refusal::Share { dropped, count: 12, max_share }];
        check(&minutes, 9, Allowed::default(), &[]);
        check(&minutes, 10, Allowed::default(), &refused(10, 0.75));
        check(&minutes, 11, Allowed { max_share: 1.0, ..Allowed::default() }, &[]);
        check(&minutes, 1, Allowed { max_share: 0.0, ..Allowed::default() }, &refused(1, 0.0));
        check(&minutes[2..], 9, Allowed::default(), &[]);
    }
}
