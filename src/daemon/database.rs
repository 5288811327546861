//! One watched database: attached by a snapshot, then followed commit by commit.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use crate::base::clock::UnixMicros;
use crate::base::error_text::with_causes;
use crate::base::id::{ObjectHash, WriterId};
use crate::base::image_tree::Leaves;
use crate::base::page::PageNo;
use crate::format::delta::{StepPart, StepState};
use crate::format::manifest::Manifest;
use crate::format::position::Position;
use crate::format::timeline::{Event, Watch};
use crate::monitor::{self, Monitor};
use crate::ops::fold::{Fold, adopt, fold_steps};
use crate::ops::snapshot::{SnapshotError, SnapshotOptions, Taken, snapshot_pinned};
use crate::repo::chunk_writer::EncodeOptions;
use crate::repo::delta_writer::leaf_records;
use crate::repo::memory::Memory;
use crate::repo::timeline::{Behind, Timeline};
use crate::repo::{Repository, RepositoryError, timeline};
use crate::source::{Capture, CommitFrames, Follower, Pinned, SourceError, Trimmed, looks_unchanged};
use crate::store::page_map::PageMap;

/// A commit that writes more than this is not read page by page: a snapshot takes it, which needs no memory for it.
const LARGE_COMMIT_BYTES: u64 = 16 << 20;

/// A step with more record bytes than this goes into packs at once: it would not fit a journal part.
const JOURNAL_STEP_BYTES: u64 = 2 << 20;

/// Record bytes that are captured before they have to be folded.
const STEPS_BYTES: u64 = 32 << 20;

/// A writer that is so far ahead is not followed commit by commit: a snapshot catches up with it.
const BACKLOG_BYTES: u64 = 256 << 20;

/// How long to wait before a database that cannot be attached is tried again, at first and at most.
const RETRY: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(30));

/// Pins are rolled at most this often.
const ROLL_INTERVAL: Duration = Duration::from_millis(100);

/// Whether the path still leads to the followed file is looked at this often.
const PLACE_INTERVAL: Duration = Duration::from_secs(1);

/// How a database is watched.
#[derive(Clone, Debug)]
pub struct DatabaseOptions {
    /// Its file.
    pub path: PathBuf,
    /// As for any snapshot of it.
    pub snapshot: SnapshotOptions,
    /// Beyond so many bytes of WAL, passive checkpoints are run.
    pub wal_limit_bytes: u64,
    /// A database without a WAL is compared at most this often.
    pub scan_interval: Duration,
}

/// Why a database has to be attached anew.
enum Lost {
    Source(SourceError),
    Repository(RepositoryError),
    Reason(&'static str),
}

impl From<SourceError> for Lost {
    fn from(error: SourceError) -> Self {
        Self::Source(error)
    }
}

impl From<RepositoryError> for Lost {
    fn from(error: RepositoryError) -> Self {
        Self::Repository(error)
    }
}

impl From<SnapshotError> for Lost {
    fn from(error: SnapshotError) -> Self {
        match error {
            SnapshotError::Source(error) => Self::Source(error),
            SnapshotError::Repository(error) => Self::Repository(error),
        }
    }
}

impl std::fmt::Display for Lost {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&match self {
            Self::Reason(reason) => (*reason).to_owned(),
            Self::Source(error) => with_causes(error),
            Self::Repository(error) => with_causes(error),
        })
    }
}

/// See the module documentation.
pub struct Database {
    options: DatabaseOptions,
    writer: WriterId,
    memory: Memory,
    link: Link,
    /// The last thing that went wrong.
    pub last_error: Option<String>,
    /// What the destination said last, if it refused a fold or a snapshot.
    pub destination_error: Option<String>,
    /// Commits captured since the watcher began.
    pub commit_count: u64,
    /// Commits that are durable in the destination.
    pub acknowledged: u64,
    /// Whether steps are in the journal that only [`adopt`] can fold, because they are not in memory any more.
    pub journaled: bool,
}

