//! When a condition became true or false.
//!
//! [`bisect`] takes it that the condition changed once between two restore points where its answers differ, and finds a change in a logarithmic number of looks: there may be others. [`flips`]
//! finds every change; it looks wherever the answer can have changed ([`super::ask`]).

use std::collections::BTreeMap;

use rusqlite::Connection;

use super::ask::Asker;
use super::query::QueryError;

/// What a condition is at a restore point.
#[derive(Clone, Debug)]
pub enum Answer {
    /// True.
    True,
    /// False, or NULL.
    False,
    /// SQLite cannot tell, as when there is no such table.
    Unanswerable(String),
}

impl Answer {
    fn of(answer: &Result<bool, String>) -> Self {
        match answer {
            Ok(true) => Self::True,
            Ok(false) => Self::False,
            Err(text) => Self::Unanswerable(text.clone()),
        }
    }

    /// Whether it is the same answer; the reason why there is none does not matter.
    pub fn is(&self, other: &Self) -> bool {
        std::mem::discriminant(self) == std::mem::discriminant(other)
    }
}

/// A change: the restore points on both sides of it, and the answers there.
#[derive(Clone, Debug)]
pub struct Flip {
    /// The last restore point with the one answer.
    pub before: (usize, Answer),
    /// The next one.
    pub after: (usize, Answer),
}

/// What was found.
#[derive(Clone, Debug)]
pub struct Found {
    /// The changes, in order.
    pub flips: Vec<Flip>,
    /// The answer at the oldest restore point.
    pub oldest: Answer,
    /// The answer at the newest.
    pub newest: Answer,
    /// At how many restore points it was looked.
    pub looks: usize,
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum WhenError {
    /// There is no restore point.
    #[error("no restore point")]
    NoPoints,
    /// It is no condition.
    #[error("{0:?} is no condition: {1}")]
    Condition(String, String),
    /// The query.
    #[error(transparent)]
    Query(#[from] QueryError),
}

fn ask(connection: &Connection, condition: &str) -> rusqlite::Result<bool> {
    // Lines of their own, should it end with a comment.
    let mut statement = connection.prepare(&format!("SELECT (\n{condition}\n) IS TRUE"))?;
    statement.query_row([], |row| row.get(0))
}

fn checked(answer: Answer, condition: &str) -> Result<Answer, WhenError> {
    const SYNTAX: [&str; 4] = ["syntax error", "incomplete input", "unrecognized token", "Multiple statements"];
    match answer {
        Answer::Unanswerable(text) if SYNTAX.iter().any(|words| text.contains(words)) => {
            Err(WhenError::Condition(condition.to_owned(), text))
        }
        answer => Ok(answer),
    }
}

/// Finds one change by bisection.
pub fn bisect(asker: &Asker<'_>, condition: &str) -> Result<Found, WhenError> {
    let mut known: BTreeMap<usize, Answer> = BTreeMap::new();
    let mut look = |at: usize| -> Result<Answer, WhenError> {
        if let Some(answer) = known.get(&at) {
            return Ok(answer.clone());
        }
        asker.monitor.check_cancelled().map_err(QueryError::from)?;
        let asked = asker.ask(at, |connection| ask(connection, condition))?;
        let answer = checked(Answer::of(&asked.answer), condition)?;
        known.insert(at, answer.clone());
        Ok(answer)
    };
    let (mut low, mut high) = (0, asker.walk.moments().len().checked_sub(1).ok_or(WhenError::NoPoints)?);
    let (oldest, newest) = (look(low)?, look(high)?);
    let mut flips = Vec::new();
    if !oldest.is(&newest) {
        while high - low > 1 {
            let middle = low + (high - low) / 2;
            if look(middle)?.is(&oldest) {
                low = middle;
            } else {
                high = middle;
            }
        }
        flips.push(Flip { before: (low, look(low)?), after: (high, look(high)?) });
    }
    Ok(Found { flips, oldest, newest, looks: known.len() })
}

/// Finds every change.
pub fn flips(asker: &Asker<'_>, condition: &str) -> Result<Found, WhenError> {
    let mut flips = Vec::new();
    let (mut oldest, mut last): (Option<Answer>, Option<Answer>) = (None, None);
    let question = |connection: &Connection| ask(connection, condition);
    let looks = asker.ask_all(is_steady(condition), &question, &mut |at, answer| {
        let answer = Answer::of(answer);
        match &last {
            Some(before) if !before.is(&answer) => {
                flips.push(Flip { before: (at - 1, before.clone()), after: (at, answer.clone()) });
            }
            _ => {}
        }
        oldest.get_or_insert_with(|| answer.clone());
        last = Some(answer);
        Ok(())
    })?;
    let (oldest, newest) = oldest.zip(last).ok_or(WhenError::NoPoints)?;
    let oldest = checked(oldest, condition)?;
    Ok(Found { flips, oldest, newest, looks })
}

/// Whether the answer depends on pages alone: not on the time, on chance, or on what the header counts.
fn is_steady(condition: &str) -> bool {
    const OTHERS: [&str; 7] = ["pragma", "random", "now", "current_", "dbstat", "date", "time"];
    let condition = condition.to_ascii_lowercase();
    !OTHERS.iter().any(|word| condition.contains(word))
}
