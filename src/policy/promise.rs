//! What a policy promises: how far apart neighbouring restore points are at most, however old.
//!
//! Let snapshots be taken so that from one to the next it is at most `g`. A rule that keeps the latest of each period, and reaches back to age `a`, then leaves no gap larger
//! than `g` and the longest such period behind a restore point that is at most `a` old: the snapshot after it was taken within `g`, the latest of *its* period is kept, and
//! that is less than a period later. A rule that keeps all leaves no gap larger than `g`.

use super::calendar::Period;
use super::retention::{Among, Policy, Reach, Rule};

/// What one rule promises.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Promise {
    /// Of the snapshots that it looks at: how far apart they were taken is what `beyond` is added to.
    pub among: Among,
    /// It holds behind restore points that are at most so old, in microseconds.
    pub age: i64,
    /// A gap is at most so much larger than the largest one between the snapshots that were taken.
    pub beyond: i64,
}

/// The promises of a policy's rules. Rules that count snapshots promise no gaps: how far they reach depends on how often snapshots are taken.
pub fn promises(policy: &Policy) -> Vec<Promise> {
    policy.rules.iter().filter_map(promise).collect()
}

fn promise(rule: &Rule) -> Option<Promise> {
    let age = match (rule.reach, rule.one_per) {
        (Reach::Age(age), _) => age,
        // The newest period has only begun.
        (Reach::Count(count), Some(period)) => i64::from(count.checked_sub(1)?).saturating_mul(period.shortest()),
        (Reach::Count(_), None) => return None,
    };
    Some(Promise { among: rule.among, age, beyond: rule.one_per.map_or(0, Period::longest) })
}

/// The largest gap behind a restore point of that age, if from one snapshot of each kind to the next it is at most `taken_every`; `None` where nothing is promised.
pub fn largest_gap(policy: &Policy, age: i64, taken_every: impl Fn(Among) -> Option<i64>) -> Option<i64> {
    let holds = promises(policy).into_iter().filter(|promise| age <= promise.age);
    holds.filter_map(|promise| Some(taken_every(promise.among)?.saturating_add(promise.beyond))).min()
}

#[cfg(test)]
mod tests {
    use super::super::calendar::{DAY, HOUR};
    use super::super::retention::Kind;
    use super::*;

    #[test]
    fn the_default_promises_less_the_older_it_gets() {
        let policy = Policy::default();
        let every = |among: Among| (among == Among::Kind(Kind::Continuous)).then_some(HOUR / 12);
        let gap = |age: i64| largest_gap(&policy, age, every);
        assert_eq!(gap(DAY), Some(HOUR / 12));
        assert_eq!(gap(DAY + 1), Some(HOUR / 12 + HOUR / 4));
        assert_eq!(gap(3 * DAY + 1), Some(HOUR / 12 + HOUR));
        assert_eq!(gap(7 * DAY + 1), Some(HOUR / 12 + 25 * HOUR));
        assert_eq!(gap(30 * DAY + 1), None);
    }

    #[test]
    fn counted_periods_reach_back_to_the_last_whole_one() {
        let rule = |count: u32| Rule { among: Among::All, one_per: Some(Period::Day), reach: Reach::Count(count) };
        let gap = |count: u32, age: i64| {
            largest_gap(&Policy { rules: vec![rule(count)], ..Policy::empty() }, age, |_| Some(HOUR))
        };
        assert_eq!(gap(7, 6 * 23 * HOUR), Some(26 * HOUR));
        assert_eq!(gap(7, 6 * 23 * HOUR + 1), None);
        assert_eq!((gap(1, 0), gap(0, 0)), (Some(26 * HOUR), None));
        let last = Rule { among: Among::All, one_per: None, reach: Reach::Count(100) };
        assert_eq!(promises(&Policy { rules: vec![last], ..Policy::empty() }), []);
    }
}
