//! What is fuzzed: every decoder of bytes that come from a repository, a database, the local state or a configuration file.
//!
//! A target is a function of bytes. It must not panic, whatever they are, nor take memory out of proportion to them; and what it accepts must mean the same when it
//! is encoded and decoded again. Objects that are sealed or carry a checksum are fuzzed in two ways: as they are, and from behind the seal, where the bytes are the
//! content and the target seals them.
//!
//! The targets are run by cargo-fuzz (`cargo xtask fuzz`) and, on their seeds and on mutations of these, by `tests/fuzz_corpus.rs`.

mod chunks;
mod memory;
mod objects;
mod sqlite;

/// Takes any bytes, and panics if something does not hold.
pub type Target = fn(&[u8]);

/// Name and function of each target.
pub const TARGETS: &[(&str, Target)] = &[
    ("chunk", chunks::chunk),
    ("configuration", memory::configuration),
    ("config", objects::config),
    ("cache", memory::cache),
    ("delta_segment", chunks::delta_segment),
    ("index_segment", objects::index_segment),
    ("journal", objects::journal),
    ("key_slot", objects::key_slot),
    ("layer_segment", chunks::layer_segment),
    ("object_name", objects::object_name),
    ("pack", objects::pack),
    ("page_map", memory::page_map),
    ("position", memory::position),
    ("sqlite_btree", sqlite::btree),
    ("sqlite_header", sqlite::header),
    ("sqlite_names", sqlite::names),
    ("sqlite_record", sqlite::record),
    ("timeline_entry", objects::timeline_entry),
    ("tombstone", objects::tombstone),
    ("varint", chunks::varint),
    ("verification", objects::verification),
    ("wal", sqlite::wal),
    ("wal_index", sqlite::wal_index),
    ("wal_map", sqlite::wal_map),
];

/// Runs the target of that name.
pub fn run(name: &str, bytes: &[u8]) {
    let target = TARGETS.iter().find(|(known, _)| *known == name);
    let (_, target) = target.unwrap_or_else(|| panic!("there is no target `{name}`"));
    target(bytes);
}

/// Takes a number from the front of an input, so that the fuzzer chooses it.
fn take_u32(bytes: &mut &[u8]) -> u32 {
    let (head, rest) = bytes.split_at(bytes.len().min(4));
    *bytes = rest;
    head.iter().fold(0, |number, byte| number << 8 | u32::from(*byte))
}

/// The same for a page size: all eight come up.
fn take_page_size(bytes: &mut &[u8]) -> continuum::base::page::PageSize {
    let power = bytes.split_off_first().map_or(0, |byte| byte % 8);
    continuum::base::page::PageSize::new(512 << power).expect("a page size")
}
