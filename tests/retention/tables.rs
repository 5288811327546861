//! A committed table for each policy: every snapshot, whether it is kept, and why.

use std::path::{Path, PathBuf};

use continuum::base::clock::UnixMicros;
use continuum::policy::calendar::{DAY, HOUR, Period, zoned};
use continuum::policy::retention::{Among, Candidate, Kind, Policy, Reach, Rule, decide};

use super::{candidate, local, zone};

const KINDS: [Kind; 4] = [Kind::Full, Kind::Differential, Kind::Incremental, Kind::Continuous];

/// A history as people read it: a time, a strategy, and words: `held`, `verified`, `damaged`, or a tag.
fn history(lines: &[&str]) -> Vec<Candidate> {
    let parse = |(line, sequence): (&&str, u64)| {
        let words: Vec<&str> = line.split(' ').collect();
        let kind = KINDS.into_iter().find(|kind| kind.to_string() == words[2]).expect("a strategy");
        let mut candidate = candidate(sequence, local(&format!("{} {}", words[0], words[1])), kind);
        for word in &words[3..] {
            match *word {
                "held" => candidate.is_held = true,
                "verified" => candidate.is_verified = true,
                "damaged" => candidate.is_damaged = true,
                tag => candidate.tags.push(tag.to_owned()),
            }
        }
        candidate
    };
    lines.iter().zip(1..).map(parse).collect()
}

/// Two years of fulls and what was taken between them.
fn of_two_years() -> Vec<Candidate> {
    history(&[
        "2024-12-31 23:00 full",
        "2025-06-30 23:00 full release",
        "2025-12-31 22:00 full",
        "2026-01-01 01:00 incremental",
        "2026-07-31 23:00 full held",
        "2026-08-31 23:00 full verified",
        "2026-09-27 23:00 full",
        "2026-10-04 23:00 full",
        "2026-10-11 23:00 full release",
        "2026-10-18 23:00 full",
        "2026-10-25 23:00 full verified",
        "2026-10-28 12:00 differential",
        "2026-10-31 23:30 incremental",
        "2026-11-01 23:00 full",
        "2026-11-08 23:00 full",
        "2026-11-15 23:00 full",
        "2026-11-16 12:00 differential",
        "2026-11-18 12:00 incremental",
        "2026-11-19 12:00 incremental",
        "2026-11-22 23:00 full verified",
        "2026-11-23 08:00 incremental",
        "2026-11-23 12:00 differential",
        "2026-11-23 20:00 incremental",
        "2026-11-24 08:00 incremental",
        "2026-11-24 08:30 incremental nightly",
        "2026-11-24 09:10 incremental",
    ])
}

/// A watcher's snapshots: every eight hours for a month, every ten minutes of two hours the day before, and every 50 minutes of the last hours.
fn watched(now: UnixMicros) -> Vec<Candidate> {
    let before = |micros: i64| UnixMicros(now.0 - micros);
    let rare = (13..=12 * 33).rev().step_by(4).map(|hours| before(hours * 2 * HOUR));
    let of_minutes = (31 * 6..33 * 6).rev().map(|tens| before(tens * HOUR / 6));
    let often = (0..26 * 6).rev().step_by(5).map(|tens| before(tens * HOUR / 6));
    rare.chain(of_minutes)
        .chain(often)
        .zip(1..)
        .map(|(time, sequence)| candidate(sequence, time, Kind::Continuous))
        .collect()
}

fn every(among: Among, one_per: Period, count: u32) -> Rule {
    Rule { among, one_per: Some(one_per), reach: Reach::Count(count) }
}

fn of_kind(kind: Kind, one_per: Option<Period>, reach: Reach) -> Rule {
    Rule { among: Among::Kind(kind), one_per, reach }
}

fn with(rules: &[Rule]) -> Policy {
    Policy { rules: rules.to_vec(), ..Policy::empty() }
}

