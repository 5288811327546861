//! SQLite's own checks.

use crate::format::verification::{Check, CheckKind};
use crate::sqlite::identifier::quoted;

use super::super::query::{Database, QueryError};
use super::data::tables;
use super::{Judged, VerifyError, check as checked, checked_but, is_of_application, judged, named};

/// What is wrong is listed up to so many times.
const MOST: usize = 20;
/// Rows without the row that they refer to are counted up to so many.
const MOST_ORPHANS: usize = 1000;

pub fn check(database: &Database) -> Result<Check, VerifyError> {
    let (problems, foreign) = match judged(texts(database, &format!("PRAGMA integrity_check({MOST})")))? {
        Ok(problems) => (problems, Vec::new()),
        Err(fault) if is_of_application(&fault) => match one_by_one(database)? {
            Ok(found) => found,
            Err(fault) => return Ok(checked(CheckKind::Integrity, Err(fault))),
        },
        Err(fault) => return Ok(checked(CheckKind::Integrity, Err(fault))),
    };
    if problems.iter().any(|problem| problem != "ok") {
        return Ok(checked(CheckKind::Integrity, Err(format!("integrity_check: {}", named(&problems)))));
    }
    let sql = format!("SELECT \"table\" FROM pragma_foreign_key_check LIMIT {MOST_ORPHANS}");
    let text = match judged(texts(database, &sql))? {
        Ok(orphans) if orphans.is_empty() => "integrity_check and foreign_key_check: ok".to_owned(),
        // The application's own doing: SQLite enforces foreign keys only where it is asked to.
        Ok(mut orphans) => {
            let count = orphans.len();
            orphans.dedup();
            format!(
                "integrity_check: ok; {count} rows without the row that a foreign key names, in {}",
                named(&orphans)
            )
        }
        Err(fault) => format!("integrity_check: ok; foreign_key_check: {fault}"),
    };
    Ok(checked_but(CheckKind::Integrity, text, &foreign))
}

/// Checks each table with its indexes by itself: what is wrong, and what needs the application.
fn one_by_one(database: &Database) -> Judged<(Vec<String>, Vec<String>)> {
    let tables = judged(tables(database.connection()).map_err(|error| database.explain(&error)))?;
    let Ok(tables) = tables else { return Ok(Err(tables.err().unwrap_or_default())) };
    let (mut problems, mut foreign) = (Vec::new(), Vec::new());
    for table in tables {
        match judged(texts(database, &format!("PRAGMA integrity_check({})", quoted(&table.name))))? {
            Ok(found) => problems.extend(found),
            Err(fault) if is_of_application(&fault) => foreign.push(format!("{}: {fault}", table.name)),
            Err(fault) => problems.push(format!("{}: {fault}", table.name)),
        }
    }
    problems.retain(|problem| problem != "ok");
    Ok(Ok((problems, foreign)))
}

/// The first column of the rows that a statement gives.
fn texts(database: &Database, sql: &str) -> Result<Vec<String>, QueryError> {
    let explain = |error: rusqlite::Error| database.explain(&error);
    let mut statement = database.connection().prepare(sql).map_err(explain)?;
    let rows = statement.query_map([], |row| row.get::<_, Option<String>>(0)).map_err(explain)?;
    rows.map(|row| Ok(row.map_err(explain)?.unwrap_or_default())).collect()
}
