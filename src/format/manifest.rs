//! A snapshot's manifest: which state of which database, and the layers it is made of (`format-spec/manifest.md`).

use serde::{Deserialize, Serialize};

use crate::base::clock::UnixMicros;
use crate::base::id::{ChunkId, ImageRoot};
use crate::base::page::{PageCount, PageSize};

use super::layer::segment_count;
use super::{FormatError, ensure};

/// The most layers of a snapshot.
pub const MAX_LAYERS: usize = 32;
/// The most tags of a snapshot.
pub const MAX_TAGS: usize = 64;
/// The longest tag, in bytes.
pub const MAX_TAG_BYTES: usize = 255;
/// The longest host name, source path or tool name, in bytes.
pub const MAX_TEXT_BYTES: usize = 4096;
const MAX_PAGE_COUNT: u32 = u32::MAX - 1;

/// What a backup stored, and against what.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Strategy {
    /// Every page, read anew.
    Full,
}

impl std::fmt::Display for Strategy {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Full => "full",
        })
    }
}

/// What a layer holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LayerKind {
    /// Every page.
    Image,
}

/// One layer of a snapshot's stack.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Layer {
    /// What it holds.
    pub kind: LayerKind,
    /// Pages of the state that it leads to.
    pub page_count: u32,
    /// Chunks of its page map, in order.
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
        ensure(self.layers.len() == 1, "a stack of other than one layer")?;
        ensure(self.image().page_count == self.page_count, "the image has another page count than the snapshot")?;
        ensure(
            self.image().segments.len() == segment_count(self.page_count()),
            "another number of layer segments than the page count asks for",
        )?;
        ensure(self.tags.len() <= MAX_TAGS && self.tags.iter().all(|tag| is_tag(tag)), "tags outside the limits")?;
        let texts = [&self.host, &self.source, &self.tool, &self.journal_mode];
        ensure(texts.iter().all(|text| text.len() <= MAX_TEXT_BYTES), "a text longer than 4,096 bytes")
    }
}

/// Whether a tag is 1 to 255 bytes without control characters.
pub fn is_tag(tag: &str) -> bool {
    (1..=MAX_TAG_BYTES).contains(&tag.len()) && !tag.chars().any(char::is_control)
}
