//! Files of SQLite.

use std::ffi::OsStr;
use std::fs::File;
use std::io::Write;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use continuum::base::page::{PageNo, PageSize};
use continuum::source::wal_map::{self as source, Mapped, map};
use continuum::sqlite::btree::{BtreePage, UsableSize};
use continuum::sqlite::header::DatabaseHeader;
use continuum::sqlite::identifier::quoted;
use continuum::sqlite::record::{Prefix, first_values};
use continuum::sqlite::uri::uri_of;
use continuum::sqlite::varint;
use continuum::sqlite::wal::{FrameChain, WAL_HEADER_BYTES, WalHeader};
use continuum::sqlite::wal_index::{WAL_INDEX_HEADER_BYTES, WalIndexState};

pub fn header(bytes: &[u8]) {
    if let Ok(header) = DatabaseHeader::parse(bytes) {
        assert!(PageSize::new(header.page_size.get()).is_some());
    }
}

/// A page, as the first one and as another one, for each number of reserved bytes.
pub fn btree(bytes: &[u8]) {
    let Some((&reserved, page)) = bytes.split_first() else { return };
    let mut header = [0; 100];
    header[20] = reserved;
    let power = (page.len() | 1).ilog2().clamp(9, 16);
    let page_size = PageSize::new(1 << power).expect("a page size");
    let Some(usable) = UsableSize::of(page_size, &header) else { return };
    for number in [PageNo(1), PageNo(2)] {
        let Ok(parsed) = BtreePage::parse(number, page, usable) else { continue };
        for cell in (0..parsed.cell_count()).filter_map(|cell| parsed.cell(cell).ok()) {
            assert!(cell.local.len() as u64 <= cell.payload_bytes);
            assert_eq!(cell.overflow.is_none(), cell.local.len() as u64 == cell.payload_bytes);
            let _ = first_values(cell.local, 3);
        }
        if let Ok(children) = parsed.children() {
            assert!(children.len() <= parsed.cell_count() + 1);
        }
    }
}

/// How many values are wanted comes first.
pub fn record(bytes: &[u8]) {
    let Some((&count, record)) = bytes.split_first() else { return };
    match first_values(record, count.into()) {
        Prefix::Values(values) => assert_eq!(values.len(), usize::from(count)),
        Prefix::Needs(needed) => assert!(needed > record.len() as u64),
        Prefix::Damaged => {}
    }
    let mut rest = record;
    while varint::take(&mut rest).is_some() {}
}

/// What is quoted, or put into a URI, means what it was.
pub fn names(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    let inside = quoted(&text);
    let inside = inside.strip_prefix('"').and_then(|rest| rest.strip_suffix('"')).expect("quotes");
    assert_eq!(inside.replace("\"\"", "\""), text);
    assert!(!inside.replace("\"\"", "").contains('"'));
    let uri = uri_of(Path::new(OsStr::from_bytes(bytes)), "mode=ro");
    let name = uri.strip_prefix("file:").and_then(|rest| rest.strip_suffix("?mode=ro")).expect("a URI");
    assert!(!name.contains(['?', '#', ' ', '\0']));
    let name = if bytes.starts_with(b"//") { &name[2..] } else { name };
    let mut parts = name.split('%');
    let mut unescaped = parts.next().unwrap_or_default().as_bytes().to_vec();
    for part in parts {
        unescaped.push(u8::from_str_radix(&part[..2], 16).expect("two digits"));
        unescaped.extend(&part.as_bytes()[2..]);
    }
    assert_eq!(unescaped, bytes);
}

/// A WAL: the chain accepts a prefix of the frames, and goes on from where it was.
pub fn wal(bytes: &[u8]) {
    let Some(header) = WalHeader::parse(bytes) else { return };
    let frames: Vec<&[u8]> = bytes[WAL_HEADER_BYTES..].chunks(header.frame_bytes()).collect();
    let mut chain = FrameChain::new(header);
    for (at, frame) in frames.iter().enumerate() {
        let mut resumed = FrameChain::resume(header, header.salts, chain.checksum());
        let accepted = chain.accept(frame);
        assert_eq!(resumed.accept(frame), accepted);
        assert_eq!(resumed.checksum(), chain.checksum());
        if accepted.is_none() {
            return;
        }
        assert_eq!(header.frame_offset(at as u32) as usize, WAL_HEADER_BYTES + at * header.frame_bytes());
    }
}

pub fn wal_index(bytes: &[u8]) {
    if let WalIndexState::Stable(_) = WalIndexState::parse(bytes) {
        assert!(bytes[..48] == bytes[48..96]);
    }
}

/// An index and a WAL in files, as a capture reads them.
pub fn wal_map(bytes: &[u8]) {
    let (index, wal) = bytes.split_at(bytes.len().min(WAL_INDEX_HEADER_BYTES));
    let (index, wal_file) = (file(index), file(wal));
    let Ok(Mapped::Frames(map)) = map(&wal_file, &index) else { return };
    assert!(map.frame_count() as usize * map.header().frame_bytes() <= wal.len());
    let mut page = vec![0; map.page_size().bytes()];
    for (frame, number) in map.pages().iter().enumerate() {
        assert!(map.holds(*number));
        assert!(map.read_frame(&wal_file, frame as u32, &mut page).expect("a file reads"));
    }
    assert!(map.overlay(&wal_file, PageNo(1), &mut page).expect("a file reads"));
    assert_eq!(map.commits().last().map(|commit| commit.end), Some(map.frame_count()));
    assert_eq!(map.position().frames, map.frame_count());
    let _ = source::read_header(&wal_file);
}

fn file(content: &[u8]) -> File {
    let mut file = tempfile::tempfile().expect("a temporary file");
    file.write_all(content).expect("a temporary file");
    file
}
