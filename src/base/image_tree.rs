//! The BLAKE3 tree of a database image, so that its root is known after every change at the cost of the change.
//!
//! A *leaf* is the part of the image that one page covers, or two pages of 512 bytes: BLAKE3 hashes 1,024 bytes at a time. A leaf's hash is its subtree's chaining
//! value ("BLAKE3: one function, fast everywhere", §2.4 and §2.5), which depends on the leaf's place in the image. Pairs of neighbours are
//! merged level by level, an odd one out goes up as it is: that is BLAKE3's own tree, because a left subtree is the largest full one.
//! The hash of the only leaf of an image is the root itself.

use blake3::hazmat::{HasherExt, Mode, merge_subtrees_non_root, merge_subtrees_root};

use super::id::ImageRoot;
use super::page::{PageCount, PageNo, PageReader, PageSize};

/// A node's chaining value.
pub type NodeHash = [u8; 32];

/// BLAKE3's unit, in bytes.
const CHUNK_BYTES: usize = 1024;

/// How an image is divided into leaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Leaves {
    /// Of the database.
    pub page_size: PageSize,
    /// Of the state.
    pub page_count: PageCount,
}

impl Leaves {
    /// The shape of the state that a reader gives.
    pub fn of<P: PageReader>(source: &P) -> Self {
        Self { page_size: source.page_size(), page_count: source.page_count() }
    }

    /// Pages of a leaf: 1, or 2 of 512 bytes.
    pub fn pages_a_leaf(&self) -> u32 {
        (CHUNK_BYTES / self.page_size.bytes()).max(1) as u32
    }

    /// How many there are.
    pub fn count(&self) -> u32 {
        self.page_count.0.div_ceil(self.pages_a_leaf())
    }

    /// The leaf that holds a page.
    pub fn leaf_of(&self, page: PageNo) -> u32 {
        (page.0 - 1) / self.pages_a_leaf()
    }

    /// The first page of a leaf, and how many it has.
    pub fn pages(&self, leaf: u32) -> (PageNo, u32) {
        let before = leaf * self.pages_a_leaf();
        (PageNo(before + 1), self.pages_a_leaf().min(self.page_count.0 - before))
    }

    /// The hash of a leaf with that content.
    pub fn hash(&self, leaf: u32, content: &[u8]) -> NodeHash {
        let mut hasher = blake3::Hasher::new();
        if self.count() == 1 {
            return *hasher.update(content).finalize().as_bytes();
        }
        let leaf_bytes = self.page_size.bytes().max(CHUNK_BYTES) as u64;
        hasher.set_input_offset(u64::from(leaf) * leaf_bytes).update(content).finalize_non_root()
    }

    /// The chaining value over leaves from `first` on with that content: the [`subtree`] of their hashes, several times faster for long contents. `first` must be a multiple of a power of
    /// two that is at least their number, and the image must have other leaves besides the first.
    pub fn hash_subtree(&self, first: u32, content: &[u8]) -> NodeHash {
        let leaf_bytes = self.page_size.bytes().max(CHUNK_BYTES) as u64;
        blake3::Hasher::new().set_input_offset(u64::from(first) * leaf_bytes).update(content).finalize_non_root()
    }

    /// The leaves that can differ from those of the state `before`, ascending, if `pages` are all that were written: those of the pages, those that the state has gained, and
    /// the edges, which may be cut or grow.
    pub fn touched_since(&self, before: Self, pages: impl IntoIterator<Item = PageNo>) -> Vec<u32> {
        let lock_page = self.page_size.lock_page();
        let pages = pages.into_iter().filter(|&page| page.0 <= self.page_count.0 && page != lock_page);
        let mut leaves: Vec<u32> = pages.map(|page| self.leaf_of(page)).collect();
        if before.page_count != self.page_count {
            let common = before.count().min(self.count());
            leaves.extend((common..self.count()).chain([common - 1]));
            if !before.comparable(self) {
                leaves.push(0);
            }
        }
        leaves.sort_unstable();
        leaves.dedup();
        leaves
    }

    /// Whether leaves of the two mean the same if their hashes do.
    pub fn comparable(&self, other: &Self) -> bool {
        self.page_size == other.page_size && (self.count() == 1) == (other.count() == 1)
    }
}

/// The chaining value over neighbouring nodes, the first of which begins at a multiple of a power of two that is at least their number.
pub fn subtree(nodes: &[NodeHash]) -> NodeHash {
    match nodes {
        [] => [0; 32],
        [node] => *node,
        _ => {
            let (left, right) = nodes.split_at(left_length(nodes.len()));
            merge_subtrees_non_root(&subtree(left), &subtree(right), Mode::Hash)
        }
    }
}

