//! Chunks: as the writer makes them, split by hand, and hostile ones.

use continuum::base::id::to_hex;
use continuum::chunk::codec::{self, Compression};
use serde_json::{Value, json};

use super::{fails, flipped, noise, ok, with};

/// A chunk with text, floats at `phase` and a short last segment.
fn floats_and_text(phase: usize) -> Vec<u8> {
    let mut chunk = b"The quick brown fox jumps over the lazy dog. ".repeat(3)[..128 - 4 + phase].to_vec();
    for word in noise(7, 3 * 400).chunks_exact(3) {
        chunk.extend([word[0], word[1], word[2], 0x3d + (word[0] & 0x81)]);
    }
    chunk.extend(b"a short end");
    chunk
}

pub(super) fn encoded(codec: u8, length: usize, payload: &[u8]) -> Vec<u8> {
    [&[codec][..], &(length as u32).to_le_bytes(), payload].concat()
}

fn compressed(compression: Compression, content: &[u8]) -> Vec<u8> {
    let encoded = codec::encode(content, compression);
    assert!(encoded[0] & 0x80 == 0 && encoded[0] != 0, "compressible text is needed here");
    encoded[5..].to_vec()
}

/// zstd and gzip output, by the codec's number.
fn stored(codec: u8, content: &[u8]) -> Vec<u8> {
    let compression = if codec == 1 { Compression::Zstd(3) } else { Compression::Gzip(6) };
    if content.len() >= 64 && content.iter().all(|byte| *byte == content[0]) {
        return compressed(compression, content);
    }
    if codec == 1 { zstd_raw(content) } else { gzip_stored(content) }
}

/// A zstd frame of one raw block (RFC 8878): at most 255 bytes.
fn zstd_raw(content: &[u8]) -> Vec<u8> {
    let size = u8::try_from(content.len()).expect("short content");
    let block = (u32::from(size) << 3 | 1).to_le_bytes();
    [&[0x28, 0xb5, 0x2f, 0xfd, 0x20, size], &block[..3], content].concat()
}

/// A gzip member of one stored block (RFC 1952, RFC 1951).
fn gzip_stored(content: &[u8]) -> Vec<u8> {
    let size = content.len() as u16;
    let head = [0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 0xff, 1];
    let lengths = [size.to_le_bytes(), (!size).to_le_bytes()].concat();
    let tail = [crc32(content).to_le_bytes(), u32::from(size).to_le_bytes()].concat();
    [&head[..], &lengths, content, &tail].concat()
}

fn crc32(content: &[u8]) -> u32 {
    !content
        .iter()
        .fold(u32::MAX, |crc, &byte| (0..8).fold(crc ^ u32::from(byte), |crc, _| crc >> 1 ^ (0xedb8_8320 * (crc & 1))))
}

/// A split chunk by hand.
fn split(codec: u8, length: usize, [a, b]: [&[u8]; 2], plain: &[u8]) -> Vec<u8> {
    let lengths = [(a.len() as u32).to_le_bytes(), (b.len() as u32).to_le_bytes()].concat();
    encoded(codec | 0x80, length, &[&lengths, a, b, plain].concat())
}

pub(super) fn chunk() -> Vec<Value> {
    let good = |name: &str, encoded: Vec<u8>| ok(name, json!({ "encoded": to_hex(&encoded) }));
    let mut all: Vec<Value> = written_chunks().into_iter().map(|(name, encoded)| good(&name, encoded)).collect();
    all.extend(split_chunks().into_iter().map(|(name, encoded)| good(&name, encoded)));
    let hostile = hostile_chunks().into_iter().chain(hostile_payloads()).chain(hostile_splits());
    all.extend(hostile.map(|(name, failure, encoded)| fails(name, failure, json!({ "encoded": to_hex(&encoded) }))));
    all
}

