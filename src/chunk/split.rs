//! Stores arrays of 32-bit floats apart from text (`format-spec/chunk.md`, "With split").
//!
//! An embedding's mantissas are noise, and a compressor spends most of its time on them for nothing; its
//! sign-and-exponent bytes fit into three bits. A chunk is seen as segments of [`SEGMENT`] bytes, each is
//! classed by what its bytes look like, and only text and exponents are compressed.

/// Bytes of a segment.
pub const SEGMENT: usize = 128;
/// Exponent bytes of a float segment.
const EXPONENTS: usize = SEGMENT / 4;

/// Class of segments that are compressed as they are.
const TEXT: u8 = 0;
/// Class of segments that are stored as they are.
const PLAIN: u8 = 5;

/// Three streams that together are a chunk.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Streams {
    /// One class byte a segment, then all text.
    pub text: Vec<u8>,
    /// The exponent bytes of float segments.
    pub exponents: Vec<u8>,
    /// The rest of the float segments, and plain ones.
    pub plain: Vec<u8>,
}

/// Splits `bytes`, or `None` when too little of it is floats for the split to pay.
pub fn split(bytes: &[u8]) -> Option<Streams> {
    let segments = bytes.chunks_exact(SEGMENT);
    let classes: Vec<u8> = segments.clone().map(class_of).collect();
    let others = classes.iter().filter(|&&class| class != TEXT).count();
    if others * 16 < classes.len() {
        return None;
    }
    let mut streams = Streams {
        text: Vec::with_capacity(bytes.len() + classes.len() + 1),
        exponents: Vec::with_capacity(others * EXPONENTS),
        plain: Vec::with_capacity(others * SEGMENT),
    };
    streams.text.extend(&classes);
    let remainder = segments.remainder();
    if !remainder.is_empty() {
        streams.text.push(TEXT);
    }
    for (segment, &class) in segments.zip(&classes) {
        match class {
            TEXT => streams.text.extend(segment),
            PLAIN => streams.plain.extend(segment),
            float => split_floats(segment, usize::from(float - 1), &mut streams),
        }
    }
    streams.text.extend(remainder);
    Some(streams)
}

fn split_floats(segment: &[u8], phase: usize, streams: &mut Streams) {
    let mut exponents = [0; EXPONENTS];
    let mut plain = [0; SEGMENT - EXPONENTS];
    let words = segment.chunks_exact(4).zip(&mut exponents).zip(plain.chunks_exact_mut(3));
    for ((word, exponent), rest) in words {
        *exponent = word[phase];
        rest.copy_from_slice(&match phase {
            0 => [word[1], word[2], word[3]],
            1 => [word[0], word[2], word[3]],
            2 => [word[0], word[1], word[3]],
            _ => [word[0], word[1], word[2]],
        });
    }
    streams.exponents.extend_from_slice(&exponents);
    streams.plain.extend_from_slice(&plain);
}

/// Lengths of the streams of a chunk of `length` bytes, known from its classes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StreamLengths {
    /// Exponent bytes.
    pub exponents: usize,
    /// Plain bytes.
    pub plain: usize,
}

/// How many class bytes the text of a chunk of `length` bytes begins with.
pub fn class_count(length: usize) -> usize {
    length.div_ceil(SEGMENT)
}

/// The lengths that `text`, with its class bytes, asks of the other streams for a chunk of `length` bytes; `None`
/// if it does not fit.
pub fn stream_lengths(text: &[u8], length: usize) -> Option<StreamLengths> {
    let (classes, text) = text.split_at_checked(class_count(length))?;
    let (mut texts, mut floats, mut plains) = (0, 0, 0);
    for (i, &class) in classes.iter().enumerate() {
        let bytes = SEGMENT.min(length - i * SEGMENT);
        match class {
            TEXT => texts += bytes,
            _ if bytes < SEGMENT => return None,
            1..=4 => floats += 1,
            PLAIN => plains += 1,
            _ => return None,
        }
    }
    let lengths =
        StreamLengths { exponents: floats * EXPONENTS, plain: floats * (SEGMENT - EXPONENTS) + plains * SEGMENT };
    (texts == text.len()).then_some(lengths)
}

/// Puts the streams together again; their lengths must have been checked by [`stream_lengths`].
pub fn join(text: &[u8], exponents: &[u8], plain: &[u8], length: usize) -> Vec<u8> {
    let (classes, mut text) = text.split_at(class_count(length));
    let (mut exponents, mut plain) = (exponents, plain);
    let mut bytes = Vec::with_capacity(length);
    for &class in classes {
        match class {
            TEXT => bytes.extend(take(&mut text, SEGMENT)),
            PLAIN => bytes.extend(take(&mut plain, SEGMENT)),
            float => {
                let (high, low) = (take(&mut exponents, EXPONENTS), take(&mut plain, SEGMENT - EXPONENTS));
                join_floats(high, low, usize::from(float - 1), &mut bytes);
            }
        }
    }
    bytes
}

fn take<'a>(stream: &mut &'a [u8], length: usize) -> &'a [u8] {
    let (head, rest) = stream.split_at(length.min(stream.len()));
    *stream = rest;
    head
}

fn join_floats(exponents: &[u8], plain: &[u8], phase: usize, bytes: &mut Vec<u8>) {
    let mut segment = [0; SEGMENT];
    let words = segment.chunks_exact_mut(4).zip(exponents).zip(plain.chunks_exact(3));
    for ((word, &e), p) in words {
        word.copy_from_slice(&match phase {
            0 => [e, p[0], p[1], p[2]],
            1 => [p[0], e, p[1], p[2]],
            2 => [p[0], p[1], e, p[2]],
            _ => [p[0], p[1], p[2], e],
        });
    }
    bytes.extend_from_slice(&segment);
}

