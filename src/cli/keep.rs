//! The `--keep` options: which snapshots a policy keeps, as people write it.
//!
//! A step says how far back it goes, as a number of snapshots (`12`) or as a time span (`30d`). With a period before it, it looks at the latest snapshot of each such period only:
//! `hourly:7d`, `15m:3d`, `yearly:5`. What a strategy keeps is a list of steps, each of which is a reason to keep: `24h,15m:3d,hourly:7d`.
//!
//! Which defaults hold: a strategy that is named has its own steps, and no other strategy's are touched by that; the defaults of those that are not named hold
//! unless one of the options is given that look at all snapshots.

use clap::Args;

use crate::policy::calendar::Period;
use crate::policy::retention::{Among, Kind, Policy, Reach, Rule, default_rules};

use super::units::{self, Span};

const KEEP: &str = "What is kept of all snapshots";
const KEEP_STRATEGY: &str = "What is kept of one strategy (12 | 30d | hourly:7d | 15m:3d,yearly:5)";

/// Options of a policy. As a group they exclude names of snapshots.
#[derive(Debug, Args)]
pub struct KeepArguments {
    /// The last N snapshots
    #[arg(long, value_name = "N", help_heading = KEEP)]
    keep_last: Option<u32>,
    /// All that were captured so long ago at most, e.g. 30d
    #[arg(long, value_name = "SPAN", value_parser = units::span, help_heading = KEEP)]
    keep_within: Option<Span>,
    /// The latest of each of the last N hours that have any, or of each hour within a SPAN
    #[arg(long, value_name = "N|SPAN", value_parser = reach, help_heading = KEEP)]
    keep_hourly: Option<Reach>,
    /// The latest of each of the last N days that have any, or of each day within a SPAN
    #[arg(long, value_name = "N|SPAN", value_parser = reach, help_heading = KEEP)]
    keep_daily: Option<Reach>,
    /// The latest of each of the last N weeks that have any, or of each week within a SPAN
    #[arg(long, value_name = "N|SPAN", value_parser = reach, help_heading = KEEP)]
    keep_weekly: Option<Reach>,
    /// The latest of each of the last N months that have any, or of each month within a SPAN
    #[arg(long, value_name = "N|SPAN", value_parser = reach, help_heading = KEEP)]
    keep_monthly: Option<Reach>,
    /// The latest of each of the last N years that have any, or of each year within a SPAN
    #[arg(long, value_name = "N|SPAN", value_parser = reach, help_heading = KEEP)]
    keep_yearly: Option<Reach>,
    /// Those with this tag, for ever; may be given several times
    #[arg(long, value_name = "TAG", help_heading = KEEP)]
    keep_tag: Vec<String>,
    /// Commits of a watcher [default: 24h,15m:3d,hourly:7d,daily:30d]
    #[arg(long, value_name = "STEPS", value_parser = steps, help_heading = KEEP_STRATEGY)]
    keep_continuous: Option<Steps>,
    /// Incrementals, and compactions but those into a single image [default: 7d]
    #[arg(long, value_name = "STEPS", value_parser = steps, help_heading = KEEP_STRATEGY)]
    keep_incremental: Option<Steps>,
    /// Differentials [default: 30d]
    #[arg(long, value_name = "STEPS", value_parser = steps, help_heading = KEEP_STRATEGY)]
    keep_differential: Option<Steps>,
    /// Fulls, and compactions into a single image [default: 12]
    #[arg(long, value_name = "STEPS", value_parser = steps, help_heading = KEEP_STRATEGY)]
    keep_full: Option<Steps>,
}

/// How far back, and of which periods the latest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Step {
    one_per: Option<Period>,
    reach: Reach,
}

/// What is kept of a strategy.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Steps(Vec<Step>);

impl KeepArguments {
    /// What is asked for; the minimum count and whatever else no `--keep` option says is as in every policy.
    pub fn policy(&self) -> Policy {
        let of_all = self.rules_of_all();
        let is_default = of_all.is_empty() && self.keep_tag.is_empty();
        let of_kinds = [
            (Kind::Continuous, &self.keep_continuous),
            (Kind::Incremental, &self.keep_incremental),
            (Kind::Differential, &self.keep_differential),
            (Kind::Full, &self.keep_full),
        ];
        let of_kinds = of_kinds.into_iter().flat_map(|(kind, steps)| match steps {
            Some(Steps(steps)) => steps.iter().map(|step| step.rule(Among::Kind(kind))).collect(),
            None if is_default => default_rules(kind),
            None => Vec::new(),
        });
        let rules = of_all.iter().copied().chain(of_kinds).collect();
        Policy { rules, tags: self.keep_tag.clone(), ..Policy::empty() }
    }

    fn rules_of_all(&self) -> Vec<Rule> {
        let each = |reach: Reach| Step { one_per: None, reach };
        let every = |period: Period| move |reach: Reach| Step { one_per: Some(period), reach };
        let steps = [
            self.keep_last.map(Reach::Count).map(each),
            self.keep_within.map(|span| Reach::Age(span.micros())).map(each),
            self.keep_hourly.map(every(Period::Hour)),
            self.keep_daily.map(every(Period::Day)),
            self.keep_weekly.map(every(Period::Week)),
            self.keep_monthly.map(every(Period::Month)),
            self.keep_yearly.map(every(Period::Year)),
        ];
        steps.into_iter().flatten().map(|step| step.rule(Among::All)).collect()
    }
}

