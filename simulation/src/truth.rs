//! What must hold, kept beside the store: it sees every change of it, opens what was written, and objects as soon as something is wrong.
//!
//! It is written anew from `format-spec/` where it can be: what a snapshot needs, what is in an image, and what has become of a snapshot are found without the
//! code that is tested. Counters make a look at one change cheap: how many places each chunk has that an index lists, and how many snapshots need it.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::Arc;

use continuum::base::id::{ChunkId, DatabaseId, ImageRoot, ObjectHash};
use continuum::base::page::PageCount;
use continuum::format::FormatError;
use continuum::format::delta::{self, StepPart};
use continuum::format::index::IndexSegment;
use continuum::format::journal::JournalObject;
use continuum::format::layer::{LayerSegment, RunContent};
use continuum::format::manifest::{LayerKind, Manifest};
use continuum::format::name::ObjectName;
use continuum::format::object::SealContext;
use continuum::format::pack::{PackReader, PackedChunk};
use continuum::format::timeline::{Event, TimelineEntry};
use continuum::format::tombstone::Tombstone;
use continuum::repo::Repository;

use crate::database::root_of;
use crate::failure::Verdict;
use crate::timeline_truth::{Line, Standing};

/// A chunk, the packs that hold it, and the segments that list it there.
pub type Homes = (ChunkId, BTreeMap<ObjectName, Vec<ObjectName>>);

/// See the module documentation.
pub struct Truth {
    repository: Repository,
    /// Every chunk that ever was in a pack.
    chunks: HashMap<ChunkId, Arc<Vec<u8>>>,
    packs: HashMap<ObjectHash, Pack>,
    segments: HashMap<ObjectName, Vec<(ObjectHash, ChunkId)>>,
    /// How many segments list this chunk in this pack.
    listed: HashMap<(ObjectHash, ChunkId), u32>,
    /// How many packs hold the chunk, are there and are listed.
    places: HashMap<ChunkId, u32>,
    /// How many snapshots need the chunk.
    needed: HashMap<ChunkId, u32>,
    timelines: BTreeMap<DatabaseId, Line>,
    journals: BTreeMap<ObjectName, Vec<JournalPart>>,
    tombstones: BTreeMap<ObjectName, Vec<ObjectHash>>,
    /// Once an entry was damaged, what the log says is another thing.
    is_blind: bool,
}

struct Pack {
    is_there: bool,
    chunks: Vec<ChunkId>,
}

struct JournalPart {
    database: DatabaseId,
    base: ObjectHash,
    commits: Vec<(u64, ImageRoot)>,
}

impl Truth {
    /// Of an empty repository.
    pub fn new(repository: Repository) -> Self {
        Self {
            repository,
            chunks: HashMap::new(),
            packs: HashMap::new(),
            segments: HashMap::new(),
            listed: HashMap::new(),
            places: HashMap::new(),
            needed: HashMap::new(),
            timelines: BTreeMap::new(),
            journals: BTreeMap::new(),
            tombstones: BTreeMap::new(),
            is_blind: false,
        }
    }

    fn context(&self) -> SealContext {
        self.repository.config().seal_context()
    }

    /// An object has come to be. `clock` is the latest time that its writer has seen.
    pub fn created(&mut self, name: &ObjectName, bytes: &[u8], clock: i64) -> Verdict {
        if self.is_blind {
            return Ok(());
        }
        let (context, keys) = (self.context(), self.repository.keys());
        let unreadable = |error: &dyn std::fmt::Display| format!("{name} was written and cannot be read: {error}");
        if let Some((database, sequence)) = name.timeline() {
            let entry = TimelineEntry::open(bytes, database, sequence, &context, keys).map_err(|e| unreadable(&e))?;
            return self.entry_created(database, ObjectHash::of(bytes), entry, clock);
        }
        if let Some((writer, sequence)) = name.journal_position() {
            let object = JournalObject::open(bytes, writer, sequence, &context, keys).map_err(|e| unreadable(&e))?;
            return self.journal_created(name, object);
        }
        let Some(hash) = name.hash() else { return Ok(()) };
        if hash != ObjectHash::of(bytes) {
            return Err(format!("{name} was written with other bytes than its name says"));
        }
        if name.is_pack() {
            self.pack_created(hash, bytes).map_err(|e| unreadable(&e))
        } else if *name == ObjectName::index(hash) {
            let segment = IndexSegment::open(bytes, &context, &keys.index).map_err(|e| unreadable(&e))?;
            self.segment_created(name, &segment)
        } else if *name == ObjectName::tombstone(hash) {
            let tombstone = Tombstone::open(bytes, &context, &keys.tombstone).map_err(|e| unreadable(&e))?;
            self.tombstones.insert(name.clone(), tombstone.packs);
            Ok(())
        } else {
            Ok(())
        }
    }

