//! A snapshot's manifest: which state of which database, and the layers it is made of (`format-spec/manifest.md`).

use serde::{Deserialize, Serialize};

use crate::base::clock::UnixMicros;
use crate::base::id::{ChunkId, ImageRoot};
use crate::base::page::{PageCount, PageSize};

use super::layer::{MAX_SEGMENTS, segment_count};
use super::{FormatError, ensure};

/// The most layers of a snapshot.
pub const MAX_LAYERS: usize = 32;
/// The most tags of a snapshot.
pub const MAX_TAGS: usize = 64;
/// The longest tag, in bytes.
pub const MAX_TAG_BYTES: usize = 255;
/// The longest host name, source path or tool name, in bytes.
pub const MAX_TEXT_BYTES: usize = 4096;
/// The most pages of a database.
pub const MAX_PAGE_COUNT: u32 = u32::MAX - 1;

/// What a backup stored, and against what.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Strategy {
    /// Every page, read anew.
    Full,
    /// What changed since the last full.
    Differential,
    /// What changed since the last restore point of any kind.
    Incremental,
    /// Every commit, in order, as a watcher captured them.
    Continuous,
    /// Nothing new: layers of an earlier state, folded inside the repository.
    Compaction,
}

impl std::fmt::Display for Strategy {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Full => "full",
            Self::Differential => "differential",
            Self::Incremental => "incremental",
            Self::Continuous => "continuous",
            Self::Compaction => "compaction",
        })
    }
}

/// What a layer holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LayerKind {
    /// Every page.
    Image,
    /// The pages that changed since the state below.
    Delta,
}

/// One layer of a snapshot's stack.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Layer {
    /// What it holds.
    pub kind: LayerKind,
    /// The first state that it leads to; for a delta of one step and for an image, the same as `last_commit`.
    pub first_commit: u64,
    /// The last state that it leads to.
    pub last_commit: u64,
    /// Pages of the state that it leads to.
    pub page_count: u32,
    /// The fewest pages on the way; for an image, its page count.
    pub low_page_count: u32,
    /// Bytes of a delta's records; 0 for an image.
    pub record_bytes: u64,
    /// Chunks of its segments, in order.
    pub segments: Vec<ChunkId>,
}

/// A snapshot of one committed state of one database.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    /// How it was taken.
    pub strategy: Strategy,
    /// Words that people gave it.
    pub tags: Vec<String>,
    /// Where it was taken.
    pub host: String,
    /// The database's path there.
    pub source: String,
    /// When the state was pinned, on that host's clock.
    pub captured: UnixMicros,
    /// Name and version of the writer.
    pub tool: String,
    /// The source's journal mode.
    pub journal_mode: String,
    /// Bytes of a page.
    pub page_size: u32,
    /// Pages of the image.
    pub page_count: u32,
    /// BLAKE3 of the image.
    pub root: ImageRoot,
    /// The state's number in the timeline, from 1. Equal numbers mean equal states.
    pub commit: u64,
    /// Counts the files that stood at the source, or their histories: a replaced, rolled back or resized file begins a new lineage.
    pub lineage: u32,
    /// Newest last; the first is an image.
    pub layers: Vec<Layer>,
    /// Bytes of packs that it added to the repository.
    pub added: u64,
}

impl Manifest {
    /// The page size. Checked by [`validate`](Self::validate).
    pub fn page_size(&self) -> PageSize {
        PageSize::new(self.page_size).expect("BUG: a manifest is validated before it is used")
    }

    /// The page count.
    pub fn page_count(&self) -> PageCount {
        PageCount(self.page_count)
    }

    /// Bytes of the image.
    pub fn image_bytes(&self) -> u64 {
        self.page_size().image_bytes(self.page_count())
    }

    /// The layer that holds every page.
    pub fn image(&self) -> &Layer {
        self.layers.first().expect("BUG: a manifest is validated before it is used")
    }

    /// Checks what a manifest from outside must satisfy.
    pub(super) fn validate(&self) -> Result<(), FormatError> {
        ensure(PageSize::new(self.page_size).is_some(), "no SQLite page size")?;
        ensure((1..=MAX_PAGE_COUNT).contains(&self.page_count), "page count outside the limits")?;
        ensure((1..=MAX_LAYERS).contains(&self.layers.len()), "a stack of no layer or too many")?;
        for (i, layer) in self.layers.iter().enumerate() {
            let kind = if i == 0 { LayerKind::Image } else { LayerKind::Delta };
            ensure(layer.kind == kind, "a stack that is not deltas over one image")?;
            layer.validate()?;
        }
        let top = self.layers.last().map(|layer| (layer.page_count, layer.last_commit));
        ensure(
            top == Some((self.page_count, self.commit)),
            "the last layer leads to another state than the snapshot's",
        )?;
        ensure(self.tags.len() <= MAX_TAGS && self.tags.iter().all(|tag| is_tag(tag)), "tags outside the limits")?;
        let texts = [&self.host, &self.source, &self.tool, &self.journal_mode];
        ensure(texts.iter().all(|text| text.len() <= MAX_TEXT_BYTES), "a text longer than 4,096 bytes")
    }
}

impl Layer {
    fn validate(&self) -> Result<(), FormatError> {
        ensure((1..=MAX_PAGE_COUNT).contains(&self.page_count), "page count outside the limits")?;
        ensure(self.low_page_count <= self.page_count, "a low page count above the page count")?;
        ensure((1..=self.last_commit).contains(&self.first_commit), "commits of a layer out of order")?;
        match self.kind {
            LayerKind::Image => ensure(
                self.segments.len() == segment_count(PageCount(self.page_count)),
                "another number of layer segments than the page count asks for",
            ),
            LayerKind::Delta => {
                ensure((1..=MAX_SEGMENTS).contains(&self.segments.len()), "a delta without segments or with too many")
            }
        }
    }
}

/// Whether a tag is 1 to 255 bytes without control characters.
pub fn is_tag(tag: &str) -> bool {
    (1..=MAX_TAG_BYTES).contains(&tag.len()) && !tag.chars().any(char::is_control)
}
