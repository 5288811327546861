//! The page map: the hash of every leaf of an image's BLAKE3 tree, in a file of local state.
//!
//! It tells which pages changed since the state it describes, proves what a page was then, and gives the root of any state that differs from it in known
//! pages. It is a cache that checks itself: the file may be torn, stale or altered, but blocks of leaves are compared with the tree above them and the tree
//! with the root that the caller knows from elsewhere. What does not agree is unknown, and unknown means read again.

use std::collections::HashMap;
use std::fs::{self, File, OpenOptions};
use std::io::{self, BufWriter, Write};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use rayon::prelude::*;

use crate::base::id::ImageRoot;
use crate::base::image_tree::{self, Leaves, NodeHash, UpperTree};

/// Leaves of a block: the unit that is read and checked.
pub const BLOCK_LEAVES: u32 = 64;

const LEAVES_FILE: &str = "leaves";
const BLOCKS_FILE: &str = "blocks";

/// See the module documentation.
#[derive(Debug)]
pub struct PageMap {
    folder: PathBuf,
    leaves: Leaves,
    file: File,
    /// Above the blocks.
    tree: UpperTree,
    /// Blocks that are newer than the file.
    changed: HashMap<u32, Vec<NodeHash>>,
    /// The file, as long as it has not taken the place of the one that is kept.
    unsaved: Option<tempfile::TempPath>,
}

impl PageMap {
    /// Opens the map that was kept in `folder`, if it is that of the image with this shape and `root`.
    pub fn open(folder: &Path, leaves: Leaves, root: ImageRoot) -> Option<Self> {
        let file = OpenOptions::new().read(true).write(true).open(folder.join(LEAVES_FILE)).ok()?;
        let blocks = fs::read(folder.join(BLOCKS_FILE)).ok()?;
        if blocks.len() != block_count(leaves) as usize * 32 {
            return None;
        }
        let nodes = blocks.as_chunks::<32>().0.to_vec();
        let (folder, tree) = (folder.to_owned(), UpperTree::new(nodes));
        let map = Self { folder, leaves, file, tree, changed: HashMap::new(), unsaved: None };
        (map.root().ok()?? == root).then_some(map)
    }

    /// The shape of the image that it describes.
    pub fn shape(&self) -> Leaves {
        self.leaves
    }

    /// The root of the image; `None` if the file is damaged.
    pub fn root(&self) -> io::Result<Option<ImageRoot>> {
        match self.tree.nodes().len() {
            0 => Ok(None),
            1 => Ok(self.block(0)?.map(|leaves| image_tree::root(&leaves))),
            _ => Ok(Some(self.tree.root())),
        }
    }

    /// The leaves of a block, if they are what the tree says.
    pub fn block(&self, block: u32) -> io::Result<Option<Vec<NodeHash>>> {
        if let Some(leaves) = self.changed.get(&block) {
            return Ok(Some(leaves.clone()));
        }
        let Some(expected) = self.tree.nodes().get(block as usize) else { return Ok(None) };
        let mut bytes = vec![0; self.block_length(block) * 32];
        match self.file.read_exact_at(&mut bytes, u64::from(block) * u64::from(BLOCK_LEAVES) * 32) {
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
            read => read?,
        }
        let leaves = bytes.as_chunks::<32>().0.to_vec();
        Ok((image_tree::subtree(&leaves) == *expected).then_some(leaves))
    }

    /// The hash of one leaf, if it is known and means the same in an image of that `shape`.
    pub fn known(&self, shape: Leaves, leaf: u32) -> Option<NodeHash> {
        self.known_block(shape, leaf / BLOCK_LEAVES).get((leaf % BLOCK_LEAVES) as usize).copied()
    }

    /// The same for a block. One that cannot be read or does not check out is as good as none.
    pub fn known_block(&self, shape: Leaves, block: u32) -> Vec<NodeHash> {
        if !self.leaves.comparable(&shape) {
            return Vec::new();
        }
        self.block(block).ok().flatten().unwrap_or_default()
    }