    /// An object is no longer there.
    pub fn deleted(&mut self, name: &ObjectName) -> Verdict {
        if self.is_blind {
            return Ok(());
        }
        if let Some((database, sequence)) = name.timeline() {
            let is_gone = self.timelines.get(&database).is_some_and(|line| line.is_gone(sequence));
            return if is_gone {
                Ok(())
            } else {
                Err(format!("{name} was deleted, and the log does not say that it is gone"))
            };
        }
        if name.journal_position().is_some() {
            return self.journal_deleted(name);
        }
        let Some(hash) = name.hash() else { return Ok(()) };
        if name.is_pack() {
            return self.pack_deleted(hash);
        }
        if let Some(entries) = self.segments.remove(name) {
            for (pack, chunk) in entries {
                self.unlist(pack, chunk).map_err(|what| format!("{name} was deleted: {what}"))?;
            }
        }
        if let Some(packs) = self.tombstones.remove(name) {
            let still = |pack| self.tombstones.values().any(|packs| packs.contains(pack));
            if let Some(pack) = packs.iter().find(|pack| !still(pack)) {
                return Err(format!("{name} was deleted, and no tombstone names pack {pack} any more"));
            }
        }
        Ok(())
    }

    fn pack_created(&mut self, hash: ObjectHash, bytes: &[u8]) -> Result<(), FormatError> {
        if !self.packs.contains_key(&hash) {
            let keys = self.repository.keys();
            let reader = PackReader::open(bytes, &self.context(), keys)?;
            let mut chunks = Vec::new();
            for chunk in reader.footer(bytes, keys)? {
                let range = chunk.offset as usize..(chunk.offset + chunk.length) as usize;
                let decoded = reader.chunk(chunk.id, chunk.offset, &mut bytes[range].to_vec(), keys)?;
                self.chunks.insert(chunk.id, Arc::new(decoded));
                chunks.push(chunk.id);
            }
            self.packs.insert(hash, Pack { is_there: false, chunks });
        }
        let pack = self.packs.get_mut(&hash).expect("BUG: it was inserted");
        if !pack.is_there {
            pack.is_there = true;
            for chunk in pack.chunks.iter().filter(|&&chunk| self.listed.contains_key(&(hash, chunk))) {
                *self.places.entry(*chunk).or_default() += 1;
            }
        }
        Ok(())
    }

    fn pack_deleted(&mut self, hash: ObjectHash) -> Verdict {
        let Some(pack) = self.packs.get_mut(&hash) else { return Ok(()) };
        if !std::mem::take(&mut pack.is_there) {
            return Ok(());
        }
        let chunks = pack.chunks.clone();
        for chunk in chunks {
            if self.listed.contains_key(&(hash, chunk)) {
                self.displace(chunk).map_err(|what| format!("pack {hash} was deleted: {what}"))?;
            }
        }
        Ok(())
    }

    fn segment_created(&mut self, name: &ObjectName, segment: &IndexSegment) -> Verdict {
        let entries: Vec<(ObjectHash, ChunkId)> =
            segment.entries.iter().map(|entry| (segment.packs[entry.pack as usize].name, entry.chunk.id)).collect();
        for &(pack, chunk) in &entries {
            let known = self.packs.get(&pack).ok_or_else(|| format!("{name} lists pack {pack}, which never was"))?;
            if !known.chunks.contains(&chunk) {
                return Err(format!("{name} lists chunk {chunk} in pack {pack}, which does not hold it"));
            }
            let is_there = known.is_there;
            let count = self.listed.entry((pack, chunk)).or_default();
            *count += 1;
            if *count == 1 && is_there {
                *self.places.entry(chunk).or_default() += 1;
            }
        }
        self.segments.insert(name.clone(), entries);
        Ok(())
    }

