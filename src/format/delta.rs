//! Segments of a delta: the pages that one or more steps changed, each against the state below (`format-spec/delta.md`).
//!
//! A *step* leads from one committed state to the next. A snapshot's delta is one step; what a watcher captured is a step a commit. Steps are complete
//! only when their last part is there: a step may span segments.
//!
//! # Records
//! A page's record is the smallest of: `zero`, `plain` (the page), `xor` (against the page below, runs of zeros left out). XOR records form a
//! group: two of the same page are composed without their base ([`Change::then`]).

use serde::{Deserialize, Serialize};

use crate::base::clock::UnixMicros;
use crate::base::id::ImageRoot;
use crate::base::page::{PageCount, PageNo, PageSize};

use super::manifest::MAX_PAGE_COUNT;
use super::varint;
use super::{FormatError, cbor, ensure};

/// A segment is closed when its records and steps pass this length.
pub const SEGMENT_BYTES: usize = 1 << 20;

/// The most that a step takes in a segment beside its records. Commits are often smaller than that.
pub const STEP_BYTES: usize = 134;

/// Zero bytes that end a run of differing ones; fewer are kept in it, for they cost less than a new run.
const GAP_BYTES: usize = 4;

const ZERO: u64 = 0;
const PLAIN: u64 = 1;
const XOR: u64 = 2;

/// The state that a step leads to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StepState {
    /// Its number in the timeline.
    pub commit: u64,
    /// When it was observed, on the writer's clock.
    pub captured: UnixMicros,
    /// Its pages.
    pub page_count: u32,
    /// The fewest pages on the way: pages beyond it start from zeros, not from the state below.
    pub low_page_count: u32,
    /// BLAKE3 of its image.
    pub root: ImageRoot,
}

/// A step, or a part of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StepPart {
    /// Where the step leads.
    pub state: StepState,
    /// Whether the rest of the step follows in the next segment.
    pub more: bool,
    /// Ascending by page.
    pub records: Vec<Record>,
}

impl StepPart {
    /// Bytes of its records, before compression.
    pub fn record_bytes(&self) -> u64 {
        let bytes = |record: &Record| match &record.change {
            Change::Zero => 1,
            Change::Plain(page) => 1 + page.len() as u64,
            Change::Xor(difference) => 1 + difference.encoded.len() as u64,
        };
        self.records.iter().map(bytes).sum()
    }
}

/// What a step makes of a page.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// Which page.
    pub page: PageNo,
    /// What becomes of it.
    pub change: Change,
}

/// What becomes of a page.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// It is zeros now.
    Zero,
    /// It is this now.
    Plain(Vec<u8>),
    /// It is what it was, XOR these bytes at these offsets.
    Xor(Difference),
}

/// Where two pages differ: literal runs, ascending and apart, as they stand in the format: skip, length, bytes …
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Difference {
    encoded: Vec<u8>,
}

impl Difference {
    /// The difference of two pages of the same size.
    pub fn between(old: &[u8], new: &[u8]) -> Self {
        let differing: Vec<u8> = old.iter().zip(new).map(|(a, b)| a ^ b).collect();
        Self::from_bytes(&differing)
    }

    fn from_bytes(bytes: &[u8]) -> Self {
        let mut encoded = Vec::new();
        let mut done = 0;
        while done < bytes.len() {
            let start = bytes[done..].iter().position(|&byte| byte != 0).map_or(bytes.len(), |at| done + at);
            varint::put(&mut encoded, (start - done) as u64);
            if start == bytes.len() {
                break;
            }
            let end = literal_end(bytes, start);
            varint::put(&mut encoded, (end - start) as u64);
            encoded.extend(&bytes[start..end]);
            done = end;
        }
        Self { encoded }
    }

    /// XORs the difference into a page.
    pub fn apply(&self, page: &mut [u8]) {
        let (mut rest, mut at) = (&self.encoded[..], 0);
        while at < page.len() {
            at += varint::take(&mut rest).expect("BUG: differences are checked when they are parsed") as usize;
            if at >= page.len() {
                break;
            }
            let length = varint::take(&mut rest).expect("BUG: differences are checked when they are parsed") as usize;
            let (literal, tail) = rest.split_at(length);
            page[at..at + length].iter_mut().zip(literal).for_each(|(byte, difference)| *byte ^= difference);
            (rest, at) = (tail, at + length);
        }
    }

