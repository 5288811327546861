//! The write-ahead log: header, frames and the checksum chain (SQLite WAL format §§1–4).
//!
//! A frame counts only when its salts are the header's and the checksum chain, continued from the frame before it,
//! agrees. What follows the last commit frame is not committed. A torn frame, a stale generation or garbage ends the chain and is never
//! mistaken for data.

use crate::base::page::{PageNo, PageSize};

use super::be_u32;

/// Bytes of the WAL header.
pub const WAL_HEADER_BYTES: usize = 32;
/// Bytes before each frame's page.
pub const FRAME_HEADER_BYTES: usize = 24;

const MAGIC_LITTLE: u32 = 0x377f_0682;
const MAGIC_BIG: u32 = 0x377f_0683;
const FORMAT: u32 = 3_007_000;

/// The two salts that tell one generation of the WAL from the next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Salts(pub [u8; 8]);

/// A running checksum.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Checksum(pub u32, pub u32);

/// Byte order of the words that checksums are computed over. Checksums themselves are stored big-endian.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum WordOrder {
    Little,
    Big,
}

/// A WAL header whose checksum agrees.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WalHeader {
    /// Size of each frame's page.
    pub page_size: PageSize,
    /// Of this generation.
    pub salts: Salts,
    /// Where the frames' chain begins.
    pub checksum: Checksum,
    order: WordOrder,
}

impl WalHeader {
    /// Parses the first 32 bytes of a WAL; `None` if they are no intact header.
    pub fn parse(bytes: &[u8]) -> Option<Self> {
        let bytes = bytes.get(..WAL_HEADER_BYTES)?;
        let order = match be_u32(bytes, 0)? {
            MAGIC_LITTLE => WordOrder::Little,
            MAGIC_BIG => WordOrder::Big,
            _ => return None,
        };
        let checksum = Checksum(be_u32(bytes, 24)?, be_u32(bytes, 28)?);
        let intact = be_u32(bytes, 4)? == FORMAT && extend(order, Checksum(0, 0), &bytes[..24]) == checksum;
        intact.then_some(())?;
        Some(Self {
            page_size: PageSize::new(be_u32(bytes, 8)?)?,
            salts: Salts(bytes[16..24].try_into().ok()?),
            checksum,
            order,
        })
    }

    /// Bytes of a frame with its header.
    pub fn frame_bytes(&self) -> usize {
        FRAME_HEADER_BYTES + self.page_size.bytes()
    }

    /// The byte offset of the frame with that index, from 0.
    pub fn frame_offset(&self, index: u32) -> u64 {
        WAL_HEADER_BYTES as u64 + u64::from(index) * self.frame_bytes() as u64
    }
}

/// The salts and the checksum that stand in a frame's header, whatever they are worth.
pub fn frame_marks(header: &[u8; FRAME_HEADER_BYTES]) -> (Salts, Checksum) {
    let mut salts = [0; 8];
    salts.copy_from_slice(&header[8..16]);
    let word = |at| be_u32(header, at).unwrap_or_default();
    (Salts(salts), Checksum(word(16), word(20)))
}

impl Salts {
    /// How many restarts of the WAL lie between the two: each adds one to the first salt (WAL format §4.3). Salts of another file are as far away as chance has it.
    pub fn restarts_since(self, earlier: Self) -> u32 {
        let first = |salts: Self| be_u32(&salts.0, 0).unwrap_or_default();
        first(self).wrapping_sub(first(earlier))
    }
}

/// A frame that the chain has accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Frame {
    /// The page it holds.
    pub page: PageNo,
    /// For a commit frame, the database's size in pages after it; 0 for others.
    pub commit_pages: u32,
}

/// Follows the checksum chain of one generation, frame by frame.
#[derive(Clone, Copy, Debug)]
pub struct FrameChain {
    header: WalHeader,
    checksum: Checksum,
}

impl FrameChain {
    /// At the first frame of the generation that `header` opens.
    pub fn new(header: WalHeader) -> Self {
        Self { header, checksum: header.checksum }
    }

    /// Behind a frame of the generation named by `salts`, whose checksum was `checksum`; `header` may be that of another generation of the same
    /// file.
    pub fn resume(header: WalHeader, salts: Salts, checksum: Checksum) -> Self {
        Self { header: WalHeader { salts, ..header }, checksum }
    }