    fn unlist(&mut self, pack: ObjectHash, chunk: ChunkId) -> Verdict {
        let count = self.listed.get_mut(&(pack, chunk)).expect("BUG: what is listed is counted");
        *count -= 1;
        if *count > 0 {
            return Ok(());
        }
        self.listed.remove(&(pack, chunk));
        if self.packs.get(&pack).is_some_and(|pack| pack.is_there) { self.displace(chunk) } else { Ok(()) }
    }

    /// A chunk has lost a place.
    fn displace(&mut self, chunk: ChunkId) -> Verdict {
        let places = self.places.get_mut(&chunk).expect("BUG: what has a place is counted");
        *places -= 1;
        if *places == 0 && self.needed.get(&chunk).is_some_and(|&count| count > 0) {
            let line = self.timelines.values().find_map(|line| line.who_needs(chunk));
            return Err(format!("chunk {chunk} has no place any more, and {} needs it", line.unwrap_or_default()));
        }
        Ok(())
    }

    fn entry_created(&mut self, database: DatabaseId, id: ObjectHash, entry: TimelineEntry, clock: i64) -> Verdict {
        let sequence = entry.sequence;
        let mut needs = Vec::new();
        let is_gone = self.timelines.get(&database).is_some_and(|line| line.is_gone(sequence));
        if is_gone {
            // A request that was long on its way; the log has gone on.
            return Ok(());
        }
        if let Event::Snapshot(manifest) = &entry.event {
            let what = |what: String| format!("snapshot {sequence} of {}: {what}", entry.database);
            needs = self.needs(manifest).map_err(what)?;
            let homeless = |chunk: &&ChunkId| self.places.get(*chunk).is_none_or(|&places| places == 0);
            if let Some(chunk) = needs.iter().find(homeless) {
                return Err(what(format!(
                    "it needs chunk {chunk}, which has no place when the snapshot begins to exist"
                )));
            }
            let commits = self.prove(manifest).map_err(what)?;
            let line = self.timelines.entry(database).or_default();
            line.require_folded(&commits).map_err(what)?;
            line.add_commits(&commits);
            for &chunk in &needs {
                *self.needed.entry(chunk).or_default() += 1;
            }
        }
        let line = self.timelines.entry(database).or_default();
        let gone = line.append(id, entry, needs, clock)?;
        for chunk in gone {
            *self.needed.get_mut(&chunk).expect("BUG: it was needed") -= 1;
        }
        Ok(())
    }

    fn chunk(&self, id: ChunkId) -> Result<&Arc<Vec<u8>>, String> {
        self.chunks.get(&id).ok_or_else(|| format!("chunk {id} never was in any pack"))
    }

    /// The page map of the image.
    fn map(&self, manifest: &Manifest) -> Result<Vec<LayerSegment>, String> {
        let layer = manifest.layers.first().ok_or("it has no layers")?;
        let segment = |(position, &chunk): (usize, &ChunkId)| {
            LayerSegment::parse(self.chunk(chunk)?, position, PageCount(layer.page_count)).map_err(|e| e.to_string())
        };
        layer.segments.iter().enumerate().map(segment).collect()
    }

    /// All chunks that a snapshot needs, each once.
    fn needs(&self, manifest: &Manifest) -> Result<Vec<ChunkId>, String> {
        let mut needs: Vec<ChunkId> = manifest.layers.iter().flat_map(|layer| layer.segments.clone()).collect();
        for run in self.map(manifest)?.iter().flat_map(|segment| &segment.runs) {
            if let RunContent::Chunk { chunk, .. } = run.content {
                needs.push(chunk.id);
            }
        }
        needs.sort_unstable();
        needs.dedup();
        Ok(needs)
    }

