//! `continuum forget`

use std::io::{IsTerminal, Write};

use clap::Args;
use jiff::tz::TimeZone;
use serde_json::{Value, json};

use crate::ops::forget::{
    DatabasePlan, ForgetOptions, ForgetPlan, Forgotten, Obstacle, Row, What, forget, plan_forget,
};
use crate::policy::refusal::{Allowed, CLOCK_TOLERANCE, MAX_SHARE, Refusal};
use crate::policy::retention::{MIN_COUNT, Policy, Reason};
use crate::repo::Fault;

use super::error::{CliError, DAMAGE, DONE, FAILED};
use super::keep::KeepArguments;
use super::session::Session;
use super::units::{self, Share, Span};
use super::{output, snapshots, time};

/// Of each database so many rows of the newest that are kept are shown, and so many of those that are dropped.
const MOST_ROWS: (usize, usize) = (10, 20);

/// With more databases than that, each is shown as one line.
const MOST_TABLES: usize = 5;

const SAFETY: &str = "Safety";

/// Options of `forget`.
#[derive(Debug, Args)]
#[command(after_help = "\
Without any --keep option, each strategy has its own rules:
  --keep-continuous 24h,15m:3d,hourly:7d,daily:30d --keep-incremental 7d --keep-differential 30d --keep-full 12
An option of one strategy takes the place of that strategy's rule; any other --keep option takes the place of the rules of all strategies that are not named. \
STEPS are separated by commas: all within a time span (24h), so many of the last (12), or of those the latest of each period (15m:3d, hourly:7d, yearly:5).

Of each hour, day, week (from Monday), month or year of this machine's time zone the latest snapshot is kept. The newest snapshot of a database, those that are \
held, and the --min-count newest are always kept. Every database is looked at by itself.

What is forgotten is no restore point any more. Nothing is deleted: until the time of grace is over, `continuum unforget` brings it back, and `continuum restore` \
takes its full id. Refused where times lie in the future or go back, or where too large a share would be forgotten at once.

Examples:
  continuum -r /backup/repo forget --dry-run
  continuum -r /backup/repo forget --keep-hourly 24 --keep-daily 7 --keep-weekly 4 --keep-monthly 12 --yes
  continuum -r /backup/repo forget -n orders --keep-within 30d --keep-tag release
  continuum -r /backup/repo forget --keep-full 12,yearly:5 --keep-continuous 3d,daily:60d
  continuum -r /backup/repo forget 1a2b3c4d --yes")]
pub struct ForgetArguments {
    /// Ids of snapshots or the beginnings of ids: exactly these are forgotten [default: what the policy does not keep]
    #[arg(value_name = "SNAPSHOT", conflicts_with = "KeepArguments")]
    snapshots: Vec<String>,
    /// Only those of the database of this name
    #[arg(short, long, value_name = "DATABASE")]
    name: Option<String>,
    #[command(flatten)]
    keep: KeepArguments,
    /// So many of the newest snapshots of each database, whatever the policy
    #[arg(long, value_name = "N", default_value_t = MIN_COUNT, help_heading = SAFETY)]
    min_count: usize,
    /// Forget a snapshot only if a newer one is kept that was verified and passed
    #[arg(long, help_heading = SAFETY)]
    only_verified: bool,
    /// So long what is forgotten can be brought back at least
    #[arg(long, value_name = "SPAN", value_parser = units::span, default_value = "7d", help_heading = SAFETY)]
    grace: Span,
    /// The largest share of a database's snapshots that may be forgotten at once, where it has more than ten
    #[arg(long, value_name = "SHARE", value_parser = units::share, default_value_t = Share(MAX_SHARE), help_heading = SAFETY)]
    max_share: Share,
    /// Go by times although some lie in the future or go back
    #[arg(long, help_heading = SAFETY)]
    allow_odd_times: bool,
    /// Show the plan, and forget nothing
    #[arg(long)]
    dry_run: bool,
    /// Do not ask
    #[arg(short, long)]
    yes: bool,
}

impl ForgetArguments {
    fn policy(&self) -> Policy {
        Policy { min_count: self.min_count, only_verified: self.only_verified, ..self.keep.policy() }
    }

    fn options(&self) -> ForgetOptions {
        let what = if self.snapshots.is_empty() {
            let allowed = Allowed { odd_times: self.allow_odd_times, max_share: self.max_share.0 };
            What::ByPolicy { policy: self.policy(), zone: TimeZone::system(), allowed }
        } else {
            What::Named(self.snapshots.iter().map(|prefix| prefix.to_ascii_lowercase()).collect())
        };
        ForgetOptions { what, name: self.name.clone(), grace: self.grace.micros() }
    }
}

