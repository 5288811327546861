//! A database of a few pages in memory, with its history, and its pinned states.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use continuum::base::clock::UnixMicros;
use continuum::base::id::ImageRoot;
use continuum::base::page::{PageCount, PageNo, PageReader, PageSize};
use continuum::format::position::{FileFacts, Position, WalPosition};
use continuum::source::{Changes, EarlierPages, Pinned, SourceError, Tier};

use crate::random::Random;

/// Different contents of pages: few, so that chunks come back.
const CONTENTS: u64 = 10;

/// Bytes of a page.
type Page = Arc<[u8]>;

/// See the module documentation. A clone is the same database.
#[derive(Clone)]
pub struct Database {
    name: String,
    number: u64,
    page_size: PageSize,
    file: Arc<Mutex<File>>,
}

struct File {
    /// Another file stands at the path, or the WAL was made anew.
    generation: u64,
    inode: u64,
    pages: Vec<Page>,
    /// Of this generation.
    commits: Vec<Commit>,
    change_counter: u32,
}

struct Commit {
    written: BTreeMap<u32, Page>,
    before: Arc<Vec<u8>>,
    after: Arc<Vec<u8>>,
}

/// What one commit wrote.
pub struct Written {
    /// The pages, ascending.
    pub pages: Vec<PageNo>,
    /// The image before.
    pub before: Arc<Vec<u8>>,
    /// The image after.
    pub after: Arc<Vec<u8>>,
    /// Where it stands in the WAL.
    pub position: WalPosition,
}

impl Database {
    /// A database of a few pages.
    pub fn new(number: u64, page_size: PageSize, page_count: u64, random: &mut Random) -> Self {
        let pages = (0..page_count).map(|_| content(page_size, random.below(CONTENTS))).collect();
        let file = File { generation: 1, inode: number + 1, pages, commits: Vec::new(), change_counter: 1 };
        Self { name: format!("database-{number}"), number, page_size, file: Arc::new(Mutex::new(file)) }
    }

    /// Its name in the repository.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Bytes of a page.
    pub fn page_size(&self) -> PageSize {
        self.page_size
    }

    /// The image now.
    pub fn image(&self) -> Vec<u8> {
        self.file().pages.concat()
    }

    /// Commits a transaction.
    pub fn commit(&self, random: &mut Random) {
        let mut file = self.file();
        let before = Arc::new(file.pages.concat());
        let mut written = BTreeMap::new();
        let count = file.pages.len() as u64;
        match random.below(10) {
            0 => file.pages.truncate(random.between(count.div_ceil(2).max(2), count) as usize),
            1 | 2 if count < 40 => {
                for _ in 0..random.between(1, 4) {
                    let page = content(self.page_size, random.below(CONTENTS));
                    file.pages.push(Arc::clone(&page));
                    written.insert(file.pages.len() as u32, page);
                }
            }
            3 => {
                // What another database, or this one once, may look like.
                let template = random.below(3);
                for at in 0..file.pages.len() {
                    let page = content(self.page_size, (template + at as u64 / 3) % CONTENTS);
                    file.write(at, page, &mut written);
                }
            }
            _ => {
                for _ in 0..random.between(1, 3) {
                    let at = random.below(file.pages.len() as u64) as usize;
                    let page = if random.chance(500) {
                        content(self.page_size, random.below(CONTENTS))
                    } else {
                        tweaked(&file.pages[at], random)
                    };
                    file.write(at, page, &mut written);
                }
            }
        }
        file.change_counter += 1;
        let after = Arc::new(file.pages.concat());
        file.commits.push(Commit { written, before, after });
    }

    /// The commits behind a place in the WAL, if it still is that WAL.
    pub fn commits_behind(&self, then: &WalPosition) -> Option<Vec<Written>> {
        let file = self.file();
        let salts = salts(self.number, file.generation);
        if salts != then.salts {
            return None;
        }
        let commits = (then.frames + 1..).zip(file.commits.get(then.frames as usize..)?);
        let written = |(frames, commit): (u32, &Commit)| Written {
            pages: commit.written.keys().map(|&page| PageNo(page)).collect(),
            before: Arc::clone(&commit.before),
            after: Arc::clone(&commit.after),
            position: WalPosition { salts, frames, checksum: (frames, 0) },
        };
        Some(commits.map(written).collect())
    }

    /// Restarts the WAL more than once, or puts another file in the place of this one: nothing proves any more what changed.
    pub fn lose_history(&self, replace: bool) {
        let mut file = self.file();
        file.generation += 2;
        file.commits.clear();
        file.change_counter += 1;
        file.inode += u64::from(replace) * 1000;
    }

    /// Pins the newest state.
    pub fn pin(&self) -> PinnedDatabase {
        let file = self.file();
        let pages = ImagePages {
            database: self.clone(),
            page_count: PageCount(file.pages.len() as u32),
            image: file.pages.concat(),
        };
        let (generation, inode, frames) = (file.generation, file.inode, file.commits.len() as u32);
        let facts = FileFacts {
            device: 1,
            inode,
            bytes: pages.image.len() as u64,
            modified_ns: i64::from(file.change_counter),
            changed_ns: i64::from(file.change_counter),
            change_counter: file.change_counter,
            settled: false,
        };
        let wal = WalPosition { salts: salts(self.number, generation), frames, checksum: (frames, 0) };
        PinnedDatabase { path: PathBuf::from(format!("/data/{}.db", self.name)), pages, facts, wal }
    }

