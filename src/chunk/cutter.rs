//! Content-defined cutting at page boundaries (`format-spec/cutter.md`).
//!
//! FastCDC finds a cut point, which is then moved up to the next page boundary: a chunk is a run of whole
//! pages, and every page is one chunk away. The gear table is secret, so chunk lengths do not betray content.

use fastcdc::v2020::{Normalization, cut_gear, select_masks};

use crate::base::page::PageSize;
use crate::crypto::keys::GearTable;

/// Sizes in bytes between which the cutter works. All are powers of two.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CutterSizes {
    /// No cut point comes earlier.
    pub minimum: u32,
    /// Where cut points gather.
    pub average: u32,
    /// A cut comes here at the latest.
    pub maximum: u32,
}

impl Default for CutterSizes {
    fn default() -> Self {
        Self { minimum: 32 << 10, average: 128 << 10, maximum: 512 << 10 }
    }
}

impl CutterSizes {
    /// Whether a repository may use these sizes.
    pub fn is_valid(self) -> bool {
        let all = [self.minimum, self.average, self.maximum];
        all.iter().all(|size| size.is_power_of_two() && (4 << 10..=1 << 20).contains(size))
            && (16 << 10..=512 << 10).contains(&self.average)
            && self.minimum <= self.average / 2
            && self.average <= self.maximum / 2
    }
}

/// Cuts images of one page size.
#[derive(Clone, Copy, Debug)]
pub struct Cutter<'a> {
    sizes: CutterSizes,
    page_size: PageSize,
    masks: (u64, u64),
    gear: &'a GearTable,
}

impl<'a> Cutter<'a> {
    /// A cutter with valid `sizes`.
    pub fn new(sizes: CutterSizes, page_size: PageSize, gear: &'a GearTable) -> Self {
        let masks = select_masks(sizes.average as usize, Normalization::Level1);
        Self { sizes, page_size, masks, gear }
    }

    /// How many bytes the cutter must see to find the next cut as if it saw everything.
    pub fn lookahead(&self) -> usize {
        self.sizes.maximum as usize
    }

    /// The length of the first chunk of `pages`, which are whole pages and either at least
    /// [`lookahead`](Self::lookahead) bytes or all that is left. Zero only for no bytes.
    pub fn cut(&self, pages: &[u8]) -> usize {
        let (mask_s, mask_l) = self.masks;
        let (_, cut) = cut_gear(
            pages,
            self.sizes.minimum as usize,
            self.sizes.average as usize,
            self.sizes.maximum as usize,
            mask_s,
            mask_l,
            mask_s << 1,
            mask_l << 1,
            &self.gear.words,
            &self.gear.doubled,
        );
        cut.next_multiple_of(self.page_size.bytes()).min(pages.len())
    }

    /// The lengths of all chunks that `pages` begins with and that are certain: with `last`, `pages` ends the
    /// image and all of it is cut; otherwise the last bytes, too few to see ahead, are left for the next call.
    pub fn cut_all(&self, pages: &[u8], last: bool) -> Vec<usize> {
        let mut lengths = Vec::new();
        let mut rest = pages;
        while !rest.is_empty() && (last || rest.len() >= self.lookahead()) {
            let length = self.cut(rest);
            lengths.push(length);
            rest = &rest[length..];
        }
        lengths
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::entropy::{Entropy, SeededEntropy};
    use crate::crypto::keys::Keyring;
    use crate::crypto::secret::SecretKey;

    fn random(seed: u64, length: usize) -> Vec<u8> {
        let mut bytes = vec![0; length];
        SeededEntropy::new(seed).fill(&mut bytes);
        bytes
    }

    fn cuts(image: &[u8], page_size: u32, root: u8) -> Vec<usize> {
        let keys = Keyring::new(SecretKey::from_bytes([root; 32]));
        let page_size = PageSize::new(page_size).expect("BUG: a page size");
        Cutter::new(CutterSizes::default(), page_size, &keys.gear).cut_all(image, true)
    }

    #[test]
    fn chunks_are_whole_pages_within_the_sizes() {
        let image = random(1, 4 << 20);
        for page_size in [512, 4096, 65_536] {
            let lengths = cuts(&image, page_size, 1);
            assert_eq!(lengths.iter().sum::<usize>(), image.len());
            let sizes = CutterSizes::default();
            for length in &lengths[..lengths.len() - 1] {
                assert_eq!(length % page_size as usize, 0);
                assert!((sizes.minimum as usize..=sizes.maximum as usize).contains(length), "{length}");
            }
        }
    }

    #[test]
    fn cuts_come_back_after_an_insertion_and_depend_on_the_key() {
        let image = random(2, 4 << 20);
        let shifted = [random(3, 4096), image.clone()].concat();
        let ends = |lengths: &[usize], shift: usize| -> Vec<usize> {
            let end = |sum: &mut usize, length: &usize| {
                *sum += length;
                Some(*sum + shift)
            };
            lengths.iter().scan(0, end).collect()
        };
        let (before, after) = (ends(&cuts(&image, 4096, 1), 4096), ends(&cuts(&shifted, 4096, 1), 0));
        let same = before.iter().filter(|end| after.contains(end)).count();
        assert!(same * 10 >= before.len() * 8, "{same} of {}", before.len());
        assert_ne!(cuts(&image, 4096, 1), cuts(&image, 4096, 2));
    }

    #[test]
    fn cutting_in_pieces_gives_the_same_cuts() {
        let image = random(4, 3 << 20);
        let keys = Keyring::new(SecretKey::from_bytes([1; 32]));
        let page_size = PageSize::new(4096).expect("BUG: a page size");
        let cutter = Cutter::new(CutterSizes::default(), page_size, &keys.gear);
        let (mut pieces, mut start) = (Vec::new(), 0);
        for end in (0..=image.len()).step_by(640 << 10).chain([image.len()]) {
            let lengths = cutter.cut_all(&image[start..end], end == image.len());
            start += lengths.iter().sum::<usize>();
            pieces.extend(lengths);
        }
        assert_eq!(pieces, cutter.cut_all(&image, true));
    }
}