    /// Whether nothing differs.
    pub fn is_empty(&self) -> bool {
        let mut rest = &self.encoded[..];
        varint::take(&mut rest).is_none_or(|_| rest.is_empty())
    }

    /// Takes the difference of a page of `page_bytes` from the front of `input`.
    fn take(input: &mut &[u8], page_bytes: usize) -> Result<Self, FormatError> {
        let malformed = || FormatError::malformed("a page difference does not fit its page");
        let whole = *input;
        let mut at = 0u64;
        while at < page_bytes as u64 {
            at = at.saturating_add(varint::take(input).ok_or_else(malformed)?);
            if at >= page_bytes as u64 {
                break;
            }
            let length = varint::take(input).ok_or_else(malformed)?;
            at = at.saturating_add(length);
            ensure(length > 0 && at <= page_bytes as u64, "a page difference does not fit its page")?;
            *input = input.get(length as usize..).ok_or_else(malformed)?;
        }
        ensure(at == page_bytes as u64, "a page difference does not fit its page")?;
        Ok(Self { encoded: whole[..whole.len() - input.len()].to_vec() })
    }
}

/// Where the literal run that begins at `start` ends: before the next [`GAP_BYTES`] zeros.
fn literal_end(bytes: &[u8], start: usize) -> usize {
    let mut zeros = 0;
    for (at, &byte) in bytes.iter().enumerate().skip(start) {
        zeros = if byte == 0 { zeros + 1 } else { 0 };
        if zeros == GAP_BYTES {
            return at + 1 - GAP_BYTES;
        }
    }
    bytes.len() - zeros
}

impl Change {
    /// The change that leads to `new`, from `old` if that is known; `None` if they are equal.
    pub fn between(old: Option<&[u8]>, new: &[u8]) -> Option<Self> {
        if old == Some(new) {
            return None;
        }
        if new.iter().all(|&byte| byte == 0) {
            return Some(Self::Zero);
        }
        let difference = old.map(|old| Difference::between(old, new));
        Some(match difference {
            Some(difference) if difference.encoded.len() < new.len() => Self::Xor(difference),
            _ => Self::Plain(new.to_vec()),
        })
    }

    /// Makes the change to a page.
    pub fn apply(&self, page: &mut [u8]) {
        match self {
            Self::Zero => page.fill(0),
            Self::Plain(bytes) => page.copy_from_slice(bytes),
            Self::Xor(difference) => difference.apply(page),
        }
    }

    /// Both changes of a page, this one first, as one.
    pub fn then(self, next: &Self, page_size: PageSize) -> Self {
        let Self::Xor(difference) = next else { return next.clone() };
        let mut page = vec![0; page_size.bytes()];
        let has_base = match &self {
            Self::Xor(first) => {
                first.apply(&mut page);
                false
            }
            whole => {
                whole.apply(&mut page);
                true
            }
        };
        difference.apply(&mut page);
        if has_base {
            return if page.iter().all(|&byte| byte == 0) { Self::Zero } else { Self::Plain(page) };
        }
        Self::Xor(Difference::from_bytes(&page))
    }

    /// Whether the page does not change after all.
    pub fn is_nothing(&self) -> bool {
        matches!(self, Self::Xor(difference) if difference.is_empty())
    }

    fn put(&self, output: &mut Vec<u8>, page_distance: u32) {
        let kind = match self {
            Self::Zero => ZERO,
            Self::Plain(_) => PLAIN,
            Self::Xor(_) => XOR,
        };
        varint::put(output, u64::from(page_distance) << 2 | kind);
        match self {
            Self::Zero => {}
            Self::Plain(bytes) => output.extend(bytes),
            Self::Xor(difference) => output.extend(&difference.encoded),
        }
    }

