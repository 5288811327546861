//! Files of this machine: the local state, the cache, the configuration.

use std::fs;
use std::path::Path;
use std::sync::Arc;

use continuum::base::id::{ImageRoot, ObjectHash};
use continuum::base::image_tree::Leaves;
use continuum::base::page::PageCount;
use continuum::format::name::{Folder, ObjectName};
use continuum::format::position::Position;
use continuum::store::Store;
use continuum::store::around::cache::Cache;
use continuum::store::opendal::OpendalStore;
use continuum::store::page_map::PageMap;

use super::{take_page_size, take_u32};

/// The checksum is made here: without it, nothing would be looked at.
pub fn position(bytes: &[u8]) {
    let _ = Position::parse(bytes);
    let whole = [bytes, blake3::hash(bytes).as_bytes()].concat();
    if let Ok(position) = Position::parse(&whole) {
        assert_eq!(Position::parse(&position.encode()), Ok(position));
    }
}

/// Files that a map may have been left in. What it hands out is what its root says, or nothing.
pub fn page_map(mut bytes: &[u8]) {
    let page_size = take_page_size(&mut bytes);
    let page_count = PageCount(take_u32(&mut bytes).clamp(1, 1 << 16));
    let shape = Leaves { page_size, page_count };
    let blocks = (shape.count().div_ceil(64) as usize * 32).min(bytes.len());
    let (blocks, leaves) = bytes.split_at(blocks);
    let folder = tempfile::tempdir().expect("a temporary folder");
    fs::write(folder.path().join("leaves"), leaves).expect("a file");
    fs::write(folder.path().join("blocks"), blocks).expect("a file");
    let other = ImageRoot([7; 32]);
    if let Some(map) = PageMap::open(folder.path(), shape, other) {
        assert_eq!(map.root().expect("a file reads"), Some(other));
    }
    // A map of one block is its own root.
    let nodes = leaves.as_chunks::<32>().0;
    if shape.count() <= 64 && nodes.len() == shape.count() as usize {
        let root = continuum::base::image_tree::root(nodes);
        if let Some(map) = PageMap::open(folder.path(), shape, root) {
            assert_eq!(map.root().expect("a file reads"), Some(root));
        }
    }
}

/// A file of the cache, whatever it holds: readers get what the store has.
pub fn cache(bytes: &[u8]) {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let store = Arc::new(OpendalStore::memory().expect("memory is always there"));
    let name = ObjectName::index(ObjectHash::of(b"segment"));
    store.create(&name, b"segment").expect("memory is always there");
    let cache = Cache::new(store, folder.path().to_owned());
    let path = folder.path().join(name.as_str());
    fs::create_dir_all(path.parent().expect("a folder")).expect("a folder");
    fs::write(path, bytes).expect("a file");
    let is_forged = bytes.split_first_chunk::<32>().is_some_and(|(hash, rest)| blake3::hash(rest).as_bytes() == hash);
    if !is_forged {
        assert_eq!(cache.read(&name, 100).expect("it is there"), b"segment");
    }
    let _ = cache.remembered(Folder::Index);
}

pub fn configuration(bytes: &[u8]) {
    if let Ok(text) = std::str::from_utf8(bytes) {
        let _ = continuum::cli::check_configuration(text, Path::new("/etc/continuum"));
    }
}
