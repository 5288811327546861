//! States as the format allows them and the program seldom writes them: pages in any order in their chunks, steps that
//! cut and grow a database at once, differences against pages that were cut off, steps that segments part, and a
//! journal that repeats itself and has a gap.

use std::sync::Arc;

use continuum::base::clock::{SystemClock, UnixMicros};
use continuum::base::entropy::{Entropy, OsEntropy, SeededEntropy};
use continuum::base::id::{ChunkId, ImageRoot, ObjectHash, WriterId};
use continuum::base::page::PageNo;
use continuum::chunk::codec::{self, Compression};
use continuum::format::delta::{Change, DeltaBuilder, Difference, Record, StepState};
use continuum::format::journal::{JournalObject, JournalPart};
use continuum::format::layer::{LayerBuilder, PageChunk, Run, RunContent};
use continuum::format::manifest::{Layer, LayerKind, Manifest, Strategy};
use continuum::format::name::ObjectName;
use continuum::format::timeline::{Event, Watch};
use continuum::repo::chunk_writer::{ChunkWriter, EncodeOptions};
use continuum::repo::index::Index;
use continuum::repo::{self, Environment, Repository, timeline};
use continuum::store::local::LocalStore;

use super::program::{PASSWORD, Place};

/// The database's name.
pub const NAME: &str = "hand";

const PAGE: usize = 512;

/// A step with its records.
pub struct Step {
    state: StepState,
    records: Vec<Record>,
}

impl Step {
    /// The commit that it leads to.
    pub fn commit(&self) -> u64 {
        self.state.commit
    }
}

/// A database that changes at random, but the same way each time, and all its states.
pub struct History {
    entropy: SeededEntropy,
    pages: Vec<Vec<u8>>,
    /// Commits and images.
    pub states: Vec<(u64, Vec<u8>)>,
}

impl History {
    /// One commit.
    pub fn new(seed: u64, page_count: usize) -> Self {
        let mut history = Self { entropy: SeededEntropy::new(seed), pages: Vec::new(), states: Vec::new() };
        history.pages = (0..page_count).map(|_| history.noise()).collect();
        history.states.push((1, history.pages.concat()));
        history
    }

    /// The newest commit.
    pub fn commit(&self) -> u64 {
        self.states.len() as u64
    }

    fn root(&self) -> ImageRoot {
        ImageRoot(*blake3::hash(&self.pages.concat()).as_bytes())
    }

    fn below(&self, limit: usize) -> usize {
        let entropy: &dyn Entropy = &self.entropy;
        u32::from_le_bytes(entropy.bytes()) as usize % limit
    }

    fn noise(&self) -> Vec<u8> {
        let mut page = vec![0; PAGE];
        self.entropy.fill(&mut page);
        page
    }

    /// The next commit: the database is cut somewhere and gains fewer than `growth` pages; some pages change, in each
    /// way that there is.
    pub fn step(&mut self, growth: usize) -> Step {
        let low = self.below(self.pages.len() + 1);
        let page_count = low.max(1) + self.below(growth);
        self.pages.truncate(low);
        self.pages.resize(page_count, vec![0; PAGE]);
        let mut records = Vec::new();
        for page in 0..page_count {
            let mut new = self.pages[page].clone();
            let change = match self.below(8) {
                0 => {
                    new.fill(0);
                    Change::Zero
                }
                1 => {
                    new = self.noise();
                    Change::Plain(new.clone())
                }
                2 | 3 => {
                    for _ in 0..=self.below(5) {
                        new[self.below(PAGE)] ^= 0x5a;
                    }
                    Change::Xor(Difference::between(&self.pages[page], &new))
                }
                _ => continue,
            };
            self.pages[page] = new;
            records.push(Record { page: PageNo(page as u32 + 1), change });
        }
        let commit = self.commit() + 1;
        self.states.push((commit, self.pages.concat()));
        let (captured, root) = (UnixMicros(commit as i64), self.root());
        let state = StepState { commit, captured, page_count: page_count as u32, low_page_count: low as u32, root };
        Step { state, records }
    }
}

/// The segments of steps.
fn segments(steps: &[Step]) -> Vec<Vec<u8>> {
    let (mut builder, mut segments) = (DeltaBuilder::default(), Vec::new());
    for Step { state, records } in steps {
        builder.begin(state);
        segments.extend(records.iter().filter_map(|record| builder.push(record)));
    }
    segments.extend(builder.finish());
    segments
}

/// A repository that is written to without the program's own writers of images and deltas.
pub struct Hand {
    repository: Repository,
}

