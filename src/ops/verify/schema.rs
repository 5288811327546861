//! Whether every object of the schema parses, and what changed in it since the snapshot verified before.

use std::collections::BTreeSet;

use crate::format::verification::{Check, CheckKind};
use crate::sqlite::identifier::quoted;

use super::super::query::{Database, QueryError};
use super::super::snapshots::Snapshot;
use super::{Subject, VerifyError, check as checked, checked_but, is_of_application, judged, named};

/// The most objects of a schema that are looked at.
const MAX_OBJECTS: usize = 100_000;

/// Kind and name.
type Object = (String, String);

pub fn check(subject: &Subject<'_>, database: &Database, previous: Option<&Snapshot>) -> Result<Check, VerifyError> {
    let objects = match judged(objects(database))? {
        Ok(objects) => objects,
        Err(fault) => return Ok(checked(CheckKind::Schema, Err(fault))),
    };
    let (mut wrong, mut foreign) = (Vec::new(), Vec::new());
    for (kind, name) in &objects {
        if !matches!(kind.as_str(), "table" | "view") {
            // SQLite parses indexes and triggers together with their table.
            continue;
        }
        let prepared = database.connection().prepare(&format!("SELECT * FROM {}", quoted(name))).map(|_| ());
        if let Err(fault) = judged(prepared.map_err(|error| database.explain(&error)))? {
            let list = if is_of_application(&fault) { &mut foreign } else { &mut wrong };
            list.push(format!("{kind} {name}: {fault}"));
        }
    }
    if !wrong.is_empty() {
        return Ok(checked(CheckKind::Schema, Err(named(&wrong))));
    }
    let count = |kind: &str| objects.iter().filter(|(found, _)| found == kind).count();
    let mut text = format!(
        "{} tables, {} indexes, {} triggers, {} views",
        count("table"),
        count("index"),
        count("trigger"),
        count("view")
    );
    if let Some(previous) = previous {
        text += &changes(subject, &objects, previous)?;
    }
    Ok(checked_but(CheckKind::Schema, text, &foreign))
}

fn objects(database: &Database) -> Result<BTreeSet<Object>, QueryError> {
    let explain = |error: rusqlite::Error| database.explain(&error);
    let sql = format!("SELECT type, name FROM sqlite_schema LIMIT {MAX_OBJECTS}");
    let mut statement = database.connection().prepare(&sql).map_err(explain)?;
    let rows = statement.query_map([], |row| Ok((row.get(0)?, row.get(1)?))).map_err(explain)?;
    rows.map(|row| row.map_err(explain)).collect()
}

/// What came and went since the other snapshot.
fn changes(subject: &Subject<'_>, objects: &BTreeSet<Object>, previous: &Snapshot) -> Result<String, VerifyError> {
    let state = previous.state_without_journal();
    let before = judged(subject.open_state(&state).and_then(|database| self::objects(&database)))?;
    let id = format!("{:.8}", previous.id.to_string());
    let Ok(before) = before else { return Ok(format!("; those of {id} could not be read for comparison")) };
    let describe = |sign: &str, (kind, name): &Object| format!("{sign}{kind} {name}");
    let gone = before.difference(objects).map(|object| describe("-", object));
    let new = objects.difference(&before).map(|object| describe("+", object));
    let changes: Vec<String> = gone.chain(new).collect();
    Ok(if changes.is_empty() { format!(", as in {id}") } else { format!("; since {id}: {}", named(&changes)) })
}