fn written_chunks() -> Vec<(String, Vec<u8>)> {
    let text = b"A page of text, and another one. ".repeat(60);
    let zstd = compressed(Compression::Zstd(3), &text);
    let mut all = vec![
        ("one plain byte".into(), encoded(0, 1, b"x")),
        ("plain".into(), codec::encode(&noise(1, 200), Compression::Zstd(3))),
        ("zstd".into(), encoded(1, text.len(), &zstd)),
        ("zstd, a raw block".into(), encoded(1, 6, &zstd_raw(b"stored"))),
        ("lz4".into(), codec::encode(&text, Compression::Lz4)),
        ("lz4, literals only".into(), encoded(2, 3, &[0x30, b'a', b'b', b'c'])),
        ("gzip".into(), codec::encode(&text, Compression::Gzip(9))),
        ("gzip, a stored block".into(), encoded(3, 6, &gzip_stored(b"stored"))),
        ("4 MiB of zeros, the limit".into(), codec::encode(&vec![0; 4 << 20], Compression::Zstd(3))),
    ];
    for phase in 0..4 {
        let encoded = codec::encode(&floats_and_text(phase), Compression::Zstd(3));
        assert_eq!(encoded[0], 0x81);
        all.push((format!("zstd split, phase {phase} of the text before it"), encoded));
    }
    all.push(("gzip split".into(), codec::encode(&floats_and_text(2), Compression::Gzip(6))));
    all
}

fn split_chunks() -> Vec<(String, Vec<u8>)> {
    let mut all = Vec::new();
    for codec in [1, 3] {
        for class in 1..=4 {
            let b = stored(codec, &noise(u64::from(class), 32));
            let a = stored(codec, &[class]);
            all.push((
                format!("split by hand, codec {codec}, class {class}"),
                split(codec, 128, [&a, &b], &noise(9, 96)),
            ));
        }
        let a = stored(codec, &[5]);
        all.push((
            format!("split by hand, codec {codec}, class 5 and no B"),
            split(codec, 128, [&a, b""], &noise(3, 128)),
        ));
        let mixed = [&[0, 5, 2, 4, 0][..], &noise(4, 128), b"end"].concat();
        let (a, b) = (stored(codec, &mixed), stored(codec, &noise(5, 64)));
        all.push((
            format!("split by hand, codec {codec}, classes 0, 5, 2, 4 and a short end"),
            split(codec, 4 * 128 + 3, [&a, &b], &noise(6, 128 + 96 + 96)),
        ));
    }
    all
}

fn hostile_chunks() -> Vec<(&'static str, &'static str, Vec<u8>)> {
    vec![
        ("no bytes", "malformed", vec![]),
        ("shorter than its header", "malformed", vec![0, 1, 0, 0]),
        ("codec 4", "unknown-encoding", encoded(4, 1, b"x")),
        ("codec 15", "unknown-encoding", encoded(15, 1, b"x")),
        ("bit 4", "unknown-encoding", encoded(0x10, 1, b"x")),
        ("bit 6", "unknown-encoding", encoded(0x41, 1, b"x")),
        ("split without a codec", "unknown-encoding", encoded(0x80, 1, b"x")),
        ("split with lz4", "unknown-encoding", encoded(0x82, 1, b"x")),
        ("a decoded length of 0", "too-large", encoded(0, 0, b"")),
        ("a decoded length beyond the limit", "too-large", encoded(1, (4 << 20) + 1, &zstd_raw(b"x"))),
        ("the largest decoded length", "too-large", encoded(0, u32::MAX as usize, b"x")),
    ]
}

