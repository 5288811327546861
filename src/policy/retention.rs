//! Which snapshots of one database are kept, and why.
//!
//! What it guarantees:
//! * A snapshot is kept for every reason that it has; only one without any is forgotten.
//! * Calendar rules look at the time of capture: of each period the latest snapshot. So a rule that is applied again and again, each time to what it has left, keeps
//!   what it would have kept if applied once at the end, and nothing that a later application would want is forgotten by an earlier one.
//! * A snapshot that is damaged is kept, and takes the place of no other: whoever repairs decides about it.
//! * A policy that keeps more of something keeps all that one with less keeps.
//!
//! "Newest" is by the order of the timeline, never by a clock.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::fmt;

use jiff::tz::TimeZone;

use crate::base::clock::UnixMicros;
use crate::format::manifest::{Manifest, Strategy};

use super::calendar::{DAY, Period};

/// The fewest snapshots that a database is left with unless told otherwise.
pub const MIN_COUNT: usize = 3;

/// A restore point of the database.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Candidate {
    /// Its place in the timeline.
    pub sequence: u64,
    /// When the state was captured.
    pub captured: UnixMicros,
    /// When the entry was written.
    pub recorded: UnixMicros,
    /// What it counts as where each strategy has rules of its own.
    pub kind: Kind,
    /// Words that people gave it.
    pub tags: Vec<String>,
    /// It must not be forgotten.
    pub is_held: bool,
    /// It was verified, and nothing was wrong.
    pub is_verified: bool,
    /// It is known that it cannot be restored.
    pub is_damaged: bool,
}

/// What a snapshot counts as.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// A full, or a compaction into a single image.
    Full,
    /// A differential.
    Differential,
    /// An incremental, or any other compaction.
    Incremental,
    /// A watcher's commits.
    Continuous,
}

impl Kind {
    /// Of a manifest: a compaction counts as what it takes the place of.
    pub fn of(manifest: &Manifest) -> Self {
        match (manifest.strategy, manifest.layers.len()) {
            (Strategy::Full, _) | (Strategy::Compaction, 1) => Self::Full,
            (Strategy::Differential, _) => Self::Differential,
            (Strategy::Incremental | Strategy::Compaction, _) => Self::Incremental,
            (Strategy::Continuous, _) => Self::Continuous,
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Full => "full",
            Self::Differential => "differential",
            Self::Incremental => "incremental",
            Self::Continuous => "continuous",
        })
    }
}

/// Which snapshots a rule looks at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Among {
    /// All of the database.
    All,
    /// Those of one kind.
    Kind(Kind),
}

/// How far back a rule goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reach {
    /// So many microseconds before now.
    Age(i64),
    /// So many snapshots, or so many periods that have any.
    Count(u32),
}

/// One reason to keep snapshots.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rule {
    /// Those that it looks at.
    pub among: Among,
    /// The latest of each period; without one, each.
    pub one_per: Option<Period>,
    /// How far back.
    pub reach: Reach,
}

/// What is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Policy {
    /// Any of them keeps a snapshot.
    pub rules: Vec<Rule>,
    /// Snapshots with one of these tags are kept for ever.
    pub tags: Vec<String>,
    /// So many of the newest are kept whatever their age.
    pub min_count: usize,
    /// A snapshot is forgotten only if a newer one is kept that was verified.
    pub only_verified: bool,
}

impl Default for Policy {
    /// Each strategy has its own rules: what is finer is kept for a shorter time.
    fn default() -> Self {
        let kinds = [Kind::Continuous, Kind::Incremental, Kind::Differential, Kind::Full];
        Self { rules: kinds.into_iter().flat_map(default_rules).collect(), ..Self::empty() }
    }
}

/// What is kept of one kind unless something else is asked for. A watcher's commits thin in steps: all, then those that end a stretch of minutes, of hours, of days.
pub fn default_rules(kind: Kind) -> Vec<Rule> {
    let all = |reach: Reach| Rule { among: Among::Kind(kind), one_per: None, reach };
    let each = |period: Period, reach: Reach| Rule { one_per: Some(period), ..all(reach) };
    match kind {
        Kind::Continuous => vec![
            all(Reach::Age(DAY)),
            each(Period::Minutes(15), Reach::Age(3 * DAY)),
            each(Period::Hour, Reach::Age(7 * DAY)),
            each(Period::Day, Reach::Age(30 * DAY)),
        ],
        Kind::Incremental => vec![all(Reach::Age(7 * DAY))],
        Kind::Differential => vec![all(Reach::Age(30 * DAY))],
        Kind::Full => vec![all(Reach::Count(12))],
    }
}

impl Policy {
    /// One that keeps what every policy keeps.
    pub fn empty() -> Self {
        Self { rules: Vec::new(), tags: Vec::new(), min_count: MIN_COUNT, only_verified: false }
    }

    /// Whether it keeps nothing but what every policy keeps.
    pub fn keeps_nothing(&self) -> bool {
        self.tags.is_empty() && self.rules.iter().all(|rule| matches!(rule.reach, Reach::Count(0) | Reach::Age(0)))
    }
}

