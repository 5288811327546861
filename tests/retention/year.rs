//! A year of snapshots on random schedules, with outages, days that are watched, clocks that change and clocks that are set; forgotten day by day.

use std::collections::{BTreeMap, BTreeSet};

use continuum::base::clock::UnixMicros;
use continuum::base::entropy::{Entropy, SeededEntropy};
use continuum::policy::calendar::{DAY, HOUR, Period};
use continuum::policy::promise::{largest_gap, promises};
use continuum::policy::refusal::{Allowed, refusals};
use continuum::policy::retention::{Among, Candidate, Decision, Kind, Policy, Reach, Rule, decide};

use super::{candidate, local, zone};

const MINUTE: i64 = HOUR / 60;
const DAYS: i64 = 366;

struct Dice(SeededEntropy);

impl Dice {
    fn new(seed: u64) -> Self {
        Self(SeededEntropy::new(seed))
    }

    /// At least `low`, at most `high`.
    fn between(&self, low: i64, high: i64) -> i64 {
        let mut bytes = [0; 8];
        self.0.fill(&mut bytes);
        low + (u64::from_le_bytes(bytes) % (high - low + 1) as u64) as i64
    }

    fn one_in(&self, count: i64) -> bool {
        self.between(1, count) == 1
    }
}

/// How clocks behave.
#[derive(Clone, Copy, PartialEq)]
enum Clock {
    Right,
    /// Set by a few minutes now and then: nothing to refuse.
    Steps,
    /// Set by up to two hours.
    Jumps,
}

/// Takes snapshots, one schedule a kind.
struct Schedule {
    kind: Kind,
    every: i64,
    next: i64,
}

struct Year {
    dice: Dice,
    clock: Clock,
    policy: Policy,
    taken: Vec<Candidate>,
    kept: Vec<Candidate>,
    offset: i64,
    /// The least and the most that the clock was wrong.
    offsets: (i64, i64),
}

impl Year {
    fn new(seed: u64, clock: Clock) -> Self {
        let dice = Dice::new(seed);
        let policy = random_policy(&dice);
        Self { dice, clock, policy, taken: Vec::new(), kept: Vec::new(), offset: 0, offsets: (0, 0) }
    }

    fn take(&mut self, time: i64, kind: Kind) {
        let captured = UnixMicros(time + self.offset);
        let mut taken = candidate(self.taken.len() as u64 + 1, captured, kind);
        if self.dice.one_in(300) {
            taken.tags.push(["release", "other"][self.dice.between(0, 1) as usize].to_owned());
        }
        taken.is_held = self.dice.one_in(1000);
        taken.is_verified = self.dice.one_in(20);
        self.taken.push(taken.clone());
        self.kept.push(taken);
    }

    fn set_clock(&mut self) {
        let most = match self.clock {
            Clock::Right => return,
            Clock::Steps => 4 * MINUTE,
            Clock::Jumps => 2 * HOUR,
        };
        if self.dice.one_in(20) {
            self.offset = self.dice.between(-most, most);
            self.offsets = (self.offsets.0.min(self.offset), self.offsets.1.max(self.offset));
        }
    }

    /// One day of snapshots.
    fn pass_day(&mut self, begin: i64, schedules: &mut [Schedule]) {
        let end = begin + DAY;
        let is_watched = self.dice.one_in(4);
        let watched = if is_watched { (begin / MINUTE..end / MINUTE).step_by(5).collect() } else { Vec::new() };
        let mut moments: BTreeMap<i64, Kind> =
            watched.into_iter().map(|minute: i64| (minute * MINUTE, Kind::Continuous)).collect();
        for schedule in schedules {
            while schedule.next < end {
                moments.insert(schedule.next, schedule.kind);
                schedule.next += schedule.every + self.dice.between(0, schedule.every / 4);
            }
        }
        for (time, kind) in moments {
            self.take(time, kind);
        }
    }

    fn now(&self, time: i64) -> UnixMicros {
        UnixMicros(time + self.offset)
    }

