//! Sees that a file is read from one end to the other, and says how far to read ahead.

use std::ops::Range;

/// The first bytes that are read ahead.
const FIRST_BYTES: u64 = 256 << 10;
/// The most that is read ahead of a reader.
const MOST_BYTES: u64 = 8 << 20;
/// The kernel asks for several parts at once, in any order, and a scan of one table skips the pages of others: so far from where the reader was it still goes on.
const NEAR_BYTES: u64 = 1 << 20;

/// Where a reader is.
#[derive(Debug, Default)]
pub struct Sequence {
    next: u64,
    window: u64,
    /// What lies before this was read ahead.
    foreseen: u64,
}

impl Sequence {
    /// Notes that bytes are read; returns which to read ahead now, if any.
    pub fn note(&mut self, read: Range<u64>) -> Option<Range<u64>> {
        let is_near = read.start < self.next + NEAR_BYTES && read.start + NEAR_BYTES >= self.next;
        if !is_near {
            *self = Self { next: read.end, window: 0, foreseen: read.end };
            return None;
        }
        if read.end <= self.next {
            return None;
        }
        self.next = read.end;
        // A quarter of the window is a step: a hint for each request would be one for a few pages.
        if self.foreseen > self.next + self.window - self.window / 4 {
            return None;
        }
        self.window = (self.window * 2).clamp(FIRST_BYTES, MOST_BYTES);
        self.foreseen = self.next + self.window;
        // What was foreseen before is foreseen again, for threads may not have been free for all of it.
        Some(self.next..self.foreseen)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reader_that_goes_on_is_read_ahead_of_ever_farther() {
        let mut sequence = Sequence::default();
        let (mut foreseen, mut hints) = (0, 0);
        for at in (0..64 << 20).step_by(128 << 10) {
            assert!(at == 0 || foreseen >= at + (128 << 10), "{at}");
            if let Some(ahead) = sequence.note(at..at + (128 << 10)) {
                assert!(ahead.start == at + (128 << 10) && ahead.end - ahead.start <= MOST_BYTES);
                (foreseen, hints) = (ahead.end, hints + 1);
            }
        }
        assert!(foreseen > 60 << 20 && hints < 50, "{hints}");
    }

    #[test]
    fn parts_in_another_order_and_small_gaps_go_on() {
        let mut sequence = Sequence::default();
        let order = [0, 2, 1, 3, 5, 4, 9, 8, 12];
        let hints = order.iter().filter(|at| sequence.note(**at << 17..(**at + 1) << 17).is_some());
        assert!(hints.count() >= 3);
    }

    #[test]
    fn one_who_jumps_about_is_not_read_ahead_of() {
        let mut sequence = Sequence::default();
        for at in [500, 20, 300, 100, 700] {
            assert_eq!(sequence.note(at << 20..(at << 20) + 4096), None, "{at}");
        }
    }
}