    /// Makes the snapshot's image from its chunks, and compares it, and each state that its newest layer holds, with the hashes that it says. Returns
    /// these states.
    fn prove(&self, manifest: &Manifest) -> Result<Vec<(u64, ImageRoot)>, String> {
        let page_bytes = manifest.page_size().bytes();
        let mut image = Vec::new();
        for run in self.map(manifest)?.iter().flat_map(|segment| &segment.runs) {
            let length = run.pages as usize * page_bytes;
            match run.content {
                RunContent::Zeros => image.resize(image.len() + length, 0),
                RunContent::Chunk { chunk, first } => {
                    let start = first as usize * page_bytes;
                    let pages = self.chunk(chunk.id)?.get(start..start + length);
                    image.extend(pages.ok_or("a chunk is shorter than the page map says")?);
                }
            }
        }
        let mut commits = Vec::new();
        let deltas = manifest.layers.iter().filter(|layer| layer.kind == LayerKind::Delta);
        for (at, layer) in deltas.enumerate() {
            let is_newest = at + 2 == manifest.layers.len();
            let mut continues = false;
            for &segment in &layer.segments {
                for part in delta::parse(self.chunk(segment)?, manifest.page_size()).map_err(|e| e.to_string())? {
                    apply(&mut image, &part, page_bytes, continues);
                    continues = part.more;
                    if is_newest && !part.more {
                        let state = part.state;
                        if root_of(&image) != state.root {
                            return Err(format!("commit {} is not what its hash says", state.commit));
                        }
                        commits.push((state.commit, state.root));
                    }
                }
            }
        }
        if image.len() != manifest.page_count as usize * page_bytes || root_of(&image) != manifest.root {
            return Err("its image is not what its hash says".to_owned());
        }
        Ok(commits)
    }

    fn journal_created(&mut self, name: &ObjectName, object: JournalObject) -> Verdict {
        let mut parts = Vec::new();
        for part in object.parts {
            let database = self.repository.keys().database_id(&part.database);
            let page_size = self.timelines.get(&database).and_then(Line::page_size);
            let page_size = page_size.ok_or_else(|| format!("{name} continues no snapshot"))?;
            let steps = part.steps(page_size).map_err(|error| format!("{name} cannot be read: {error}"))?;
            let commits = steps.iter().map(|step| (step.state.commit, step.state.root)).collect();
            parts.push(JournalPart { database, base: part.base, commits });
        }
        self.journals.insert(name.clone(), parts);
        Ok(())
    }

    fn journal_deleted(&mut self, name: &ObjectName) -> Verdict {
        for part in self.journals.remove(name).unwrap_or_default() {
            let line = self.timelines.get(&part.database);
            let acknowledged =
                |(commit, _): &&(u64, ImageRoot)| line.is_some_and(|line| line.waits_for(part.base, *commit));
            if let Some((commit, _)) = part.commits.iter().find(acknowledged) {
                return Err(format!("{name} was deleted, and only it held commit {commit}, which was acknowledged"));
            }
        }
        Ok(())
    }

    /// A writer was told that its snapshot is there, and knows what the image is.
    pub fn acknowledge(&mut self, database: &str, id: ObjectHash, image: &[u8]) -> Verdict {
        if self.is_blind {
            return Ok(());
        }
        let database = self.repository.keys().database_id(database);
        let line = self.timelines.get(&database).ok_or("a snapshot was acknowledged and its timeline is not there")?;
        line.acknowledge(id, root_of(image))
    }

    /// Somebody was told that a snapshot stands so.
    pub fn require_standing(&self, id: ObjectHash, expected: impl Fn(&Standing) -> bool) -> Verdict {
        let mut kept = self.timelines.values().flat_map(|line| line.snapshots().values());
        match kept.find(|kept| kept.id == id) {
            Some(kept) if expected(&kept.standing) => Ok(()),
            Some(kept) => Err(format!("snapshot {id} was changed, and is {:?}", kept.standing)),
            None => Err(format!("snapshot {id} was changed, and is gone")),
        }
    }

    /// A watcher was told that its commit is durable.
    pub fn acknowledge_commit(&mut self, database: &str, base: ObjectHash, commit: u64, root: ImageRoot) -> Verdict {
        let id = self.repository.keys().database_id(database);
        let line = self.timelines.get_mut(&id).ok_or("a commit was acknowledged and its timeline is not there")?;
        if line.last_snapshot() != Some(base) && line.holds_commit(commit, root) {
            // It was folded before its journal's acknowledgement was heard.
            return Ok(());
        }
        if line.last_snapshot() != Some(base) {
            return Err(format!(
                "commit {commit} of {database} was acknowledged behind a snapshot that is not the last"
            ));
        }
        let holds = |part: &JournalPart| part.base == base && part.commits.contains(&(commit, root));
        if !self.journals.values().flatten().any(holds) {
            return Err(format!("commit {commit} of {database} was acknowledged and is in no journal"));
        }
        line.wait_for(base, commit, root);
        Ok(())
    }