    fn forget(&mut self, now: UnixMicros) {
        let decisions = decide(&self.kept, &self.policy, now, &zone());
        let allowed = Allowed { odd_times: self.clock == Clock::Jumps, max_share: 1.0 };
        assert_eq!(refusals(&self.kept, &decisions, allowed, now), [], "{:?}", self.policy);
        let mut decisions = decisions.iter();
        self.kept.retain(|_| decisions.next().is_some_and(Decision::is_kept));
    }

    /// The whole year; the time at its end.
    fn pass(&mut self) -> UnixMicros {
        let begin = local("2026-01-01 00:00").0 + self.dice.between(0, 300) * DAY;
        let schedule = |kind: Kind, every: i64| Schedule { kind, every, next: begin + every };
        let mut schedules = [
            schedule(Kind::Full, self.dice.between(2 * 24, 9 * 24) * HOUR),
            schedule(Kind::Differential, self.dice.between(20, 30) * HOUR),
            schedule(Kind::Incremental, self.dice.between(40, 600) * MINUTE),
        ];
        let forget_at = self.dice.between(0, DAY);
        let mut day = 0;
        while day < DAYS {
            self.set_clock();
            self.pass_day(begin + day * DAY, &mut schedules);
            let end = begin + (day + 1) * DAY;
            if !self.dice.one_in(15) {
                // Not every job runs, and they do not run on the minute.
                self.forget(self.now(end + self.dice.between(0, forget_at) / 100));
            }
            if self.dice.one_in(40) {
                let days = self.dice.between(1, 6);
                day += days;
                schedules.iter_mut().for_each(|schedule| schedule.next = schedule.next.max(end + days * DAY));
            }
            day += 1;
        }
        let end = self.now(begin + day * DAY + DAY / 50);
        self.forget(end);
        end
    }
}

fn random_policy(dice: &Dice) -> Policy {
    let periods = [Period::Hour, Period::Day, Period::Week, Period::Month, Period::Year];
    let mut policy = Policy::empty();
    match dice.between(0, 3) {
        0 => policy = Policy::default(),
        1 => {
            // Ever wider apart.
            let steps = [None, Some(Period::Minutes(dice.between(6, 30) as u8)), Some(Period::Hour), Some(Period::Day)];
            let mut age = DAY / 2;
            for one_per in steps {
                age *= dice.between(1, 6);
                policy.rules.push(Rule { among: Among::All, one_per, reach: Reach::Age(age) });
            }
        }
        _ => {
            for period in periods {
                let count = dice.between(0, 12) as u32;
                policy.rules.push(Rule { among: Among::All, one_per: Some(period), reach: Reach::Count(count) });
            }
            let count = dice.between(0, 20) as u32;
            policy.rules.push(Rule { among: Among::All, one_per: None, reach: Reach::Count(count) });
        }
    }
    policy.tags.extend(dice.one_in(2).then(|| "release".to_owned()));
    policy.min_count = dice.between(1, 5) as usize;
    policy.only_verified = dice.one_in(4);
    policy
}

/// One that keeps more of something.
fn larger(policy: &Policy, dice: &Dice) -> Policy {
    let mut larger = policy.clone();
    for rule in &mut larger.rules {
        match &mut rule.reach {
            Reach::Age(age) => *age += dice.between(0, 1) * dice.between(1, 10 * DAY),
            Reach::Count(count) => *count += dice.between(0, 2) as u32,
        }
    }
    let also = Rule { among: Among::All, one_per: Some(Period::Week), reach: Reach::Count(dice.between(0, 9) as u32) };
    larger.rules.push(also);
    larger.min_count += dice.between(0, 2) as usize;
    larger.only_verified |= dice.one_in(2);
    larger
}

fn sequences(candidates: &[Candidate]) -> BTreeSet<u64> {
    candidates.iter().map(|candidate| candidate.sequence).collect()
}

fn kept_of(candidates: &[Candidate], policy: &Policy, now: UnixMicros) -> BTreeSet<u64> {
    let decisions = decide(candidates, policy, now, &zone());
    decisions.iter().filter(|decision| decision.is_kept()).map(|decision| decision.sequence).collect()
}

fn is_among(candidate: &Candidate, among: Among) -> bool {
    among == Among::All || among == Among::Kind(candidate.kind)
}