/// Why a snapshot is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reason {
    /// It is the newest of the database.
    Newest,
    /// It must not be forgotten.
    Held,
    /// It has this tag.
    Tag(String),
    /// A rule.
    Rule(Rule),
    /// There would be too few.
    MinCount,
    /// No newer one was verified, or it is the newest that was.
    Unverified,
    /// It is damaged: `repair --drop-affected` takes it away.
    Damaged,
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Newest => f.write_str("newest"),
            Self::Held => f.write_str("held"),
            Self::Tag(tag) => write!(f, "tag {tag}"),
            Self::Rule(rule) => rule.fmt(f),
            Self::MinCount => f.write_str("minimum count"),
            Self::Unverified => f.write_str("no newer one is verified"),
            Self::Damaged => f.write_str("damaged"),
        }
    }
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Among::Kind(kind) = self.among {
            write!(f, "{kind} ")?;
        }
        match (self.one_per, self.reach) {
            (Some(period), _) => period.fmt(f),
            (None, Reach::Age(age)) => write!(f, "within {}", shown_age(age)),
            (None, Reach::Count(count)) => write!(f, "last {count}"),
        }
    }
}

/// `7d`, `36h`, `90m` or `10s`: in the largest unit that it is a whole number of.
pub fn shown_age(micros: i64) -> String {
    let units = [(DAY, "d"), (DAY / 24, "h"), (DAY / 1440, "m"), (DAY / 86_400, "s")];
    let whole = units.into_iter().find(|(unit, _)| micros % unit == 0);
    whole.map_or_else(|| format!("{micros}us"), |(unit, letter)| format!("{}{letter}", micros / unit))
}

/// What becomes of one snapshot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Decision {
    /// Its place in the timeline.
    pub sequence: u64,
    /// Everything that keeps it.
    pub reasons: Vec<Reason>,
}

impl Decision {
    /// Whether anything keeps it.
    pub fn is_kept(&self) -> bool {
        !self.reasons.is_empty()
    }
}

/// Decides on all restore points of one database, which are given in the order of the timeline.
pub fn decide(candidates: &[Candidate], policy: &Policy, now: UnixMicros, zone: &TimeZone) -> Vec<Decision> {
    let decision = |candidate: &Candidate| Decision { sequence: candidate.sequence, reasons: Vec::new() };
    let mut decisions: Vec<Decision> = candidates.iter().map(decision).collect();
    if let Some(newest) = decisions.last_mut() {
        newest.reasons.push(Reason::Newest);
    }
    for (candidate, decision) in candidates.iter().zip(&mut decisions) {
        decision.reasons.extend(candidate.is_held.then_some(Reason::Held));
        decision.reasons.extend(candidate.is_damaged.then_some(Reason::Damaged));
        let tags = candidate.tags.iter().filter(|tag| policy.tags.contains(tag));
        decision.reasons.extend(tags.cloned().map(Reason::Tag));
    }
    for rule in &policy.rules {
        for position in kept_by(rule, candidates, now, zone) {
            decisions[position].reasons.push(Reason::Rule(*rule));
        }
    }
    let newest = (0..candidates.len()).rev().filter(|&at| !candidates[at].is_damaged);
    newest.take(policy.min_count).for_each(|at| decisions[at].reasons.push(Reason::MinCount));
    if policy.only_verified {
        let is_proved = |candidate: &Candidate| candidate.is_verified && !candidate.is_damaged;
        let newest_verified = candidates.iter().rposition(is_proved).unwrap_or(0);
        decisions[newest_verified..].iter_mut().for_each(|decision| decision.reasons.push(Reason::Unverified));
    }
    decisions
}

/// The positions of the snapshots that a rule keeps.
fn kept_by(rule: &Rule, candidates: &[Candidate], now: UnixMicros, zone: &TimeZone) -> Vec<usize> {
    let is_among = |candidate: &Candidate| match rule.among {
        _ if candidate.is_damaged => false,
        Among::All => true,
        Among::Kind(kind) => candidate.kind == kind,
    };
    let is_within = |candidate: &Candidate| match rule.reach {
        Reach::Age(age) => now.0.saturating_sub(candidate.captured.0) <= age,
        Reach::Count(_) => true,
    };
    let looked_at = (0..candidates.len()).filter(|&at| is_among(&candidates[at]) && is_within(&candidates[at]));
    let most = match rule.reach {
        Reach::Age(_) => usize::MAX,
        Reach::Count(count) => count as usize,
    };
    let Some(period) = rule.one_per else { return looked_at.rev().take(most).collect() };
    let mut latest: BTreeMap<Reverse<i64>, usize> = BTreeMap::new();
    for at in looked_at {
        let captured = candidates[at].captured;
        let of_period = latest.entry(Reverse(period.of(captured, zone))).or_insert(at);
        if candidates[*of_period].captured <= captured {
            *of_period = at;
        }
    }
    latest.into_values().take(most).collect()
}