    fn take(kind: u64, input: &mut &[u8], page_size: PageSize) -> Result<Self, FormatError> {
        match kind {
            ZERO => Ok(Self::Zero),
            PLAIN => {
                let ended = || FormatError::malformed("a plain page is cut short");
                let (page, rest) = input.split_at_checked(page_size.bytes()).ok_or_else(ended)?;
                *input = rest;
                Ok(Self::Plain(page.to_vec()))
            }
            XOR => Difference::take(input, page_size.bytes()).map(Self::Xor),
            _ => Err(FormatError::malformed("a page record of an unknown kind")),
        }
    }
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct WireStep {
    commit: u64,
    captured: UnixMicros,
    page_count: u32,
    low_page_count: u32,
    root: ImageRoot,
    more: bool,
    record_count: u32,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct WireSegment {
    steps: Vec<WireStep>,
    #[serde(with = "serde_bytes")]
    records: Vec<u8>,
}

/// Parses a segment of a delta of a database with pages of that size.
pub fn parse(bytes: &[u8], page_size: PageSize) -> Result<Vec<StepPart>, FormatError> {
    let wire: WireSegment = cbor::decode(bytes)?;
    ensure(!wire.steps.is_empty(), "a delta segment without steps")?;
    let mut input = &wire.records[..];
    let last = wire.steps.len() - 1;
    let mut parts = Vec::with_capacity(wire.steps.len());
    for (i, step) in wire.steps.into_iter().enumerate() {
        ensure((1..=MAX_PAGE_COUNT).contains(&step.page_count), "page count outside the limits")?;
        ensure(step.low_page_count <= step.page_count, "a low page count above the page count")?;
        ensure(!step.more || i == last, "an unfinished step before the last")?;
        parts.push(parse_step(step, &mut input, page_size)?);
    }
    ensure(input.is_empty(), "bytes follow the records of a delta segment")?;
    Ok(parts)
}

fn parse_step(step: WireStep, input: &mut &[u8], page_size: PageSize) -> Result<StepPart, FormatError> {
    // A record is a byte at least.
    ensure(step.record_count as usize <= input.len(), "more records than bytes")?;
    // A hostile count must not reserve what it does not hold.
    let mut records = Vec::with_capacity((step.record_count as usize).min(4096));
    let mut page = 0u64;
    for _ in 0..step.record_count {
        let head = varint::take(input).ok_or_else(|| FormatError::malformed("a page record is cut short"))?;
        ensure(head >> 2 > 0, "page records out of order")?;
        page = page.saturating_add(head >> 2);
        ensure(page <= u64::from(step.page_count), "a record of a page beyond the page count")?;
        records.push(Record { page: PageNo(page as u32), change: Change::take(head & 3, input, page_size)? });
    }
    let WireStep { commit, captured, page_count, low_page_count, root, more, .. } = step;
    Ok(StepPart { state: StepState { commit, captured, page_count, low_page_count, root }, more, records })
}

/// One segment that holds whole steps, as a journal part needs it.
pub fn whole_segment(parts: &[StepPart]) -> Vec<u8> {
    let mut builder = DeltaBuilder::default();
    for part in parts {
        builder.begin(&part.state);
        part.records.iter().for_each(|record| builder.put(record));
    }
    builder.take()
}

/// Builds segments from steps that arrive in order.
#[derive(Default)]
pub struct DeltaBuilder {
    steps: Vec<WireStep>,
    records: Vec<u8>,
    last_page: u32,
    /// Bytes of records in all segments so far.
    record_bytes: u64,
}

impl DeltaBuilder {
    /// Begins a step.
    pub fn begin(&mut self, state: &StepState) {
        let StepState { commit, captured, page_count, low_page_count, root } = *state;
        self.last_page = 0;
        self.steps.push(WireStep { commit, captured, page_count, low_page_count, root, more: false, record_count: 0 });
    }

    /// Adds a record to the step that was begun last; returns a segment that is full.
    pub fn push(&mut self, record: &Record) -> Option<Vec<u8>> {
        let full = self.is_full().then(|| self.split());
        self.put(record);
        full
    }

    fn put(&mut self, record: &Record) {
        let step = self.steps.last_mut().expect("BUG: records belong to a step");
        step.record_count += 1;
        let before = self.records.len();
        record.change.put(&mut self.records, record.page.0 - self.last_page);
        self.record_bytes += (self.records.len() - before) as u64;
        self.last_page = record.page.0;
    }

    /// Closes the segment within a step, which goes on in the next one.
    fn split(&mut self) -> Vec<u8> {
        let step = self.steps.last_mut().expect("BUG: records belong to a step");
        step.more = true;
        let next = WireStep { more: false, record_count: 0, ..*step };
        let full = self.take();
        self.steps.push(next);
        self.last_page = 0;
        full
    }

    /// Whether the segment is full enough to be closed between two steps.
    pub fn is_full(&self) -> bool {
        self.records.len() + self.steps.len() * STEP_BYTES >= SEGMENT_BYTES
    }

    /// Bytes of records in all segments so far.
    pub fn record_bytes(&self) -> u64 {
        self.record_bytes
    }

    /// The last segment, if there is anything in it. The builder can go on.
    pub fn finish(&mut self) -> Option<Vec<u8>> {
        (!self.steps.is_empty()).then(|| self.take())
    }

    fn take(&mut self) -> Vec<u8> {
        let segment =
            WireSegment { steps: std::mem::take(&mut self.steps), records: std::mem::take(&mut self.records) };
        cbor::encode(&segment)
    }
}

impl StepState {
    /// The page count as its type.
    pub fn page_count(&self) -> PageCount {
        PageCount(self.page_count)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn page_size() -> PageSize {
        PageSize::new(512).expect("BUG: a page size")
    }

    fn state(commit: u64) -> StepState {
        let root = ImageRoot([7; 32]);
        StepState { commit, captured: UnixMicros(5), page_count: 9_000, low_page_count: 3, root }
    }

    fn page(seed: u8, ones: &[usize]) -> Vec<u8> {
        let mut page = vec![seed; 512];
        ones.iter().for_each(|&at| page[at] ^= 0x5a);
        page
    }

    proptest! {
        #[test]
        fn a_change_leads_from_the_old_page_to_the_new(
            old in proptest::collection::vec(0u8..3, 512), new in proptest::collection::vec(0u8..3, 512), keep in 0usize..512,
        ) {
            let new = [&old[..keep], &new[keep..]].concat();
            let mut page = old.clone();
            if let Some(change) = Change::between(Some(&old), &new) {
                change.apply(&mut page);
            }
            prop_assert_eq!(&page, &new);
        }

        #[test]
        fn changes_compose_without_their_base(
            base in proptest::collection::vec(0u8..3, 512), kinds in proptest::collection::vec(0u8..4, 1..6), seed in any::<u8>(),
        ) {
            let (mut page, mut composed): (Vec<u8>, Option<Change>) = (base.clone(), None);
            for (i, kind) in kinds.into_iter().enumerate() {
                let mut new = page.clone();
                match kind {
                    0 => new.fill(0),
                    1 => new.fill(seed.wrapping_add(i as u8)),
                    _ => new[(seed as usize + i * 31) % 512] ^= 1 + i as u8,
                }
                let Some(change) = Change::between((kind != 1).then_some(&page[..]), &new) else { continue };
                composed = Some(match composed { None => change, Some(first) => first.then(&change, page_size()) });
                page = new;
            }
            let mut applied = base;
            if let Some(change) = composed { change.apply(&mut applied); }
            prop_assert_eq!(applied, page);
        }

        #[test]
        fn parsing_anything_never_panics(records in proptest::collection::vec(any::<u8>(), 0..64), count in 0u32..5) {
            let StepState { commit, captured, page_count, low_page_count, root } = state(1);
            let step = WireStep { commit, captured, page_count, low_page_count, root, more: false, record_count: count };
            if let Ok(parts) = parse(&cbor::encode(&WireSegment { steps: vec![step], records }), page_size()) {
                let mut page = vec![0; 512];
                parts.iter().flat_map(|part| &part.records).for_each(|record| record.change.apply(&mut page));
            }
        }
    }

    #[test]
    fn steps_come_back_and_span_segments() {
        let mut builder = DeltaBuilder::default();
        let mut segments = Vec::new();
        // Even bytes, so that it differs from every page above.
        let below = page(2, &[]);
        let record = |page: u32| Record {
            page: PageNo(page),
            change: Change::between(page.is_multiple_of(3).then_some(&below[..]), &page_of(page))
                .expect("BUG: they differ"),
        };
        fn page_of(n: u32) -> Vec<u8> {
            page(n as u8 | 1, &[n as usize % 512])
        }
        for commit in [1, 2] {
            builder.begin(&state(commit));
            for page in 2..3_000 {
                segments.extend(builder.push(&record(page)));
            }
        }
        segments.extend(builder.finish());
        assert!(segments.len() > 2, "{}", segments.len());
        let parts: Vec<StepPart> =
            segments.iter().flat_map(|bytes| parse(bytes, page_size()).expect("BUG: it parses")).collect();
        let complete = parts.iter().filter(|part| !part.more).map(|part| part.state).collect::<Vec<_>>();
        assert_eq!(complete, [state(1), state(2)]);
        let pages: Vec<u32> = parts.iter().flat_map(|part| &part.records).map(|record| record.page.0).collect();
        assert_eq!(pages, (2..3_000).chain(2..3_000).collect::<Vec<_>>());
        assert!(parts.iter().flat_map(|part| &part.records).all(|found| *found == record(found.page.0)));
    }

    #[test]
    fn many_small_steps_do_not_outgrow_a_chunk() {
        let largest = StepState {
            commit: u64::MAX,
            captured: UnixMicros(i64::MIN),
            page_count: MAX_PAGE_COUNT,
            low_page_count: MAX_PAGE_COUNT,
            root: ImageRoot([7; 32]),
        };
        let mut builder = DeltaBuilder::default();
        let mut segments = Vec::new();
        for _ in 0..30_000 {
            builder.begin(&largest);
            segments.extend(builder.push(&Record { page: PageNo(1), change: Change::Zero }));
            if builder.is_full() {
                segments.extend(builder.finish());
            }
        }
        segments.extend(builder.finish());
        assert!(segments.iter().all(|segment| segment.len() <= SEGMENT_BYTES + 1000));
        let parts = segments.iter().flat_map(|segment| parse(segment, page_size()).expect("BUG: it parses"));
        assert_eq!(parts.filter(|part| part.state == largest && part.records.len() == 1).count(), 30_000);
    }

    #[test]
    fn hostile_segments_are_refused() {
        let StepState { commit, captured, page_count, low_page_count, root } = state(1);
        let step =
            |record_count, more| WireStep { commit, captured, page_count, low_page_count, root, more, record_count };
        let check = |steps: Vec<WireStep>, records: &[u8]| {
            parse(&cbor::encode(&WireSegment { steps, records: records.to_vec() }), page_size())
                .map(|parts| parts.len())
        };
        // 0x04: one page on, zero.
        assert_eq!(check(vec![step(1, false)], &[0x04]), Ok(1));
        assert_eq!(check(vec![step(0, false), step(1, true)], &[0x04]), Ok(2));
        assert_eq!(check(vec![WireStep { low_page_count: 9_000, ..step(0, false) }], &[]), Ok(1));
        // 0x06: one page on, XOR: 512 bytes that do not differ; 511, then one that does.
        assert_eq!(check(vec![step(2, false)], &[0x06, 0x80, 0x04, 0x06, 0xff, 0x03, 1, 9]), Ok(1));
        for (what, steps, records) in [
            ("no steps", vec![], &[][..]),
            ("leftover", vec![step(1, false)], &[0x04, 0x04]),
            ("same page twice", vec![step(2, false)], &[0x04, 0x00]),
            ("page zero", vec![step(1, false)], &[0x00]),
            ("too many", vec![step(u32::MAX, false)], &[0x04]),
            ("kind", vec![step(1, false)], &[0x07]),
            ("cut plain", vec![step(1, false)], &[0x05, 1, 2]),
            ("empty literal", vec![step(1, false)], &[0x06, 0, 0]),
            ("past the page", vec![step(1, false)], &[0x06, 0x81, 0x04]),
            ("literal past the page", vec![step(1, false)], &[0x06, 0xff, 0x03, 2, 9, 9]),
            ("skip that overflows", vec![step(1, false)], &[0x06, 255, 255, 255, 255, 255, 255, 255, 255, 255, 1]),
            ("cut literal", vec![step(1, false)], &[0x06, 0, 0x80, 0x04, 9]),
            ("cut difference", vec![step(1, false)], &[0x06, 0, 1, 9]),
            ("cut number", vec![step(1, false)], &[0x84]),
            ("past the count", vec![step(1, false)], &[0xa4, 0x99, 0x02]),
            ("far past the count", vec![step(1, false)], &[0xfc, 0xff, 0xff, 0xff, 0x7f]),
            ("far past the count twice", vec![step(2, false)], &[0xfc, 255, 255, 255, 255, 255, 255, 255, 255, 1, 4]),
            ("no pages", vec![WireStep { page_count: 0, low_page_count: 0, ..step(0, false) }], &[]),
            ("too many pages", vec![WireStep { page_count: u32::MAX, ..step(0, false) }], &[]),
            ("low count above", vec![WireStep { low_page_count: 9_001, ..step(0, false) }], &[]),
            ("unfinished first", vec![step(0, true), step(1, false)], &[0x04]),
        ] {
            assert!(check(steps, records).is_err(), "{what}");
        }
    }
}