/// Name, what is asked for, policy, snapshots, now.
fn cases() -> Vec<(&'static str, &'static str, Policy, Vec<Candidate>, UnixMicros)> {
    let now = local("2026-11-24 09:30");
    let all = |one_per, count| every(Among::All, one_per, count);
    let last = |count| Rule { among: Among::All, one_per: None, reach: Reach::Count(count) };
    let within = |age| Rule { among: Among::All, one_per: None, reach: Reach::Age(age) };
    let generations =
        [all(Period::Hour, 3), all(Period::Day, 3), all(Period::Week, 4), all(Period::Month, 4), all(Period::Year, 2)];
    let dst: Vec<String> = (0..8)
        .map(|nth| zoned(UnixMicros(local("2026-10-24 22:15").0 + nth * HOUR), &zone()))
        .map(|time| time.strftime("%Y-%m-%d %H:%M full").to_string())
        .collect();
    let mut night = history(&dst.iter().map(String::as_str).collect::<Vec<_>>());
    for (nth, candidate) in night.iter_mut().enumerate() {
        candidate.captured = UnixMicros(local("2026-10-24 22:15").0 + nth as i64 * HOUR);
    }
    let verified = Policy { only_verified: true, min_count: 1, ..with(&[last(2)]) };
    let tags = Policy { tags: vec!["release".to_owned(), "nightly".to_owned()], ..with(&[within(2 * DAY)]) };
    vec![
        ("default", "no option", Policy::default(), of_two_years(), now),
        ("default-watched", "no option, a watched database", Policy::default(), watched(now), now),
        (
            "generations",
            "--keep-hourly 3 --keep-daily 3 --keep-weekly 4 --keep-monthly 4 --keep-yearly 2",
            with(&generations),
            of_two_years(),
            now,
        ),
        (
            "strategies",
            "--keep-full yearly:2,3 --keep-incremental daily:2, the others by default",
            with(&[
                of_kind(Kind::Continuous, None, Reach::Age(DAY)),
                of_kind(Kind::Incremental, Some(Period::Day), Reach::Count(2)),
                of_kind(Kind::Differential, None, Reach::Age(30 * DAY)),
                of_kind(Kind::Full, Some(Period::Year), Reach::Count(2)),
                of_kind(Kind::Full, None, Reach::Count(3)),
            ]),
            of_two_years(),
            now,
        ),
        ("last", "--keep-last 5", with(&[last(5)]), of_two_years(), now),
        ("within-and-tags", "--keep-within 2d --keep-tag release --keep-tag nightly", tags, of_two_years(), now),
        ("only-verified", "--keep-last 2 --min-count 1 --only-verified", verified, of_two_years(), now),
        (
            "clocks-go-back",
            "--keep-hourly 6 --keep-daily 2, in the night when clocks go back",
            with(&[all(Period::Hour, 6), all(Period::Day, 2)]),
            night,
            local("2026-10-25 04:30"),
        ),
        (
            "damaged",
            "--keep-daily 3 --min-count 2 --only-verified, where some are damaged",
            Policy { only_verified: true, min_count: 2, ..with(&[all(Period::Day, 3)]) },
            history(&[
                "2026-11-17 12:00 full verified",
                "2026-11-18 12:00 full",
                "2026-11-19 12:00 full verified",
                "2026-11-20 12:00 incremental verified damaged",
                "2026-11-21 12:00 full",
                "2026-11-22 08:00 incremental",
                "2026-11-22 12:00 incremental damaged",
                "2026-11-23 12:00 incremental damaged",
                "2026-11-24 08:00 full damaged",
            ]),
            now,
        ),
        ("nothing-asked-for", "--keep-last 0: the minimum count is kept", with(&[last(0)]), of_two_years(), now),
    ]
}

fn table(title: &str, policy: &Policy, candidates: &[Candidate], now: UnixMicros) -> String {
    let shown = |time: UnixMicros| zoned(time, &zone()).strftime("%a %Y-%m-%d %H:%M %Z").to_string();
    let mut text = format!("{title}\nnow {}\n\n", shown(now));
    let decisions = decide(candidates, policy, now, &zone());
    assert_eq!(decisions.len(), candidates.len());
    for (candidate, decision) in candidates.iter().zip(&decisions) {
        assert_eq!(candidate.sequence, decision.sequence);
        let mut words = candidate.tags.clone();
        words.extend(candidate.is_held.then(|| "held".to_owned()));
        words.extend(candidate.is_verified.then(|| "verified".to_owned()));
        words.extend(candidate.is_damaged.then(|| "damaged".to_owned()));
        let reasons: Vec<String> = decision.reasons.iter().map(ToString::to_string).collect();
        let verdict = if reasons.is_empty() { "drop".to_owned() } else { format!("keep  {}", reasons.join(", ")) };
        let (time, kind) = (shown(candidate.captured), candidate.kind.to_string());
        let line = format!("{:>3}  {time:<25}  {kind:<12}  {:<10}  {verdict}", candidate.sequence, words.join(" "));
        text += &format!("{}\n", line.trim_end());
    }
    let kept = decisions.iter().filter(|decision| decision.is_kept()).count();
    text + &format!("\n{kept} kept, {} dropped\n", decisions.len() - kept)
}

fn path(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("tests/retention/tables/{name}.txt"))
}

#[test]
fn policies_keep_what_their_tables_say() {
    for (name, title, policy, candidates, now) in cases() {
        let expected = std::fs::read_to_string(path(name)).unwrap_or_else(|error| panic!("{name}: {error}"));
        let found = table(title, &policy, &candidates, now);
        let differing = found.lines().zip(expected.lines()).find(|(found, expected)| found != expected);
        assert!(found == expected, "{name}: {differing:?}");
    }
}

#[test]
#[ignore = "writes the tables"]
fn write_tables() {
    for (name, title, policy, candidates, now) in cases() {
        let path = path(name);
        std::fs::create_dir_all(path.parent().expect("a folder")).expect("the folder of the tables");
        std::fs::write(path, table(title, &policy, &candidates, now)).expect("the table can be written");
    }
}