enum Link {
    Detached {
        retry_at: Instant,
        pause: Duration,
    },
    /// In WAL mode.
    Following(Box<Following>),
    /// In another mode: compared when its file has changed.
    Scanning(Box<Scanning>),
}

struct Scanning {
    timeline: Timeline,
    position: Position,
    next_scan: Instant,
}

struct Following {
    timeline: Timeline,
    base: (ObjectHash, Manifest),
    position: Position,
    map: PageMap,
    /// After the last step.
    state: StepState,
    /// Steps since `base`; those from `flushed` on are in no journal object yet.
    steps: Vec<StepPart>,
    flushed: usize,
    record_bytes: u64,
    /// A step is too large for the journal.
    large: bool,
    rolled: Instant,
    place_checked: Instant,
    follower: Follower,
}

/// Steps for the journal.
pub struct Pending<'a> {
    /// The snapshot that they continue.
    pub base: ObjectHash,
    /// The database's name.
    pub name: &'a str,
    /// The steps.
    pub steps: &'a [StepPart],
}

impl Database {
    /// Claims the database's memory. It is attached by the first [`tick`](Self::tick).
    pub fn new(repository: &Repository, options: DatabaseOptions, writer: WriterId) -> Result<Self, RepositoryError> {
        let none = || RepositoryError::LocalState(std::io::Error::other("a watcher needs a place for its local state"));
        let memory = Memory::claim(repository, &options.snapshot.name)?.ok_or_else(none)?;
        let link = Link::Detached { retry_at: Instant::now(), pause: RETRY.0 };
        let (last_error, destination_error) = (None, None);
        Ok(Self {
            options,
            writer,
            memory,
            link,
            last_error,
            destination_error,
            commit_count: 0,
            acknowledged: 0,
            journaled: false,
        })
    }

    /// Its name in the repository.
    pub fn name(&self) -> &str {
        &self.options.snapshot.name
    }

    /// Its file.
    pub fn path(&self) -> &Path {
        &self.options.path
    }

