//! What was measured, as tables, and the bars we set ourselves, each reached or missed.
//!
//! *ours/it* is the median over the rounds of our figure divided by the tool's figure of the same
//! round.

use std::fmt::Write;

use super::rounds::{Series, Step, Work};
use super::statistics::{largest, median, paired_ratio, smallest};
use super::table::{self, Bar, number};
use super::tool::Tool;

const MEBIBYTE: f64 = 1_048_576.0;

/// A larger database may need this much more memory before we say that memory grows with it.
const MEMORY_TOLERANCE: f64 = 1.10;

const WORKS: &[(Work, &str)] = &[
    (Work::Full, "Full backup into an empty repository"),
    (Work::Restore, "Restore"),
    (Work::Unchanged, "Full backup again, database unchanged (peers told to read it again: --force)"),
    (Work::Changed, "Full backup again, after 500 small transactions"),
];

/// One table for each kind of work.
pub fn tables(series: &[Series]) -> String {
    let mut text = String::new();
    for (work, title) in WORKS {
        text.push_str(&work_table(series, *work, title));
    }
    text
}

/// What each tool needed for `work`.
pub fn work_table(series: &[Series], work: Work, title: &str) -> String {
    let [bytes, bytes_ratio] = bytes_heads(work);
    let heads = ["tool", "wall s", "min–max", "ours/it", "CPU s", "peak MiB", bytes, bytes_ratio];
    let ours = find(series, Tool::Ours).map(|ours| ours.steps(work));
    let measured = series.iter().filter(|tool| !tool.steps(work).is_empty());
    let rows = measured.map(|tool| cells(tool, work, (tool.tool != Tool::Ours).then_some(ours).flatten()));
    table::render(title, &heads, &rows.collect::<Vec<_>>())
}

fn bytes_heads(work: Work) -> [&'static str; 2] {
    match work {
        Work::Full => ["stored bytes", "ours/it"],
        Work::Restore => ["", ""],
        Work::Unchanged | Work::Changed | Work::Next | Work::FullAfter | Work::WalTail => ["added bytes", "ours/it"],
    }
}

fn cells(series: &Series, work: Work, ours: Option<&[Step]>) -> [String; 8] {
    let steps = series.steps(work);
    let ratio = |of: fn(&Step) -> f64| ours.and_then(|ours| paired_ratio(&values(ours, of), &values(steps, of)));
    let walls = values(steps, wall);
    let (fastest, slowest) = (smallest(&walls), largest(&walls));
    let peak_bytes = largest(&values(steps, peak));
    let mut bytes = [number(median(&values(steps, added)), 0), number(ratio(added), 3)];
    if work == Work::Restore {
        bytes = [String::new(), String::new()];
    }
    let [bytes, bytes_ratio] = bytes;
    [
        series.tool.name().to_owned(),
        number(median(&walls), 2),
        format!("{}–{}", number(fastest, 2), number(slowest, 2)),
        number(ratio(wall), 2),
        number(median(&values(steps, cpu)), 2),
        number(peak_bytes.map(|bytes| bytes / MEBIBYTE), 0),
        bytes,
        bytes_ratio,
    ]
}

/// Each bar with what was measured.
pub fn bars(series: &[Series]) -> String {
    table::bars(&[
        Bar {
            text: "full snapshot ≤ 0.6 × rustic, wall",
            limit: 0.6,
            measured: ratio_to(series, Tool::Rustic, Work::Full, wall),
            unit: " ×",
        },
        Bar {
            text: "full snapshot ≤ 1.15 × `zstd -3 -T2`, wall",
            limit: 1.15,
            measured: ratio_to(series, Tool::Zstd, Work::Full, wall),
            unit: " ×",
        },
        Bar {
            text: "restore ≤ 0.7 × the faster of restic and rustic, wall",
            limit: 0.7,
            measured: restore_ratio(series),
            unit: " ×",
        },
        Bar {
            text: "stored ≤ 1.06 × restic, bytes",
            limit: 1.06,
            measured: ratio_to(series, Tool::Restic, Work::Full, added),
            unit: " ×",
        },
        Bar {
            text: "peak memory of any snapshot < 200 MiB",
            limit: 200.0,
            measured: find(series, Tool::Ours).and_then(snapshot_peak_mebibytes),
            unit: " MiB",
        },
        Bar {
            text: "a second full of the unchanged database adds < 0.2 % of the stored bytes",
            limit: 0.2,
            measured: unchanged_percent(series),
            unit: " %",
        },
    ])
}

/// Whether our memory grows from the `first` database to a larger one.
pub fn memory_bars(first: &Series, larger: &Series, mebibytes: u64) -> String {
    let mut text = format!("\nPeak memory with a database of {mebibytes} MiB\n");
    for (work, name) in [(Work::Full, "snapshot"), (Work::Restore, "restore")] {
        let peak_of = |series: &Series| largest(&values(series.steps(work), peak)).unwrap_or(f64::NAN);
        let (before, after) = (peak_of(first), peak_of(larger));
        let verdict = if after <= before * MEMORY_TOLERANCE { "reached" } else { "missed" };
        let (before, after) = (before / MEBIBYTE, after / MEBIBYTE);
        let _ = writeln!(
            text,
            "  {verdict:<14}{name} ≤ 1.1 × that of the first database: {after:.0} MiB, {before:.0} before",
        );
    }
    text
}

/// What was measured of `tool`.
pub fn find(series: &[Series], tool: Tool) -> Option<&Series> {
    series.iter().find(|one| one.tool == tool)
}