/// Shows what is to be forgotten, asks, and forgets it.
pub fn run(session: &Session, arguments: &ForgetArguments) -> Result<u8, CliError> {
    if arguments.snapshots.is_empty() && arguments.policy().keeps_nothing() {
        return Err(CliError::usage("every --keep option is 0: that would keep nothing")
            .with_hint("name what is to be kept; without any --keep option the default policy is taken"));
    }
    let repository = session.open()?;
    let monitor = session.monitor();
    let plan = plan_forget(&repository, &arguments.options(), &monitor)?;
    if !session.json() && !session.quiet() {
        output::print(&describe(&plan, session.verbose()));
    }
    if !session.json() {
        snapshots::report_faults(&plan.faults);
        plan.databases.iter().for_each(report_obstacles);
    }
    let mut forgotten: Vec<Forgotten> = Vec::new();
    if !arguments.dry_run && plan.count() > 0 {
        if !arguments.yes {
            confirm(&plan, !session.json() && std::io::stdin().is_terminal())?;
        }
        forget(&repository, &plan, &monitor, |done| forgotten.push(done))?;
    }
    if session.json() {
        session.print_json("continuum.forget/1", document(&plan, arguments, &forgotten));
    } else if !session.quiet() && !arguments.dry_run {
        let count: usize = forgotten.iter().map(|done| done.snapshots.len()).sum();
        output::line(match count {
            0 => "nothing to forget".to_owned(),
            count => format!(
                "forgot {}; `continuum unforget` brings them back until {} at least",
                output::plural(count as u64, "snapshot"),
                time::local(plan.until),
            ),
        });
    }
    Ok(code(&plan))
}

fn code(plan: &ForgetPlan) -> u8 {
    let is_refused = |database: &DatabasePlan| !database.obstacles.is_empty();
    match (plan.faults.is_empty(), plan.databases.iter().any(is_refused)) {
        (false, _) => DAMAGE,
        (true, true) => FAILED,
        (true, false) => DONE,
    }
}

/// Asks on the terminal, if there is one. Everything but a yes is a no.
fn confirm(plan: &ForgetPlan, may_ask: bool) -> Result<(), CliError> {
    if !may_ask {
        return Err(CliError::usage("nothing was forgotten: there is nobody to ask")
            .with_hint("--yes forgets without asking, --dry-run only shows the plan"));
    }
    eprint!("Forget {}? [y/N] ", output::plural(plan.count() as u64, "snapshot"));
    let mut answer = String::new();
    let asked = std::io::stderr().flush().and_then(|()| std::io::stdin().read_line(&mut answer));
    asked.map_err(|error| CliError::failed(format!("cannot ask: {error}")))?;
    match answer.trim().to_ascii_lowercase().as_str() {
        "y" | "yes" => Ok(()),
        _ => Err(CliError::failed("nothing was forgotten")),
    }
}

fn describe(plan: &ForgetPlan, is_verbose: bool) -> String {
    let as_tables = is_verbose || plan.databases.len() <= MOST_TABLES;
    let mut text = String::new();
    for database in &plan.databases {
        text += &format!("{}\n", summary(database));
        if as_tables {
            text += &format!("{}\n", table(database, is_verbose));
        }
    }
    let (count, databases) = (plan.count(), plan.databases.iter().filter(|plan| !plan.to_forget().is_empty()).count());
    if count > 0 {
        let (snapshots, databases) =
            (output::plural(count as u64, "snapshot"), output::plural(databases as u64, "database"));
        let bytes = plan.freed_bytes.map_or("an unknown number of bytes".to_owned(), output::bytes);
        let until = time::local(plan.until);
        text += &format!("{snapshots} of {databases} to forget; {bytes} come back with a prune after {until}\n");
    }
    text
}

fn summary(database: &DatabasePlan) -> String {
    let dropped = database.dropped().count();
    let kept = database.rows.len() - dropped;
    let stops = if database.obstacles.is_empty() { "" } else { "  REFUSED, see below" };
    let (kept, dropped) = (output::count(kept as u64), output::count(dropped as u64));
    format!("{}: keep {kept}, forget {dropped}{stops}", database.name)
}

/// The rows, with those that are many hidden.
fn table(database: &DatabasePlan, is_verbose: bool) -> String {
    let (mut kept, mut dropped) = if is_verbose { (usize::MAX, usize::MAX) } else { MOST_ROWS };
    let mut cells: Vec<Vec<String>> = Vec::new();
    let mut hidden = (0, 0);
    // The newest are shown rather than others; the order is that of the timeline.
    for row in database.rows.iter().rev() {
        let (left, counted) = if row.is_dropped() { (&mut dropped, &mut hidden.1) } else { (&mut kept, &mut hidden.0) };
        if *left == 0 {
            *counted += 1;
            continue;
        }
        *left -= 1;
        cells.push(row_cells(row));
    }
    cells.reverse();
    let mut text = output::table(&["  id", "captured", "strategy", "tags", "", "why"], &cells, &[]);
    if hidden != (0, 0) {
        text += &format!("  older ones: {} kept, {} forgotten; -v shows them\n", hidden.0, hidden.1);
    }
    text
}

