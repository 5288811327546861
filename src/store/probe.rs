//! Finds out what a store really does, by doing it: the conformance suite that every destination passes, and what `init` asks.
//!
//! What services and their imitations claim is not enough: several ignore the condition of a conditional request and overwrite.

use std::thread;

use crate::base::clock::UnixMicros;
use crate::base::entropy::Entropy;
use crate::base::error_text::with_causes;
use crate::base::id::WriterId;
use crate::format::name::{Folder, ObjectName};

use super::{Creation, Store, StoreError};

/// Creators of one object at a time.
const RACERS: u8 = 8;

/// Larger than any part in which services take objects at once, and than a full pack.
const LARGE_BYTES: usize = (16 << 20) + 4097;

/// What was found out about one ability.
#[derive(Clone, Debug)]
pub struct Finding {
    /// Which ability.
    pub ability: &'static str,
    /// Whether the store has it.
    pub good: bool,
    /// Whether a repository can be kept without it.
    pub dispensable: bool,
    /// Whether several writers need it to keep out of each other's way.
    pub coordinates: bool,
    /// What was seen.
    pub seen: String,
}

/// Whether the store refuses to overwrite. Leaves nothing behind.
pub fn creates_exclusively(store: &dyn Store, entropy: &dyn Entropy) -> Result<bool, StoreError> {
    let name = ObjectName::probe(WriterId(entropy.bytes()));
    store.create(&name, b"first")?;
    let second = store.create(&name, b"second");
    let kept = store.read(&name, 64);
    store.delete(&name)?;
    Ok(second? == Creation::Exists && kept? == b"first")
}

/// Tries every ability. Leaves nothing behind, unless the store cannot delete.
pub fn probe(store: &dyn Store, entropy: &dyn Entropy, now: UnixMicros) -> Result<Vec<Finding>, StoreError> {
    let fresh = || ObjectName::probe(WriterId(entropy.bytes()));
    let (name, large, missing, raced) = (fresh(), fresh(), fresh(), fresh());
    store.create(&name, b"0123456789")?;
    let mut findings = vec![
        finding("reads back what was created", check_read(store, &name)),
        finding("reads ranges, and says so where they end", check_ranges(store, &name)),
        finding("tells a missing object from a failure", check_missing(store, &missing)),
        finding("lists an object at once, with its length", check_listed(store, &name)),
        coordinating("refuses to overwrite (conditional create)", check_exclusive(store, &name)),
        coordinating("lets one of several creators win", check_race(store, &raced)),
        finding("takes objects of 16 MiB", check_large(store, &large)),
        dispensable("tells when an object was created (server time)", check_time(store, &name, now)),
    ];
    let deleted = [&name, &large, &raced].iter().try_for_each(|name| store.delete(name));
    findings.push(finding("deletes, and no longer lists", check_deleted(store, &name, deleted)));
    Ok(findings)
}

fn finding(ability: &'static str, outcome: Result<String, String>) -> Finding {
    let good = outcome.is_ok();
    Finding { ability, good, dispensable: false, coordinates: false, seen: outcome.unwrap_or_else(|problem| problem) }
}

fn dispensable(ability: &'static str, outcome: Result<String, String>) -> Finding {
    Finding { dispensable: true, ..finding(ability, outcome) }
}

fn coordinating(ability: &'static str, outcome: Result<String, String>) -> Finding {
    Finding { coordinates: true, ..dispensable(ability, outcome) }
}

fn text(error: StoreError) -> String {
    with_causes(&error)
}

fn check_read(store: &dyn Store, name: &ObjectName) -> Result<String, String> {
    match store.read(name, 10).map_err(text)? {
        bytes if bytes == b"0123456789" => {}
        bytes => return Err(format!("{} other bytes", bytes.len())),
    }
    match store.read(name, 9) {
        Err(StoreError::Io { .. }) => Ok("yes".into()),
        _ => Err("an object longer than allowed is not refused".into()),
    }
}

