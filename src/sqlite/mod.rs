//! SQLite's own file formats, as bytes: the database header, B-tree pages and records, the WAL and the WAL-index header.
//!
//! Pure parsers of the SQLite file format (sqlite.org/fileformat2.html, sqlite.org/walformat.html): nothing here opens a file, and
//! nothing that is read can panic.

pub mod btree;
pub mod header;
pub mod identifier;
pub mod record;
pub mod uri;
pub mod varint;
pub mod wal;
pub mod wal_index;
pub mod without_wal;

fn be_u32(bytes: &[u8], at: usize) -> Option<u32> {
    bytes.get(at..at + 4).and_then(|b| b.try_into().ok()).map(u32::from_be_bytes)
}

fn ne_u32(bytes: &[u8], at: usize) -> Option<u32> {
    bytes.get(at..at + 4).and_then(|b| b.try_into().ok()).map(u32::from_ne_bytes)
}