    /// What it is doing, for people.
    pub fn activity(&self) -> &'static str {
        match &self.link {
            Link::Detached { .. } => "waiting",
            Link::Following(_) => "following",
            Link::Scanning(_) => "scanning",
        }
    }

    /// Bytes of the WAL.
    pub fn wal_bytes(&self) -> u64 {
        if let Link::Following(following) = &self.link { following.follower.wal_bytes() } else { 0 }
    }

    /// The number of the last captured state.
    pub fn last_commit(&self) -> Option<u64> {
        if let Link::Following(following) = &self.link { Some(following.state.commit) } else { None }
    }

    /// Does what is due: captures, rolls pins, and, if it `may_attach`, attaches. Returns whether anything was captured.
    ///
    /// A database may attach only when nothing waits in the journal: the snapshot folds what the journal holds of it, and what came later would not count.
    pub fn tick(&mut self, repository: &Repository, may_attach: bool, monitor: &dyn Monitor, now: Instant) -> bool {
        let result = match &mut self.link {
            Link::Detached { retry_at, .. } if *retry_at > now || !may_attach => return false,
            Link::Detached { .. } => self.attach(repository, monitor).map(|()| true),
            Link::Following(_) => self.follow(repository, now),
            Link::Scanning(scanning) if scanning.next_scan > now => return false,
            Link::Scanning(_) => self.rescan(repository, monitor, now),
        };
        match result {
            Ok(captured) => captured,
            Err(lost) => {
                self.lose(repository, &lost, monitor, now);
                false
            }
        }
    }

    fn note_refusal(&mut self, error: &RepositoryError) {
        if let RepositoryError::Store(error) = error {
            self.destination_error = Some(with_causes(error));
        }
    }

    /// Says what went wrong, saves what was captured, and tries again soon.
    fn lose(&mut self, repository: &Repository, lost: &Lost, monitor: &dyn Monitor, now: Instant) {
        let text = format!("{}: {lost}", self.name());
        if self.last_error.as_ref() != Some(&text) {
            monitor.event(monitor::Event::Notice(text.clone()));
        }
        self.last_error = Some(text);
        if let Lost::Repository(error) = lost {
            self.note_refusal(error);
        }
        let pause = match &self.link {
            Link::Detached { pause, .. } => (*pause * 2).min(RETRY.1),
            // What a proof failed for can be had by a snapshot at once.
            _ if matches!(lost, Lost::Reason(_) | Lost::Source(SourceError::Gap(_) | SourceError::WalRestarted(_))) => {
                Duration::ZERO
            }
            _ => RETRY.0,
        };
        // The steps stay restorable from the journal if this fails; the next snapshot folds them from there.
        let _ = self.fold(repository, EncodeOptions::default(), monitor);
        self.detach(now + pause);
        if let Link::Detached { pause: next, .. } = &mut self.link {
            *next = pause.max(RETRY.0);
        }
    }

    fn attach(&mut self, repository: &Repository, monitor: &dyn Monitor) -> Result<(), Lost> {
        let options = &self.options.snapshot;
        let mut capture = Capture::open(&self.options.path, options.capture)?;
        let taken = snapshot_pinned(repository, &mut capture, Some(&self.memory), options, monitor)?;
        let Taken { summary, position, map, mut timeline } = taken;
        self.memory.save_writer(self.writer)?;
        let watch = Watch { writer: self.writer, host: options.host.clone() };
        timeline.append(repository, &options.name, Event::WatchStarted(watch), Behind::Housekeeping(None))?;
        let how = match summary.reasons.as_slice() {
            [] => summary.tier.to_string(),
            reasons => format!("{}: {}", summary.tier, reasons.join("; ")),
        };
        monitor.event(monitor::Event::Notice(format!(
            "{}: watching from commit {} on, caught up by {} ({how}), {} pages changed",
            options.name, summary.manifest.commit, summary.manifest.strategy, summary.changed_pages
        )));
        self.last_error = None;
        self.destination_error = None;
        self.journaled = false;
        self.acknowledged = summary.manifest.commit;
        let now = Instant::now();
        if !capture.has_wal() {
            capture.finish()?;
            self.link = Link::Scanning(Box::new(Scanning { timeline, position, next_scan: now }));
            return Ok(());
        }
        let Manifest { commit, captured, page_count, root, .. } = summary.manifest;
        let state = StepState { commit, captured, page_count, low_page_count: page_count, root };
        let map = map.ok_or(Lost::Reason("no page map"))?;
        let follower = Follower::new(capture, options.capture)?;
        self.link = Link::Following(Box::new(Following {
            timeline,
            base: (summary.id, summary.manifest),
            position,
            map,
            state,
            steps: Vec::new(),
            flushed: 0,
            record_bytes: 0,
            large: false,
            rolled: now,
            place_checked: now,
            follower,
        }));
        Ok(())
    }

    fn follow(&mut self, repository: &Repository, now: Instant) -> Result<bool, Lost> {
        let Link::Following(following) = &mut self.link else { return Ok(false) };
        if following.timeline.is_damaged(&following.base.1) {
            return Err(Lost::Reason("a repair has found damage in the snapshot that its commits continue"));
        }
        if now.duration_since(following.place_checked) >= PLACE_INTERVAL {
            following.place_checked = now;
            if !following.follower.is_in_place() {
                // What was committed to the old file until now counts.
                self.commit_count += following.capture(repository.environment().clock.now())?;
                return Err(Lost::Reason("the file was replaced or removed"));
            }
        }
        let captured = following.capture(repository.environment().clock.now())?;
        self.commit_count += captured;
        if following.follower.lags() && now.duration_since(following.rolled) >= ROLL_INTERVAL {
            following.rolled = now;
            self.commit_count += following.roll(repository, self.options.wal_limit_bytes)?;
        }
        Ok(captured > 0)
    }

    /// Captures everything that was committed before this call.
    pub fn catch_up(&mut self, repository: &Repository, monitor: &dyn Monitor) {
        if let Link::Scanning(scanning) = &mut self.link {
            scanning.next_scan = Instant::now();
        }
        self.tick(repository, false, monitor, Instant::now());
        loop {
            let Link::Following(following) = &mut self.link else { return };
            match following.capture(repository.environment().clock.now()) {
                Ok(captured) => self.commit_count += captured,
                Err(lost) => return self.lose(repository, &lost, monitor, Instant::now()),
            }
            if following.record_bytes <= STEPS_BYTES
                || self.fold(repository, EncodeOptions::default(), monitor).is_err()
            {
                return;
            }
        }
    }

    fn rescan(&mut self, repository: &Repository, monitor: &dyn Monitor, now: Instant) -> Result<bool, Lost> {
        let Link::Scanning(scanning) = &mut self.link else { return Ok(false) };
        let Scanning { timeline, position, next_scan } = &mut **scanning;
        *next_scan = now + PLACE_INTERVAL;
        let options = &self.options.snapshot;
        if looks_unchanged(&self.options.path, &position.file) {
            return Ok(false);
        }
        let mut capture = Capture::open(&self.options.path, options.capture)?;
        if capture.has_wal() {
            drop(capture);
            return Err(Lost::Reason("the database is in WAL mode now"));
        }
        // Our own announcement is open: it ends for as long as the snapshot takes.
        let watch = Watch { writer: self.writer, host: options.host.clone() };
        timeline.append(repository, &options.name, Event::WatchEnded(watch.clone()), Behind::Housekeeping(None))?;
        let taken = snapshot_pinned(repository, &mut capture, Some(&self.memory), options, monitor)?;
        capture.finish()?;
        self.commit_count += u64::from(taken.summary.changed_pages > 0);
        self.acknowledged = taken.summary.manifest.commit;
        (*timeline, *position) = (taken.timeline, taken.position);
        timeline.append(repository, &options.name, Event::WatchStarted(watch), Behind::Housekeeping(None))?;
        *next_scan = now + self.options.scan_interval;
        Ok(true)
    }

    /// Steps that are in no journal object yet; from now on they are counted as flushed.
    pub fn take_pending(&mut self) -> Option<Pending<'_>> {
        let Link::Following(following) = &mut self.link else { return None };
        if following.large || following.flushed == following.steps.len() {
            return None;
        }
        let steps = &following.steps[following.flushed..];
        following.flushed = following.steps.len();
        Some(Pending { base: following.base.0, name: &self.options.snapshot.name, steps })
    }

    /// When the oldest commit was captured that is not durable in the destination yet.
    pub fn oldest_waiting(&self) -> Option<UnixMicros> {
        let Link::Following(following) = &self.link else { return None };
        let waiting = following.steps.iter().find(|step| step.state.commit > self.acknowledged);
        waiting.map(|step| step.state.captured)
    }

    /// Record bytes since the last fold.
    pub fn unfolded_bytes(&self) -> u64 {
        if let Link::Following(following) = &self.link { following.record_bytes } else { 0 }
    }

    /// Whether a step waits that only a fold can store.
    pub fn must_fold(&self) -> bool {
        matches!(&self.link, Link::Following(following) if following.large || following.record_bytes > STEPS_BYTES)
    }

    /// Folds all steps into the timeline. Returns whether there were any.
    pub fn fold(
        &mut self,
        repository: &Repository,
        encode: EncodeOptions,
        monitor: &dyn Monitor,
    ) -> Result<bool, RepositoryError> {
        let Link::Following(following) = &mut self.link else { return Ok(false) };
        if following.steps.is_empty() {
            return Ok(false);
        }
        let name = &self.options.snapshot.name;
        let base = (following.base.0, &following.base.1);
        let fold = Fold { repository, name, encode, monitor };
        let folded = fold_steps(&fold, &mut following.timeline, base, &following.steps);
        let (id, manifest) = match folded {
            Ok(folded) => folded,
            Err(error) => {
                self.note_refusal(&error);
                return Err(error);
            }
        };
        self.destination_error = None;
        self.acknowledged = manifest.commit;
        following.position = Position {
            entry: id,
            page_count: manifest.page_count,
            root: manifest.root,
            wal: following.follower.given_position(),
            file: following
                .follower
                .capture()
                .file_facts(repository.environment().clock.now())
                .unwrap_or(following.position.file),
            ..following.position
        };
        following.base = (id, manifest);
        following.steps.clear();
        (following.flushed, following.record_bytes, following.large) = (0, 0, false);
        self.memory.save(&following.position, &mut following.map)?;
        Ok(true)
    }

    /// Stores everything that is left, before the end. Everything must have been sent. A database that had to be let go is caught up with once more, if it is there.
    /// Returns whether there was something to fold.
    pub fn finish(
        &mut self,
        repository: &Repository,
        encode: EncodeOptions,
        monitor: &dyn Monitor,
    ) -> Result<bool, RepositoryError> {
        let folded = self.fold(repository, encode, monitor)?;
        if matches!(self.link, Link::Detached { .. }) && self.options.path.exists() {
            match self.attach(repository, monitor) {
                Ok(()) => {}
                Err(Lost::Repository(error)) => return Err(error),
                Err(lost) => monitor.event(monitor::Event::Notice(format!("{}: not caught up: {lost}", self.name()))),
            }
        }
        self.settle(repository, encode, monitor)?;
        Ok(folded)
    }

    /// Folds what only the journal holds.
    fn settle(
        &mut self,
        repository: &Repository,
        encode: EncodeOptions,
        monitor: &dyn Monitor,
    ) -> Result<(), RepositoryError> {
        if self.journaled {
            let name = &self.options.snapshot.name;
            let mut timeline = timeline::load_for_writing(repository, name, monitor)?;
            adopt(&Fold { repository, name, encode, monitor }, &mut timeline, Some(&self.memory), false)?;
            self.journaled = false;
        }
        Ok(())
    }

    /// Lets the database go: its WAL is free to restart. Steps that were not folded stay in the journal, if they were flushed.
    pub fn detach(&mut self, until: Instant) {
        self.journaled |= matches!(&self.link, Link::Following(following) if following.flushed > 0);
        self.link = Link::Detached { retry_at: until, pause: RETRY.0 };
    }

    /// Announces the end. Everything must be folded.
    pub fn end(&mut self, repository: &Repository) -> Result<(), RepositoryError> {
        let watch = Watch { writer: self.writer, host: self.options.snapshot.host.clone() };
        let name = self.options.snapshot.name.clone();
        let timeline = match &mut self.link {
            Link::Following(following) => &mut following.timeline,
            Link::Scanning(scanning) => &mut scanning.timeline,
            Link::Detached { .. } => return Ok(()),
        };
        timeline.append(repository, &name, Event::WatchEnded(watch), Behind::Housekeeping(None))?;
        Ok(())
    }
}