/// The root over all nodes of a level.
pub fn root(nodes: &[NodeHash]) -> ImageRoot {
    match nodes {
        [] => ImageRoot([0; 32]),
        [only] => ImageRoot(*only),
        _ => {
            let (left, right) = nodes.split_at(left_length(nodes.len()));
            let root = merge_subtrees_root(&subtree(left), &subtree(right), Mode::Hash);
            ImageRoot(*root.as_bytes())
        }
    }
}

/// The largest power of two below `length`.
fn left_length(length: usize) -> usize {
    1 << (length - 1).ilog2()
}

/// The tree above a row of nodes, kept whole: a changed node costs one path.
#[derive(Clone, Debug, Default)]
pub struct UpperTree {
    /// The nodes first, then each level above, down to two nodes or fewer.
    levels: Vec<Vec<NodeHash>>,
}

impl UpperTree {
    /// The tree above `nodes`.
    pub fn new(nodes: Vec<NodeHash>) -> Self {
        let mut levels = vec![nodes];
        while let Some(below) = levels.last().filter(|level| level.len() > 2) {
            let above = below.chunks(2).map(subtree).collect();
            levels.push(above);
        }
        Self { levels }
    }

    /// The row that the tree stands on.
    pub fn nodes(&self) -> &[NodeHash] {
        self.levels.first().map_or(&[], Vec::as_slice)
    }

    /// The root of the image.
    pub fn root(&self) -> ImageRoot {
        root(self.levels.last().map_or(&[], Vec::as_slice))
    }

    /// Replaces a node.
    pub fn set(&mut self, position: usize, node: NodeHash) {
        let mut at = position;
        if let Some(nodes) = self.levels.first_mut() {
            nodes[at] = node;
        }
        for level in 1..self.levels.len() {
            at /= 2;
            let below = &self.levels[level - 1];
            let merged = subtree(&below[at * 2..below.len().min(at * 2 + 2)]);
            self.levels[level][at] = merged;
        }
    }

    /// Changes the number of nodes; new ones are zeros until they are set.
    pub fn resize(&mut self, count: usize) {
        if count != self.nodes().len() {
            let mut nodes = self.levels.swap_remove(0);
            nodes.resize(count, [0; 32]);
            *self = Self::new(nodes);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::entropy::{Entropy, SeededEntropy};

    fn image(pages: u32, page_bytes: usize) -> (Leaves, Vec<u8>) {
        let mut bytes = vec![0; pages as usize * page_bytes];
        SeededEntropy::new(u64::from(pages)).fill(&mut bytes);
        let page_size = PageSize::new(page_bytes as u32).expect("BUG: a page size");
        (Leaves { page_size, page_count: PageCount(pages) }, bytes)
    }

    fn hashes(leaves: Leaves, image: &[u8]) -> Vec<NodeHash> {
        let leaf_bytes = leaves.page_size.bytes() * leaves.pages_a_leaf() as usize;
        image.chunks(leaf_bytes).enumerate().map(|(leaf, content)| leaves.hash(leaf as u32, content)).collect()
    }

    #[test]
    fn the_root_is_what_blake3_gives() {
        for page_bytes in [512, 1024, 4096, 65_536] {
            for pages in (1..40).chain([63, 64, 65, 127, 128, 129]) {
                let (leaves, bytes) = image(pages, page_bytes);
                let nodes = hashes(leaves, &bytes);
                assert_eq!(nodes.len(), leaves.count() as usize);
                let expected = ImageRoot(*blake3::hash(&bytes).as_bytes());
                assert_eq!(root(&nodes), expected, "{pages} × {page_bytes}");
                let eighth = nodes.len() / 8 * 8;
                if nodes.len() > 1 && eighth < nodes.len() {
                    let content = &bytes[eighth * page_bytes * leaves.pages_a_leaf() as usize..];
                    assert_eq!(leaves.hash_subtree(eighth as u32, content), subtree(&nodes[eighth..]));
                }
                assert_eq!(UpperTree::new(nodes).root(), expected, "{pages} × {page_bytes}");
            }
        }
    }

    #[test]
    fn a_changed_or_resized_tree_is_as_a_new_one() {
        let (leaves, mut bytes) = image(77, 1024);
        let mut tree = UpperTree::new(hashes(leaves, &bytes));
        for leaf in [0usize, 5, 76, 40] {
            bytes[leaf * 1024] ^= 1;
            tree.set(leaf, leaves.hash(leaf as u32, &bytes[leaf * 1024..(leaf + 1) * 1024]));
            assert_eq!(tree.root().0, *blake3::hash(&bytes).as_bytes());
        }
        tree.resize(64);
        assert_eq!(tree.root().0, *blake3::hash(&bytes[..64 * 1024]).as_bytes());
        tree.resize(65);
        tree.set(64, leaves.hash(64, &bytes[64 * 1024..65 * 1024]));
        assert_eq!(tree.root().0, *blake3::hash(&bytes[..65 * 1024]).as_bytes());
    }
}