    /// What an object says, for the trace.
    pub fn describe(&self, name: &ObjectName, bytes: &[u8]) -> String {
        let Some((database, sequence)) = name.timeline() else { return String::new() };
        let entry = TimelineEntry::open(bytes, database, sequence, &self.context(), self.repository.keys());
        match entry.map(|entry| entry.event) {
            Ok(Event::Snapshot(manifest)) => format!(" {} of commit {}", manifest.strategy, manifest.commit),
            Ok(Event::Forgotten { snapshots, until }) => {
                let named: Vec<u64> = snapshots.iter().map(|named| named.sequence).collect();
                format!(" forgotten {named:?} until {}", until.0)
            }
            Ok(Event::Unforgotten { snapshots }) => format!(" unforgotten {}", snapshots[0].sequence),
            Ok(Event::Held { snapshot, .. }) => format!(" held {}", snapshot.sequence),
            Ok(Event::Released { snapshot }) => format!(" released {}", snapshot.sequence),
            Ok(Event::Damaged { segments }) => format!(" {} segments damaged", segments.len()),
            Ok(Event::Collected { gone }) => {
                let runs: Vec<_> = gone.iter().map(|run| run.first..=run.last).collect();
                format!(" collected {runs:?}")
            }
            Ok(Event::Begun {}) => " begun".to_owned(),
            Ok(Event::WatchStarted(watch)) => format!(" watch started {}", watch.writer),
            Ok(Event::WatchEnded(watch)) => format!(" watch ended {}", watch.writer),
            Err(error) => error.to_string(),
        }
    }

    /// What is there and needed by nobody, or not listed.
    pub fn garbage(&self) -> Verdict {
        for (hash, pack) in self.packs.iter().filter(|(_, pack)| pack.is_there) {
            for chunk in &pack.chunks {
                if !self.listed.contains_key(&(*hash, *chunk)) {
                    return Err(format!("pack {hash} is left, and no segment lists its chunk {chunk}"));
                }
                if self.needed.get(chunk).is_none_or(|&count| count == 0) {
                    return Err(format!("pack {hash} is left with chunk {chunk}, which nothing needs"));
                }
            }
        }
        let is_there = |pack: &ObjectHash| self.packs.get(pack).is_some_and(|pack| pack.is_there);
        if let Some((pack, _)) = self.listed.keys().find(|(pack, _)| !is_there(pack)) {
            return Err(format!("pack {pack} is still listed and not there"));
        }
        match self.journals.keys().next() {
            Some(name) => Err(format!("{name} is left")),
            None => Ok(()),
        }
    }

    /// The timelines.
    pub fn timelines(&self) -> &BTreeMap<DatabaseId, Line> {
        &self.timelines
    }

    /// An object was damaged: `was` it is, and `is` now, if it is still there. Returns the snapshots that cannot be restored any more. They may be taken out of the log from now on.
    pub fn suffer(&mut self, name: &ObjectName, was: &[u8], is: Option<&[u8]>) -> Result<BTreeSet<ObjectHash>, String> {
        if name.timeline().is_some() {
            self.is_blind = true;
            return Ok(BTreeSet::new());
        }
        self.tombstones.remove(name);
        for (pack, chunk) in self.segments.remove(name).unwrap_or_default() {
            // What it listed is in the packs' footers.
            let _: Verdict = self.unlist(pack, chunk);
        }
        let hash = name.hash().filter(|_| name.is_pack());
        let Some(pack) = hash.and_then(|hash| self.packs.get_mut(&hash)) else { return Ok(BTreeSet::new()) };
        pack.is_there = false;
        let hash = hash.unwrap_or(ObjectHash([0; 32]));
        let listed: Vec<ChunkId> =
            pack.chunks.iter().copied().filter(|&chunk| self.listed.contains_key(&(hash, chunk))).collect();
        for chunk in listed {
            let _: Verdict = self.displace(chunk);
        }
        let good = self.good_chunks(was, is).map_err(|error| error.to_string())?;
        let is_lost =
            |chunk: &ChunkId| self.places.get(chunk).is_none_or(|&places| places == 0) && !good.contains(chunk);
        let mut affected = BTreeSet::new();
        for line in self.timelines.values_mut() {
            for chunk in line.lose(&is_lost, &mut affected) {
                *self.needed.get_mut(&chunk).expect("BUG: it was needed") -= 1;
            }
        }
        Ok(affected)
    }