/// Times of capture, in order.
fn times(candidates: &[Candidate], among: Among) -> Vec<i64> {
    let mut times: Vec<i64> = candidates
        .iter()
        .filter(|candidate| is_among(candidate, among))
        .map(|candidate| candidate.captured.0)
        .collect();
    times.sort_unstable();
    times
}

/// No gap is larger than promised; how many were looked at.
fn check_gaps(year: &Year, now: UnixMicros, seed: u64) -> usize {
    let wrong = year.offsets.1 - year.offsets.0;
    let kept = times(&year.kept, Among::All);
    let mut looked_at = 0;
    for promise in promises(&year.policy) {
        let taken = times(&year.taken, promise.among);
        for pair in kept.windows(2) {
            // A clock that was ahead has seen what is so old as older.
            let is_promised = now.0 - pair[0] + wrong <= promise.age;
            let next = taken.get(taken.partition_point(|&time| time <= pair[0]));
            if let Some(next) = next.filter(|_| is_promised) {
                let (gap, most) = (pair[1] - pair[0], next - pair[0] + promise.beyond);
                assert!(gap <= most, "seed {seed}: a gap of {gap} behind {}, not {most}, {:?}", pair[0], year.policy);
                looked_at += 1;
            }
        }
    }
    let widest = |among: Among| times(&year.taken, among).windows(2).map(|pair| pair[1] - pair[0]).max();
    for pair in kept.windows(2) {
        if let Some(most) = largest_gap(&year.policy, now.0 - pair[0] + wrong, widest) {
            assert!(pair[1] - pair[0] <= most, "seed {seed}: {pair:?}, {:?}", year.policy);
        }
    }
    looked_at
}

fn check_year(seed: u64, clock: Clock) -> usize {
    let mut year = Year::new(seed, clock);
    let now = year.pass();
    let looked_at = check_gaps(&year, now, seed);
    let kept = sequences(&year.kept);
    assert_eq!(kept, kept_of(&year.kept, &year.policy, now), "seed {seed}: again, it keeps other ones");
    let newest = year.taken.len().saturating_sub(year.policy.min_count);
    let must = year.taken[newest..].iter().chain(year.taken.iter().filter(|candidate| candidate.is_held));
    assert!(sequences(&must.cloned().collect::<Vec<_>>()).is_subset(&kept), "seed {seed}");
    let counts_only = year.policy.rules.iter().all(|rule| matches!(rule.reach, Reach::Count(_)));
    if clock == Clock::Right || counts_only {
        assert_eq!(
            kept,
            kept_of(&year.taken, &year.policy, now),
            "seed {seed}: day by day it keeps other ones than at once"
        );
    }
    let more = kept_of(&year.taken, &larger(&year.policy, &year.dice), now);
    assert!(kept_of(&year.taken, &year.policy, now).is_subset(&more), "seed {seed}: a larger policy keeps less");
    if year.policy.only_verified {
        check_verified(&year, &kept, seed);
    }
    looked_at
}

/// Whatever was forgotten has a newer one that is kept and was verified.
fn check_verified(year: &Year, kept: &BTreeSet<u64>, seed: u64) {
    let verified = year.kept.iter().rev().find(|candidate| candidate.is_verified).map(|candidate| candidate.sequence);
    let forgotten = year.taken.iter().rev().find(|candidate| !kept.contains(&candidate.sequence));
    assert!(forgotten.is_none_or(|forgotten| Some(forgotten.sequence) < verified), "seed {seed}");
}

fn check_years(clock: Clock, seeds: std::ops::Range<u64>) {
    let looked_at: usize = seeds.map(|seed| check_year(seed, clock)).sum();
    assert!(looked_at > 1000, "{looked_at} gaps");
}

#[test]
fn no_gap_is_larger_than_promised() {
    check_years(Clock::Right, 0..10);
}

#[test]
fn no_gap_is_larger_than_promised_where_clocks_are_set_by_minutes() {
    check_years(Clock::Steps, 100..110);
}

#[test]
fn no_gap_is_larger_than_promised_where_clocks_jump() {
    check_years(Clock::Jumps, 200..208);
}
