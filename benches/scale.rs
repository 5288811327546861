//! A repository with millions of chunks, and what the everyday commands take of time and memory there: `cargo bench --bench scale [-- CHUNKS]`.
//!
//! **Synthetic**: the index, the timelines and the page maps are real objects; the packs that the index lists are files of the right length without content (a pack of page maps is
//! real). So what reads the index, timelines and page maps is measured as it is; nothing that reads data can be.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::Instant;

use continuum::base::clock::{SystemClock, SystemTimer, UnixMicros};
use continuum::base::entropy::{Entropy, OsEntropy};
use continuum::base::id::{ChunkId, ImageRoot, ObjectHash};
use continuum::base::page::PageNo;
use continuum::chunk::codec::Compression;
use continuum::crypto::password::Cost;
use continuum::format::index::{IndexSegment, ListedPack};
use continuum::format::layer::{LayerSegment, PageChunk, Run, RunContent};
use continuum::format::manifest::{Layer, LayerKind, Manifest, Strategy};
use continuum::format::name::ObjectName;
use continuum::format::pack::PackedChunk;
use continuum::format::timeline::Event;
use continuum::monitor::Silent;
use continuum::ops::check::{CheckOptions, ReadData, check};
use continuum::ops::forget::{ForgetOptions, What, plan_forget};
use continuum::ops::prune::{PruneOptions, plan_prune};
use continuum::ops::repair::{RepairOptions, plan_repair};
use continuum::ops::snapshot::{Choice, SnapshotOptions, snapshot};
use continuum::ops::snapshots::snapshots;
use continuum::policy::refusal::Allowed;
use continuum::policy::retention::Policy;
use continuum::repo::chunk_writer::{ChunkWriter, EncodeOptions};
use continuum::repo::index::Index;
use continuum::repo::timeline::{self, Behind};
use continuum::repo::{self, Environment, InitOptions, Repository};
use continuum::source::CaptureOptions;
use continuum::store::Store;
use continuum::store::around::cache::Cache;
use continuum::store::local::LocalStore;
use continuum::store::state::LocalState;

const PASSWORD: &str = "synthetic";
const CHUNK_PAGES: u32 = 16;
const CHUNKS_A_PACK: usize = 256;
const CHUNK_BYTES: u32 = 32 << 10;
const SEGMENT_PAGES: u32 = 65_536;
/// Snapshots of the large database; each has new page maps for a part of it.
const SNAPSHOTS: u64 = 100;

fn main() {
    let mut arguments = std::env::args().skip(1).filter(|argument| argument != "--bench");
    match arguments.next().as_deref() {
        Some("measure") => {
            let (action, folder) = (arguments.next(), arguments.next());
            measure(&action.unwrap_or_default(), Path::new(&folder.unwrap_or_default()));
        }
        count => run(count.and_then(|count| count.parse().ok()).unwrap_or(5_000_000)),
    }
}

fn run(chunk_count: usize) {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let begun = Instant::now();
    make(folder.path(), chunk_count);
    println!("a synthetic repository of {chunk_count} chunks, made in {:.0} s", begun.elapsed().as_secs_f64());
    println!("{:<34} {:>8} {:>9}", "", "seconds", "peak MiB");
    for action in [
        "fill the cache",
        "open from the cache",
        "snapshots",
        "incremental",
        "incremental again",
        "forget --dry-run",
        "prune plan",
        "check",
        "repair plan",
    ] {
        let program = std::env::current_exe().expect("this program");
        let done = Command::new(program).args(["measure", action]).arg(folder.path()).status().expect("it runs");
        assert!(done.success(), "{action} failed");
    }
}

