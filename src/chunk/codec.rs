//! How a chunk's bytes are encoded: a codec, and optionally the float split (`format-spec/chunk.md`).
//!
//! Encoding never makes a chunk longer than plain. Decoding allocates only the declared length, which is bounded,
//! and refuses anything that does not decode to exactly that.

use std::cell::RefCell;
use std::io::{Read, Write};

use super::MAX_CHUNK_BYTES;
use super::split;

/// Bytes before the payload: encoding and decoded length.
pub const HEADER_BYTES: usize = 5;

const SPLIT: u8 = 0x80;
const PLAIN: u8 = 0;
const ZSTD: u8 = 1;
const LZ4: u8 = 2;
const GZIP: u8 = 3;

/// How a writer compresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Compression {
    /// Not at all.
    None,
    /// LZ4: fast, and reads fastest.
    Lz4,
    /// gzip at this level, 1 to 9.
    Gzip(u32),
    /// Zstandard at this level, 1 to 22.
    Zstd(i32),
}

impl Default for Compression {
    /// Level 1: on pages, level 3 saves another 3 % and takes a third longer.
    fn default() -> Self {
        Self::Zstd(1)
    }
}

/// Why bytes are no encoded chunk.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// A codec or a flag of the future, or damage.
    #[error("unknown chunk encoding {0:#04x}")]
    UnknownEncoding(u8),
    /// A decoded length of zero or beyond [`MAX_CHUNK_BYTES`].
    #[error("chunk of {0} decoded bytes: expected 1 to {MAX_CHUNK_BYTES}")]
    TooLarge(u32),
    /// The payload does not decode to the declared length.
    #[error("malformed chunk: the payload does not decode to the declared length")]
    Malformed,
}

/// Encodes a chunk of 1 to [`MAX_CHUNK_BYTES`] bytes.
pub fn encode(bytes: &[u8], compression: Compression) -> Vec<u8> {
    debug_assert!((1..=MAX_CHUNK_BYTES).contains(&bytes.len()));
    let encoded = match compression {
        Compression::None => None,
        Compression::Lz4 => Some(with_header(LZ4, bytes.len(), &compress(bytes, compression))),
        Compression::Zstd(_) => Some(encode_split(bytes, compression, ZSTD)),
        Compression::Gzip(_) => Some(encode_split(bytes, compression, GZIP)),
    };
    match encoded {
        Some(encoded) if encoded.len() < HEADER_BYTES + bytes.len() => encoded,
        _ => with_header(PLAIN, bytes.len(), bytes),
    }
}

fn encode_split(bytes: &[u8], compression: Compression, codec: u8) -> Vec<u8> {
    let Some(streams) = split::split(bytes) else {
        return with_header(codec, bytes.len(), &compress(bytes, compression));
    };
    let text = compress(&streams.text, compression);
    let exponents = if streams.exponents.is_empty() {
        Vec::new()
    } else {
        compress(&streams.exponents, exponent_compression(compression))
    };
    let mut encoded = Vec::with_capacity(HEADER_BYTES + 8 + text.len() + exponents.len() + streams.plain.len());
    write_header(&mut encoded, codec | SPLIT, bytes.len());
    encoded.extend((text.len() as u32).to_le_bytes());
    encoded.extend((exponents.len() as u32).to_le_bytes());
    encoded.extend(text);
    encoded.extend(exponents);
    encoded.extend(streams.plain);
    encoded
}

/// Exponents have no matches worth finding, only skewed frequencies: the fastest level gives the same ratio.
fn exponent_compression(compression: Compression) -> Compression {
    match compression {
        Compression::Zstd(_) => Compression::Zstd(1),
        other => other,
    }
}

fn with_header(encoding: u8, length: usize, payload: &[u8]) -> Vec<u8> {
    let mut encoded = Vec::with_capacity(HEADER_BYTES + payload.len());
    write_header(&mut encoded, encoding, length);
    encoded.extend(payload);
    encoded
}

fn write_header(encoded: &mut Vec<u8>, encoding: u8, length: usize) {
    encoded.push(encoding);
    encoded.extend((length as u32).to_le_bytes());
}