/// What a whole segment looks like.
///
/// Floats of similar magnitude have exponents close together (at one phase modulo 4) and mantissas that look random
/// (at the others). Text and integers fail the second test. Bytes that look random altogether were compressed or
/// encrypted already: a compressor would spend its time on them for nothing.
fn class_of(segment: &[u8]) -> u8 {
    /// Exponent bytes without their sign lie within this many steps: a factor of 2^16 between the smallest and largest.
    const SPREAD: u8 = 8;
    /// Of the 31 exponents most may equal the one before; of random mantissas hardly any does.
    const REPEATED_BYTES: usize = 40;
    /// Of 64 random bytes about 57 are different, of encoded ones (base64) about 40.
    const RANDOM_BYTES: u32 = 50;
    if !is_binary(segment) {
        return TEXT;
    }
    let (low, high) = magnitudes(segment);
    let mut narrow = (0..4).filter(|&phase| high[phase] - low[phase] <= SPREAD);
    match (narrow.next(), narrow.next()) {
        (Some(phase), None) if repeated_bytes(segment) <= REPEATED_BYTES => phase as u8 + 1,
        (None, None) if different_bytes(segment) >= RANDOM_BYTES => PLAIN,
        _ => TEXT,
    }
}

/// The smallest and the largest byte, highest bit aside, at each phase modulo 4.
fn magnitudes(segment: &[u8]) -> ([u8; 4], [u8; 4]) {
    // Sixteen lanes, four words at a time: the compiler makes vector instructions of it.
    let (mut low, mut high) = ([0x7f_u8; 16], [0_u8; 16]);
    for words in segment.as_chunks::<16>().0 {
        let words = words.map(|byte| byte & 0x7f);
        low = std::array::from_fn(|lane| low[lane].min(words[lane]));
        high = std::array::from_fn(|lane| high[lane].max(words[lane]));
    }
    let lanes = |phase: usize| [phase, phase + 4, phase + 8, phase + 12];
    let low = std::array::from_fn(|phase| lanes(phase).map(|lane| low[lane]).into_iter().fold(0x7f, u8::min));
    let high = std::array::from_fn(|phase| lanes(phase).map(|lane| high[lane]).into_iter().fold(0, u8::max));
    (low, high)
}

/// Whether enough bytes have their highest bit set: half of random ones have, none of ASCII. Cheap, and spares text the rest.
fn is_binary(segment: &[u8]) -> bool {
    segment.iter().map(|byte| byte >> 7).sum::<u8>() as usize >= SEGMENT / 5
}

/// How many bytes equal the one four before.
fn repeated_bytes(segment: &[u8]) -> usize {
    let pairs = segment.iter().zip(&segment[4..]);
    usize::from(pairs.map(|(byte, later)| u8::from(byte == later)).sum::<u8>())
}

/// How many different bytes there are in the first half.
fn different_bytes(segment: &[u8]) -> u32 {
    let mut seen = [0u64; 4];
    for byte in &segment[..SEGMENT / 2] {
        seen[usize::from(byte >> 6)] |= 1 << (byte & 63);
    }
    seen.iter().map(|bits| bits.count_ones()).sum()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::entropy::{Entropy, SeededEntropy};

    /// Numbers between −1 and 1 with random mantissas.
    fn floats(count: usize) -> Vec<u8> {
        let mut noise = vec![0; count * 4];
        SeededEntropy::new(5).fill(&mut noise);
        let float =
            |word: &[u8]| i16::from_le_bytes([word[0], word[1]]) as f32 / 32768.0 * (1.0 + f32::from(word[2]) / 977.0);
        noise.chunks_exact(4).flat_map(|word| float(word).to_le_bytes()).collect()
    }

    #[test]
    fn splits_floats_at_any_phase_and_joins_them_again() {
        for shift in 0..9 {
            let mut chunk = b"some text, some text, some text ".repeat(10)[..300 + shift].to_vec();
            chunk.extend(floats(2000));
            chunk.extend(b"more text".repeat(30));
            let streams = split(&chunk).expect("BUG: floats are found");
            assert!(streams.exponents.len() > 1500, "{}", streams.exponents.len());
            let lengths = stream_lengths(&streams.text, chunk.len()).expect("BUG: lengths fit");
            assert_eq!(lengths, StreamLengths { exponents: streams.exponents.len(), plain: streams.plain.len() });
            assert_eq!(join(&streams.text, &streams.exponents, &streams.plain, chunk.len()), chunk);
        }
    }

    #[test]
    fn noise_is_not_compressed() {
        let mut noise = vec![0; 9000];
        SeededEntropy::new(6).fill(&mut noise);
        let streams = split(&noise).expect("BUG: noise is found");
        assert!(streams.plain.len() > 8000, "{}", streams.plain.len());
        assert_eq!(join(&streams.text, &streams.exponents, &streams.plain, noise.len()), noise);
    }

    #[test]
    fn text_and_integers_are_left_alone() {
        let integers: Vec<u8> = (0..3000u32).flat_map(u32::to_le_bytes).collect();
        for chunk in [integers, b"The quick brown fox jumps over the lazy dog. ".repeat(300), vec![0; 9000]] {
            assert_eq!(split(&chunk), None);
        }
    }

    #[test]
    fn classes_that_do_not_fit_are_refused() {
        assert!(stream_lengths(&[6], 128).is_none());
        assert!(stream_lengths(&[1], 127).is_none());
        assert!(stream_lengths(&[0], 128).is_none());
        assert!(stream_lengths(&[], 128).is_none());
        assert_eq!(stream_lengths(&[5], 128), Some(StreamLengths { exponents: 0, plain: 128 }));
    }
}