impl Hand {
    /// Opens the repository of a place.
    pub fn new(place: &Place) -> Self {
        let store = Arc::new(LocalStore::new(place.path("repository")));
        let environment = Environment {
            clock: Arc::new(SystemClock),
            entropy: Arc::new(OsEntropy),
            state: None,
            upload_threads: 0,
            fetch_threads: 0,
        };
        Self { repository: repo::open(store, &PASSWORD.into(), environment).expect("the repository opens") }
    }

    fn store(&self, chunks: &[Vec<u8>]) -> Vec<ChunkId> {
        let (index, faults) = Index::load(&self.repository).expect("the index");
        assert!(faults.is_empty());
        let mut writer = ChunkWriter::new(&self.repository, &index, EncodeOptions::default());
        let ids = chunks.iter().map(|chunk| writer.store(chunk).expect("the chunk is stored")).collect();
        writer.finish().expect("the packs are stored");
        ids
    }

    /// The newest state of a history as an image whose pages lie in any order in chunks of more pages.
    pub fn image(&self, history: &History) -> Layer {
        let mut builder = LayerBuilder::default();
        for pages in history.pages.chunks(4000) {
            // The n-th page lies at 3 n modulo a number of places that is no multiple of 3.
            let places = if pages.len().is_multiple_of(3) { pages.len() + 1 } else { pages.len() + 3 };
            let mut content = vec![history.noise(); places];
            pages.iter().enumerate().for_each(|(nth, page)| content[3 * nth % places].clone_from(page));
            let chunk = PageChunk { id: self.store(&[content.concat()])[0], pages: places as u32 };
            for nth in 0..pages.len() {
                let first = (3 * nth % places) as u32;
                assert!(builder.push(Run { pages: 1, content: RunContent::Chunk { chunk, first } }).is_empty());
            }
        }
        let segment = builder.finish().0.expect("pages");
        let (commit, page_count) = (history.commit(), history.pages.len() as u32);
        Layer {
            kind: LayerKind::Image,
            first_commit: commit,
            last_commit: commit,
            page_count,
            low_page_count: page_count,
            record_bytes: 0,
            segments: self.store(&[segment.encode()]),
        }
    }

    /// Steps as a layer.
    pub fn delta(&self, steps: &[Step]) -> Layer {
        let (first, last) = (&steps[0].state, &steps[steps.len() - 1].state);
        let low_page_count = steps.iter().map(|step| step.state.low_page_count).min().expect("steps");
        Layer {
            kind: LayerKind::Delta,
            first_commit: first.commit,
            last_commit: last.commit,
            page_count: last.page_count,
            low_page_count,
            record_bytes: 0,
            segments: self.store(&segments(steps)),
        }
    }

    /// A snapshot of the newest state.
    pub fn snapshot(&self, history: &History, layers: Vec<Layer>) -> ObjectHash {
        let manifest = Manifest {
            strategy: if layers.len() == 1 { Strategy::Full } else { Strategy::Continuous },
            tags: Vec::new(),
            host: "host".into(),
            source: "/data/hand.db".into(),
            captured: UnixMicros(history.commit() as i64),
            tool: "by hand".into(),
            journal_mode: "wal".into(),
            page_size: PAGE as u32,
            page_count: history.pages.len() as u32,
            root: history.root(),
            commit: history.commit(),
            lineage: 1,
            layers,
            added: 0,
        };
        self.append(Event::Snapshot(manifest))
    }

    /// A watcher begins.
    pub fn watch(&self, writer: u8) {
        self.append(Event::WatchStarted(Watch { writer: WriterId([writer; 16]), host: "host".into() }));
    }

    fn append(&self, event: Event) -> ObjectHash {
        let (mut timeline, faults) = timeline::load(&self.repository, NAME).expect("the timeline");
        assert!(faults.is_empty());
        timeline.append(&self.repository, NAME, event, timeline::Behind::Nothing).expect("the entry is stored")
    }

    /// A journal object of parts, each with the snapshot that it continues.
    pub fn journal(&self, writer: u8, sequence: u64, parts: &[(ObjectHash, &[Step])]) {
        let part = |&(base, steps): &(ObjectHash, &[Step])| {
            let segments = segments(steps);
            assert_eq!(segments.len(), 1);
            JournalPart {
                database: NAME.into(),
                base,
                first_commit: steps[0].state.commit,
                last_commit: steps[steps.len() - 1].state.commit,
                segment: codec::encode(&segments[0], Compression::default()),
            }
        };
        let flush = JournalObject { parts: parts.iter().map(part).collect() };
        let (writer, context) = (WriterId([writer; 16]), self.repository.config().seal_context());
        let object = flush.seal(writer, sequence, &context, self.repository.keys(), &OsEntropy);
        self.repository.store().create(&ObjectName::journal(writer, sequence), &object).expect("the object is stored");
    }
}
