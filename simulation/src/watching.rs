//! A watcher: the order of `daemon::database` and `daemon::watch`, with their journal writer and the project's own operations, without SQLite.

use std::collections::BTreeSet;
use std::sync::LazyLock;
use std::time::{Duration, Instant};

use continuum::base::clock::UnixMicros;
use continuum::base::id::{ObjectHash, WriterId};
use continuum::base::image_tree::Leaves;
use continuum::base::page::PageCount;
use continuum::daemon::journal::{JournalWriter, Pending};
use continuum::format::delta::{StepPart, StepState};
use continuum::format::manifest::Manifest;
use continuum::format::position::Position;
use continuum::format::timeline::{Event, Watch};
use continuum::ops::fold::{Fold, fold_steps};
use continuum::ops::snapshot::{Choice, Taken, snapshot_pinned};
use continuum::repo::delta_writer::leaf_records;
use continuum::repo::memory::Memory;
use continuum::repo::timeline::{Behind, Timeline};
use continuum::repo::{Repository, RepositoryError};
use continuum::store::page_map::PageMap;

use crate::database::{Database, Written, root_of};
use crate::failure::Failure;
use crate::machine::{ENCODE, Machine};
use crate::random::Random;

/// The moment from which a world's time is counted, for the journal writer.
static BEGINNING: LazyLock<Instant> = LazyLock::new(Instant::now);

/// A database that is watched.
struct Watched {
    database: Database,
    memory: Memory,
    timeline: Timeline,
    base: (ObjectHash, Manifest),
    position: Position,
    map: PageMap,
    state: StepState,
    steps: Vec<StepPart>,
    flushed: usize,
}

struct Watcher<'a> {
    machine: &'a Machine,
    repository: Repository,
    writer: WriterId,
    journal: JournalWriter,
    watched: Vec<Watched>,
}

/// Watches one or two databases for a while. Whatever fails ends it, as a kill does: the next watcher finds what it has left.
pub fn watch(machine: &Machine, random: &mut Random) -> Result<(), Failure> {
    if !machine.client.remembers {
        return Ok(());
    }
    let repository = machine.repository();
    let writer = WriterId(repository.environment().entropy.bytes());
    let journal = JournalWriter::new(&repository, writer);
    let mut watcher = Watcher { machine, repository, writer, journal, watched: Vec::new() };
    let databases: Vec<Database> =
        machine.world.databases.iter().filter(|_| random.chance(600)).take(2).cloned().collect();
    for database in databases {
        watcher.attach(database)?;
    }
    for _ in 0..random.between(1, 6) {
        watcher.round(random)?;
    }
    watcher.stop()
}

impl Watcher<'_> {
    fn now(&self) -> Instant {
        *BEGINNING + Duration::from_micros(self.machine.world.now() as u64)
    }

    fn watch(&self) -> Watch {
        Watch { writer: self.writer, host: format!("actor {}", self.machine.actor) }
    }

    fn attach(&mut self, database: Database) -> Result<(), Failure> {
        let (repository, name) = (&self.repository, database.name());
        let none = || RepositoryError::LocalState(std::io::Error::other("no place"));
        let memory = Memory::claim(repository, name)?.ok_or_else(none)?;
        let mut pinned = database.pin();
        let options = self.machine.snapshot_options(name, Choice::Auto, false);
        let taken = snapshot_pinned(repository, &mut pinned, Some(&memory), &options, &self.machine.monitor())?;
        let Taken { summary, position, map, mut timeline } = taken;
        self.machine.world.with_truth(|truth| truth.acknowledge(name, summary.id, pinned.image()));
        self.machine.world.require_durable(summary.id);
        memory.save_writer(self.writer)?;
        timeline.append(repository, name, Event::WatchStarted(self.watch()), Behind::Housekeeping(None))?;
        let Manifest { commit, captured, page_count, root, .. } = summary.manifest;
        let state = StepState { commit, captured, page_count, low_page_count: page_count, root };
        let map = map.expect("BUG: with a memory there is a map");
        let base = (summary.id, summary.manifest);
        let (steps, flushed) = (Vec::new(), 0);
        self.watched.push(Watched { database, memory, timeline, base, position, map, state, steps, flushed });
        Ok(())
    }

    /// The databases change; what was committed is captured, flushed, and sometimes folded.
    fn round(&mut self, random: &mut Random) -> Result<(), Failure> {
        for watched in &mut self.watched {
            for _ in 0..random.below(3) {
                watched.database.commit(random);
            }
            let lost = || Failure { text: "the WAL was restarted".to_owned(), is_expected: true };
            let behind = watched.position.wal.and_then(|position| watched.database.commits_behind(&position));
            for written in behind.ok_or_else(lost)? {
                watched.capture(&written, self.repository.environment().clock.now())?;
            }
        }
        self.flush();
        if random.chance(350) {
            self.fold()?;
        }
        Ok(())
    }

    fn flush(&mut self) {
        let pending = self.watched.iter_mut().filter_map(Watched::take_pending);
        self.journal.write(pending);
        for _ in 0..3 {
            self.acknowledge();
        }
    }

    fn acknowledge(&mut self) {
        let now = self.now();
        let acknowledged = self.journal.advance(now);
        for (name, last) in acknowledged {
            let watched = self.watched.iter().find(|watched| watched.database.name() == name);
            let Some(Watched { base, steps, .. }) = watched else { continue };
            for step in steps.iter().filter(|step| step.state.commit <= last) {
                let (commit, root, base) = (step.state.commit, step.state.root, base.0);
                self.machine.world.count(|counts| counts.commits += 1);
                self.machine.world.with_truth(|truth| truth.acknowledge_commit(&name, base, commit, root));
                self.machine.world.require_durable_commit(base, commit);
            }
        }
    }

    /// Folds every database; the journal is deleted only when all were.
    fn fold(&mut self) -> Result<(), Failure> {
        let monitor = self.machine.monitor();
        for watched in &mut self.watched {
            let name = watched.database.name().to_owned();
            watched.fold(&Fold { repository: &self.repository, name: &name, encode: ENCODE, monitor: &monitor })?;
        }
        self.journal.drop_waiting();
        self.journal.delete_folded()?;
        Ok(())
    }

    fn stop(&mut self) -> Result<(), Failure> {
        self.flush();
        self.acknowledge();
        self.fold()?;
        let watch = self.watch();
        for watched in &mut self.watched {
            let event = Event::WatchEnded(watch.clone());
            watched.timeline.append(&self.repository, watched.database.name(), event, Behind::Housekeeping(None))?;
        }
        Ok(())
    }
}