    /// Makes the map that of the image of shape `leaves`, which differs in `changes`, ascending by leaf. Leaves that the image did not have before must be among them.
    /// An error of the kind `InvalidData` means that a block is damaged of which not all leaves are given.
    pub fn update(&mut self, leaves: Leaves, changes: &[(u32, NodeHash)]) -> io::Result<()> {
        let damaged = || io::Error::new(io::ErrorKind::InvalidData, "the page map is damaged");
        let before = self.leaves;
        let mut touched: HashMap<u32, Vec<NodeHash>> = HashMap::new();
        let last = leaves.count() - 1;
        // The last block may be cut or grow even if none of its leaves changes.
        let edges = [before.count().min(leaves.count()) - 1, last].map(|leaf| leaf / BLOCK_LEAVES);
        for block in changes.iter().map(|(leaf, _)| leaf / BLOCK_LEAVES).chain(edges) {
            if let std::collections::hash_map::Entry::Vacant(entry) = touched.entry(block) {
                entry.insert(self.block(block)?.unwrap_or_default());
            }
        }
        self.leaves = leaves;
        self.tree.resize(block_count(leaves) as usize);
        self.changed.retain(|&block, _| block < block_count(leaves));
        for (&block, nodes) in &mut touched {
            let first = block * BLOCK_LEAVES;
            let start = changes.partition_point(|&(leaf, _)| leaf < first);
            let given = changes[start..].iter().take_while(|(leaf, _)| leaf / BLOCK_LEAVES == block);
            let mut unknown = self.block_length(block).saturating_sub(nodes.len());
            let known = nodes.len();
            nodes.resize(self.block_length(block), [0; 32]);
            for (leaf, hash) in given {
                let at = (leaf - first) as usize;
                unknown -= usize::from(at >= known);
                nodes[at] = *hash;
            }
            if unknown > 0 {
                return Err(damaged());
            }
        }
        for (block, nodes) in touched {
            self.tree.set(block as usize, image_tree::subtree(&nodes));
            self.changed.insert(block, nodes);
        }
        Ok(())
    }

    /// Writes what is newer than the file, and lets the file take the place of the one that is kept. A kill in between leaves a map that is found to be damaged when it is opened.
    pub fn save(&mut self) -> io::Result<()> {
        if let Some(path) = self.unsaved.take() {
            path.persist(self.folder.join(LEAVES_FILE)).map_err(|error| error.error)?;
        }
        for (block, nodes) in self.changed.drain() {
            self.file.write_all_at(nodes.as_flattened(), u64::from(block) * u64::from(BLOCK_LEAVES) * 32)?;
        }
        self.file.set_len(u64::from(self.leaves.count()) * 32)?;
        fs::write(self.folder.join(BLOCKS_FILE), self.tree.nodes().as_flattened())
    }

    fn block_length(&self, block: u32) -> usize {
        (self.leaves.count() - block * BLOCK_LEAVES).min(BLOCK_LEAVES) as usize
    }
}

fn block_count(leaves: Leaves) -> u32 {
    leaves.count().div_ceil(BLOCK_LEAVES)
}

/// Makes a map from leaf hashes that arrive in order, beside the one that is kept.
#[derive(Debug)]
pub struct PageMapBuilder {
    leaves: Leaves,
    /// Where the map is to be kept; without it, only the root is computed.
    file: Option<(PathBuf, BufWriter<tempfile::NamedTempFile>)>,
    blocks: Vec<NodeHash>,
    block: Vec<NodeHash>,
}

impl PageMapBuilder {
    /// A map for an image of this shape, to be kept in `folder`, if it is to be kept.
    pub fn new(folder: Option<&Path>, leaves: Leaves) -> io::Result<Self> {
        let file = folder.map(|folder| {
            fs::create_dir_all(folder)?;
            let file = BufWriter::with_capacity(1 << 16, tempfile::NamedTempFile::new_in(folder)?);
            Ok::<_, io::Error>((folder.to_owned(), file))
        });
        let blocks = Vec::with_capacity(block_count(leaves) as usize);
        Ok(Self { leaves, file: file.transpose()?, blocks, block: Vec::new() })
    }

    /// Adds the leaves of the pages that come next; only the last pages of the image may end within a leaf.
    pub fn push_pages(&mut self, bytes: &[u8]) -> io::Result<()> {
        let (leaves, first) = (self.leaves, self.leaf_count());
        let leaf_bytes = leaves.page_size.bytes() * leaves.pages_a_leaf() as usize;
        let contents = bytes.par_chunks(leaf_bytes).enumerate();
        let hashes: Vec<NodeHash> = contents.map(|(at, content)| leaves.hash(first + at as u32, content)).collect();
        self.push(&hashes)
    }

    fn push(&mut self, hashes: &[NodeHash]) -> io::Result<()> {
        if let Some((_, file)) = &mut self.file {
            file.write_all(hashes.as_flattened())?;
        }
        for hash in hashes {
            // A full block is closed only when another leaf follows: an image of one block has its leaves for the root.
            if self.block.len() == BLOCK_LEAVES as usize {
                self.blocks.push(image_tree::subtree(&self.block));
                self.block.clear();
            }
            self.block.push(*hash);
        }
        Ok(())
    }

