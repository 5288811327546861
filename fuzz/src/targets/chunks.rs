//! Chunks and what stands in them.

use continuum::base::page::PageCount;
use continuum::chunk::MAX_CHUNK_BYTES;
use continuum::chunk::codec::{self, Compression};
use continuum::format::delta::{self, StepPart};
use continuum::format::layer::{LayerSegment, segment_count};
use continuum::format::varint as number;

use super::{take_page_size, take_u32};

pub fn chunk(bytes: &[u8]) {
    if let Ok(decoded) = codec::decode(bytes) {
        assert!((1..=MAX_CHUNK_BYTES).contains(&decoded.len()));
        let again = codec::encode(&decoded, Compression::default());
        assert_eq!(codec::decode(&again).as_ref(), Ok(&decoded));
    }
}

/// Position and page count of the segment come first.
pub fn layer_segment(mut bytes: &[u8]) {
    let pages = PageCount(take_u32(&mut bytes).clamp(1, u32::MAX - 1));
    let position = take_u32(&mut bytes) as usize % segment_count(pages);
    if let Ok(segment) = LayerSegment::parse(bytes, position, pages) {
        assert_eq!(LayerSegment::parse(&segment.encode(), position, pages), Ok(segment));
    }
}

/// The page size comes first.
pub fn delta_segment(mut bytes: &[u8]) {
    let page_size = take_page_size(&mut bytes);
    let Ok(parts) = delta::parse(bytes, page_size) else { return };
    // A journal's segment holds whole steps.
    let whole: Vec<StepPart> = parts.iter().map(|part| StepPart { more: false, ..part.clone() }).collect();
    assert_eq!(delta::parse(&delta::whole_segment(&whole), page_size).as_ref(), Ok(&whole));
    let mut page = vec![0x5a; page_size.bytes()];
    for record in parts.iter().flat_map(|part| &part.records) {
        let before = page.clone();
        record.change.apply(&mut page);
        assert_eq!(page.len(), before.len());
        // Twice the same difference is none.
        if matches!(record.change, delta::Change::Xor(_)) {
            let mut back = page.clone();
            record.change.apply(&mut back);
            assert_eq!(back, before);
        }
    }
}

pub fn varint(bytes: &[u8]) {
    let mut rest = bytes;
    while let Some(value) = number::take(&mut rest) {
        let mut again = Vec::new();
        number::put(&mut again, value);
        assert_eq!(number::take(&mut &again[..]), Some(value));
    }
}
