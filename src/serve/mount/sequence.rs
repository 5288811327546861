//! Sees that a file is read from one end to the other, and says how far to read ahead.
//!
//! A scan of one table skips the pages of others: to the kernel that is no sequence, and it would ask for each page alone. So a reader that goes on is given what comes
//! next, skipped pages too.

use std::ops::Range;

/// The first bytes that are read ahead.
const FIRST_BYTES: u64 = 256 << 10;
/// The most that is read ahead of a reader, and the part of the cache's limit that it is at most.
const MOST_BYTES: u64 = 8 << 20;
const CACHE_SHARE: u64 = 8;
/// The kernel asks for several parts at once, in any order, and a scan of one table skips the pages of others: so far from where the reader was it still goes on.
const NEAR_BYTES: u64 = 1 << 20;

/// A reader that has gone on for so long gets what comes next before it asks.
const GIVING_FROM_BYTES: u64 = 1 << 20;

/// Where a reader is.
#[derive(Debug)]
pub struct Sequence {
    most_bytes: u64,
    next: u64,
    window: u64,
    /// What lies before this was read ahead.
    foreseen: u64,
    /// What lies before this was given to the reader without its asking.
    given: u64,
}

/// What to do for a reader that goes on.
#[derive(Debug, PartialEq, Eq)]
pub struct Ahead {
    /// What to read ahead.
    pub fetch: Range<u64>,
    /// What to give to the reader: nothing, or the beginning of that.
    pub give: Range<u64>,
}

impl Sequence {
    /// A reader at the beginning of a file, whose chunks go into a cache of that limit.
    pub fn new(cache_bytes: u64) -> Self {
        let most_bytes = (cache_bytes / CACHE_SHARE).clamp(FIRST_BYTES, MOST_BYTES);
        Self { most_bytes, next: 0, window: 0, foreseen: 0, given: 0 }
    }

    /// Notes that bytes are read; returns what to do now, if anything.
    pub fn note(&mut self, read: Range<u64>) -> Option<Ahead> {
        let reached = self.next.max(self.given);
        let is_near = read.start < reached + NEAR_BYTES && read.start + NEAR_BYTES >= self.next;
        if !is_near {
            (self.next, self.window, self.foreseen, self.given) = (read.end, 0, read.end, read.end);
            return None;
        }
        if read.end <= self.next {
            return None;
        }
        self.next = read.end;
        // Parts of the window are a step: doing something for each request would be doing it for a few pages.
        let is_foreseen = self.window > 0 && self.foreseen >= self.next + self.window / 2;
        let is_given = self.window < GIVING_FROM_BYTES || self.given > self.next + self.window / 8;
        if is_foreseen && is_given {
            return None;
        }
        self.window = (self.window * 2).clamp(FIRST_BYTES, self.most_bytes);
        let from = self.next;
        // What was foreseen before is foreseen again, for threads may not have been free for all of it.
        self.foreseen = from + self.window;
        let begin = self.given.max(from);
        let end = if self.window < GIVING_FROM_BYTES { begin } else { begin.max(from + self.window / 4) };
        self.given = self.given.max(end);
        Some(Ahead { fetch: from..self.foreseen, give: begin..end })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A scan of every other page, of which those that were given are not asked for.
    #[test]
    fn a_reader_that_goes_on_is_read_ahead_of_and_given_what_comes_next() {
        let mut sequence = Sequence::new(256 << 20);
        let (mut foreseen, mut given, mut asked, mut hints) = (0, 0, 0, 0);
        for at in (0..64 << 20).step_by(8192).filter(|at| at % (3 << 13) != 0) {
            if at < given {
                continue;
            }
            asked += 1;
            let Some(ahead) = sequence.note(at..at + 4096) else { continue };
            assert!(ahead.fetch.start == at + 4096 && ahead.fetch.end - ahead.fetch.start <= MOST_BYTES);
            assert!(ahead.give.is_empty() || ahead.give.start >= given && ahead.give.end <= ahead.fetch.end);
            (foreseen, given, hints) = (ahead.fetch.end, given.max(ahead.give.end), hints + 1);
        }
        assert!(foreseen >= 64 << 20 && given > 60 << 20, "{foreseen}, {given}");
        assert!(asked < 300 && hints < 100, "{asked}, {hints}");
    }

    #[test]
    fn parts_in_another_order_and_small_gaps_go_on() {
        let mut sequence = Sequence::new(256 << 20);
        let order = [0, 2, 1, 3, 5, 4, 9, 8, 12];
        let hints = order.iter().filter(|at| sequence.note(**at << 17..(**at + 1) << 17).is_some());
        assert!(hints.count() >= 3);
    }

    #[test]
    fn one_who_jumps_about_is_not_read_ahead_of() {
        let mut sequence = Sequence::new(256 << 20);
        for at in [500, 20, 300, 100, 700] {
            assert_eq!(sequence.note(at << 20..(at << 20) + 4096), None, "{at}");
        }
    }
}