fn check_ranges(store: &dyn Store, name: &ObjectName) -> Result<String, String> {
    if store.read_range(name, 2..5).map_err(text)? != b"234" {
        return Err("other bytes than those of the range".into());
    }
    for range in [5..11, 20..30] {
        match store.read_range(name, range.clone()) {
            Err(StoreError::Truncated { .. }) => {}
            other => return Err(format!("bytes {} to {} of 10: {other:?}", range.start, range.end)),
        }
    }
    Ok("yes".into())
}

fn check_missing(store: &dyn Store, name: &ObjectName) -> Result<String, String> {
    match (store.read(name, 9), store.read_range(name, 0..1)) {
        (Err(StoreError::NotFound { .. }), Err(StoreError::NotFound { .. })) => Ok("yes".into()),
        (read, range) => Err(format!("{read:?}, {range:?}")),
    }
}

fn check_listed(store: &dyn Store, name: &ObjectName) -> Result<String, String> {
    let listed = store.list(Folder::Probes).map_err(text)?;
    match listed.iter().find(|listed| listed.name == *name) {
        Some(listed) if listed.bytes == 10 => Ok("yes".into()),
        Some(listed) => Err(format!("with {} bytes instead of 10", listed.bytes)),
        None => Err("not shown".into()),
    }
}

fn check_exclusive(store: &dyn Store, name: &ObjectName) -> Result<String, String> {
    let again = store.create(name, b"overwritten").map_err(text)?;
    let kept = store.read(name, 64).map_err(text)?;
    match again {
        Creation::Exists if kept == b"0123456789" => Ok("yes".into()),
        Creation::Exists => Err("it says so and overwrites".into()),
        Creation::New => Err("it overwrites".into()),
    }
}

fn check_race(store: &dyn Store, name: &ObjectName) -> Result<String, String> {
    let created: Vec<Result<Creation, StoreError>> = thread::scope(|scope| {
        let racers: Vec<_> = (0..RACERS).map(|racer| scope.spawn(move || store.create(name, &[racer; 9]))).collect();
        racers.into_iter().map(|racer| racer.join().expect("BUG: a creation does not panic")).collect()
    });
    let created: Vec<Creation> = created.into_iter().collect::<Result<_, _>>().map_err(text)?;
    let winners: Vec<u8> = (0..RACERS).filter(|&racer| created[usize::from(racer)] == Creation::New).collect();
    let kept = store.read(name, 64).map_err(text)?;
    match winners.as_slice() {
        [winner] if kept == [*winner; 9] => Ok(format!("one of {RACERS} won")),
        [_] => Err("another one's bytes were kept than the winner's".into()),
        winners => Err(format!("{} of {RACERS} were told that they won", winners.len())),
    }
}

fn check_large(store: &dyn Store, name: &ObjectName) -> Result<String, String> {
    let bytes: Vec<u8> = (0..LARGE_BYTES).map(|at| (at >> 12) as u8 ^ at as u8).collect();
    store.create(name, &bytes).map_err(text)?;
    let end = bytes.len() as u64;
    let same = store.read(name, end).map_err(text)? == bytes
        && store.read_range(name, end - 5000..end).map_err(text)? == bytes[LARGE_BYTES - 5000..];
    if same { Ok("yes".into()) } else { Err("other bytes come back".into()) }
}

fn check_time(store: &dyn Store, name: &ObjectName, now: UnixMicros) -> Result<String, String> {
    match store.created(name).map_err(text)? {
        None => Err("no".into()),
        Some(created) => {
            let ahead_s = (created.0 - now.0) as f64 / 1e6;
            Ok(format!("its clock and ours are {:.0} s apart", ahead_s.abs()))
        }
    }
}

fn check_deleted(store: &dyn Store, name: &ObjectName, deleted: Result<(), StoreError>) -> Result<String, String> {
    deleted.map_err(text)?;
    store.delete(name).map_err(|error| format!("deleting again: {}", text(error)))?;
    let listed = store.list(Folder::Probes).map_err(text)?;
    let gone = !listed.iter().any(|listed| listed.name == *name)
        && matches!(store.read(name, 64), Err(StoreError::NotFound { .. }));
    if gone { Ok("yes".into()) } else { Err("it is still there".into()) }
}