fn hostile_payloads() -> Vec<(&'static str, &'static str, Vec<u8>)> {
    let text = b"A page of text, and another one. ".repeat(60);
    let [zstd, lz4, gzip] =
        [Compression::Zstd(3), Compression::Lz4, Compression::Gzip(6)].map(|c| compressed(c, &text));
    let length = text.len();
    let cases = [
        ("plain, one byte missing", encoded(0, 3, b"ab")),
        ("plain, one byte more", encoded(0, 3, b"abcd")),
        ("zstd, decodes to one byte less than declared", encoded(1, length + 1, &zstd)),
        ("zstd, decodes to one byte more than declared", encoded(1, length - 1, &zstd)),
        ("zstd, truncated", encoded(1, length, &zstd[..zstd.len() - 1])),
        ("zstd, bytes after the frame", encoded(1, length, &[&zstd[..], b"\0"].concat())),
        ("zstd, a second frame", encoded(1, 6, &[zstd_raw(b"one"), zstd_raw(b"two")].concat())),
        ("zstd, an empty second frame", encoded(1, 3, &[zstd_raw(b"one"), zstd_raw(b"")].concat())),
        ("zstd, a skippable frame after the frame", encoded(1, 3, &[&zstd_raw(b"one"), &SKIPPABLE[..]].concat())),
        ("zstd, a skippable frame before the frame", encoded(1, 3, &[&SKIPPABLE[..], &zstd_raw(b"one")].concat())),
        ("zstd, no frame", encoded(1, 3, b"text")),
        ("zstd, no payload", encoded(1, 3, b"")),
        ("lz4, decodes to one byte less than declared", encoded(2, length + 1, &lz4)),
        ("lz4, decodes to one byte more than declared", encoded(2, length - 1, &lz4)),
        ("lz4, truncated", encoded(2, length, &lz4[..lz4.len() - 1])),
        ("lz4, bytes after the block", encoded(2, length, &[&lz4[..], b"\0"].concat())),
        ("lz4, a match before the beginning", encoded(2, 12, &[0x10, b'a', 9, 0, 0x50, b'b', b'c', b'd', b'e', b'f'])),
        ("lz4, no payload", encoded(2, 3, b"")),
        ("gzip, decodes to one byte less than declared", encoded(3, length + 1, &gzip)),
        ("gzip, decodes to one byte more than declared", encoded(3, length - 1, &gzip)),
        ("gzip, truncated", encoded(3, length, &gzip[..gzip.len() - 1])),
        ("gzip, bytes after the member", encoded(3, length, &[&gzip[..], b"\0"].concat())),
        ("gzip, a second member", encoded(3, 6, &[gzip_stored(b"one"), gzip_stored(b"two")].concat())),
        ("gzip, a wrong checksum", encoded(3, length, &flipped(&gzip, gzip.len() - 6))),
        ("gzip, no member", encoded(3, 3, b"text")),
        ("gzip, no payload", encoded(3, 3, b"")),
    ];
    cases.into_iter().map(|(name, encoded)| (name, "malformed", encoded)).collect()
}

/// A skippable frame of zstd without content.
const SKIPPABLE: [u8; 8] = [0x50, 0x2a, 0x4d, 0x18, 0, 0, 0, 0];

fn hostile_splits() -> Vec<(&'static str, &'static str, Vec<u8>)> {
    let (a, b, plain) = (zstd_raw(&[1]), zstd_raw(&noise(2, 32)), noise(3, 96));
    let good = split(1, 128, [&a, &b], &plain);
    let cases = [
        ("split, no lengths of its streams", encoded(0x81, 128, &[0; 7])),
        ("split, A beyond the payload", with(&good, 5, 255)),
        ("split, B beyond the payload", with(&good, 9, 255)),
        ("split, lengths that overflow together", [&good[..5], &[255; 8], &good[13..]].concat()),
        ("split, class 6", split(1, 128, [&zstd_raw(&[6]), b""], &noise(3, 128))),
        ("split, class 255", split(1, 128, [&zstd_raw(&[255]), b""], &noise(3, 128))),
        ("split, floats in a short last segment", split(1, 127, [&a, &b], &plain[..95])),
        ("split, class 5 of a short last segment", split(1, 100, [&zstd_raw(&[5]), b""], &noise(3, 100))),
        ("split, too few classes", split(1, 129, [&zstd_raw(&[5]), b""], &noise(3, 128))),
        ("split, a class too many", split(1, 128, [&zstd_raw(&[1, 0]), &b], &plain)),
        ("split, text too long", split(1, 128, [&zstd_raw(&[1, b'x']), &b], &plain)),
        ("split, text too short", split(1, 131, [&zstd_raw(&[1, 0, b'x', b'y']), &b], &plain)),
        ("split, B too short", split(1, 128, [&a, &zstd_raw(&noise(2, 31))], &plain)),
        ("split, B too long", split(1, 128, [&a, &zstd_raw(&noise(2, 33))], &plain)),
        ("split, B absent", split(1, 128, [&a, b""], &plain)),
        ("split, B without floats", split(1, 128, [&zstd_raw(&[5]), &b], &noise(3, 128))),
        ("split, an empty frame as B without floats", split(1, 128, [&zstd_raw(&[5]), &zstd_raw(b"")], &noise(3, 128))),
        ("split, C too short", split(1, 128, [&a, &b], &plain[..95])),
        ("split, C too long", split(1, 128, [&a, &b], &noise(3, 97))),
        ("split, A is no frame", split(1, 128, [b"text", &b], &plain)),
        ("split, bytes after the frame of A", split(1, 128, [&[&a[..], b"\0"].concat(), &b], &plain)),
    ];
    cases.into_iter().map(|(name, encoded)| (name, "malformed", encoded)).collect()
}