    /// Accepts the next frame, header and page, if it continues the chain.
    pub fn accept(&mut self, frame: &[u8]) -> Option<Frame> {
        if frame.len() != self.header.frame_bytes() || frame[8..16] != self.header.salts.0 {
            return None;
        }
        let (head, page) = frame.split_at(FRAME_HEADER_BYTES);
        let checksum = extend(self.header.order, extend(self.header.order, self.checksum, &head[..8]), page);
        let stored = Checksum(be_u32(head, 16)?, be_u32(head, 20)?);
        let page = PageNo(be_u32(head, 0)?);
        if checksum != stored || page.0 == 0 {
            return None;
        }
        self.checksum = checksum;
        Some(Frame { page, commit_pages: be_u32(head, 4)? })
    }

    /// The checksum of the last frame accepted.
    pub fn checksum(&self) -> Checksum {
        self.checksum
    }
}

/// SQLite's checksum over 32-bit words, taken in pairs (WAL format §4.2).
fn extend(order: WordOrder, start: Checksum, bytes: &[u8]) -> Checksum {
    match order {
        WordOrder::Little => extend_words(start, bytes, u32::from_le_bytes),
        WordOrder::Big => extend_words(start, bytes, u32::from_be_bytes),
    }
}

fn extend_words(Checksum(mut a, mut b): Checksum, bytes: &[u8], word: impl Fn([u8; 4]) -> u32) -> Checksum {
    for pair in bytes.chunks_exact(8) {
        a = a.wrapping_add(word([pair[0], pair[1], pair[2], pair[3]])).wrapping_add(b);
        b = b.wrapping_add(word([pair[4], pair[5], pair[6], pair[7]])).wrapping_add(a);
    }
    Checksum(a, b)
}

#[cfg(test)]
mod tests {
    use rusqlite::Connection;

    use super::*;

    /// The WAL that SQLite leaves after three transactions, and the page count of each commit.
    fn wal() -> (Vec<u8>, Vec<u32>) {
        let folder = tempfile::tempdir().expect("BUG: a temporary folder");
        let path = folder.path().join("a.db");
        let connection = Connection::open(&path).expect("BUG: a database");
        connection
            .execute_batch("PRAGMA page_size = 512; PRAGMA journal_mode = wal; CREATE TABLE t (b)")
            .expect("BUG: SQL");
        let mut page_counts = vec![page_count(&connection)];
        for _ in 0..2 {
            connection.execute_batch("INSERT INTO t VALUES (randomblob(3000))").expect("BUG: SQL");
            page_counts.push(page_count(&connection));
        }
        let bytes = std::fs::read(folder.path().join("a.db-wal")).expect("BUG: the WAL is there");
        (bytes, page_counts)
    }

    fn page_count(connection: &Connection) -> u32 {
        connection.pragma_query_value(None, "page_count", |row| row.get(0)).expect("BUG: a pragma")
    }

    /// Page counts of the commits that the chain accepts.
    fn commits(wal: &[u8]) -> Vec<u32> {
        let Some(header) = WalHeader::parse(wal) else { return Vec::new() };
        let mut chain = FrameChain::new(header);
        let frames = wal[WAL_HEADER_BYTES..].chunks(header.frame_bytes());
        let accepted = frames.map_while(|frame| chain.accept(frame));
        accepted.map(|frame| frame.commit_pages).filter(|&pages| pages > 0).collect()
    }

    #[test]
    fn accepts_what_sqlite_has_committed() {
        let (wal, page_counts) = wal();
        assert_eq!(commits(&wal), page_counts);
    }

    #[test]
    fn a_flipped_bit_ends_the_chain_before_it() {
        let (wal, page_counts) = wal();
        for at in (0..wal.len()).step_by(7) {
            let mut damaged = wal.clone();
            damaged[at] ^= 0x10;
            let found = commits(&damaged);
            assert!(found.len() < page_counts.len() && page_counts.starts_with(&found), "byte {at}: {found:?}");
        }
    }

    #[test]
    fn garbage_torn_and_stale_frames_are_not_accepted() {
        let (wal, page_counts) = wal();
        let frame_bytes = FRAME_HEADER_BYTES + 512;
        let last = wal[wal.len() - frame_bytes..].to_vec();
        let mut stale = last.clone();
        stale[8] ^= 1;
        for tail in [vec![0xff; frame_bytes], last, stale, vec![0; 100]] {
            assert_eq!(commits(&[&wal[..], &tail].concat()), page_counts);
        }
        assert_eq!(commits(&wal[..wal.len() - 1]), page_counts[..2]);
        assert!(commits(&wal[..31]).is_empty());
    }
}