impl Following {
    /// Captures what was committed; returns how many commits.
    fn capture(&mut self, now: UnixMicros) -> Result<u64, Lost> {
        let commits = self.follower.new_commits()?;
        if self.follower.backlog_bytes() > BACKLOG_BYTES {
            return Err(Lost::Reason("the writer is faster than its commits can be followed one by one"));
        }
        let mut captured = 0;
        for commit in &commits {
            // The rest stays in the WAL, under the pin, until these are folded.
            if self.record_bytes > STEPS_BYTES {
                break;
            }
            self.add(commit, now)?;
            captured += 1;
        }
        Ok(captured)
    }

    /// Rolls the pin, and keeps the WAL short.
    fn roll(&mut self, repository: &Repository, wal_limit_bytes: u64) -> Result<u64, Lost> {
        let clock = &repository.environment().clock;
        self.follower.repin()?;
        let mut captured = self.capture(clock.now())?;
        let released = self.follower.release()?;
        if released && self.follower.wal_bytes() > wal_limit_bytes && self.follower.trim()? == Trimmed::Whole {
            self.follower.repin()?;
            captured += self.capture(clock.now())?;
            self.follower.release()?;
        }
        Ok(captured)
    }

    fn add(&mut self, commit: &CommitFrames, now: UnixMicros) -> Result<(), Lost> {
        let pages = self.follower.pages_of(commit);
        let page_bytes = self.follower.page_size().bytes();
        if pages.len() as u64 * page_bytes as u64 > LARGE_COMMIT_BYTES {
            return Err(Lost::Reason("a commit too large to be followed"));
        }
        let before = self.map.shape();
        let after = Leaves { page_count: commit.page_count, ..before };
        let low_page_count = before.page_count.0.min(after.page_count.0);
        let frames: BTreeMap<PageNo, u32> = pages.into_iter().collect();
        let (mut changes, mut records) = (Vec::new(), Vec::new());
        for leaf in after.touched_since(before, frames.keys().copied()) {
            let (content, base) = self.leaf(leaf, &frames, before, after)?;
            let hash = after.hash(leaf, &content);
            if self.map.known(after, leaf) == Some(hash) {
                continue;
            }
            changes.push((leaf, hash));
            records.extend(leaf_records(after.pages(leaf).0, &content, base.as_deref(), before, low_page_count));
        }
        self.follower.accept(commit);
        if changes.is_empty() && before == after {
            return Ok(());
        }
        self.map.update(after, &changes).map_err(|_| Lost::Reason("the page map is damaged"))?;
        let root = self.map.root().ok().flatten().ok_or(Lost::Reason("the page map is damaged"))?;
        self.state = StepState {
            commit: self.state.commit + 1,
            captured: now,
            page_count: commit.page_count.0,
            low_page_count,
            root,
        };
        let step = StepPart { state: self.state, more: false, records };
        let bytes = step.record_bytes();
        self.record_bytes += bytes;
        self.large |= bytes > JOURNAL_STEP_BYTES;
        self.steps.push(step);
        Ok(())
    }

