//! `continuum when`

use clap::Args;
use serde_json::{Value as Json, json};

use crate::ops::when::{Answer, Flip, Found, WhenError, bisect, flips};

use super::error::{CliError, DONE};
use super::history::{Asking, Span};
use super::output;
use super::rows::shown;
use super::session::Session;

/// Options of `when`.
#[derive(Debug, Args)]
#[command(after_help = "\
The condition is an expression of SQL; NULL counts as false. Bisection finds one change between the oldest and the newest restore point and takes it that there is one; --all \
finds every change.

Examples:
  continuum -r /backup/repo when orders \"EXISTS (SELECT 1 FROM customers WHERE id = 42)\"    # when did this row vanish?
  continuum -r /backup/repo when orders \"(SELECT count(*) FROM stock) > 1000\" --since yesterday
  continuum -r /backup/repo when orders \"(SELECT price FROM stock WHERE id = 7) < 10\" --all")]
pub struct WhenArguments {
    /// The database's name in the repository
    #[arg(value_name = "DATABASE")]
    database: String,
    /// What became true or false
    #[arg(value_name = "SQL CONDITION")]
    condition: String,
    /// Look wherever the answer can have changed, and list each change
    #[arg(long)]
    all: bool,
    #[command(flatten)]
    span: Span,
}

/// Finds out when a condition changed.
pub fn run(session: &Session, arguments: &WhenArguments) -> Result<u8, CliError> {
    if arguments.condition.trim().is_empty() {
        return Err(CliError::usage("the condition is empty".to_owned()));
    }
    let repository = session.open()?;
    let asking = arguments.span.open(&arguments.database, &repository, session)?;
    let asker = asking.asker(session);
    let found = if arguments.all { flips(&asker, &arguments.condition) } else { bisect(&asker, &arguments.condition) };
    let found = found.map_err(CliError::from)?;
    if let ([], Answer::Unanswerable(text)) = (&found.flips[..], &found.newest) {
        return Err(CliError::failed(format!("no restore point that was looked at can answer: {text}"))
            .with_hint("`continuum query` with \"SELECT (…)\" tries a condition on one state"));
    }
    if session.json() {
        session.print_json("continuum.when/1", document(arguments, &asking, &found));
    } else {
        output::print(&describe(arguments, &asking, &found, session.quiet()));
    }
    Ok(DONE)
}

fn word(answer: &Answer) -> &'static str {
    match answer {
        Answer::True => "true",
        Answer::False => "false",
        Answer::Unanswerable(_) => "unanswerable",
    }
}

fn document(arguments: &WhenArguments, asking: &Asking, found: &Found) -> Json {
    let side = |(at, answer): &(usize, Answer)| {
        let mut members = asking.document(*at);
        members.insert("answer".to_owned(), word(answer).into());
        if let Answer::Unanswerable(text) = answer {
            members.insert("error".to_owned(), text.clone().into());
        }
        Json::Object(members)
    };
    let changes = found.flips.iter().map(|flip| json!({ "before": side(&flip.before), "after": side(&flip.after) }));
    json!({
        "database": arguments.database,
        "condition": arguments.condition,
        "method": if arguments.all { "all" } else { "bisection" },
        "oldest": word(&found.oldest),
        "newest": word(&found.newest),
        "changes": changes.collect::<Vec<Json>>(),
        "points": asking.walk.moments().len(),
        "looks": found.looks,
    })
}

fn describe(arguments: &WhenArguments, asking: &Asking, found: &Found, quiet: bool) -> String {
    let mut text = String::new();
    for Flip { before, after } in &found.flips {
        for (which, (at, answer)) in [("last", before), ("first", after)] {
            let reason =
                if let Answer::Unanswerable(text) = answer { format!(": {}", shown(text)) } else { String::new() };
            text += &format!("{which:<5} {:<12}  {}{reason}\n", word(answer), asking.name(*at));
        }
    }
    let points = asking.walk.moments().len();
    if found.flips.is_empty() && arguments.all {
        text += &format!("{} at every restore point\n", word(&found.newest));
    } else if found.flips.is_empty() {
        text += &format!("{} at the oldest and at the newest restore point\n", word(&found.newest));
    }
    if quiet {
        return text;
    }
    text += &format!(
        "looked at {} of {}",
        output::count(found.looks as u64),
        output::plural(points as u64, "restore point")
    );
    text += match (arguments.all, found.flips.is_empty()) {
        (true, _) => "\n",
        (false, true) => "; --all finds changes in between\n",
        (false, false) => "; bisection finds one change, --all finds every one\n",
    };
    text
}

impl From<WhenError> for CliError {
    fn from(error: WhenError) -> Self {
        match error {
            WhenError::Query(error) => error.into(),
            WhenError::Condition(..) => Self::usage(error.to_string())
                .with_hint("one expression of SQL is expected, such as \"EXISTS (SELECT 1 FROM t WHERE id = 42)\""),
            WhenError::NoPoints => Self::failed(error.to_string()),
        }
    }
}
