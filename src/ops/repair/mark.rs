//! What the log of a database says of damage (`format-spec/timeline.md`, "What is damaged"). Pure, but for [`mark`].
//!
//! Said is what is lost once everything else is done. Nothing is said over others: whoever has said something else since the plan was made has seen what the plan has not.

use std::collections::HashSet;

use crate::base::id::ChunkId;
use crate::format::timeline::{Event, MAX_NAMED};
use crate::repo::timeline::{self, Behind, Timeline};
use crate::repo::{Fault, Repository, RepositoryError};

use super::affected::Affected;
use super::log::{LogChange, MOST_APPENDS, written_by_newer};

/// What is said in one log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mark {
    /// The database's name.
    pub name: String,
    /// All segments that are damaged.
    pub segments: Vec<ChunkId>,
    /// What the log says now.
    known: HashSet<ChunkId>,
    /// The last entry that was read.
    end: u64,
}

/// What is to be said in which log. One that a newer program has written to is left alone.
pub fn marks(timelines: &[Timeline], affected: &[Affected], log: &[LogChange], faults: &[Fault]) -> Vec<Mark> {
    let newer = written_by_newer(faults);
    let known = timelines.iter().filter(|timeline| !newer.contains(&timeline.database));
    known.filter_map(|timeline| mark_of(timeline, affected, log)).collect()
}

fn mark_of(timeline: &Timeline, affected: &[Affected], log: &[LogChange]) -> Option<Mark> {
    let end = timeline.entries.last()?.entry.sequence;
    let dropped = log.iter().find(|change| change.database == timeline.database).map(|change| &change.snapshots);
    let stays = |sequence: u64| dropped.is_none_or(|dropped| !dropped.contains_key(&sequence));
    let is_of_it = |affected: &&Affected| affected.timeline == timeline.database && stays(affected.sequence);
    let (mut segments, mut listed) = (Vec::new(), HashSet::new());
    // Of too many, those of the newest snapshots.
    for &segment in affected.iter().rev().filter(is_of_it).flat_map(|affected| &affected.segments) {
        if listed.insert(segment) && segments.len() < MAX_NAMED {
            segments.push(segment);
        }
    }
    segments.sort_unstable();
    let kept = timeline.kept().filter(|kept| stays(kept.sequence));
    let said = kept.flat_map(|kept| &kept.manifest.layers).flat_map(|layer| &layer.segments);
    let said: HashSet<ChunkId> = said.filter(|segment| timeline.damaged().contains(segment)).copied().collect();
    let is_said = said.len() == segments.len() && segments.iter().all(|segment| said.contains(segment));
    let (name, known) = (timeline.name().to_owned(), timeline.damaged().clone());
    (!is_said).then_some(Mark { name, segments, known, end })
}

/// Says it. Returns whether it is all: not if others have said something else, or taken a snapshot, since the log was read.
pub fn mark(repository: &Repository, mark: &Mark) -> Result<bool, RepositoryError> {
    let mut appends = 0;
    loop {
        appends += 1;
        let (mut timeline, _) = timeline::load(repository, &mark.name)?;
        if *timeline.damaged() != mark.known {
            return Ok(false);
        }
        let event = Event::Damaged { segments: mark.segments.clone() };
        match timeline.append(repository, &mark.name, event, Behind::Nothing) {
            Ok(_) => return Ok(timeline.kept().all(|kept| kept.sequence <= mark.end)),
            Err(RepositoryError::Fenced { .. }) if appends < MOST_APPENDS => {}
            Err(error) => return Err(error),
        }
    }
}