fn row_cells(row: &Row) -> Vec<String> {
    let reasons: Vec<String> = row.reasons.iter().map(Reason::to_string).collect();
    vec![
        format!("  {:.8}", row.snapshot.id.to_string()),
        time::local(row.captured),
        row.strategy.to_string(),
        row.tags.join(", "),
        if row.is_dropped() { "FORGET" } else { "keep" }.to_owned(),
        reasons.join(", "),
    ]
}

/// Says on standard error why nothing of a database is forgotten.
fn report_obstacles(database: &DatabasePlan) {
    for obstacle in &database.obstacles {
        eprintln!("refused: {}: {}", database.name, describe_obstacle(obstacle, database));
        eprintln!("hint: {}", obstacle_hint(obstacle));
    }
}

fn describe_obstacle(obstacle: &Obstacle, database: &DatabasePlan) -> String {
    let minutes = CLOCK_TOLERANCE / 60_000_000;
    match obstacle {
        Obstacle::Damaged => "its timeline is damaged, so what should be kept may not be known".to_owned(),
        Obstacle::Refused(Refusal::Future { sequences }) => {
            let named = named(sequences, database);
            format!("captured or recorded more than {minutes} minutes later than now: {named}")
        }
        Obstacle::Refused(Refusal::BackDated { sequences }) => {
            let named = named(sequences, database);
            format!("captured more than {minutes} minutes before an earlier snapshot: {named}")
        }
        Obstacle::Refused(Refusal::Share { dropped, count, max_share }) => {
            format!("{dropped} of {count} snapshots would be forgotten, more than {}", Share(*max_share))
        }
    }
}

fn obstacle_hint(obstacle: &Obstacle) -> &'static str {
    match obstacle {
        Obstacle::Damaged => {
            "`continuum check` says what is wrong; snapshots that are named by their ids are forgotten nevertheless"
        }
        Obstacle::Refused(Refusal::Future { .. } | Refusal::BackDated { .. }) => {
            "look at this machine's clock; forget those snapshots by their ids, or go by their times with --allow-odd-times"
        }
        Obstacle::Refused(Refusal::Share { .. }) => "if the policy is meant so: --max-share 100%",
    }
}

/// The first few ids of snapshots.
fn named(sequences: &[u64], database: &DatabasePlan) -> String {
    const MOST: usize = 5;
    let of = |sequence: &u64| database.rows.iter().find(|row| row.snapshot.sequence == *sequence);
    let rows = sequences.iter().filter_map(of).take(MOST);
    let ids: Vec<String> =
        rows.map(|row| format!("{:.8} ({})", row.snapshot.id.to_string(), time::local(row.captured))).collect();
    match sequences.len().checked_sub(MOST) {
        None | Some(0) => ids.join(", "),
        Some(more) => format!("{} and {more} more", ids.join(", ")),
    }
}

fn document(plan: &ForgetPlan, arguments: &ForgetArguments, forgotten: &[Forgotten]) -> Value {
    let databases = plan.databases.iter().map(|database| {
        let obstacles = database.obstacles.iter().map(|obstacle| describe_obstacle(obstacle, database));
        let is_forgotten = forgotten.iter().any(|done| done.database == database.name);
        let dropped = database.dropped().count();
        json!({
            "database": database.name,
            "keep": database.rows.len() - dropped,
            "forget": dropped,
            "forgotten": if is_forgotten { dropped } else { 0 },
            "refusals": obstacles.collect::<Vec<_>>(),
            "snapshots": database.rows.iter().map(row_document).collect::<Vec<_>>(),
        })
    });
    json!({
        "dry_run": arguments.dry_run,
        "until": time::utc(plan.until),
        "freed_bytes": plan.freed_bytes,
        "databases": databases.collect::<Vec<_>>(),
        "faults": plan.faults.iter().map(Fault::describe).collect::<Vec<_>>(),
    })
}

fn row_document(row: &Row) -> Value {
    json!({
        "id": row.snapshot.id.to_string(),
        "sequence": row.snapshot.sequence,
        "captured": time::utc(row.captured),
        "strategy": row.strategy.to_string(),
        "tags": row.tags,
        "keep": !row.is_dropped(),
        "reasons": row.reasons.iter().map(Reason::to_string).collect::<Vec<_>>(),
    })
}