fn compress(bytes: &[u8], compression: Compression) -> Vec<u8> {
    match compression {
        Compression::None => bytes.to_vec(),
        Compression::Lz4 => lz4_flex::block::compress(bytes),
        Compression::Gzip(level) => {
            let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::new(level));
            encoder.write_all(bytes).and_then(|()| encoder.finish()).expect("BUG: writing to memory cannot fail")
        }
        Compression::Zstd(level) => zstd_compress(bytes, level),
    }
}

/// Contexts are kept for the thread: making one costs more than compressing a small chunk.
fn zstd_compress(bytes: &[u8], level: i32) -> Vec<u8> {
    thread_local! {
        static CONTEXT: RefCell<Option<zstd::bulk::Compressor<'static>>> = const { RefCell::new(None) };
    }
    CONTEXT.with_borrow_mut(|context| {
        let compressor = context.get_or_insert_with(zstd::bulk::Compressor::default);
        compressor
            .set_compression_level(level)
            .and_then(|()| compressor.compress(bytes))
            .expect("BUG: compressing into a buffer of the bound's size cannot fail")
    })
}

/// Decodes an encoded chunk.
pub fn decode(encoded: &[u8]) -> Result<Vec<u8>, DecodeError> {
    let (header, payload) = encoded.split_at_checked(HEADER_BYTES).ok_or(DecodeError::Malformed)?;
    let length = u32::from_le_bytes([header[1], header[2], header[3], header[4]]);
    let decoded_bytes = length as usize;
    if !(1..=MAX_CHUNK_BYTES).contains(&decoded_bytes) {
        return Err(DecodeError::TooLarge(length));
    }
    match header[0] {
        encoding @ (PLAIN | ZSTD | LZ4 | GZIP) => decompress(payload, encoding, decoded_bytes),
        encoding if encoding == ZSTD | SPLIT || encoding == GZIP | SPLIT => {
            decode_split(payload, encoding & !SPLIT, decoded_bytes)
        }
        unknown => Err(DecodeError::UnknownEncoding(unknown)),
    }
}

fn decode_split(payload: &[u8], codec: u8, length: usize) -> Result<Vec<u8>, DecodeError> {
    let (text_bytes, payload) = take_u32(payload)?;
    let (exponent_bytes, payload) = take_u32(payload)?;
    let (text, payload) = payload.split_at_checked(text_bytes).ok_or(DecodeError::Malformed)?;
    let (exponents, plain) = payload.split_at_checked(exponent_bytes).ok_or(DecodeError::Malformed)?;
    let text = decompress_at_most(text, codec, split::class_count(length) + length)?;
    let lengths = split::stream_lengths(&text, length).ok_or(DecodeError::Malformed)?;
    if lengths.plain != plain.len() || (lengths.exponents == 0) != exponents.is_empty() {
        return Err(DecodeError::Malformed);
    }
    let exponents = match lengths.exponents {
        0 => Vec::new(),
        expected => decompress(exponents, codec, expected)?,
    };
    Ok(split::join(&text, &exponents, plain, length))
}

fn take_u32(bytes: &[u8]) -> Result<(usize, &[u8]), DecodeError> {
    let (number, rest) = bytes.split_first_chunk().ok_or(DecodeError::Malformed)?;
    Ok((u32::from_le_bytes(*number) as usize, rest))
}

fn decompress(payload: &[u8], codec: u8, length: usize) -> Result<Vec<u8>, DecodeError> {
    let decoded = decompress_at_most(payload, codec, length)?;
    if decoded.len() == length { Ok(decoded) } else { Err(DecodeError::Malformed) }
}

fn decompress_at_most(payload: &[u8], codec: u8, limit: usize) -> Result<Vec<u8>, DecodeError> {
    match codec {
        PLAIN => Ok(payload.to_vec()),
        ZSTD => zstd_decompress(payload, limit),
        LZ4 => lz4_flex::block::decompress(payload, limit).map_err(|_| DecodeError::Malformed),
        _ => gzip_decompress(payload, limit),
    }
}