    /// Chunks of a damaged pack that can be read.
    fn good_chunks(&self, was: &[u8], is: Option<&[u8]>) -> Result<HashSet<ChunkId>, FormatError> {
        let (context, keys) = (self.context(), self.repository.keys());
        let chunks = PackReader::open(was, &context, keys)?.footer(was, keys)?;
        let Some(is) = is else { return Ok(HashSet::new()) };
        let Ok(reader) = PackReader::open(is, &context, keys) else { return Ok(HashSet::new()) };
        let is_good = |chunk: &&PackedChunk| {
            let sealed = is.get(chunk.offset as usize..(chunk.offset + chunk.length) as usize);
            sealed.is_some_and(|sealed| reader.chunk(chunk.id, chunk.offset, &mut sealed.to_vec(), keys).is_ok())
        };
        Ok(chunks.iter().filter(is_good).map(|chunk| chunk.id).collect())
    }

    /// Where the chunks of a snapshot stand: for each of them packs that hold it, and with each pack the segments that list it there. `None` if there is no such snapshot any more.
    pub fn homes(&self, id: ObjectHash) -> Option<Vec<Homes>> {
        let mut kept = self.timelines.values().flat_map(|line| line.snapshots().values());
        let needs: HashSet<ChunkId> = kept.find(|kept| kept.id == id)?.needs.iter().copied().collect();
        let mut homes: HashMap<ChunkId, BTreeMap<ObjectName, Vec<ObjectName>>> = HashMap::new();
        for (segment, entries) in &self.segments {
            for (pack, chunk) in entries.iter().filter(|(_, chunk)| needs.contains(chunk)) {
                let packs = homes.entry(*chunk).or_default();
                packs.entry(ObjectName::pack(*pack)).or_default().push(segment.clone());
            }
        }
        Some(needs.into_iter().map(|chunk| (chunk, homes.remove(&chunk).unwrap_or_default())).collect())
    }

    /// Journals that hold a commit.
    pub fn journals_of(&self, base: ObjectHash, commit: u64) -> Vec<ObjectName> {
        let holds = |part: &JournalPart| part.base == base && part.commits.iter().any(|(found, _)| *found == commit);
        self.journals.iter().filter(|(_, parts)| parts.iter().any(holds)).map(|(name, _)| name.clone()).collect()
    }

    /// Whether it no longer looks.
    pub fn is_blind(&self) -> bool {
        self.is_blind
    }

    /// Whether any snapshot needs something that stands in this object, or that only this object lists or tells.
    pub fn depends_on(&self, name: &ObjectName) -> bool {
        let needed = |chunk: &ChunkId| self.needed.get(chunk).is_some_and(|&count| count > 0);
        if let Some(entries) = self.segments.get(name) {
            return entries.iter().any(|(_, chunk)| needed(chunk));
        }
        match name.hash().filter(|_| name.is_pack()).and_then(|hash| self.packs.get(&hash)) {
            Some(pack) => pack.chunks.iter().any(needed),
            None => name.timeline().is_some_and(|(database, sequence)| {
                self.timelines.get(&database).is_some_and(|line| !line.is_gone(sequence))
            }),
        }
    }
}

/// Applies a step, or a part of it that may continue another.
fn apply(image: &mut Vec<u8>, part: &StepPart, page_bytes: usize, continues: bool) {
    if !continues {
        image.truncate(part.state.low_page_count as usize * page_bytes);
        image.resize(part.state.page_count as usize * page_bytes, 0);
    }
    for record in &part.records {
        let start = (record.page.0 as usize - 1) * page_bytes;
        if let Some(page) = image.get_mut(start..start + page_bytes) {
            record.change.apply(page);
        }
    }
}