/// The median of our figure divided by the figure of `tool` in the same round.
pub fn ratio_to(series: &[Series], tool: Tool, work: Work, of: fn(&Step) -> f64) -> Option<f64> {
    let ours = values(find(series, Tool::Ours)?.steps(work), of);
    paired_ratio(&ours, &values(find(series, tool)?.steps(work), of))
}

/// Round by round against whichever of the two was faster in it.
fn restore_ratio(series: &[Series]) -> Option<f64> {
    let walls = |tool| Some(values(find(series, tool)?.steps(Work::Restore), wall));
    let (restic, rustic) = (walls(Tool::Restic)?, walls(Tool::Rustic)?);
    let faster: Vec<f64> = restic.iter().zip(&rustic).map(|(restic, rustic)| restic.min(*rustic)).collect();
    paired_ratio(&walls(Tool::Ours)?, &faster)
}

fn snapshot_peak_mebibytes(ours: &Series) -> Option<f64> {
    let snapshots = [Work::Full, Work::Unchanged, Work::Changed];
    let peaks: Vec<f64> = snapshots.iter().flat_map(|work| values(ours.steps(*work), peak)).collect();
    largest(&peaks).map(|bytes| bytes / MEBIBYTE)
}

/// The worst round counts.
fn unchanged_percent(series: &[Series]) -> Option<f64> {
    let ours = find(series, Tool::Ours)?;
    let rounds = ours.steps(Work::Unchanged).iter().zip(ours.steps(Work::Full));
    let percents: Vec<f64> = rounds.map(|(again, full)| 100.0 * added(again) / added(full)).collect();
    largest(&percents)
}

/// One figure of each step.
pub fn values(steps: &[Step], of: fn(&Step) -> f64) -> Vec<f64> {
    steps.iter().map(of).collect()
}

/// In seconds.
pub fn wall(step: &Step) -> f64 {
    step.cost.wall.as_secs_f64()
}

/// In seconds.
pub fn cpu(step: &Step) -> f64 {
    step.cost.cpu.as_secs_f64()
}

#[expect(clippy::cast_precision_loss, reason = "figures for people, far below 2^53")]
pub fn peak(step: &Step) -> f64 {
    step.cost.peak_bytes as f64
}

#[expect(clippy::cast_precision_loss, reason = "figures for people, far below 2^53")]
pub fn added(step: &Step) -> f64 {
    step.added_bytes as f64
}

#[expect(clippy::cast_precision_loss, reason = "figures for people, far below 2^53")]
pub fn number_of_files(count: usize) -> f64 {
    count as f64
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::super::measured::Cost;
    use super::*;

    /// Steps of `wall` milliseconds, 100 MiB of memory and `added` bytes, one a round.
    fn add(series: &mut Series, work: Work, steps: &[(u64, u64)]) {
        for (wall, added_bytes) in steps {
            let wall = Duration::from_millis(*wall);
            let cost = Cost { wall, cpu: wall, peak_bytes: 100 << 20 };
            series.push(work, Step { cost, added_bytes: *added_bytes });
        }
    }

    fn measured() -> Vec<Series> {
        let mut ours = Series::new(Tool::Ours);
        add(&mut ours, Work::Full, &[(2000, 1060), (2200, 1060)]);
        add(&mut ours, Work::Restore, &[(500, 0), (500, 0)]);
        add(&mut ours, Work::Unchanged, &[(2000, 1), (2000, 3)]);
        let mut restic = Series::new(Tool::Restic);
        add(&mut restic, Work::Full, &[(7000, 1000), (7000, 1000)]);
        add(&mut restic, Work::Restore, &[(1000, 0), (2000, 0)]);
        let mut rustic = Series::new(Tool::Rustic);
        add(&mut rustic, Work::Full, &[(4000, 1000), (4000, 1000)]);
        add(&mut rustic, Work::Restore, &[(2000, 0), (500, 0)]);
        vec![ours, restic, rustic]
    }

    fn check_line(text: &str, begin: &str, part: &str) {
        let mut lines = text.lines().map(|line| line.split_whitespace().collect::<Vec<_>>().join(" "));
        assert!(lines.any(|line| line.starts_with(begin) && line.contains(part)), "{begin} {part}:\n{text}");
    }

    #[test]
    fn bars_are_reached_or_missed() {
        let text = bars(&measured());
        check_line(&text, "reached", "0.6 × rustic, wall: 0.525 ×");
        check_line(&text, "reached", "1.06 × restic, bytes: 1.060 ×");
        check_line(&text, "missed", "the faster of restic and rustic, wall: 0.750 ×");
        check_line(&text, "missed", "adds < 0.2 % of the stored bytes: 0.283 %");
        check_line(&text, "reached", "peak memory of any snapshot < 200 MiB: 100.000 MiB");
        check_line(&text, "not measured", "zstd -3 -T2");
    }

    #[test]
    fn without_us_nothing_is_compared() {
        let text = bars(&measured()[1..]);
        assert_eq!(text.matches("not measured").count(), 6);
        check_line(&tables(&measured()[1..]), "restic", "–");
    }

    #[test]
    fn tables_show_paired_ratios() {
        let text = tables(&measured());
        check_line(&text, "rustic", "4.00 4.00–4.00 0.53");
        check_line(&text, "continuum", "2.10 2.00–2.20 –");
    }

    #[test]
    fn memory_may_grow_a_little() {
        let series = measured();
        check_line(&memory_bars(&series[0], &series[0], 4096), "reached", "snapshot");
        let mut larger = Series::new(Tool::Ours);
        let cost = Cost { wall: Duration::ZERO, cpu: Duration::ZERO, peak_bytes: 111 << 20 };
        larger.push(Work::Full, Step { cost, added_bytes: 0 });
        check_line(&memory_bars(&series[0], &larger, 4096), "missed", "111 MiB, 100 before");
    }
}