impl Watched {
    fn capture(&mut self, written: &Written, now: UnixMicros) -> Result<(), Failure> {
        let before = self.map.shape();
        let page_bytes = before.page_size.bytes();
        let after = Leaves { page_count: PageCount((written.after.len() / page_bytes) as u32), ..before };
        let low_page_count = before.page_count.0.min(after.page_count.0);
        let (mut changes, mut records) = (Vec::new(), Vec::new());
        let leaves: BTreeSet<u32> = after.touched_since(before, written.pages.iter().copied()).into_iter().collect();
        for leaf in leaves {
            let content = content(&written.after, after, leaf).expect("BUG: the leaf is of the image");
            let hash = after.hash(leaf, content);
            if self.map.known(after, leaf) == Some(hash) {
                continue;
            }
            changes.push((leaf, hash));
            let base = content_before(&written.before, before, leaf);
            records.extend(leaf_records(after.pages(leaf).0, content, base, before, low_page_count));
        }
        self.position.wal = Some(written.position);
        if changes.is_empty() && before == after {
            return Ok(());
        }
        self.map.update(after, &changes).map_err(RepositoryError::LocalState)?;
        let root = self.map.root().ok().flatten().expect("BUG: the map is new");
        assert_eq!(root, root_of(&written.after), "BUG: the page map gives another root");
        let (commit, page_count) = (self.state.commit + 1, after.page_count.0);
        self.state = StepState { commit, captured: now, page_count, low_page_count, root };
        self.steps.push(StepPart { state: self.state, more: false, records });
        Ok(())
    }

    fn take_pending(&mut self) -> Option<Pending<'_>> {
        let steps = self.steps.get(self.flushed..).filter(|steps| !steps.is_empty())?;
        self.flushed = self.steps.len();
        Some(Pending { base: self.base.0, name: self.database.name(), steps })
    }

    fn fold(&mut self, fold: &Fold<'_>) -> Result<(), Failure> {
        if self.steps.is_empty() {
            return Ok(());
        }
        let base = (self.base.0, &self.base.1);
        let (id, manifest) = fold_steps(fold, &mut self.timeline, base, &self.steps)?;
        let (page_count, root) = (manifest.page_count, manifest.root);
        self.position = Position { entry: id, page_count, root, ..self.position };
        self.base = (id, manifest);
        self.steps.clear();
        self.flushed = 0;
        self.memory.save(&self.position, &mut self.map)?;
        Ok(())
    }
}

/// The bytes of a leaf.
fn content(image: &[u8], shape: Leaves, leaf: u32) -> Option<&[u8]> {
    let (first, count) = shape.pages(leaf);
    let page_bytes = shape.page_size.bytes();
    let start = (first.0 as usize - 1) * page_bytes;
    image.get(start..start + count as usize * page_bytes)
}

fn content_before(image: &[u8], shape: Leaves, leaf: u32) -> Option<&[u8]> {
    if leaf < shape.count() { content(image, shape, leaf) } else { None }
}