    /// A leaf after a commit, and before it if that can be proved.
    fn leaf(
        &self,
        leaf: u32,
        frames: &BTreeMap<PageNo, u32>,
        before: Leaves,
        after: Leaves,
    ) -> Result<(Vec<u8>, Option<Vec<u8>>), Lost> {
        let page_bytes = before.page_size.bytes();
        let base = self.base(leaf, before)?;
        let (first, count) = after.pages(leaf);
        let mut content = vec![0; count as usize * page_bytes];
        for (at, new) in content.chunks_exact_mut(page_bytes).enumerate() {
            let page = PageNo(first.0 + at as u32);
            match (frames.get(&page), &base) {
                (Some(&frame), _) => self.follower.read_frame(frame, new)?,
                // Pages that a growing database gains without writing them are zeros.
                (None, _) if page.0 > before.page_count.0 => {}
                (None, Some(base)) => new.copy_from_slice(&base[at * page_bytes..(at + 1) * page_bytes]),
                (None, None) => return Err(Lost::Reason("a page that a commit left alone is not what it was")),
            }
        }
        Ok((content, base))
    }

    fn base(&self, leaf: u32, before: Leaves) -> Result<Option<Vec<u8>>, Lost> {
        let Some(expected) = self.map.known(before, leaf) else { return Ok(None) };
        let (first, count) = before.pages(leaf);
        let page_bytes = before.page_size.bytes();
        let mut content = vec![0; count as usize * page_bytes];
        let mut complete = true;
        for (at, page) in content.chunks_exact_mut(page_bytes).enumerate() {
            let number = PageNo(first.0 + at as u32);
            if number != before.page_size.lock_page() {
                complete &= self.follower.read_before(number, page)?;
            }
        }
        Ok((complete && before.hash(leaf, &content) == expected).then_some(content))
    }
}