    fn leaf_count(&self) -> u32 {
        self.blocks.len() as u32 * BLOCK_LEAVES + self.block.len() as u32
    }

    /// The root of the image, and its map, if it is to be kept. The one that was kept before stays until the new one is saved.
    pub fn finish(mut self) -> io::Result<(ImageRoot, Option<PageMap>)> {
        let root_of_block = image_tree::root(&self.block);
        self.blocks.push(image_tree::subtree(&self.block));
        let tree = UpperTree::new(self.blocks);
        let root = if tree.nodes().len() == 1 { root_of_block } else { tree.root() };
        let Some((folder, file)) = self.file else { return Ok((root, None)) };
        let file = file.into_inner().map_err(io::IntoInnerError::into_error)?;
        let (file, path) = file.into_parts();
        let (leaves, unsaved) = (self.leaves, Some(path));
        Ok((root, Some(PageMap { folder, leaves, file, tree, changed: HashMap::new(), unsaved })))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::page::{PageCount, PageSize};

    fn shape(pages: u32) -> Leaves {
        Leaves { page_size: PageSize::new(1024).expect("BUG: a page size"), page_count: PageCount(pages) }
    }

    fn image(pages: u32) -> Vec<u8> {
        (0..pages).flat_map(|page| vec![page as u8; 1024]).collect()
    }

    fn leaf(pages: u32, bytes: &[u8], at: u32) -> NodeHash {
        shape(pages).hash(at, &bytes[at as usize * 1024..(at as usize + 1) * 1024])
    }

    fn hash(bytes: &[u8]) -> ImageRoot {
        ImageRoot(*blake3::hash(bytes).as_bytes())
    }

    fn build(folder: &Path, pages: u32) -> PageMap {
        let bytes = image(pages);
        let mut builder = PageMapBuilder::new(Some(folder), shape(pages)).expect("BUG: a folder");
        let hashes: Vec<_> = (0..pages).map(|at| leaf(pages, &bytes, at)).collect();
        let (root, map) = builder.push(&hashes).and_then(|()| builder.finish()).expect("BUG: it is written");
        assert_eq!(root, hash(&bytes));
        let mut map = map.expect("BUG: it is kept");
        map.save().expect("BUG: it is written");
        map
    }

    #[test]
    fn a_map_follows_changes_growth_and_shrinking() {
        let folder = tempfile::tempdir().expect("BUG: a folder");
        let mut map = build(folder.path(), 200);
        let mut bytes = image(200);
        for pages in [200, 330, 128, 127, 1, 70] {
            let known = map.shape();
            bytes.resize(pages as usize * 1024, 0);
            bytes[pages as usize * 512] ^= 1;
            let middle = pages / 2;
            let from = if known.comparable(&shape(pages)) { known.count().min(pages) } else { 0 };
            let mut changed: Vec<u32> = (from..pages).chain([middle]).collect();
            changed.sort_unstable();
            changed.dedup();
            let changes: Vec<_> = changed.into_iter().map(|at| (at, leaf(pages, &bytes, at))).collect();
            map.update(shape(pages), &changes).expect("BUG: it is intact");
            assert_eq!(map.root().expect("BUG: it reads"), Some(hash(&bytes)), "{pages}");
            map.save().expect("BUG: it is written");
            map = PageMap::open(folder.path(), shape(pages), hash(&bytes)).expect("BUG: it is kept");
        }
    }

    #[test]
    fn a_torn_or_foreign_map_is_unknown() {
        let folder = tempfile::tempdir().expect("BUG: a folder");
        let bytes = image(200);
        build(folder.path(), 200);
        let open = || PageMap::open(folder.path(), shape(200), hash(&bytes));
        assert!(open().is_some());
        assert!(PageMap::open(folder.path(), shape(200), hash(b"other")).is_none());
        let other_shape = PageMap::open(folder.path(), shape(199), hash(&bytes)).expect("BUG: as many blocks");
        assert_eq!(other_shape.block(3).expect("BUG: it reads"), None);
        let path = folder.path().join(LEAVES_FILE);
        let mut leaves = fs::read(&path).expect("BUG: it is there");
        leaves[70 * 32] ^= 1;
        fs::write(&path, &leaves).expect("BUG: it can be written");
        let map = open().expect("BUG: the tree above is intact");
        let known = |at| map.known(shape(200), at).is_some();
        assert!(known(0) && known(199) && !known(64) && !known(70));
        fs::write(folder.path().join(BLOCKS_FILE), [0; 128]).expect("BUG: it can be written");
        assert!(open().is_none());
    }
}