    fn file(&self) -> MutexGuard<'_, File> {
        self.file.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl File {
    fn write(&mut self, at: usize, page: Page, written: &mut BTreeMap<u32, Page>) {
        written.insert(at as u32 + 1, Arc::clone(&page));
        self.pages[at] = page;
    }
}

fn salts(number: u64, generation: u64) -> [u8; 8] {
    (number << 32 | generation).to_le_bytes()
}

/// Of each three contents one is zeros but for a few bytes and two are random.
fn content(page_size: PageSize, number: u64) -> Page {
    let mut page = vec![0; page_size.bytes()];
    if number > 0 {
        let random = if number.is_multiple_of(3) { &mut page[8..24] } else { &mut page[..] };
        blake3::Hasher::new().update(&number.to_le_bytes()).finalize_xof().fill(random);
    }
    page.into()
}

fn tweaked(page: &Page, random: &mut Random) -> Page {
    let mut page = page.to_vec();
    let at = random.below(page.len() as u64) as usize;
    page[at] ^= random.between(1, 255) as u8;
    page.into()
}

/// The name of an image by its bytes.
pub fn root_of(image: &[u8]) -> ImageRoot {
    ImageRoot(*blake3::hash(image).as_bytes())
}

/// See the module documentation.
pub struct PinnedDatabase {
    path: PathBuf,
    pages: ImagePages,
    facts: FileFacts,
    wal: WalPosition,
}

/// The pages of a pinned state.
pub struct ImagePages {
    database: Database,
    page_count: PageCount,
    image: Vec<u8>,
}

impl PinnedDatabase {
    /// All pages, one after the other.
    pub fn image(&self) -> &[u8] {
        &self.pages.image
    }
}

impl Pinned for PinnedDatabase {
    type Pages = ImagePages;

    fn pages(&self) -> &ImagePages {
        &self.pages
    }

    fn path(&self) -> &Path {
        &self.path
    }

    fn journal_mode(&self) -> &str {
        "wal"
    }

    fn recovered(&self) -> bool {
        false
    }

    fn file_facts(&self, _: UnixMicros) -> Result<FileFacts, SourceError> {
        Ok(self.facts)
    }

    fn wal_position(&self) -> Option<WalPosition> {
        Some(self.wal)
    }

    fn changes_since(&self, then: &Position, file: FileFacts) -> Result<Changes, SourceError> {
        let Some(wal) = then.wal.filter(|wal| wal.salts == self.wal.salts && then.file.same_file(&file)) else {
            return Ok(Changes::unknown("nothing connects this state with the last capture"));
        };
        let file = self.pages.database.file();
        let commits = file.commits.get(wal.frames as usize..self.wal.frames as usize);
        let Some(commits) = commits.filter(|_| self.wal.salts == salts(self.pages.database.number, file.generation))
        else {
            return Ok(Changes::unknown("the WAL was restarted meanwhile"));
        };
        let pages: BTreeSet<PageNo> =
            commits.iter().flat_map(|commit| commit.written.keys().map(|&page| PageNo(page))).collect();
        // A commit that only cuts the database writes no page here, and still makes another state.
        let tier = if commits.is_empty() { Tier::Unchanged } else { Tier::WalTail };
        Ok(Changes { tier, pages, reasons: Vec::new(), rewound: false })
    }

    fn map_wal(&mut self) -> Result<(), SourceError> {
        Ok(())
    }
}

impl PageReader for ImagePages {
    type Error = SourceError;

    fn page_size(&self) -> PageSize {
        self.database.page_size
    }

    fn page_count(&self) -> PageCount {
        self.page_count
    }

    fn read(&self, first: PageNo, buffer: &mut [u8]) -> Result<(), SourceError> {
        let start = (first.0 as usize - 1) * self.database.page_size.bytes();
        buffer.copy_from_slice(&self.image[start..start + buffer.len()]);
        Ok(())
    }
}

impl EarlierPages for ImagePages {
    fn frames_before(&self, then: &WalPosition) -> HashMap<PageNo, u32> {
        let file = self.database.file();
        let mut frames = HashMap::new();
        if then.salts == salts(self.database.number, file.generation) {
            for (frame, commit) in (0..then.frames).zip(&file.commits) {
                frames.extend(commit.written.keys().map(|&page| (PageNo(page), frame)));
            }
        }
        frames
    }

    fn read_candidate(&self, page: PageNo, frame: Option<u32>, buffer: &mut [u8]) -> Result<bool, SourceError> {
        let file = self.database.file();
        let found = frame.and_then(|frame| file.commits.get(frame as usize)?.written.get(&page.0));
        if let Some(found) = found {
            buffer.copy_from_slice(found);
        }
        Ok(found.is_some())
    }
}