impl Step {
    fn rule(self, among: Among) -> Rule {
        let Self { one_per, reach } = self;
        Rule { among, one_per, reach }
    }
}

/// Parses a number of snapshots or periods, or a time span.
fn reach(text: &str) -> Result<Reach, String> {
    let counted = text.trim().parse().map(Reach::Count);
    let reach = counted.or_else(|_| units::span(text).map(|span| Reach::Age(span.micros())));
    reach.map_err(|_| "a number like 12 or a time span like 30d expected".to_owned())
}

/// Parses what the module documentation describes.
fn steps(text: &str) -> Result<Steps, String> {
    let parse = |step: &str| match step.split_once(':') {
        Some((each, far)) => Some(Step { one_per: Some(period(each.trim())?), reach: reach(far).ok()? }),
        None => Some(Step { one_per: None, reach: reach(step).ok()? }),
    };
    let steps: Option<Vec<Step>> = text.split(',').map(parse).collect();
    steps.map(Steps).ok_or_else(|| "steps like 12, 30d, hourly:7d or 15m:3d expected, separated by commas".to_owned())
}

/// Parses `hourly` … `yearly`, or a number of minutes from 1 to 60.
fn period(text: &str) -> Option<Period> {
    let named = [Period::Hour, Period::Day, Period::Week, Period::Month, Period::Year];
    let minutes = || text.strip_suffix('m')?.parse().ok().filter(|minutes| (1..=60).contains(minutes));
    named.into_iter().find(|period| period.to_string() == text).or_else(|| minutes().map(Period::Minutes))
}

#[cfg(test)]
mod tests {
    use clap::{CommandFactory, FromArgMatches, Parser};

    use super::*;
    use crate::policy::calendar::{DAY, HOUR};

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        keep: KeepArguments,
    }

    fn policy(line: &str) -> Policy {
        let words = std::iter::once("forget").chain(line.split_whitespace());
        Line::try_parse_from(words).unwrap_or_else(|error| panic!("{line}: {error}")).keep.policy()
    }

    /// The reasons for which a policy keeps, in words.
    fn words(line: &str) -> Vec<String> {
        policy(line).rules.iter().map(Rule::to_string).collect()
    }

    #[test]
    fn steps_are_read_as_people_write_them() {
        let step = |one_per, reach| Step { one_per, reach };
        let good = [
            ("12", vec![step(None, Reach::Count(12))]),
            ("30d", vec![step(None, Reach::Age(30 * DAY))]),
            ("0", vec![step(None, Reach::Count(0))]),
            ("hourly:7d", vec![step(Some(Period::Hour), Reach::Age(7 * DAY))]),
            (
                "24h, 15m:36h , yearly:5",
                vec![
                    step(None, Reach::Age(DAY)),
                    step(Some(Period::Minutes(15)), Reach::Age(36 * HOUR)),
                    step(Some(Period::Year), Reach::Count(5)),
                ],
            ),
        ];
        for (text, expected) in good {
            assert_eq!(steps(text), Ok(Steps(expected)), "{text}");
        }
        for text in ["", ",", "12,", "0m:3d", "61m:3d", "15:3d", "hourly", "hourly:", "7d:hourly", "-1", "4294967296"] {
            assert!(steps(text).is_err(), "{text}");
        }
    }

    #[test]
    fn the_defaults_are_those_that_the_help_names() {
        let command = Line::command();
        for kind in [Kind::Continuous, Kind::Incremental, Kind::Differential, Kind::Full] {
            let option = format!("keep_{kind}");
            let option = command.get_arguments().find(|argument| argument.get_id() == option.as_str());
            let help = option.and_then(clap::Arg::get_help).map(ToString::to_string).expect("the option has help");
            let (_, default) = help.split_once("[default: ").expect("it names a default");
            let Steps(steps) = steps(default.trim_end_matches(']')).expect("it can be read");
            let rules: Vec<Rule> = steps.into_iter().map(|step| step.rule(Among::Kind(kind))).collect();
            assert_eq!(rules, default_rules(kind), "{kind}");
        }
        assert_eq!(policy(""), Policy::default());
    }

    #[test]
    fn a_strategy_that_is_named_leaves_the_others_as_they_are() {
        let named = words("--keep-full 3,yearly:2");
        assert_eq!(named[named.len() - 2..], ["full last 3", "full yearly"]);
        assert_eq!(named[..named.len() - 2], words("")[..words("").len() - 1]);
        assert_eq!(words("--keep-last 5"), ["last 5"]);
        assert_eq!(words("--keep-last 5 --keep-continuous 1m:2h"), ["last 5", "continuous every minute"]);
        assert_eq!(words("--keep-daily 14d --keep-continuous 1h"), ["daily", "continuous within 1h"]);
        assert_eq!(words("--keep-tag release"), [""; 0]);
        assert!(policy("--keep-full 0 --keep-last 0").keeps_nothing());
    }

    #[test]
    fn of_hours_there_are_so_many_or_those_of_a_span() {
        assert_eq!(policy("--keep-hourly 24").rules[0].reach, Reach::Count(24));
        assert_eq!(policy("--keep-hourly 2d").rules[0].reach, Reach::Age(2 * DAY));
        assert!(Line::try_parse_from(["forget", "--keep-hourly", "often"]).is_err());
        let matches = Line::command().try_get_matches_from(["forget"]).expect("no option is needed");
        assert!(Line::from_arg_matches(&matches).is_ok_and(|line| line.keep.rules_of_all().is_empty()));
    }
}