/// Does one thing in this process and says what it took.
fn measure(action: &str, folder: &Path) {
    let begun = Instant::now();
    let what = match action {
        "fill the cache" | "open from the cache" => {
            let store = Cache::new(Arc::new(LocalStore::new(folder.join("repository"))), folder.join("cache"));
            let repository = open(Arc::new(store), folder);
            let (index, faults) = Index::load(&repository).expect("the index");
            assert!(faults.is_empty());
            format!("{} places", index.len())
        }
        "snapshots" => {
            let (found, faults) = snapshots(&open_local(folder), None).expect("the snapshots");
            assert!(faults.is_empty());
            format!("{} snapshots", found.len())
        }
        "incremental" | "incremental again" => {
            let small = folder.join("small.db");
            let database = rusqlite::Connection::open(&small).expect("a database");
            let sql = "CREATE TABLE IF NOT EXISTS t (a); INSERT INTO t VALUES (randomblob(50000));";
            database.execute_batch(sql).expect("SQL");
            let options = SnapshotOptions {
                name: "small".into(),
                choice: Choice::Auto,
                tags: Vec::new(),
                host: "bench".into(),
                compression: Compression::default(),
                verify: true,
                capture: CaptureOptions::default(),
                take_over: false,
            };
            let summary = snapshot(&open_local(folder), &small, &options, &Silent).expect("a snapshot");
            format!("{} pages", summary.changed_pages)
        }
        "forget --dry-run" => forget(folder),
        "prune plan" => {
            let plan = plan_prune(&open_local(folder), PruneOptions::default(), &Silent).expect("a plan");
            format!("{} packs, {} not needed", plan.packs.count, plan.unneeded.count + plan.young.count)
        }
        "check" => {
            // The one pack that is read has no content: a fault, which the repair then has to plan for.
            let options = CheckOptions { read_data: ReadData::Bytes(1), ..CheckOptions::default() };
            let report = check(&open_local(folder), &options, &SystemTimer::default(), &Silent).expect("a report");
            format!("{} snapshots, {} packs, {} fault", report.snapshot_count, report.pack_count, report.faults.len())
        }
        "repair plan" => {
            let plan = plan_repair(&open_local(folder), RepairOptions::default(), &[], &Silent).expect("a plan");
            format!("{} pack given up, {} snapshots affected", plan.given_up.len(), plan.affected.len())
        }
        _ => panic!("no such action: {action}"),
    };
    println!("{action:<34} {:>8.2} {:>9}  {what}", begun.elapsed().as_secs_f64(), peak_mib());
}

fn forget(folder: &Path) -> String {
    let allowed = Allowed { odd_times: false, max_share: 1.0 };
    let what = What::ByPolicy { policy: Policy::default(), zone: jiff::tz::TimeZone::UTC, allowed };
    let options = ForgetOptions { what, name: None, grace: 0 };
    let plan = plan_forget(&open_local(folder), &options, &Silent).expect("a plan");
    format!("{} MiB would come back", plan.freed_bytes.unwrap_or_default() >> 20)
}

fn random() -> [u8; 32] {
    let entropy: &dyn Entropy = &OsEntropy;
    entropy.bytes()
}

fn peak_mib() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    line.and_then(|line| line.trim().trim_end_matches(" kB").parse::<u64>().ok()).map_or(0, |kib| kib >> 10)
}

fn environment(folder: &Path) -> Environment {
    Environment {
        clock: Arc::new(SystemClock),
        entropy: Arc::new(OsEntropy),
        state: Some(LocalState::new(folder.join("state"))),
        upload_threads: 1,
        fetch_threads: 2,
    }
}

fn open(store: Arc<dyn Store>, folder: &Path) -> Repository {
    repo::open(store, &PASSWORD.into(), environment(folder)).expect("the repository opens")
}

fn open_local(folder: &Path) -> Repository {
    open(Arc::new(LocalStore::new(folder.join("repository"))), folder)
}

fn make(folder: &Path, chunk_count: usize) {
    let root = folder.join("repository");
    fs::create_dir_all(&root).expect("a folder");
    let cost = Cost { memory_kib: 64, passes: 1, lanes: 1 };
    let options = InitOptions { cost, ..InitOptions::default() };
    let store = Arc::new(LocalStore::new(root.clone()));
    let repository = repo::init(store, &PASSWORD.into(), options, environment(folder)).expect("a repository");
    let mut chunks = Vec::with_capacity(chunk_count);
    let mut segment = IndexSegment::default();
    while chunks.len() < chunk_count {
        let count = CHUNKS_A_PACK.min(chunk_count - chunks.len());
        let pack = make_pack(&root, count);
        let packed: Vec<PackedChunk> = (0..count)
            .map(|at| {
                let (id, offset) = (ChunkId(random()), 92 + at as u32 * CHUNK_BYTES);
                PackedChunk { id, offset, length: CHUNK_BYTES }
            })
            .collect();
        chunks.extend(packed.iter().map(|chunk| chunk.id));
        segment.add(pack, &packed);
        if segment.entries.len() + CHUNKS_A_PACK > 65_536 || chunks.len() == chunk_count {
            list(&repository, std::mem::take(&mut segment));
        }
    }
    make_history(&repository, &chunks);
}

