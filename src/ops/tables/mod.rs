//! Restores chosen tables of a state: to a new database, or into one that exists.
//!
//! # Guarantees
//! * Nothing happens before a [`plan`]: what is chosen, what belongs to it, what it depends on and does not get. What cannot be restored right is refused, by name.
//! * A table comes with all of its rows, or those for which the condition is true, as they are in the state: values, rowids (a database's own `rowid`, `_rowid_` or `oid`, unless
//!   columns have taken all three names), generated columns by their declaration, the number that AUTOINCREMENT has reached; and with its indexes and triggers.
//! * [`restore_to`]: the new database is made beside the target and gets its name when it is complete and synced. What stands there is refused or set aside.
//! * [`merge_into`]: one transaction. Rows are matched by primary key. A row that is there with other values stops it, is kept or is replaced, as is wanted; no row is ever
//!   deleted, and none that had what it refers to loses it. Until the commit the database is as it was, whatever happens.
//! * The state is only read, and not trusted: of its SQL only what [`sql`] lets through is executed, on [`connection`]s that can do no harm.
//!
//! | file | what |
//! |---|---|
//! | [`sql`] | stored statements and conditions, token by token |
//! | [`connection`] | SQLite, the past attached to it, and what its errors mean |
//! | [`schema`] | what the past says about itself |
//! | [`plan`] | what will be done |
//! | [`carry`] | tables made and rows carried over |
//! | [`create`] | to a new database |
//! | [`merge`] | into an existing one |
//! | [`rows`] | matched by primary key, one by one |
//! | [`orphans`] | rows that refer to nothing |

mod carry;
mod connection;
mod create;
mod error;
mod merge;
mod orphans;
mod plan;
mod rows;
mod schema;
mod sql;

pub use connection::Past;
pub use create::{CreateOptions, Created, CreatedTable, restore_to};
pub use error::{Orphans, TablesError};
pub use merge::{MergeOptions, Merged, MergedTable, merge_into};
pub use plan::{Choice, Missing};
pub use rows::{OnConflict, Tally};