fn zstd_decompress(payload: &[u8], limit: usize) -> Result<Vec<u8>, DecodeError> {
    thread_local! {
        static CONTEXT: RefCell<zstd::bulk::Decompressor<'static>> = RefCell::new(zstd::bulk::Decompressor::default());
    }
    if !is_one_zstd_frame(payload) {
        return Err(DecodeError::Malformed);
    }
    CONTEXT.with_borrow_mut(|context| context.decompress(payload, limit)).map_err(|_| DecodeError::Malformed)
}

/// Neither several frames nor a skippable one (RFC 8878 §3.1.2): a chunk has one encoding.
fn is_one_zstd_frame(payload: &[u8]) -> bool {
    let frame = zstd::zstd_safe::find_frame_compressed_size(payload);
    payload.starts_with(&zstd::zstd_safe::MAGICNUMBER.to_le_bytes()) && frame == Ok(payload.len())
}

fn gzip_decompress(payload: &[u8], limit: usize) -> Result<Vec<u8>, DecodeError> {
    let mut decoder = flate2::bufread::GzDecoder::new(payload);
    let mut decoded = Vec::with_capacity(limit.min(MAX_CHUNK_BYTES));
    let bytes =
        decoder.by_ref().take(limit as u64 + 1).read_to_end(&mut decoded).map_err(|_| DecodeError::Malformed)?;
    let nothing_left = decoder.into_inner().is_empty();
    if bytes <= limit && nothing_left { Ok(decoded) } else { Err(DecodeError::Malformed) }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::base::entropy::{Entropy, SeededEntropy};

    const ALL: [Compression; 5] =
        [Compression::None, Compression::Lz4, Compression::Gzip(1), Compression::Zstd(3), Compression::Zstd(-5)];

    fn samples() -> Vec<Vec<u8>> {
        let mut noise = vec![0; 70_000];
        SeededEntropy::new(1).fill(&mut noise);
        let floats = noise
            .chunks_exact(4)
            .flat_map(|w| (f32::from(w[0]) / 256.0 + f32::from(w[1]) / 65_537.0 + 0.01).to_le_bytes());
        vec![vec![0], b"text ".repeat(999), noise.clone(), floats.collect(), vec![0; MAX_CHUNK_BYTES]]
    }

    #[test]
    fn every_codec_round_trips_and_never_grows() {
        for compression in ALL {
            for sample in samples() {
                let encoded = encode(&sample, compression);
                assert!(encoded.len() <= HEADER_BYTES + sample.len());
                assert_eq!(decode(&encoded).as_ref(), Ok(&sample), "{compression:?}");
            }
        }
    }

    #[test]
    fn floats_are_split_and_noise_is_plain() {
        let samples = samples();
        assert_eq!(encode(&samples[3], Compression::Zstd(3))[0], ZSTD | SPLIT);
        for compression in ALL {
            assert_eq!(encode(&samples[2], compression)[0], PLAIN, "{compression:?}");
        }
    }

    #[test]
    fn lengths_are_checked_before_anything_is_allocated() {
        let bomb = |length: u32| {
            let mut encoded = encode(&vec![0; MAX_CHUNK_BYTES], Compression::Zstd(3));
            encoded[1..5].copy_from_slice(&length.to_le_bytes());
            decode(&encoded)
        };
        assert_eq!(bomb(0), Err(DecodeError::TooLarge(0)));
        assert_eq!(bomb(u32::MAX), Err(DecodeError::TooLarge(u32::MAX)));
        assert_eq!(bomb(MAX_CHUNK_BYTES as u32 - 1), Err(DecodeError::Malformed));
        assert_eq!(decode(&[4, 1, 0, 0, 0, 0]), Err(DecodeError::UnknownEncoding(4)));
        assert_eq!(decode(&[1]), Err(DecodeError::Malformed));
    }

    proptest! {
        #[test]
        fn decoding_anything_never_panics(mut encoded in proptest::collection::vec(any::<u8>(), 0..400), codec in 0u8..4, split: bool) {
            if let Some(first) = encoded.first_mut() {
                *first = codec | if split { SPLIT } else { 0 };
            }
            for high in [3, 4] {
                if let Some(byte) = encoded.get_mut(high) {
                    *byte = 0;
                }
            }
            let _ = decode(&encoded);
        }
    }
}