/// A file of the right length, and nothing in it.
fn make_pack(root: &Path, chunk_count: usize) -> ListedPack {
    let (name, length) = (ObjectHash(random()), 92 + chunk_count as u64 * u64::from(CHUNK_BYTES) + 4096);
    let path: PathBuf = root.join(ObjectName::pack(name).as_str());
    fs::create_dir_all(path.parent().expect("a folder")).expect("a folder");
    File::create(path).and_then(|file| file.set_len(length)).expect("a file without content");
    ListedPack { name, length }
}

fn list(repository: &Repository, segment: IndexSegment) {
    let object = segment.seal(&repository.config().seal_context(), &repository.keys().index, &OsEntropy);
    repository.store().create(&ObjectName::index(ObjectHash::of(&object)), &object).expect("a segment");
}

/// Snapshots of one database of all these chunks. From one to the next the page maps of a hundredth change.
fn make_history(repository: &Repository, chunks: &[ChunkId]) {
    let chunks_a_map = (SEGMENT_PAGES / CHUNK_PAGES) as usize;
    let page_count = chunks.len() as u32 * CHUNK_PAGES;
    let index = Index::default();
    let (mut timeline, _) = timeline::load(repository, "large").expect("a timeline");
    timeline.begin(repository, "large").expect("an entry");
    let mut writer = ChunkWriter::new(repository, &index, EncodeOptions::default());
    let mut maps: Vec<ChunkId> = Vec::new();
    for commit in 1..=SNAPSHOTS {
        for (position, chunks) in chunks.chunks(chunks_a_map).enumerate() {
            if commit == 1 || position as u64 % SNAPSHOTS == commit - 1 {
                let stored = writer.store(&page_map(position, chunks, commit)).expect("a page map");
                maps.splice(position..(position + 1).min(maps.len()), [stored]);
            }
        }
        writer.settle().expect("the page maps");
        let captured = UnixMicros(1_700_000_000_000_000 + commit as i64 * 86_400_000_000);
        let layer = Layer {
            kind: LayerKind::Image,
            first_commit: commit,
            last_commit: commit,
            page_count,
            low_page_count: page_count,
            record_bytes: 0,
            segments: maps.clone(),
        };
        let manifest = Manifest {
            strategy: Strategy::Full,
            tags: Vec::new(),
            host: "bench".into(),
            source: "/synthetic".into(),
            captured,
            tool: "synthetic".into(),
            journal_mode: "wal".into(),
            page_size: 4096,
            page_count,
            root: ImageRoot(random()),
            commit,
            lineage: 1,
            layers: vec![layer],
            added: 0,
        };
        timeline.append(repository, "large", Event::Snapshot(manifest), Behind::Nothing).expect("an entry");
    }
}

/// The map of a segment. Of each version another chunk is not used, so that the versions differ.
fn page_map(position: usize, chunks: &[ChunkId], version: u64) -> Vec<u8> {
    let run = |(at, &id): (usize, &ChunkId)| {
        let is_zero = version > 1 && at as u64 == version;
        let chunk = PageChunk { id, pages: CHUNK_PAGES };
        let content = if is_zero { RunContent::Zeros } else { RunContent::Chunk { chunk, first: 0 } };
        Run { pages: CHUNK_PAGES, content }
    };
    let first_page = PageNo(position as u32 * SEGMENT_PAGES + 1);
    LayerSegment { first_page, runs: chunks.iter().enumerate().map(run).collect() }.encode()
}
